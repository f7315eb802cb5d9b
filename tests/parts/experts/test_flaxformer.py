"""Routers, dispatches and the whole layer do what the real Flaxformer does.

Theirs was recorded (tests/fixtures/flaxformer) with a router in bfloat16: logits and softmax are
rounded to 8 bits. `InBfloat16` lends ours this arithmetic: the rest agrees to the last bits.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.parts.context import Context
from mtm.parts.experts.dispatch import Dispatch, Plan
from mtm.parts.experts.dispatch.capacity import Capacity, by_gate
from mtm.parts.experts.dispatch.dropless import Dropless
from mtm.parts.experts.layer import Experts
from mtm.parts.experts.mlp import ExpertMlp
from mtm.parts.experts.routers import Router, Routing, Tokens
from mtm.parts.experts.routers._base import balance_loss
from mtm.parts.experts.routers.expert_choice import ExpertChoice
from mtm.parts.experts.routers.switch import Switch
from mtm.parts.experts.routers.topk import TopK, every_choice
from mtm.parts.linear import Spec

E, CAPACITY = 4, 5
ULP = 2.0**-8  # of bfloat16, relative


@functools.cache
def recorded() -> dict[str, np.ndarray]:
  with np.load(Path(__file__).parents[2] / "fixtures/flaxformer/moe.npz") as arrays:
    return dict(arrays)


@functools.cache
def inputs() -> tuple[jax.Array, jax.Array]:
  """`[groups, tokens, embed]` vectors, and which are real: padding is 0 in theirs."""
  x = recorded()["x"]
  return jnp.asarray(x), jnp.asarray(np.abs(x).sum(-1) > 0)


@dataclasses.dataclass(frozen=True)
class InBfloat16:
  """A router whose logits and weights are made in bfloat16; without a normalisation of its own."""

  router: Any

  def parameters(self, embed: int, experts: int) -> Mapping[str, Spec]:
    return self.router.parameters(embed, experts)

  def __call__(
    self, x_ND: jax.Array, weights: Any, tokens: Tokens, experts: int, key: jax.Array | None
  ) -> Routing:
    logits = logits_in_bfloat16(x_ND, **weights)
    alone = {"kernel": jnp.eye(experts), "bias": jnp.zeros(experts)}
    routing = self.router(logits, alone, tokens, experts, key)
    own = jnp.minimum(routing.expert, experts - 1)
    taken = softmax_in_bfloat16(logits)[routing.token, own]
    weight = jnp.where(routing.expert < experts, taken, 0.0)
    return dataclasses.replace(routing, weight=weight)


def rounded(x: jax.Array) -> jax.Array:
  """float32 with the bits of bfloat16; a conversion to bfloat16 and back XLA leaves out."""
  return jax.lax.reduce_precision(x, 8, 7)


def logits_in_bfloat16(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
  """`[..., experts]`."""
  y = rounded(jnp.dot(rounded(x), rounded(kernel)))
  return rounded(y + rounded(bias).reshape((1,) * (y.ndim - 1) + (-1,)))


def softmax_in_bfloat16(logits: jax.Array) -> jax.Array:
  """`[..., experts]`."""
  largest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
  e = rounded(jnp.exp(rounded(logits - largest)))
  return rounded(e / rounded(jnp.sum(e, axis=-1, keepdims=True)))


def parameters(case: str) -> dict[str, jax.Array]:
  path = f"{case}/param/router_weights/w"
  return {name: jnp.asarray(recorded()[f"{path}/{name}"]) for name in ("kernel", "bias")}


def plans(case: str, router: Router, dispatch: Dispatch, real: jax.Array) -> tuple[Routing, Plan]:
  """Of both groups."""

  def one(x_ND: jax.Array, real_N: jax.Array) -> tuple[Routing, Plan]:
    routing = router(x_ND, parameters(case), Tokens(real_N), E, None)
    return routing, dispatch(routing, E, x_ND.shape[0])

  return jax.jit(jax.vmap(one))(inputs()[0], real)


def dense(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
  """`[groups, tokens, experts, capacity]` twice: who sits where, and with what weight."""
  groups, tokens = plan.token.shape[0], inputs()[0].shape[1]
  mask = np.zeros((groups, tokens, E, CAPACITY), bool)
  weight = np.zeros(mask.shape, np.float32)
  for g, p in np.argwhere(np.asarray(plan.expert) < E):
    at = g, plan.token[g, p], plan.expert[g, p], plan.place[g, p]
    mask[at], weight[at] = True, plan.weight[g, p]
  return mask, weight


SWITCH = Switch(jitter=0.0, balance=1.0, z=1.0, bias=True)
TOP2 = TopK(2, every_choice, normalise=False, counted=2, balance=1.0, z=1.0, bias=True)
CHOICE = ExpertChoice(size=CAPACITY, z=1.0, bias=True)
CASES = [
  ("switch", SWITCH, Capacity(1.25)),
  ("top2", TOP2, Capacity(1.25)),
  ("top2_bpr", TOP2, Capacity(1.25, priority=by_gate)),
  ("expert_choice", CHOICE, Dropless()),
  ("expert_choice", CHOICE, Capacity(1.25)),
]


@pytest.mark.parametrize(("case", "router", "dispatch"), CASES)
def test_who_goes_where_and_with_what_weight(case: str, router: Router, dispatch: Dispatch) -> None:
  theirs = recorded()
  mask, weight = dense(plans(case, InBfloat16(router), dispatch, inputs()[1])[1])
  np.testing.assert_array_equal(mask, theirs[f"{case}/dispatch_mask"].astype(bool))
  np.testing.assert_array_equal(weight, theirs[f"{case}/combine_array"])
  # In float32 all go the same way. Logits of at most 3 are half an ulp off, and so is each of three
  # steps of the softmax.
  mask, weight = dense(plans(case, router, dispatch, inputs()[1])[1])
  np.testing.assert_array_equal(mask, theirs[f"{case}/dispatch_mask"].astype(bool))
  np.testing.assert_allclose(weight, theirs[f"{case}/combine_array"], rtol=3 * ULP)


def test_scatter_indices_and_weights() -> None:
  """Their scatter router sends padding to the first expert, where it takes places: so padding is
  told to be real here, and its weight is put to 0 as theirs is."""
  theirs, (_, real) = recorded(), inputs()
  _, plan = plans("switch_scatter", InBfloat16(SWITCH), Capacity(1.25), jnp.ones_like(real))
  indices, weights = (theirs[f"switch_scatter/{name}"] for name in
                      ("dispatch_indices", "combine_weights"))  # fmt: skip
  kept = np.asarray(plan.expert) < E
  np.testing.assert_array_equal(kept, indices[:, :, 0, 1] < CAPACITY)
  np.testing.assert_array_equal(np.asarray(plan.expert)[kept], indices[:, :, 0, 0][kept])
  np.testing.assert_array_equal(np.asarray(plan.place), indices[:, :, 0, 1])
  np.testing.assert_array_equal(np.where(real, plan.weight, 0), weights[..., 0])


@pytest.mark.parametrize(("case", "router", "dispatch"), CASES[:4])
def test_losses(case: str, router: Router, dispatch: Dispatch) -> None:
  """Ours are means over real tokens. Theirs divide by all, and padding has logits of 0 there."""
  theirs, (x, real) = recorded(), inputs()
  share = np.asarray(real).mean(1)
  routing, _ = plans(case, InBfloat16(router), dispatch, real)
  z = share * routing.losses["router_z"] + (1 - share) * np.log(E) ** 2
  np.testing.assert_allclose(z.mean(), theirs[f"{case}/router_z_loss"], rtol=1e-6)  # float32 sums
  if "balance" in routing.losses:
    wanted = theirs[f"{case}/auxiliary_loss"]
    # The probabilities are theirs but for the rounding of three steps.
    balance = share**2 * routing.losses["balance"]
    np.testing.assert_allclose(balance.mean(), wanted, rtol=3 * ULP)
    probabilities = softmax_in_bfloat16(logits_in_bfloat16(x, **parameters(case)))
    chosen = jax.lax.top_k(probabilities, routing.choices or 0)[1]
    balance = share**2 * jax.vmap(balance_loss)(probabilities, chosen, Tokens(real, {}))
    np.testing.assert_allclose(balance.mean(), wanted, rtol=1e-6)  # float32 sums


def test_the_balance_loss_of_scatter_counts_padding_for_the_first_expert() -> None:
  theirs, (x, real) = recorded(), inputs()
  probabilities = softmax_in_bfloat16(logits_in_bfloat16(x, **parameters("switch_scatter")))
  probabilities = jnp.where(real[..., None], probabilities, 0.0)
  chosen = jnp.argmax(probabilities, axis=-1)[..., None]
  balance = jax.vmap(balance_loss)(probabilities, chosen, Tokens(jnp.ones_like(real), {}))
  np.testing.assert_allclose(balance.mean(), theirs["switch_scatter/auxiliary_loss"], rtol=1e-6)


def layer(router: Router) -> tuple[jax.Array, Any, Any]:
  """The output of the whole layer, the gradients of its summed squares, and theirs."""
  theirs, (x, real) = recorded(), inputs()
  module = Experts(
    E, router, ExpertMlp(16, jax.nn.relu), Capacity(1.25), Capacity(1.25), "einsum", group=16
  )
  context = Context(jnp.zeros(real.shape, jnp.int32), real.astype(jnp.int32))

  def tree(kind: str) -> dict[str, Any]:
    leaf = lambda path: jnp.asarray(theirs[f"layer/{kind}/{path}"])  # noqa: E731
    w = {name: leaf(f"router/router_weights/w/{name}") for name in ("kernel", "bias")}
    return {
      "router": w,
      "expert": {name: {"kernel": leaf(f"expert/{name}/kernel")} for name in ("wi", "wo")},
    }

  def loss(params: Any) -> tuple[jax.Array, jax.Array]:
    y, _ = module.apply({"params": params}, x, context)
    return jnp.sum(jnp.square(y)), y

  gradient, y = jax.jit(jax.grad(loss, has_aux=True))(tree("param"))
  return y, gradient, tree("grad")


def test_output_and_gradients_of_the_whole_layer() -> None:
  y, gradient, wanted = layer(InBfloat16(SWITCH))
  # float32 sums of products in another order.
  np.testing.assert_allclose(y, recorded()["layer/out"], rtol=1e-5, atol=1e-6)
  jax.tree.map(
    lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5),
    gradient["expert"], wanted["expert"],
  )  # fmt: skip
  # The router's are sums in bfloat16.
  for name, theirs in wanted["router"].items():
    span = float(jnp.max(jnp.abs(theirs)))
    np.testing.assert_allclose(gradient["router"][name], theirs, atol=2 * ULP * span)


def test_output_and_gradients_in_float32_differ_by_their_rounding_only() -> None:
  y, gradient, wanted = layer(SWITCH)
  for ours, theirs in zip(
    jax.tree.leaves((y, gradient)), jax.tree.leaves((recorded()["layer/out"], wanted)), strict=True
  ):
    span = float(np.max(np.abs(theirs)))
    np.testing.assert_allclose(ours, theirs, atol=3 * ULP * span)
