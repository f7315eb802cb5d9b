"""What optimizers are chained from: clipping, groups by parameter path, rules that act per layer.

A parameter's path is its keys joined by `/`, such as `decoder/stack/period_0/mixer/query/kernel`.
The parameters of a stack's layers lie along a leading axis, `[layers, ...]`. A rule that looks at a
whole matrix (a norm, a factorisation) must see one layer of it: `per_layer` maps it over that axis,
so that a stacked model takes the same step as one whose layers are apart.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import optax

from mtm.errors import UserError, nearest
from mtm.types import Params, Schedule

Rate = Schedule | float
# The keys below which arrays have a leading axis of things apart: the layers of a
# `mtm.parts.stack.Stack`, the experts of a `mtm.parts.experts.Experts`.
BANKS = ("stack", "expert")
NOT_DECAYED = r"(^|/)(bias|scale|rel_embedding)$|(^|/)position/"
_JOINED_OUT = re.compile(r"(^|/)(query|key|value)/kernel$")  # [embed, heads, head_dim]
_JOINED_IN = re.compile(r"(^|/)out/kernel$")  # [heads, head_dim, embed]


@dataclasses.dataclass(frozen=True)
class Group:
  """Multipliers for the parameters whose path the pattern matches.

  Where several groups match, the last one that gives a number decides.

  Attributes:
    pattern: a regular expression, searched for in the path: `bias$`, `^encoder/`, `embedding`.
    learning_rate: multiplies the whole update, decay included; 0 freezes. None: leaves it.
    weight_decay: multiplies the optimizer's `weight_decay`; 1 turns it on where `NOT_DECAYED`
      matches. None: leaves it.

  Raises:
    UserError: the pattern is no regular expression, or a multiplier is negative.
  """

  pattern: str
  learning_rate: float | None = None
  weight_decay: float | None = None

  def __post_init__(self) -> None:
    try:
      re.compile(self.pattern)
    except re.error as error:
      raise UserError(f"Group({self.pattern!r}): not a regular expression ({error})") from error
    for name in ("learning_rate", "weight_decay"):
      if (getattr(self, name) or 0.0) < 0:
        raise UserError(f"Group({self.pattern!r}): {name} = {getattr(self, name)} is negative")


def clip(norm: float | None) -> optax.GradientTransformation:
  """Scales gradients down to this global norm (1211.5063); None: leaves them.

  Raises:
    UserError: a norm that is not positive.
  """
  if norm is None:
    return optax.identity()
  if norm <= 0:
    raise UserError(f"clip_norm = {norm}: must be above 0, or None for no clipping")
  return optax.clip_by_global_norm(norm)


def decay(weight_decay: float, groups: Sequence[Group]) -> optax.GradientTransformation:
  """Adds `weight_decay` times the parameter to the update, as the groups say."""
  if not weight_decay:
    return optax.identity()

  def update(updates: Any, state: Any, params: Params) -> tuple[Any, Any]:
    def one(path: Any, u: jax.Array, p: jax.Array) -> jax.Array:
      factor = weight_decay * _decay_factor(path_of(path), groups)
      return u + factor * p if factor else u

    return jax.tree_util.tree_map_with_path(one, updates, params), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def grouped(groups: Sequence[Group]) -> optax.GradientTransformation:
  """Multiplies updates by their groups' learning rates; the last part of every chain.

  Raises:
    UserError: in `init`, a group that matches no parameter.
  """

  def init(params: Params) -> optax.EmptyState:
    paths = [path_of(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    for group in groups:
      if not any(re.search(group.pattern, path) for path in paths):
        plain = re.sub(r"[^\w/]", "", group.pattern)
        known = {key for path in paths for key in path.split("/")}
        raise UserError(
          f"optimizer group {group.pattern!r} matches no parameter"
          f"{nearest(plain, known if '/' not in plain else paths)}"
        )
    return optax.EmptyState()

  def update(updates: Any, state: Any, params: Params | None = None) -> tuple[Any, Any]:
    def one(path: Any, u: jax.Array) -> jax.Array:
      factor = _rate_factor(path_of(path), groups)
      return u if factor == 1 else u * factor

    return jax.tree_util.tree_map_with_path(one, updates), state

  return optax.GradientTransformation(init, update)


def per_layer(
  rule: optax.GradientTransformation, where: Callable[[str], bool] = lambda path: True
) -> optax.GradientTransformation:
  """Applies `rule` to each parameter of each layer by itself, attention kernels as matrices.

  Its state is a tree like the parameters', with one state of `rule` at each; in a stack's, arrays
  are `[layers, ...]`.

  Args:
    rule: a transformation that treats each parameter of its tree apart.
    where: whether the parameter with this path is one of the rule's; others pass unchanged.
  """

  def mapped(fn: Callable[..., Any], depth: int) -> Callable[..., Any]:
    return jax.vmap(mapped(fn, depth - 1)) if depth else fn

  def init(params: Params) -> Any:
    def one(path: Any, p: jax.Array, depth: int) -> Any:
      if not where(path_of(path)):
        return optax.EmptyState()
      return mapped(rule.init, depth)(_as_matrix(path_of(path), p, depth))

    return jax.tree_util.tree_map_with_path(one, params, layer_axes(params))

  def update(updates: Any, state: Any, params: Params) -> tuple[Any, Any]:
    flat = jax.tree_util.tree_flatten_with_path(updates)[0]
    tree: Any = jax.tree.structure(updates)
    states, values = tree.flatten_up_to(state), tree.flatten_up_to(params)
    depths = tree.flatten_up_to(layer_axes(params))
    news, after = [], []
    for (keys, u), own, p, depth in zip(flat, states, values, depths, strict=True):
      path = path_of(keys)
      if where(path):
        view = _as_matrix(path, u, depth)
        new, own = mapped(rule.update, depth)(view, own, _as_matrix(path, p, depth))
        u = new.reshape(u.shape)
      news.append(u)
      after.append(own)
    return tree.unflatten(news), tree.unflatten(after)

  return optax.GradientTransformation(init, update)


def path_of(path: Any) -> str:
  """A tree path as text: its dict keys joined by `/`."""
  return "/".join(str(k.key) for k in path if isinstance(k, jax.tree_util.DictKey))


def layer_axes(params: Params) -> Any:
  """How many leading axes of each parameter run over layers or experts, a tree of int.

  One for each key of `BANKS` above it, if all arrays there agree on that axis: those of a stack
  whose repetitions share their parameters do not, as it has none.
  """

  def walk(node: Any, depth: int) -> Any:
    if not isinstance(node, Mapping):
      return jax.tree.map(lambda _: depth, node)
    return {k: walk(v, depth + (k in BANKS and _stacked(v, depth))) for k, v in node.items()}

  return walk(params, 0)


def matrix_axes(path: str, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
  """The axes of one layer's parameter that are a matrix's rows (inputs) and columns (outputs).

  None for what is no matrix, and for ranks above 2 that are not attention's projections.
  """
  if rank == 3 and _JOINED_OUT.search(path):
    return (0,), (1, 2)
  if rank == 3 and _JOINED_IN.search(path):
    return (0, 1), (2,)
  return ((0,), (1,)) if rank == 2 else None


def _stacked(node: Any, depth: int) -> bool:
  shapes = [x.shape for x in jax.tree.leaves(node)]
  return all(len(s) > depth + 1 for s in shapes) and len({s[depth] for s in shapes}) == 1


def _as_matrix(path: str, x: jax.Array, depth: int) -> jax.Array:
  """`x` with a projection's heads and head_dim joined: `[layers, embed, heads · head_dim]`."""
  axes = matrix_axes(path, x.ndim - depth)
  if axes is None:
    return x
  size = x.shape[depth:]
  return x.reshape(*x.shape[:depth], *(math.prod(size[a] for a in side) for side in axes))


def _rate_factor(path: str, groups: Sequence[Group]) -> float:
  given = [g.learning_rate for g in groups if re.search(g.pattern, path)]
  return next((f for f in reversed(given) if f is not None), 1.0)


def _decay_factor(path: str, groups: Sequence[Group]) -> float:
  given = [g.weight_decay for g in groups if re.search(g.pattern, path)]
  default = 0.0 if re.search(NOT_DECAYED, path) else 1.0
  return next((f for f in reversed(given) if f is not None), default)
