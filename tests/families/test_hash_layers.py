"""Hash layers: which layers are hashed, sizes, and what is refused."""

from __future__ import annotations

import functools
import math

import jax
import pytest

from mtm.errors import UserError
from mtm.families.hash_layers import hash_layers
from mtm.interop._base import shapes
from mtm.parts.experts.routers.hash import Random
from tests.families.test_switch import count

BUILD = functools.partial(hash_layers, 4, 16, 4, 40, 3, max_length=32, mlp=24)


def test_hashed_layers_stand_where_they_are_told_to() -> None:
  stack = BUILD(hashed=(2,)).module.decoder.stack
  kinds = [type(block.channel).__name__ for block in stack.period]
  assert kinds == ["Mlp", "Mlp", "Experts", "Mlp"] and stack.repeats == 1
  assert BUILD(hashed=(1, 3)).module.decoder.stack.repeats == 2


def test_several_tables_share_the_hidden_width() -> None:
  found = shapes(BUILD(hashed=(0, 1, 2, 3), tables=(Random(1), Random(2))))
  kernel = found["decoder/stack/period_0/channel/expert/wi/kernel"]
  assert kernel == (4, 6, 16, 12)  # two groups of three experts with half of the width
  assert jax.tree.leaves(found)


def test_the_published_sizes_are_those_of_the_paper() -> None:
  dense = hash_layers(17, 1024, 16, 8008, 1, (8,), max_length=512)
  assert sum(map(math.prod, shapes(dense).values())) == pytest.approx(222e6, rel=0.01)
  assert count("hash/64_experts") == pytest.approx(751e6, rel=0.01)


def test_what_cannot_be_is_refused() -> None:
  with pytest.raises(UserError, match="names a layer beyond 0 to 3"):
    BUILD(hashed=(4,))
  with pytest.raises(UserError, match="take mlp = 25"):
    BUILD(hashed=(1,), tables=tuple(map(Random, range(5))))
