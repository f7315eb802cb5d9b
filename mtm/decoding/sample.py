"""Sampling with temperature, top-k (1805.04833) and nucleus filtering (1904.09751)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from mtm.decoding._base import NEVER, TokenByToken, View
from mtm.errors import UserError


@dataclasses.dataclass(frozen=True)
class Sample(TokenByToken):
  """Draws tokens; temperature comes first, then top-k, then top-p of what is left.

  A draw depends on the example's key, the number of the sample and the step only, so it is the same
  in any batch.

  Attributes:
    temperature: logits are divided by it; above 0.
    top_k: how many of the likeliest tokens may be drawn; 0: all.
    top_p: the fewest likeliest tokens that together hold this probability may be drawn.
    num_samples: independent samples an example.

  Raises:
    UserError: a number out of range; in `choose`: there are no keys.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  num_samples: int = 1

  def __post_init__(self) -> None:
    if not self.temperature > 0:
      raise UserError(f"temperature = {self.temperature}: must be above 0; for 0 take Greedy()")
    if self.top_k < 0:
      raise UserError(f"top_k = {self.top_k}: must be at least 1, or 0 for no limit")
    if not 0 < self.top_p <= 1:
      raise UserError(f"top_p = {self.top_p}: must be above 0 and at most 1")
    if self.num_samples < 1:
      raise UserError(f"num_samples = {self.num_samples}: must be at least 1")

  @property
  def width(self) -> int:  # type: ignore[override]
    """Hypotheses an example."""
    return self.num_samples

  def choose(self, view: View) -> jax.Array:
    """See `TokenByToken.choose`."""
    if view.keys is None:
      raise UserError("sampling needs a key for each example: give keys=example_keys(seed, ids)")
    scores = filtered(view.logits / self.temperature, self.top_k, self.top_p)

    def draw(key: jax.Array, sample: jax.Array, row: jax.Array) -> jax.Array:
      key = jax.random.fold_in(jax.random.fold_in(key, sample), view.step)
      return jax.random.categorical(key, row)

    over_samples = jax.vmap(draw, in_axes=(None, 0, 0))
    samples = jnp.arange(self.num_samples)
    drawn = jax.vmap(over_samples, in_axes=(0, None, 0))(view.keys, samples, scores)
    return drawn.astype(jnp.int32)


def filtered(scores: jax.Array, top_k: int = 0, top_p: float = 1.0) -> jax.Array:
  """`scores` `[..., vocab]` (logits), with `NEVER` at tokens that may not be drawn.

  Exactly `top_k` tokens stay, of equals those with the lower id. With `top_p`, a token stays while
  those likelier than it hold less than `top_p` together, so at least one stays.
  """
  if top_k >= scores.shape[-1]:
    top_k = 0
  if not top_k and top_p >= 1:
    return scores
  # Only the sorted head is needed: after top-k nothing beyond it can stay.
  best, ids = jax.lax.top_k(scores, top_k or scores.shape[-1])
  if top_p < 1:
    p = jax.nn.softmax(best, axis=-1)
    best = jnp.where(jnp.cumsum(p, axis=-1) - p < top_p, best, NEVER)
  return jnp.put_along_axis(jnp.full_like(scores, NEVER), ids, best, axis=-1, inplace=False)


def example_keys(seed: int, ids: jax.Array) -> jax.Array:
  """PRNG keys `[batch]` of the examples with these numbers `[batch]`, the same in any batch."""
  return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(jnp.asarray(ids))


EXAMPLES = [
  Sample(),
  Sample(temperature=0.7, top_k=3, num_samples=2),
  Sample(temperature=1.5, top_k=5, top_p=0.8),
]
