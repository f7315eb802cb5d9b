"""What mixers share that cut a row into chunks, of which each looks at a few: cost grows with the
length times the window.

Letters beyond those of `mtm.axes`: N is the tokens of a row, padding included, C its chunks, Q the
tokens of a chunk and S those that a chunk looks at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtm.parts.context import Context
from mtm.parts.patterns._algebra import Pattern

HIDDEN = -1e9  # the score of a key that a query may not see


class Facts(NamedTuple):
  """What patterns read of tokens, arrays of one shape, `[batch, 1, tokens]` to begin with.

  Attributes:
    place: int32 index in the row.
    segment: int32 document, 0 at padding; None: all tokens are of one.
    labels: further facts by name.
  """

  place: jax.Array
  segment: jax.Array | None
  labels: Mapping[str, jax.Array]


def facts(context: Context, length: int, padding: int = 0) -> Facts:
  """Those of a row's tokens, and of `padding` more at its end that nobody sees."""

  def padded(values: jax.Array) -> jax.Array:
    return jnp.pad(values, ((0, 0), (0, padding)))[:, None]

  rows = context.positions.shape[0]
  place = jnp.broadcast_to(jnp.arange(length + padding, dtype=jnp.int32), (rows, length + padding))
  segment = context.segments
  if segment is None and padding:
    segment = jnp.ones((rows, length), jnp.int32)
  labels = {name: padded(label) for name, label in context.labels.items()}
  return Facts(place[:, None], None if segment is None else padded(segment), labels)


def sees(pattern: Pattern, of_q: Facts, of_k: Facts) -> jax.Array:
  """Whether queries see keys, by the pattern and in their own document: bool `[..., Q, S]`.

  Args:
    pattern: the same for all heads.
    of_q: `[..., Q]`.
    of_k: `[..., S]`.
  """

  def pair(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    return a[..., :, None], b[..., None, :]

  labels = {name: pair(label, of_k.labels[name]) for name, label in of_q.labels.items()}
  q, k = pair(of_q.place, of_k.place)
  seen = pattern.visible(q, k, labels)
  if of_q.segment is not None and of_k.segment is not None:
    mine, its = pair(of_q.segment, of_k.segment)
    seen = seen & (mine == its) & (its > 0)
  return jnp.asarray(seen)


def cut(x_BHN: jax.Array, size: int) -> jax.Array:
  """`[B, H, N, ...]` → `[B, H, C, Q, ...]` with Q = `size`, which divides N."""
  return x_BHN.reshape(*x_BHN.shape[:2], -1, size, *x_BHN.shape[3:])


def around(x_BHCQ: jax.Array, before: int, after: int) -> jax.Array:
  """`[B, H, C, Q, ...]` → `[B, H, C, S, ...]`: each chunk with its neighbours.

  The chunks form a ring: the last stands before the first. Where there are fewer of them than a
  chunk looks at, some are there several times.
  """
  turned = [jnp.roll(x_BHCQ, -away, axis=2) for away in range(-before, after + 1)]
  return jnp.concatenate(turned, axis=3)
