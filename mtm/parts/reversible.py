"""Reversible layers (RevNets, 1707.04585; Reformer, 2001.04451 §3): depth costs no activations.

Two streams of residuals run side by side, and what is added to one is computed from the other. So
a layer's inputs follow from its outputs, and the backward pass goes up the stack recomputing them:
nothing of a layer is kept but the decisions of mixers that hash.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from mtm.errors import UserError
from mtm.parts.context import Aux, Context
from mtm.parts.stack import Block, NormFactory, Stack

READS = {
  "mixer": 1,
  "channel": 0,
}  # which of the two streams a sublayer reads; it adds to the other


@dataclasses.dataclass(frozen=True)
class Streams:
  """The placement of reversible blocks: x₁ + mixer(norm(x₂)), then x₂ + channel(norm(x₁)).

  `x` holds both streams side by side, `[batch, length, 2 · embed]`. An ordinary `Stack` of such
  blocks computes the same as a `ReversibleStack` and keeps all activations.
  """

  def enter(self, x: jax.Array, norm: NormFactory, name: str) -> jax.Array:
    """See `Placement`."""
    return norm(name=f"{name}_norm")(jnp.split(x, 2, axis=-1)[READS[name]])

  def leave(self, x: jax.Array, y: jax.Array, norm: NormFactory, name: str) -> jax.Array:
    """See `Placement`."""
    streams = jnp.split(x, 2, axis=-1)
    streams[1 - READS[name]] += y
    return jnp.concatenate(streams, axis=-1)


@dataclasses.dataclass(frozen=True)
class Alone:
  """The placement of a sublayer by itself: f(norm(x)), added to nothing."""

  def enter(self, x: jax.Array, norm: NormFactory, name: str) -> jax.Array:
    """See `Placement`."""
    return norm(name=f"{name}_norm")(x)

  def leave(self, x: jax.Array, y: jax.Array, norm: NormFactory, name: str) -> jax.Array:
    """See `Placement`."""
    return y


class ReversibleStack(Stack):
  """A `Stack` whose backward pass recomputes the inputs of each layer from its outputs.

  The blocks have the placement `Streams()`, a mixer and a channel mixer; the parameters are those
  of a `Stack` of them. Both streams begin as the input, and both are the output, side by side. In
  half precision they are kept in float32: a sum that was rounded to half cannot be undone.

  What is recomputed differs from what was by float32 rounding. A mixer whose output jumps where
  its input moves a little has a method `undecided`, which gives what it takes as its cache to hand
  back what it decided; the backward pass gives it that as its cache. `LSH` hands back its buckets,
  a byte or two for each head, round and token: all that is kept layer by layer.
  """

  def __post_init__(self) -> None:
    for index, block in enumerate(self.period):
      whole = block.mixer is not None and block.channel is not None and block.cross is None
      if not whole or not isinstance(block.placement, Streams):
        raise UserError(
          f"ReversibleStack.period[{index}] cannot be run backwards: a reversible block has"
          " placement=Streams(), a mixer and a channel mixer, and no cross-attention"
        )
    if self.remat is not None or self.share:
      raise UserError(
        "a ReversibleStack recomputes everything and shares nothing: leave remat and share as they"
        " are, or take a Stack"
      )
    super().__post_init__()

  def __call__(
    self, x_BLD: jax.Array, context: Context, cache: Any = None
  ) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → `[batch, length, 2 · embed]`; see `Stack`."""
    return super().__call__(jnp.concatenate([x_BLD, x_BLD], axis=-1), context, cache)

  def _loop(self) -> Callable[..., tuple[jax.Array, tuple[Aux, ...]]]:
    return super()._loop() if self.is_initializing() else self._recomputed

  def _recomputed(
    self, x: jax.Array, cache: None, context: Context
  ) -> tuple[jax.Array, tuple[Aux, ...]]:
    """What the loop does, with a backward pass of its own."""
    halves = [half for index, block in enumerate(self.period) for half in _halves(index, block)]
    keys = None
    if context.train and self.has_rng("dropout"):
      keys = jax.random.split(self.make_rng("dropout"), (self.repeats, len(halves)))
    wide = x.dtype if x.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
    streams = tuple(stream.astype(wide) for stream in jnp.split(x, 2, axis=-1))
    leaves, shape = jax.tree.flatten(context)
    kinds = [bool(jnp.issubdtype(leaf.dtype, jnp.inexact)) for leaf in leaves]
    floats = tuple(leaf for leaf, real in zip(leaves, kinds, strict=True) if real)
    others = tuple(leaf for leaf, real in zip(leaves, kinds, strict=True) if not real)

    def rebuilt(floats: Sequence[jax.Array], others: Sequence[jax.Array]) -> Context:
      of_float, of_other = iter(floats), iter(others)
      return jax.tree.unflatten(shape, [next(of_float if k else of_other) for k in kinds])

    run = _reversible(halves, rebuilt, x.dtype, 1 if self.scan else self.repeats)
    streams, told = run(self.variables["params"], streams, floats, others, keys)
    every = tuple(
      Aux(None, {**mixer[0], **channel[0]}, {**mixer[1], **channel[1]})
      for mixer, channel in zip(told[::2], told[1::2], strict=True)
    )
    return jnp.concatenate(streams, axis=-1).astype(x.dtype), every


class Half(NamedTuple):
  """A sublayer of a repetition.

  Attributes:
    block: the name of its block in the parameters.
    sublayer: its own name, with which those of its parameters begin.
    alone: the block without its other sublayer, unbound.
    asked: what it takes as its cache to say what it decided; None: it decides nothing.
  """

  block: str
  sublayer: str
  alone: Block
  asked: Any

  @property
  def reads(self) -> int:
    """The stream that it reads."""
    return READS[self.sublayer]

  def own(self, params: Any) -> Any:
    """Its part of a repetition's parameters."""
    every = params.get(self.block, {})
    return {name: leaf for name, leaf in every.items() if name.startswith(self.sublayer)}

  def __call__(
    self, own: Any, x: jax.Array, context: Context, key: jax.Array | None, decided: Any
  ) -> tuple[jax.Array, tuple[Any, Any], Any]:
    """The output, its losses and metrics, and what it decided."""
    cache = None if decided is None else {self.sublayer: decided}
    rngs = None if key is None else {"dropout": key}
    y, aux = cast(
      tuple[jax.Array, Aux],
      self.alone.apply({"params": own}, x, context.with_cache(cache), rngs=rngs),
    )
    told = None if decided is None else aux.cache[self.sublayer]
    return y, (dict(aux.losses), dict(aux.metrics)), told


def _halves(index: int, block: Block) -> tuple[Half, Half]:
  name, undecided = f"period_{index}", getattr(block.mixer, "undecided", None)
  mixer = block.clone(channel=None, placement=Alone(), parent=None, name=None)
  channel = block.clone(mixer=None, placement=Alone(), parent=None, name=None)
  asked = None if undecided is None else undecided()
  return Half(name, "mixer", mixer, asked), Half(name, "channel", channel, None)


def _reversible(
  halves: Sequence[Half], rebuilt: Callable[..., Context], dtype: Any, unroll: int
) -> Callable[..., Any]:
  """The layers as a function of arrays alone, with its backward pass.

  It takes the parameters, with a leading axis of repetitions; the two streams; the numbers of the
  context that have gradients, and those that have none; and dropout's keys `[repeats, halves]`, or
  None. It gives the streams after the last layer, and the losses and metrics of each half,
  `[repeats]`.
  """

  def forward_step(around: Context, streams: Any, xs: Any) -> Any:
    params, keys = xs
    streams, every, told = list(streams), [], []
    for number, half in enumerate(halves):
      x = streams[half.reads].astype(dtype)
      key = None if keys is None else keys[number]
      y, aux, decided = half(half.own(params), x, around, key, half.asked)
      streams[1 - half.reads] += y.astype(streams[0].dtype)
      every.append(aux)
      told.append(decided)
    return tuple(streams), (tuple(every), tuple(told))

  def forward(params: Any, streams: Any, floats: Any, others: Any, keys: Any) -> Any:
    around = rebuilt(floats, others)
    return jax.lax.scan(
      lambda streams, xs: forward_step(around, streams, xs), streams, (params, keys), unroll=unroll
    )

  def backward_step(floats: Any, others: Any, carry: Any, xs: Any) -> Any:
    streams, d_streams, d_floats = list(carry[0]), list(carry[1]), carry[2]
    params, keys, told, d_every = xs
    d_params: dict[str, Any] = {name: {} for name in params}
    for number, half in reversed(list(enumerate(halves))):
      key = None if keys is None else keys[number]

      def branch(own: Any, x: jax.Array, floats: Any) -> Any:
        around = rebuilt(floats, others)
        y, aux, _ = half(own, x.astype(dtype), around, key, told[number])  # noqa: B023
        return y.astype(x.dtype), aux

      (y, _), pull = jax.vjp(branch, half.own(params), streams[half.reads], floats)
      streams[1 - half.reads] -= y
      d_own, d_x, d_more = pull((d_streams[1 - half.reads], d_every[number]))
      d_streams[half.reads] += d_x
      d_floats = jax.tree.map(jnp.add, d_floats, d_more)
      d_params.get(half.block, {}).update(d_own)
    return (tuple(streams), tuple(d_streams), d_floats), d_params

  @jax.custom_vjp
  def run(params: Any, streams: Any, floats: Any, others: Any, keys: Any) -> Any:
    streams, (every, _) = forward(params, streams, floats, others, keys)
    return streams, every

  def run_forward(params: Any, streams: Any, floats: Any, others: Any, keys: Any) -> Any:
    streams, (every, told) = forward(params, streams, floats, others, keys)
    return (streams, every), (params, streams, floats, others, keys, told)

  def run_backward(saved: Any, g: Any) -> Any:
    params, streams, floats, others, keys, told = saved
    d_streams, d_every = g
    carry = streams, d_streams, jax.tree.map(jnp.zeros_like, floats)
    (_, d_streams, d_floats), d_params = jax.lax.scan(
      lambda carry, xs: backward_step(floats, others, carry, xs),
      carry, (params, keys, told, d_every), reverse=True, unroll=unroll,
    )  # fmt: skip
    return d_params, d_streams, d_floats, None, None

  run.defvjp(run_forward, run_backward)
  return run
