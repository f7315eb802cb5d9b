"""From a Linen module to `mtm.types.Model`: pure functions over plain nested dicts."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtm.errors import UserError
from mtm.types import Axes, Batch, Cache, Output, Params


@dataclasses.dataclass(frozen=True)
class Model:
  """A model as everything above `families` sees it.

  Attributes:
    module: an Encoder, Decoder or EncoderDecoder.
    inputs: the batch features that it cannot do without.
    vocab_size: number of token ids.
    max_length: the longest sequence, or None where positions are unbounded.
    dtype: compute dtype; parameters are float32 masters, cast at every call.
  """

  module: nn.Module
  inputs: tuple[str, ...]
  vocab_size: int
  max_length: int | None = None
  dtype: Any = "float32"

  def init(self, rng: jax.Array, batch: Batch) -> Params:
    """Fresh float32 parameters; of `batch` only the shapes matter."""
    self._check(batch, self.inputs)
    return nn.meta.unbox(self.module.init(rng, batch)["params"])

  def axes(self, batch: Batch) -> Axes:
    """A tree like the parameters whose leaves are tuples of logical axis names."""
    boxed = jax.eval_shape(self.module.init, jax.random.key(0), batch)["params"]
    is_box = lambda x: isinstance(x, nn.meta.AxisMetadata)  # noqa: E731
    return jax.tree.map(lambda box: tuple(box.names), boxed, is_leaf=is_box)

  def apply(
    self,
    params: Params,
    batch: Batch,
    rng: jax.Array | None = None,
    train: bool = False,
    cache: Cache = None,
  ) -> Output:
    """Runs the model.

    Args:
      params: from `init`.
      batch: feature name → `[batch, length]`.
      rng: the dropout key; needed when `train` is set and the model drops anything.
      train: whether dropout is on.
      cache: from `empty_cache` or an earlier call; then `decoder_positions` says where the tokens
        stand, and the output's cache goes into the next call.

    Raises:
      UserError: a feature that the model needs is not in the batch, or a sequence is longer than
        the model.
    """
    needed = self.inputs if cache is None else ("decoder_input_tokens", "decoder_positions")
    self._check(batch, needed)
    cast = jax.tree.map(lambda p: p.astype(self.dtype), params)
    rngs = None if rng is None else {"dropout": rng}
    return self.module.apply({"params": cast}, batch, train, cache, rngs=rngs)

  def empty_cache(self, batch_size: int, length: int, source_length: int = 0) -> Cache:
    """A cache for `length` decoder positions; every leaf is `[layers, batch, ...]`."""
    if not hasattr(self.module, "empty_cache"):
      raise UserError(f"a {type(self.module).__name__} cannot decode: it has no cache")
    return self.module.empty_cache(batch_size, length, source_length, jnp.dtype(self.dtype))

  def _check(self, batch: Batch, needed: tuple[str, ...]) -> None:
    missing = [name for name in needed if name not in batch]
    if missing:
      raise UserError(
        f"the model ({type(self.module).__name__}) needs {', '.join(missing)}, but the batch has"
        f" {', '.join(sorted(batch))}: take an objective that makes what this model reads"
      )
    for name in needed:
      length = np.shape(batch[name])[1]
      if self.max_length is not None and length > self.max_length:
        raise UserError(
          f"{name} is {length} long and the model's positions end at {self.max_length}: shorten it,"
          " or raise the model's max_length"
        )
