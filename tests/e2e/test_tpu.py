"""Programs compiled for TPUs that are not here: sparse attention holds nothing of size length².

Needs `libtpu` (`pip install "mtm[tpu]"`), which compiles for a topology by its name; `make tpu`
runs it.
"""

from __future__ import annotations

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from mtm import axes
from mtm.parts.bias import Bias, of_position
from mtm.parts.kernels import Kernel, attend
from mtm.parts.kernels.blocks import Blocks
from mtm.parts.kernels.dense import Dense
from mtm.parts.kernels.splash import Splash
from mtm.parts.patterns import Pattern, published
from mtm.parts.positions.alibi import Alibi
from tests.e2e import topology

pytestmark = pytest.mark.tpu
HEADS, HEAD_DIM = 8, 128
RULES = {"batch": ("data",), "length": (), "heads": ("tensor",), "kv_heads": ("tensor",)}


@pytest.fixture(scope="module")
def chips() -> Mesh:
  """Four chips of a v5e, two for examples and two for heads."""
  return topology.v5e("2x2", data=2, tensor=2)


def program(
  chips: Mesh, pattern: Pattern, kernel: Kernel | str, length: int, biased: bool = False
) -> Any:
  """Attention forward and backward, compiled."""
  layout = axes.Layout(chips, RULES)
  shape = (2, length, HEADS, HEAD_DIM)
  names = ("batch", None, "heads", None)
  array = jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=layout.sharding(names, shape))
  ids = jax.ShapeDtypeStruct(
    shape[:2], jnp.int32, sharding=layout.sharding(("batch", None), shape[:2])
  )

  def step(q: Any, k: Any, v: Any, g: Any, segments: Any) -> Any:
    bias: Bias | None = of_position(Alibi(HEADS).bind({}), None, length) if biased else None

    def f(q: Any, k: Any, v: Any) -> jax.Array:
      pair = (segments, segments)
      return attend(q, k, v, pattern, bias=bias, segment_ids=pair, kernel=kernel)

    out, pull = jax.vjp(f, q, k, v)
    return out, pull(g)

  with axes.use(layout):
    return jax.jit(step).lower(*(array,) * 4, ids).compile()


def largest(compiled: Any) -> int:
  """Elements of the largest array that the program names."""
  shapes = re.findall(r"\b(?:pred|[a-z]+\d+)\[([\d,]+)\]", compiled.as_text())
  assert shapes
  return max(math.prod(map(int, shape.split(","))) for shape in shapes)


PATTERNS = {
  "banded": lambda length: published.banded(512),
  "fixed": lambda length: published.sparse_fixed(512, 32),
  "bigbird": lambda length: published.bigbird(length, block=128),
}


@pytest.mark.parametrize("kernel", [Splash(), Blocks(block=128, scores=2**22)], ids=repr)
@pytest.mark.parametrize(
  "name, length",
  [
    ("bigbird", 8192),
    *(pytest.param(*each, marks=pytest.mark.slow) for each in (("banded", 8192), ("fixed", 8192))),
    pytest.param("banded", 32768, marks=pytest.mark.slow),
  ],
)
def test_nothing_of_size_length_squared(
  chips: Mesh, name: str, length: int, kernel: Kernel
) -> None:
  compiled = program(chips, PATTERNS[name](length), kernel, length)
  assert largest(compiled) < length**2 / 2
  # Of dense attention the scores alone, float32, of the heads of one chip.
  assert compiled.memory_analysis().temp_size_in_bytes < 0.1 * 4 * length**2 * HEADS / 2


def test_a_rule_for_the_bias_stays_a_rule(chips: Mesh) -> None:
  compiled = program(chips, published.banded(512), Blocks(block=128), 8192, biased=True)
  assert largest(compiled) < 8192**2 / 4


def test_the_measure_sees_a_dense_program(chips: Mesh) -> None:
  assert largest(program(chips, published.banded(512), Dense(), 8192)) >= 8192**2


def test_splash_is_what_a_tpu_gets(chips: Mesh) -> None:
  compiled = program(chips, published.banded(512), "auto", 8192)
  assert "tpu_custom_call" in compiled.as_text()
  assert np.isfinite(compiled.memory_analysis().temp_size_in_bytes)
