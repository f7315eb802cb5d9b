"""Every transform of the table language is a bijection, and means what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mtm.families._names import (
  FromHeads,
  IntoHeads,
  Joined,
  Same,
  Swapped,
  Transposed,
  every,
  heads_in,
  heads_out,
  linear,
  norm,
  row,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
  ("transform", "shape", "ours"),
  [
    (Same(), (2, 3), [(2, 3)]),
    (Transposed(), (2, 3), [(3, 2)]),
    (IntoHeads(2), (6, 5), [(5, 2, 3)]),
    (IntoHeads(2), (6,), [(2, 3)]),
    (IntoHeads(2, transposed=False), (5, 6), [(5, 2, 3)]),
    (FromHeads(2), (5, 6), [(2, 3, 5)]),
    (FromHeads(2, transposed=False), (6, 5), [(2, 3, 5)]),
    (Joined(3, -1, IntoHeads(2, False)), (5, 18), [(5, 2, 3)] * 3),
    (Joined(3, 0), (6, 5), [(2, 5)] * 3),
    (Joined(2, 1, Swapped()), (3, 8, 5), [(3, 5, 4)] * 2),
  ],
)
def test_there_and_back(transform: Any, shape: tuple[int, ...], ours: list[Any]) -> None:
  theirs = RNG.normal(size=shape)
  loaded = transform.load(theirs)
  assert [x.shape for x in loaded] == ours
  (back,) = transform.save(*loaded)
  np.testing.assert_array_equal(back, theirs)


def test_heads_are_cut_from_the_outputs() -> None:
  weight = RNG.normal(size=(6, 5))  # torch: [outputs, inputs]
  (kernel,) = IntoHeads(2).load(weight)
  x = RNG.normal(size=5)
  np.testing.assert_allclose(np.einsum("d,dhk->hk", x, kernel).reshape(6), weight @ x)
  (out,) = FromHeads(2).load(weight.T)
  y = RNG.normal(size=(2, 3))
  np.testing.assert_allclose(np.einsum("hk,hkd->d", y, out), weight.T @ y.reshape(6))


def test_rows_of_torch_modules_have_weights_and_biases() -> None:
  rows = [
    *linear("a", "x"), *norm("b", "y"), *heads_in("c", "z", 2), *heads_out("d", "w", 2, bias=False)
  ]  # fmt: skip
  named = {one.ours[0]: one.theirs[0] for one in rows}
  assert named == {
    "a/kernel": "x.weight", "a/bias": "x.bias", "b/scale": "y.weight", "b/bias": "y.bias",
    "c/kernel": "z.weight", "c/bias": "z.bias", "d/kernel": "w.weight",
  }  # fmt: skip


def test_layers_are_numbered_by_period() -> None:
  (one,) = every([row("a", "layer.{}.a")], 1, 2)
  assert one.layered and [one.names(r)[0] for r in range(3)] == [
    "layer.1.a", "layer.3.a", "layer.5.a"
  ]  # fmt: skip
  assert not row("a", "b").layered
