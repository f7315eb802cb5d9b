"""Pipelines: stages of layers that work at the same time on different parts of the batch.

GPipe (1811.06965): the batch is cut into microbatches, which follow each other through the stages;
a stage waits while the first microbatch has not come to it and when the last one has left. In the
circular form (2104.04473 §2.2, "interleaved") each stage has several groups of layers, and what
leaves the last stage enters the first one again: the same waiting is shared by more work.

All stages are one program, `vmap` over an axis that the mesh cuts, and what a stage hands on is
rolled along that axis: a send to the next device. So a pipeline goes with any other cut of the
mesh, and on one device it is a loop over the same numbers.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from mtm import axes
from mtm.axes import constrain
from mtm.errors import UserError
from mtm.parts.context import Aux, Context
from mtm.parts.stack import Period, Stack

AGAIN = "pipeline"  # what is cheaper to take again than to keep for each tick
_ROWS = ("positions", "segments", "labels", "facts", "source")  # fields that have an entry a row


class Pipeline(Stack):
  """A `Stack` whose repetitions are spread over the mesh's stages.

  Parameters are those of a `Stack`, so that checkpoints are too. So is the result, but for two
  things that belong to a microbatch: dropout, which is decided by the layer and the microbatch,
  never by the number of stages; and auxiliary losses and metrics, which are means over
  microbatches.

  With several rounds the layers that a stage has are no neighbours, and the weights move to their
  stages once a step.

  Attributes:
    microbatches: into how many parts the batch is cut.
    rounds: how often a microbatch goes through all stages.
  """

  microbatches: int = 1
  rounds: int = 1

  def __post_init__(self) -> None:
    if self.share:
      raise UserError("layers that share their weights cannot be spread over stages: take a Stack")
    for name, number in (("microbatches", self.microbatches), ("rounds", self.rounds)):
      if number < 1:
        raise UserError(f"Pipeline.{name} = {number}: must be at least 1")
    super().__post_init__()

  @nn.nowrap
  def bubble(self, stages: int) -> float:
    """Which share of its time a stage waits, see `bubble`."""
    return bubble(stages, self.microbatches, self.rounds)

  def _loop(self) -> Callable[..., tuple[jax.Array, tuple[Aux, ...]]]:
    return super()._loop() if self.is_initializing() else self._piped

  def _piped(
    self, x_BLD: jax.Array, cache: None, context: Context
  ) -> tuple[jax.Array, tuple[Aux, ...]]:
    """What the loop does, microbatch by microbatch."""
    clock = self._clock(x_BLD.shape[0])
    key = None
    if context.train and self.has_rng("dropout"):
      key = self.make_rng("dropout")
    x_MBLD = constrain(_cut(x_BLD, self.microbatches), None, "batch", *STREAM)
    weights_S = jax.tree.map(clock.by_stage, self.variables["params"])
    x_MBLD, every = self._ran(clock, weights_S, x_MBLD, context, key)
    return constrain(_joined(x_MBLD), "batch", *STREAM), every

  @nn.nowrap
  def _ran(
    self, clock: Clock, weights_S: Any, x_MBLD: jax.Array, context: Context, key: jax.Array | None
  ) -> tuple[jax.Array, tuple[Aux, ...]]:
    parts = Parts.of(context, clock.microbatches)
    return run_forward(clock, self._stage(clock, parts, key), weights_S, x_MBLD)

  @nn.nowrap
  def _clock(self, rows: int) -> Clock:
    stages = axes.ways("stage")
    if self.repeats % (stages * self.rounds):
      raise UserError(
        f"{stages} stages in {self.rounds} rounds do not divide the {self.repeats} repetitions of"
        f" the layers: take a mesh with another `stage`, or other rounds"
      )
    if rows % self.microbatches:
      raise UserError(f"Pipeline.microbatches = {self.microbatches} does not divide {rows} rows")
    if self.rounds > 1 and self.microbatches < stages:
      raise UserError(
        f"Pipeline.microbatches = {self.microbatches} are fewer than {stages} stages: what goes"
        " round would come back too early; take as many microbatches, or rounds = 1"
      )
    return Clock(stages, self.microbatches, self.rounds, self.repeats)

  @nn.nowrap
  def _stage(self, clock: Clock, parts: Parts, key: jax.Array | None) -> Callable[..., Any]:
    """`(weights [rounds, layers, ...], x, item, stage) → (x, Aux of each block, [layers])`: what a
    stage does with one microbatch in one round."""
    through = self._through(clock, key)

    def stage(weights: Any, x: jax.Array, item: jax.Array, number: jax.Array) -> Any:
      turn, micro = clock.round_and_microbatch(item)
      weights, context = _taken(weights, turn), parts.of_microbatch(micro)
      first = (turn * clock.stages + number) * clock.layers
      return through(weights, x, None, context, first, micro)[:2]

    return keeping_little(stage)

  @nn.nowrap
  def _through(self, clock: Clock, key: jax.Array | None) -> Callable[..., Any]:
    """`(weights [layers, ...], x, cache [layers, ...], context, first layer, what decides dropout)
    → (x, Aux of each block without a cache, the new cache)`: through the layers of a stage."""
    period = Period(tuple(block.clone(parent=None) for block in self.period), parent=None)

    def through(weights: Any, x: Any, cache: Any, context: Any, first: Any, part: Any) -> Any:
      def layer(x: jax.Array, own: Any) -> Any:
        weights, cache, index = own
        rngs = None
        if key is not None:
          rngs = {"dropout": jax.random.fold_in(jax.random.fold_in(key, first + index), part)}
        out: Any = period.apply({"params": weights}, x, cache, context, rngs=rngs)
        x, every = out
        cache = None if cache is None else tuple(aux.cache for aux in every)
        return x, (tuple(aux._replace(cache=None) for aux in every), cache)

      if self.remat is not None:
        layer = jax.checkpoint(layer, prevent_cse=False, policy=self.remat)
      numbers = jnp.arange(clock.layers, dtype=jnp.int32)
      unroll = 1 if self.scan else clock.layers
      x, (every, cache) = jax.lax.scan(layer, x, (weights, cache, numbers), unroll=unroll)
      return x, every, cache

    return through


def keeping_little(stage: Callable[..., Any]) -> Callable[..., Any]:
  """`stage`, of which nothing named `AGAIN` waits for the backward pass."""
  keep = jax.checkpoint_policies.save_anything_except_these_names(AGAIN)
  return jax.checkpoint(stage, prevent_cse=False, policy=keep)


STREAM = ("residual_length", "embed")


class Clock(NamedTuple):
  """When which stage does what: at tick t stage s does item t − s of all its items, which come
  round by round and within a round microbatch by microbatch."""

  stages: int
  microbatches: int
  rounds: int
  repeats: int

  @property
  def layers(self) -> int:
    """Repetitions of the period in one stage and round."""
    return self.repeats // (self.stages * self.rounds)

  @property
  def items(self) -> int:
    """What a stage does in all."""
    return self.rounds * self.microbatches

  @property
  def ticks(self) -> int:
    """How long it takes, waiting included."""
    return self.items + self.stages - 1

  def round_and_microbatch(self, item: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of an item; what is none is taken for the nearest one."""
    item = jnp.clip(item, 0, self.items - 1)
    return item // self.microbatches, item % self.microbatches

  def by_stage(self, x: jax.Array) -> jax.Array:
    """`[repeats, ...]` → `[stages, rounds, layers, ...]`."""
    x = x.reshape(self.rounds, self.stages, self.layers, *x.shape[1:])
    return axes.first(jnp.swapaxes(x, 0, 1), "stage")

  def by_layer(self, x: jax.Array) -> jax.Array:
    """What each tick gave, `[ticks, stages, layers, ...]` → `[repeats, ...]`, the mean over
    microbatches."""
    stage = jnp.arange(self.stages)[None, :, None]
    item = jnp.arange(self.items).reshape(self.rounds, 1, self.microbatches)
    mean = jnp.mean(x[stage + item, stage + 0 * item], axis=2)
    return mean.reshape(self.repeats, *x.shape[3:])


def run_forward(
  clock: Clock, stage: Callable[..., Any], weights_S: Any, x_MBLD: jax.Array, kept_S: Any = None
) -> tuple[jax.Array, tuple[Aux, ...]]:
  """All ticks.

  What each stage keeps from one item to the next, `kept_S`, `stage` takes after `x` and gives last.

  Microbatches wait in a store, each in a place of its own: before they enter, between two rounds
  and in the end. Every stage has a store so that nothing need be sent to reach it, and only that of
  the first one is read.
  """
  stages, (count, *shape) = clock.stages, x_MBLD.shape
  names = ("stage", None, "batch", *STREAM)
  store = constrain(jnp.broadcast_to(x_MBLD[None], (stages, count, *shape)), *names)
  number_S = jnp.arange(stages, dtype=jnp.int32)
  first_S = (number_S == 0).reshape(stages, *[1] * len(shape))

  def one(weights: Any, x: jax.Array, kept: Any, item: jax.Array, number: jax.Array) -> Any:
    if kept is None:
      return *stage(weights, x, item, number), None
    return stage(weights, x, kept, item, number)

  together = axes.vmap(one, "stage")

  def tick(carry: Any, now: jax.Array) -> Any:
    store, x_SBLD, kept_S = carry
    entering = jax.lax.dynamic_index_in_dim(store, now % count, 1, keepdims=False)
    x_SBLD = jnp.where(first_S, entering, x_SBLD)
    y_SBLD, every, kept_S = together(weights_S, x_SBLD, kept_S, now - number_S, number_S)
    y_SBLD = constrain(y_SBLD, "stage", "batch", *STREAM)
    x_SBLD = constrain(jnp.roll(y_SBLD, 1, axis=0), "stage", "batch", *STREAM)
    done = now - (stages - 1)
    before = jax.lax.dynamic_index_in_dim(store, done % count, 1, keepdims=False)
    leaving = jnp.where((done >= 0) & (done < clock.items), x_SBLD, before)
    store = jax.lax.dynamic_update_index_in_dim(store, leaving, done % count, 1)
    return (constrain(store, *names), x_SBLD, kept_S), every

  ticks = jnp.arange(clock.ticks, dtype=jnp.int32)
  carry: Any = (store, store[:, 0], kept_S)
  (store, *_), every = jax.lax.scan(tick, carry, ticks)
  return store[0], jax.tree.map(clock.by_layer, every)


@dataclasses.dataclass(frozen=True)
class Parts:
  """A context, cut into microbatches.

  Attributes:
    whole: the context.
    rows: its fields `[rows, ...]` as `[microbatches, rows of one, ...]`.
    bias: arrays of its bias that have rows, cut likewise.
  """

  whole: Context
  rows: Any
  bias: Any

  @staticmethod
  def of(context: Context, microbatches: int) -> Parts:
    """The parts of a context outside decoding."""

    def cut(tree: Any) -> Any:
      return jax.tree.map(lambda x: _cut(x, microbatches), tree)

    own = () if context.bias is None else ("array", "made")
    found = {name: getattr(context.bias, name) for name in own}
    bias = {n: cut(x) for n, x in found.items() if x is not None and x.shape[0] > 1}
    return Parts(context, {name: cut(getattr(context, name)) for name in _ROWS}, bias)

  def of_microbatch(self, number: jax.Array) -> Context:
    """The context of one."""
    bias = self.whole.bias
    if bias is not None and self.bias:
      bias = dataclasses.replace(bias, **_taken(self.bias, number))
    return dataclasses.replace(self.whole, bias=bias, **_taken(self.rows, number))


def _taken(tree: Any, number: jax.Array) -> Any:
  """Of a tree of arrays `[n, ...]` entry `number`, which is taken again in the backward pass."""

  def one(x: jax.Array) -> jax.Array:
    return checkpoint_name(jax.lax.dynamic_index_in_dim(x, number, keepdims=False), AGAIN)

  return jax.tree.map(one, tree)


def _cut(x: jax.Array, parts: int) -> jax.Array:
  """`[rows, ...]` → `[parts, rows of one, ...]`; part i has the rows i, i + n, i + 2n, ..., so that
  each device's rows stay where they are."""
  return jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)


def _joined(x: jax.Array) -> jax.Array:
  """The inverse of `_cut`."""
  return jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])


class Piping(Protocol):
  """How a model's layers run in stages: what `PIPELINE` is."""

  def applied(self, model: Any) -> Any:
    """`model` with its stacks as pipelines. Raises UserError: it has none."""

  def told(self, stages: int) -> str:
    """What a run says of it."""


@dataclasses.dataclass(frozen=True)
class Schedule:
  """How a model's layers run as a pipeline; for the fields see `Pipeline`."""

  microbatches: int
  rounds: int = 1

  def applied(self, model: Any) -> Any:
    """`model` with its stacks as pipelines. Raises UserError: it has none."""
    return dataclasses.replace(model, module=piped(model.module, self.microbatches, self.rounds))

  def told(self, stages: int) -> str:
    """What a run says of it."""
    waiting = bubble(stages, self.microbatches, self.rounds)
    return (
      f"pipeline: {stages} stages, {self.microbatches} microbatches, {self.rounds} rounds:"
      f" each stage waits {waiting:.1%} of its time (the bubble)"
    )


def bubble(stages: int, microbatches: int, rounds: int = 1) -> float:
  """Which share of its time a stage waits: (S − 1) / (rounds · microbatches + S − 1)."""
  return (stages - 1) / (rounds * microbatches + stages - 1)


def piped(
  module: nn.Module, microbatches: int, rounds: int = 1, kind: Callable[..., Pipeline] = Pipeline
) -> nn.Module:
  """`module`, whose stacks are pipelines.

  Args:
    module: an unbound model, or a part of one.
    microbatches, rounds: see `Pipeline`.
    kind: what they become.

  Raises:
    UserError: there is no stack that can be one.
  """
  made = functools.partial(kind, microbatches=microbatches, rounds=rounds)
  changed = _replaced(module, made)
  if changed is module:
    raise UserError(
      f"a {type(module).__name__} has no Stack that could run as a pipeline: set PIPELINE = None"
    )
  return changed


def _replaced(module: nn.Module, made: Callable[..., Pipeline]) -> nn.Module:
  fields: dict[str, Any] = {
    f.name: getattr(module, f.name, None) for f in dataclasses.fields(module)
  }
  if type(module) is Stack:
    own = {n: v for n, v in fields.items() if n not in _LINEN}
    return made(**own)
  changes: dict[str, Any] = {}
  for name, value in fields.items():
    if isinstance(value, nn.Module) and name not in _LINEN:
      new = _replaced(value, made)
      if new is not value:
        changes[name] = new
  return module.clone(**changes) if changes else module


_LINEN = frozenset({"parent", "name"})
