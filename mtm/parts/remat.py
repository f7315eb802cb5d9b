"""What a layer keeps for its backward pass, and what it computes again: policies by name.

A policy is what `jax.checkpoint` asks of every intermediate value: keep it, compute it again, or
wait for it in the host's memory. Parts mark the values that are dear to compute with `named`;
`NAMES` lists the marks. From most memory and least time to least memory and most time:

| policy | keeps | computes again |
|---|---|---|
| None | everything | nothing |
| `attention()` | every marked value | scores, probabilities, norms, activations (2205.05198 §5) |
| `dots()` | products with weights | the same, and whatever else is no product with a weight |
| `keep(names)` | the marked values of these names | all else |
| `offload(names)` | the same, in the host's memory | all else |
| `full()` | each layer's input | the layer (1604.06174) |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name

from mtm.errors import UserError, nearest

Policy = Callable[..., Any]

NAMES: Mapping[str, str] = {
  "query": "queries, [batch, length, heads, head_dim], before positions rotate them",
  "key": "keys, [batch, length, kv_heads, head_dim]",
  "value": "values, [batch, length, kv_heads, head_dim]",
  "attended": "what attention gives each head, [batch, length, heads, head_dim]",
  "hidden": "both projections into a feed-forward layer, [batch, length, mlp] each",
  "mixer": "the output of a layer's token mixer, [batch, length, embed]",
  "cross": "the output of a layer's cross-attention, [batch, length, embed]",
  "channel": "the output of a layer's channel mixer, [batch, length, embed]",
}


def named(x: jax.Array, name: str) -> jax.Array:
  """`x`, which policies know by this name; see `NAMES`."""
  return checkpoint_name(x, name)


def full() -> Policy:
  """Computes the whole layer again from its input."""
  return jax.checkpoint_policies.nothing_saveable


def dots() -> Policy:
  """Keeps products with weights; those of two activations, as attention's, are computed again."""
  return jax.checkpoint_policies.dots_with_no_batch_dims_saveable


def keep(names: Sequence[str]) -> Policy:
  """Keeps the values of these names.

  Args:
    names: of `NAMES`.

  Raises:
    UserError: a name that no part gives.
  """
  return jax.checkpoint_policies.save_only_these_names(*_known(names))


def attention() -> Policy:
  """Computes the inside of attention again, and what is elementwise: Megatron's selective
  recomputation (2205.05198)."""
  return keep(tuple(NAMES))


def offload(names: Sequence[str] = ("mixer", "channel"), kept: Sequence[str] = ()) -> Policy:
  """Keeps the values of these names in the host's memory, until the backward pass wants them.

  Args:
    names: of `NAMES`, what goes to the host.
    kept: of `NAMES`, what stays on the device.

  Raises:
    UserError: a name that no part gives, or one that is to be in both places.
  """
  both = sorted(set(names) & set(kept))
  if both:
    raise UserError(f"remat: {', '.join(both)} cannot both stay and go; name it once")
  return jax.checkpoint_policies.save_and_offload_only_these_names(
    names_which_can_be_saved=_known(kept), names_which_can_be_offloaded=_known(names),
    offload_src="device", offload_dst="pinned_host",
  )  # fmt: skip


def applied(module: nn.Module, policy: Policy) -> nn.Module:
  """`module`, of whose parts all that can recompute follow this policy.

  Args:
    module: an unbound model, or a part of one.
    policy: one of this module's, or any of `jax.checkpoint_policies`.
  """
  changes: dict[str, Any] = {"remat": policy} if hasattr(module, "remat") else {}
  for field in dataclasses.fields(module):
    value = getattr(module, field.name, None)
    if isinstance(value, nn.Module) and value is not module.parent:
      new = applied(value, policy)
      if new is not value:
        changes[field.name] = new
  return module.clone(**changes) if changes else module


def _known(names: Sequence[str]) -> tuple[str, ...]:
  for name in names:
    if name not in NAMES:
      raise UserError(
        f"remat: no part names a value {name!r}{nearest(name, NAMES)}; there are {', '.join(NAMES)}"
      )
  return tuple(names)
