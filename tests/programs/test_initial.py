"""Training goes on from what T5X wrote, and from parameters alone."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mtm.errors import UserError
from mtm.families.classifier import bert_classifier
from mtm.families.t5 import t5
from mtm.interop import hf, t5x, tree
from mtm.interop._arrays import read_index, write_index
from mtm.interop.safetensors import ONE
from mtm.objectives.classification import Classification
from mtm.objectives.seq2seq import Seq2Seq
from mtm.programs import initial, published
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from mtm.training.optimizers.adafactor import adafactor
from mtm.training.optimizers.adamw import adamw
from mtm.training.trainer import Trainer
from tests.contracts.discovered import batch_for
from tests.families import recorded, t5x_names


@pytest.fixture(params=["t5_1_1", "t5_tied"])
def case(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any], dict[str, Any]]:
  arrays = t5x_names.load(request.param)
  batch = {k.removeprefix("in/"): x for k, x in arrays.items() if k.startswith("in/")}
  return request.param, arrays, batch


def trainer(batch: dict[str, Any], optimizer: Any, tied: bool, **fields: Any) -> Trainer:
  model = t5(2, 16, 2, 8, 24, 64, dropout=0.0, tied=tied, **fields)
  shapes = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in batch.items()}
  plan = Plan(mesh(devices=jax.devices()[:1]))
  # T5X's loss is a sum here: no normalizing factor.
  return Trainer(model, Seq2Seq(z_loss=1e-4), optimizer, plan, shapes, normalizer=1.0)


def test_the_next_step_is_the_one_that_t5x_took(case: Any) -> None:
  name, arrays, batch = case
  run = trainer(batch, adafactor(1e-2), name == "t5_tied")
  state, record = initial.state(run, str(t5x_names.checkpoint("native", name)))
  assert int(state.step) == 3 and record["first_step"] == 3
  state, _ = run.train_step(state, run.plan.put_batch(batch))
  wanted = t5x_names.tree(arrays, "param_after_step")
  # One step of float32, whose update is about 0.01 of a parameter.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), state.params,
               wanted)  # fmt: skip
  assert int(state.step) == 4


def test_another_optimizer_begins_anew_with_the_parameters(case: Any) -> None:
  name, arrays, batch = case
  run = trainer(batch, adamw(1e-3), name == "t5_tied")
  state, _ = initial.state(run, str(t5x_names.checkpoint("native", name)))
  assert int(state.step) == 0
  jax.tree.map(np.testing.assert_array_equal, state.params, t5x_names.tree(arrays, "param"))


def test_of_a_checkpoint_the_parameters_alone_can_be_taken(case: Any) -> None:
  name, arrays, batch = case
  run = trainer(batch, adafactor(1e-2), name == "t5_tied")
  path = str(t5x_names.checkpoint("native", name))
  state, record = initial.state(run, path, parameters_only=True)
  assert int(state.step) == record["first_step"] == 0
  jax.tree.map(np.testing.assert_array_equal, state.params, t5x_names.tree(arrays, "param"))
  jax.tree.map(np.testing.assert_array_equal, state.opt_state, run.create().opt_state)


@pytest.mark.slow
def test_a_converted_checkpoint_takes_the_next_step_too(case: Any, tmp_path: Path) -> None:
  name, arrays, batch = case
  run = trainer(batch, adafactor(1e-2), name == "t5_tied")
  opened = published.open_checkpoint(t5x_names.checkpoint("native", name))
  published.write(opened, opened.read(run.model, run.plan), "mtm", tmp_path / "ours")
  ours, theirs = (initial.state(run, str(path))[0] for path in (tmp_path / "ours", opened.where))
  assert int(ours.step) == 3
  for field in ("params", "opt_state"):
    jax.tree.map(np.testing.assert_array_equal, getattr(ours, field), getattr(theirs, field))


def test_an_optimizer_state_of_no_use_is_told(tmp_path: Path) -> None:
  folder = tmp_path / "t5x"
  shutil.copytree(t5x_names.checkpoint("native", "t5_1_1"), folder)
  index = read_index(folder)
  scale = index["optimizer"]["state"]["param_states"]["decoder"]["decoder_norm"]["scale"]
  scale["m"] = np.ones(16, np.float32)
  write_index(folder, index)
  arrays = t5x_names.load("t5_1_1")
  batch = {k.removeprefix("in/"): x for k, x in arrays.items() if k.startswith("in/")}
  with pytest.raises(UserError, match="t5x is of no use to Adafactor: .* with momentum"):
    initial.state(trainer(batch, adafactor(1e-2), False), str(folder))


def test_another_model_is_refused(case: Any) -> None:
  name, _, batch = case
  run = trainer(batch, adafactor(1e-2), name == "t5_tied", decoder_layers=1)
  with pytest.raises(UserError, match="is of another model: decoder/stack/period_0"):
    initial.state(run, str(t5x_names.checkpoint("native", name)))


BATCH = batch_for(bert_classifier(1, 12, 3, 37, 3, max_length=24, mlp=20))
BATCH["encoder_target_tokens"] %= 3
POOLER = "bert.pooler.dense.weight"


def classifying(layers: int = 1, classes: int = 3) -> Trainer:
  """A trainer of a classifier with the sizes of the recorded `bert_pairs`."""
  model = bert_classifier(layers, 12, 3, 37, classes, max_length=24, mlp=20, token_types=3)
  shapes = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in BATCH.items()}
  plan = Plan(mesh(devices=jax.devices()[:1]))
  return Trainer(model, Classification(classes=classes), adamw(1e-3), plan, shapes)


def as_another(
  folder: Path, architecture: str, rename: Callable[[str], str | None] = str
) -> tuple[str, dict[str, np.ndarray]]:
  """The recorded `bert_pairs` under another class, with other names or fewer tensors."""
  recorded.directory("bert_pairs", folder)
  config = json.loads((folder / hf.CONFIG).read_text())
  (folder / hf.CONFIG).write_text(json.dumps({**config, "architectures": [architecture]}))
  tensors = load_file(folder / ONE)
  named = {name: x for old, x in tensors.items() if (name := rename(old)) is not None}
  save_file(named, folder / ONE)
  return str(folder), tensors


def test_a_masked_model_gives_a_classifier_all_but_its_last_layer_and_says_so(
  tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  path, tensors = as_another(tmp_path / "theirs", "BertForMaskedLM")
  run = classifying()
  state, record = initial.state(run, path, "head/.*")
  params = tree.flatten(state.params)
  np.testing.assert_array_equal(params["head/pooler/kernel"], tensors[POOLER].T)
  table = tensors["bert.embeddings.word_embeddings.weight"]
  np.testing.assert_array_equal(params["tokens/embedding"], table)
  fresh = tree.flatten(run.create().params)
  np.testing.assert_array_equal(params["head/out/kernel"], fresh["head/out/kernel"])
  assert int(state.step) == 0 and record == {"tokens": 0.0, "first_step": 0}
  said = capsys.readouterr().out
  assert f"{len(fresh) - 2} of the model's {len(fresh)} parameters come from it" in said
  assert "begun afresh: 2: head/out/bias, head/out/kernel\n" in said
  (unused,) = (line for line in said.splitlines() if line.startswith("of the checkpoint unused"))
  assert "cls.predictions.transform.dense.weight" in unused and "cls.seq_relationship" in unused
  assert "bert." not in unused, "all of the encoder is read, and the tied head is its table"
  state, sums = run.train_step(state, run.plan.put_batch(BATCH))
  assert np.isfinite(sums.loss)


def test_a_base_model_gives_its_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
  def bare(name: str) -> str | None:
    base = name.startswith("bert.") and not name.startswith("bert.pooler")
    return name.removeprefix("bert.") if base else None

  path, tensors = as_another(tmp_path / "theirs", "BertModel", bare)
  state, _ = initial.state(classifying(), path, "head/.*")
  query = tensors["bert.encoder.layer.0.attention.self.query.weight"]
  ours = tree.flatten(state.params)["encoder/stack/period_0/mixer/query/kernel"]
  np.testing.assert_array_equal(np.asarray(ours)[0].reshape(12, 12), query.T)
  said = capsys.readouterr().out
  assert "begun afresh: 4: head/out/bias, head/out/kernel, head/pooler/bias" in said
  assert "of the checkpoint unused: none" in said


def test_a_model_of_ours_gives_what_fits(
  tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  path, tensors = as_another(tmp_path / "theirs", "BertForMaskedLM")
  opened = published.open_checkpoint(path)
  params = opened.read(opened.model(), Plan(mesh(devices=jax.devices()[:1])))
  published.write(opened, params, "mtm", tmp_path / "ours")
  state, _ = initial.state(classifying(), str(tmp_path / "ours"), "head/.*")
  table = tensors["bert.embeddings.word_embeddings.weight"]
  np.testing.assert_array_equal(tree.flatten(state.params)["tokens/embedding"], table)
  said = capsys.readouterr().out
  assert "begun afresh: 4: head/out/bias" in said
  assert "unused: 5: head/bias, head/dense/bias, head/dense/kernel, head/norm/bias" in said


def test_nothing_begins_afresh_unasked(tmp_path: Path) -> None:
  path, _ = as_another(tmp_path / "theirs", "BertForMaskedLM")
  with pytest.raises(UserError, match=r"another model: head/.* FALLBACK_TO_SCRATCH='head/\.\*'"):
    initial.state(classifying(), path)
  with pytest.raises(UserError, match=r"has, and this model has not, head/bias, .*head/out"):
    initial.state(classifying(), path, "head/out/.*")
  with pytest.raises(UserError, match=r"lacks encoder/stack/period_0/\S+, .* a wider expression"):
    initial.state(classifying(layers=2), path, "head/.*")
  with pytest.raises(UserError, match=r"'head/\(' is no regular expression"):
    initial.state(classifying(), path, "head/(")


@pytest.mark.slow
def test_what_is_of_the_same_model_goes_on_as_ever(case: Any) -> None:
  name, _, batch = case
  run = trainer(batch, adafactor(1e-2), name == "t5_tied")
  state, _ = initial.state(run, str(t5x_names.checkpoint("native", name)), "head/.*")
  assert int(state.step) == 3


@pytest.fixture
def factored(case: Any) -> tuple[Any, Any, dict[str, Any]]:
  """A run, moments that the real T5X's Adafactor factored, and its parameters one step on."""
  name, arrays, batch = case
  if name == "t5_tied":
    pytest.skip("recorded for the other one")
  told = t5x_names.load("factored")
  leaves = {k: x for k, x in told.items() if k.startswith("state/")}
  leaves |= {k.replace("param", "target", 1): x for k, x in arrays.items() if "param/" in k}
  source = t5x.Indexed(Path("recorded"), leaves)
  run = trainer(batch, adafactor(1e-2, min_dim_size_to_factor=8), False)
  return run, t5x.opened(source), {"batch": batch, **told}


def test_factored_moments_are_those_of_t5x(factored: Any) -> None:
  """Some of its matrices are square, others have the larger side first or last."""
  run, foreign, told = factored
  moments = foreign.moments()
  rows, columns = moments.of("encoder/stack/period_0/channel/wo/kernel")
  assert rows.shape == (2, 24) and columns.shape == (2, 16)
  params = foreign.params(run.model, published.placed(run.abstract.params))
  fresh = run.create()
  optimizer = initial.with_moments(fresh.opt_state, moments)
  state = dataclasses.replace(fresh, params=params, opt_state=optimizer)
  state, _ = run.train_step(state, run.plan.put_batch(told["batch"]))
  wanted = t5x_names.tree(told, "param_after_step")
  # One step of float32, whose update is about 0.01 of a parameter.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), state.params,
               wanted)  # fmt: skip


def test_moments_factored_otherwise_are_refused(factored: Any, case: Any) -> None:
  run, foreign, told = factored
  whole = trainer(told["batch"], adafactor(1e-2), False)
  with pytest.raises(UserError, match=r"shape \(2, 16\) where this optimizer has \(2, 1\)"):
    initial.with_moments(whole.create().opt_state, foreign.moments())
  unfactored = t5x.FORMAT.open(t5x_names.checkpoint("native", case[0])).moments
  assert unfactored is not None
  with pytest.raises(UserError, match="take the optimizer that it was trained with"):
    initial.with_moments(run.create().opt_state, unfactored())
