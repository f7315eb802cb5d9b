"""The feed-forward layer against numpy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.parts.context import Context
from mtm.parts.mlp import Mlp
from tests.contracts.discovered import parameters


@pytest.mark.parametrize("gated", [False, True])
def test_mlp_is_its_formula(gated: bool) -> None:
  x = np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float32)
  context = Context(jnp.zeros((2, 3), int))
  mlp = Mlp(12, jax.nn.relu, gated=gated, bias=True)
  params = parameters(mlp.init, x, context)
  p = params["params"]

  def dense(name: str, x: np.ndarray) -> np.ndarray:
    return x @ p[name]["kernel"] + p[name]["bias"]

  if gated:
    hidden = np.maximum(dense("wi_0", x), 0) * dense("wi_1", x)
  else:
    hidden = np.maximum(dense("wi", x), 0)
  y, aux = mlp.apply(params, x, context)
  np.testing.assert_allclose(y, dense("wo", hidden), rtol=1e-5, atol=1e-5)
  assert aux.cache is None and not aux.losses
