"""Beam search by log-probability per token, as fairseq and `transformers` have it."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtm.decoding._base import NEVER, Choice, Generated, View
from mtm.decoding.beam import pick
from mtm.errors import UserError


class MeanBeams(NamedTuple):
  """The state of a search.

  Attributes:
    live: `[batch, size]` float32, log-probabilities of the open hypotheses, best first.
    tokens: `[batch, size, length]` int32, the best ended hypotheses, best first.
    scores: `[batch, size]` float32, theirs; `NEVER` where there is none yet.
    lengths: `[batch, size]` int32, theirs; 0 where there is none yet.
    done: `[batch]` bool, whether the ended hypotheses stay as they are.
  """

  live: jax.Array
  tokens: jax.Array
  scores: jax.Array
  lengths: jax.Array
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
    """One open hypothesis, the empty one; the others are never."""
    never = jnp.full((batch, self.size), NEVER)
    return MeanBeams(
      never.at[:, 0].set(0.0),
      jnp.zeros((batch, self.size, length), jnp.int32),
      never,
      jnp.zeros((batch, self.size), jnp.int32),
      jnp.zeros(batch, bool),
    )

  def step(self, state: MeanBeams, view: View) -> Choice:
    """See `Policy.step`."""
    batch, width, vocab = view.log_probs.shape
    total = state.live[..., None] + view.log_probs
    # However many of these end, at least `size` go on: twice as many as beams where one id ends.
    kept = min((1 + len(view.endings)) * width, width * vocab)
    candidates, index = jax.lax.top_k(total.reshape(batch, width * vocab), kept)
    parents, ids = index // vocab, (index % vocab).astype(jnp.int32)
    real = candidates > NEVER / 2
    stops = view.ends(ids) & real

    length = view.step + 1
    divisor = length.astype(jnp.float32) ** self.power
    last = length == view.tokens.shape[-1]
    first = jnp.arange(kept)[None] < width
    ends = jnp.where(last, real, stops) & first & ~state.done[:, None]
    ended = jnp.where(ends, candidates / divisor, NEVER)
    lines = pick(view.tokens, parents).at[:, :, view.step].set(ids)
    scores, best = jax.lax.top_k(jnp.concatenate([state.scores, ended], axis=1), width)
    lengths = jnp.concatenate([state.lengths, jnp.where(ends, length, 0)], axis=1)
    tokens = pick(jnp.concatenate([state.tokens, lines], axis=1), best)
    lengths = pick(lengths, best)
    tokens = jnp.where(lengths[..., None] > 0, tokens, 0)

    live, going = jax.lax.top_k(jnp.where(stops | ~real, NEVER, candidates), width)
    full = jnp.min(lengths, axis=1) > 0
    enough = self.full_is_done | (live[:, 0] / divisor <= scores[:, -1])
    done = state.done | (full & enough)
    state = MeanBeams(live, tokens, scores, lengths, done)
    return Choice(state, pick(ids, going), pick(parents, going), done)

  def finish(self, state: MeanBeams, tokens: jax.Array) -> Generated:
    """See `Policy.finish`; at the full length every hypothesis has ended."""
    del tokens
    return Generated(state.tokens, state.scores, state.lengths)


EXAMPLES = [MeanBeam(3), MeanBeam(2, power=-0.5, full_is_done=True)]
