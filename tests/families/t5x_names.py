"""T5X's parameter paths → ours, for the fixtures in tests/fixtures/t5x."""

from __future__ import annotations

import atexit
import functools
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FIXTURES = Path(__file__).parents[1] / "fixtures" / "t5x"
HEADS = 2

# Ours below `<tower>/stack/period_0` ← theirs below `<tower>/layers_N`.
ENCODER = {
  "mixer_norm": "pre_attention_layer_norm",
  "mixer": "attention",
  "channel_norm": "pre_mlp_layer_norm",
  "channel": "mlp",
}
DECODER = {
  "mixer_norm": "pre_self_attention_layer_norm",
  "mixer": "self_attention",
  "cross_norm": "pre_cross_attention_layer_norm",
  "cross": "encoder_decoder_attention",
  "channel_norm": "pre_mlp_layer_norm",
  "channel": "mlp",
}


def load(name: str) -> dict[str, np.ndarray]:
  """All arrays of a fixture, by key."""
  with np.load(FIXTURES / f"{name}.npz") as arrays:
    return dict(arrays)


@functools.cache
def checkpoint(kind: str, name: str) -> Path:
  """The directory of a checkpoint, `kind` native or orbax."""
  return _unpacked() / kind / name / "checkpoint_3"


@functools.cache
def _unpacked() -> Path:
  folder = tempfile.mkdtemp(prefix="t5x-")
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  with tarfile.open(FIXTURES / "checkpoints.tar.gz") as archive:
    archive.extractall(folder, filter="data")
  return Path(folder)


def tree(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, Any]:
  """`<prefix>/<T5X path>` arrays as our nested dict: joined heads split, layers stacked in front.

  Fails unless every array below `prefix` is used exactly once.
  """
  left = {k.removeprefix(f"{prefix}/"): v for k, v in arrays.items() if k.startswith(f"{prefix}/")}
  out: dict[str, Any] = {"tokens": {"embedding": left.pop("token_embedder/embedding")}}
  if "decoder/logits_dense/kernel" in left:
    out["head"] = {"logits_dense": {"kernel": left.pop("decoder/logits_dense/kernel")}}
  for tower, table in (("encoder", ENCODER), ("decoder", DECODER)):
    period: dict[str, Any] = {}
    for ours, theirs in table.items():
      paths = sorted(p for p in left if p.startswith(f"{tower}/layers_0/{theirs}/"))
      for path in paths:
        leaves = []
        for layer in range(2):
          leaves.append(_split(left.pop(path.replace("layers_0", f"layers_{layer}")), path))
        names = path.removeprefix(f"{tower}/layers_0/{theirs}/").split("/")
        _put(period, [ours, *names], np.stack(leaves))
    out[tower] = {
      "stack": {"period_0": period},
      "final_norm": {"scale": left.pop(f"{tower}/{tower}_norm/scale")},
      "position": {"rel_embedding": left.pop(f"{tower}/relpos_bias/rel_embedding")},
    }
  assert not left, f"unmapped: {sorted(left)}"
  return out


def _split(x: np.ndarray, path: str) -> np.ndarray:
  """A kernel of attention with its joined axis split into heads and head_dim."""
  if "attention/" not in path:
    return x
  if path.endswith("out/kernel"):
    return x.reshape(HEADS, -1, x.shape[-1])
  return x.reshape(x.shape[0], HEADS, -1)


def _put(tree_: dict[str, Any], names: list[str], value: np.ndarray) -> None:
  for name in names[:-1]:
    tree_ = tree_.setdefault(name, {})
  tree_[names[-1]] = value
