"""What a binary does before it works: the compilation cache, and early checks."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from mtm.data.store import cache_directory
from mtm.errors import UserError
from mtm.types import Model, Objective


def start(hardware_rng: bool = False) -> None:
  """Turns the persistent compilation cache on, and third parties' chatter off.

  Args:
    hardware_rng: draws dropout masks with the accelerator's own generator: faster, but the masks
      then depend on the mesh.
  """
  directory = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(cache_directory() / "xla")
  jax.config.update("jax_compilation_cache_dir", directory)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
  if hardware_rng:
    jax.config.update("jax_default_prng_impl", "unsafe_rbg")
  for name in ("orbax", "jax", "tensorflow"):
    logging.getLogger(name).setLevel(logging.ERROR)
  # A checkpoint that cannot be written is told once, not by each of its hundred tasks.
  for name in ("absl", "asyncio"):
    logging.getLogger(name).setLevel(logging.CRITICAL)
  sys.unraisablehook = _without_echoes(sys.unraisablehook)


def _without_echoes(show: Callable[[Any], object]) -> Callable[[Any], None]:
  """Leaves out what TensorStore's threads tell an event loop that ended with their first error."""

  def hook(unraisable: Any) -> None:
    if str(unraisable.exc_value) != "Event loop is closed":
      show(unraisable)

  return hook


def gathered(mine: dict[str, Any]) -> list[dict[str, Any]]:
  """What each process says, in their order, from what this one says (JSON-able); all call it."""
  if jax.process_count() == 1:
    return [mine]
  told = np.frombuffer(json.dumps(mine).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.int32(told.size))
  every = multihost_utils.process_allgather(np.pad(told, (0, int(sizes.max()) - told.size)))
  return [json.loads(bytes(one[:size])) for one, size in zip(every, sizes, strict=True)]


def check(model: Model, objective: Objective, data: Any) -> None:
  """Refuses data that the model cannot read, before anything is compiled.

  Args:
    model: has `vocab_size`, `max_length` and `inputs`.
    objective: says which features a batch has.
    data: a `mtm.data.pipeline.Dataset`.

  Raises:
    UserError: the vocabulary is larger than the model's, a sequence is longer than the model, or
      the objective does not make what the model reads.
  """
  shapes = data.shapes(objective)
  missing = [name for name in model.inputs if name not in shapes]
  labels = [name for name in missing if name.endswith("_domain")]
  if labels:
    raise UserError(
      f"the model reads {labels[0]}, the domain of each token: set DOMAINS to the names of the"
      " tasks that are its domains, in the order of their experts"
    )
  if missing:
    raise UserError(
      f"the model reads {', '.join(model.inputs)}, and {type(objective).__name__} makes"
      f" {', '.join(sorted(shapes))}: take an objective (objectives/*.gin) that makes {missing[0]}"
    )
  for name, (shape, _) in shapes.items():
    if model.max_length is not None and shape[1] > model.max_length:
      raise UserError(
        f"{name} is {shape[1]} long and the model ends at {model.max_length}: lower it in"
        " TASK_FEATURE_LENGTHS, or raise the model's max_length"
      )
  vocabulary = data.vocabulary()
  if vocabulary.vocab_size > model.vocab_size:
    raise UserError(
      f"the vocabulary of {data.mixture_or_task_name} has {vocabulary.vocab_size} ids and the model"
      f" {model.vocab_size}: set the model's vocab to at least {vocabulary.vocab_size}"
    )
