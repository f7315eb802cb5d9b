"""Rows choose by rules of their own, and as the policies do that they name."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from mtm.decoding import sample
from mtm.serving.choose import filtered


def test_each_row_is_filtered_as_if_alone() -> None:
  scores = jnp.asarray(np.random.default_rng(0).normal(0, 2, (6, 11)).astype(np.float32))
  scores = scores.at[5].set(1.0)  # all alike
  top_k, top_p = [0, 3, 0, 4, 20, 2], [1.0, 1.0, 0.5, 0.3, 0.9, 1.0]
  found = filtered(scores, jnp.asarray(top_k, jnp.int32), jnp.asarray(top_p, jnp.float32))
  for row, (k, p) in enumerate(zip(top_k, top_p, strict=True)):
    wanted = sample.filtered(scores[row : row + 1], k, p)[0]
    np.testing.assert_array_equal(np.asarray(found[row]) > -1e6, np.asarray(wanted) > -1e6)
    np.testing.assert_array_equal(found[row], wanted)
