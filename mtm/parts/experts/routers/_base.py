"""The router seam: a pure function from a group's tokens to pairs of a token and an expert.

Letters beyond those of `mtm.axes`: N the tokens of one group, P pairs, K choices of a token.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import jax
import jax.numpy as jnp

from mtm.errors import UserError
from mtm.parts.dropout import draws
from mtm.parts.linear import Initializer, Spec

Weights = Mapping[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tokens:
  """What a router may know of the tokens of a group besides their vectors.

  Attributes:
    real: `[tokens]` bool; False at padding, which no expert may see.
    facts: further facts by name, each `[tokens]` int32: `ids`, the token ids, and `domain`, where
      the batch tells it.
  """

  real: jax.Array
  facts: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Routing:
  """Pairs of a token and an expert, in order of priority: where places are few, the first get them.

  Attributes:
    token: `[pairs]` int32, in [0, tokens).
    expert: `[pairs]` int32, in [0, experts]; `experts` means none, as for padding.
    weight: `[pairs]` float32, what the expert's output is multiplied by; 0 where there is none.
    losses: auxiliary losses by name, float32 scalars, weighted.
    metrics: figures to log by name, float32 scalars.
    choices: where the pairs are so many passes over all tokens in order (all first choices, then
      all second ones), their number, K = pairs / tokens; None: the pairs are in another order.
  """

  token: jax.Array
  expert: jax.Array
  weight: jax.Array
  losses: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
  metrics: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
  choices: int | None = dataclasses.field(default=None, metadata={"static": True})


class Router(Protocol):
  """A frozen dataclass whose fields are its numbers.

  Padding-invariant: tokens that are not real change nothing for the others, and go to no expert.
  All arithmetic is float32, whatever the model computes in.
  """

  def parameters(self, embed: int, experts: int) -> Mapping[str, Spec]:
    """What it learns, by name; an empty mapping for a router that learns nothing."""

  def __call__(
    self, x_ND: jax.Array, weights: Weights, tokens: Tokens, experts: int, key: jax.Array | None
  ) -> Routing:
    """Routes one group.

    Args:
      x_ND: `[tokens, embed]`, what the experts will read, in the compute dtype.
      weights: arrays as `parameters` asks for, float32.
      tokens: further facts about the tokens.
      experts: how many there are.
      key: for noise; None outside training: then the router is deterministic.
    """


class Penalised(Protocol):
  """A router with weights of the balance loss and of the z-loss."""

  @property
  def balance(self) -> float: ...

  @property
  def z(self) -> float: ...


def linear(
  embed: int, experts: int, init: Initializer, bias: bool = False, name: str = "kernel"
) -> dict[str, Spec]:
  """The parameters of a linear router; see `logits_of`."""
  specs = {name: Spec(init, (embed, experts), ("embed", None))}
  if bias:
    specs["bias"] = Spec(jax.nn.initializers.zeros, (experts,), (None,))
  return specs


def logits_of(x_ND: jax.Array, weights: Weights, name: str = "kernel") -> jax.Array:
  """`[tokens, experts]` float32 logits of a linear router, at the highest precision."""
  kernel = weights[name].astype(jnp.float32)
  logits_NE = jnp.dot(x_ND.astype(jnp.float32), kernel, precision=jax.lax.Precision.HIGHEST)
  return logits_NE + weights["bias"][None, :] if "bias" in weights else logits_NE


def jittered(x_ND: jax.Array, jitter: float, key: jax.Array | None) -> jax.Array:
  """float32 `x` times uniform noise of [1 − jitter, 1 + jitter]; `x` itself without a key."""
  x_ND = x_ND.astype(jnp.float32)
  if key is None or jitter == 0.0:
    return x_ND
  uniform_ND = (draws(key, x_ND.shape) >> 8).astype(jnp.float32) * 2.0**-24
  return x_ND * (1.0 - jitter + 2.0 * jitter * uniform_ND)


def fact(tokens: Tokens, name: str, need: str) -> jax.Array:
  """`[tokens]` int32: what is known of the tokens by this name.

  Args:
    tokens: where it is looked up.
    name: of the fact.
    need: who needs it and where it comes from, for the message.

  Raises:
    UserError: the batch does not tell it.
  """
  if name not in tokens.facts:
    known = ", ".join(sorted(tokens.facts)) or "nothing"
    raise UserError(f"{need}; of the tokens of this batch {known} is known")
  return tokens.facts[name].astype(jnp.int32)


def at_most(k: int, experts: int) -> int:
  """`k`, the experts of a token.

  Raises:
    UserError: there are not so many.
  """
  if not 1 <= k <= experts:
    raise UserError(f"a token cannot go to k = {k} of {experts} experts: lower k, or raise experts")
  return k


def by_choice(
  expert_NK: jax.Array,
  weight_NK: jax.Array,
  tokens: Tokens,
  experts: int,
  losses: Mapping[str, jax.Array] | None = None,
  metrics: Mapping[str, jax.Array] | None = None,
) -> Routing:
  """The Routing of tokens that choose: `[tokens, choices]` experts and weights, best choice first.

  All first choices come before all second ones. Padding goes nowhere.
  """
  n, k = expert_NK.shape
  real_N1 = tokens.real[:, None]
  expert_NK = jnp.where(real_N1, expert_NK.astype(jnp.int32), experts)
  weight_NK = jnp.where(real_N1 & (expert_NK < experts), weight_NK.astype(jnp.float32), 0.0)
  token_P = jnp.tile(jnp.arange(n, dtype=jnp.int32), k)
  return Routing(
    token_P, expert_NK.T.reshape(-1), weight_NK.T.reshape(-1), losses or {}, metrics or {}, k
  )


def mean_of_real(values_N: jax.Array, tokens: Tokens) -> jax.Array:
  """The mean of `[tokens]` values over real tokens; 0 where there are none."""
  real_N = tokens.real.astype(jnp.float32)
  return jnp.sum(values_N * real_N) / jnp.maximum(jnp.sum(real_N), 1.0)


def balance_loss(probabilities_NE: jax.Array, expert_NK: jax.Array, tokens: Tokens) -> jax.Array:
  """experts · Σ_e f_e · p_e (2101.03961, equations 4 to 6): K when all experts get equal shares.

  GShard's loss (2006.16668, algorithm 1) is that of first choices over experts².

  Args:
    probabilities_NE: the router's, `[tokens, experts]`.
    expert_NK: the choices that count, `[tokens, choices]`; their share f has no gradient.
    tokens: which of them are real.
  """
  experts = probabilities_NE.shape[1]
  chosen_NE = jnp.sum(jax.nn.one_hot(expert_NK, experts, dtype=jnp.float32), axis=1)
  real_N1 = tokens.real[:, None].astype(jnp.float32)
  count = jnp.maximum(jnp.sum(real_N1), 1.0)
  share_E = jnp.sum(chosen_NE * real_N1, axis=0) / count
  mean_E = jnp.sum(probabilities_NE * real_N1, axis=0) / count
  return experts * jnp.sum(jax.lax.stop_gradient(share_E) * mean_E)


def penalties(
  router: Penalised,
  logits_NE: jax.Array,
  probabilities_NE: jax.Array,
  expert_NK: jax.Array,
  tokens: Tokens,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
  """The losses of a softmax over all experts, weighted as the router says, and its metrics."""
  z = z_loss(logits_NE, tokens)
  balance = balance_loss(probabilities_NE, expert_NK, tokens)
  return {"balance": router.balance * balance, "router_z": router.z * z}, {"router_z": z}


def z_loss(logits_NE: jax.Array, tokens: Tokens) -> jax.Array:
  """The mean of log²(Σ_e exp logit_e) over real tokens (ST-MoE, 2202.08906, equation 5)."""
  return mean_of_real(jnp.square(jax.nn.logsumexp(logits_NE, axis=-1)), tokens)
