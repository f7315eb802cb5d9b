"""What is added to attention scores: an array of all pairs, or a rule that makes any part of it.

A dense kernel wants the array, made once for all layers; a sparse one must never build it and asks
the rule for the few pairs that it looks at.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mtm.parts.positions._base import Position

LONG = 2048  # from here on no array is made in advance: 12 heads would take 200 MB


class Rule(Protocol):
  """A bias as a function of places: a pytree, whose leaves are what is learned."""

  def __call__(self, q_place: jax.Array, k_place: jax.Array) -> jax.Array:
    """`[rows, queries]` and `[rows, keys]` int32 → `[rows, heads, queries, keys]`."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scheme:
  """The rule of a position scheme, free of the model that it is part of.

  Attributes:
    position: an unbound module.
    params: its parameters.
  """

  position: Position = dataclasses.field(metadata={"static": True})
  params: Any

  def __call__(self, q_place: jax.Array, k_place: jax.Array) -> jax.Array:
    bias: Any = self.position.apply({"params": self.params}, q_place, k_place, method="bias")
    return bias


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SomeHeads:
  """Some of a rule's heads.

  Attributes:
    rule: of all heads.
    heads: which are taken.
  """

  rule: Rule
  heads: tuple[int, ...] = dataclasses.field(metadata={"static": True})

  def __call__(self, q_place: jax.Array, k_place: jax.Array) -> jax.Array:
    return self.rule(q_place, k_place)[:, list(self.heads)]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bias:
  """The sum of an array and of rules.

  Attributes:
    array: `[1 or batch, 1 or heads, queries, keys]`, or None.
    rules: further terms.
    made: what `rules` give for the places of this call, or None where nobody has made it.
  """

  array: jax.Array | None = None
  rules: tuple[Rule, ...] = ()
  made: jax.Array | None = None

  def dense(self, q_place: jax.Array, k_place: jax.Array) -> jax.Array:
    """The whole, `[1 or batch, 1 or heads, queries, keys]`; places `[queries]` and `[keys]`, or
    with a leading batch axis."""
    terms = [] if self.array is None else [self.array]
    if self.made is not None:
      terms.append(self.made)
    else:
      q_place, k_place = jnp.atleast_2d(q_place), jnp.atleast_2d(k_place)
      terms.extend(rule(q_place, k_place) for rule in self.rules)
    return sum(terms[1:], start=terms[0])

  def elsewhere(self) -> Bias:
    """The same at other places than those that `made` is for."""
    return dataclasses.replace(self, made=None)

  def of_heads(self, heads: np.ndarray) -> Bias:
    """The same for some of the heads, int `[n]`."""

    def chosen(array: jax.Array | None) -> jax.Array | None:
      return array if array is None or array.shape[1] == 1 else array[:, heads]

    own = tuple(SomeHeads(rule, tuple(heads.tolist())) for rule in self.rules)
    return Bias(chosen(self.array), own, chosen(self.made))

  def __add__(self, other: Bias) -> Bias:
    array = self.array if other.array is None else other.array
    if self.array is not None and other.array is not None:
      array = self.array + other.array
    made = None
    if self._complete and other._complete:
      parts = [x.made for x in (self, other) if x.made is not None]
      made = sum(parts[1:], start=parts[0]) if parts else None
    return Bias(array, self.rules + other.rules, made)

  @property
  def _complete(self) -> bool:
    return not self.rules or self.made is not None


def of_position(
  position: Position, places: tuple[jax.Array, jax.Array] | None, length: int
) -> Bias | None:
  """The bias of a bound scheme; None if it has none.

  Args:
    position: the scheme, a submodule of the caller.
    places: of queries and keys in decoding, `[1 or batch, ...]`; None: both are 0, 1, 2, ...
    length: how many they are where `places` is None.
  """
  near = jnp.arange(1)[None]
  if position.bias(near, near) is None:  # this also declares its parameters
    return None
  rule = Scheme(position.clone(parent=None, name=None), dict(position.variables).get("params", {}))
  if places is None and length >= LONG:
    return Bias(rules=(rule,))
  own = jnp.arange(length)[None]
  return Bias(rules=(rule,), made=position.bias(*(places or (own, own))))
