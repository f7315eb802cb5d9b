"""Writes the cases of tests/parity down for the quick suite, which has neither torch nor the net.

COMMAND: pip install -e '.[parity]' && python -m tests.parity.record [NAME ...]

A file tests/fixtures/published/NAME.npz holds `config` (their config.json), `tensor/<name>` (their
weights as saved), `batch/<feature>` (what ours reads), `mask` and `logits` (theirs), `versions`,
and `states/<side>/<number>` (their hidden states, as `tests.families.states` has ours).
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file

from tests.parity import harness

HERE = Path(__file__).parent
THERE = HERE.parent / "fixtures" / "published"


def cases() -> dict[str, harness.Case]:
  """Every case of every family."""
  found: dict[str, harness.Case] = {}
  for path in sorted(HERE.glob("test_*.py")):
    module = importlib.import_module(f"tests.parity.{path.stem}")
    found |= getattr(module, "CASES", {})
  return found


def arrays(case: harness.Case) -> dict[str, Any]:
  """What is written down of a case."""
  torch.manual_seed(0)
  theirs = case.make()
  with tempfile.TemporaryDirectory() as name:
    folder = harness.saved(theirs, Path(name))
    config = (folder / "config.json").read_text()
    tensors = load_file(folder / "model.safetensors")
  batch, inputs, mask = case.inputs()
  with torch.no_grad():
    out = harness.called(theirs, inputs, output_hidden_states=case.states)
  states = {
    f"states/{side}/{number}": x
    for side in ("encoder", "decoder")
    if case.states and f"{side}_input_tokens" in batch
    for number, x in enumerate(case.alike(harness.told(out, side)))
  }
  versions = {"torch": torch.__version__, "transformers": transformers.__version__}
  return {
    "config": config, "versions": json.dumps(versions), "mask": mask, "logits": out.logits.numpy(),
    **{f"tensor/{k}": x for k, x in tensors.items()}, **states,
    **{f"batch/{k}": x for k, x in batch.items()},
  }  # fmt: skip


def main(names: Sequence[str]) -> None:
  """Writes the cases of these names; none: all."""
  THERE.mkdir(exist_ok=True)
  for name, case in cases().items():
    if not names or name in names:
      np.savez_compressed(THERE / f"{name}.npz", **arrays(case))
      print(f"{name}: {(THERE / f'{name}.npz').stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
  main(sys.argv[1:])
