"""Where arrays lie: every one follows the table, and nothing is replicated in silence."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from mtm import axes
from mtm.axes import LayoutError
from mtm.errors import UserError
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from mtm.sharding.rules import override
from mtm.training.trainer import Trainer
from tests.training import tiny

CUBE = {"data": 2, "fsdp": 2, "tensor": 2}


def bytes_per_device(tree):
  """Bytes that the busiest device holds of a tree of arrays."""
  return sum(max(s.data.nbytes for s in x.addressable_shards) for x in jax.tree.leaves(tree))


def shape(*sizes):
  return jax.ShapeDtypeStruct(sizes, np.float32)


class TestParameters:
  def test_a_kernel_is_cut_by_fsdp_and_tensor(self):
    got = tiny.on(CUBE).of_params({"wi": ("layers", "embed", "mlp")}, {"wi": shape(2, 16, 32)})
    assert got["wi"].spec == P(None, ("fsdp",), ("tensor",))

  def test_an_axis_of_size_one_is_ignored(self):
    got = tiny.on({"data": 8}).of_params({"wi": ("embed", "mlp")}, {"wi": shape(3, 5)})
    assert got["wi"].is_fully_replicated

  def test_a_size_that_does_not_divide_names_axis_number_and_what_would(self):
    plan = tiny.on({"data": 1, "fsdp": 8})
    message = (
      r"parameter decoder/wi.*mesh axis 'fsdp' of size 8 does not divide 'embed' = 12;"
      r" sizes that do: 1, 2, 3, 4, 6, 12"
    )
    with pytest.raises(LayoutError, match=message):
      plan.of_params({"decoder": {"wi": ("embed",)}}, {"decoder": {"wi": shape(12)}})

  def test_heads_that_tensor_does_not_divide_are_refused_before_anything_runs(self):
    model = tiny.FAMILIES["llama"][0](kv_heads=2)
    trainer = dataclasses.replace(tiny.trainer("llama", tiny.on({"tensor": 4})), model=model)
    with pytest.raises(LayoutError, match="key.*'tensor' of size 4 does not divide 'kv_heads' = 2"):
      trainer.create()

  def test_an_axis_without_a_rule_is_an_error(self):
    rules = {name: rule for name, rule in tiny.on({}).rules.items() if name != "mlp"}
    with pytest.raises(LayoutError, match="parameter wi: no sharding rule for axis 'mlp'"):
      Plan(mesh(), rules).of_params({"wi": ("mlp",)}, {"wi": shape(8)})

  def test_one_mesh_axis_cannot_cut_two_axes_of_one_parameter(self):
    plan = tiny.on(CUBE, embed=(("tensor",), ()))
    with pytest.raises(LayoutError, match="'tensor' would cut both 'embed' and 'mlp'"):
      plan.of_params({"wi": ("embed", "mlp")}, {"wi": shape(16, 32)})

  def test_a_mistyped_axis_is_an_error_not_replication(self):
    with pytest.raises(LayoutError, match="unknown axis 'embd'; did you mean 'embed'"):
      tiny.on(CUBE).of_params({"wi": ("embd",)}, {"wi": shape(16)})


OPTIMIZERS = {
  "adamw": optax.adamw(1e-3),
  "masked": optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.masked(optax.add_decayed_weights(0.1), lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
    optax.scale_by_adam(),
  ),
  "groups": optax.multi_transform(
    {"big": optax.adam(1e-3), "small": optax.sgd(1e-3, momentum=0.9)},
    lambda params: jax.tree.map(lambda x: "big" if x.ndim > 2 else "small", params),
  ),
  "adafactor": optax.adafactor(1e-3, min_dim_size_to_factor=8, momentum=0.9),
}


class TestOptimizerState:
  @pytest.mark.parametrize("name", OPTIMIZERS)
  def test_every_slot_of_a_parameters_shape_lies_as_the_parameter_does(self, name):
    trainer = dataclasses.replace(
      tiny.trainer("llama", tiny.on({"data": 1, "fsdp": 8})), optimizer=OPTIMIZERS[name]
    )
    shapes, shardings = trainer.shapes, trainer.shardings
    slots = zip(
      jax.tree_util.tree_flatten_with_path(shapes.opt_state)[0],
      jax.tree.leaves(shardings.opt_state),
      strict=True,
    )
    whole = {
      "/".join(str(getattr(k, "key", k)) for k in path): where.spec
      for (path, s), where in slots
      if math.prod(s.shape) >= 256 and where.is_fully_replicated
    }
    assert whole == {}  # the only slots left whole are counts and vectors

  def test_a_factored_slot_follows_the_axes_that_it_kept(self):
    params = {"wi": shape(16, 32)}
    where = {"wi": tiny.on(CUBE).parameters.sharding(("embed", "mlp"), (16, 32))}
    slots = {"row": {"wi": shape(16)}, "column": {"wi": shape(32)}, "none": {"wi": shape(1)}}
    got = tiny.on(CUBE).of_state(slots, params, where)
    assert [got[k]["wi"].spec for k in slots] == [P(("fsdp",)), P(("tensor",)), P()]

  def test_a_slot_is_matched_by_the_longest_path(self):
    plan = tiny.on(CUBE)
    params = {"a": {"wi": shape(8, 8)}, "wi": shape(8, 8)}
    names = {"a": {"wi": ("embed", None)}, "wi": (None, "embed")}
    where = plan.of_params(names, params)
    got = plan.of_state({"mu": params}, params, where)["mu"]
    assert got == where

  def test_what_a_device_holds_shrinks_with_fsdp(self):
    adamw = OPTIMIZERS["adamw"]
    one = dataclasses.replace(tiny.trainer(), optimizer=adamw).create()
    cut = dataclasses.replace(
      tiny.trainer(plan=tiny.on({"data": 1, "fsdp": 8})), optimizer=adamw
    ).create()
    # Biases of the wide side and the position table's short axis stay whole: a little over 1/8.
    assert bytes_per_device(cut.params) < bytes_per_device(one.params) / 6
    assert bytes_per_device(cut.opt_state) < bytes_per_device(one.opt_state) / 6


NOT_SHARDED, SHARDED = (), ("fsdp",)
ZERO = {  # what the rule of `embed` spreads: parameters, gradients, optimizer slots
  1: (NOT_SHARDED, (), NOT_SHARDED, SHARDED),
  2: (NOT_SHARDED, (), SHARDED),
  3: (SHARDED, ()),
}


def trainer_of(plan):
  return tiny.trainer("llama", plan, microbatches=2)


@functools.cache
def beginning():
  return jax.device_get(trainer_of(tiny.one_device()).create())


@functools.cache
def after_a_step(stage):
  """The state after a step under this stage of ZeRO, 0 is one device; and the bytes that its
  program needs beside its arguments and results."""
  plan = tiny.one_device()
  if stage:
    plan = Plan(mesh(data=1, fsdp=8), override({"embed": ZERO[stage]}))
  trainer = trainer_of(plan)
  batch = plan.put_batch(tiny.batch("llama"))
  state = jax.device_put(beginning(), trainer.shardings)
  program = trainer.train_step.lower(state, batch).compile()
  return program(state, batch)[0], program.memory_analysis().temp_size_in_bytes


class TestZero:
  """ZeRO (1910.02054) is a choice of rules: who holds what, not what is computed."""

  @pytest.mark.parametrize("stage", ZERO)
  def test_a_stage_spreads_what_it_says_and_trains_the_same(self, stage):
    (one, _), (state, _) = after_a_step(0), after_a_step(stage)
    # A few vectors and the table's short axis have no `embed`: a little over an eighth.
    assert bytes_per_device(state.opt_state) < bytes_per_device(one.opt_state) / 6
    whole, held = bytes_per_device(one.params), bytes_per_device(state.params)
    assert held < whole / 6 if stage == 3 else held == whole
    for got, want in zip(jax.tree.leaves(state.params), jax.tree.leaves(one.params), strict=True):
      # Of order one, and changed by a tenth of a gradient that is summed in another order.
      np.testing.assert_allclose(got, want, atol=1e-6)

  def test_gradients_and_their_sum_over_microbatches_are_spread_from_the_second_stage_on(self):
    parameters = bytes_per_device(after_a_step(0)[0].params)
    first, second = after_a_step(1)[1], after_a_step(2)[1]
    assert second < first - parameters / 2, (first, second, parameters)


class TestBatches:
  def test_rows_are_cut_over_data_and_fsdp(self):
    features = {"decoder_input_tokens": np.arange(64, dtype=np.int32).reshape(8, 8)}
    placed = tiny.on(CUBE).put_batch(features)["decoder_input_tokens"]
    assert {s.data.shape for s in placed.addressable_shards} == {(2, 8)}
    np.testing.assert_array_equal(placed, features["decoder_input_tokens"])

  def test_rows_that_do_not_divide_name_axis_number_and_what_would(self):
    message = (
      r"batch decoder_input_tokens.*'data×fsdp' of size 8 does not divide 'batch' = 12; sizes that"
    )
    with pytest.raises(LayoutError, match=message):
      tiny.on({"data": 4, "fsdp": 2}).put_batch({"decoder_input_tokens": np.zeros((12, 8))})


class TestJit:
  def test_parts_follow_the_plan_inside_and_nothing_is_set_outside(self):
    def twice(x):
      return axes.constrain(x * 2, "batch", "length", "heads", "head_dim")

    y = tiny.on(CUBE).jit(twice)(jnp.ones((4, 8, 4, 4)))
    assert y.sharding.spec == P(("data", "fsdp"), None, "tensor")
    assert twice(jnp.ones((1, 1, 1, 1))).sharding.device_set == {jax.devices()[0]}

  def test_an_activation_that_does_not_divide_is_named(self):
    plan = tiny.on({"tensor": 8})
    with pytest.raises(LayoutError, match="'tensor' of size 8 does not divide 'heads' = 4"):
      plan.jit(lambda x: axes.constrain(x, "batch", "heads"))(jnp.ones((8, 4)))

  def test_several_devices_and_no_mesh_is_an_error(self):
    import contextvars

    constrain = lambda: axes.constrain(jnp.ones((2,)), "batch")  # noqa: E731
    with pytest.raises(UserError, match="8 devices and no mesh"):
      contextvars.Context().run(constrain)


def test_a_trainer_is_laid_out_without_a_device_being_used():
  """`mtm inspect` prints layouts of models that fit no machine at hand."""
  trainer = tiny.trainer("t5", tiny.on(CUBE))
  assert isinstance(trainer, Trainer)
  for leaf in jax.tree.leaves(trainer.abstract):
    assert isinstance(leaf, jax.ShapeDtypeStruct) and leaf.sharding is not None
