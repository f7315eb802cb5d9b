"""What an expert computes is what `Mlp` computes, with the same parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm import axes
from mtm.parts.context import Context
from mtm.parts.experts.mlp import ExpertMlp
from mtm.parts.mlp import Mlp

SHAPES = [ExpertMlp(6), ExpertMlp(6, gated=True, bias=True, activation=jax.nn.relu)]


def one(rows: jax.Array, layer: Mapping[str, jax.Array]) -> jax.Array:
  y = rows @ layer["kernel"]
  return y + layer["bias"][None, None, :] if "bias" in layer else y


@pytest.mark.parametrize("expert", SHAPES)
def test_an_expert_is_an_mlp(expert: ExpertMlp) -> None:
  rng = np.random.default_rng(0)
  weights = {
    name: {
      key: jnp.asarray(rng.normal(size=spec.shape), jnp.float32) for key, spec in spec_of.items()
    }
    for name, spec_of in expert.parameters(4).items()
  }
  x = jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.float32)
  mlp = Mlp(6, expert.activation, expert.gated, expert.bias)
  with axes.use(None):
    want, _ = mlp.apply({"params": weights}, x, Context(jnp.zeros((2, 3), jnp.int32)))
  np.testing.assert_allclose(expert(x, weights, one, None), want, rtol=1e-6, atol=1e-6)


def test_dropout_needs_a_key_and_keeps_the_mean() -> None:
  expert = dataclasses.replace(SHAPES[0], hidden=4096, activation=jnp.abs, dropout=0.25)
  weights = {
    "wi": {"kernel": jnp.ones((1, 4096), jnp.float32)},
    "wo": {"kernel": jnp.ones((4096, 1), jnp.float32)},
  }
  x = jnp.ones((1, 1, 1), jnp.float32)
  assert float(expert(x, weights, one, None)[0, 0, 0]) == 4096
  dropped = float(expert(x, weights, one, jax.random.key(0))[0, 0, 0])
  assert dropped != 4096 and abs(dropped - 4096) < 5 * 4096 * (0.25 / 0.75 / 4096) ** 0.5
