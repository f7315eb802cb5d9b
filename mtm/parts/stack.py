"""Block and Stack: layers, and their repetition in depth."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm.axes import constrain
from mtm.errors import UserError
from mtm.parts.context import Aux, Context
from mtm.parts.dropout import Dropout
from mtm.parts.remat import Policy, named

NormFactory = Callable[..., nn.Module]


class Placement(Protocol):
  """Where the norms of a sublayer f stand: x → leave(x, f(enter(x))).

  `norm(name=...)` makes a norm; names must begin with `name`, the sublayer's.
  """

  def enter(self, x: jax.Array, norm: NormFactory, name: str) -> jax.Array:
    """What the sublayer reads."""

  def leave(self, x: jax.Array, y: jax.Array, norm: NormFactory, name: str) -> jax.Array:
    """The residual sum of `x` and what the sublayer wrote."""


@dataclasses.dataclass(frozen=True)
class PreNorm:
  """x + f(norm(x)): GPT-2, T5, LLaMA."""

  def enter(self, x: jax.Array, norm: NormFactory, name: str) -> jax.Array:
    return norm(name=f"{name}_norm")(x)

  def leave(self, x: jax.Array, y: jax.Array, norm: NormFactory, name: str) -> jax.Array:
    return x + y


@dataclasses.dataclass(frozen=True)
class PostNorm:
  """norm(x + f(x)): the first Transformer, BERT, BART."""

  def enter(self, x: jax.Array, norm: NormFactory, name: str) -> jax.Array:
    return x

  def leave(self, x: jax.Array, y: jax.Array, norm: NormFactory, name: str) -> jax.Array:
    return norm(name=f"{name}_norm")(x + y)


@dataclasses.dataclass(frozen=True)
class SandwichNorm:
  """x + norm(f(norm(x))): CogView (2105.13290)."""

  def enter(self, x: jax.Array, norm: NormFactory, name: str) -> jax.Array:
    return norm(name=f"{name}_norm")(x)

  def leave(self, x: jax.Array, y: jax.Array, norm: NormFactory, name: str) -> jax.Array:
    return x + norm(name=f"{name}_out_norm")(y)


class Block(nn.Module):
  """A layer: a token mixer, cross-attention where there is a source, a channel mixer.

  Attributes:
    mixer: `(x, context) → (x, Aux)` across tokens, such as `Attention`.
    channel: `(x, context) → (x, Aux)` within a token, such as `Mlp`; None: no channel mixer.
    norm: makes a norm, given `name`.
    cross: `CrossAttention`, or None.
    placement: where the norms stand: `PreNorm()`, `PostNorm()` or `SandwichNorm()`.
    dropout: share of each sublayer's output dropped in training.
    dropout_shared: axes along which one dropout draw is shared.
  """

  mixer: nn.Module
  channel: nn.Module | None
  norm: NormFactory
  cross: nn.Module | None = None
  placement: Placement = PreNorm()
  dropout: float = 0.0
  dropout_shared: tuple[int, ...] = ()

  @nn.compact
  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → the same shape; `context.cache` is this block's."""
    caches, losses, metrics = {}, {}, {}
    length = "residual_length" if context.cache is None else "length"
    for name, part in self._sublayers():
      own = None if context.cache is None else context.cache[name]
      y_BLD = self.placement.enter(x_BLD, self.norm, name)
      y_BLD, aux = part(y_BLD, context.with_cache(own))
      y_BLD = named(y_BLD, name)
      drop = Dropout(self.dropout, self.dropout_shared, name=f"{name}_dropout")
      x_BLD = self.placement.leave(x_BLD, drop(y_BLD, context.train), self.norm, name)
      x_BLD = constrain(x_BLD, "batch", length, "embed")
      caches[name] = aux.cache
      losses.update({f"{name}/{key}": value for key, value in aux.losses.items()})
      metrics.update({f"{name}/{key}": value for key, value in aux.metrics.items()})
    return x_BLD, Aux(None if context.cache is None else caches, losses, metrics)

  @nn.nowrap
  def _sublayers(self) -> Iterator[tuple[str, Any]]:
    parts = (("mixer", self.mixer), ("cross", self.cross), ("channel", self.channel))
    return ((name, part) for name, part in parts if part is not None)

  @nn.nowrap
  def empty_cache(self, batch: int, length: int, source_length: int, dtype: Any) -> dict[str, Any]:
    """The caches of its sublayers; None for those that keep nothing."""

    def make(part: Any) -> Any:
      maker = getattr(part, "empty_cache", None)
      return maker and maker(batch, length, source_length, dtype)

    return {name: make(part) for name, part in self._sublayers()}


class Period(nn.Module):
  """A few blocks in order: what a `Stack` repeats."""

  period: tuple[Block, ...]

  def __call__(
    self, x: jax.Array, cache: Any, context: Context
  ) -> tuple[jax.Array, tuple[Aux, ...]]:
    """`[batch, length, embed]` → the same shape, and each block's Aux."""
    every = []
    for index, block in enumerate(self.period):
      own = None if cache is None else cache[index]
      x, aux = block(x, context.with_cache(own))
      every.append(aux)
    return x, tuple(every)


class Layers(Protocol):
  """What a tower runs: a `Stack`, or what stands around one; for the arguments see `Stack`.

  Attributes:
    period: the blocks of one repetition.
  """

  @property
  def period(self) -> tuple[Block, ...]: ...

  def __call__(
    self, x_BLD: jax.Array, context: Context, cache: Any = None
  ) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → hidden states, and an `Aux` with the new cache."""

  def prepare(self, params: Any) -> Any:
    """See `Model.prepare`."""

  def empty_cache(self, batch: int, length: int, source_length: int, dtype: Any) -> Any:
    """The caches of all layers; every leaf is `[batch, ...]`."""


class Stack(nn.Module):
  """A period of blocks, repeated under one scan: compile time does not grow with depth.

  Parameters have a leading axis `layers` of size `repeats`, scanned or not, so that one checkpoint
  serves both.

  Attributes:
    period: the blocks of one repetition, each an instance of its own.
    repeats: how often the period runs.
    scan: False unrolls the loop: faster on CPU for few layers, slower to compile. With a cache the
      loop is always unrolled.
    remat: None keeps all activations for the backward pass; else a policy that says which to keep,
      see `mtm.parts.remat`.
    share: whether all repetitions use the same parameters (ALBERT, Universal Transformer).
  """

  period: tuple[Block, ...]
  repeats: int
  scan: bool = True
  remat: Policy | None = None
  share: bool = False

  def __post_init__(self) -> None:
    if not self.share:
      _refuse_repeated(self.period)
    super().__post_init__()

  @nn.compact
  def __call__(
    self, x_BLD: jax.Array, context: Context, cache: Any = None
  ) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → the same shape.

    Args:
      x_BLD: the input.
      context: facts about the tokens.
      cache: from `empty_cache`, or None.

    Returns:
      the output, and an `Aux` whose cache is the new cache, losses are summed over layers, and
      metrics `[repeats]` are named by block.
    """
    if cache is None:
      x_BLD, every = self._loop()(x_BLD, None, context)
    else:
      x_BLD, every = self._layer_by_layer(x_BLD, context, cache)
    losses: dict[str, jax.Array] = {}
    metrics: dict[str, jax.Array] = {}
    for index, aux in enumerate(every):
      for key, value in aux.losses.items():
        losses[key] = losses.get(key, jnp.float32(0)) + jnp.sum(value)
      metrics.update({f"block_{index}/{key}": value for key, value in aux.metrics.items()})
    return x_BLD, Aux(None if cache is None else tuple(a.cache for a in every), losses, metrics)

  def _loop(self) -> Callable[..., tuple[jax.Array, tuple[Aux, ...]]]:
    """The repeated period: `(x, None, context) → (x, each block's Aux)`, with axis `repeats`."""
    body = Period
    if self.remat is not None:  # a scan keeps XLA from undoing it; an unrolled loop does not
      body = nn.remat(Period, prevent_cse=not self.scan, policy=self.remat)
    weights = {"variable_broadcast": "params"} if self.share else {"variable_axes": {"params": 0}}
    loop = nn.scan(
      body,
      split_rngs={"params": not self.share, "dropout": True},
      in_axes=(0, nn.broadcast),
      length=self.repeats,
      unroll=1 if self.scan else self.repeats,
      metadata_params={nn.PARTITION_NAME: "layers"},
      **weights,
    )
    return loop(self.period, name="layers")

  def _layer_by_layer(
    self, x_BLD: jax.Array, context: Context, caches: Any
  ) -> tuple[jax.Array, tuple[Aux, ...]]:
    """What `_loop` does, with caches. A scan would copy them at each token to slice and stack them;
    here each layer has arrays of its own, which are written in place."""
    period = Period(tuple(block.clone(parent=None) for block in self.period), parent=None)
    layers = self.prepare(self.variables["params"])["layers"]
    every = []
    for weights, cache in zip(layers, zip(*caches, strict=True), strict=True):
      x_BLD, aux = period.apply({"params": weights}, x_BLD, cache, context)
      every.append(aux)
    return x_BLD, tuple(_stacked(auxes) for auxes in zip(*every, strict=True))

  @nn.nowrap
  def prepare(self, params: Any) -> Any:
    """See `Model.prepare`: `{"layers": (those of one repetition, those of the next, ...)}`."""
    if "layers" in params:
      return params
    if self.share:
      return {"layers": (params,) * self.repeats}
    layers = [jax.tree.map(operator.itemgetter(i), params) for i in range(self.repeats)]
    return {"layers": tuple(layers)}

  @nn.nowrap
  def empty_cache(self, batch: int, length: int, source_length: int, dtype: Any) -> tuple[Any, ...]:
    """For each block of the period the caches of its repetitions; every leaf is `[batch, ...]`."""
    one = tuple(b.empty_cache(batch, length, source_length, dtype) for b in self.period)
    return tuple((cache,) * self.repeats for cache in one)


def _stacked(every: tuple[Aux, ...]) -> Aux:
  """The Aux of a block's repetitions as one: caches in a tuple, the rest with a leading axis."""
  losses, metrics = (
    jax.tree.map(lambda *leaves: jnp.stack(leaves), *part)
    for part in ([a.losses for a in every], [a.metrics for a in every])
  )
  return Aux(tuple(a.cache for a in every), losses, metrics)


def _refuse_repeated(period: tuple[Block, ...]) -> None:
  """Raises UserError where one module instance appears twice: Linen would tie its weights."""
  seen: dict[int, str] = {}

  def visit(value: Any, path: str) -> None:
    if isinstance(value, nn.Module):
      if id(value) in seen:
        raise UserError(
          f"{path} is the same {type(value).__name__} instance as {seen[id(value)]}, which would"
          " tie their weights: build one for each place, or set share=True"
        )
      seen[id(value)] = path
      for field in dataclasses.fields(value):
        if field.name not in ("parent", "name"):
          visit(getattr(value, field.name, None), f"{path}.{field.name}")
    elif isinstance(value, tuple | list):
      for index, item in enumerate(value):
        visit(item, f"{path}[{index}]")

  visit(period, "Stack.period")
