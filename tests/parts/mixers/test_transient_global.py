"""Transient-global attention: the definition in loops, packed documents, cost; see also
tests/families/test_longt5.py."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.bias import Bias, of_position
from mtm.parts.context import Context, Slots
from mtm.parts.kernels.blocks import Blocks
from mtm.parts.mixers.transient_global import SummaryBias, TransientGlobal, cut
from mtm.parts.positions.alibi import Alibi
from mtm.parts.positions.t5_bias import bucket_of
from tests.contracts.discovered import parameters

B, L, D, H, K = 2, 11, 6, 2, 3
X = np.random.default_rng(0).normal(size=(B, L, D)).astype(np.float32)
PADDED = np.array([[1] * 11, [1] * 7 + [0] * 4])
SCHEME = SummaryBias(H, True, 8, 6)


def mixer(**fields: Any) -> TransientGlobal:
  return TransientGlobal(H, K, 2, 3, **{"kernel": "reference", **fields})


def table() -> Any:
  places = jnp.arange(2)[None]
  return parameters(lambda key: SCHEME.init(key, places, places, method="bias"))


def around(segments: np.ndarray, positions: np.ndarray | None = None, **fields: Any) -> Context:
  if positions is None:
    positions = np.tile(np.arange(segments.shape[1]), (len(segments), 1))
  return Context(jnp.asarray(positions), jnp.asarray(segments), **fields)


def biased(params: Any, context: Context) -> Context:
  bias = of_position(SCHEME.bind(params), None, context.positions.shape[1])
  return dataclasses.replace(context, bias=bias)


def weights(part: TransientGlobal = mixer()) -> Any:  # noqa: B008
  return parameters(part.init, jnp.asarray(X), around(PADDED))


def run(part: TransientGlobal, context: Context, x: Any = X, tables: Any = None) -> np.ndarray:
  def both(params: Any, tables: Any) -> Any:
    return part.apply(params, jnp.asarray(x), biased(tables, context))[0]

  return np.asarray(jax.jit(both)(weights(), tables or table()))


def looped(x: np.ndarray, params: Any, tables: Any) -> np.ndarray:
  """One document `[length, embed]`, query by query in float64."""
  p = jax.tree.map(lambda a: np.asarray(a, np.float64), {**params["params"], **tables["params"]})
  length, size = len(x), 3
  whole = length // size
  block = np.minimum(np.arange(length) // size, whole - 1)
  sums = np.stack([x[block == g].sum(0) for g in range(whole)]) if whole else np.zeros((0, D))
  sums = sums / np.sqrt((sums**2).mean(-1, keepdims=True) + 1e-6) * p["summary_norm"]["scale"]
  both = np.concatenate([sums, x])
  q, k, v = (
    np.einsum("ld,dhk->lhk", a, p[n]["kernel"])
    for a, n in ((x, "query"), (both, "key"), (both, "value"))
  )
  bucket = lambda n: int(bucket_of(jnp.asarray(n), True, 8, 6))  # noqa: E731
  y = np.zeros((length, H, K))
  for i in range(length):
    near = [j for j in range(length) if abs(i - j) <= 2]
    for h in range(H):
      far = [q[i, h] @ k[g, h] * K**-0.5 + p["side_embedding"][h, bucket(g - block[i])]
             for g in range(whole)]  # fmt: skip
      own = [q[i, h] @ k[whole + j, h] * K**-0.5 + p["rel_embedding"][h, bucket(j - i)]
             for j in near]  # fmt: skip
      share = np.exp(np.array(far + own))
      y[i, h] = share / share.sum() @ v[[*range(whole), *(whole + j for j in near)], h]
  return np.einsum("lhk,hkd->ld", y, p["out"]["kernel"])


@pytest.mark.parametrize(
  "kernel", ["reference", Blocks(block=4, scores=256)], ids=["ref", "blocks"]
)
def test_it_is_the_definition_of_each_document_alone(kernel: Any) -> None:
  """Padded rows; and packed ones with documents of 7 and 2 tokens, the second without a block."""
  params, tables = weights(), table()
  y = run(mixer(kernel=kernel), around(PADDED))
  np.testing.assert_allclose(y[0], looped(X[0], params, tables), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(y[1, :7], looped(X[1, :7], params, tables), rtol=1e-4, atol=1e-5)
  packed = np.array([[1] * 7 + [2] * 2 + [0] * 2, [3] * 4 + [5] * 7])
  places = np.array([[*range(7), *range(2), 0, 0], [*range(4), *range(7)]])
  y = run(mixer(kernel=kernel), around(packed, places))
  for row, start, end in ((0, 0, 7), (0, 7, 9), (1, 0, 4), (1, 4, 11)):
    wanted = looped(X[row, start:end], params, tables)
    np.testing.assert_allclose(y[row, start:end], wanted, rtol=1e-4, atol=1e-5)


def test_gradients_of_the_sparse_engine_are_those_of_the_dense_one() -> None:
  def gradients(kernel: Any) -> Any:
    def loss(params: Any, tables: Any, x: jax.Array) -> jax.Array:
      y, _ = mixer(kernel=kernel).apply(params, x, biased(tables, around(PADDED)))
      return jnp.sum(jnp.where(PADDED[..., None] > 0, jnp.sin(y), 0.0))

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(weights(), table(), jnp.asarray(X))

  ours, wanted = gradients(Blocks(block=4, scores=256)), gradients("reference")
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, wanted)
  assert all(np.abs(x).max() > 1e-4 for x in jax.tree.leaves(wanted))


def test_blocks_by_hand() -> None:
  """A whole row; one without a whole block; padding on the left, where a block is whole that has
  its last token; and two documents."""
  segments = np.array([[1] * 8, [1, 1, 0, 0, 0, 0, 0, 0], [0] * 4 + [1] * 4, [4] * 5 + [2] * 3])
  positions = np.tile(np.arange(8), (4, 1))
  positions[3] = [0, 1, 2, 3, 4, 0, 1, 2]
  blocks = cut(jnp.asarray(positions), jnp.asarray(segments), 3)
  np.testing.assert_array_equal(
    blocks.of_token,
    [[0, 0, 0, 1, 1, 1, 1, 1], [2] * 8, [2, 2, 2, 2, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 1, 1]],
  )
  np.testing.assert_array_equal(blocks.segment, [[1, 1], [0, 0], [1, 0], [4, 2]])


def test_nothing_of_size_length_squared_is_made_in_a_long_row() -> None:
  length = 2304  # from 2048 on no bias is made in advance
  part = TransientGlobal(H, K, 2, 256)
  context = around(np.ones((1, length), np.int32))
  x = jnp.zeros((1, length, D))

  def loss(params: Any, tables: Any) -> jax.Array:
    return jnp.sum(part.apply(params, x, biased(tables, context))[0])

  def sizes(jaxpr: Any) -> Any:
    for equation in jaxpr.eqns:
      yield from (v.aval.size for v in equation.outvars)
      for inner in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
        inner = getattr(inner, "jaxpr", inner)
        yield from sizes(inner) if hasattr(inner, "eqns") else ()

  made = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(weights(part), table())
  assert max(sizes(made.jaxpr)) < length**2 / 2


def test_dropout_is_drawn_in_training_only_and_for_each_row() -> None:
  part, context = mixer(dropout=0.5), around(np.ones((B, L), np.int32), train=True)
  same = np.repeat(X[:1], B, axis=0)

  def train(seed: int) -> np.ndarray:
    rngs = {"dropout": jax.random.key(seed)}
    return np.asarray(jax.jit(part.apply)(weights(), same, context, rngs=rngs)[0])

  np.testing.assert_array_equal(train(0), train(0))
  assert np.abs(train(0) - train(1)).max() > 1e-2
  assert np.abs(train(0)[0] - train(0)[1]).max() > 1e-2


def test_what_it_cannot_honour_is_refused() -> None:
  context = around(PADDED)
  slots = Slots(jnp.int32(0), jnp.arange(L)[None])
  alibi = of_position(Alibi(H).bind({}), None, L)
  for fields, match in (
    ({"slots": slots}, "has no cache"),
    ({"bias": Bias(jnp.zeros((1, H, L, L)))}, "take SummaryBias"),
    ({"bias": alibi}, "take SummaryBias"),
  ):
    with pytest.raises(UserError, match=match):
      mixer().init(jax.random.key(0), X, dataclasses.replace(context, **fields))
  with pytest.raises(UserError, match="at least 1 token"):
    TransientGlobal(H, K, 2, 0)
