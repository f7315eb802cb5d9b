"""Lion, against optax's."""

import optax

from mtm.training.optimizers.lion import lion
from tests.training.optimizers import trees


def test_it_is_optax_lion():
  theirs = optax.lion(0.1, 0.8, 0.95, weight_decay=0.2, mask=trees.DECAYED)
  trees.assert_same_walk(lion(0.1, 0.8, 0.95, weight_decay=0.2), theirs)
