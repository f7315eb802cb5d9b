"""One attention on a mesh that cuts its sequence, and on one device: for engines that share one."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtm import axes
from mtm.parts.bias import Bias
from mtm.parts.kernels import attend
from mtm.parts.patterns._algebra import Pattern
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan

B, L, H, G, K = 2, 32, 4, 4, 4


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ByDistance:
  """A learned bias of each head for each distance."""

  table: jax.Array

  def __call__(self, q_place: jax.Array, k_place: jax.Array) -> jax.Array:
    away = jnp.abs(q_place[:, :, None] - k_place[:, None, :])
    return jnp.moveaxis(self.table[:, away], 0, 1)


def packed() -> jax.Array:
  """Three documents and padding in the first example; one document in the second."""
  ids = np.stack([np.arange(L) // 11 + 1, np.ones(L, int)])
  return jnp.asarray(ids * (np.arange(L)[None] < np.array([[L - 5], [L]])), jnp.int32)


def both(
  kernel: Any, pattern: Pattern, sizes: dict[str, int], kv_heads: int = G, **extra: Any
) -> tuple[Any, Any]:
  """Value and gradients by q, k, v and a learned bias on a mesh, and those of plain softmax."""
  draw = np.random.default_rng(0)
  shapes = [(B, L, H, K), (B, L, kv_heads, K), (B, L, kv_heads, K), (H, L), (B, L, H, K)]
  q, k, v, table, d_out = (jnp.asarray(draw.normal(size=s), jnp.float32) for s in shapes)

  def run(engine: Any, q: Any, k: Any, v: Any, table: Any, d_out: Any) -> Any:
    def f(q: Any, k: Any, v: Any, table: Any) -> jax.Array:
      bias = Bias(rules=(ByDistance(table),))
      return attend(q, k, v, pattern, kernel=engine, bias=bias, **extra)

    out, pull = jax.vjp(f, q, k, v, table)
    return out, pull(d_out)

  arrays = q, k, v, table, d_out
  plan = Plan(mesh(**sizes))
  cut = jax.device_get(plan.jit(lambda *arrays: run(kernel, *arrays))(*arrays))
  with axes.use(None):
    return cut, jax.device_get(jax.jit(lambda *arrays: run("reference", *arrays))(*arrays))


def check(cut: Any, whole: Any) -> None:
  """Equal but for the order of float32 sums of products of order one."""
  for got, want in zip(jax.tree.leaves(cut), jax.tree.leaves(whole), strict=True):
    np.testing.assert_allclose(got, want, atol=2e-5, rtol=1e-5)
