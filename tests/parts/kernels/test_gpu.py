"""cuDNN's attention: what it is told of a pattern, what it refuses, and on a GPU its numbers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm import axes
from mtm.errors import UserError
from mtm.parts.kernels import attend
from mtm.parts.kernels.gpu import _flags
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full
from mtm.parts.patterns.global_places import Global
from mtm.parts.patterns.strided import Strided
from mtm.parts.patterns.window import Window

on_gpu = pytest.mark.skipif(jax.default_backend() != "gpu", reason="there is no GPU")


def test_patterns_that_it_has_flags_for() -> None:
  assert _flags(Full()) == {}
  assert _flags(Causal()) == {"is_causal": True}
  for pattern in (Causal() & Window(3, 0), Window(3, 0) & Causal()):
    assert _flags(pattern) == {"is_causal": True, "local_window_size": (3, 0)}


def test_other_patterns_go_as_a_mask() -> None:
  for pattern in (
    Window(3, 3),
    Causal() & Window(3, 0, dilation=2),
    Causal() & Strided(2),
    Causal() | Window(1, 1),
  ):
    assert _flags(pattern) is None


def test_it_refuses_by_name_what_it_cannot_do(monkeypatch: Any) -> None:
  x = jnp.zeros((1, 8, 2, 16), jnp.bfloat16)
  monkeypatch.setattr(axes, "platform", lambda: "cpu")
  with pytest.raises(UserError, match="it is for NVIDIA GPUs, and this program is for a cpu"):
    attend(x, x, x, Full(), kernel="gpu")
  monkeypatch.setattr(axes, "platform", lambda: "gpu")
  for wrong, why in (
    ({"q": x.astype(jnp.float32)}, "bfloat16 or float16, and queries are float32"),
    ({"positions": (jnp.arange(8) + 1, jnp.arange(8))}, "must stand at 0, 1, 2"),
    ({"dropout": (jax.random.key(0), 0.1)}, "its dropout"),
    (dict.fromkeys("qkv", jnp.zeros((1, 8, 2, 136), jnp.bfloat16)), "heads have 136 features"),
  ):
    call = {**dict.fromkeys("qkv", x), "pattern": Full(), **wrong}
    with pytest.raises(UserError, match=why):
      attend(**call, kernel="gpu")


@on_gpu
@pytest.mark.parametrize("segments", [False, True], ids=["whole", "packed"])
@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
@pytest.mark.parametrize(
  "pattern",
  [
    Full(), Causal(), Causal() & Window(100, 0), Window(50, 70), Causal() & Strided(7),
    Window(30, 30) | Global(5),
  ],
)  # fmt: skip
def test_value_and_gradients_are_those_of_reference(
  pattern: Pattern, biased: bool, segments: bool
) -> None:
  rng = np.random.default_rng(0)
  shapes = {"q": (2, 256, 4, 64), "k": (2, 256, 2, 64), "v": (2, 256, 2, 64)}
  x = {n: jnp.asarray(rng.normal(size=s), jnp.bfloat16) for n, s in shapes.items()}
  bias = jnp.asarray(rng.normal(size=(1, 4, 256, 256)), jnp.float32) if biased else None
  ids = jnp.asarray(np.minimum(np.arange(256) // 90, 2)[None].repeat(2, 0) + 1)
  ids = ids.at[1, 200:].set(0)
  extra = {"segment_ids": (ids, ids)} if segments else {}
  d_out = jnp.asarray(rng.normal(size=shapes["q"]), jnp.bfloat16)

  def run(kernel: str) -> Any:
    f = lambda q, k, v: attend(q, k, v, pattern, bias=bias, kernel=kernel, **extra)  # noqa: E731
    out, pull = jax.vjp(jax.jit(f), *x.values())
    return out, *pull(d_out)

  for ours, wanted in zip(run("gpu"), run("reference"), strict=True):
    ours, wanted = (np.asarray(a, np.float32) for a in (ours, wanted))
    # bfloat16 keeps 8 bits; sums over 256 keys of rounded probabilities.
    np.testing.assert_allclose(ours, wanted, atol=0.02 * np.abs(wanted).max())
