"""T5X's native checkpoints: what the real T5X wrote is read, and what we write reads back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families.gpt2 import gpt2
from mtm.interop import t5x
from mtm.interop._base import Export, Foreign
from tests.families import t5x_names

each = pytest.mark.parametrize("name", ["t5_1_1", "t5_tied"])


def params(foreign: Foreign) -> Any:
  return foreign.params(foreign.model(), lambda path, values: values)


@each
def test_parameters_and_logits_are_those_of_t5x(name: str) -> None:
  foreign = t5x.FORMAT.open(t5x_names.checkpoint("native", name))
  arrays = t5x_names.load(name)
  ours = params(foreign)
  jax.tree.map(np.testing.assert_array_equal, ours, t5x_names.tree(arrays, "param"))
  batch = {k.removeprefix("in/"): x for k, x in arrays.items() if k.startswith("in/")}
  logits = jax.jit(foreign.model(dropout=0.0).apply)(ours, batch).logits
  real = batch["decoder_loss_weights"] > 0
  np.testing.assert_allclose(logits[real], arrays["logits"][real], rtol=2e-5, atol=1e-5)


@each
def test_the_state_of_adafactor_is_read(name: str) -> None:
  foreign = t5x.FORMAT.open(t5x_names.checkpoint("native", name))
  assert foreign.moments is not None
  moments = foreign.moments()
  assert moments.step == 3
  (kernel,) = moments.of("encoder/stack/period_0/mixer/query/kernel")
  assert kernel.shape == (2, 16, 16) and (kernel > 0).all()
  (table,) = moments.of("tokens/embedding")
  assert table.shape == (64, 16)


@each
def test_what_we_write_reads_back_equal(name: str, tmp_path: Path, monkeypatch: Any) -> None:
  monkeypatch.setattr(t5x, "SMALL", 100)  # some arrays in the index, some beside it
  foreign = t5x.FORMAT.open(t5x_names.checkpoint("native", name))
  ours = params(foreign)
  assert foreign.moments is not None
  export = Export(foreign.build, foreign.arguments, ours, moments=foreign.moments())
  t5x.FORMAT.write(tmp_path / "back", export)
  assert t5x.FORMAT.found(tmp_path / "back")
  again = t5x.FORMAT.open(tmp_path / "back")
  assert again.arguments == foreign.arguments
  jax.tree.map(np.testing.assert_array_equal, params(again), ours)
  assert again.source.names() == foreign.source.names()
  for key in foreign.source.names():  # the optimizer's state and its step too
    np.testing.assert_array_equal(again.source.get(key), foreign.source.get(key), err_msg=key)


def test_another_optimizer_is_refused_by_name() -> None:
  arrays = t5x_names.load("factored") | {
    k.replace("param/", "target/"): x for k, x in t5x_names.load("t5_1_1").items()
  }
  leaves = {k: x for k, x in arrays.items() if k.startswith(("target/", "state/"))}
  slots = "state/param_states/decoder/decoder_norm/scale"
  for wrong, told in (
    ({k: x for k, x in leaves.items() if k != f"{slots}/v_row"}, f"it has no {slots}/v_row"),
    (leaves | {f"{slots}/m": np.ones(16, np.float32)}, "it was trained with momentum"),
  ):
    foreign = t5x.opened(t5x.Indexed(Path("recorded"), wrong))
    assert foreign.moments is not None and told in foreign.moments().refused


def test_what_is_damaged_is_told(tmp_path: Path) -> None:
  folder = tmp_path / "damaged"
  shutil.copytree(t5x_names.checkpoint("native", "t5_1_1"), folder)
  shutil.rmtree(folder / "target.encoder.layers_0.mlp.wo.kernel")
  with pytest.raises(UserError, match="wo.kernel is missing or damaged"):
    params(t5x.FORMAT.open(folder))
  index = folder / t5x.INDEX
  index.write_bytes(index.read_bytes()[:100])
  with pytest.raises(UserError, match="checkpoint is damaged or not T5X's"):
    t5x.FORMAT.open(folder)


def test_another_family_is_refused(tmp_path: Path) -> None:
  with pytest.raises(UserError, match="is written for t5, t5_decoder and umt5, and this is"):
    t5x.FORMAT.write(tmp_path, Export(gpt2, {}, {}))
