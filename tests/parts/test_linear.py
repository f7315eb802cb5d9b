"""Dense and Embed against numpy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.axes import LayoutError
from mtm.families.llama import llama
from mtm.parts.linear import Dense, Embed, fan_in_of
from tests.contracts.discovered import parameters

RNG = np.random.default_rng(0)


def test_dense_contracts_the_last_axes() -> None:
  x = RNG.normal(size=(2, 5, 3, 4)).astype(np.float32)
  dense = Dense((6,), ("heads", "head_dim", "embed"), contract=2, bias=True)
  params = parameters(dense.init, x)
  p = params["params"]
  wanted = np.einsum("blhk,hkd->bld", x, p["kernel"]) + p["bias"]
  np.testing.assert_allclose(dense.apply(params, x), wanted, rtol=1e-5, atol=1e-5)


def test_dense_splits_into_many_axes() -> None:
  x = RNG.normal(size=(2, 5, 12)).astype(np.float32)
  dense = Dense((3, 4), ("embed", "heads", "head_dim"), bias=True)
  params = parameters(dense.init, x)
  p = params["params"]
  wanted = np.einsum("bld,dhk->blhk", x, p["kernel"]) + p["bias"]
  np.testing.assert_allclose(dense.apply(params, x), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
  ("axes", "complaint"),
  [(("embed", "mpl"), "unknown axis 'mpl'; did you mean 'mlp'"), (("embed",), "1 axis names")],
)
def test_a_parameter_with_wrong_axes_is_refused(axes: tuple[str, ...], complaint: str) -> None:
  with pytest.raises(LayoutError, match=complaint):
    Dense((6,), axes).init(jax.random.key(0), jnp.ones((2, 4)))


def test_fan_in_counts_all_inputs() -> None:
  draws = fan_in_of(2, 2.0)(jax.random.key(0), (8, 16, 500))
  assert abs(float(jnp.std(draws)) / (2.0 / (8 * 16)) ** 0.5 - 1) < 0.02
  # Truncated at two deviations of the Gaussian before truncation.
  assert float(jnp.max(jnp.abs(draws))) <= 2 * (2.0 / 128) ** 0.5 / 0.8796 + 1e-6


def test_embed_looks_up_rows() -> None:
  embed = Embed(11, 4)
  ids = np.array([[0, 3, 10], [3, 3, 1]])
  params = parameters(embed.init, ids)
  table = params["params"]["embedding"]
  np.testing.assert_array_equal(embed.apply(params, ids), table[ids])


def test_attend_is_the_transposed_product_with_its_gradient() -> None:
  embed = Embed(11, 4)
  x, g = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 3, 11))
  x, g = x.astype(np.float32), g.astype(np.float32)
  table = parameters(embed.init, np.zeros((1, 1), int))["params"]["embedding"]

  def f(x: jax.Array, table: jax.Array) -> jax.Array:
    return embed.apply({"params": {"embedding": table}}, x, method="attend")

  out, pull = jax.vjp(f, x, table)
  np.testing.assert_allclose(out, x @ table.T, rtol=1e-5, atol=1e-6)
  d_x, d_table = pull(g)
  np.testing.assert_allclose(d_x, g @ table, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(d_table, np.einsum("bld,blv->vd", x, g), rtol=1e-5, atol=1e-5)


def test_a_table_that_is_prepared_gives_the_same_logits() -> None:
  """On CPU it lies turned beside the other one; what is prepared already stays as it is."""
  embed = Embed(11, 4)
  params = parameters(embed.init, np.zeros((1, 2), np.int32))["params"]
  ready = embed.prepare(params)
  assert set(ready) - set(params) == ({"turned"} if jax.default_backend() == "cpu" else set())
  assert embed.prepare(ready)["embedding"] is ready["embedding"]
  x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 4)), jnp.float32)
  got, want = (embed.apply({"params": p}, x, method="attend") for p in (ready, params))
  np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def test_models_with_a_tied_head_alone_prepare_their_table() -> None:
  for tied in (True, False):
    model = llama(1, 8, 2, 8, 16, tied=tied)
    params = model.init(jax.random.key(0), {"decoder_input_tokens": np.zeros((1, 2), np.int32)})
    there = "turned" in model.prepare(params)["tokens"]
    assert there == (tied and jax.default_backend() == "cpu")
