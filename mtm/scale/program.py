"""Programs compiled for chips that are not here, or the compiler's word on why they do not fit."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from mtm import axes
from mtm.decoding.greedy import Greedy
from mtm.decoding.loop import generate
from mtm.sharding.plan import Plan
from mtm.training import flops
from mtm.training.trainer import Trainer
from mtm.types import Batch, Model, Params

_MEMORY = re.compile(r"ran out of memory|RESOURCE_EXHAUSTED|Ran out of memory", re.IGNORECASE)
# `Used 35.2G of 15.75G hbm`, or `(77.75G) exceeds available HBM (15.75G)`.
_USED = re.compile(
  r"(?:Used |\()([\d.]+)([KMGT]?)\)?(?: of | exceeds available HBM \()([\d.]+)([KMGT]?)",
  re.IGNORECASE,
)
# JAX 0.12 has levels for efforts: 19 is XLA's O1.
_EFFORTS = hasattr(jax.config, "jax_exec_time_optimization_effort")
_QUICK = {"exec_time_optimization_effort": -1.0} if _EFFORTS else {"optimization_level": 19}
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Compiled:
  """What became of a program.

  Attributes:
    executable: what XLA made; None where it does not fit.
    message: the compiler's own words where it does not fit.
    trace_seconds, compile_seconds: how long JAX and XLA took.
    kernel_flops: FLOPs, of all devices, within kernels that the program calls by name alone.
    quick: whether XLA was told not to spend time on speed: what such a program holds and sends is
      what the other does, but its communication waits.
  """

  executable: Any
  message: str
  trace_seconds: float
  compile_seconds: float
  kernel_flops: int = 0
  quick: bool = False

  @functools.cached_property
  def text(self) -> str:
    """The program, as XLA optimised it."""
    return self.executable.as_text()

  @property
  def wanted(self) -> tuple[float, float] | None:
    """Bytes that were wanted, and that there are, as the message tells; None where it does not."""
    told = _USED.search(self.message)
    if told is None:
      return None
    return tuple(float(told[i]) * _UNITS[told[i + 1].upper()] for i in (1, 3))  # type: ignore[return-value]


def training(trainer: Trainer, quick: bool = False) -> Compiled:
  """The step of a run, compiled; for `quick` see `Compiled`.

  Raises:
    UserError: the mesh does not divide an array, or the batch its microbatches.
  """
  return compiled(trainer.train_step, trainer.abstract, abstract_batch(trainer), quick=quick)


def abstract_batch(trainer: Trainer) -> Batch:
  """A batch's shapes, with their shardings."""
  where = trainer.plan.of_batch({n: np.broadcast_to(np.int32(0), s.shape)
                                 for n, s in trainer.batch.items()})  # fmt: skip
  return {
    name: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where[name])
    for name, s in trainer.batch.items()
  }


def decoding(
  model: Model, plan: Plan, params: Params, rows: int, prompt: int, new: int, quick: bool = False
) -> Compiled:
  """Greedy generation, compiled: prompts in one pass, then a loop over tokens.

  Args:
    model, plan: what generates, and where.
    params: its parameters' shapes with their shardings.
    rows: examples at once.
    prompt: tokens of each prompt, of the encoder's input where the model has one.
    new: the most tokens to generate.
    quick: see `Compiled`.
  """
  shapes = {name: (rows, prompt if name.startswith("encoder") else 1) for name in model.inputs}
  if len(model.inputs) == 1:
    shapes = {name: (rows, prompt) for name in model.inputs}
  where = plan.of_batch({n: np.broadcast_to(np.int32(0), shape) for n, shape in shapes.items()})
  batch = {
    name: jax.ShapeDtypeStruct(shape, np.int32, sharding=where[name])
    for name, shape in shapes.items()
  }

  def run(params: Params, batch: Batch) -> Any:
    return generate(model, params, batch, policy=Greedy(), max_length=new)

  return compiled(plan.jit(run), params, batch, quick=quick)


@contextlib.contextmanager
def _not_kept() -> Iterator[None]:
  """Leaves programs out of JAX's cache: where their chips are not, it cannot read them back."""
  name = "jax_persistent_cache_min_compile_time_secs"
  before = getattr(jax.config, name)
  jax.config.update(name, float("inf"))
  try:
    yield
  finally:
    jax.config.update(name, before)


def compiled(jitted: Any, *args: Any, quick: bool = False) -> Compiled:
  """Traces and compiles; running out of memory is an answer, other errors are errors."""
  began = time.perf_counter()
  with axes.use(None):
    traced = jitted.trace(*args)
  kernels = flops.kernels(traced.jaxpr)
  lowered = traced.lower()
  middle = time.perf_counter()
  try:
    with _not_kept():
      executable, message = lowered.compile(_QUICK if quick else None), ""
  except jax.errors.JaxRuntimeError as error:
    if not _MEMORY.search(str(error)):
      raise
    executable, message = None, str(error)
  return Compiled(executable, message, middle - began, time.perf_counter() - middle, kernels, quick)
