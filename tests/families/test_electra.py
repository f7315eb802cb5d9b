"""ELECTRA: two models of one type; their numbers are in test_recorded.py."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families.electra import discriminator, generator
from mtm.interop import hf
from mtm.types import Model
from tests.contracts.discovered import batch_for, parameters

SMALL = discriminator(2, 16, 4, 40, 12, max_length=32, mlp=24)


@pytest.mark.parametrize(
  ("model", "wanted"),
  [  # transformers' ElectraForPreTraining and ElectraForMaskedLM of these sizes; the paper says 14M
    # (small), 110M (base) and 335M (large) of the discriminators (2003.10555, tables 1 to 3).
    (discriminator(12, 256, 4, 30522), 13_549_057),
    (discriminator(12, 768, 12, 30522, 768), 109_483_009),
    (discriminator(24, 1024, 16, 30522, 1024), 335_142_913),
    (generator(12, 64, 1, 30522), 4_620_026),
    (generator(12, 256, 4, 30522, 768), 33_740_602),
    (generator(24, 256, 4, 30522, 1024), 51_295_290),
  ],
)
def test_parameter_count_is_the_published_one(model: Model, wanted: int) -> None:
  batch = {"encoder_input_tokens": np.zeros((1, 2), np.int32)}
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
  assert sum(x.size for x in jax.tree.leaves(shapes)) == wanted


def test_a_discriminator_gives_each_token_one_logit() -> None:
  """And is a family in all else (tests/contracts/test_families.py)."""
  batch = batch_for(SMALL)
  params = parameters(SMALL.init, batch)
  output = jax.jit(SMALL.apply)(params, batch)
  assert output.logits.shape == (*batch["encoder_input_tokens"].shape, 1)
  assert output.logits.dtype == np.float32
  assert SMALL.vocab_size == 40
  grads = jax.jit(jax.grad(lambda p: SMALL.apply(p, batch).logits.sum()))(params)
  for path, grad in jax.tree_util.tree_flatten_with_path(grads)[0]:
    if [getattr(key, "key", None) for key in path][-2:] != ["key", "bias"]:
      assert np.abs(grad).max() > 1e-6, path
  empty = {name: np.zeros_like(x) for name, x in batch.items()}
  assert np.isfinite(jax.jit(SMALL.apply)(params, empty).logits).all()


@pytest.mark.parametrize(
  ("architectures", "build"),
  [(["ElectraForMaskedLM"], generator), (["ElectraForPreTraining"], discriminator)],
)
def test_the_architecture_tells_the_two_apart(architectures: list[str], build: Any) -> None:
  values = {"model_type": "electra", "architectures": architectures}
  assert hf.family_of(values, "config.json").build is build


def test_other_heads_are_refused() -> None:
  values = {"model_type": "electra", "architectures": ["ElectraForTokenClassification"]}
  with pytest.raises(UserError, match="ElectraForMaskedLM, ElectraForPreTraining"):
    hf.family_of(values, "config.json")
