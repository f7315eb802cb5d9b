"""Parameters through a name table: their tensors → our tree, and back, one parameter at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from mtm.errors import UserError, nearest
from mtm.families._names import Row

Place = Callable[[str, Any], Any]  # path, values (or what is sliced like them) → the leaf
Empty = Callable[[tuple[int, ...], Any], np.ndarray]  # shape, dtype → an array to be filled


class Source(Protocol):
  """Tensors by name, read when they are asked for.

  Attributes:
    where: what an error calls it.
  """

  where: str

  def names(self) -> set[str]:
    """All tensors."""

  def get(self, name: str) -> np.ndarray:
    """One of them, in the dtype it is stored in. Raises UserError where it cannot be read."""


def read(
  source: Source,
  rows: Sequence[Row],
  like: Mapping[str, tuple[int, ...]],
  place: Place,
  ignored: Iterable[str] = (),
  copies: Mapping[str, str] | None = None,
  empty: Empty = np.empty,
) -> dict[str, Any]:
  """Our parameters, as a nested dict.

  A tensor of theirs is in memory at a time, and what `empty` and `place` keep.

  Args:
    source: their tensors.
    rows: the name table.
    like: path → shape of every parameter that the model has.
    place: makes a leaf of its values, float32 or narrower as stored.
    ignored: tensors that hold no parameter, as regular expressions.
    copies: tensors that may repeat another one → which.
    empty: makes the arrays into which layers and experts are stacked.

  Raises:
    UserError: a tensor is missing, left over, of a wrong shape, not finite, or no copy of what it
      should repeat; or a parameter stays empty.
  """
  known, copies = source.names(), dict(copies or {})
  used: set[str] = set()
  tree: dict[str, Any] = {}
  filled: set[str] = set()
  for row in rows:
    if row.optional and not known.issuperset(row.theirs):
      continue
    for path, values in zip(row.ours, _stacked(source, row, like, used, known, empty), strict=True):
      put(tree, path, place(path, values))
      filled.add(path)
  _refuse_empty(source.where, set(like) - filled)
  left = {n for n in known - used if not any(re.fullmatch(p, n) for p in ignored)}
  for name in sorted(left & copies.keys()):
    if not np.array_equal(source.get(name), source.get(copies[name])):
      raise UserError(
        f"{source.where}: {name} should repeat {copies[name]} and does not: its config ties them"
      )
  left -= copies.keys()
  if left:
    raise UserError(
      f"{source.where} holds {len(left)} tensors that the model has no place for, such as"
      f" {', '.join(sorted(left)[:3])}: it is another model than its config says"
    )
  return tree


def write(params: Mapping[str, Any], rows: Sequence[Row]) -> Iterator[tuple[str, np.ndarray]]:
  """Their tensors, `(name, values)`, of our parameters: the exact inverse of `read`.

  Raises:
    UserError: a parameter that no row names.
  """
  flat = flatten(params)
  named = {path for row in rows for path in row.ours}
  if flat.keys() - named:
    extra = ", ".join(sorted(flat.keys() - named)[:3])
    raise UserError(f"the target format has no name for {extra}: it cannot hold this model")
  for row in rows:
    ours = [np.asarray(flat[path]) for path in row.ours]
    for place in np.ndindex(row.stacked(np.shape(ours[0])) if ours else ()):
      theirs = row.transform.save(*(x[place] for x in ours))
      yield from zip(row.at(place), theirs, strict=True)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """A nested dict as path → leaf."""
  flat: dict[str, Any] = {}
  for name, value in tree.items():
    path = f"{prefix}{name}"
    if isinstance(value, Mapping):
      flat |= flatten(value, f"{path}/")
    else:
      flat[path] = value
  return flat


def _stacked(
  source: Source,
  row: Row,
  like: Mapping[str, tuple[int, ...]],
  used: set[str],
  known: set[str],
  empty: Empty,
) -> tuple[np.ndarray, ...]:
  """The values of a row's parameters, checked."""
  for path in row.ours:
    if path not in like:
      raise UserError(f"{source.where}: the model has no parameter {path}, which its table names")
  wanted = [like[path] for path in row.ours]
  leading = row.stacked(wanted[0]) if wanted else ()
  stacked: list[np.ndarray] = []
  for place in np.ndindex(leading):
    names = row.at(place)
    parts = _one(source, row, names, used, known)
    _check_shapes(source.where, names, parts, [shape[len(leading) :] for shape in wanted])
    if not leading:
      return parts
    if not stacked:
      stacked = [empty((*leading, *part.shape), part.dtype) for part in parts]
    for whole, part in zip(stacked, parts, strict=True):
      whole[place] = part
  return tuple(stacked)


def _one(
  source: Source, row: Row, names: tuple[str, ...], used: set[str], known: set[str]
) -> tuple[np.ndarray, ...]:
  """What one set of tensors gives."""
  for name in names:
    if name not in known:
      raise UserError(f"{source.where} lacks the tensor {name}{nearest(name, known)}")
  theirs = [source.get(name) for name in names]
  for name, values in zip(names, theirs, strict=True):
    if not np.isfinite(values.astype(np.float32) if values.itemsize < 4 else values).all():
      raise UserError(f"{source.where}: the tensor {name} holds NaN or infinity: it is damaged")
  used.update(names)
  try:
    return row.transform.load(*theirs)
  except UserError as error:
    raise UserError(f"{source.where}: {', '.join(names)}: {error}") from error
  except ValueError as error:
    shapes = ", ".join(f"{n} {v.shape}" for n, v in zip(names, theirs, strict=True))
    raise UserError(f"{source.where}: {shapes} does not fit the model its config says") from error


def _check_shapes(
  where: str, names: Sequence[str], parts: Sequence[np.ndarray], wanted: Sequence[tuple[int, ...]]
) -> None:
  for part, shape in zip(parts, wanted, strict=True):
    if part.shape != shape:
      raise UserError(
        f"{where}: {', '.join(names)} gives a parameter of shape {part.shape}, and the model that"
        f" the config describes has {shape} there"
      )


def _refuse_empty(where: str, missing: set[str]) -> None:
  if missing:
    raise UserError(
      f"{where} fills all of the model but {len(missing)} parameters, such as"
      f" {', '.join(sorted(missing)[:3])}"
    )


def put(tree: dict[str, Any], path: str, value: Any) -> None:
  """Sets the leaf at `a/b/c` of a nested dict."""
  *parents, last = path.split("/")
  for parent in parents:
    tree = tree.setdefault(parent, {})
  tree[last] = value
