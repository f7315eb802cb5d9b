"""TokenObjective's sums; what every objective keeps is in tests/contracts/test_objectives.py."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from mtm.objectives._base import token_sums
from mtm.types import Output

LOGITS = jnp.log(jnp.array([[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]]))
TARGETS = jnp.array([[0, 2, 1]])


def sums(weights: list[float], **losses: float):
  output = Output(LOGITS, LOGITS, losses={k: jnp.float32(v) for k, v in losses.items()})
  return token_sums(output, TARGETS, jnp.array([weights]), 0.0, 0.0)


def test_metrics_are_those_counted_by_hand() -> None:
  means = sums([1.0, 1.0, 1.0]).means()
  wanted = -np.mean(np.log([0.7, 0.1, 0.3]))
  assert means["cross_entropy"] == pytest.approx(wanted, rel=1e-5)
  assert means["loss"] == pytest.approx(wanted, rel=1e-5)
  assert means["accuracy"] == pytest.approx(1 / 3)


def test_weights_choose_tokens() -> None:
  means = sums([0.0, 1.0, 0.0]).means()
  assert means["cross_entropy"] == pytest.approx(-np.log(0.1), rel=1e-5)
  assert means["accuracy"] == 0


def test_auxiliary_losses_count_once_a_token() -> None:
  plain, with_aux = sums([1.0, 1.0, 0.0]), sums([1.0, 1.0, 0.0], balance=0.25)
  assert with_aux.loss - plain.loss == pytest.approx(0.5, rel=1e-5)
  assert with_aux.means()["balance"] == pytest.approx(0.25)


def test_figures_of_layers_are_weighted_by_target_tokens() -> None:
  def of(value: float, weights: list[float]):
    output = Output(LOGITS, LOGITS, metrics={"load": jnp.full((2, 3), value)})
    return token_sums(output, TARGETS, jnp.array([weights]), 0.0, 0.0)

  means = (of(1.0, [1.0, 1.0, 1.0]) + of(4.0, [1.0, 0.0, 0.0])).means()
  np.testing.assert_allclose(means["load"], np.full((2, 3), 1.75))
