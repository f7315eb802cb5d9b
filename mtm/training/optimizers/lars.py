"""LARS (1708.03888): momentum SGD whose steps are scaled per layer to the parameter's norm."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import optax

from mtm.training.optimizers._base import (
  NOT_DECAYED,
  Group,
  Rate,
  clip,
  decay,
  grouped,
  per_layer,
)


def lars(
  learning_rate: Rate,
  momentum: float = 0.9,
  trust_coefficient: float = 0.001,
  eps: float = 0.0,
  unscaled: str = NOT_DECAYED,
  weight_decay: float = 0.0,
  clip_norm: float | None = None,
  groups: Sequence[Group] = (),
) -> optax.GradientTransformation:
  """LARS; the learning rate lies inside the momentum, as in the paper.

  Args:
    learning_rate: a number or a schedule.
    momentum: decay of the momentum.
    trust_coefficient: a step's length relative to the parameter's, at learning rate 1.
    eps: added to the update's norm.
    unscaled: a regular expression; parameters whose path it matches take plain momentum steps.
    weight_decay: as in the package, but inside the trust ratio.
    clip_norm, groups: see the package.
  """
  return optax.chain(
    clip(clip_norm),
    decay(weight_decay, groups),
    per_layer(
      optax.scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=eps),
      lambda path: not re.search(unscaled, path),
    ),
    optax.scale_by_learning_rate(learning_rate),
    optax.trace(momentum),
    grouped(groups),
  )


EXAMPLES = [functools.partial(lars, trust_coefficient=0.1), functools.partial(lars, eps=1e-6)]
