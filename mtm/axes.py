"""Every logical axis of mtm, and the one function by which a part states how an activation is cut.

The letters name axes in variable names: `q_BLHK` is `[batch, length, heads, head_dim]`.

| letter | axis | letter | axis |
|---|---|---|---|
| B | batch | V | vocab |
| L, S | length, source_length | E | expert |
| D | embed | C | capacity |
| H, G | heads, kv_heads | N | tokens (batch × length) |
| K | head_dim | F | mlp |

A part never names a mesh axis: it says `constrain(x, "batch", "length", "embed")` and the active
`Layout` (made by `mtm.sharding`) turns names into mesh axes. Nothing is replicated in silence: an
unknown name, a wrong rank, a name without a rule, a size that does not divide and a forgotten mesh
are errors.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mtm.errors import UserError, nearest

NAMES = frozenset({
  "batch", "length", "source_length", "embed", "vocab", "mlp", "heads", "kv_heads", "head_dim",
  "joined_kv", "layers", "expert", "groups", "stage", "capacity", "tokens", "relpos_buckets",
  "abspos_buckets", "token_types", "classes",
})  # fmt: skip

MeshAxes = tuple[str, ...]  # the mesh axes that cut one logical axis; () leaves it whole


class LayoutError(UserError):
  """A tensor cannot be laid out on the mesh as asked."""


@dataclasses.dataclass(frozen=True)
class Layout:
  """A mesh, and for each logical axis the mesh axes that cut it.

  Attributes:
    mesh: the device mesh.
    rules: logical axis → mesh axes. An axis that stays whole has an empty tuple; an axis that is
      not listed may not be used.
  """

  mesh: Mesh
  rules: Mapping[str, MeshAxes]

  def sharding(self, names: tuple[str | None, ...], shape: tuple[int, ...], what: str = "array"):
    """The `NamedSharding` of an array with these axis names.

    Args:
      names: one logical axis name, or None (whole), for each dimension.
      shape: the sizes, to check that the mesh divides them.
      what: the array's name, for the error.

    Raises:
      LayoutError: unknown name, wrong rank, no rule, or a mesh that does not divide.
    """
    check(names, len(shape), what)
    entries: list[MeshAxes | str | None] = []
    used: dict[str, str] = {}
    for name, size in zip(names, shape, strict=True):
      cut = () if name is None else self._rule(name, what)
      cut = tuple(a for a in cut if self.mesh.shape[a] > 1)
      for axis in cut:
        if axis in used:
          raise LayoutError(
            f"{what} {names}: mesh axis {axis!r} would cut both {used[axis]!r} and {name!r};"
            " give one of them another rule"
          )
        used[axis] = str(name)
      ways = math.prod(self.mesh.shape[a] for a in cut)
      if size % ways:
        divisors = [n for n in range(1, size + 1) if size % n == 0]
        raise LayoutError(
          f"{what} {names} {shape}: mesh axis {'×'.join(cut)!r} of size {ways} does not divide"
          f" {name!r} = {size}; sizes that do: {', '.join(map(str, divisors[:12]))}"
        )
      entries.append(cut or None)
    return NamedSharding(self.mesh, PartitionSpec(*entries))

  def _rule(self, name: str, what: str) -> MeshAxes:
    if name not in self.rules:
      raise LayoutError(f"{what}: no sharding rule for axis {name!r}{nearest(name, self.rules)}")
    return self.rules[name]


_LAYOUT: contextvars.ContextVar[Layout | None | str] = contextvars.ContextVar(
  "layout", default="unset"
)


@contextlib.contextmanager
def use(layout: Layout | None) -> Iterator[None]:
  """Within it, `constrain` follows `layout`; None declares that the program runs on one device."""
  token = _LAYOUT.set(layout)
  try:
    yield
  finally:
    _LAYOUT.reset(token)


def check(names: tuple[str | None, ...], rank: int, what: str = "array") -> None:
  """Raises LayoutError unless every name is a known axis and there is one for each dimension."""
  for name in names:
    if name is not None and name not in NAMES:
      raise LayoutError(f"{what}: unknown axis {name!r}{nearest(name, NAMES)}")
  if len(names) != rank:
    raise LayoutError(f"{what}: {len(names)} axis names {names} for {rank} dimensions")


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
  """`x`, cut over the mesh as the active layout says; unchanged on one device.

  Args:
    x: an activation.
    *names: its logical axes, one a dimension.

  Raises:
    LayoutError: see `Layout.sharding`; also when there are several devices and no layout is active.
  """
  layout = _LAYOUT.get()
  if isinstance(layout, Layout):
    return jax.lax.with_sharding_constraint(x, layout.sharding(names, x.shape, "activation"))
  check(names, x.ndim, "activation")
  if layout == "unset" and jax.device_count() > 1:
    raise LayoutError(
      f"{jax.device_count()} devices and no mesh: run inside `with axes.use(plan.activations):`"
      " (see mtm.sharding.plan), or `with axes.use(None):` for a program on one device"
    )
  return x


def platform() -> str:
  """What the program is compiled for, `cpu`, `gpu` or `tpu`: that of the active layout's mesh, so
  that a program can be compiled for devices that are elsewhere; else JAX's default."""
  layout = _LAYOUT.get()
  if isinstance(layout, Layout):
    return layout.mesh.devices.flat[0].platform
  return jax.default_backend()


def is_for(name: str) -> bool:
  """Whether `platform()` is this one."""
  return platform() == name


def ways(name: str) -> int:
  """Into how many parts the active layout cuts this logical axis of an activation; 1 without one.

  Raises:
    LayoutError: no rule for this axis.
  """
  layout = _LAYOUT.get()
  if not isinstance(layout, Layout):
    return 1
  return math.prod(layout.mesh.shape[axis] for axis in layout._rule(name, "activation"))


def local(
  function: Callable[..., Any],
  arrays: Sequence[jax.Array],
  names: Sequence[tuple[str | None, ...]],
  out: Any,
) -> Any:
  """`function(*arrays)`, run by each device on its own part: for kernels that XLA cannot cut.

  Args:
    function: gives the same for a part as for the whole.
    arrays: what it takes.
    names: the logical axes of each array, one a dimension; None: every device has it whole.
    out: the logical axes of what it gives: a tuple of them where it gives a tuple of arrays.

  Raises:
    LayoutError: see `Layout.sharding`.
  """
  layout = _LAYOUT.get()
  if not isinstance(layout, Layout):
    return function(*arrays)
  specs = [layout.sharding(n, x.shape).spec for n, x in zip(names, arrays, strict=True)]
  whole = jax.eval_shape(function, *arrays)
  out_specs = jax.tree.map(lambda one, names: layout.sharding(names, one.shape).spec, whole, out)
  mapped = jax.shard_map(
    function, mesh=layout.mesh, in_specs=tuple(specs), out_specs=out_specs, check_vma=False
  )
  return mapped(*arrays)
