"""Muon, against optax's, and what makes a matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax.contrib import muon as optax_muon

from mtm.training.optimizers.adamw import adamw
from mtm.training.optimizers.muon import muon
from tests.training.optimizers import trees


@pytest.mark.parametrize("rms", [None, 0.2])
def test_it_is_optax_muon(rms):
  theirs = optax_muon(
    0.1, beta=0.9, weight_decay=0.2, weight_decay_mask=trees.DECAYED, adam_b1=0.8, adam_b2=0.9,
    nesterov=False, consistent_rms=rms,
  )  # fmt: skip
  ours = muon(0.1, 0.9, False, rms, b1=0.8, b2=0.9, weight_decay=0.2)
  trees.assert_same_walk(ours, theirs)


def test_nesterov_is_optax_muons_for_matrices():
  """Optax then gives Adam's part a look ahead too, which 2502.16982 does not."""
  start, gradients = trees.flat(0, (6, 10), (12, 5)), [trees.flat(1, (6, 10), (12, 5))] * 3
  ours = trees.walk(trees.jitted(muon(0.1)), start, gradients)
  theirs = trees.walk(trees.jitted(optax_muon(0.1, consistent_rms=0.2)), start, gradients)
  for name in ("w0", "w1"):
    np.testing.assert_allclose(ours[name]["kernel"], theirs[name]["kernel"], rtol=1e-5, atol=1e-6)


def moved(optimizer):
  start = trees.stacked(0)
  after = trees.walk(optimizer, start, [trees.stacked(1), trees.stacked(2)])
  return optax.tree.sub(after, start)


def test_a_heads_axis_belongs_to_the_matrix():
  """One step on every layer's projections is orthogonal as `[embed, heads · head_dim]`."""
  start = trees.stacked(0)
  step = optax.tree.sub(trees.walk(muon(1.0), start, [trees.stacked(1)]), start)
  mixer = step["decoder"]["stack"]["period_0"]["mixer"]
  matrices = {
    "query": mixer["query"]["kernel"].reshape(trees.LAYERS, 8, 12),
    "out": mixer["out"]["kernel"].reshape(trees.LAYERS, 12, 8),
  }
  for name, matrix in matrices.items():
    singular = jnp.linalg.svd(matrix, compute_uv=False) / (0.2 * 12**0.5)
    # Jordan's quintic leaves singular values between about 0.7 and 1.2, not at 1.
    assert 0.6 < float(singular.min()) and float(singular.max()) < 1.3, name


def test_embeddings_heads_and_vectors_take_adams_step():
  ours, adam = moved(muon(0.1)), moved(adamw(0.1, 0.9, 0.95, weight_decay=0.0))
  flat = jax.tree_util.tree_flatten_with_path(ours)[0]
  same = {
    jax.tree_util.keystr(path, simple=True, separator="/")
    for (path, a), b in zip(flat, jax.tree.leaves(adam), strict=True)
    if np.allclose(a, b, rtol=1e-5, atol=1e-7)
  }
  layer = "decoder/stack/period_0"
  assert same == {
    "tokens/embedding", "position/rel_embedding", "final_norm/scale", "head/logits_dense/kernel",
    f"{layer}/mixer/query/bias", f"{layer}/channel_norm/scale",
  }  # fmt: skip
