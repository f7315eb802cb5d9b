"""What chunked mixers share: chunks, their neighbours in a ring, and what patterns read of them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from mtm.parts.context import Context
from mtm.parts.mixers._chunks import around, cut, facts, sees
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.prefix import Prefix


def test_a_chunk_stands_between_its_neighbours_in_a_ring() -> None:
  x = cut(jnp.arange(6)[None, None], 2)
  np.testing.assert_array_equal(around(x, 1, 0)[0, 0], [[4, 5, 0, 1], [0, 1, 2, 3], [2, 3, 4, 5]])
  np.testing.assert_array_equal(around(x, 0, 1)[0, 0, 2], [4, 5, 0, 1])
  np.testing.assert_array_equal(around(x, 2, 1)[0, 0, 0], [2, 3, 4, 5, 0, 1, 2, 3])
  np.testing.assert_array_equal(around(x, 0, 0), x)


def test_added_padding_is_seen_by_nobody() -> None:
  of = facts(Context(jnp.zeros((2, 3), jnp.int32)), 3, padding=2)
  np.testing.assert_array_equal(of.segment[0, 0], [1, 1, 1, 0, 0])
  seen = np.asarray(sees(Causal(), of, of))[0, 0]
  np.testing.assert_array_equal(seen[:3], np.tril(np.ones((3, 5), bool)))
  assert not seen[:, 3:].any()


def test_documents_and_labels_hold_for_each_pair() -> None:
  segments, prefix = jnp.array([[1, 1, 2, 0]]), jnp.array([[1, 1, 0, 0]])
  context = Context(jnp.zeros((1, 4), jnp.int32), segments, {"prefix": prefix})
  of = facts(context, 4)
  seen = np.asarray(sees(Causal() | Prefix(), of, of))[0, 0]
  np.testing.assert_array_equal(seen, [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
