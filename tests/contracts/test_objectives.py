"""Every objective sums: microbatches and padding change nothing, and all it reads is declared."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families.t5 import t5
from mtm.objectives._base import TokenObjective
from mtm.types import Batch, Output, Sums
from tests.contracts.discovered import examples, features

each = pytest.mark.parametrize("objective", examples("mtm.objectives"))
VOCAB = 40
PARAMS = {"table": np.random.default_rng(5).normal(size=(VOCAB, VOCAB)).astype(np.float32)}


def apply(params: Any, batch: Batch, rng: Any = None, train: bool = False) -> Output:
  """The smallest model: the logits after a token are its row of a table. Whether a real one's
  logits depend on padding is asked of families; here the question is the loss."""
  del rng, train
  side = "decoder" if "decoder_input_tokens" in batch else "encoder"
  logits = jnp.take(params["table"], batch[f"{side}_input_tokens"], axis=0)
  balance = jnp.mean(params["table"] ** 2)  # an auxiliary loss, a mean over tokens
  return Output(logits, logits, losses={"balance": balance})


def padded_batch(objective: TokenObjective) -> dict[str, np.ndarray]:
  """Four rows with 8, 5, 3 and 1 real tokens: microbatches have different weights."""
  lengths = np.array([[8], [5], [3], [1]])
  made = features(objective.side, 4, 8, VOCAB)
  return {n: np.where(np.arange(8)[None] < lengths, x, 0) for n, x in made.items()}


def run(objective: TokenObjective, batch: Batch) -> tuple[Sums, Any]:
  """The sums and the gradient of the summed loss."""

  def loss(params: Any) -> tuple[jax.Array, Sums]:
    sums = objective.loss(apply, params, batch)
    return sums.loss, sums

  grads, sums = jax.jit(jax.grad(loss, has_aux=True))(PARAMS)
  return sums, grads


def close(a: Any, b: Any) -> None:
  """Equal up to the order of float32 sums."""
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5), a, b)


@each
def test_microbatches_add_up_to_the_batch(objective: TokenObjective) -> None:
  objective = dataclasses.replace(objective, z_loss=1e-2, label_smoothing=0.1)
  batch = padded_batch(objective)
  whole, grads = run(objective, batch)
  parts = [run(objective, {n: x[i : i + 2] for n, x in batch.items()}) for i in (0, 2)]
  close(whole, parts[0][0] + parts[1][0])
  close(grads, jax.tree.map(jnp.add, parts[0][1], parts[1][1]))


@each
def test_padding_changes_nothing(objective: TokenObjective) -> None:
  batch = padded_batch(objective)
  wider = {n: np.pad(x, ((0, 1), (0, 3))) for n, x in batch.items()}
  (sums, grads), (wide_sums, wide_grads) = run(objective, batch), run(objective, wider)
  close(sums, wide_sums)
  close(grads, wide_grads)


@each
def test_weight_counts_target_tokens(objective: TokenObjective) -> None:
  batch = padded_batch(objective)
  sums, _ = run(objective, batch)
  assert sums.weight == 8 + 5 + 3 + 1
  means = sums.means()
  assert set(means) == {"loss", "cross_entropy", "accuracy", "z_loss", "balance"}
  assert means["loss"] == pytest.approx(float(sums.loss) / 17, rel=1e-6)
  assert 0 <= means["accuracy"] <= 1


@each
def test_a_batch_of_padding_gives_zero_and_no_nan(objective: TokenObjective) -> None:
  batch = {n: np.zeros_like(x) for n, x in padded_batch(objective).items()}
  sums, grads = run(objective, batch)
  assert sums.loss == 0 and sums.weight == 0
  assert sums.means()["loss"] == 0
  jax.tree.map(lambda g: np.testing.assert_array_equal(g, np.zeros_like(g)), grads)


@each
def test_preprocessor_is_a_name_below_the_data_package(objective: TokenObjective) -> None:
  module, function = objective.preprocessor.split(":")
  assert module.startswith("mtm.data.preprocessors.")
  assert function.isidentifier()


def test_a_model_that_reads_other_features_is_told() -> None:
  model = t5(1, 8, 2, 4, 8, VOCAB)
  objective = next(p.values[0] for p in examples("mtm.objectives") if p.id == "causal_lm-0")
  with pytest.raises(UserError, match="encoder_input_tokens"):
    objective.loss(model.apply, {}, features("decoder", 2, 8, VOCAB))
