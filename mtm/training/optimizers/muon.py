"""Muon (Jordan et al., 2024; 2502.16982): momentum made orthogonal, for the matrices of layers."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from mtm.training.optimizers._base import (
  NOT_DECAYED,
  Group,
  Rate,
  clip,
  decay,
  grouped,
  layer_axes,
  matrix_axes,
  path_of,
)
from mtm.types import Params

BY_ADAM = r"embedding$|(^|/)head/"  # tables and output heads, although they are matrices


def muon(
  learning_rate: Rate,
  beta: float = 0.95,
  nesterov: bool = True,
  consistent_rms: float | None = 0.2,
  by_adam: str = BY_ADAM,
  b1: float = 0.9,
  b2: float = 0.95,
  eps: float = 1e-8,
  weight_decay: float = 0.0,
  clip_norm: float | None = None,
  groups: Sequence[Group] = (),
) -> optax.GradientTransformation:
  """Muon for matrices, one layer at a time; Adam for vectors, embeddings and heads.

  A query, key or value kernel is one matrix `[embed, heads · head_dim]`, an output kernel
  `[heads · head_dim, embed]`. Five Newton-Schulz iterations bring singular values near 1.

  Args:
    learning_rate: a number or a schedule, for both.
    beta: decay of Muon's momentum.
    nesterov: whether Muon's step looks ahead by one momentum.
    consistent_rms: the update's root mean square, as that of Adam's (2502.16982, §2.2), so that
      both can share a learning rate. None: Jordan's scale √max(1, outputs / inputs).
    by_adam: a regular expression for paths of matrices that Adam takes.
    b1, b2, eps: Adam's numbers.
    weight_decay, clip_norm, groups: see the package.
  """

  def matrices(params: Params) -> Any:
    return _matrices(params, by_adam)

  def labels(params: Params) -> Any:
    return jax.tree.map(lambda _, m: "muon" if m else "adam", params, matrices(params))

  orthogonal = optax.chain(
    scale_by_muon(beta=beta, nesterov=nesterov, weight_dimension_numbers=matrices),
    _scaled(matrices, consistent_rms),
  )
  return optax.chain(
    clip(clip_norm),
    optax.partition({"muon": orthogonal, "adam": optax.scale_by_adam(b1, b2, eps)}, labels),
    decay(weight_decay, groups),
    optax.scale_by_learning_rate(learning_rate),
    grouped(groups),
  )


def _matrices(params: Params, by_adam: str) -> Any:
  """Each parameter's rows and columns, or None where it is not Muon's; other axes are apart."""

  def one(path: Any, p: jax.Array, depth: int) -> MuonDimensionNumbers | None:
    name = path_of(path)
    axes = matrix_axes(name, p.ndim - depth)
    if axes is None or re.search(f"{by_adam}|{NOT_DECAYED}", name):
      return None
    rows, columns = (tuple(a + depth for a in side) for side in axes)
    return MuonDimensionNumbers(rows, columns)

  return jax.tree_util.tree_map_with_path(one, params, layer_axes(params))


def _scaled(
  matrices: Callable[[Params], Any], consistent_rms: float | None
) -> optax.GradientTransformation:
  """Scales orthogonal matrices by their shape."""

  def one(u: jax.Array, axes: MuonDimensionNumbers) -> jax.Array:
    rows, columns = (math.prod(u.shape[a] for a in side) for side in axes)
    if consistent_rms is None:
      return u * max(1.0, columns / rows) ** 0.5
    return u * (consistent_rms * max(rows, columns) ** 0.5)

  def update(updates: Any, state: Any, params: Params | None = None) -> tuple[Any, Any]:
    return jax.tree.map(one, updates, matrices(updates)), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


EXAMPLES = [muon, functools.partial(muon, consistent_rms=None, nesterov=False)]
