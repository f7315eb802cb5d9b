"""AdamW (1711.05101)."""

from __future__ import annotations

from collections.abc import Sequence

import optax

from mtm.training.optimizers._base import Group, Rate, clip, decay, grouped


def adamw(
  learning_rate: Rate,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  weight_decay: float = 0.01,
  clip_norm: float | None = None,
  groups: Sequence[Group] = (),
) -> optax.GradientTransformation:
  """Adam with decoupled weight decay.

  Args:
    learning_rate: a number or a schedule.
    b1, b2: decay of the first and second moment.
    eps: added to the root of the second moment.
    weight_decay, clip_norm, groups: see the package.
  """
  return optax.chain(
    clip(clip_norm),
    optax.scale_by_adam(b1, b2, eps),
    decay(weight_decay, groups),
    optax.scale_by_learning_rate(learning_rate),
    grouped(groups),
  )


EXAMPLES = [adamw]
