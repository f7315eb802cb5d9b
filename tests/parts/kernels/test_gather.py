"""Blocks taken and added are those that numpy takes, on one CPU and on a mesh."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm import axes
from mtm.parts import _cpu
from mtm.parts.kernels import _gather
from mtm.parts.kernels._gather import add, take, take_turned, turned, untake
from mtm.sharding.mesh import mesh

BATCH, BLOCKS, BLOCK, KV_HEADS, GROUP, WIDTH = 4, 5, 3, 2, 2, 6
INDEX = np.array([[4, 0], [1, 1], [2, 3]], np.int32)  # [at_once, n]; a block twice in a row


def array(heads: int, seed: int = 0) -> np.ndarray:
  shape = (BATCH, BLOCKS, BLOCK, heads, WIDTH)
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def layout() -> axes.Layout:
  rules = {"batch": ("data",), "heads": ("tensor",), "kv_heads": ("tensor",)}
  return axes.Layout(mesh(data=2, tensor=2, devices=jax.devices()[:4]), rules)


@pytest.fixture(params=["one CPU", "mesh"])
def where(request: Any) -> Any:
  """Makes the test's programs for one device, or for a mesh: two ways to take."""
  cut = request.param == "mesh"
  if cut and jax.device_count() < 4:
    pytest.skip("needs four devices")
  with axes.use(layout() if cut else None):
    assert _cpu.alone() == (axes.is_for("cpu") and not cut)
    yield


@pytest.mark.parametrize("group", [1, GROUP])
def test_taken_blocks_have_heads_first(where: Any, group: int) -> None:
  x = array(KV_HEADS * group)
  index = INDEX if group == 1 else INDEX[:, :1]
  wanted = x[:, index].reshape(BATCH, *index.shape, BLOCK, KV_HEADS, group, WIDTH)
  wanted = wanted.transpose(0, 4, 1, 2, 5, 3, 6).reshape(BATCH, KV_HEADS, len(index), -1, WIDTH)
  taken = jax.jit(take, static_argnums=2)(x, jnp.asarray(index), KV_HEADS)
  np.testing.assert_array_equal(taken, wanted)
  if group == 1:
    other = jax.jit(lambda x, index: take_turned(turned(x), index, KV_HEADS))(x, INDEX)
    np.testing.assert_array_equal(other, wanted.swapaxes(3, 4))


def test_query_blocks_go_back_where_they_came_from(where: Any) -> None:
  x, index = array(KV_HEADS * GROUP), np.array([[3], [0]], np.int32)
  back = jax.jit(lambda x: untake(jnp.swapaxes(take(x, index, KV_HEADS), 3, 4), BLOCK))(x)
  np.testing.assert_array_equal(back, x[:, index[:, 0]])


@pytest.mark.parametrize("few", [0, 100])
def test_what_is_added_is_the_transpose_of_taking(
  where: Any, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(_gather, "FEW", few)
  x, total = array(KV_HEADS), array(KV_HEADS, seed=1)
  taken, pull = jax.vjp(lambda x: take(x, jnp.asarray(INDEX), KV_HEADS), x)
  part = np.random.default_rng(2).normal(size=taken.shape).astype(np.float32)
  added = jax.jit(add)(total, INDEX, part)
  np.testing.assert_allclose(added, total + pull(part)[0], rtol=1e-6, atol=1e-6)


def test_on_a_mesh_no_device_sends_its_heads() -> None:
  cut = layout()
  names = ("batch", None, None, "heads", None)
  with axes.use(cut):
    shape = (BATCH, BLOCKS, BLOCK, KV_HEADS, WIDTH)
    x = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=cut.sharding(names, shape))
    run = lambda x: (take(x, INDEX, KV_HEADS), take_turned(turned(x), INDEX, KV_HEADS))  # noqa: E731
    text = jax.jit(run).lower(x).compile().as_text()
  assert "gather(" in text
  for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
    assert word not in text
