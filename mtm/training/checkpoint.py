"""Checkpoints: `<model_dir>/checkpoints/<step>/` with everything that the next step needs.

Items: `params`, `training` (step, optimizer state, RNG, extra), `record` (data-iterator state,
operative config, ledger, versions). Orbax writes them asynchronously and makes a step visible only
when it is whole: a killed run leaves no half checkpoint behind.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mtm.errors import UserError, nearest
from mtm.training import pieces
from mtm.training.state import TrainState
from mtm.types import Params

DIRECTORY = "checkpoints"
CHUNK_BYTES = 1 << 25  # of an array of parameters that is written alone: what is in memory then
_ITEMS = ("params", "training", "record")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_GO_BACK = "remove that step to go on from the one before it"


class Checkpoints:
  """The checkpoints of one run."""

  def __init__(self, model_dir: str | Path, keep: int | None = 3) -> None:
    """Opens or makes `model_dir/checkpoints`.

    Args:
      model_dir: the run's directory.
      keep: how many of the newest to keep; None: all.

    Raises:
      UserError: the directory holds something that is no checkpoint, or cannot be written.
    """
    import orbax.checkpoint as ocp

    self.directory = Path(model_dir).absolute() / DIRECTORY
    with _told(self.directory):
      self.directory.mkdir(parents=True, exist_ok=True)
      _refuse_foreign(self.directory)
      options = ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        enable_async_checkpointing=True,
        cleanup_tmp_directories=True,  # what a killed run or a full disk left half-written
      )
      self._manager = ocp.CheckpointManager(self.directory, options=options, item_names=_ITEMS)

  def latest(self) -> int | None:
    """The newest step that was saved whole, or None."""
    return self._manager.latest_step()

  def save(self, state: TrainState, record: Mapping[str, Any]) -> None:
    """Starts to write `state` (any mesh) and `record` (JSON-able); returns before it is on disk.

    Raises:
      UserError: an earlier write failed, for example because the disk is full.
    """
    import orbax.checkpoint as ocp

    with _told(self.directory):
      self._manager.save(
        int(state.step),
        args=ocp.args.Composite(
          params=ocp.args.StandardSave(state.params),
          training=ocp.args.StandardSave(_all_but_params(state)),
          record=ocp.args.JsonSave(dict(record)),
        ),
      )

  def restore(self, step: int, abstract: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """The state and record of `step`, laid out as `abstract` says, on whatever mesh it names.

    Raises:
      UserError: no such step, damaged files, or parameters of another model.
    """
    return restore(self.directory / str(step), abstract)

  def wait(self) -> None:
    """Returns when everything saved is on disk. Raises UserError when that failed."""
    with _told(self.directory):
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, then lets go of the directory."""
    self.wait()
    self._manager.close()


def save_params(model_dir: str | Path, params: Params, record: Mapping[str, Any]) -> Path:
  """Writes a checkpoint at step 0 that holds parameters and a record, and no training state.

  What is no JAX array may lie in a file: it is asked for its `__array__` when it is its turn, and
  written before the next.

  Returns:
    its directory.

  Raises:
    UserError: there is one already, or the disk is full.
  """
  import orbax.checkpoint as ocp

  where = Path(model_dir).absolute() / DIRECTORY / "0"
  if where.exists():
    raise UserError(f"{where} exists already: remove it, or choose another directory")
  writing = pieces.Writing()
  handlers = {"params": _in_turn(writing), "record": ocp.JsonCheckpointHandler()}
  later = jax.tree.map(lambda x: x if isinstance(x, jax.Array) else _Later(x), params)
  with _told(where), ocp.Checkpointer(ocp.CompositeCheckpointHandler(**handlers)) as writer:
    in_chunks = jax.tree.map(lambda x: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES), later)
    items = {
      "params": ocp.args.PyTreeSave(later, save_args=in_chunks),
      "record": ocp.args.JsonSave(dict(record)),
    }
    try:
      writer.save(where, args=ocp.args.Composite(**items))
    except BaseException:  # an interruption, while threads write on
      writing.give_up()
      raise
  return where


class _Later:
  """An array that is opened when it is its turn."""

  def __init__(self, values: Any) -> None:
    self.values = values
    self.shape, self.dtype = tuple(values.shape), np.dtype(values.dtype)
    self.size, self.nbytes = int(values.size), int(values.nbytes)


def _in_turn(writing: pieces.Writing) -> Any:
  """A handler that opens and writes each `_Later` after the one before it, a chunk at a time;
  orbax's own copies all arrays, then writes them all at once."""
  import orbax.checkpoint as ocp
  from orbax.checkpoint import type_handlers

  class InTurn(type_handlers.NumpyHandler):
    async def serialize(self, values: Any, infos: Any, args: Any = None) -> Any:
      # Not before orbax has made the directories, which this future waits for.
      written = self._written(values, infos, args)
      return [ocp.future.CommitFutureAwaitingContractedSignals(written, name="in_turn")]

    async def _written(self, values: Any, infos: Any, args: Any) -> None:
      with writing.going_on():
        for value, info, arg in zip(values, infos, args, strict=True):
          await info.await_path_creation()
          array = np.asarray(value.values)
          spec = type_handlers.get_json_tspec_write(
            info, info.is_ocdbt_checkpoint, array.shape, array.shape, array.dtype, 0, arg=arg
          )
          await writing.array(spec, info.ts_context, array)

  registry = type_handlers.create_type_handler_registry(
    (_Later, InTurn()), (jax.Array, type_handlers.ArrayHandler())
  )
  return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)


def has_training_state(path: str | Path) -> bool:
  """Whether a checkpoint of ours holds optimizer state and step too."""
  return (find(path) / "training").is_dir()


def find(path: str | Path) -> Path:
  """The directory of one checkpoint: `path` itself, or the newest one of the run at `path`.

  Raises:
    UserError: there is none; it says what is there instead.
  """
  path = Path(path).absolute()
  if not path.exists():
    beside = path.parent.iterdir() if path.parent.is_dir() else []
    near = nearest(path.name, [p.name for p in beside])
    raise UserError(f"checkpoint {path} does not exist{near}")
  if (path / "params").is_dir():
    return path
  if path.parent.name == DIRECTORY:
    raise UserError(f"checkpoint {path} is damaged: it has no params; {_GO_BACK}")
  home = path if path.name == DIRECTORY else path / DIRECTORY
  steps = sorted(int(p.name) for p in home.glob("*") if p.name.isdigit()) if home.is_dir() else []
  if not steps:
    raise UserError(
      f"{path} holds no mtm checkpoint: give a MODEL_DIR with {DIRECTORY}/<step>/ in it, or one"
      " such step"
    )
  return home / str(steps[-1])


def shapes(path: str | Path) -> dict[str, Any]:
  """The parameter tree of a checkpoint as `ShapeDtypeStruct`s, without reading an array.

  Raises:
    UserError: no checkpoint there, or a damaged one.
  """
  where = find(path)
  return _saved_shapes(where, "params")


def restore(path: str | Path, abstract: TrainState) -> tuple[TrainState, dict[str, Any]]:
  """The whole state of a checkpoint and its record, laid out as `abstract` says, on any mesh.

  Args:
    path: a MODEL_DIR, its `checkpoints`, or one step of it.
    abstract: shapes with shardings.

  Raises:
    UserError: no checkpoint, damaged files, or the state of another model or optimizer.
  """
  where = find(path)
  _check_params(where, abstract.params)
  rest = _all_but_params(abstract)
  _check_training(where, rest)
  params, rest = _read(where, "params", abstract.params), _read(where, "training", rest)
  return TrainState(params=params, **rest), record(where)


def restore_params(path: str | Path, abstract: Params) -> Params:
  """Only the parameters of a checkpoint, laid out as `abstract` (shapes with shardings) says.

  Args:
    path: a MODEL_DIR, its `checkpoints`, or one step of it.
    abstract: a tree of `ShapeDtypeStruct`s; those without sharding go to the default device.

  Raises:
    UserError: no checkpoint, damaged files, or parameters of another model.
  """
  where = find(path)
  _check_params(where, abstract)
  return _read(where, "params", abstract)


def parameters(
  path: str | Path, wanted: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, pieces.Stored]]:
  """The parameters of a checkpoint, `(a/b/c, values)`, opened and not yet read.

  Args:
    path: a MODEL_DIR, its `checkpoints`, or one step of it.
    wanted: path → shape of every parameter that the model has.

  Raises:
    UserError: no checkpoint, damaged files, or parameters of another model; also later, when the
      values are read.
  """
  where = find(path)
  saved = _flat(_saved_shapes(where, "params"))
  _refuse_other_params(where, saved, dict(wanted))
  for name in saved:
    told = functools.partial(_told, where)
    yield name, pieces.Stored(where / "params", name.replace("/", "."), told)


def training_state(path: str | Path) -> dict[str, pieces.Stored]:
  """Step, optimizer state and all else but parameters, `a.b.0.c` → an array that is not yet read.

  Raises:
    UserError: no checkpoint, or a damaged one; also later, when the values are read.
  """
  where = find(path)
  leaves = jax.tree_util.tree_flatten_with_path(_saved_shapes(where, "training"))[0]
  names = [
    ".".join(str(getattr(k, "key", getattr(k, "idx", k))) for k in keys) for keys, _ in leaves
  ]
  told = functools.partial(_told, where)
  return {name: pieces.Stored(where / "training", name, told) for name in names}


def record(path: str | Path) -> dict[str, Any]:
  """The record of a checkpoint: config text, ledger, versions.

  Raises:
    UserError: no checkpoint there, or a damaged one.
  """
  where = find(path)
  with _told(where):
    return json.loads((where / "record" / "metadata").read_text())


def _all_but_params(state: TrainState) -> dict[str, Any]:
  """What the item `training` holds."""
  return {"step": state.step, "opt_state": state.opt_state, "rng": state.rng,
          "extra": dict(state.extra)}  # fmt: skip


def _reader() -> Any:
  """Reads one item's directory."""
  import orbax.checkpoint as ocp

  return ocp.Checkpointer(ocp.StandardCheckpointHandler())


def _read(where: Path, item: str, abstract: Any) -> Any:
  """The arrays of an item, laid out as `abstract` says."""
  import orbax.checkpoint as ocp

  with _told(where), _reader() as reader:
    return reader.restore(where / item, args=ocp.args.StandardRestore(abstract))


def _saved_shapes(where: Path, item: str) -> Any:
  """The tree of an item as `ShapeDtypeStruct`s; tuples come back as lists or dicts."""
  with _told(where), _reader() as reader:
    tree = reader.metadata(where / item).item_metadata.tree
  return jax.tree.map(lambda m: jax.ShapeDtypeStruct(tuple(m.shape), m.dtype), tree)


def _check_training(where: Path, abstract: dict[str, Any]) -> None:
  """Raises UserError where the optimizer's state cannot be that of this run's optimizer."""
  theirs, ours = _saved_shapes(where, "training"), abstract
  counts = [sorted(tuple(x.shape) for x in jax.tree.leaves(tree)) for tree in (theirs, ours)]
  if counts[0] != counts[1]:
    raise UserError(
      f"checkpoint {where} holds the state of another optimizer ({len(counts[0])} arrays there,"
      f" {len(counts[1])} here): use the gin files it was trained with, or take only its parameters"
      " with --gin.INITIAL_CHECKPOINT_PATH and another MODEL_DIR"
    )


def _check_params(where: Path, abstract: Params) -> None:
  """Raises UserError naming the first parameters that the checkpoint and the model disagree on."""
  _refuse_other_params(where, _flat(shapes(where)), _flat(abstract))


def _refuse_other_params(
  where: Path, theirs: dict[str, tuple[int, ...]], ours: dict[str, tuple[int, ...]]
) -> None:
  if theirs.keys() != ours.keys():
    extra = ", ".join(sorted(theirs.keys() - ours.keys())[:3]) or "nothing"
    missing = ", ".join(sorted(ours.keys() - theirs.keys())[:3]) or "nothing"
    raise UserError(
      f"checkpoint {where} is of another model: it has {extra} that this model lacks, and lacks"
      f" {missing}; use the gin files it was trained with ({where.parent.parent / 'config.gin'})"
    )
  for name, shape in ours.items():
    if shape != theirs[name]:
      raise UserError(
        f"checkpoint {where} is of another model: {name} is {list(theirs[name])} there and"
        f" {list(shape)} here; use the gin files it was trained with"
      )


def _flat(tree: Any) -> dict[str, tuple[int, ...]]:
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {"/".join(str(k.key) for k in path): tuple(x.shape) for path, x in leaves}


def _refuse_foreign(directory: Path) -> None:
  foreign = [p.name for p in directory.iterdir() if not p.name.split(".")[0].isdigit()]
  if foreign:
    raise UserError(
      f"{directory} holds {foreign[0]!r}, which is no mtm checkpoint: choose another MODEL_DIR"
    )


@contextlib.contextmanager
def _told(where: Path) -> Iterator[None]:
  """Turns what orbax and the disk raise into one sentence that names the path."""
  try:
    yield
  except UserError:
    raise
  except FileNotFoundError as error:
    raise UserError(
      f"checkpoint {where} is damaged: {error.filename} is gone; {_GO_BACK}"
    ) from error
  except OSError as error:
    if error.errno in _NO_SPACE:
      raise UserError(f"the disk of {where} is full: free some space and run again") from error
    raise UserError(f"cannot use {where}: {error.strerror or error}") from error
  except Exception as error:
    reason = " ".join(str(error).split())
    if any(sign in reason for sign in ("No space left", "RESOURCE_EXHAUSTED", "File too large")):
      raise UserError(f"the disk of {where} is full: free some space and run again") from error
    raise UserError(
      f"checkpoint {where} is damaged or not mtm's ({type(error).__name__}: {reason[:200]});"
      f" {_GO_BACK}"
    ) from error
