"""Learning-rate schedules: each function returns `step → float32 learning rate`.

`step` is the number of steps taken before, so it is 0 at the first; a warmup starts from 0 there.
`final` is the share of the peak that is left at the end, not a learning rate.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from mtm.errors import UserError
from mtm.types import Array, Schedule

Shape = Callable[[Array], Array]  # share of the decay that is done, 0 to 1 → share of the peak left


def constant(learning_rate: float, warmup_steps: int = 0) -> Schedule:
  """`learning_rate` throughout, after a linear warmup.

  T5X's `constant` and, with `warmup_steps`, its `constant * linear_warmup`.
  """
  _check("constant", warmup_steps=warmup_steps)
  return lambda step: learning_rate * _ramp(step, warmup_steps)


def linear(
  learning_rate: float, total_steps: int, warmup_steps: int = 0, final: float = 0.0
) -> Schedule:
  """Linear warmup, then a straight line down to `final` of the peak at `total_steps`: BERT's.

  Raises:
    UserError: the warmup leaves no step to decay in.
  """
  return _decayed("linear", learning_rate, total_steps, warmup_steps, None, final, straight)


def cosine(
  learning_rate: float, total_steps: int, warmup_steps: int = 0, final: float = 0.0
) -> Schedule:
  """Linear warmup, then half a cosine down to `final` of the peak at `total_steps` (1608.03983).

  Raises:
    UserError: the warmup leaves no step to decay in.
  """
  return _decayed("cosine", learning_rate, total_steps, warmup_steps, None, final, half_cosine)


def wsd(
  learning_rate: float,
  total_steps: int,
  decay_steps: int,
  warmup_steps: int = 0,
  final: float = 0.0,
  shape: Shape | None = None,
) -> Schedule:
  """Warmup, stable, decay (2404.06395): the peak is held until `decay_steps` before the end.

  Args:
    learning_rate: the peak.
    total_steps: where the decay ends.
    decay_steps: how long it takes.
    warmup_steps: length of the linear warmup.
    final: share of the peak left at the end.
    shape: of the decay: `straight` (None), `half_cosine`, or `one_minus_sqrt` (2405.18392).

  Raises:
    UserError: warmup and decay do not fit into `total_steps`.
  """
  return _decayed(
    "wsd", learning_rate, total_steps, warmup_steps, decay_steps, final, shape or straight
  )


def inverse_sqrt(embed: int, warmup_steps: int = 4000, scale: float = 1.0) -> Schedule:
  """Vaswani et al. (1706.03762, §5.3): scale · embed^-½ · min(t^-½, t · warmup_steps^-1½).

  `t` counts from 1; the peak is scale / √(embed · warmup_steps) at `t = warmup_steps`.

  Args:
    embed: the model's width.
    warmup_steps: length of the linear warmup, at least 1.
    scale: multiplies all.
  """
  _check("inverse_sqrt", 1, embed=embed, warmup_steps=warmup_steps)

  def schedule(step: Array) -> Array:
    t = jnp.asarray(step, jnp.float32) + 1.0
    return scale * embed**-0.5 * jnp.minimum(t**-0.5, t * warmup_steps**-1.5)

  return schedule


def rsqrt(base_learning_rate: float = 1.0, warmup_steps: int = 10_000) -> Schedule:
  """T5X's `constant * rsqrt_decay`: base / √max(step, warmup_steps), the pretraining of T5.

  The learning rate is flat, not rising, over the first `warmup_steps`.
  """
  _check("rsqrt", 1, warmup_steps=warmup_steps)
  return lambda step: (
    base_learning_rate / jnp.sqrt(jnp.maximum(jnp.asarray(step, jnp.float32), warmup_steps))
  )


def warmed_up(schedule: Schedule, steps: int) -> Schedule:
  """`schedule` times T5X's `linear_warmup`: min(1, step / steps)."""
  _check("warmed_up", steps=steps)
  return lambda step: schedule(step) * _ramp(step, steps)


def delayed(schedule: Schedule, start: int) -> Schedule:
  """`schedule` as if step `start` were its first: for a run that counts on from a checkpoint.

  T5X's `step_offset`.
  """
  return lambda step: schedule(jnp.maximum(step - start, 0))


def straight(done: Array) -> Array:
  """A line from 1 to 0."""
  return 1.0 - done


def half_cosine(done: Array) -> Array:
  """Half a cosine from 1 to 0."""
  return 0.5 * (1.0 + jnp.cos(jnp.pi * done))


def one_minus_sqrt(done: Array) -> Array:
  """1 - √done (2405.18392, §4): falls fast at first."""
  return 1.0 - jnp.sqrt(done)


def _decayed(
  name: str,
  learning_rate: float,
  total_steps: int,
  warmup_steps: int,
  decay_steps: int | None,
  final: float,
  shape: Shape,
) -> Schedule:
  """Warmup, then the peak, then a decay over the last `decay_steps`; None: over all the rest."""
  _check(name, warmup_steps=warmup_steps, final=final)
  length = total_steps - warmup_steps if decay_steps is None else decay_steps
  if length < 1 or warmup_steps + length > total_steps:
    decay = "" if decay_steps is None else f" and decay_steps = {decay_steps}"
    raise UserError(
      f"{name}: warmup_steps = {warmup_steps}{decay} do not fit into total_steps = {total_steps}:"
      " shorten them or train longer"
    )

  def schedule(step: Array) -> Array:
    done = (jnp.asarray(step, jnp.float32) - (total_steps - length)) / length
    left = shape(jnp.clip(done, 0.0, 1.0))
    return learning_rate * _ramp(step, warmup_steps) * (final + (1.0 - final) * left)

  return schedule


def _ramp(step: Array, warmup_steps: int) -> Array:
  """min(1, step / warmup_steps), float32."""
  if not warmup_steps:
    return jnp.ones_like(step, jnp.float32)
  return jnp.minimum(1.0, jnp.asarray(step, jnp.float32) / warmup_steps)


def _check(name: str, least: int = 0, **values: float) -> None:
  """Raises UserError for a number below `least`."""
  for key, value in values.items():
    if value < least:
      raise UserError(f"{name}: {key} = {value} must be at least {least}")
