"""Beam search with a length penalty (1609.08144, §7; the early end is T5X's)."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtm.decoding._base import NEVER, Choice, Generated, View
from mtm.errors import UserError


class Beams(NamedTuple):
  """The state of a search.

  Attributes:
    live: `[batch, size]` float32, log-probabilities of the open hypotheses, best first.
    tokens: `[batch, size, length]` int32, the best ended hypotheses, best first.
    scores: `[batch, size]` float32, theirs; `NEVER` where there is none yet.
    lengths: `[batch, size]` int32, theirs; 0 where there is none yet.
  """

  live: jax.Array
  tokens: jax.Array
  scores: jax.Array
  lengths: jax.Array


@dataclasses.dataclass(frozen=True)
class Beam:
  """Keeps the `size` likeliest open hypotheses and the `size` best ended ones.

  A score is log-probability / ((5 + length) / 6)^alpha, where length counts generated tokens, the
  end included. An example is done when no open hypothesis can still beat its worst ended one. If
  none ended within the length, the open ones are the result, and their scores are plain
  log-probabilities (as in T5X). Results are best first. `MeanBeam` searches as `transformers` does.

  Attributes:
    size: number of beams.
    alpha: how strongly length is rewarded; at least 0, which rewards it not at all.
  """

  size: int = 4
  alpha: float = 0.6

  def __post_init__(self) -> None:
    if self.size < 1:
      raise UserError(f"beam size = {self.size}: must be at least 1")
    if self.alpha < 0:
      raise UserError(f"beam alpha = {self.alpha}: must be at least 0")

  @property
  def width(self) -> int:
    """Hypotheses an example."""
    return self.size

  def start(self, batch: int, length: int) -> Beams:
    """One open hypothesis, the empty one; the others are never."""
    never = jnp.full((batch, self.size), NEVER)
    return Beams(
      never.at[:, 0].set(0.0),
      jnp.zeros((batch, self.size, length), jnp.int32),
      never,
      jnp.zeros((batch, self.size), jnp.int32),
    )

  def step(self, state: Beams, view: View) -> Choice:
    """See `Policy.step`."""
    batch, width, vocab = view.log_probs.shape
    total = state.live[..., None] + view.log_probs
    # However many of these end, at least `size` go on: twice as many as beams where one id ends.
    kept = min((1 + len(view.endings)) * width, width * vocab)
    candidates, index = jax.lax.top_k(total.reshape(batch, width * vocab), kept)
    parents, ids = index // vocab, (index % vocab).astype(jnp.int32)
    real = candidates > NEVER / 2
    ends = view.ends(ids) & real

    length = view.step + 1
    ended = jnp.where(ends, candidates / self._penalty(length), NEVER)
    lines = pick(view.tokens, parents).at[:, :, view.step].set(ids)
    scores, best = jax.lax.top_k(jnp.concatenate([state.scores, ended], axis=1), width)
    lengths = jnp.concatenate([state.lengths, jnp.where(ends, length, 0)], axis=1)
    tokens = pick(jnp.concatenate([state.tokens, lines], axis=1), best)
    lengths = pick(lengths, best)
    tokens = jnp.where(lengths[..., None] > 0, tokens, 0)

    live, going = jax.lax.top_k(jnp.where(ends | ~real, NEVER, candidates), width)
    # The longest hypothesis is divided by the largest penalty, and log-probabilities only fall.
    hope = live[:, 0] / self._penalty(view.tokens.shape[-1])
    done = (jnp.min(lengths, axis=1) > 0) & (scores[:, -1] > hope)
    state = Beams(live, tokens, scores, lengths)
    return Choice(state, pick(ids, going), pick(parents, going), done)

  def finish(self, state: Beams, tokens: jax.Array) -> Generated:
    """See `Policy.finish`."""
    any_ended = jnp.any(state.lengths > 0, axis=1, keepdims=True)
    open_lengths = jnp.where(state.live > NEVER / 2, tokens.shape[-1], 0)
    return Generated(
      jnp.where(any_ended[..., None], state.tokens, tokens),
      jnp.where(any_ended, state.scores, state.live),
      jnp.where(any_ended, state.lengths, open_lengths),
    )

  def _penalty(self, length: jax.Array | int) -> jax.Array:
    return ((5.0 + jnp.asarray(length, jnp.float32)) / 6.0) ** self.alpha


def pick(x: jax.Array, index: jax.Array) -> jax.Array:
  """`x` `[batch, n, ...]` at `index` `[batch, m]` → `[batch, m, ...]`."""
  return jax.vmap(lambda row, i: row[i])(x, index)


EXAMPLES = [Beam(3), Beam(2, alpha=0.0)]
