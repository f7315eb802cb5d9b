"""Sums add up and divide once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from mtm.types import Sums


def sums(loss: float, weight: float, right: float) -> Sums:
  w = jnp.float32(weight)
  return Sums(jnp.float32(loss), w, {"accuracy": (jnp.float32(right), w)})


def test_means_are_sums_over_sums_and_not_means_of_means() -> None:
  total = sums(6.0, 3.0, 3.0) + sums(2.0, 1.0, 0.0)
  means = total.means()
  assert means["loss"] == pytest.approx(2.0)
  assert means["accuracy"] == pytest.approx(0.75)


def test_a_weight_of_zero_gives_zero() -> None:
  assert sums(0.0, 0.0, 0.0).means()["loss"] == 0.0


def test_sums_are_a_pytree() -> None:
  assert len(jax.tree.leaves(sums(1.0, 2.0, 3.0))) == 4
  doubled = jax.jit(lambda s: s + s)(sums(1.0, 2.0, 3.0))
  assert doubled.loss == 2.0
