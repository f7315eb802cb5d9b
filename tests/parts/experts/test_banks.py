"""Experts that are added and removed: the others say what they said."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.context import Context
from mtm.parts.experts import banks
from mtm.parts.experts.dispatch.dropless import Dropless
from mtm.parts.experts.layer import Experts
from mtm.parts.experts.mlp import ExpertMlp
from mtm.parts.experts.routers.domain import Domain
from mtm.parts.experts.routers.switch import Switch
from tests.contracts.discovered import parameters

L, D, E = 5, 4, 3
MODULE = Experts(E, Domain(), ExpertMlp(6, bias=True), Dropless(), engine="einsum")
X = jnp.asarray(np.random.default_rng(0).normal(size=(1, L, D)), jnp.float32)


def context(domain: Any) -> Context:
  facts = {"domain": jnp.full((1, L), domain, jnp.int32)}
  return Context(jnp.zeros((1, L), jnp.int32), facts=facts)


def tree(module: Experts = MODULE) -> tuple[Any, Any]:
  """Parameters and their axes."""
  boxed = jax.eval_shape(module.init, jax.random.key(0), X, context(0))["params"]
  axes = jax.tree.map(
    lambda box: tuple(box.names), boxed, is_leaf=lambda x: isinstance(x, nn.meta.AxisMetadata)
  )
  return parameters(module.init, X, context(0))["params"], axes


@jax.jit
def said(params: Any, domain: Any) -> jax.Array:
  module = dataclasses.replace(MODULE, experts=params["expert"]["wo"]["kernel"].shape[0])
  return module.apply({"params": params}, X, context(domain))[0]


def test_a_copied_domain_says_what_its_model_says_and_the_others_what_they_said() -> None:
  params, axes = tree()
  more = banks.added(params, axes, like=(1,))
  assert (banks.experts(params, axes), banks.experts(more, axes)) == (E, E + 1)
  # The same numbers, in sums with one more expert's zeros.
  for domain, old in ((0, 0), (1, 1), (2, 2), (3, 1)):
    np.testing.assert_allclose(said(more, domain), said(params, old), rtol=1e-6, atol=1e-7)


def test_a_removed_domain_leaves_the_others_in_their_order_and_undoes_an_added_one() -> None:
  params, axes = tree()
  fewer = banks.removed(params, axes, 1)
  for domain, old in ((0, 0), (1, 2)):
    np.testing.assert_allclose(said(fewer, domain), said(params, old), rtol=1e-6, atol=1e-7)
  back = banks.removed(banks.added(params, axes), axes, E)
  jax.tree.map(np.testing.assert_array_equal, back, params)


def test_a_new_expert_is_the_mean_of_those_that_are_named_or_of_all() -> None:
  params, axes = tree()
  kernel = params["expert"]["wi"]["kernel"]
  for like, mean in (((), kernel.mean(0)), ((0, 2), (kernel[0] + kernel[2]) / 2)):
    new = banks.added(params, axes, like)["expert"]["wi"]["kernel"][-1]
    np.testing.assert_allclose(new, mean, rtol=1e-6)  # float32 sums


def test_layers_that_are_stacked_are_changed_along_their_experts() -> None:
  params, axes = {"w": np.arange(12.0).reshape(2, 3, 2), "norm": np.ones(4)}, {
    "w": ("layers", "expert", "embed"),
    "norm": ("embed",),
  }  # fmt: skip
  fewer = banks.removed(params, axes, 0)
  np.testing.assert_array_equal(fewer["w"], params["w"][:, 1:])
  np.testing.assert_array_equal(fewer["norm"], params["norm"])


def test_what_cannot_be_done_is_refused() -> None:
  params, axes = tree()
  with pytest.raises(UserError, match="numbered 0 to 2"):
    banks.removed(params, axes, 3)
  with pytest.raises(UserError, match="numbered 0 to 2"):
    banks.added(params, axes, like=(-1,))
  one = banks.removed(banks.removed(params, axes, 0), axes, 0)
  with pytest.raises(UserError, match="last expert"):
    banks.removed(one, axes, 0)
  with pytest.raises(UserError, match="banks of no experts"):
    banks.experts({"norm": np.ones(2)}, {"norm": ("embed",)})
  learned = tree(dataclasses.replace(MODULE, router=Switch()))
  with pytest.raises(UserError, match="router/kernel is learned"):
    banks.added(*learned)
