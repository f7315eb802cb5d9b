"""LAMB, against optax's."""

import jax.numpy as jnp
import numpy as np
import optax

from mtm.training.optimizers.lamb import lamb
from tests.training.optimizers import trees


def test_it_is_optax_lamb():
  theirs = optax.lamb(0.1, 0.8, 0.95, 1e-6, weight_decay=0.2, mask=trees.DECAYED)
  trees.assert_same_walk(lamb(0.1, 0.8, 0.95, 1e-6, weight_decay=0.2), theirs)


def test_each_layers_step_is_as_long_as_its_parameter_says():
  params = trees.stacked(0)
  after = trees.walk(lamb(0.1, weight_decay=0.0), params, [trees.stacked(1)])
  before, after = (
    t["decoder"]["stack"]["period_0"]["channel"]["wi"]["kernel"] for t in (params, after)
  )
  lengths = jnp.linalg.norm(after - before, axis=(1, 2)) / jnp.linalg.norm(before, axis=(1, 2))
  np.testing.assert_allclose(lengths, 0.1, rtol=1e-5)  # 0.3, 1 and 4 times as large
