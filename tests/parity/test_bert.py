"""BERT against `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

transformers = pytest.importorskip("transformers")
import torch  # noqa: E402

from mtm.families.bert import next_sentence  # noqa: E402
from mtm.interop import tree  # noqa: E402
from tests.parity import draws, harness  # noqa: E402

pytestmark = pytest.mark.parity


class BertForPreTraining(transformers.BertForPreTraining):  # the name goes into its config
  """Theirs, with the logits of tokens where those of the other models are."""

  def forward(self, **inputs: Any) -> Any:
    out = super().forward(**inputs)
    out.logits = out.prediction_logits
    return out


def model(
  made: Any = transformers.BertForMaskedLM,
  vocab: int = 37,
  places: int = 24,
  types: int = 3,
  **fields: Any,
) -> Any:
  config = transformers.BertConfig(
    vocab_size=vocab, max_position_embeddings=places, type_vocab_size=types,
    attn_implementation="eager", **fields,
  )  # fmt: skip
  return made(config)


def paired() -> Any:
  return model(
    BertForPreTraining, hidden_size=12, num_attention_heads=3, num_hidden_layers=1,
    intermediate_size=20,
  )  # fmt: skip


CASES = {
  "bert": harness.Case(
    lambda: model(
      hidden_size=12, num_attention_heads=3, num_hidden_layers=2, intermediate_size=20
    ),
    harness.encoder(37, types=3),
  ),
  "bert_relu": harness.Case(
    lambda: model(
      hidden_size=20, num_attention_heads=5, num_hidden_layers=1, intermediate_size=24,
      hidden_act="relu",
    ),
    harness.encoder(37),
  ),
  "bert_pairs": harness.Case(paired, harness.encoder(37, types=3)),
}  # fmt: skip


def draw(rng: draws.Rng, made: Any = transformers.BertForMaskedLM) -> harness.Case:
  n, act, types = draws.sizes(rng), draws.activation(rng), int(rng.integers(1, 5))
  masked = made is transformers.BertForMaskedLM  # the pooler reads the first token of a row
  return harness.Case(
    lambda: model(
      made, n.vocab, n.places, types, hidden_size=n.embed, num_attention_heads=n.heads,
      num_hidden_layers=n.layers, intermediate_size=n.mlp, hidden_act=act,
    ),
    harness.encoder(n.vocab, types, padding=draws.padding(rng, n.length, left=masked)),
    spread=draws.SPREAD,
  )  # fmt: skip


DRAWS = {"bert": draw}


@pytest.mark.parametrize("name", ["bert", "bert_relu"])
def test_logits_and_gradients(name: str, tmp_path: Path) -> None:
  harness.check(CASES[name], tmp_path)


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_next_sentence_and_its_gradients(seed: int | None, tmp_path: Path) -> None:
  case = CASES["bert_pairs"]
  if seed is not None:
    case = draw(np.random.default_rng(seed), BertForPreTraining)
  torch.manual_seed(0)
  theirs = case.make()
  harness.saved(theirs, tmp_path, spread=case.spread)
  batch, inputs, mask = case.inputs()
  own, params = harness.opened(tmp_path)
  out = theirs(**{name: torch.as_tensor(x) for name, x in inputs.items()})
  weight = np.random.default_rng(1).normal(size=out.logits.shape).astype(np.float32)
  weight *= mask[..., None]
  pair = np.random.default_rng(2).normal(size=(len(mask), 2)).astype(np.float32)
  told = out.seq_relationship_logits
  (out.logits * torch.as_tensor(weight)).sum().add((told * torch.as_tensor(pair)).sum()).backward()

  @jax.jit
  def run(params: Any) -> Any:
    def loss(params: Any) -> Any:
      output = own.apply(params, batch)
      logits = next_sentence(own, params, output.hidden)
      return (output.logits * weight).sum() + (logits * pair).sum(), (output.logits, logits)

    return jax.grad(loss, has_aux=True)(params)

  grads, (logits, ours) = run(params)
  np.testing.assert_allclose(ours, told.detach().numpy(), rtol=1e-4, atol=1e-4)
  real = mask > 0
  np.testing.assert_allclose(
    np.asarray(logits)[real], out.logits.detach().numpy()[real], rtol=1e-4, atol=1e-4
  )
  harness.check_gradients(tmp_path, theirs, grads)


def test_masked_language_modelling_passes_over_the_rest(tmp_path: Path) -> None:
  """As published: a BertForMaskedLM by its config, with what read pairs in its file."""
  theirs = paired()
  harness.saved(theirs, tmp_path)
  config = tmp_path / "config.json"
  config.write_text(config.read_text().replace("BertForPreTraining", "BertForMaskedLM"))
  batch, inputs, mask = CASES["bert_pairs"].inputs()
  own, params = harness.opened(tmp_path)
  assert not any("pooler" in path for path in tree.flatten(params))
  told = theirs(**{name: torch.as_tensor(x) for name, x in inputs.items()}).logits
  logits = np.asarray(own.apply(params, batch).logits)
  real = mask > 0
  np.testing.assert_allclose(logits[real], told.detach().numpy()[real], rtol=1e-4, atol=1e-4)
