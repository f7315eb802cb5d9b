"""LARS, against optax's."""

import optax

from mtm.training.optimizers.lars import lars
from tests.training.optimizers import trees


def test_it_is_optax_lars():
  theirs = optax.lars(
    2.0, 0.2, weight_decay_mask=trees.DECAYED, trust_coefficient=0.01, eps=1e-6,
    trust_ratio_mask=trees.DECAYED, momentum=0.8,
  )  # fmt: skip
  ours = lars(2.0, 0.8, trust_coefficient=0.01, eps=1e-6, weight_decay=0.2)
  trees.assert_same_walk(ours, theirs)


def test_every_parameter_can_have_a_trust_ratio():
  ours = lars(2.0, 0.8, trust_coefficient=0.01, unscaled="$^")
  trees.assert_same_walk(ours, optax.lars(2.0, trust_coefficient=0.01, momentum=0.8))
