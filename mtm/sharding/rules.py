"""The one table that says which mesh axes cut which logical axis.

A parameter and an activation may cut the same axis differently: `embed` of a kernel is spread over
`fsdp` (ZeRO-3), while `embed` of an activation stays whole because its batch is spread already. A
gradient lies as its parameter does and an optimizer's slot as the gradient does, unless the rule
says otherwise: ZeRO-1 (1910.02054) spreads the slots alone, ZeRO-2 the gradients too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mtm.axes import NAMES, MeshAxes
from mtm.errors import UserError, nearest
from mtm.sharding.mesh import AXES


class Rule(NamedTuple):
  """The mesh axes that cut a logical axis of a parameter, of an activation, of a gradient (None: as
  the parameter) and of an optimizer's slot (None: as the gradient)."""

  parameter: MeshAxes = ()
  activation: MeshAxes = ()
  gradient: MeshAxes | None = None
  optimizer: MeshAxes | None = None

  @property
  def of_gradient(self) -> MeshAxes:
    """The mesh axes that cut it in a gradient."""
    return self.parameter if self.gradient is None else self.gradient

  @property
  def of_slot(self) -> MeshAxes:
    """The mesh axes that cut it in an optimizer's slot."""
    return self.of_gradient if self.optimizer is None else self.optimizer


WHOLE = Rule()
TENSOR = Rule(("tensor",), ("tensor",))

RULES: Mapping[str, Rule] = {
  # Devices along `expert` also share the batch; an expert's rows come from all of them.
  "batch": Rule((), ("data", "fsdp", "expert")),
  "tokens": Rule((), ("data", "fsdp", "expert")),
  "groups": Rule((), ("data", "fsdp")),
  "length": Rule((), ("sequence",)),
  # The same places between layers, where norms and residual sums are: with `tensor` too, those are
  # shared out (2205.05198 §4.2.2).
  "residual_length": Rule((), ("sequence",)),
  "source_length": WHOLE,
  "embed": Rule(("fsdp",), ()),
  "vocab": TENSOR,
  "mlp": TENSOR,
  "heads": TENSOR,
  "kv_heads": TENSOR,
  "joined_kv": TENSOR,
  "head_dim": WHOLE,
  "layers": Rule(("stage",), ()),
  "stage": Rule((), ("stage",)),
  "expert": Rule(("expert",), ("expert",)),
  "capacity": WHOLE,
  "relpos_buckets": WHOLE,
  "abspos_buckets": WHOLE,
  "token_types": WHOLE,
  "classes": WHOLE,
}


def override(
  changes: Mapping[str, Sequence[MeshAxes | None]], base: Mapping[str, Rule] | None = None
) -> dict[str, Rule]:
  """A table with some rows replaced.

  Args:
    changes: logical axis → the fields of its `Rule`: the mesh axes of parameters, of activations,
      and, if they are others, of gradients and of optimizer slots.
    base: the table to change; None: `RULES`.

  Raises:
    UserError: a logical axis or a mesh axis that mtm does not have, or too many fields.
  """
  made = {}
  for name, fields in changes.items():
    if name not in NAMES:
      raise UserError(f"sharding rules: unknown axis {name!r}{nearest(name, NAMES)}")
    if not 1 <= len(fields) <= len(Rule._fields):
      raise UserError(
        f"sharding rules: {name!r} has {len(fields)} fields: give the mesh axes of its"
        f" {', '.join(Rule._fields)}, in this order; the last two may be left out"
      )
    for axis in (axis for field in fields if field is not None for axis in field):
      if axis not in AXES:
        raise UserError(
          f"sharding rules: {name!r} has unknown mesh axis {axis!r}{nearest(axis, AXES)}"
        )
    made[name] = Rule(*(None if field is None else tuple(field) for field in fields))  # type: ignore[arg-type]
  return {**(RULES if base is None else base), **made}
