"""Where every array of a run lives: parameters, optimizer state, batches, activations."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mtm import axes
from mtm.axes import Layout
from mtm.sharding.rules import RULES, Rule
from mtm.types import Axes, Batch

Tree = Any


@dataclasses.dataclass(frozen=True)
class Plan:
  """A mesh and the rules by which arrays are laid out on it.

  Attributes:
    mesh: the device mesh.
    rules: the table, see `mtm.sharding.rules`.
  """

  mesh: Mesh
  rules: Mapping[str, Rule] = dataclasses.field(default_factory=lambda: RULES)

  @staticmethod
  def of(mesh: Mesh, rules: Mapping[str, Rule] | None) -> Plan:
    """The plan of these rules, or of `RULES`."""
    return Plan(mesh) if rules is None else Plan(mesh, rules)

  @property
  def activations(self) -> Layout:
    """The layout that `axes.constrain` follows."""
    return Layout(self.mesh, {name: rule.activation for name, rule in self.rules.items()})

  @property
  def parameters(self) -> Layout:
    """The layout of parameters."""
    return Layout(self.mesh, {name: rule.parameter for name, rule in self.rules.items()})

  @property
  def gradients(self) -> Layout:
    """The layout of gradients and of the sums of them."""
    return Layout(self.mesh, {name: rule.of_gradient for name, rule in self.rules.items()})

  @property
  def slots(self) -> Layout:
    """The layout of what an optimizer keeps for a parameter, and of the update that it makes."""
    return Layout(self.mesh, {name: rule.of_slot for name, rule in self.rules.items()})

  @property
  def rows(self) -> int:
    """How many ways the batch axis is cut: a batch must be a multiple of it."""
    return math.prod(self.mesh.shape[axis] for axis in self.activations.rules["batch"])

  @property
  def replicated(self) -> NamedSharding:
    """For scalars and keys."""
    return NamedSharding(self.mesh, PartitionSpec())

  def of_params(self, names: Axes, shapes: Tree, layout: Layout | None = None) -> Tree:
    """The shardings of a parameter tree, or of one like it.

    Args:
      names: the tree of axis names.
      shapes: a parallel tree of arrays or `ShapeDtypeStruct`s.
      layout: `gradients` or `slots` for a tree of those; None: `parameters`.

    Raises:
      LayoutError: the mesh does not divide an axis; it names the parameter.
    """
    layout = layout or self.parameters

    def one(path: Any, shape: Any, axis_names: tuple[str, ...]) -> NamedSharding:
      return layout.sharding(axis_names, shape.shape, f"parameter {_joined(path)}")

    return jax.tree_util.tree_map_with_path(one, shapes, names)

  def of_state(self, state: Tree, params: Tree, params_shardings: Tree) -> Tree:
    """The shardings of an optimizer state: each slot lies as the parameters' shardings say.

    A slot belongs to the parameter whose path ends its own. A factored slot lacks some of the
    parameter's axes and follows the others, and one that is a matrix joins some; anything else (a
    count, a placeholder) is replicated.

    Args:
      state: the optimizer state's arrays or shapes.
      params, params_shardings: parallel trees; the latter laid out by `slots`.
    """
    flat = jax.tree_util.tree_flatten_with_path(params)[0]
    owners = {_keys(path): (leaf.shape, s.spec) for (path, leaf), s in
              zip(flat, jax.tree.leaves(params_shardings), strict=True)}  # fmt: skip

    def one(path: Any, leaf: Any) -> NamedSharding:
      keys = _keys(path)
      for start in range(len(keys)):
        if keys[start:] in owners:
          shape, spec = owners[keys[start:]]
          return NamedSharding(self.mesh, _inherit(leaf.shape, shape, spec))
      return self.replicated

    return jax.tree_util.tree_map_with_path(one, state)

  def of_batch(self, batch: Batch) -> dict[str, NamedSharding]:
    """The shardings of a batch: `[batch, ...]`, the other axes whole."""
    layout = self.activations
    return {
      name: layout.sharding(("batch",) + (None,) * (np.ndim(x) - 1), np.shape(x), f"batch {name}")
      for name, x in batch.items()
    }

  def put_batch(self, batch: Batch) -> dict[str, jax.Array]:
    """The batch on the devices; each process gives its own rows."""
    local = {name: np.asarray(x) for name, x in batch.items()}
    processes = jax.process_count()
    whole = {
      name: jax.ShapeDtypeStruct((x.shape[0] * processes, *x.shape[1:]), x.dtype)
      for name, x in local.items()
    }
    shardings = self.of_batch(whole)
    return {
      name: jax.make_array_from_process_local_data(shardings[name], x) for name, x in local.items()
    }

  def own(self, tree: Tree, batch: Mapping[str, jax.Array]) -> Tree:
    """This process's rows of arrays `[rows, ...]`, as numpy; every process must ask.

    Args:
      tree: what was computed of a batch.
      batch: that batch, as `put_batch` gave it.
    """
    if jax.process_count() == 1:
      return jax.device_get(tree)
    from jax.experimental import multihost_utils

    (put, *_) = batch.values()
    held = put.sharding.addressable_devices_indices_map(put.shape).values()
    rows = sorted({row for index in held if index for row in range(put.shape[0])[index[0]]})
    whole = multihost_utils.process_allgather(tree, tiled=True)
    return jax.tree.map(lambda x: np.asarray(x)[rows], whole)

  def largest(self, counts: Sequence[int]) -> list[int]:
    """Each number's largest value on any process; every process must ask."""
    if jax.process_count() == 1:
      return list(counts)
    from jax.experimental import multihost_utils

    told = multihost_utils.process_allgather(np.asarray(counts, np.int32))
    return np.asarray(told).max(0).tolist()

  def jit(self, fn: Any, **kwargs: Any) -> Any:
    """`jax.jit(fn)` whose activations follow this plan; `kwargs` are `jax.jit`'s."""
    layout = self.activations

    def traced(*args: Any) -> Any:
      with axes.use(layout):
        return fn(*args)

    return jax.jit(traced, **kwargs)


def _inherit(shape: tuple[int, ...], owner: tuple[int, ...], spec: PartitionSpec) -> PartitionSpec:
  """The spec of a slot that has the parameter's axes, some of them, or some of them joined."""
  entries = tuple(spec) + (None,) * (len(owner) - len(spec))
  kept, axis = [], 0
  for size in shape:
    runs = ((a, b) for a in range(axis, len(owner)) for b in range(a + 1, len(owner) + 1))
    run = next((r for r in runs if math.prod(owner[slice(*r)]) == size), None)
    if run is None:
      return PartitionSpec()
    start, axis = run
    # Of joined axes the first alone may be cut: then its parts are contiguous, as the slot's are.
    kept.append(None if any(entries[start + 1 : axis]) else entries[start])
  return PartitionSpec(*kept)


def _keys(path: Any) -> tuple[str, ...]:
  """A tree path as strings, without the wrappers that an optimizer state adds."""
  return tuple(str(k.key) for k in path if isinstance(k, jax.tree_util.DictKey))


def _joined(path: Any) -> str:
  return "/".join(_keys(path))
