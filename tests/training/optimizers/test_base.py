"""Groups, and rules that act per layer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtm.errors import UserError
from mtm.families.gpt2 import gpt2
from mtm.families.t5 import t5
from mtm.training.optimizers import Group
from mtm.training.optimizers._base import clip, decay, grouped, layer_axes, matrix_axes, per_layer
from tests.training.optimizers import trees


def test_later_groups_win_and_silent_ones_say_nothing():
  params = {"a": {"kernel": jnp.ones(2)}, "b": {"kernel": jnp.ones(2)}}
  groups = [Group("kernel", 0.5, 0.25), Group("^b/", learning_rate=2.0), Group("a", None, 0.0)]
  rates, _ = grouped(groups).update(params, optax.EmptyState())
  assert float(rates["a"]["kernel"][0]) == 0.5 and float(rates["b"]["kernel"][0]) == 2.0
  zeros = jax.tree.map(jnp.zeros_like, params)
  decayed, _ = decay(1.0, groups).update(zeros, optax.EmptyState(), params)
  assert float(decayed["a"]["kernel"][0]) == 0.0 and float(decayed["b"]["kernel"][0]) == 0.25


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: Group("(bias"), r"Group\('\(bias'\): not a regular expression"),
    (lambda: Group("bias", learning_rate=-1.0), "learning_rate = -1.0 is negative"),
    (lambda: clip(0.0), "clip_norm = 0.0: must be above 0"),
    (
      lambda: grouped([Group("embeding")]).init(trees.stacked(0)),
      "group 'embeding' matches no parameter; did you mean 'embedding'",
    ),
  ],
)
def test_mistakes_are_named(make, message):
  with pytest.raises(UserError, match=message):
    make()


def test_a_rule_without_per_layer_would_see_the_whole_stack():
  params, gradients = trees.stacked(0), trees.stacked(1)
  rule = optax.clip_by_block_rms(1.0)
  blind, _ = rule.update(gradients, rule.init(params), params)
  seeing, _ = per_layer(rule).update(gradients, per_layer(rule).init(params), params)

  def rms(tree):  # of each layer
    kernel = tree["decoder"]["stack"]["period_0"]["channel"]["wi"]["kernel"]
    return np.sqrt(np.mean(np.square(kernel), axis=(1, 2)))

  np.testing.assert_allclose(rms(seeing), np.minimum(rms(gradients), 1), rtol=1e-5)
  assert not np.allclose(rms(blind), rms(seeing))


@pytest.mark.parametrize(
  "model", [gpt2(2, 16, 2, 32, max_length=8), t5(2, 16, 2, 8, 24, 32)], ids=["gpt2", "t5"]
)
def test_layers_and_matrices_are_where_the_models_axis_names_say(model):
  batch = {name: jnp.zeros((1, 4), jnp.int32) for name in model.inputs}
  params, names = jax.eval_shape(model.init, jax.random.key(0), batch), model.axes(batch)
  flat = jax.tree_util.tree_flatten_with_path(layer_axes(params))[0]
  every = jax.tree.leaves(names, is_leaf=lambda x: isinstance(x, tuple))
  for (keys, depth), axes in zip(flat, every, strict=True):
    path = jax.tree_util.keystr(keys, simple=True, separator="/")
    assert depth == axes.count("layers"), path
    one = axes[depth:]
    if path.endswith("kernel"):
      rows, columns = ([one[a] for a in side] for side in matrix_axes(path, len(one)))
      assert rows + columns == list(one), path
      together = [{"heads", "kv_heads", "head_dim"} & set(side) for side in (rows, columns)]
      assert sorted(map(len, together)) in ([0, 0], [0, 2]), path


def test_a_stack_that_shares_its_layers_has_no_layer_axis():
  shared = jax.tree.map(lambda x: x[0], trees.stacked(0)["decoder"])
  assert set(jax.tree.leaves(layer_axes(shared))) == {0}
  nested = {"stack": {"a": {"stack": {"kernel": jnp.ones((2, 3, 4, 5))}}}}
  assert jax.tree.leaves(layer_axes(nested)) == [2]


def test_every_expert_of_a_bank_is_apart():
  bank = {"expert": {"wi": {"kernel": jnp.ones((4, 2, 3, 5)), "bias": jnp.ones((4, 2, 5))}}}
  params = {"decoder": {"stack": {"channel": {**bank, "router": {"kernel": jnp.ones((4, 3, 2))}}}}}
  depths = layer_axes(params)["decoder"]["stack"]["channel"]
  assert set(jax.tree.leaves(depths["expert"])) == {2}
  assert jax.tree.leaves(depths["router"]) == [1]
