"""Eight virtual CPU devices, one compilation cache for all runs of the suite, and no layout set."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from collections.abc import Iterator

# Before the first import of JAX, and inherited by the processes that tests start.
FLAGS = ["--xla_force_host_platform_device_count=8"]
if importlib.metadata.version("jaxlib").startswith("0.10."):
  # Its older way to emit fusions compiles a fifth faster; later releases do not know the flag.
  FLAGS.append("--xla_cpu_use_fusion_emitters=false")
for flag in FLAGS:
  if flag.split("=")[0] not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile more than they compute: XLA's light mode halves their time. `=0` for the real one.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "agg")

import pytest  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
  """Compiled programs outlive the run: the second one is several times faster; and no drawn example
  fails for being slow on a busy machine."""
  with contextlib.suppress(ImportError):  # a GPU's machine need not have it
    import hypothesis

    slow = hypothesis.HealthCheck.too_slow
    hypothesis.settings.register_profile("mtm", deadline=None, suppress_health_check=[slow])
    hypothesis.settings.load_profile("mtm")
  if not hasattr(config, "cache"):  # `-p no:cacheprovider`
    return
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("xla")))
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
  """Where there are fewer devices, as on a machine with one GPU, a test of more is skipped."""
  import jax

  from mtm.errors import UserError

  try:
    return (yield)
  except UserError as error:
    if jax.device_count() < 8 and f"does not fit {jax.device_count()} " in str(error):
      pytest.skip(str(error))
    raise


@pytest.fixture(autouse=True)
def one_device() -> Iterator[None]:
  """Without a mesh of its own a test runs on one device, although there are eight."""
  from mtm import axes

  with axes.use(None):
    yield
