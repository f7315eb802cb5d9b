"""Published classifiers against `transformers`: logits, gradients, hidden states, a conversion."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from mtm import cli  # noqa: E402
from mtm.interop import hf  # noqa: E402
from tests.parity import harness  # noqa: E402

pytestmark = pytest.mark.parity
VOCAB = 37
SIZES = {
  "vocab_size": VOCAB, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
  "intermediate_size": 20, "max_position_embeddings": 24,
}  # fmt: skip
FIELDS: dict[str, dict[str, Any]] = {
  "Roberta": {**SIZES, "type_vocab_size": 1},
  "DistilBert": {
    "vocab_size": VOCAB, "dim": 12, "n_layers": 2, "n_heads": 3, "hidden_dim": 20,
    "max_position_embeddings": 24,
  },
  "Albert": {**SIZES, "embedding_size": 8},
  "Electra": {**SIZES, "embedding_size": 8},
  "MPNet": SIZES,
  "Bart": {
    "vocab_size": VOCAB, "d_model": 12, "encoder_layers": 2, "decoder_layers": 1,
    "encoder_attention_heads": 3, "decoder_attention_heads": 3, "encoder_ffn_dim": 20,
    "decoder_ffn_dim": 20, "max_position_embeddings": 24,
  },
}  # fmt: skip
BOTH = "Bart"


def model(name: str, classes: int, spread: bool = False) -> Any:
  """Theirs; `spread`: with the logits of a text at all of its tokens, as ours has some at each."""
  kind = getattr(transformers, f"{name}ForSequenceClassification")

  class Spread(kind):  # type: ignore[misc, valid-type]
    def forward(self, **inputs: Any) -> Any:
      out = super().forward(**inputs)
      length = inputs.get("decoder_input_ids", inputs["input_ids"]).shape[1]
      out.logits = out.logits[:, None].expand(-1, length, -1)
      return out

  Spread.__name__ = kind.__name__
  config = getattr(transformers, f"{name}Config")(
    **FIELDS[name], num_labels=classes, attn_implementation="eager"
  )
  return (Spread if spread else kind)(config)


def texts(name: str) -> Callable[[], harness.Inputs]:
  """Padded texts; what counts are their first tokens, and BART's last ones."""

  def make() -> harness.Inputs:
    if name != BOTH:
      pad = getattr(transformers, f"{name}Config")().pad_token_id
      batch, inputs, mask = harness.encoder(VOCAB, pad=pad)()
      return batch, inputs, mask * (np.arange(mask.shape[1]) == 0)
    batch, inputs, mask = harness.both(VOCAB, begin=2, pad=1, targets=harness.SOURCE)()
    ends = mask.sum(1) - 1
    rows, end = np.arange(len(ends)), transformers.BartConfig().eos_token_id
    for tokens in (batch["encoder_input_tokens"], inputs["input_ids"]):
      tokens[tokens == end] = end + 1
    # Their mask of ends is that of the encoder's ids, and their states are the decoder's.
    width = mask.shape[1]
    mask = np.zeros_like(mask)
    source = np.full((len(ends), width), 1)
    real = np.arange(width)[None] < (ends + 1)[:, None]
    source[real] = np.random.default_rng(3).integers(4, VOCAB, int(real.sum()))
    source[rows, ends], mask[rows, ends] = end, 1
    for told, key in ((batch, "encoder_input_tokens"), (inputs, "input_ids")):
      told[key] = source
    batch["encoder_segment_ids"] = inputs["attention_mask"] = real.astype(np.int64)
    return batch, inputs, mask

  return make


# As many classes as token ids: the harness weighs so many logits.
CASES = {
  f"{name.lower()}_classifier": harness.Case(
    functools.partial(model, name, VOCAB, True), texts(name)
  )
  for name in FIELDS
}


@pytest.mark.parametrize("name", CASES)
def test_logits_and_gradients(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)


@pytest.mark.parametrize("name", FIELDS)
def test_a_conversion_there_and_back_is_compared(
  name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  harness.saved(model(name, 3), tmp_path / "theirs")
  ways = (("theirs", "ours"), ("ours", "back", "--to=hf"), ("back", "again"))
  for source, target, *flags in ways:
    command = ["convert", str(tmp_path / source), str(tmp_path / target), *flags]
    assert cli.main(command) == 0
  assert capsys.readouterr().out.count("beside transformers") == 3
  a, b = (hf.FORMAT.open(tmp_path / folder).source for folder in ("theirs", "back"))
  assert a.names() == b.names()
  for key in a.names():
    np.testing.assert_array_equal(a.get(key), b.get(key), err_msg=key)
