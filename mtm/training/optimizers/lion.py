"""Lion (2302.06675): the sign of an interpolated momentum."""

from __future__ import annotations

from collections.abc import Sequence

import optax

from mtm.training.optimizers._base import Group, Rate, clip, decay, grouped


def lion(
  learning_rate: Rate,
  b1: float = 0.9,
  b2: float = 0.99,
  weight_decay: float = 0.0,
  clip_norm: float | None = None,
  groups: Sequence[Group] = (),
) -> optax.GradientTransformation:
  """Lion; it wants a learning rate 3 to 10 times below AdamW's, and as much more weight decay.

  Args:
    learning_rate: a number or a schedule.
    b1: weight of the momentum in the update.
    b2: decay of the momentum.
    weight_decay, clip_norm, groups: see the package.
  """
  return optax.chain(
    clip(clip_norm),
    optax.scale_by_lion(b1, b2),
    decay(weight_decay, groups),
    optax.scale_by_learning_rate(learning_rate),
    grouped(groups),
  )


EXAMPLES = [lion]
