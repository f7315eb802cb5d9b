"""The Experts channel: what it computes, what it tells, and whose business padding is not."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.context import Context
from mtm.parts.experts.dispatch.capacity import Capacity
from mtm.parts.experts.dispatch.dropless import Dropless
from mtm.parts.experts.layer import Experts
from mtm.parts.experts.mlp import ExpertMlp
from mtm.parts.experts.routers.switch import Switch

B, L, D, E, F = 2, 12, 8, 4, 16


def layer(**changes) -> Experts:
  fields = {
    "experts": E, "router": Switch(), "expert": ExpertMlp(F, bias=True), "dispatch": Capacity(1.0),
    "engine": "einsum",
  }  # fmt: skip
  return Experts(**{**fields, **changes})


def context(train: bool, segments: jax.Array | None = None) -> Context:
  return Context(jnp.zeros((B, L), jnp.int32), segments, train=train)


def inputs() -> jax.Array:
  return jax.random.normal(jax.random.key(1), (B, L, D))


def parameters(module: Experts) -> dict:
  variables = module.init(jax.random.key(0), inputs(), context(False))
  shapes = nn.meta.unbox(variables)
  keys = iter(jax.random.split(jax.random.key(2), 20))
  return jax.tree.map(lambda p: p + 0.3 * jax.random.normal(next(keys), p.shape), shapes)


def test_a_token_gets_what_its_expert_says_times_the_routers_probability() -> None:
  module = layer()
  variables = parameters(module)
  y, _ = module.apply(variables, inputs(), context(False))
  p = jax.tree.map(np.asarray, variables["params"])
  x = np.asarray(inputs()).reshape(-1, D)
  logits = x @ p["router"]["kernel"]
  probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  for n, row in enumerate(x):
    e = probabilities[n].argmax()
    h = np.asarray(jax.nn.gelu(row @ p["expert"]["wi"]["kernel"][e] + p["expert"]["wi"]["bias"][e]))
    said = h @ p["expert"]["wo"]["kernel"][e] + p["expert"]["wo"]["bias"][e]
    wanted = probabilities[n, e] * said
    np.testing.assert_allclose(np.asarray(y).reshape(-1, D)[n], wanted, rtol=2e-4, atol=2e-5)


def test_its_figures_are_those_counted_by_hand() -> None:
  module = layer(dispatch=Capacity(size=2), router=Switch(jitter=0.0))
  variables = parameters(module)
  y, aux = module.apply(variables, inputs(), context(True), rngs={"dropout": jax.random.key(3)})
  chosen = np.asarray(inputs() @ variables["params"]["router"]["kernel"]).argmax(-1)
  count = np.stack([np.bincount(row, minlength=E) for row in chosen])
  load = count.sum(0) / (B * L)
  some = load[load > 0]
  np.testing.assert_allclose(aux.metrics["load"], load, rtol=1e-6)
  np.testing.assert_allclose(
    aux.metrics["load_entropy"], -(some * np.log(some)).sum() / np.log(E), rtol=1e-5
  )
  np.testing.assert_allclose(aux.metrics["dropped"], np.maximum(count - 2, 0).sum() / (B * L))
  np.testing.assert_allclose(aux.metrics["dead"], (load == 0).mean())
  earlier = [[row[:n].count(e) for n, e in enumerate(row)] for row in chosen.tolist()]
  np.testing.assert_array_equal(jnp.all(y == 0, axis=-1), np.array(earlier) >= 2)


def test_evaluation_drops_nobody_and_neighbours_change_nothing() -> None:
  module = layer(dispatch=Capacity(size=1))
  variables = parameters(module)
  y, aux = module.apply(variables, inputs(), context(False))
  assert aux.metrics["dropped"] == 0
  alone, _ = module.apply(variables, jnp.concatenate([inputs()[:1], -inputs()[:1]]), context(False))
  np.testing.assert_allclose(y[0], alone[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("train", [False, True])
def test_padding_changes_nothing_and_gets_nothing(train: bool) -> None:
  module = layer(router=Switch(jitter=0.0), dispatch=Capacity(2.0))
  variables = parameters(module)
  real = jnp.arange(L)[None, :] < jnp.array([[L], [7]])
  segments = real.astype(jnp.int32)
  told = context(train, segments)
  y, aux = module.apply(variables, inputs(), told)
  other = jnp.where(real[..., None], inputs(), 100.0)
  again, same = module.apply(variables, other, told)
  np.testing.assert_array_equal(y[1, :7], again[1, :7])
  assert not y[1, 7:].any()
  jax.tree.map(
    np.testing.assert_array_equal, (aux.losses, aux.metrics), (same.losses, same.metrics)
  )


@pytest.mark.parametrize("group", [3, 6, 24])
def test_groups_share_places_and_not_results(group: int) -> None:
  module = layer(evaluation=Dropless())
  variables = parameters(module)
  y, _ = module.apply(variables, inputs(), context(False))
  regrouped, _ = dataclasses.replace(module, group=group).apply(variables, inputs(), context(False))
  np.testing.assert_allclose(y, regrouped, rtol=1e-5, atol=1e-6)


def test_a_group_that_does_not_divide_is_refused() -> None:
  with pytest.raises(UserError, match=r"group = 7 .* does not divide the 2 · 12 tokens"):
    layer(group=7).init(jax.random.key(0), inputs(), context(False))


def test_an_unknown_engine_is_named() -> None:
  with pytest.raises(UserError, match="no expert engine is called 'einsun'; did you mean 'einsum'"):
    layer(engine="einsun").init(jax.random.key(0), inputs(), context(False))


def test_the_router_is_float32_in_a_model_of_bfloat16() -> None:
  module = layer()
  variables = parameters(module)
  x = inputs().astype(jnp.bfloat16)
  y, aux = module.apply(variables, x, context(False))
  assert y.dtype == jnp.bfloat16
  exact, same = module.apply(variables, x.astype(jnp.float32), context(False))
  np.testing.assert_array_equal(aux.metrics["load"], same.metrics["load"])
  np.testing.assert_array_equal(aux.losses["balance"], same.losses["balance"])
  # Three products in bfloat16, of 8 bits each.
  np.testing.assert_allclose(y.astype(jnp.float32), exact, rtol=0.1, atol=0.05)


def test_dropout_of_experts_is_drawn_in_training_only() -> None:
  module = layer(expert=ExpertMlp(F, dropout=0.5), router=Switch(jitter=0.0))
  variables = parameters(module)

  def run(train: bool, seed: int) -> jax.Array:
    keys = {"dropout": jax.random.key(seed)}
    return module.apply(variables, inputs(), context(train), rngs=keys)[0]

  np.testing.assert_array_equal(run(False, 0), run(False, 1))
  assert not np.allclose(run(True, 0), run(True, 1))
