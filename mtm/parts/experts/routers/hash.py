"""Hash layers (2106.04426): a token's id says which expert it goes to, and nothing is learned."""

from __future__ import annotations

import dataclasses
import functools
import heapq
from collections.abc import Mapping
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mtm.errors import UserError
from mtm.parts.experts.routers._base import Routing, Tokens, Weights, by_choice, fact
from mtm.parts.linear import Spec


class Table(Protocol):
  """Which expert each token id has."""

  def __call__(self, ids_N: jax.Array, experts: int) -> jax.Array:
    """`[tokens]` int32 ids → int32 experts, in [0, experts)."""


@dataclasses.dataclass(frozen=True)
class Random:
  """Any expert, by a mix of the id's bits (MurmurHash3's last step) with those of a seed."""

  seed: int = 0

  def __call__(self, ids_N: jax.Array, experts: int) -> jax.Array:
    """See `Table`."""
    start = np.uint32((self.seed * 0x9E3779B9 + 0x85EBCA6B) % 2**32)
    bits_N = ids_N.astype(jnp.uint32) ^ start
    bits_N = (bits_N ^ (bits_N >> 16)) * np.uint32(0x85EBCA6B)
    bits_N = (bits_N ^ (bits_N >> 13)) * np.uint32(0xC2B2AE35)
    return ((bits_N ^ (bits_N >> 16)) % np.uint32(experts)).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class Balanced:
  """Experts with about equal numbers of tokens, as far as whole ids allow.

  The most frequent ids go first, each to the expert that has least (the paper, §3.2).

  Attributes:
    counts: how often each id occurs in the training data; see `read`.
  """

  counts: tuple[float, ...]

  def __call__(self, ids_N: jax.Array, experts: int) -> jax.Array:
    """See `Table`; ids beyond `counts` go where the last one goes."""
    table_V = _balanced(self.counts, experts)
    return jnp.take(jnp.asarray(table_V), ids_N, mode="clip")


@dataclasses.dataclass(frozen=True)
class Given:
  """The experts of ids 0, 1, 2 and so on, such as `clusters` finds; see `read`."""

  table: tuple[int, ...]

  def __call__(self, ids_N: jax.Array, experts: int) -> jax.Array:
    """See `Table`; ids beyond the table go where the last one goes.

    Raises:
      UserError: the table names an expert that there is not.
    """
    table_V = np.asarray(self.table, np.int32)
    if table_V.min() < 0 or table_V.max() >= experts:
      raise UserError(
        f"the hash table sends ids to experts {table_V.min()} to {table_V.max()}, of {experts}:"
        " make the table for as many experts as the layer has"
      )
    return jnp.take(jnp.asarray(table_V), ids_N, mode="clip")


@dataclasses.dataclass(frozen=True)
class Hash:
  """A token goes where the table sends its id, with weight 1.

  Attributes:
    tables: one, or M of them ("multi-hash"): the experts then stand in M groups, and each table
      chooses from its own. Give each expert 1 / M of the hidden layer: the M that a token is sent
      to are together one net of full size.
  """

  tables: tuple[Table, ...] = (Random(),)

  def parameters(self, embed: int, experts: int) -> Mapping[str, Spec]:
    del embed, experts
    return {}

  def __call__(
    self, x_ND: jax.Array, weights: Weights, tokens: Tokens, experts: int, key: jax.Array | None
  ) -> Routing:
    ids_N = fact(tokens, "ids", "a router by hash reads the token ids")
    each, left = divmod(experts, len(self.tables))
    if left:
      raise UserError(
        f"{experts} experts cannot stand in {len(self.tables)} groups of equal size, one for each"
        " hash table: choose a number of experts that the tables divide"
      )
    own = [table(ids_N, each) + each * group for group, table in enumerate(self.tables)]
    expert_NK = jnp.stack(own, axis=1)
    return by_choice(expert_NK, jnp.ones(expert_NK.shape, jnp.float32), tokens, experts)


@functools.lru_cache(maxsize=8)
def _balanced(counts: tuple[float, ...], experts: int) -> np.ndarray:
  """See `Balanced`; `[ids]` int32. Equal counts go in the order of ids."""
  loads = [(0.0, expert) for expert in range(experts)]
  table_V = np.zeros(len(counts), np.int32)
  for token in np.argsort(-np.asarray(counts, np.float64), kind="stable"):
    load, expert = loads[0]
    table_V[token] = expert
    heapq.heapreplace(loads, (load + counts[token], expert))
  return table_V


def read(path: str) -> tuple[float, ...]:
  """The numbers of a one-dimensional `.npy` file: counts or experts, one for each id.

  Raises:
    UserError: there is no such file, or it holds something else.
  """
  try:
    values = np.load(path)
  except (OSError, ValueError) as error:
    raise UserError(f"{path} is no .npy file of numbers, one for each token id: {error}") from error
  if values.ndim != 1:
    raise UserError(f"{path} has shape {values.shape}: save one number for each token id")
  return tuple(values.tolist())


def clusters(vectors: np.ndarray, experts: int, seed: int = 0, steps: int = 20) -> np.ndarray:
  """A table that sends ids with similar vectors to one expert: k-means (the paper, §3.2).

  Args:
    vectors: `[ids, features]`, such as the token table of a trained model.
    experts: how many clusters.
    seed: of the vectors drawn as first centres, as k-means++ draws them.
    steps: of Lloyd's algorithm.

  Returns:
    `[ids]` int32.
  """
  vectors = np.asarray(vectors, np.float64)
  rng = np.random.default_rng(seed)
  centres = vectors[[rng.integers(len(vectors))]]
  far_V = np.full(len(vectors), np.inf)
  while len(centres) < experts:
    far_V = np.minimum(far_V, np.square(vectors - centres[-1]).sum(1))
    chance_V = far_V / far_V.sum() if far_V.any() else None  # fewer different vectors than experts
    centres = np.concatenate([centres, vectors[[rng.choice(len(vectors), p=chance_V)]]])
  table_V = np.zeros(len(vectors), np.int32)
  for _ in range(steps):
    distances = np.square(centres).sum(1)[None] - 2 * vectors @ centres.T
    table_V = distances.argmin(1).astype(np.int32)
    for expert in np.unique(table_V):  # an empty cluster keeps its centre
      centres[expert] = vectors[table_V == expert].mean(0)
  return table_V


def dispersed(table: np.ndarray, experts: int) -> np.ndarray:
  """The opposite of `clusters`: a table that sends the ids of one cluster to different experts.

  Args:
    table: `[ids]`, a cluster for each.
    experts: how many there are.

  Returns:
    `[ids]` int32; each cluster is spread evenly, and so are all ids together.
  """
  order = np.argsort(table, kind="stable")
  out = np.zeros(len(table), np.int32)
  out[order] = np.arange(len(table)) % experts
  return out


EXAMPLES = [
  Hash(),
  Hash((Random(1), Balanced((2.0, 1.0, 1.0)))),
  Hash((Given((3, 2, 1, 0)),)),
]
