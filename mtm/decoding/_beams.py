"""What beam searches share: hypotheses, their continuations, and which of them are kept."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtm.decoding._base import NEVER, View


class Beams(NamedTuple):
  """Open and ended hypotheses.

  Attributes:
    live: `[batch, size]` float32 log-probabilities of the open ones, best first.
    tokens: `[batch, size, length]` of the ended ones, best first.
    scores: `[batch, size]` theirs.
    lengths: `[batch, size]` theirs; 0 where there is none.
  """

  live: jax.Array
  tokens: jax.Array
  scores: jax.Array
  lengths: jax.Array


class Candidates(NamedTuple):
  """The likeliest continuations of the open hypotheses, each `[batch, kept]`, best first.

  Attributes:
    scores: log-probabilities.
    parents, ids: which hypothesis each continues, and with what.
    real: False where there are not so many.
    stops: whether it ends with an end id.
  """

  scores: jax.Array
  parents: jax.Array
  ids: jax.Array
  real: jax.Array
  stops: jax.Array


def begin(batch: int, size: int, length: int) -> Beams:
  """One open hypothesis, the empty one; the others are never."""
  never = jnp.full((batch, size), NEVER)
  return Beams(
    never.at[:, 0].set(0.0),
    jnp.zeros((batch, size, length), jnp.int32),
    never,
    jnp.zeros((batch, size), jnp.int32),
  )


def continuations(live: jax.Array, view: View) -> Candidates:
  """Enough candidates that, however many of them end, at least as many go on as there are beams:
  twice as many where one id ends."""
  batch, width, vocab = view.log_probs.shape
  total = live[..., None] + view.log_probs
  kept = min((1 + len(view.endings)) * width, width * vocab)
  scores, index = jax.lax.top_k(total.reshape(batch, width * vocab), kept)
  parents, ids = index // vocab, (index % vocab).astype(jnp.int32)
  real = scores > NEVER / 2
  return Candidates(scores, parents, ids, real, view.ends(ids) & real)


def advance(
  beams: Beams, view: View, found: Candidates, ends: jax.Array, divisor: jax.Array
) -> tuple[Beams, jax.Array, jax.Array]:
  """The hypotheses after this step.

  Args:
    beams: before it.
    view: of this step.
    found: from `continuations`.
    ends: bool `[batch, kept]`, the candidates that join the ended ones.
    divisor: scalar, what their log-probabilities are divided by.

  Returns:
    the new hypotheses; the ids and the parents `[batch, size]` of the open ones.
  """
  width, length = beams.live.shape[1], view.step + 1
  ended = jnp.where(ends, found.scores / divisor, NEVER)
  lines = _pick(view.tokens, found.parents).at[:, :, view.step].set(found.ids)
  scores, best = jax.lax.top_k(jnp.concatenate([beams.scores, ended], axis=1), width)
  lengths = jnp.concatenate([beams.lengths, jnp.where(ends, length, 0)], axis=1)
  tokens = _pick(jnp.concatenate([beams.tokens, lines], axis=1), best)
  lengths = _pick(lengths, best)
  tokens = jnp.where(lengths[..., None] > 0, tokens, 0)
  open_scores = jnp.where(found.stops | ~found.real, NEVER, found.scores)
  live, going = jax.lax.top_k(open_scores, width)
  beams = Beams(live, tokens, scores, lengths)
  return beams, _pick(found.ids, going), _pick(found.parents, going)


def _pick(x: jax.Array, index: jax.Array) -> jax.Array:
  """`x` `[batch, n, ...]` at `index` `[batch, m]` → `[batch, m, ...]`."""
  return jax.vmap(lambda row, i: row[i])(x, index)
