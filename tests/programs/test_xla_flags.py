"""XLA's flags for GPUs: added where there is a plugin, never over the user's."""

import importlib.util
import os
import subprocess
import sys

import pytest

from mtm.programs import xla_flags

FLAG = "--xla_gpu_enable_latency_hiding_scheduler"


@pytest.fixture
def cuda(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if "cuda12" in name else None)
  monkeypatch.delenv("XLA_FLAGS", raising=False)


def test_without_cuda_nothing_is_set(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  monkeypatch.setenv("XLA_FLAGS", "--mine=1")
  xla_flags.tune()
  assert os.environ["XLA_FLAGS"] == "--mine=1"


def test_with_cuda_collectives_overlap(cuda):
  xla_flags.tune()
  assert os.environ["XLA_FLAGS"] == f"{FLAG}=true"


def test_what_the_user_set_stays(cuda, monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", f"--mine=1 {FLAG}=false")
  xla_flags.tune()
  assert os.environ["XLA_FLAGS"] == f"--mine=1 {FLAG}=false"


def test_this_xla_knows_the_flags():
  """XLA ends a program whose flags it does not know."""
  flags = " ".join(f"{name}={value}" for name, value in xla_flags.FLAGS.items())
  code = "import jax; jax.devices()"
  environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
  subprocess.run([sys.executable, "-c", code], env=environment, check=True)
