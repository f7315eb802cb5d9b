"""BERT as a classifier of texts against `transformers`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

transformers = pytest.importorskip("transformers")
import torch  # noqa: E402

from mtm.interop import hf, tree  # noqa: E402
from tests.parity import harness  # noqa: E402

pytestmark = pytest.mark.parity
VOCAB = 37


class BertForSequenceClassification(transformers.BertForSequenceClassification):
  """Theirs, with the logits of a text at all of its tokens: ours stand at the first of them."""

  def forward(self, **inputs: Any) -> Any:
    out = super().forward(**inputs)
    out.logits = out.logits[:, None].expand(-1, inputs["input_ids"].shape[1], -1)
    return out


def model(
  classes: int, made: Any = transformers.BertForSequenceClassification, **fields: Any
) -> Any:
  config = transformers.BertConfig(
    vocab_size=VOCAB, max_position_embeddings=24, type_vocab_size=3, hidden_size=12,
    num_attention_heads=3, num_hidden_layers=2, intermediate_size=20, num_labels=classes,
    attn_implementation="eager", **fields,
  )  # fmt: skip
  return made(config)


def texts() -> harness.Inputs:
  """Padded texts with token types; what counts are their first tokens."""
  batch, inputs, mask = harness.encoder(VOCAB, types=3)()
  return batch, inputs, mask * (np.arange(mask.shape[1]) == 0)


# As many classes as token ids: the harness weighs so many logits.
CASES = {
  "bert_classifier": harness.Case(lambda: model(VOCAB, BertForSequenceClassification), texts),
}


@pytest.mark.parametrize("name", CASES)
def test_logits_and_gradients(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_number_of_classes_is_that_of_its_labels(classes: int, tmp_path: Path) -> None:
  theirs = model(classes, classifier_dropout=0.3)
  harness.saved(theirs, tmp_path)
  foreign = hf.FORMAT.open(tmp_path)
  assert (foreign.arguments["classes"], foreign.arguments["head_dropout"]) == (classes, 0.3)
  own, params = harness.opened(tmp_path)
  batch, inputs, _ = texts()
  told = theirs(**{name: torch.as_tensor(x) for name, x in inputs.items()}).logits
  ours = np.asarray(own.apply(params, batch).logits)[:, 0]
  np.testing.assert_allclose(ours, told.detach().numpy(), rtol=1e-4, atol=1e-4)


def test_a_masked_model_s_file_gives_a_classifier_its_encoder_and_its_pooler(
  tmp_path: Path,
) -> None:
  """As published: no class of `transformers` keeps a pooler beside a masked head but this one."""
  theirs = model(2, transformers.BertForPreTraining)
  harness.saved(theirs, tmp_path)
  config = tmp_path / hf.CONFIG
  config.write_text(config.read_text().replace("BertForPreTraining", "BertForMaskedLM"))
  heads = {foreign.build.__name__: foreign for foreign in hf.FORMAT.heads(tmp_path)}
  assert set(heads) == {"bert", "bert_pairs", "bert_classifier"}
  pooler = next(r for r in heads["bert_classifier"].rows if r.ours == ("head/pooler/kernel",))
  weight = heads["bert_classifier"].source.get(*pooler.theirs)
  np.testing.assert_array_equal(weight, theirs.bert.pooler.dense.weight.detach().numpy())


def test_convert_compares_a_classifier_with_the_original(tmp_path: Path) -> None:
  harness.saved(model(3), tmp_path / "theirs")
  command = [sys.executable, "-m", "mtm.cli", "convert", "theirs", "ours"]
  done = subprocess.run(
    command, cwd=tmp_path, capture_output=True, text=True, check=False,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  (away,) = re.findall(r"largest difference of logits (\S+),", done.stdout)
  assert float(away) < 1e-4
  again = [*command[:3], "convert", "ours", "back", "--to=hf", "--no-compare"]
  subprocess.run(again, cwd=tmp_path, check=True, capture_output=True)
  configs = [json.loads((tmp_path / name / hf.CONFIG).read_text()) for name in ("theirs", "back")]
  assert configs[0] == configs[1]
  a, b = (hf.FORMAT.open(tmp_path / name) for name in ("theirs", "back"))
  first, second = (
    tree.flatten(f.params(f.model(), lambda path, values: np.asarray(values))) for f in (a, b)
  )
  for name, values in first.items():
    np.testing.assert_array_equal(values, second[name])
