"""What XLA is told before JAX starts, where it compiles for NVIDIA GPUs."""

from __future__ import annotations

import importlib.util
import os

PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")
# Collectives run while products do: https://docs.nvidia.com/jax-toolbox/environment-variables.
FLAGS = {"--xla_gpu_enable_latency_hiding_scheduler": "true"}


def tune() -> None:
  """Adds `FLAGS` to `XLA_FLAGS` where JAX for CUDA is installed; what the user has set stays."""
  if not any(importlib.util.find_spec(name) for name in PLUGINS):
    return
  said = os.environ.get("XLA_FLAGS", "")
  added = [f"{flag}={value}" for flag, value in FLAGS.items() if flag not in said]
  os.environ["XLA_FLAGS"] = " ".join([*([said] if said else []), *added])
