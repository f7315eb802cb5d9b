"""Norms against their formulas in float64."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from mtm.parts.norm import LayerNorm, RMSNorm
from tests.contracts.discovered import parameters


def setting(module: LayerNorm | RMSNorm, x: np.ndarray) -> tuple[dict, np.ndarray]:
  params = parameters(module.init, x)
  return params, np.asarray(module.apply(params, x))


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_is_its_formula(bias: bool) -> None:
  x = np.random.default_rng(0).normal(2.0, 3.0, (3, 5, 16)).astype(np.float32)
  params, y = setting(LayerNorm(1e-5, bias), x)
  wide = np.float64(x)
  wanted = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5)
  wanted = wanted * params["params"]["scale"]
  if bias:
    wanted = wanted + params["params"]["bias"]
  np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)


def test_rms_norm_is_its_formula() -> None:
  x = np.random.default_rng(0).normal(2.0, 3.0, (3, 5, 16)).astype(np.float32)
  params, y = setting(RMSNorm(1e-6), x)
  wide = np.float64(x)
  wanted = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6) * params["params"]["scale"]
  np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)


def test_layer_norm_survives_a_mean_far_above_the_deviation() -> None:
  """E[x²] − E[x]² would lose every digit here."""
  x = (1000.0 + np.random.default_rng(0).normal(size=(4, 64))).astype(np.float32)
  wide = np.float64(x)
  wanted = (wide - wide.mean(-1, keepdims=True)) / wide.std(-1, keepdims=True)
  params = {"params": {"scale": np.ones(64, np.float32), "bias": np.zeros(64, np.float32)}}
  # float32 keeps 1000 to 6e-5, and the mean has that error.
  np.testing.assert_allclose(LayerNorm().apply(params, x), wanted, atol=5e-4)


@pytest.mark.parametrize("norm", [LayerNorm(), RMSNorm()])
def test_half_precision_is_computed_in_float32(norm: LayerNorm | RMSNorm) -> None:
  x = np.random.default_rng(0).normal(0, 300.0, (4, 256)).astype(np.float16)
  y = norm.apply(parameters(norm.init, x), x)  # 300² · 256 is beyond float16
  assert y.dtype == jnp.float16
  assert np.isfinite(y).all() and np.abs(y).max() > 1
