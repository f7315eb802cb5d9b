"""`mtm inspect`: a model of gin files or a checkpoint as a table that adds up."""

from __future__ import annotations

import re

import jax
import numpy as np
import pytest

from mtm import cli, config, inspect
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from mtm.training.checkpoint import Checkpoints
from tests.training import tiny

TINY = "--gin_file=families/gpt2/tiny.gin"
SMALL = ["--gin.gpt2.gpt2.embed=16", "--gin.gpt2.gpt2.vocab=40", "--gin.gpt2.gpt2.max_length=8"]


def shown(capsys, *argv):
  """What the command prints."""
  assert cli.main(["inspect", *argv]) == 0
  return capsys.readouterr().out


def told(capsys, *argv):
  """The one line with which it refuses."""
  assert cli.main(["inspect", *argv]) == 1
  out, err = capsys.readouterr()
  assert out == "" and err.count("\n") == 1
  return err


def table(text):
  """Parameter → its cells: shape, axes, mesh, count, bytes a device."""
  lines = [re.split(r" {2,}", line.strip()) for line in text.splitlines()]
  return {name: cells for name, *cells in lines if len(cells) == 5 and name != "parameter"}


def number(cell):
  return int(cell.replace(",", ""))


def made(*flags):
  """The model's parameters, really made."""
  bindings = [flag.removeprefix("--gin.") for flag in flags]
  model = config.load(None, ["families/gpt2/tiny.gin"], bindings).value("MODEL")
  batch = {"decoder_input_tokens": np.zeros((1, 4), np.int32)}
  leaves, _ = jax.tree_util.tree_flatten_with_path(jax.jit(model.init)(jax.random.key(0), batch))
  return {"/".join(key.key for key in path): leaf for path, leaf in leaves}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A MODEL_DIR, and the state saved in it."""
  home = tmp_path_factory.mktemp("run")
  state = tiny.trainer().create()
  checkpoints = Checkpoints(home)
  checkpoints.save(state, {})
  checkpoints.close()
  return home, state


class TestGinFiles:
  def test_every_parameter_is_listed_and_the_total_is_that_of_the_model(self, capsys):
    text, params = shown(capsys, TINY, *SMALL), made(*SMALL)
    rows = table(text)
    assert rows.keys() == params.keys()
    for name, leaf in params.items():
      assert rows[name][0] == " × ".join(map(str, leaf.shape))
      assert number(rows[name][3]) == leaf.size
    assert f"total {sum(leaf.size for leaf in params.values()):,}" in re.sub(" +", " ", text)
    assert "families/gpt2/tiny.gin" in text.splitlines()[0]

  def test_axes_have_names_and_without_a_mesh_every_device_holds_all(self, capsys):
    rows = table(shown(capsys, TINY, *SMALL))
    assert rows["tokens/embedding"] == ["40 × 16", "vocab, embed", "-, -", "640", "2.5 KiB"]

  def test_the_mesh_of_the_gin_files_cuts_what_a_device_holds(self, capsys):
    flags = ["--gin_file=mesh/fsdp_tensor.gin", "--gin.TENSOR_PARALLELISM=2"]
    rows = table(shown(capsys, TINY, *SMALL, *flags))
    # 640 float32 over 2 × 4 devices.
    cells = rows["tokens/embedding"]
    assert cells == ["40 × 16", "vocab, embed", "tensor, fsdp", "640", "320 B"]

  def test_the_rules_of_the_gin_files_say_what_is_cut(self, capsys):
    rows = table(shown(capsys, TINY, *SMALL, "--gin_file=mesh/zero1.gin"))
    # The first stage of ZeRO keeps parameters whole.
    assert rows["tokens/embedding"] == ["40 × 16", "vocab, embed", "-, -", "640", "2.5 KiB"]
    rows = table(shown(capsys, TINY, *SMALL, "--gin_file=mesh/zero1.gin", "--gin.RULES=None"))
    assert rows["tokens/embedding"][2] == "-, fsdp"

  @pytest.mark.parametrize("family", tiny.FAMILIES)
  def test_a_device_holds_its_shards_and_nothing_is_allocated(self, family):
    trainer = tiny.trainer(family, tiny.on({"data": 2, "fsdp": 2, "tensor": 2}))
    before = len(jax.live_arrays())
    rows = list(inspect.rows(trainer.model, trainer.plan))
    assert len(jax.live_arrays()) == before
    params = trainer.create().params
    for row, leaf in zip(rows, jax.tree.leaves(params), strict=True):
      assert row.shape == leaf.shape and row.count == leaf.size
      assert row.bytes_per_device == leaf.addressable_shards[0].data.nbytes
      assert len(row.axes) == len(row.sharding) == leaf.ndim

  def test_a_mesh_that_does_not_fit_the_model_is_told(self, capsys):
    flags = ["--gin_file=mesh/fsdp.gin", "--gin.gpt2.gpt2.vocab=40", "--gin.gpt2.gpt2.embed=20"]
    assert "'fsdp' of size 8 does not divide 'embed' = 20" in told(capsys, TINY, *flags)


class TestCheckpoint:
  @pytest.mark.parametrize("below", ["", "checkpoints", "checkpoints/0"])
  def test_its_parameters_are_those_that_were_saved(self, trained, capsys, below):
    home, state = trained
    text = shown(capsys, str(home / below))
    leaves, _ = jax.tree_util.tree_flatten_with_path(state.params)
    found = table(text)
    assert {name: number(cells[3]) for name, cells in found.items()} == {
      "/".join(key.key for key in path): leaf.size for path, leaf in leaves
    }
    assert str(home / "checkpoints" / "0") in text.splitlines()[0]

  def test_it_equals_the_table_of_its_model_on_one_device(self, trained):
    home, _ = trained
    plan = Plan(mesh(devices=jax.devices()[:1]))
    model = inspect.rows(tiny.trainer().model, plan)
    facts = lambda row: (row.name, tuple(row.shape), row.count, row.bytes_per_device)  # noqa: E731
    assert list(map(facts, inspect.checkpoint_rows(str(home)))) == list(map(facts, model))

  def test_a_directory_without_one_is_told(self, tmp_path, capsys):
    assert "holds no mtm checkpoint" in told(capsys, str(tmp_path))


class TestRefused:
  def test_nothing_given(self, capsys):
    assert told(capsys) == (
      "error: mtm inspect: nothing was given: give a checkpoint, or --gin_file=...\n"
    )

  @pytest.mark.parametrize("given", [[TINY], ["mtm_runs/mine"], []], ids=["gin", "run", "nothing"])
  def test_an_unknown_flag_is_named(self, given, capsys):
    assert "--verbose" in told(capsys, *given, "--verbose")

  def test_a_binding_of_a_checkpoint(self, trained, capsys):
    """Its shapes are what they are."""
    assert "--gin.LAYERS=3: give" in told(capsys, str(trained[0]), "--gin.LAYERS=3")

  def test_both(self, trained, capsys):
    line = told(capsys, str(trained[0]), TINY)
    assert str(trained[0]) in line and "give one of the two" in line

  def test_gin_files_without_a_model(self, capsys):
    assert "MODEL" in told(capsys, "--gin_file=mesh/fsdp.gin")
