"""BigBird's attention (2007.14062): blocks of queries see blocks of keys, by a plan that knows the
length."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtm.errors import UserError
from mtm.parts.attention import Attention
from mtm.parts.bias import Bias
from mtm.parts.context import Aux, Context
from mtm.parts.kernels import Kernel
from mtm.parts.linear import Initializer
from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns.blocks import Blocks
from mtm.parts.patterns.full import Full
from mtm.parts.patterns.per_head import PerHead

Table = tuple[tuple[int, ...], ...]

_PRETRAINED = (1024, 3072, 4096)  # lengths for which random blocks are cut from the longest's plan
_NEAR = 1024  # and lie before this place


@dataclasses.dataclass(frozen=True)
class Plan:
  """How often each block of queries sees each block of keys, as published.

  The first and the last block see and are seen by all, every other sees itself, its neighbours and
  `random` drawn ones, in each head others. A row that such a plan would all but fill is seen whole.
  In the published code a block that is drawn and seen anyway counts twice; and in evaluation it
  draws nothing, but counts the first block once more for each of the `random` ones.

  Attributes:
    block: places in a block.
    random: drawn blocks; 0: none.
    seed: of the draw; published: the number of the layer.
    longest: the longest row, on which some plans depend.
    drawn_in_eval: whether evaluation sees the drawn blocks of training, as in the paper, or the
      first block instead.
  """

  block: int = 64
  random: int = 3
  seed: int = 0
  longest: int = 4096
  drawn_in_eval: bool = True

  def __post_init__(self) -> None:
    if self.block < 1 or self.random < 0:
      raise UserError(f"{self}: block must be at least 1, and random at least 0")

  def counts(self, length: int, heads: int, train: bool) -> np.ndarray | None:
    """How often queries see keys, int `[heads, blocks, blocks]`, or `[1, ...]` where all heads are
    alike; None: once, all of them."""
    count = -(-length // self.block)
    if length <= self.least:
      return None
    near = np.abs(np.arange(count)[:, None] - np.arange(count)) <= 1
    near[[0, -1]] = near[:, [0, -1]] = True
    if not self.random:
      return near[None].astype(np.int64)
    if not (train or self.drawn_in_eval):
      table = near.astype(np.int64)
      table[1:-1, 0] += self.random
      return table[None]
    table = np.repeat(near[None].astype(np.int64), heads, axis=0)
    rng = np.random.RandomState(self.seed)  # of old: its draws are part of what was published
    draw = self._pretrained if count * self.block in _PRETRAINED else self._other
    for head, row, chosen in draw(rng, count, heads):
      if row < count - 1:
        table[head, row, chosen] += 1
    return table

  @property
  def least(self) -> int:
    """Rows of this length and below are seen whole."""
    return (5 + 2 * self.random) * self.block

  def _other(self, rng: np.random.RandomState, count: int, heads: int) -> Any:
    """(head, row, blocks) of the draw for most lengths: random blocks lie near the start."""
    reach = self.least // self.block
    for row in range(1, count):
      hidden = {0, row - 1, row, row + 1, reach - 1}
      hidden |= ({reach - 2} if row == 1 else set()) | ({1} if row == reach - 2 else set())
      for head in range(heads):
        order = rng.permutation(np.arange(reach, dtype=np.int32))
        yield head, row, [k for k in order if k not in hidden][: self.random]

  def _pretrained(self, rng: np.random.RandomState, count: int, heads: int) -> Any:
    """The same for lengths of pre-training: rows of a plan for the longest one."""
    total = self.longest // self.block
    last = total - 1
    if _NEAR > 2 * self.block:
      last = _NEAR // self.block - 1
    between = np.arange(1, total - 1, dtype=np.int32)
    for head in range(heads):
      for row in range(1, total - 1):  # all of them: each draw moves the generator on
        before, after = between[: max(row - 2, 0)], between[row + 1 : last]
        both = np.concatenate([before, after])
        if row >= total - 3 or row - 2 > last:  # the last rows draw what they see anyway too
          both = between[:last]
        chosen = rng.permutation(both)[: self.random]
        if row < count - 1:
          yield head, row, chosen


@functools.lru_cache(maxsize=256)
def _laid_out(plan: Plan, length: int, heads: int, train: bool) -> tuple[Pattern, Bias | None]:
  """The pattern of a plan, and what is added to scores where a key counts more than once."""
  counts = plan.counts(length, heads, train)
  if counts is None:
    return Full(), None
  seen = tuple(Blocks(table > 0, plan.block) for table in counts)
  pattern = seen[0] if len(seen) == 1 else PerHead(seen)
  if counts.max() <= 1:
    return pattern, None
  tables = tuple(tuple(map(tuple, table.tolist())) for table in counts)
  return pattern, Bias(rules=(Repeated(tables, plan.block, heads),))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Repeated:
  """A rule (see `mtm.parts.bias`) by which a key counts as often as a table says: log of it.

  Attributes:
    tables: how often, one for each head or one for all; 0 is like 1: a pattern hides.
    block: places in a block.
    heads: how many heads there are.
  """

  tables: tuple[Table, ...] = dataclasses.field(metadata={"static": True})
  block: int = dataclasses.field(metadata={"static": True})
  heads: int = dataclasses.field(metadata={"static": True})

  def __call__(self, q_place: jax.Array, k_place: jax.Array) -> jax.Array:
    """See `Rule`."""
    logs = jnp.log(jnp.maximum(jnp.asarray(self.tables, jnp.float32), 1.0))
    q, k = q_place[:, :, None] // self.block, k_place[:, None] // self.block
    found = jnp.moveaxis(logs[:, q, k], 0, 1)
    return jnp.broadcast_to(found, (found.shape[0], self.heads, *found.shape[2:]))


class BigBird(nn.Module):
  """`Attention` under the pattern that a plan has for the row's length, in training or not.

  A packed document sees itself only, but its blocks are those of the row. There is no cache.

  Attributes:
    heads, head_dim, kernel, bias, dropout, weight_init, out_init: see `Attention`.
    plan: who sees whom.
  """

  heads: int
  head_dim: int
  plan: Plan = Plan()
  kernel: Kernel | str | None = None
  bias: bool | tuple[str, ...] = False
  dropout: float = 0.0
  weight_init: Initializer | None = None
  out_init: Initializer | None = None

  @nn.compact
  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → the same shape. Raises UserError where the row is longer than the
    plan, and in decoding with a cache."""
    length = x_BLD.shape[1]
    if context.slots is not None:
      raise UserError("BigBird's blocks see both ways and have no cache: decode with Attention")
    if length > self.plan.longest:
      raise UserError(
        f"a row of {length} tokens is longer than the plan, {self.plan.longest}: raise longest"
      )
    pattern, repeated = _laid_out(self.plan, length, self.heads, context.train)
    if repeated is not None:
      bias = repeated if context.bias is None else context.bias + repeated
      context = dataclasses.replace(context, bias=bias)
    attention = Attention(
      self.heads, self.head_dim, pattern=pattern, kernel=self.kernel, bias=self.bias,
      dropout=self.dropout, weight_init=self.weight_init, out_init=self.out_init,
    )  # fmt: skip
    nn.share_scope(self, attention)  # its parameters are ours
    return attention(x_BLD, context)


EXAMPLES = [
  BigBird(4, 4, Plan(block=1, random=0, longest=16)),
  BigBird(2, 8, Plan(block=1, random=1, longest=7, drawn_in_eval=False), bias=True),
]
