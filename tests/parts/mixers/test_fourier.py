"""Fourier mixing: numpy's transform, of the whole row or of each packed document."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.parts.context import Context
from mtm.parts.mixers.fourier import Fourier

X = np.random.default_rng(0).normal(size=(2, 7, 6)).astype(np.float32)


def run(x: Any, segments: Any = None) -> Any:
  positions = jnp.tile(jnp.arange(x.shape[1])[None], (len(x), 1))
  segments = None if segments is None else jnp.asarray(segments)
  return Fourier().apply({}, jnp.asarray(x), Context(positions, segments))[0]


def transformed(x: np.ndarray) -> np.ndarray:
  return np.fft.fft2(x, axes=(-2, -1)).real


ROWS = {
  "none": None,
  "one": [[1] * 7, [3] * 7],
  "padded": [[1, 1, 1, 1, 1, 0, 0], [0, 0, 2, 2, 2, 2, 2]],
  "holes": [[1, 0, 1, 1, 0, 1, 1], [0, 1, 1, 0, 0, 1, 0]],
  "padding": [[0] * 7, [1] * 7],
}


@pytest.mark.parametrize("name", list(ROWS))
def test_a_row_of_one_document_is_transformed_whole(name: str) -> None:
  np.testing.assert_allclose(run(X, ROWS[name]), transformed(X), rtol=1e-5, atol=1e-5)


def test_packed_documents_are_what_they_are_alone() -> None:
  mixed = run(X, [[1, 1, 1, 2, 2, 2, 2], [0, 1, 1, 4, 4, 7, 0]])
  spans = [(0, 0, 3), (0, 3, 7), (1, 0, 3), (1, 3, 5), (1, 5, 7)]
  for row, start, end in spans:
    wanted = transformed(X[row, start:end])
    np.testing.assert_allclose(mixed[row, start:end], wanted, rtol=1e-4, atol=1e-4)


def test_a_long_packed_document_keeps_its_precision() -> None:
  x = np.random.default_rng(1).normal(size=(1, 500, 3)).astype(np.float32)
  mixed = run(x, [[1] * 490 + [2] * 10])
  np.testing.assert_allclose(mixed[0, :490], transformed(x[0, :490]), rtol=1e-4, atol=1e-3)


def test_gradients_are_those_of_the_transform() -> None:
  weight = np.random.default_rng(2).normal(size=X.shape).astype(np.float32)
  for segments in (ROWS["one"], [[1, 1, 2, 2, 2, 2, 2], [1] * 7]):
    grad = jax.grad(lambda x, s=segments: jnp.sum(run(x, s) * weight))(jnp.asarray(X))
    # The real part of a Fourier transform is a symmetric map.
    np.testing.assert_allclose(grad, run(weight, segments), rtol=1e-4, atol=1e-4)


def test_half_precision_is_transformed_in_float32() -> None:
  x = jnp.asarray(X, jnp.bfloat16)
  mixed = run(x)
  assert mixed.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    mixed.astype(np.float32), transformed(np.asarray(x, np.float32)), rtol=1e-2, atol=1e-2
  )
