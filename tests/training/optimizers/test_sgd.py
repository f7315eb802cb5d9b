"""SGD, against optax's."""

import optax

from mtm.training.optimizers.sgd import sgd
from tests.training.optimizers import trees


def test_it_is_optax_sgd():
  trees.assert_same_walk(sgd(0.1, 0.8, nesterov=True), optax.sgd(0.1, 0.8, nesterov=True))
  trees.assert_same_walk(sgd(0.1, 0.0), optax.sgd(0.1))
