"""Splash beside reference, its program run in Python, and what it refuses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm import axes
from mtm.errors import UserError
from mtm.parts.kernels import attend
from mtm.parts.kernels.splash import Splash
from mtm.parts.patterns import Pattern, published
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full
from mtm.parts.patterns.window import Window

SPLASH = Splash(block=128, interpret=True)


def arrays(q_len: int, k_len: int) -> dict[str, jax.Array]:
  rng = np.random.default_rng(0)
  shapes = {"q": (1, q_len, 2, 8), "k": (1, k_len, 1, 8), "v": (1, k_len, 1, 8)}
  return {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in shapes.items()}


@pytest.mark.parametrize(
  "pattern, q_len, k_len, packed",
  [
    (published.longformer(60, 3), 200, 300, False),
    (published.sparse_strided(5), 150, 150, True),
    (Causal() & ~Window(1, 1), 70, 70, False),  # the first queries see nothing
  ],
  ids=["other lengths", "packed", "rows of nothing"],
)
def test_value_and_gradients_are_those_of_reference(
  pattern: Pattern, q_len: int, k_len: int, packed: bool
) -> None:
  x = arrays(q_len, k_len)
  ids = jnp.asarray(np.arange(q_len)[None] // 60 * (np.arange(q_len)[None] < 140))
  extra = {"segment_ids": (ids, ids)} if packed else {}
  d_out = jnp.asarray(np.random.default_rng(1).normal(size=x["q"].shape), jnp.float32)

  def run(kernel: Any) -> Any:
    f = lambda q, k, v: attend(q, k, v, pattern, kernel=kernel, **extra)  # noqa: E731
    out, pull = jax.vjp(jax.jit(f), *x.values())
    return out, *pull(d_out)

  for ours, wanted in zip(run(SPLASH), run("reference"), strict=True):
    np.testing.assert_allclose(ours, wanted, atol=1e-5, rtol=1e-5)  # float32


def test_it_refuses_by_name_what_it_cannot_do(monkeypatch: Any) -> None:
  x, place = arrays(8, 8), jnp.arange(8)
  call = {**x, "pattern": Full()}
  with pytest.raises(UserError, match="it is for TPUs, and this program is for a (cpu|gpu)"):
    attend(**call, kernel="splash")
  monkeypatch.setattr(axes, "platform", lambda: "tpu")
  ids = jnp.ones((1, 8), jnp.int32)
  for extra, why in (
    ({"bias": jnp.zeros((1, 1, 8, 8))}, "it adds no bias"),
    ({"dropout": (jax.random.key(0), 0.5)}, "it drops no probabilities"),
    ({"positions": (place + 1, place)}, "must stand at 0, 1, 2"),
    ({"pattern": Causal() & ~Window(0, 0), "segment_ids": (ids, ids)}, "may see nothing"),
  ):
    with pytest.raises(UserError, match=why):
      attend(**{**call, **extra}, kernel="splash")
