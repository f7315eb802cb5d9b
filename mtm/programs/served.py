"""A checkpoint as a `Service`: what `mtm chat` and `mtm serve` talk to."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from mtm.errors import UserError
from mtm.programs import wishes
from mtm.programs.examples import encoded
from mtm.programs.handle import Handle, load
from mtm.programs.published import SOURCE
from mtm.programs.special import ENCODER
from mtm.serving.engine import Engine
from mtm.serving.scheduler import Scheduler
from mtm.serving.service import Service
from mtm.serving.turns import Message, Turns, find

DEFAULT_LENGTH = 2048  # of a model whose own limit is larger, or that has none


def service(
  path: str | Path,
  slots: int = 8,
  max_length: int | None = None,
  most_waiting: int = 64,
  name: str | None = None,
  **changes: Any,
) -> Service:
  """Loads a checkpoint and starts serving it; `service.scheduler.close()` ends that.

  Args:
    path: whatever `mtm.load` takes.
    slots: texts that are generated together.
    max_length: the longest text, prompt and answer together (beside an encoder, the longest input
      and the longest answer); None: the model's own limit, 2,048 at most.
    most_waiting: requests that may wait for a slot.
    name: what requests call the model; None: the directory's name.
    changes: further arguments of `mtm.load`.

  Raises:
    UserError: see `mtm.load`; the checkpoint has no tokenizer or the model no decoder, or there are
      several hosts.
  """
  if jax.process_count() > 1:
    raise UserError(
      f"{jax.process_count()} processes would have to serve one model together, which they cannot:"
      " start one on a single host"
    )
  handle = load(path, **changes)
  if handle.vocabulary is None:
    raise UserError(f"{path} has no tokenizer, and texts cannot be served without: copy one there")
  paired = ENCODER in handle.model.inputs
  turns = find(folders(Path(path)), paired)
  made, vocabulary = engine(handle, slots, max_length), handle.vocabulary
  handle = dataclasses.replace(handle, params={})  # the engine has its own
  ends = handle.eos_id if isinstance(handle.eos_id, tuple) else (handle.eos_id,)
  known = [end for end in ends if end is not None]
  scheduler = Scheduler(made, vocabulary.decode, known, most_waiting)
  return Service(
    name or Path(path).resolve().name, scheduler,
    lambda text: encoded(vocabulary, text, paired, handle.framed),
    lambda messages: conversation(handle, turns, messages),
    vocabulary.decode, handle.model.vocab_size, turns.stops,
  )  # fmt: skip


def engine(handle: Handle, slots: int, max_length: int | None = None) -> Engine:
  """The engine of a loaded model; see `service`.

  Raises:
    UserError: `slots` or `max_length` is out of range, or the model has no decoder.
  """
  model, paired = handle.model, ENCODER in handle.model.inputs
  own = model.max_length
  if slots < 1:
    raise UserError(f"slots = {slots}: give at least 1, for one text at a time")
  if max_length is not None and not 2 <= max_length <= (own or max_length):
    most = "" if own is None else f", and at most the {own} that it reads"
    raise UserError(f"max_length = {max_length}: give the model at least 2{most}")
  length = max_length or min(own or DEFAULT_LENGTH, DEFAULT_LENGTH)
  columns = min(length, getattr(model, "decoder_max_length", None) or length)
  left = wishes.unheeded(handle.generation, paired)
  if left:
    warnings.warn(f"generating does not heed {', '.join(left)} of the checkpoint", stacklevel=2)
  return Engine(
    model, handle.plan, handle.params, slots, columns, length if paired else 0, handle.begin_id,
    handle.eos_id, lambda limit: wishes.constraints(handle.generation, paired, limit),
    handle.prefix,
  )  # fmt: skip


def conversation(handle: Handle, turns: Turns, messages: Sequence[Message]) -> list[int]:
  """The ids of a conversation, up to where the answer begins."""
  text, paired = turns.text(messages), ENCODER in handle.model.inputs
  if turns.framed:
    return encoded(handle.vocabulary, text, paired, handle.framed)
  ids = handle.vocabulary.encode(text)
  # The template writes the begin that the engine puts there too.
  return ids[1:] if ids[:1] == [handle.begin_id] and not paired else ids


def folders(path: Path) -> list[Path]:
  """Where a checkpoint may keep the files of its original's tokenizer: `path` is a directory of
  another library, a MODEL_DIR, or one checkpoint of it."""
  return [path, path / SOURCE, path.parent.parent / SOURCE]
