"""Block-sparse attention beside reference, over drawn patterns, lengths, segments and biases."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtm import axes
from mtm.errors import UserError
from mtm.parts.bias import Bias, Scheme
from mtm.parts.kernels import attend, prepare
from mtm.parts.kernels.blocks import Blocks
from mtm.parts.kernels.dense import Dense
from mtm.parts.patterns import published
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.prefix import Prefix
from mtm.parts.positions.alibi import Alibi
from mtm.parts.positions.t5_bias import T5Bias
from mtm.sharding.mesh import mesh
from tests.contracts.discovered import parameters
from tests.parts.patterns.test_tiles import PATTERNS

HEADS, SMALL = 4, Blocks(block=4, scores=4**3, lanes=2)
T5 = T5Bias(HEADS, bidirectional=True, buckets=8, max_distance=16)


def arrays(q_len: int, k_len: int, kv_heads: int = 2, seed: int = 0) -> dict[str, jax.Array]:
  rng = np.random.default_rng(seed)
  shapes = {"q": (2, q_len, HEADS, 8), "k": (2, k_len, kv_heads, 8), "v": (2, k_len, kv_heads, 8)}
  return {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in shapes.items()}


def table() -> Any:
  place = jnp.arange(2)[None]
  return parameters(lambda key: T5.init(key, place, place, method="bias"))["params"]


BIASES = {
  "none": lambda params: None,
  "alibi": lambda params: Bias(rules=(Scheme(Alibi(HEADS), {}),)),
  "t5": lambda params: Bias(rules=(Scheme(T5, params),)),
  "both": lambda params: Bias(rules=(Scheme(T5, params), Scheme(Alibi(HEADS), {}))),
}


def results(kernel: Any, x: dict[str, jax.Array], pattern: Any, bias: Any, **extra: Any) -> Any:
  """The output, and the gradients of q, k, v and the table of the bias."""
  d_out = jnp.asarray(np.random.default_rng(9).normal(size=x["q"].shape), jnp.float32)

  @jax.jit
  def run(q: Any, k: Any, v: Any, params: Any) -> Any:
    f = lambda q, k, v, p: attend(q, k, v, pattern, bias=bias(p), kernel=kernel, **extra)  # noqa: E731
    out, pull = jax.vjp(f, q, k, v, params)
    return out, pull(d_out)

  return run(*x.values(), table())


@settings(max_examples=10, deadline=None)
@given(
  PATTERNS, st.integers(1, 22), st.integers(1, 22), st.sampled_from(sorted(BIASES)), st.booleans(),
  st.sampled_from([1, 2, 4]),
)  # fmt: skip
def test_value_and_gradients_are_those_of_reference(
  pattern: Any, q_len: int, k_len: int, bias: str, packed: bool, kv_heads: int
) -> None:
  rng = np.random.default_rng(q_len)
  ids = tuple(jnp.asarray(rng.integers(0, 3, (2, n))) for n in (q_len, k_len))
  extra = {"segment_ids": ids} if packed else {}
  x = arrays(q_len, k_len, kv_heads)
  ours = results(SMALL, x, pattern, BIASES[bias], **extra)
  wanted = results("reference", x, pattern, BIASES[bias], **extra)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(wanted), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)  # float32, sums of up to 22 terms


def test_labels_of_a_prefix_are_honoured() -> None:
  x = arrays(21, 21)
  label = jnp.asarray((np.arange(21)[None] < np.array([[5], [13]])).astype(np.int32))
  extra = {"labels": {"prefix": (label, label)}}
  pattern = Causal() & published.longformer(8, 2) | Prefix()
  ours = results(SMALL, x, pattern, BIASES["none"], **extra)
  wanted = results("reference", x, pattern, BIASES["none"], **extra)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(wanted), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)


def test_the_backward_pass_drops_what_the_forward_pass_dropped() -> None:
  """With the same draw the output is linear in v: its gradient times v is the output."""
  x = arrays(14, 14)
  dropout = (jax.random.key(0), 0.4)
  f = lambda v: attend(x["q"], x["k"], v, Causal(), kernel=SMALL, dropout=dropout).sum()  # noqa: E731
  value, d_v = jax.jit(jax.value_and_grad(f))(x["v"])
  assert float(jnp.sum(d_v * x["v"])) == pytest.approx(float(value), rel=1e-4)
  plain = attend(x["q"], x["k"], x["v"], Causal(), kernel=SMALL).sum()
  assert abs(float(plain - value)) > 1e-2


def test_it_holds_one_further_array_of_the_size_of_q() -> None:
  """The values turned, then the keys; what a step takes is small, and sums are kept where the
  results will be."""
  x = jax.ShapeDtypeStruct((1, 2048, 4, 16), jnp.float32)
  pattern, kernel = published.bigbird(2048, block=16), Blocks(block=16, scores=2**12, lanes=1)

  def run(q: Any, k: Any, v: Any, g: Any) -> Any:
    out, pull = jax.vjp(lambda *x: attend(*x, pattern, kernel=kernel), q, k, v)
    return out, pull(g)

  # JAX 0.10's XLA turns the keys before the forward pass is over.
  most = 2 if jax.__version_info__ >= (0, 11) else 3
  program = jax.jit(run).lower(x, x, x, x).compile()
  assert program.memory_analysis().temp_size_in_bytes < most * 4 * x.size


def test_it_is_taken_where_it_pays() -> None:
  def chosen(pattern: Any, length: int) -> type:
    x = jax.ShapeDtypeStruct((1, length, 2, 8), jnp.float32)
    found = []
    jax.eval_shape(lambda q: found.append(prepare(q, q, q, pattern)[0]), x)
    return type(found[0])

  assert chosen(published.banded(128), 4096) is Blocks
  assert chosen(Causal(), 4096) is Dense
  assert chosen(published.banded(128), 256) is Dense


def test_what_it_cannot_do_it_says() -> None:
  x, place = arrays(8, 8), jnp.arange(8)
  with pytest.raises(UserError, match="Blocks cannot run this: a bias given as an array"):
    attend(**x, pattern=Causal(), bias=jnp.zeros((1, 1, 8, 8)), kernel=SMALL)
  with pytest.raises(UserError, match="Blocks cannot run this: .* must stand at 0, 1, 2"):
    attend(**x, pattern=Causal(), positions=(place + 1, place), kernel=SMALL)


def test_eight_devices_are_one() -> None:
  """Examples and heads are cut over the mesh."""
  x = arrays(37, 37, kv_heads=4)
  alone = results(SMALL, x, published.longformer(8, 2), BIASES["t5"])
  rules = {"batch": ("data",), "heads": ("tensor",), "kv_heads": ("tensor",)}
  layout = axes.Layout(mesh(data=2, tensor=4), rules)
  names = ("batch", None, "heads", None)
  with axes.use(layout):
    cut = {n: jax.device_put(a, layout.sharding(names, a.shape)) for n, a in x.items()}
    meshed = results(SMALL, cut, published.longformer(8, 2), BIASES["t5"])
  for a, b in zip(jax.tree.leaves(meshed), jax.tree.leaves(alone), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)
