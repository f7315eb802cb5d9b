"""What every attention pattern must keep, over the EXAMPLES of `mtm.parts.patterns`."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from mtm.parts.patterns import Pattern
from mtm.parts.patterns._algebra import EMPTY, FULL, PARTIAL, visible
from tests.contracts.discovered import examples

EXAMPLES = examples("mtm.parts.patterns")
each = pytest.mark.parametrize("pattern", EXAMPLES)


def labels(queries: int, keys: int, seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Random labels of two examples, as every pattern may read them."""
  rng = np.random.default_rng(seed)
  return {
    "segment": (rng.integers(0, 3, (2, queries)), rng.integers(0, 3, (2, keys))),
    "prefix": (rng.integers(0, 2, (2, queries)), rng.integers(0, 2, (2, keys))),
  }


def seen(pattern: Pattern, queries: int, keys: int, seed: int = 0) -> np.ndarray:
  """`[2, queries, keys]`."""
  places = jnp.arange(queries), jnp.arange(keys)
  pairs = {n: (jnp.asarray(a), jnp.asarray(b)) for n, (a, b) in labels(queries, keys, seed).items()}
  return np.broadcast_to(visible(pattern, *places, pairs), (2, queries, keys))


def dense(pattern: Pattern, queries: int, keys: int) -> np.ndarray:
  """`mask` for each pair of places on its own."""
  out = np.zeros((queries, keys), bool)
  for q, k in itertools.product(range(queries), range(keys)):
    out[q, k] = bool(np.asarray(pattern.mask(np.array([[q]]), np.array([[k]]))).item())
  return out


@each
def test_block_map_covers_the_mask(pattern: Pattern) -> None:
  for queries, keys, block in ((12, 12, 4), (10, 13, 4), (7, 5, 8)):
    mask = dense(pattern, queries, keys)
    map_ = pattern.block_map(queries, keys, block)
    assert map_.shape == (-(-queries // block), -(-keys // block))
    for row, column in np.ndindex(*map_.shape):
      tile = mask[row * block : (row + 1) * block, column * block : (column + 1) * block]
      whole = tile.shape[1] == block
      wanted = FULL if tile.all() and whole and pattern.positional else PARTIAL
      assert map_[row, column] == (wanted if tile.any() else EMPTY)


@each
def test_mask_shows_whatever_labels_can_show(pattern: Pattern) -> None:
  mask = dense(pattern, 9, 11)
  for seed in range(4):
    shown = seen(pattern, 9, 11, seed)
    assert not (shown & ~mask).any()
    if pattern.positional:
      np.testing.assert_array_equal(shown, np.broadcast_to(mask, shown.shape))


@each
def test_mask_is_the_same_in_numpy_and_jax(pattern: Pattern) -> None:
  q, k = np.arange(9)[:, None], np.arange(11)[None, :]
  ours = pattern.mask(q, k)
  assert isinstance(ours, np.ndarray), "a block map must not start JAX"
  np.testing.assert_array_equal(ours, pattern.mask(jnp.asarray(q), jnp.asarray(k)))


@each
def test_patterns_are_values(pattern: Pattern) -> None:
  """A kernel compiles once for equal patterns."""
  twin = type(pattern)(**{f: getattr(pattern, f) for f in pattern.__dataclass_fields__})
  assert twin == pattern and hash(twin) == hash(pattern)
  with pytest.raises(AttributeError):
    pattern.anything = 1


ALIKE = [p for p in EXAMPLES if getattr(p, "values", [p])[0].by_head is None]


@pytest.mark.parametrize("b", ALIKE)
@pytest.mark.parametrize("a", ALIKE)
def test_algebra_is_that_of_sets(a: Pattern, b: Pattern) -> None:
  of_a, of_b = seen(a, 6, 7), seen(b, 6, 7)
  np.testing.assert_array_equal(seen(a & b, 6, 7), of_a & of_b)
  np.testing.assert_array_equal(seen(a | b, 6, 7), of_a | of_b)
  np.testing.assert_array_equal(seen(~a, 6, 7), ~of_a)
  np.testing.assert_array_equal(seen(~(a & b), 6, 7), seen(~a | ~b, 6, 7))
  mask = np.broadcast_to((~(a & ~b)).mask(np.arange(6)[:, None], np.arange(7)[None]), (6, 7))
  assert not (seen(~(a & ~b), 6, 7) & ~mask).any()


@each
def test_places_with_a_batch_axis_are_places_of_their_own_row(pattern: Pattern) -> None:
  q = jnp.asarray([[3, 4], [0, 7]])
  k = jnp.arange(9)
  of = {n: (a[:, :2], b) for n, (a, b) in labels(2, 9).items()}
  of = {n: (jnp.asarray(a), jnp.asarray(b)) for n, (a, b) in of.items()}
  both = np.broadcast_to(visible(pattern, q, k, of), (2, 2, 9))
  for row in range(2):
    alone = {n: (a[row : row + 1], b[row : row + 1]) for n, (a, b) in of.items()}
    one = np.broadcast_to(visible(pattern, q[row], k, alone), (1, 2, 9))
    np.testing.assert_array_equal(both[row : row + 1], one)
