"""Activations against closed forms of scipy."""

from __future__ import annotations

import numpy as np
import scipy.special
import scipy.stats

from mtm.parts.activations import gelu, quick_gelu

X = np.linspace(-6, 6, 101, dtype=np.float32)


def test_gelu_is_x_times_the_normal_distribution() -> None:
  # float32; the product of two roundings.
  np.testing.assert_allclose(gelu(X), X * scipy.stats.norm.cdf(X), rtol=1e-5, atol=1e-6)


def test_quick_gelu_is_x_times_a_sigmoid() -> None:
  np.testing.assert_allclose(quick_gelu(X), X * scipy.special.expit(1.702 * X), rtol=1e-5)
