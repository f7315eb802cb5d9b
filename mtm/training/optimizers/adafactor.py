"""Adafactor (1804.04235), as T5X has it: factored second moments, steps relative to parameters."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import optax

from mtm.training.optimizers._base import Group, Rate, clip, decay, grouped, per_layer


def adafactor(
  learning_rate: Rate,
  decay_rate: float = 0.8,
  step_offset: int = 0,
  momentum: float | None = None,
  clipping_threshold: float | None = 1.0,
  multiply_by_parameter_scale: bool = True,
  min_dim_size_to_factor: int = 128,
  epsilon1: float = 1e-30,
  epsilon2: float = 1e-3,
  weight_decay: float = 0.0,
  clip_norm: float | None = None,
  groups: Sequence[Group] = (),
) -> optax.GradientTransformation:
  """Adafactor.

  A matrix whose sides both reach `min_dim_size_to_factor` keeps one second moment a row and one a
  column. Attention projections count as `[embed, heads · head_dim]`.

  Args:
    learning_rate: a number or a schedule.
    decay_rate: the second moment's decay at step t is 1 - t^-decay_rate.
    step_offset: where t begins to count, for a run that counts on from a checkpoint.
    momentum: decay of an average of the updates (T5X's beta1); None: none is kept.
    clipping_threshold: largest root mean square of an update before the learning rate; None: any.
    multiply_by_parameter_scale: whether steps are relative to the parameter's root mean square.
    min_dim_size_to_factor: see above.
    epsilon1: added to squared gradients.
    epsilon2: least parameter scale.
    weight_decay: as in the package, but not times the learning rate: the share of a parameter
      that a step takes away, as in T5X.
    clip_norm, groups: see the package.
  """
  rules = [
    optax.scale_by_factored_rms(
      decay_rate=decay_rate,
      step_offset=step_offset,
      min_dim_size_to_factor=min_dim_size_to_factor,
      epsilon=epsilon1,
    )
  ]
  if clipping_threshold is not None:
    rules.append(optax.clip_by_block_rms(clipping_threshold))
  if multiply_by_parameter_scale:
    rules.append(optax.scale_by_param_block_rms(epsilon2))
  averaged = [] if momentum is None else [optax.ema(momentum, debias=False)]
  return optax.chain(
    clip(clip_norm),
    per_layer(optax.chain(*rules)),
    optax.scale_by_learning_rate(learning_rate, flip_sign=False),
    *averaged,
    decay(weight_decay, groups),
    optax.scale(-1.0),
    grouped(groups),
  )


EXAMPLES = [
  adafactor,
  functools.partial(adafactor, min_dim_size_to_factor=4, momentum=0.9),
  functools.partial(adafactor, clipping_threshold=None, multiply_by_parameter_scale=False),
]
