"""Gathers on one device and on a mesh: the same, and no more work than pairs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm import axes
from mtm.parts.experts.dispatch.capacity import Capacity
from mtm.parts.experts.dispatch.dropless import Dropless
from mtm.parts.experts.engines import Engine, Work, _over
from mtm.parts.experts.engines.einsum import Einsum
from mtm.parts.experts.engines.gather import Gather
from mtm.parts.experts.mlp import ExpertMlp
from mtm.parts.experts.routers import Routing
from tests.training import tiny

G, N, E, D = 8, 4, 4, 2
EXPERT = ExpertMlp(3)
NOBODY = Dropless()  # is dropped


def work(dispatch: Any = NOBODY, tokens: int = N) -> tuple[jax.Array, Any, Any]:
  rng = np.random.default_rng(0)
  expert = jnp.asarray(rng.integers(0, E, (G, tokens)), jnp.int32)
  token = jnp.tile(jnp.arange(tokens, dtype=jnp.int32), (G, 1))
  routing = Routing(token, expert, jnp.ones((G, tokens), jnp.float32), choices=1)
  plan = jax.vmap(lambda one: dispatch(one, E, tokens))(routing)
  shapes = {"wi": (E, D, 3), "wo": (E, 3, D)}
  weights = {n: {"kernel": jnp.asarray(rng.normal(size=s), jnp.float32)} for n, s in shapes.items()}
  return jnp.asarray(rng.normal(size=(G, tokens, D)), jnp.float32), plan, weights


def outcome(engine: Engine, layout: axes.Layout | None) -> Any:
  """Output, squares and gradients."""
  x, plan, weights = work()

  def loss(x: jax.Array, weights: Any) -> Any:
    y, squares = engine(Work(x, plan, EXPERT, weights))
    return jnp.sum(jnp.sin(y)), (y, squares)

  with axes.use(layout):
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(x, weights)


@pytest.mark.parametrize(
  "sizes", [{"data": 2, "expert": 4}, {"data": 1, "fsdp": 2, "expert": 2, "tensor": 2}]
)
def test_a_mesh_changes_nothing(sizes: dict[str, int]) -> None:
  plan = tiny.on({**sizes}, mlp=((), ()))
  got, want = outcome(Gather(), plan.activations), outcome(Einsum(), None)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, want)


@pytest.mark.parametrize("dispatch", [Dropless(), Capacity(8.0)], ids=["dropless", "capacity"])
def test_work_grows_with_the_pairs_whatever_the_places(dispatch: Any) -> None:
  x, plan, weights = work(dispatch, tokens=64)
  if not (plan.capacity is None or axes.is_for("cpu")):
    pytest.skip("accelerators take places as they are")
  with axes.use(None):
    assert Gather(spread=1.0).cost(Work(x, plan, EXPERT, weights)) < 1.3
  with axes.use(tiny.on({"data": 2, "expert": 4}).activations):
    assert Gather(spread=1.0).cost(Work(x, plan, EXPERT, weights)) > E


def test_what_a_capacity_leaves_over_is_done_in_blocks_only_where_it_is_more_than_one(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  if not axes.is_for("cpu"):
    pytest.skip("accelerators take places as they are")
  asked, afterwards = [], _over.afterwards
  monkeypatch.setattr(_over, "afterwards", lambda *args: asked.append(1) or afterwards(*args))

  def blocks(dispatch: Any) -> bool:
    asked.clear()
    x, plan, weights = work(dispatch, tokens=64)
    with axes.use(None):
      Gather()(Work(x, plan, EXPERT, weights))
    return bool(asked)

  assert not blocks(Capacity(1.25))  # 160 places, of which 144 are within the room
  assert blocks(Capacity(2.0)) and blocks(Dropless())
