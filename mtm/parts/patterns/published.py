"""The sparse patterns of published models, each an expression over the algebra.

Gin cannot write `Causal() & Window(...)`; it can bind one of these to a family's `pattern`.
"""

from __future__ import annotations

from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns.blocks import Blocks
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.global_places import Global
from mtm.parts.patterns.local_block import LocalBlock
from mtm.parts.patterns.memory import Memory
from mtm.parts.patterns.per_head import PerHead
from mtm.parts.patterns.random_blocks import RandomBlocks
from mtm.parts.patterns.strided import Strided
from mtm.parts.patterns.summary import Summary
from mtm.parts.patterns.window import Window


def sparse_strided(stride: int) -> Pattern:
  """Sparse Transformer, strided (1904.10509, §4.3): the last `stride` places and every
  `stride`-th before. With `stride` near √length the cost is length · √length."""
  return Causal() & (Window(stride - 1, 0) | Strided(stride))


def sparse_strided_by_head(stride: int, heads: int) -> Pattern:
  """The same with the two parts on different heads, the first half local (1904.10509, §4.4)."""
  local, far = Causal() & Window(stride - 1, 0), Causal() & Strided(stride)
  return PerHead((local,) * (heads // 2) + (far,) * (heads - heads // 2))


def sparse_fixed(stride: int, summaries: int) -> Pattern:
  """Sparse Transformer, fixed (1904.10509, §4.3): the own block of `stride` places and the last
  `summaries` places of each block."""
  return Causal() & (LocalBlock(stride) | Summary(stride, summaries))


def sparse_fixed_by_head(stride: int, summaries: int, heads: int) -> Pattern:
  """The same with the two parts on different heads, the first half local. Before the first block's
  last places there is nothing for the other half to see."""
  local, far = Causal() & LocalBlock(stride), Causal() & Summary(stride, summaries)
  return PerHead((local,) * (heads // 2) + (far,) * (heads - heads // 2))


def longformer(window: int, global_places: int = 1, dilation: int = 1) -> Pattern:
  """Longformer (2004.05150): `window` / 2 places on each side, and the first places see and are
  seen by all."""
  return Window(window // 2, window // 2, dilation) | Global(global_places)


def bigbird(
  length: int, block: int = 64, window: int = 3, random: int = 3, global_blocks: int = 2,
  seed: int = 0,
) -> Pattern:  # fmt: skip
  """BigBird-ITC (2007.14062): `window` neighbouring blocks, `random` drawn ones, and the first
  blocks see and are seen by all; for sequences of up to `length`."""
  count, reach = -(-length // block), window // 2
  near = [[abs(i - j) <= reach for j in range(count)] for i in range(count)]
  drawn = RandomBlocks(random, seed, block, length)
  return Blocks(near, block) | drawn | Global(global_blocks * block)


def etc(global_tokens: int, radius: int) -> Pattern:
  """ETC (2004.08483) over [global tokens, long input]: global tokens see and are seen by all, a
  long token sees `radius` places on each side."""
  return Window(radius, radius) | Global(global_tokens)


def longt5_local(radius: int) -> Pattern:
  """LongT5's local attention (2112.07916): `radius` places on each side."""
  return Window(radius, radius)


def longt5_transient_global(radius: int, summaries: int) -> Pattern:
  """LongT5's transient-global attention (2112.07916) over [summaries of blocks, tokens]."""
  return Window(radius, radius) | Memory(summaries)


def banded(band: int) -> Pattern:
  """GPT-3's locally banded layers (2005.14165): the last `band` places."""
  return Causal() & Window(band - 1, 0)


EXAMPLES = [
  sparse_strided(3), sparse_strided_by_head(3, 4), sparse_fixed(4, 1),
  sparse_fixed_by_head(4, 1, 4), longformer(4),
  bigbird(16, block=2, random=1, global_blocks=1), etc(2, 1), longt5_local(2),
  longt5_transient_global(1, 3), banded(4),
]  # fmt: skip
