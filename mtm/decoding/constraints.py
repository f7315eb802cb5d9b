"""Which tokens may come next, whatever the policy."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mtm.decoding._base import View


class Constraint(Protocol):
  """A frozen dataclass: `view → bool [batch or 1, width or 1, vocab]`, True where allowed."""

  def __call__(self, view: View) -> jax.Array:
    """The tokens that may come next."""


@dataclasses.dataclass(frozen=True)
class MinLength:
  """No end before `length` tokens, the end not counted."""

  length: int

  def __call__(self, view: View) -> jax.Array:
    ids = jnp.arange(view.logits.shape[-1])
    return (~view.ends(ids) | (view.step >= self.length))[None, None]


@dataclasses.dataclass(frozen=True)
class Forbid:
  """Never these ids, such as sentinels or padding."""

  ids: tuple[int, ...]

  def __call__(self, view: View) -> jax.Array:
    ids = jnp.arange(view.logits.shape[-1])
    return jnp.all(ids[:, None] != jnp.array(self.ids, jnp.int32), axis=1)[None, None]


@dataclasses.dataclass(frozen=True)
class NoRepeat:
  """No sequence of `ngram` generated tokens twice in one hypothesis (1705.04304, §2.5)."""

  ngram: int

  def __call__(self, view: View) -> jax.Array:
    batch, width, length = view.tokens.shape
    vocab, n = view.logits.shape[-1], self.ngram
    allowed = jnp.ones((batch, width, vocab), bool)
    if length < n:
      return allowed
    places = jnp.arange(length - n + 1)[:, None] + jnp.arange(n)
    grams = view.tokens[:, :, places]  # [batch, width, places, n]
    recent = jnp.clip(view.step - (n - 1) + jnp.arange(n - 1), 0)
    same = jnp.all(grams[..., : n - 1] == view.tokens[:, :, None, recent], axis=-1)
    same &= (places[:, -1] < view.step) & (view.step >= n - 1)
    banned = jnp.where(same, grams[..., -1], vocab)
    rows, columns = jnp.arange(batch)[:, None, None], jnp.arange(width)[:, None]
    return allowed.at[rows, columns, banned].set(False, mode="drop")


@dataclasses.dataclass(frozen=True)
class Forced:
  """One of these ids at this step, counted from 0, such as a language's code first (2001.08210)."""

  step: int
  ids: tuple[int, ...]

  def __call__(self, view: View) -> jax.Array:
    ids = jnp.arange(view.logits.shape[-1])
    asked = jnp.any(ids[:, None] == jnp.array(self.ids, jnp.int32), axis=1)
    return (asked | (view.step != self.step))[None, None]


@dataclasses.dataclass(frozen=True, eq=False)
class Until:
  """Nothing but the end after a text that holds one of some stops; see `mtm.programs.stops`.

  Attributes:
    table: int32 `[states, vocab]`, the state after a token; from the last one nothing leads away.
    longest: the most tokens that spell a stop.
  """

  table: np.ndarray
  longest: int

  def __call__(self, view: View) -> jax.Array:
    table = jnp.asarray(self.table)
    state = jnp.zeros(view.tokens.shape[:2], jnp.int32)
    for back in range(self.longest, 0, -1):
      place = view.step - back
      token = jnp.take(view.tokens, jnp.maximum(place, 0), axis=2)
      state = jnp.where(place < 0, state, table[state, token])
    stopped = state == len(self.table) - 1
    ids = jnp.arange(view.logits.shape[-1])
    return ~stopped[..., None] | view.ends(ids)[None, None]


EXAMPLES = [
  MinLength(3),
  Forbid((1, 4)),
  NoRepeat(2),
  Forced(0, (3,)),
  Until(np.array([[0, 0, 1], [1, 1, 1]]), 1),
]
