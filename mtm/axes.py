"""Every logical axis of mtm, and the one function by which a part states how an activation is cut.

The letters name axes in variable names: `q_BLHK` is `[batch, length, heads, head_dim]`.

| letter | axis | letter | axis |
|---|---|---|---|
| B | batch | V | vocab |
| L, S | length, source_length | E | expert |
| L | residual_length (between layers) | | |
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
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mtm.errors import UserError, nearest

NAMES = frozenset({
  "batch", "length", "residual_length", "source_length", "embed", "vocab", "mlp", "heads",
  "kv_heads", "head_dim", "joined_kv", "layers", "expert", "groups", "stage", "capacity", "tokens",
  "relpos_buckets", "abspos_buckets", "token_types", "classes",
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


@dataclasses.dataclass(frozen=True)
class _Inside:
  """What is active within `local`: arrays are a device's own parts, which nothing cuts further."""

  layout: Layout


_LAYOUT: contextvars.ContextVar[Layout | _Inside | None | str] = contextvars.ContextVar(
  "layout", default="unset"
)


@contextlib.contextmanager
def use(layout: Layout | None) -> Iterator[None]:
  """Within it, `constrain` follows `layout`; None declares that the program runs on one device."""
  with _active(layout):
    yield


@contextlib.contextmanager
def _active(layout: Layout | _Inside | None) -> Iterator[None]:
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


def first(x: jax.Array, name: str) -> jax.Array:
  """`x`, cut along its first dimension as the active layout says, and along others as XLA likes."""
  layout = _LAYOUT.get()
  if not isinstance(layout, Layout):
    return x
  (cut,) = layout.sharding((name,), x.shape[:1], "array").spec
  spec = PartitionSpec(cut, *[PartitionSpec.UNCONSTRAINED] * (x.ndim - 1))
  return jax.lax.with_sharding_constraint(x, NamedSharding(layout.mesh, spec))


def vmap(function: Callable[..., Any], name: str) -> Callable[..., Any]:
  """`jax.vmap(function)` over first dimensions that are of this logical axis: what `function`
  constrains stays cut along it."""
  return jax.vmap(function, spmd_axis_name=peers(name).mesh_axes or None)


def platform() -> str:
  """What the program is compiled for, `cpu`, `gpu` or `tpu`: that of the active layout's mesh, so
  that a program can be compiled for devices that are elsewhere; else JAX's default."""
  layout = _layout()
  return jax.default_backend() if layout is None else layout.mesh.devices.flat[0].platform


def is_for(name: str) -> bool:
  """Whether `platform()` is this one."""
  return platform() == name


def alone() -> bool:
  """Whether nothing cuts the arrays of the program: it is for one device, or a part in `local`."""
  layout = _LAYOUT.get()
  if isinstance(layout, Layout):
    return layout.mesh.size == 1
  return layout != "unset" or jax.device_count() == 1


def ways(name: str) -> int:
  """Into how many parts the active layout cuts this logical axis of an activation; 1 without one.

  Raises:
    LayoutError: no rule for this axis.
  """
  layout = _LAYOUT.get()
  if not isinstance(layout, Layout):
    return 1
  return math.prod(layout.mesh.shape[axis] for axis in layout._rule(name, "activation"))


def _layout() -> Layout | None:
  """The active layout, within `local` too."""
  active = _LAYOUT.get()
  return active if isinstance(active, Layout) else getattr(active, "layout", None)


@dataclasses.dataclass(frozen=True)
class Peers:
  """The devices that hold the parts of a logical axis, as one of them sees them in `local`.

  Attributes:
    mesh_axes: those that cut it.
    size: how many devices they are; where it is 1 nothing is sent.
  """

  mesh_axes: MeshAxes
  size: int

  def index(self) -> jax.Array:
    """Which of the parts is this device's, an int32 scalar."""
    if self.size == 1:
      return jnp.int32(0)
    return jax.lax.axis_index(self.mesh_axes).astype(jnp.int32)

  def send(self, tree: Any, to: Sequence[int]) -> Any:
    """What this device is sent, where number i sends its arrays to number `to[i]`."""
    if list(to) == list(range(self.size)):
      return tree
    return jax.lax.ppermute(tree, self.mesh_axes, list(enumerate(to)))

  def turn(self, tree: Any, by: int) -> Any:
    """The arrays of the device that comes `by` places before this one, in a circle."""
    return self.send(tree, [(i + by) % self.size for i in range(self.size)])

  def exchange(self, x: jax.Array, split: int, join: int) -> jax.Array:
    """`x` cut along dimension `split` instead of `join`, of which each device then has all."""
    if self.size == 1:
      return x
    return jax.lax.all_to_all(x, self.mesh_axes, split, join, tiled=True)


def peers(name: str) -> Peers:
  """Those among which the active layout cuts this logical axis of an activation."""
  layout = _layout()
  if layout is None:
    return Peers((), 1)
  cut = tuple(a for a in layout._rule(name, "activation") if layout.mesh.shape[a] > 1)
  return Peers(cut, math.prod(layout.mesh.shape[a] for a in cut))


def local(
  function: Callable[..., Any],
  arrays: Sequence[jax.Array],
  names: Sequence[tuple[str | None, ...]],
  out: Any,
  shapes: Any = None,
) -> Any:
  """`function(*arrays)`, run by each device on its own part: for kernels that XLA cannot cut.

  Args:
    function: gives the same for a part as for the whole, or talks to `peers`.
    arrays: what it takes.
    names: the logical axes of each array, one a dimension; None: every device has it whole.
    out: the logical axes of what it gives: a tuple of them where it gives a tuple of arrays.
    shapes: the whole of what it gives, as anything with a `shape`, where it talks to `peers`; None:
      what it gives for whole arrays.

  Raises:
    LayoutError: see `Layout.sharding`.
  """
  layout = _LAYOUT.get()
  if not isinstance(layout, Layout):
    return function(*arrays)
  specs = [layout.sharding(n, x.shape).spec for n, x in zip(names, arrays, strict=True)]
  whole = jax.eval_shape(function, *arrays) if shapes is None else shapes
  out_specs = jax.tree.map(lambda one, names: layout.sharding(names, one.shape).spec, whole, out)

  def inside(*parts: Any) -> Any:
    with _active(_Inside(layout)):
      return function(*parts)

  mapped = jax.shard_map(
    inside, mesh=layout.mesh, in_specs=tuple(specs), out_specs=out_specs, check_vma=False
  )
  return mapped(*arrays)
