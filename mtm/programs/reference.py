"""What the original computes, beside what we do: the last check of a conversion."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mtm import axes
from mtm.errors import UserError
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
  if theirs.ndim == 2:  # a classifier's, of whole texts: ours stand at their first tokens
    ours, theirs = ours[:, :1], theirs[:, None]
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
  """What `transformers` computes for random ids; None where it or torch is not installed."""
  if not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
    return None
  import torch
  import transformers

  rng = np.random.default_rng(0)
  ids = rng.integers(min(4, model.vocab_size - 1), model.vocab_size, (ROWS, LENGTH))
  theirs = getattr(transformers, class_name).from_pretrained(str(path), dtype=torch.float32).eval()
  batch = dict.fromkeys(model.inputs, ids.astype(np.int32))
  named: dict[str, Any] = {"input_ids": torch.as_tensor(ids)}
  if len(model.inputs) > 1:
    named["decoder_input_ids"] = named["input_ids"]
  for name in model.inputs:
    batch[name.replace("input_tokens", "segment_ids")] = np.ones_like(ids, np.int32)
  with torch.no_grad():
    logits = theirs(**named).logits
  return Reference(f"transformers {transformers.__version__}", batch, logits.float().numpy())
