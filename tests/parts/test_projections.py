"""Projections into heads and out of them: the parameters that attention has, and what they do."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtm.parts.attention import Attention
from mtm.parts.context import Context
from mtm.parts.linear import normal
from mtm.parts.projections import into_heads, out_of_heads

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 6)), jnp.float32)


class Both(nn.Module):
  """Into heads and out again, with attention's names."""

  bias: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    init = normal(0.5)
    for name in ("key", "value"):
      into_heads(x, 2, 4, name, "kv_heads", self.bias, init)
    y = into_heads(x, 2, 4, "query", bias=self.bias, init=init)
    return y, out_of_heads(y, 6, self.bias, init)


def test_parameters_and_their_axes_are_those_of_attention() -> None:
  context = Context(jnp.zeros((2, 3), jnp.int32))
  for bias in (False, True):
    ours = jax.eval_shape(Both(bias).init, jax.random.key(0), X)
    theirs = jax.eval_shape(Attention(2, 4, bias=bias).init, jax.random.key(0), X, context)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, theirs)
    boxes = lambda x: isinstance(x, nn.meta.AxisMetadata)  # noqa: E731
    names = [[box.names for box in jax.tree.leaves(tree, is_leaf=boxes)] for tree in (ours, theirs)]
    assert names[0] == names[1]


def test_they_are_matmuls_over_features() -> None:
  params = nn.meta.unbox(Both().init(jax.random.key(0), X))
  y, back = Both().apply(params, X)
  p = params["params"]
  wanted = np.einsum("bld,dhk->blhk", X, p["query"]["kernel"])
  np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)
  wanted = np.einsum("blhk,hkd->bld", wanted, p["out"]["kernel"])
  np.testing.assert_allclose(back, wanted, rtol=1e-5, atol=1e-5)
