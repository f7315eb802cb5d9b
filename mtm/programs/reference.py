"""What the original computes, beside what we do: the last check of a conversion."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mtm import axes
from mtm.errors import UserError
from mtm.interop.safetensors import Safetensors
from mtm.types import Batch, Model, Params

ROWS, LENGTH = 2, 12


@dataclasses.dataclass(frozen=True)
class Reference:
  """A batch and the original's logits for it.

  Attributes:
    name: who computed them.
    batch: what our model reads.
    logits: `[batch, length, vocab]`; of a classifier `[batch, classes]`.
  """

  name: str
  batch: Batch
  logits: np.ndarray


@dataclasses.dataclass(frozen=True)
class Agreement:
  """How near ours are: the largest difference of logits, and the share of places where both find
  the same token likeliest."""

  largest: float
  same: float


def compare(model: Model, params: Params, reference: Reference) -> Agreement:
  """Runs the model on the reference's batch, where its decoder (or only) side is no padding."""
  with axes.use(None):  # on one device, however many there are
    ours = np.asarray(jax.jit(model.apply)(params, dict(reference.batch)).logits)
  theirs = reference.logits
  if ours.shape == (*theirs.shape, 1):  # ELECTRA's, one a token
    theirs = theirs[..., None]
  elif theirs.ndim == 2:  # a classifier's, of whole texts: ours stand at an end of them
    place = slice(-1, None) if len(model.inputs) > 1 else slice(1)
    ours, theirs = ours[:, place], theirs[:, None]
  if ours.shape != theirs.shape:
    raise UserError(
      f"the reference's logits are {reference.logits.shape} and the model's {ours.shape}: it is of"
      " another model or batch"
    )
  side = model.inputs[-1].removesuffix("_input_tokens")
  segments = reference.batch.get(f"{side}_segment_ids")
  real = np.ones(ours.shape[:2], bool) if segments is None else np.asarray(segments) > 0
  weights = reference.batch.get("decoder_loss_weights")
  real = real if weights is None else real & (np.asarray(weights) > 0)
  real = real[:, : ours.shape[1]]
  a, b = ours[real], theirs[real].astype(np.float32)
  return Agreement(float(np.abs(a - b).max()), float(np.mean(a.argmax(-1) == b.argmax(-1))))


def from_file(path: str | Path) -> Reference:
  """A reference from an npz file: `logits`, and the batch's features, `in/` before them or not.

  Raises:
    UserError: the file cannot be read, or has no logits.
  """
  try:
    with np.load(path) as file:
      arrays = dict(file)
  except (OSError, ValueError) as error:
    raise UserError(f"{path} is no npz file of logits ({error})") from error
  if "logits" not in arrays:
    raise UserError(f"{path} holds no 'logits', but {', '.join(sorted(arrays)[:5])}")
  inputs = {name.removeprefix("in/"): x for name, x in arrays.items()}
  batch = {n: x for n, x in inputs.items() if n.startswith(("encoder_", "decoder_"))}
  return Reference(str(path), batch, arrays["logits"])


def from_transformers(path: str | Path, model: Model, class_name: str) -> Reference | None:
  """What `transformers` computes for random ids; None where it or torch is not installed.

  Raises:
    UserError: `transformers` cannot run it.
  """
  if not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
    return None
  import torch
  import transformers

  name = f"transformers {transformers.__version__}"
  try:
    theirs = getattr(transformers, class_name).from_pretrained(str(path), dtype=torch.float32)
    _untie(theirs.eval(), path)
    ids = _ids(model, getattr(theirs.config, "eos_token_id", None))
    named = {"input_ids": torch.as_tensor(ids)}
    if len(model.inputs) > 1:
      named["decoder_input_ids"] = named["input_ids"]
    with torch.no_grad(), _drawn_as_ours(torch, getattr(theirs.config, "hash_seed", None) or 0):
      told = theirs(**named)
      logits = told["logits" if "logits" in told else "prediction_logits"].float().numpy()
  except Exception as error:  # theirs may raise anything
    reason = " ".join(str(error).split())[:200]
    raise UserError(
      f"{name} cannot run {path} ({type(error).__name__}: {reason}): give the original's logits"
      " with --reference, or leave the comparison out with --no-compare"
    ) from error
  batch = dict.fromkeys(model.inputs, ids.astype(np.int32))
  for side in model.inputs:
    batch[side.replace("input_tokens", "segment_ids")] = np.ones_like(ids, np.int32)
  return Reference(name, batch, logits)


def _ids(model: Model, end: Any) -> np.ndarray:
  """Random texts `[rows, length]`; between two towers they end, and nowhere before: there BART
  reads off a text's class."""
  rng = np.random.default_rng(0)
  ids = rng.integers(min(4, model.vocab_size - 1), model.vocab_size, (ROWS, LENGTH))
  if len(model.inputs) > 1 and isinstance(end, int):
    ids[ids == end] = end - 1 if end else 1
    ids[:, -1] = end
  return ids


@contextlib.contextmanager
def _drawn_as_ours(torch: Any, seed: int) -> Iterator[None]:
  """What theirs draws is what ours does: the directions by which Reformer hashes, which are alike
  in all layers, and nothing in other models."""

  def normal(shape: Sequence[int], **unused: Any) -> Any:
    return torch.as_tensor(np.array(jax.random.normal(jax.random.key(seed), tuple(shape))))

  before, torch.randn = torch.randn, normal
  try:
    yield
  finally:
    torch.randn = before


def _untie(theirs: Any, path: str | Path) -> None:
  """Gives a torch model the head and the token table that its file has: `transformers` 5 ties T5's
  whatever the file holds."""
  import torch

  head, stored = theirs.get_output_embeddings(), Safetensors(path)
  tied = [
    n for n, x in theirs.named_parameters(remove_duplicate=False) if head and x is head.weight
  ]
  for name in stored.names().intersection(tied):
    values = torch.as_tensor(stored.get(name).astype(np.float32))
    owner, _, field = name.rpartition(".")
    module = theirs.get_submodule(owner)
    if not torch.equal(values, getattr(module, field)):
      setattr(module, field, torch.nn.Parameter(values))


def room(values: int) -> bool:
  """Whether the memory that is free holds two models of float32 with so many values."""
  try:
    lines = Path("/proc/meminfo").read_text().splitlines()
  except OSError:  # no Linux: let it be tried
    return True
  free = {name: int(told.split()[0]) << 10 for name, _, told in (x.partition(":") for x in lines)}
  return free["MemAvailable"] > 2 * 4 * values
