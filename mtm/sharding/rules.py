"""The one table that says which mesh axes cut which logical axis.

A parameter and an activation may cut the same axis differently: `embed` of a kernel is spread over
`fsdp` (ZeRO-3), while `embed` of an activation stays whole because its batch is spread already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mtm.axes import NAMES, MeshAxes
from mtm.errors import UserError, nearest
from mtm.sharding.mesh import AXES


class Rule(NamedTuple):
  """The mesh axes that cut a logical axis of a parameter and of an activation."""

  parameter: MeshAxes = ()
  activation: MeshAxes = ()


WHOLE = Rule()
TENSOR = Rule(("tensor",), ("tensor",))

RULES: Mapping[str, Rule] = {
  # Devices along `expert` also share the batch; an expert's rows come from all of them.
  "batch": Rule((), ("data", "fsdp", "expert")),
  "tokens": Rule((), ("data", "fsdp", "expert")),
  "groups": Rule((), ("data", "fsdp")),
  "length": Rule((), ("sequence",)),
  "source_length": WHOLE,
  "embed": Rule(("fsdp",), ()),
  "vocab": TENSOR,
  "mlp": TENSOR,
  "heads": TENSOR,
  "kv_heads": TENSOR,
  "joined_kv": TENSOR,
  "head_dim": WHOLE,
  "layers": Rule(("stage",), ()),
  "expert": Rule(("expert",), ("expert",)),
  "capacity": WHOLE,
  "relpos_buckets": WHOLE,
  "abspos_buckets": WHOLE,
  "token_types": WHOLE,
  "classes": WHOLE,
}


def override(changes: Mapping[str, tuple[MeshAxes, MeshAxes]]) -> dict[str, Rule]:
  """`RULES` with some rows replaced: logical axis → (parameter's, activation's mesh axes).

  Raises:
    UserError: a logical axis or a mesh axis that mtm does not have.
  """
  for name, pair in changes.items():
    if name not in NAMES:
      raise UserError(f"sharding rules: unknown axis {name!r}{nearest(name, NAMES)}")
    for axis in (*pair[0], *pair[1]):
      if axis not in AXES:
        raise UserError(
          f"sharding rules: {name!r} has unknown mesh axis {axis!r}{nearest(axis, AXES)}"
        )
  return {**RULES, **{name: Rule(*map(tuple, pair)) for name, pair in changes.items()}}
