"""What the engine's programs do to arrays."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from mtm.serving.rows import fitted


def test_columns_are_added_as_zeros_and_cut_off() -> None:
  x = jnp.arange(6).reshape(2, 3)
  np.testing.assert_array_equal(fitted(x, (2, 4)), [[0, 1, 2, 0], [3, 4, 5, 0]])
  np.testing.assert_array_equal(fitted(x, (3, 2)), [[0, 1], [3, 4], [0, 0]])
  assert fitted(x, (2, 3)) is x
