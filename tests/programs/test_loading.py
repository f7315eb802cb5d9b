"""A trained model from its directory: the same bits on any mesh, and its vocabulary."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from mtm.axes import LayoutError
from mtm.data.vocabulary import Bytes
from mtm.errors import UserError
from mtm.families.gpt2 import gpt2
from mtm.programs import loading
from mtm.sharding.mesh import mesh
from mtm.training.checkpoint import Checkpoints
from tests.training import tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A MODEL_DIR with a checkpoint and a vocabulary, and the parameters in it."""
  home = tmp_path_factory.mktemp("run")
  state = tiny.trainer().create()
  checkpoints = Checkpoints(home)
  checkpoints.save(state, {})
  checkpoints.close()
  Bytes(7).save(home / loading.VOCABULARY)
  return home, jax.device_get(state.params)


def model(**changes):
  build, _ = tiny.FAMILIES["gpt2"]
  return build(**changes)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_example_is_all_that_a_model_needs_to_run(family):
  made = tiny.FAMILIES[family][0]()
  batch = loading.example(made, length=4)
  assert all(x.shape == (1, 4) for x in batch.values())
  # A model without a default for a feature that the example lacks would fail here.
  out = jax.eval_shape(lambda: made.apply(made.init(jax.random.key(0), batch), batch))
  assert out.logits.shape == (1, 4, tiny.VOCAB)


@pytest.mark.parametrize("sizes", tiny.MESHES.values(), ids=tiny.MESHES)
def test_abstract_parameters_lie_as_a_trainers_do(sizes):
  trainer = tiny.trainer(plan=tiny.on(sizes))
  got = loading.abstract_parameters(trainer.model, trainer.plan)
  assert jax.tree.map(str, got) == jax.tree.map(str, trainer.abstract.params)
  for x, wanted in zip(jax.tree.leaves(got), jax.tree.leaves(trainer.abstract.params), strict=True):
    assert x.sharding == wanted.sharding


def test_a_mesh_that_does_not_divide_a_parameter_is_an_error_that_names_it():
  with pytest.raises(LayoutError, match="parameter .*'tensor' of size 8 does not divide"):
    loading.abstract_parameters(gpt2(1, 12, 4, 13), tiny.on({"data": 1, "tensor": 8}))


@pytest.mark.parametrize("sizes", [{"data": 8}, {"data": 2, "fsdp": 2, "tensor": 2}], ids=str)
def test_parameters_come_back_bit_for_bit_on_any_mesh(trained, sizes):
  home, params = trained
  made = mesh(**sizes)
  plan, got = loading.parameters(model(), made, str(home))
  assert plan.mesh == made
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(got), params)
  wanted = loading.abstract_parameters(model(), plan)
  for x, where in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
    assert x.sharding.is_equivalent_to(where.sharding, x.ndim)


def test_parameters_of_another_model_are_refused(trained):
  with pytest.raises(UserError, match="is of another model"):
    loading.parameters(model(mlp=48), mesh(), str(trained[0]))


@pytest.mark.parametrize("below", ["", "checkpoints", "checkpoints/0"])
def test_the_vocabulary_is_found_from_the_run_and_from_a_checkpoint(trained, below):
  assert loading.vocabulary(trained[0] / below) == Bytes(7)


def test_a_run_without_vocabulary_or_checkpoint_says_so(trained, tmp_path):
  with pytest.raises(UserError, match="holds no mtm checkpoint"):
    loading.vocabulary(tmp_path)
  (tmp_path / "checkpoints" / "3" / "params").mkdir(parents=True)
  with pytest.raises(UserError, match="no vocabulary is saved here"):
    loading.vocabulary(tmp_path)
