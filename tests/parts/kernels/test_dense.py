"""The backward pass that `dense` writes by hand equals JAX's of `reference`, dropout included."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.kernels import Kernel, prepare
from mtm.parts.kernels.dense import Dense
from mtm.parts.kernels.reference import Reference
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full

B, L, H, G, K = 2, 6, 4, 2, 8


def run(kernel: Kernel, bias_shape: tuple[int, ...], dtype: str = "float32", **fields: Any) -> Any:
  rng = np.random.default_rng(0)
  shapes = [(B, L, H, K), (B, L, G, K), (B, L, G, K), bias_shape, (B, L, H, K)]
  q, k, v, bias, d_out = (jnp.asarray(rng.normal(size=s), dtype) for s in shapes)

  @jax.jit
  def both(*inputs: jax.Array) -> Any:
    def f(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array) -> jax.Array:
      engine, request = prepare(q, k, v, bias=bias, kernel=kernel, **fields)
      return engine(request)

    out, pull = jax.vjp(f, *inputs)
    return out, pull(d_out)

  return both(q, k, v, bias)


@pytest.mark.parametrize("bias_shape", [(1, H, L, L), (B, 1, L, L), (B, H, L, L)], ids=str)
@pytest.mark.parametrize("dropout", [None, 0.3])
@pytest.mark.parametrize("pattern", [Full(), Causal()], ids=str)
def test_gradients_are_those_of_reference(pattern: Any, dropout: Any, bias_shape: Any) -> None:
  fields = {"dropout": dropout and (jax.random.key(3), dropout), "pattern": pattern}
  ours, theirs = (run(kernel, bias_shape, **fields) for kernel in (Dense(), Reference()))
  # float32 sums of a dozen terms of order 1, in another order.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=5e-6), ours, theirs)


def test_gradients_keep_the_dtype_of_bfloat16() -> None:
  ours, theirs = (
    run(kernel, (1, H, L, L), "bfloat16", pattern=Causal()) for kernel in (Dense(), Reference())
  )
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    assert a.dtype == b.dtype == jnp.bfloat16
    # bfloat16 keeps 8 bits, and gradients are sums of a dozen rounded terms of order 1.
    np.testing.assert_allclose(np.float32(a), np.float32(b), atol=0.06)


def test_decoding_is_left_to_others() -> None:
  places = jnp.arange(L), jnp.arange(L)
  with pytest.raises(UserError, match=r"Dense cannot run this: queries .* 0, 1, 2"):
    run(Dense(), (1, H, L, L), pattern=Causal(), positions=places)
  q = jnp.zeros((1, 2, 1, 4))
  assert isinstance(prepare(q, q, q, Causal())[0], Dense)
  assert isinstance(prepare(q, q, q, Causal(), positions=places)[0], Reference)
