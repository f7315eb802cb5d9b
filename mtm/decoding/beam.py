"""Beam search with a length penalty (1609.08144, §7; the early end is T5X's)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from mtm.decoding._base import NEVER, Choice, Generated, View
from mtm.decoding._beams import Beams, advance, begin, continuations
from mtm.errors import UserError


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
    """See `Policy.start`."""
    return begin(batch, self.size, length)

  def step(self, state: Beams, view: View) -> Choice:
    """See `Policy.step`."""
    found = continuations(state.live, view)
    state, ids, parents = advance(state, view, found, found.stops, self._penalty(view.step + 1))
    # The longest hypothesis is divided by the largest penalty, and log-probabilities only fall.
    hope = state.live[:, 0] / self._penalty(view.tokens.shape[-1])
    done = (jnp.min(state.lengths, axis=1) > 0) & (state.scores[:, -1] > hope)
    return Choice(state, ids, parents, done)

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


EXAMPLES = [Beam(3), Beam(2, alpha=0.0)]
