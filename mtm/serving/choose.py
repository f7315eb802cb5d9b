"""The next token of every row, each by rules of its own: greedy, or drawn as `Sample` draws."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtm.decoding._base import NEVER

TOP = 20  # the most alternatives that are told of a token


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rules:
  """How each row chooses; see `mtm.decoding.sample.Sample`.

  Attributes:
    temperature: `[rows]` float32; 0 takes the likeliest token.
    top_k: `[rows]` int32; 0: all.
    top_p: `[rows]` float32.
    key: PRNG keys `[rows]`; with a token's number it decides the draw.
    limit: `[rows]` int32, the most tokens of a row, which constraints ask for.
  """

  temperature: jax.Array
  top_k: jax.Array
  top_p: jax.Array
  key: jax.Array
  limit: jax.Array


class Told(NamedTuple):
  """What a step says of each row's next token.

  Attributes:
    token: `[rows]` int32.
    log_prob: `[rows]` float32, in nats, under the model itself.
    top, top_log_probs: `[rows, TOP]` the likeliest ids and their log-probabilities, likeliest
      first; zeros where nobody asked.
  """

  token: jax.Array
  log_prob: jax.Array
  top: jax.Array
  top_log_probs: jax.Array


def keys(seed: jax.Array, number: jax.Array, sample: jax.Array) -> jax.Array:
  """PRNG keys `[rows]` such that a row draws what `Sample` draws as its sample of this number for
  the example of this number; all `[rows]`, unsigned."""

  def one(seed: jax.Array, number: jax.Array, sample: jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), number), sample)

  return jax.vmap(one)(seed, number, sample)


def choose(logits: jax.Array, rules: Rules, step: jax.Array, active: jax.Array) -> jax.Array:
  """The next tokens, `[rows]` int32.

  Args:
    logits: `[rows, vocab]` float32, `NEVER` where a token may not come.
    rules: of each row.
    step: `[rows]` int32, how many tokens each has generated.
    active: `[rows]` bool; what the others choose means nothing, and costs nothing.
  """
  best = jnp.max(logits, axis=-1, keepdims=True)
  ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
  greedy = jnp.min(jnp.where(logits == best, ids, ids.shape[-1] - 1), axis=-1)
  draws = active & (rules.temperature > 0)
  picky = draws & ((rules.top_k > 0) | (rules.top_p < 1))

  def drawn() -> jax.Array:
    scores = logits / jnp.where(draws, rules.temperature, 1.0)[:, None]
    keep = lambda scores: scores  # noqa: E731
    cut = lambda scores: filtered(scores, rules.top_k, rules.top_p)  # noqa: E731
    scores = jax.lax.cond(jnp.any(picky), cut, keep, scores)
    one = lambda key, step, row: jax.random.categorical(jax.random.fold_in(key, step), row)  # noqa: E731
    return jax.vmap(one)(rules.key, step, scores).astype(jnp.int32)

  sampled = jax.lax.cond(jnp.any(draws), drawn, lambda: greedy)
  return jnp.where(draws, sampled, greedy)


def filtered(scores: jax.Array, top_k: jax.Array, top_p: jax.Array) -> jax.Array:
  """`mtm.decoding.sample.filtered` with numbers of their own for each row, `[rows]`."""
  best, ids = jax.lax.top_k(scores, scores.shape[-1])
  rank = jax.lax.broadcasted_iota(jnp.int32, best.shape, 1)
  best = jnp.where((rank < top_k[:, None]) | (top_k[:, None] == 0), best, NEVER)
  p = jax.nn.softmax(best, axis=-1)
  # Without top_p all stay, whatever the sum's rounding says.
  within = (jnp.cumsum(p, axis=-1) - p < top_p[:, None]) | (top_p[:, None] >= 1)
  best = jnp.where(within, best, NEVER)
  return jnp.put_along_axis(jnp.full_like(scores, NEVER), ids, best, axis=-1, inplace=False)


def told(logits: jax.Array, token: jax.Array, telling: jax.Array) -> Told:
  """What is told of the `token`s `[rows]`; `telling`: whether anybody asks for alternatives."""
  log_probs = logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True)
  own = jnp.take_along_axis(log_probs, token[:, None], axis=-1)[:, 0]
  count = min(TOP, logits.shape[-1])

  def likeliest() -> tuple[jax.Array, jax.Array]:
    values, ids = jax.lax.top_k(log_probs, count)
    return ids, values

  def nothing() -> tuple[jax.Array, jax.Array]:
    shape = (logits.shape[0], count)
    return jnp.zeros(shape, jnp.int32), jnp.zeros(shape, log_probs.dtype)

  return Told(token, own, *jax.lax.cond(telling, likeliest, nothing))
