"""The reference: one-hot arrays say who goes where, as in GShard (2006.16668)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from mtm.axes import constrain
from mtm.parts.experts.engines._base import Work, of_every_expert


@dataclasses.dataclass(frozen=True)
class Einsum:
  """Simple, differentiable by itself, and slow: work grows with tokens · experts · capacity."""

  def supports(self, work: Work) -> str | None:
    del work
    return None

  def cost(self, work: Work) -> float:
    """Counted, not measured: benchmarks/LOG.md has 1.75 to 7 in its place."""
    _, tokens, embed = work.x.shape
    pairs, seats = work.plan.expert.shape[1], work.plan.experts * (work.plan.capacity or tokens)
    of_a_row = sum(w.size for w in jax.tree.leaves(work.weights)) / work.plan.experts
    one_hot = 2 * tokens * (embed + pairs) / of_a_row
    return 0.15 + seats / pairs * (1 + one_hot)

  def __call__(self, work: Work) -> tuple[jax.Array, jax.Array]:
    plan, x_GND = work.plan, work.x
    experts, tokens = plan.experts, x_GND.shape[1]
    capacity = plan.capacity or tokens
    expert_GPE = jax.nn.one_hot(plan.expert, experts)  # nothing at the pairs not worked on
    place_GPC = jax.nn.one_hot(plan.place, capacity)
    token_GPN = jax.nn.one_hot(plan.token, tokens)
    seat_GPEC = jnp.einsum("gpe,gpc->gpec", expert_GPE, place_GPC)
    sent_GNEC = jnp.einsum("gpn,gpec->gnec", token_GPN, seat_GPEC)
    kept_GNEC = jnp.einsum("gpn,gp,gpec->gnec", token_GPN, plan.weight, seat_GPEC)
    x_EGCD = jnp.einsum("gnec,gnd->egcd", sent_GNEC.astype(x_GND.dtype), x_GND)
    # Both sides are told: told of one only, XLA gathers all tokens on every device.
    x_EGCD = constrain(x_EGCD, None, "batch", "capacity", "embed")
    x_EGCD = constrain(x_EGCD, "expert", "groups", "capacity", "embed")
    y_EGCD = work.expert(x_EGCD, work.weights, of_every_expert(4), work.key)
    filled_EGC = jnp.einsum("gpec->egc", seat_GPEC)
    said_EGCD = jax.lax.stop_gradient(y_EGCD).astype(jnp.float32)
    squares_E = jnp.einsum("egcd,egcd,egc->e", said_EGCD, said_EGCD, filled_EGC)
    y_EGCD = constrain(y_EGCD, "expert", "groups", "capacity", "embed")
    y_EGCD = constrain(y_EGCD, None, "batch", "capacity", "embed")
    y_GND = jnp.einsum("gnec,egcd->gnd", kept_GNEC, y_EGCD.astype(jnp.float32))
    return y_GND.astype(x_GND.dtype), squares_E


EXAMPLES = [Einsum()]
