"""AdamW, against optax's."""

import optax

from mtm.training.optimizers.adamw import adamw
from tests.training.optimizers import trees


def test_it_is_optax_adamw():
  theirs = optax.adamw(0.1, 0.8, 0.95, 1e-6, weight_decay=0.2, mask=trees.DECAYED)
  trees.assert_same_walk(adamw(0.1, 0.8, 0.95, 1e-6, weight_decay=0.2), theirs)


def test_clipping_and_schedule_are_optax_ones():
  rate = optax.linear_schedule(0.1, 0.0, 4)
  theirs = optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(rate, weight_decay=0.0))
  trees.assert_same_walk(adamw(rate, weight_decay=0.0, clip_norm=0.5), theirs)
