"""LAMB (1904.00962): Adam's update, scaled per layer to the parameter's norm."""

from __future__ import annotations

from collections.abc import Sequence

import optax

from mtm.training.optimizers._base import Group, Rate, clip, decay, grouped, per_layer


def lamb(
  learning_rate: Rate,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-6,
  weight_decay: float = 0.01,
  clip_norm: float | None = None,
  groups: Sequence[Group] = (),
) -> optax.GradientTransformation:
  """LAMB; every parameter of every layer has a trust ratio of its own, 1 where a norm is 0.

  Args:
    learning_rate: a number or a schedule.
    b1, b2: decay of the first and second moment.
    eps: added to the root of the second moment.
    weight_decay: as in the package, but inside the trust ratio.
    clip_norm, groups: see the package. The paper's code clips at 1.
  """
  return optax.chain(
    clip(clip_norm),
    optax.scale_by_adam(b1, b2, eps),
    decay(weight_decay, groups),
    per_layer(optax.scale_by_trust_ratio()),
    optax.scale_by_learning_rate(learning_rate),
    grouped(groups),
  )


EXAMPLES = [lamb]
