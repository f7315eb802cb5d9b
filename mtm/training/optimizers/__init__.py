"""Optimizers: each is a chain of optax parts, made by a function named as its module.

All take `learning_rate` (a number or a schedule), their own numbers, and the same four:

* `weight_decay`: decoupled, times the learning rate, on everything but biases, norm scales and
  position tables (`_base.NOT_DECAYED`); a `Group` says otherwise.
* `clip_norm`: gradients whose global norm is above it are scaled down to it; None: never.
* `groups`: learning-rate and weight-decay multipliers by parameter path, see `Group`.
"""

from mtm.training.optimizers._base import Group

__all__ = ["Group"]
