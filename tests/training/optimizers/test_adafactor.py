"""Adafactor, against the real T5X, optax and the paper's formula."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtm.training.optimizers.adafactor import adafactor
from tests.training.optimizers import trees

FIXTURES = Path(__file__).parents[2] / "fixtures"


def nested(arrays, prefix):
  """`{prefix/a/b: x}` as `{a: {b: x}}`."""
  tree = {}
  for path in arrays.files:
    if path.startswith(f"{prefix}/"):
      node = tree
      *parents, last = path.split("/")[1:]
      for key in parents:
        node = node.setdefault(key, {})
      node[last] = jnp.asarray(arrays[path])
  return tree


def restored(state, slots, step):
  """A fresh state with the second moments and the step count of T5X's checkpoint."""
  flat, tree = jax.tree_util.tree_flatten_with_path(state)

  def one(path, leaf):
    field = getattr(path[-1], "name", "")
    if field == "count":
      return jnp.full_like(leaf, step)
    if field != "v":
      return leaf
    node = slots
    for key in path:
      node = node[key.key] if isinstance(key, jax.tree_util.DictKey) else node
    return node

  return tree.unflatten([one(path, leaf) for path, leaf in flat])


def test_a_step_from_t5x_slots_gives_t5x_parameters():
  model = np.load(FIXTURES / "t5x" / "t5_1_1.npz")
  saved = np.load(FIXTURES / "t5x_adafactor.npz")
  params, grads = nested(model, "param"), nested(model, "grad")
  # The fixture's gradient is of a sum; T5X divided it by nothing.
  optimizer = adafactor(1e-2)
  state = restored(optimizer.init(params), nested(saved, "v"), int(saved["step"]))
  updates, _ = jax.jit(optimizer.update)(grads, state, params)
  found, wanted = optax.apply_updates(params, updates), nested(model, "param_after_step")
  assert jax.tree.structure(found) == jax.tree.structure(wanted)
  # Steps are 1e-2 of a parameter: 1e-6 of it is 1e-4 of the step, and near float32's rounding.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), found, wanted)
  jax.tree.map(lambda a, b: np.testing.assert_array_less(0, np.abs(a - b).max()), params, wanted)


def test_it_is_optax_adafactor():
  for momentum in (None, 0.9):
    theirs = optax.adafactor(
      0.1, min_dim_size_to_factor=6, momentum=momentum, weight_decay_rate=0.01,
      weight_decay_mask=trees.DECAYED,
    )  # fmt: skip
    ours = adafactor(0.1, min_dim_size_to_factor=6, momentum=momentum, weight_decay=0.01)
    trees.assert_same_walk(ours, theirs)


def test_a_factored_step_is_the_papers():
  """Algorithm 4 of 1804.04235: V is R Cᵀ over the mean of R; its first decay is 0."""
  g = np.random.default_rng(0).normal(size=(6, 9))
  rows, columns = np.mean(g**2, axis=1), np.mean(g**2, axis=0)
  wanted = -0.1 * g / np.sqrt(np.outer(rows, columns) / rows.mean())
  optimizer = adafactor(
    0.1, min_dim_size_to_factor=6, clipping_threshold=None, multiply_by_parameter_scale=False
  )
  params = {"w": {"kernel": jnp.ones((6, 9))}}
  updates, _ = optimizer.update(
    {"w": {"kernel": jnp.asarray(g, jnp.float32)}}, optimizer.init(params), params
  )
  np.testing.assert_allclose(updates["w"]["kernel"], wanted, rtol=1e-5)


@pytest.mark.parametrize(("path", "shape"), [("query", (2, 8, 3, 4)), ("out", (2, 3, 4, 8))])
def test_projections_are_factored_as_embed_by_joined_heads(path, shape):
  tree = {"stack": {path: {"kernel": jnp.ones(shape)}, "norm": {"scale": jnp.ones((2, 8))}}}
  state = adafactor(0.1, min_dim_size_to_factor=8).init(tree)
  sizes = sorted(x.shape for x in jax.tree.leaves(state))
  assert (2, 8) in sizes and (2, 12) in sizes  # rows and columns of each layer
  assert not any(np.prod(size) > 2 * 12 for size in sizes)
