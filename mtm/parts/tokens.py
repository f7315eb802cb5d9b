"""Pipelines of slices of the sequence (TeraPipe, 2102.07988).

What a causal decoder computes at a place depends on no later place, so that a stage may begin with
the front of a sequence while the rest has not come. Slices of a microbatch follow each other
through the stages, each stage keeps the keys and values that they leave in its layers, and later
slices look back at them. So a pipeline is full with few rows, where microbatches alone are too few.

Slices are of one length, and each is scored against all places, of which its pattern hides those
to come: all cost the same, and together what a kernel does that builds all pairs. So there is no
search for slices of other lengths. For the backward pass each slice keeps what it looked at, all
keys and values of its microbatch.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from mtm import axes
from mtm.axes import constrain
from mtm.errors import UserError
from mtm.parts.attention import Attention
from mtm.parts.context import Aux, Context, Slice
from mtm.parts.mlp import Mlp
from mtm.parts.patterns._algebra import EMPTY
from mtm.parts.stack import Block
from mtm.parts.stages import (
  AGAIN,
  Clock,
  Parts,
  Pipeline,
  bubble,
  keeping_little,
  piped,
  run_forward,
)

_ALONG = ("positions", "segments", "labels", "facts")  # fields `[rows, length]`


class Kept(NamedTuple):
  """The keys and values that slices left in one layer, `[rows, length, kv_heads, head_dim]` each.
  At places that have not come are those of an earlier microbatch, or 0."""

  k: jax.Array
  v: jax.Array

  def put(self, k: jax.Array, v: jax.Array, start: jax.Array) -> tuple[Kept, jax.Array, jax.Array]:
    """With those of a slice, `[rows, its length, kv_heads, head_dim]`, from place `start` on: this
    again, and its keys and values."""
    put = jax.lax.dynamic_update_slice_in_dim
    pairs = zip(self, (k, v), strict=True)
    new = Kept(*(put(old, own.astype(old.dtype), start, axis=1) for old, own in pairs))
    return new, new.k, new.v


class Sliced(Pipeline):
  """A `Pipeline` through which slices of each microbatch follow one another.

  Dropout belongs to a layer, a microbatch and a slice, never to the number of stages; auxiliary
  losses and metrics are means over microbatches and slices. All else is what a `Stack` gives.

  Its layers have plain attention and dense channel mixers, and no place sees one of a later slice.

  Attributes:
    slices: into how many parts each sequence is cut.
  """

  slices: int = 1

  def __post_init__(self) -> None:
    if self.slices < 1:
      raise UserError(f"Sliced.slices = {self.slices}: must be at least 1")
    if self.rounds != 1:
      raise UserError(
        f"a Sliced pipeline has one round, and here are {self.rounds}: set rounds = 1, or take a"
        " Pipeline"
      )
    for block in self.period:
      _refuse_parts(block)
    super().__post_init__()

  @nn.nowrap
  def bubble(self, stages: int) -> float:
    """Which share of its time a stage waits: (S − 1) / (microbatches · slices + S − 1)."""
    return bubble(stages, self.microbatches * self.slices)

  @nn.nowrap
  def _clock(self, rows: int) -> Clock:
    """What comes to a stage are slices, microbatch by microbatch."""
    return super()._clock(rows)._replace(microbatches=self.microbatches * self.slices)

  @nn.nowrap
  def _ran(
    self, clock: Clock, weights_S: Any, x_MBLD: jax.Array, context: Context, key: jax.Array | None
  ) -> tuple[jax.Array, tuple[Aux, ...]]:
    micro, rows, length, width = x_MBLD.shape
    self._refuse_length(length)
    parts = Parts.of(context, micro)
    x = x_MBLD.reshape(micro, rows, self.slices, -1, width)
    x_IBLD = jnp.swapaxes(x, 1, 2).reshape(clock.items, rows, -1, width)
    kept_S = tuple(_nothing(block, clock, rows, length, x.dtype) for block in self.period)
    x_IBLD, every = run_forward(clock, self._stage(clock, parts, key), weights_S, x_IBLD, kept_S)
    x = jnp.swapaxes(x_IBLD.reshape(micro, self.slices, rows, -1, width), 1, 2)
    return x.reshape(x_MBLD.shape), every

  @nn.nowrap
  def _stage(self, clock: Clock, parts: Parts, key: jax.Array | None) -> Callable[..., Any]:
    """`(weights [1, layers, ...], x, kept [layers, ...], item, stage) → (x, Aux of each block
    [layers], kept)`: what a stage does with one slice."""
    through = self._through(clock, key)

    def stage(weights: Any, x: jax.Array, kept: Any, item: jax.Array, number: jax.Array) -> Any:
      _, item = clock.round_and_microbatch(item)
      context = parts.of_microbatch(item // self.slices)
      context = _of_slice(context, item % self.slices, x.shape[1])
      only = jax.tree.map(lambda w: w[0], weights)
      return through(only, x, kept, context, number * clock.layers, item)

    return keeping_little(stage)

  @nn.nowrap
  def _refuse_length(self, length: int) -> None:
    """Raises UserError where sequences of this length cannot be sliced."""
    if length % self.slices:
      divisors = [str(n) for n in range(1, length + 1) if length % n == 0]
      raise UserError(
        f"Sliced.slices = {self.slices} does not divide {length} places; {', '.join(divisors)} do"
      )
    if axes.ways("length") > 1:
      raise UserError(
        "a pipeline of slices and the mesh's `sequence` would both cut the places of a sequence:"
        " take a mesh with sequence = 1, or mesh/pipeline.gin"
      )
    for block in self.period:
      pattern = block.mixer.pattern
      seen = pattern.block_map(length, length, length // self.slices)
      if (np.triu(seen, 1) != EMPTY).any():
        raise UserError(
          f"{pattern} lets a place see later ones than those of its slice: slices of the sequence"
          " are for causal decoders; take mesh/pipeline.gin"
        )


def _refuse_parts(block: Block) -> None:
  """Raises UserError where a layer does more across places than attention that is plain."""
  reason = None
  if not isinstance(block.mixer, Attention):
    reason = f"{type(block.mixer).__name__} is not plain attention, whose keys wait for later ones"
  elif block.cross is not None:
    reason = "a decoder with cross-attention waits for its whole encoder"
  elif block.channel is not None and not isinstance(block.channel, Mlp):
    reason = f"{type(block.channel).__name__} is no Mlp, which looks at single tokens"
  if reason is not None:
    raise UserError(f"no pipeline of slices of the sequence: {reason}; take mesh/pipeline.gin")


def _nothing(block: Block, clock: Clock, rows: int, length: int, dtype: Any) -> dict[str, Any]:
  """The cache of a block before any slice, of all layers, `[stages, layers, ...]`."""
  heads = block.mixer.kv_heads or block.mixer.heads
  shape = (clock.stages, clock.layers, rows, length, heads, block.mixer.head_dim)
  zeros = constrain(
    jnp.zeros(shape, dtype), "stage", None, "batch", "length", "kv_heads", "head_dim"
  )
  return {"mixer": Kept(zeros, zeros), "channel": None}


def _of_slice(context: Context, number: jax.Array, length: int) -> Context:
  """The context of a slice of `length` places, which is told of all sequences too."""
  start = number * length

  def cut(x: jax.Array, axis: int = 1) -> jax.Array:
    return checkpoint_name(jax.lax.dynamic_slice_in_dim(x, start, length, axis), AGAIN)

  own = {name: jax.tree.map(cut, getattr(context, name)) for name in _ALONG}
  bias = context.bias
  if bias is not None:  # of these queries, and all keys
    array, made = (None if x is None else cut(x, 2) for x in (bias.array, bias.made))
    bias = dataclasses.replace(bias, array=array, made=made)
  return dataclasses.replace(
    context, bias=bias, slice=Slice(start, context.segments, context.labels), **own
  )


@dataclasses.dataclass(frozen=True)
class TokenSlicing:
  """How a model's layers run as a `Sliced` pipeline; for the fields see there."""

  slices: int
  microbatches: int = 1

  def applied(self, model: Any) -> Any:
    """`model` with its stacks as such pipelines. Raises UserError: it has none, or one that cannot
    be sliced."""
    made = functools.partial(Sliced, slices=self.slices)
    module = piped(model.module, self.microbatches, kind=made)
    return dataclasses.replace(model, module=module)

  def told(self, stages: int) -> str:
    """What a run says of it."""
    waiting = bubble(stages, self.microbatches * self.slices)
    return (
      f"pipeline: {stages} stages, {self.microbatches} microbatches of {self.slices} slices of the"
      f" sequence: each stage waits {waiting:.1%} of its time (the bubble)"
    )
