"""Stochastic gradient descent with momentum."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import optax

from mtm.training.optimizers._base import Group, Rate, clip, decay, grouped


def sgd(
  learning_rate: Rate,
  momentum: float = 0.9,
  nesterov: bool = False,
  weight_decay: float = 0.0,
  clip_norm: float | None = None,
  groups: Sequence[Group] = (),
) -> optax.GradientTransformation:
  """Gradient descent; m ← momentum · m + g, then a step along m.

  Args:
    learning_rate: a number or a schedule.
    momentum: 0 for none (its slot is kept).
    nesterov: whether the step looks ahead by one momentum.
    weight_decay, clip_norm, groups: see the package.
  """
  return optax.chain(
    clip(clip_norm),
    optax.trace(momentum, nesterov),
    decay(weight_decay, groups),
    optax.scale_by_learning_rate(learning_rate),
    grouped(groups),
  )


EXAMPLES = [functools.partial(sgd, momentum=0.0), functools.partial(sgd, nesterov=True)]
