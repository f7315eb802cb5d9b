"""A small program for eight devices: three layers of ZeRO-3 under a scan, each computed again for
its gradient."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from mtm import axes
from mtm.sharding.mesh import mesh

LAYERS, ROWS, WIDTH = 3, 16, 32
RULES = {"batch": ("fsdp",), "embed": (), "mlp": ("fsdp",), "layers": ()}


@pytest.fixture(scope="session")
def text() -> str:
  """The gradient of three layers, compiled."""
  layout = axes.Layout(mesh(data=1, fsdp=8), RULES)

  def loss(x, kernels):
    def layer(x, kernel):
      return jnp.tanh(x @ axes.constrain(kernel, "embed", "embed")), None

    return jnp.sum(jax.lax.scan(jax.checkpoint(layer), x, kernels)[0])

  def shape(names, *sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32, sharding=layout.sharding(names, sizes))

  x = shape(("batch", "embed"), ROWS, WIDTH)
  kernels = shape(("layers", "mlp", "embed"), LAYERS, WIDTH, WIDTH)
  with axes.use(layout):
    made = jax.jit(jax.grad(loss, 1), out_shardings=kernels.sharding).lower(x, kernels).compile()
  return made.as_text()
