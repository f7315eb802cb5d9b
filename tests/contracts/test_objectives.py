"""Every objective sums: microbatches and padding change nothing, and all it reads is declared."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families.bert import bert
from mtm.families.gpt2 import gpt2
from mtm.families.t5 import t5
from mtm.objectives._base import TokenObjective
from mtm.types import Batch, Sums
from tests.contracts.discovered import examples, features, parameters

each = pytest.mark.parametrize("objective", examples("mtm.objectives"))
VOCAB = 40
MODELS = {
  "causal_lm": lambda: gpt2(1, 16, 2, VOCAB, max_length=32, mlp=24),
  "prefix_lm": lambda: gpt2(1, 16, 2, VOCAB, max_length=32, mlp=24),
  "mlm": lambda: bert(1, 16, 2, VOCAB, max_length=32, mlp=24),
  "seq2seq": lambda: t5(1, 16, 2, 8, 24, VOCAB),
  "span_corruption": lambda: t5(1, 16, 2, 8, 24, VOCAB),
}


@functools.cache
def setting(name: str) -> tuple[Any, Any]:
  """A model that reads what this objective's preprocessor makes, and its parameters."""
  model = MODELS[name]()
  batch = {n: np.zeros((1, 8), np.int32) for n in model.inputs}
  return model, parameters(model.init, batch)


def of(objective: TokenObjective) -> tuple[Any, Any]:
  return setting(type(objective).__module__.rsplit(".", 1)[1])


def padded_batch(model: Any) -> dict[str, np.ndarray]:
  """Four rows with 8, 5, 3 and 1 real tokens: microbatches have different weights."""
  batch: dict[str, np.ndarray] = {}
  lengths = np.array([[8], [5], [3], [1]])
  for name in model.inputs:
    made = features(name.split("_")[0], 4, 8, VOCAB)
    batch |= {n: np.where(np.arange(8)[None] < lengths, x, 0) for n, x in made.items()}
  return batch


def run(objective: TokenObjective, batch: Batch) -> tuple[Sums, Any]:
  """The sums and the gradient of the summed loss."""
  model, params = of(objective)

  def loss(params: Any) -> tuple[jax.Array, Sums]:
    sums = objective.loss(model.apply, params, batch)
    return sums.loss, sums

  grads, sums = jax.jit(jax.grad(loss, has_aux=True))(params)
  return sums, grads


def close(a: Any, b: Any) -> None:
  """Equal up to the order of float32 sums."""
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5), a, b)


@each
def test_microbatches_add_up_to_the_batch(objective: TokenObjective) -> None:
  objective = dataclasses.replace(objective, z_loss=1e-2, label_smoothing=0.1)
  batch = padded_batch(of(objective)[0])
  whole, grads = run(objective, batch)
  parts = [run(objective, {n: x[i : i + 2] for n, x in batch.items()}) for i in (0, 2)]
  close(whole, parts[0][0] + parts[1][0])
  close(grads, jax.tree.map(jnp.add, parts[0][1], parts[1][1]))


@each
def test_padding_changes_nothing(objective: TokenObjective) -> None:
  batch = padded_batch(of(objective)[0])
  wider = {n: np.pad(x, ((0, 1), (0, 3))) for n, x in batch.items()}
  (sums, grads), (wide_sums, wide_grads) = run(objective, batch), run(objective, wider)
  close(sums, wide_sums)
  close(grads, wide_grads)


@each
def test_weight_counts_target_tokens(objective: TokenObjective) -> None:
  batch = padded_batch(of(objective)[0])
  sums, _ = run(objective, batch)
  assert sums.weight == 8 + 5 + 3 + 1
  means = sums.means()
  assert set(means) == {"loss", "cross_entropy", "accuracy", "z_loss"}
  assert means["loss"] == pytest.approx(float(sums.loss) / 17, rel=1e-6)
  assert 0 <= means["accuracy"] <= 1


@each
def test_a_batch_of_padding_gives_zero_and_no_nan(objective: TokenObjective) -> None:
  batch = {n: np.zeros_like(x) for n, x in padded_batch(of(objective)[0]).items()}
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
  model, params = setting("span_corruption")
  objective = next(p.values[0] for p in examples("mtm.objectives") if p.id == "causal_lm-0")
  with pytest.raises(UserError, match="encoder_input_tokens"):
    objective.loss(model.apply, params, features("decoder", 2, 8, VOCAB))
