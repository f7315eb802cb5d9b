"""Matmuls in eight bits: near the exact ones, in eight bits indeed, and refused when mistyped."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families.llama import llama
from mtm.parts import matmul
from mtm.parts.linear import Dense

BATCH = {"decoder_input_tokens": np.arange(24, dtype=np.int32).reshape(2, 12) % 11}
ENGINES = [
  matmul.Quantized(), matmul.Quantized("float8_e4m3fn", "float8_e4m3fn", "float8_e5m2"),
  matmul.Quantized(gradients=None),
]  # fmt: skip
MODEL = llama(layers=2, embed=32, heads=2, mlp=64, vocab=11)


def gradients(engine: Any) -> tuple[jax.Array, Any]:
  """A dense layer's output, and the gradients of its input and kernel."""
  layer = Dense((3, 8), ("embed", "heads", "head_dim"))
  x = jax.random.normal(jax.random.key(0), (4, 5, 64))
  params = layer.init(jax.random.key(1), x)

  def loss(params: Any, x: jax.Array) -> Any:
    with matmul.use(engine):
      y: Any = layer.apply(params, x)
    return jnp.sum(jnp.sin(y)), y

  grads, y = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, x)
  return y, grads


@pytest.fixture(autouse=True)
def loose_promotion() -> Iterator[None]:
  """qwix multiplies int32 sums by float32 scales."""
  with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
    yield


@pytest.mark.parametrize("engine", ENGINES, ids=repr)
def test_values_and_gradients_are_near_the_exact_ones(engine: Any) -> None:
  """Rounding to 127 steps of the largest of 64 normal numbers (about 2.5) errs by 1 % of their
  size, a float8 with three bits of mantissa by 3 % and one with two by 7 %."""
  for got, wanted in zip(
    jax.tree.leaves(gradients(engine)), jax.tree.leaves(gradients(None)), strict=True
  ):
    assert 0 < np.linalg.norm(got - wanted) < 0.1 * np.linalg.norm(wanted)


def test_the_products_are_in_eight_bits() -> None:
  quantized = dataclasses.replace(MODEL, matmul=matmul.Quantized())
  params = MODEL.init(jax.random.key(0), BATCH)

  def products(model: Any) -> int:
    def loss(params: Any) -> jax.Array:
      return jnp.sum(model.apply(params, BATCH).logits)

    text = str(jax.make_jaxpr(jax.grad(loss))(params))
    return text.count("preferred_element_type=int32")

  assert products(MODEL) == 0
  assert products(quantized) == 3 * 7  # of one layer, forward and for both operands; not the head


def test_a_quantized_model_is_near_the_exact_one_and_has_its_parameters() -> None:
  params = MODEL.init(jax.random.key(0), BATCH)
  wanted = MODEL.apply(params, BATCH).logits
  got = dataclasses.replace(MODEL, matmul=matmul.Quantized()).apply(params, BATCH).logits
  assert 0 < np.linalg.norm(got - wanted) < 0.05 * np.linalg.norm(wanted)


def test_a_mistyped_type_is_refused_with_the_nearest() -> None:
  with pytest.raises(UserError, match="weights = 'int9'.*'int8'"):
    matmul.Quantized(weights="int9")


def test_without_qwix_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setitem(sys.modules, "qwix", None)
  with pytest.raises(UserError, match=r"mtm\[quant\]"):
    matmul.Quantized()
