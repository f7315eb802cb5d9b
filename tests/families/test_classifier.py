"""Any encoder under a head of classes; BERT's is compared in tests/families/test_recorded.py."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families.albert import albert
from mtm.families.bert import bert
from mtm.families.classifier import bert_classifier, classifier
from mtm.families.distilbert import distilbert
from mtm.families.electra import discriminator, generator
from mtm.families.gpt2 import gpt2
from mtm.families.mpnet import mpnet
from mtm.families.roberta import roberta
from mtm.parts.heads import DenseClassHead
from tests.contracts.discovered import batch_for, parameters

SMALL: dict[str, Any] = {"max_length": 32, "mlp": 24}
ENCODERS = {
  "bert": lambda: bert(2, 16, 4, 40, **SMALL),
  "roberta": lambda: roberta(2, 16, 4, 40, **SMALL),
  "electra": lambda: discriminator(2, 16, 4, 40, 12, **SMALL),
  "electra_generator": lambda: generator(2, 16, 4, 40, 12, **SMALL),
  "albert": lambda: albert(2, 16, 4, 40, 12, **SMALL),
  "distilbert": lambda: distilbert(2, 16, 4, 40, **SMALL),
  "mpnet": lambda: mpnet(2, 16, 4, 40, **SMALL),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_classifies_and_keeps_the_parameters_of_its_own(name: str) -> None:
  encoder = ENCODERS[name]()
  model = classifier(encoder, 3, head=DenseClassHead)
  batch = batch_for(model)
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
  before = jax.eval_shape(encoder.init, jax.random.key(0), batch)
  assert {n: x for n, x in shapes.items() if n != "head"} == {
    n: x for n, x in before.items() if n != "head"
  }
  assert sorted(shapes["head"]) == ["dense", "out"]
  output = jax.eval_shape(model.apply, shapes, batch)
  assert output.logits.shape == (2, 8, 3)


def test_packed_texts_have_the_classes_that_they_have_alone() -> None:
  model = bert_classifier(2, 16, 4, 40, 3, **SMALL)
  rng = np.random.default_rng(0)
  texts = [rng.integers(3, 40, size).astype(np.int32) for size in (5, 3)]
  row = {
    "encoder_input_tokens": np.concatenate(texts)[None],
    "encoder_positions": np.concatenate([np.arange(5), np.arange(3)])[None],
    "encoder_segment_ids": np.array([[1] * 5 + [2] * 3]),
  }
  params = parameters(model.init, row)
  packed = model.apply(params, row).logits[0, [0, 5]]
  alone = [model.apply(params, {"encoder_input_tokens": x[None]}).logits[0, 0] for x in texts]
  np.testing.assert_allclose(packed, np.stack(alone), rtol=1e-5, atol=1e-5)


def test_the_head_drops_as_much_as_it_is_told() -> None:
  model = bert_classifier(1, 16, 4, 40, 3, dropout=0.0, head_dropout=0.5, **SMALL)
  batch = batch_for(model)
  params = parameters(model.init, batch)
  drawn = [model.apply(params, batch, jax.random.key(s), train=True) for s in (0, 1)]
  np.testing.assert_array_equal(drawn[0].hidden, drawn[1].hidden)
  assert np.abs(drawn[0].logits - drawn[1].logits).max() > 1e-2


def test_what_cannot_classify_is_refused() -> None:
  with pytest.raises(UserError, match="this model is a Decoder: give it one of a family such as"):
    classifier(gpt2(1, 16, 2, 40, max_length=32), 2)
  with pytest.raises(UserError, match="at least 1"):
    classifier(ENCODERS["bert"](), 0)
