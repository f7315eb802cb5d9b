"""Any checkpoint as a model with parameters, and any such model as a checkpoint of any format."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mtm import __version__, config, interop
from mtm.errors import UserError
from mtm.families._published import complete
from mtm.interop import hf, tree
from mtm.interop._base import shapes
from mtm.interop.tree import Empty, Place
from mtm.programs import loading, moments
from mtm.programs.loading import VOCABULARY
from mtm.programs.special import Special
from mtm.sharding.mesh import Mesh
from mtm.sharding.plan import Plan
from mtm.sharding.rules import Rule
from mtm.training import checkpoint
from mtm.training.pieces import Stored
from mtm.types import Model, Params

SOURCE = "source"  # what an import keeps of the original, below the model's directory
OURS = "mtm"


@dataclasses.dataclass(frozen=True)
class Opened:
  """A checkpoint, its parameters not yet read.

  Attributes:
    where: its path.
    format: `mtm`, or the name of another library's.
    build, arguments: `build(**arguments)` is the model; all arguments are told.
    fill: `(model, place, empty) → params`, see `mtm.interop.tree.read`; a parameter or less is in
      memory at a time, and what `empty` and `place` keep.
    special: what begins, pads and ends its sequences.
    source: the directory with what must travel along, or None.
    vocabulary: makes the vocabulary; None where there is none.
    foreign: the original, where it is another library's.
    moments: reads the state of its optimizer, None: it has none.
  """

  where: Path
  format: str
  build: Callable[..., Model]
  arguments: dict[str, Any]
  fill: Callable[[Model, Place, Empty], Params]
  special: Special = Special()
  source: Path | None = None
  vocabulary: Callable[[], Any] | None = None
  foreign: interop.Foreign | None = None
  moments: Callable[[], interop.Moments | None] = lambda: None

  @property
  def framed(self) -> bool:
    """Whether its texts stand between the special ids of the original's tokenizer: those of a run
    that trained here are as its task made them."""
    return self.foreign is not None or self.source is not None

  def model(self, **changes: Any) -> Model:
    """The model, with some of the builder's arguments replaced."""
    return self.build(**{**self.arguments, **changes})

  def read(self, model: Model, plan: Plan) -> Params:
    """The parameters, float32, laid out as the plan says."""
    return self.fill(model, placed(loading.abstract_parameters(model, plan)), np.empty)


def open_checkpoint(path: str | Path) -> Opened:
  """The checkpoint at `path`, whatever its format.

  Raises:
    UserError: there is none, it is damaged, or it is of a model that mtm cannot honour.
  """
  where = Path(path)
  foreign = open_foreign(where)
  if foreign is not None:
    return foreign
  step = checkpoint.find(where)
  home = step.parent.parent
  made = home / "model.gin"
  if not made.exists():
    raise UserError(f"{home} has no model.gin, which says what its parameters belong to")
  parts = config.load(None, [str(made)], []).parts("MODEL")
  if parts is None:
    raise UserError(f"{made}: MODEL must be a call such as @llama.llama()")
  build, arguments = parts
  vocabulary = home / VOCABULARY

  def fill(model: Model, place: Place, empty: Empty) -> Params:
    del empty
    filled: dict[str, Any] = {}
    for path, values in checkpoint.parameters(step, shapes(model)):
      tree.put(filled, path, place(path, values))
    return filled

  return Opened(
    where, OURS, build, complete(build, arguments), fill, _special(step),
    home / SOURCE if (home / SOURCE).is_dir() else None,
    (lambda: loading.vocabulary(step)) if vocabulary.is_dir() else None,
    moments=lambda: moments.beside(step),
  )  # fmt: skip


def open_foreign(path: str | Path) -> Opened | None:
  """The checkpoint of another library at `path`; None where none of the formats is there.

  Raises:
    UserError: it is damaged, or of a model that mtm cannot honour.
  """
  for name, format in interop.formats().items():
    if format.found(Path(path)):
      return _foreign(Path(path), name, format.open(Path(path)))
  return None


def _foreign(where: Path, name: str, foreign: interop.Foreign) -> Opened:
  def vocabulary() -> Any:
    from mtm.data.vocabularies import from_directory

    return from_directory(where)

  has = bool(foreign.files.keys() - {"config.json", "generation_config.json"})
  return Opened(
    where, name, foreign.build, foreign.arguments, foreign.params, Special.of(foreign), None,
    vocabulary if has else None, foreign, foreign.moments or (lambda: None),
  )  # fmt: skip


def parameters(
  model: Model, mesh: Mesh, path: str, rules: Mapping[str, Rule] | None = None
) -> tuple[Plan, Params]:
  """The plan on this mesh, and the parameters of any checkpoint laid out on it.

  Raises:
    UserError: no checkpoint there, a damaged one, or one of another model.
  """
  opened = open_foreign(path)
  if opened is None:
    return loading.parameters(model, mesh, path, rules)
  plan = Plan.of(mesh, rules)
  return plan, opened.read(model, plan)


def framed(path: str | Path) -> bool:
  """See `Opened.framed`."""
  if open_foreign(path) is not None:
    return True
  return (checkpoint.find(path).parent.parent / SOURCE).is_dir()


def special(path: str | Path) -> Special:
  """What begins, pads and ends the sequences of any checkpoint, one that lacks a head included."""
  if hf.FORMAT.found(Path(path)):
    return Special.of(hf.FORMAT.heads(Path(path))[0])
  opened = open_foreign(path)
  return _special(checkpoint.find(path)) if opened is None else opened.special


def vocabulary(path: str) -> Any:
  """The vocabulary that lies beside any checkpoint. Raises UserError where there is none."""
  opened = open_foreign(path)
  if opened is None:
    return loading.vocabulary(path)
  if opened.vocabulary is None:
    raise UserError(f"{path} has no tokenizer: bind one to `vocabulary`")
  return opened.vocabulary()


class Filed:
  """An array in a file, which is in memory only while somebody holds what `__array__` gives."""

  def __init__(self, file: str | Path) -> None:
    self._file = file
    like = np.asarray(self)
    self.shape, self.dtype, self.size, self.nbytes = like.shape, like.dtype, like.size, like.nbytes

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    values = np.load(self._file, mmap_mode="r")
    return np.array(values, dtype, copy=copy)


class OnDisk:
  """Keeps parameters in files of a folder, float32."""

  def __init__(self, folder: Path) -> None:
    self._folder, self._numbers = folder, itertools.count()

  def empty(self, shape: tuple[int, ...], dtype: Any) -> np.memmap:
    """See `mtm.interop.tree.Empty`."""
    file = self._folder / f"{next(self._numbers)}.npy"
    made = np.lib.format.open_memmap(file, "w+", np.dtype(dtype), shape)
    if hasattr(os, "posix_fallocate"):  # a full disk is told here, and does not end the process
      with file.open("r+b") as opened:
        os.posix_fallocate(opened.fileno(), 0, os.fstat(opened.fileno()).st_size)
    return made

  def __call__(self, path: str, values: np.ndarray | Stored) -> Filed:
    """See `mtm.interop.tree.Place`."""
    del path
    if isinstance(values, np.memmap) and values.dtype == np.float32:
      return Filed(str(values.filename))
    kept = self.empty(values.shape, np.float32)
    parts = values.pieces() if isinstance(values, Stored) else [((), values)]
    for index, part in parts:
      kept[index] = part
    if isinstance(values, np.memmap):
      os.unlink(str(values.filename))
    return Filed(str(kept.filename))


def placed(abstract: Params) -> Place:
  """Makes arrays as `abstract` lays them out: each device gets its own part only."""
  leaves = {
    "/".join(str(key.key) for key in path): leaf
    for path, leaf in jax.tree_util.tree_flatten_with_path(abstract)[0]
  }

  def place(path: str, values: np.ndarray | Stored) -> jax.Array:
    leaf = leaves[path]
    read: dict[str, np.ndarray] = {}

    def part(index: Any) -> np.ndarray:
      if str(index) not in read:  # devices may share it
        read[str(index)] = np.asarray(values[index], leaf.dtype)
      return read[str(index)]

    return jax.make_array_from_callback(leaf.shape, leaf.sharding, part)

  return place


def refuse_existing(destination: Path) -> None:
  """Raises UserError unless `destination` is absent or an empty directory."""
  if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
    raise UserError(f"{destination} exists already: remove it, or choose another directory")


def write(
  opened: Opened,
  params: Params,
  target: str,
  destination: Path,
  check: Callable[[Path], None] = lambda folder: None,
) -> int:
  """Writes a checkpoint of the format `target`, whole or not at all, and returns its values' count.

  Args:
    opened: what the parameters belong to.
    params: arrays, or what has a shape and gives one.
    target: a format.
    destination: a directory that does not exist or is empty.
    check: looks at what was written before it takes its name; what it raises is let through, and
      nothing is kept.

  Raises:
    UserError: the destination exists, the disk is full, or the format cannot hold the model.
  """
  refuse_existing(destination)
  with _whole(destination) as folder, tempfile.TemporaryDirectory() as kept:
    count = _write_into(opened, params, target, folder, Path(kept))
    check(folder)
    return count


def _write_into(opened: Opened, params: Params, target: str, folder: Path, kept: Path) -> int:
  source, state = opened.source, opened.moments()
  state = None if state is None or state.refused else state
  if opened.foreign is not None:
    source = kept
    _keep(opened, source)
  if target == OURS:
    return _write_ours(opened, params, folder, source, state)
  home = opened.where if opened.format == OURS else None
  vocabulary = home / VOCABULARY if home is not None and (home / VOCABULARY).is_dir() else None
  export = interop.Export(
    opened.build, opened.arguments, params, source, vocabulary, opened.special.begin_id,
    opened.special.eos_id, state,
  )  # fmt: skip
  return interop.formats()[target].write(folder, export)


def _write_ours(
  opened: Opened,
  params: Params,
  folder: Path,
  source: Path | None,
  state: interop.Moments | None,
) -> int:
  (folder / "model.gin").write_text(config.call("MODEL", opened.build, opened.arguments))
  checkpoint.save_params(
    folder, params, {"converted_from": str(opened.where), "mtm": __version__, "tokens": 0.0}
  )
  if source is not None:
    shutil.copytree(source, folder / SOURCE)
  if opened.vocabulary is not None:
    opened.vocabulary().save(folder / VOCABULARY)
  if state is not None:
    moments.keep(state, list(tree.flatten(params)), folder)
  return sum(x.size for x in jax.tree.leaves(params))


def _keep(opened: Opened, folder: Path) -> None:
  """Puts what must travel along with a foreign checkpoint into a directory."""
  assert opened.foreign is not None
  for name, path in opened.foreign.files.items():
    shutil.copyfile(path, folder / name)
  told = {**opened.foreign.layout, **opened.special.json()}
  (folder / "layout.json").write_text(json.dumps(told, indent=2) + "\n")


def _special(step: Path) -> Special:
  """What a checkpoint of ours says: its record where it was trained here, else what was kept of the
  original."""
  trained = checkpoint.record(step).get("special")
  kept = step.parent.parent / SOURCE / "layout.json"
  if trained is not None or not kept.exists():
    return Special.of(trained or {})
  return Special.of(json.loads(kept.read_text()))


@contextmanager
def _whole(destination: Path) -> Iterator[Path]:
  """A folder beside the destination that takes its name when the block ends well."""
  destination.parent.mkdir(parents=True, exist_ok=True)
  folder = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
  folder.chmod(0o755)
  try:
    yield folder
    if destination.exists():
      destination.rmdir()
    folder.rename(destination)
  except OSError as error:
    raise UserError(f"cannot write {destination}: {error.strerror or error}") from error
  finally:
    shutil.rmtree(folder, ignore_errors=True)
