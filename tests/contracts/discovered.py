"""Finds every variant of a seam by its module's EXAMPLES, and makes tiny batches for models."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from mtm.discovery import modules


def examples(package: str, quick: int | None = None) -> list[Any]:
  """A pytest parameter for each example of each variant module; an empty list is an error.

  Args:
    package: of the variants.
    quick: so many of a module are quick, the others slow; None: all are quick.
  """
  found = [
    pytest.param(
      example,
      id=f"{module.__name__.rsplit('.', 1)[1]}-{index}",
      marks=[] if quick is None or index < quick else [pytest.mark.slow],
    )
    for module in modules(package)
    for index, example in enumerate(module.EXAMPLES)
  ]
  assert found, f"{package} has no examples"
  return found


def features(side: str, rows: int, length: int, vocab: int, seed: int = 0) -> dict[str, np.ndarray]:
  """All features of one side, random ids, no padding, one document a row."""
  rng = np.random.default_rng(seed)
  ids = rng.integers(2, vocab, (rows, length)).astype(np.int32)
  return {
    f"{side}_input_tokens": ids,
    f"{side}_target_tokens": rng.integers(2, vocab, (rows, length)).astype(np.int32),
    f"{side}_loss_weights": np.ones((rows, length), np.int32),
    f"{side}_positions": np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
    f"{side}_segment_ids": np.ones((rows, length), np.int32),
    f"{side}_domain": np.repeat(np.arange(rows, dtype=np.int32)[:, None] % 2, length, axis=1),
  }


def batch_for(model: Any, rows: int = 2, length: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
  """A batch with all features of the sides that `model` reads."""
  out: dict[str, np.ndarray] = {}
  for name in model.inputs:
    side = name.split("_")[0]
    length_ = length + 2 if len(model.inputs) > 1 and side == "encoder" else length
    out |= features(side, rows, length_, model.vocab_size, seed)
  return out


def only_inputs(model: Any, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """`batch` without anything that the model can do without."""
  return {name: batch[name] for name in model.inputs}


def parameters(init: Any, *args: Any) -> Any:
  """Random parameters with the shapes that `init(key, *args)` gives, made by numpy.

  Noise on each, so that the zeros and ones of fresh ones hide nothing; and nothing is compiled.
  """
  shapes = nn.meta.unbox(jax.eval_shape(init, jax.random.key(0), *args))
  rng = np.random.default_rng(3)

  def make(path: Any, shape: jax.ShapeDtypeStruct) -> np.ndarray:
    centre = 1.0 if path[-1].key == "scale" else 0.0
    return (centre + 0.3 * rng.normal(size=shape.shape)).astype(np.float32)

  return jax.tree_util.tree_map_with_path(make, shapes)
