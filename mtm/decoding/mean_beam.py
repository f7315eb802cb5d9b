"""Beam search by log-probability per token, as fairseq and `transformers` have it."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtm.decoding._base import Choice, Generated, View
from mtm.decoding._beams import Beams, advance, begin, continuations
from mtm.errors import UserError


class MeanBeams(NamedTuple):
  """The hypotheses, and which examples are done, bool `[batch]`: they take no more."""

  beams: Beams
  done: jax.Array


@dataclasses.dataclass(frozen=True)
class MeanBeam:
  """Keeps the `size` likeliest open hypotheses and the `size` best ended ones.

  Take it where tokens should be those of `transformers` with `num_beams=size`,
  `length_penalty=power` and `early_stopping=full_is_done`. It differs from `Beam`, which is T5X's,
  in four things: a score is log-probability / length^power, where length counts generated tokens,
  the end included; only a hypothesis among the `size` best candidates can end; those still open
  when the length is used up end there and compete; and an example is done when the best open
  hypothesis, were it to end now, would not beat the worst of `size` ended ones, although with
  `power` > 0 a longer one might.

  Attributes:
    size: number of beams.
    power: of the length that divides; 0 rewards length not at all, 1 takes the mean.
    full_is_done: whether an example is done as soon as `size` hypotheses have ended.
  """

  size: int = 4
  power: float = 1.0
  full_is_done: bool = False

  def __post_init__(self) -> None:
    if self.size < 1:
      raise UserError(f"beam size = {self.size}: must be at least 1")

  @property
  def width(self) -> int:
    """Hypotheses an example."""
    return self.size

  def start(self, batch: int, length: int) -> MeanBeams:
    """See `Policy.start`."""
    return MeanBeams(begin(batch, self.size, length), jnp.zeros(batch, bool))

  def step(self, state: MeanBeams, view: View) -> Choice:
    """See `Policy.step`."""
    found = continuations(state.beams.live, view)
    length = view.step + 1
    divisor = length.astype(jnp.float32) ** self.power
    last = length == view.tokens.shape[-1]
    first = jnp.arange(found.ids.shape[1])[None] < self.size
    ends = jnp.where(last, found.real, found.stops) & first & ~state.done[:, None]
    beams, ids, parents = advance(state.beams, view, found, ends, divisor)
    full = jnp.min(beams.lengths, axis=1) > 0
    enough = self.full_is_done | (beams.live[:, 0] / divisor <= beams.scores[:, -1])
    done = state.done | (full & enough)
    return Choice(MeanBeams(beams, done), ids, parents, done)

  def finish(self, state: MeanBeams, tokens: jax.Array) -> Generated:
    """See `Policy.finish`; at the full length every hypothesis has ended."""
    del tokens
    return Generated(state.beams.tokens, state.beams.scores, state.beams.lengths)


EXAMPLES = [MeanBeam(3), MeanBeam(2, power=-0.5, full_is_done=True)]
