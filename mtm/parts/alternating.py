"""One forward, one backward (1F1B; 2006.09503, 2104.04473 §2.2): the stages bound what waits.

In GPipe all forward passes come before the first backward pass, and what each keeps waits. Here the
backward pass of the stack runs the pipeline again: at each tick every stage takes a microbatch
forward and takes back another, the last stage the same one at once. So what waits are the inputs of
at most 2 · stages − 1 microbatches of a stage, however many there are, and within a stage the
values of one. The price is a forward pass more, since the loss, which is not part of the stack, is
known only when all microbatches have left it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm import axes
from mtm.axes import constrain
from mtm.errors import UserError
from mtm.parts.context import Aux, Context
from mtm.parts.stages import STREAM, Clock, Parts, Pipeline, bubble, piped, run_forward


class Alternating(Pipeline):
  """A `Pipeline` whose backward pass alternates; the numbers are the same."""

  def __post_init__(self) -> None:
    if self.rounds != 1:
      raise UserError(
        f"an Alternating pipeline has one round, and here are {self.rounds}: set rounds = 1, or"
        " take a Pipeline"
      )
    super().__post_init__()

  @nn.nowrap
  def _ran(
    self, clock: Clock, weights_S: Any, x_MBLD: jax.Array, context: Context, key: jax.Array | None
  ) -> tuple[jax.Array, tuple[Aux, ...]]:
    leaves, shape = jax.tree.flatten(context)
    kinds = [bool(jnp.issubdtype(leaf.dtype, jnp.inexact)) for leaf in leaves]
    floats = tuple(leaf for leaf, real in zip(leaves, kinds, strict=True) if real)
    others = tuple(leaf for leaf, real in zip(leaves, kinds, strict=True) if not real)

    def stage(floats: Sequence[jax.Array], others: Sequence[jax.Array], key: Any) -> Any:
      of_float, of_other = iter(floats), iter(others)
      around = jax.tree.unflatten(shape, [next(of_float if k else of_other) for k in kinds])
      return self._stage(clock, Parts.of(around, clock.microbatches), key)

    return _alternating(clock, stage)(weights_S, x_MBLD, floats, others, key)


def _alternating(clock: Clock, stage: Callable[..., Any]) -> Callable[..., Any]:
  """The pipeline as a function of arrays alone: weights by stage, the microbatches, the numbers of
  the context that have gradients, those that have none, and dropout's key or None.

  Args:
    clock: when which stage does what.
    stage: from the last three to what a stage does.
  """

  @jax.custom_vjp
  def run(weights_S: Any, x_MBLD: jax.Array, floats: Any, others: Any, key: Any) -> Any:
    return run_forward(clock, stage(floats, others, key), weights_S, x_MBLD)

  def forward(*arrays: Any) -> Any:
    return run(*arrays), arrays

  def backward(saved: Any, g: Any) -> Any:
    return *_back(clock, stage, saved, *g), None, None

  run.defvjp(forward, backward)
  return run


def _back(
  clock: Clock, stage: Callable[..., Any], saved: Any, d_out_MBLD: Any, d_every: Any
) -> Any:
  """The gradients of weights, microbatches and the context's numbers.

  At tick t stage s takes item t − s forward and item t − 2 (S − 1) + s back, which it took forward
  2 (S − 1 − s) ticks before; its input waits in a ring of as many places as there are such ticks.
  """
  weights_S, x_MBLD, floats, others, key = saved
  stages, last = clock.stages, clock.stages - 1
  number_S = jnp.arange(stages, dtype=jnp.int32)
  places = 2 * last + 1
  d_aux_S = jax.tree.map(lambda d: clock.by_stage(d)[:, 0] / clock.microbatches, d_every)
  names = "stage", None, "batch", *STREAM

  def at_stage(index: int, x: jax.Array, other_SBLD: jax.Array) -> jax.Array:
    here = (number_S == index).reshape(stages, *[1] * x.ndim)
    return jnp.where(here, x[None], other_SBLD)

  def one(weights: Any, x: jax.Array, floats: Any, item: jax.Array, number: jax.Array) -> Any:
    return stage(floats, others, key)(weights, x, item, number)

  def pulled(weights: Any, x: jax.Array, item: Any, number: Any, d_y: Any, d_aux: Any) -> Any:
    there = (item >= 0) & (item < clock.items)
    d_y, d_aux = jax.tree.map(lambda d: jnp.where(there, d, jnp.zeros_like(d)), (d_y, d_aux))
    _, pull = jax.vjp(lambda w, x, floats: one(w, x, floats, item, number), weights, x, floats)
    return pull((d_y, d_aux))

  ahead = axes.vmap(lambda w, x, item, number: one(w, x, floats, item, number)[0], "stage")
  behind = axes.vmap(pulled, "stage")
  waited = axes.vmap(
    lambda ring, place: jax.lax.dynamic_index_in_dim(ring, place, 0, False), "stage"
  )

  def tick(carry: Any, now: jax.Array) -> Any:
    ring, x_SBLD, d_SBLD, store, d_weights, d_floats = carry
    x_SBLD = at_stage(0, x_MBLD[jnp.minimum(now, clock.items - 1)], x_SBLD)
    ring = jax.lax.dynamic_update_index_in_dim(ring, x_SBLD, now % places, 1)
    y_SBLD = constrain(ahead(weights_S, x_SBLD, now - number_S, number_S), *_AT_STAGE)
    d_SBLD = at_stage(last, d_out_MBLD[jnp.clip(now - last, 0, clock.items - 1)], d_SBLD)
    x_SBLD = waited(ring, (now - 2 * (last - number_S)) % places)
    item_S = now - 2 * last + number_S
    more, d_SBLD, of_context = behind(weights_S, x_SBLD, item_S, number_S, d_SBLD, d_aux_S)
    d_weights = jax.tree.map(jnp.add, d_weights, more)
    d_floats = jax.tree.map(lambda d, m: d + jnp.sum(m, axis=0), d_floats, of_context)
    place = jnp.maximum(item_S[0], 0)  # until item 0 comes zeros are written, where it will be
    store = jax.lax.dynamic_update_index_in_dim(store, d_SBLD, place, 1)
    x_SBLD = constrain(jnp.roll(y_SBLD, 1, axis=0), *_AT_STAGE)
    d_SBLD = constrain(jnp.roll(d_SBLD, -1, axis=0), *_AT_STAGE)
    return (ring, x_SBLD, d_SBLD, constrain(store, *names), d_weights, d_floats), None

  first = jnp.broadcast_to(x_MBLD[:1], (stages, *x_MBLD.shape[1:]))
  ring = constrain(jnp.repeat(first[:, None], places, axis=1), *names)
  store = constrain(jnp.zeros((stages, *x_MBLD.shape), x_MBLD.dtype), *names)
  zeros = jax.tree.map(jnp.zeros_like, (weights_S, floats))
  carry = (ring, first, jnp.zeros_like(first), store, *zeros)
  ticks = jnp.arange(clock.items + 2 * last, dtype=jnp.int32)
  carry, _ = jax.lax.scan(tick, carry, ticks)
  return carry[4], carry[3][0], carry[5]


_AT_STAGE = ("stage", "batch", *STREAM)


@dataclasses.dataclass(frozen=True)
class Alternation:
  """How a model's layers run as an `Alternating` pipeline."""

  microbatches: int

  def applied(self, model: Any) -> Any:
    """`model` with its stacks as such pipelines. Raises UserError: it has none."""
    return dataclasses.replace(
      model, module=piped(model.module, self.microbatches, kind=Alternating)
    )

  def told(self, stages: int) -> str:
    """What a run says of it."""
    return (
      f"pipeline: {stages} stages, {self.microbatches} microbatches, one forward and one backward:"
      f" each stage waits {bubble(stages, self.microbatches):.1%} of its time (the bubble)"
    )
