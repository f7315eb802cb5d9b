"""C4 raw, and with T5's own objectives as preprocessors."""

from __future__ import annotations

import numpy as np
import pytest

from mtm.data import registry
from mtm.errors import UserError
from tests.data import tiny
from tests.tasks import mocked

TEXT = "return the text with tabs expanded and every whitespace character a space. " * 6


@pytest.mark.parametrize("name", ["c4_v220", "c4_v220_span_corruption", "c4_v220_prefix_lm"])
def test_a_task_resolves_and_preprocesses(name):
  mocked.check(name)


def test_the_raw_task_keeps_a_document_whole():
  with mocked.data(text=TEXT):
    (example, *_) = registry.find("c4_v220").get_dataset(None, "train", shuffle=False)
  ids = example["targets"].numpy()
  assert tiny.vocabulary().decode(ids) == TEXT and ids[-1] == 1


def test_corrupted_spans_put_back_give_the_text():
  found = mocked.examples("c4_v220_span_corruption", count=1, text=TEXT)
  ids = []
  for example in found:
    inputs, targets = example["inputs"][:-1], example["targets"][:-1]
    assert example["inputs"][-1] == example["targets"][-1] == 1
    spans = np.split(targets, np.flatnonzero(targets >= 400))[1:]  # sentinels are 400 to 499
    filled = {span[0]: span[1:] for span in spans}
    for i in inputs:
      ids.extend(filled[i] if i >= 400 else [i])
  # 64 inputs hold 57 or so kept and sentinel tokens of a longer piece: several examples a text.
  assert len(found) > 1
  assert ids == tiny.vocabulary().encode(TEXT)


def test_prefix_and_continuation_join_to_the_text():
  found = mocked.examples("c4_v220_prefix_lm", count=1, text=TEXT)
  ids = [i for example in found for n in ("inputs", "targets") for i in example[n][:-1]]
  assert ids == tiny.vocabulary().encode(TEXT)


def test_the_pipeline_gives_the_lengths_that_the_task_divides_by(tmp_path, monkeypatch):
  from mtm.data.pipeline import Dataset
  from mtm.data.show import plain_objective

  monkeypatch.setenv("MTM_CACHE", str(tmp_path))
  for length in (32, 64):  # one cache of tokens must not serve for the other length
    data = Dataset(
      "c4_v220_span_corruption",
      {"inputs": length, "targets": 32},
      batch_size=4,
      pack=False,
      shuffle=False,
      num_epochs=1,
    )
    with mocked.data(count=1, text=TEXT):
      batch = next(data.batches(plain_objective(["inputs", "targets"]), prefetch=0))
    # T5's piece fills the inputs to the last token, its end.
    assert batch["encoder_input_tokens"].shape == (4, length)
    assert batch["encoder_input_tokens"][0, -1] == 1


def test_a_task_that_divides_needs_lengths():
  with mocked.data(), pytest.raises(UserError, match="divides documents by task_feature_lengths"):
    registry.find("c4_v220_prefix_lm").get_dataset(None, "train", shuffle=False)
