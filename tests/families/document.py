"""Writes docs/families.md: the published families, and how near ours are to the originals.

COMMAND: python -m tests.families.document
"""

from __future__ import annotations

import importlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from mtm.interop import hf
from tests.families import recorded

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "families.md"
HEAD = """# Which published models can I load, and how near are they to the originals?

`mtm.load(directory)` gives a model from a HuggingFace directory (`config.json` and safetensors),
from a checkpoint of T5X (T5, native or through orbax) or of mtm; `mtm convert` writes one as
another, see [checkpoints](checkpoints.md). A config that a family cannot honour is refused by name.

The last column is the largest difference of a logit between ours and `transformers` on tiny random
models in float32, whose logits are of order 1 to 10; gradients, and for decoders greedy and beam
tokens, are compared too by `make parity`. This page is written by `python -m
tests.families.document`.

| family | what makes it different | `model_type`: classes | gin files | largest \\|Δ logit\\| |
|---|---|---|---|---|
"""


def families() -> Iterator[tuple[str, str]]:
  """Each row's key, the module of a family, and the row without its last column."""
  kinds: dict[str, list[str]] = {}
  for one in (family for every in hf.published().values() for family in every):
    module = one.build.__module__
    kinds.setdefault(module, []).append(f"`{one.model_type}`: {', '.join(one.architectures)}")
  for module, told in sorted(kinds.items()):
    name = module.rpartition(".")[2]
    (first, *_) = (importlib.import_module(module).__doc__ or "").split("\n\n")
    text = " ".join(first.split()).rstrip(".")
    text = re.sub(r"\b(\d{4}\.\d{5})\b", r"[\1](https://arxiv.org/abs/\1)", text)
    sizes = sorted(
      path.parent.name
      for path in (ROOT / "gin" / "families").glob("*/*.gin")
      if f"from mtm.families import {name}\n" in path.read_text()
    )
    files = ", ".join(f"`families/{folder}/`" for folder in dict.fromkeys(sizes)) or "none"
    yield module, f"| {name} | {text} | {'; '.join(told)} | {files} |"


def distances() -> dict[str, float]:
  """Module of a family → the largest difference of a logit over its recorded models."""
  found: dict[str, float] = {}
  for name in recorded.NAMES:
    with tempfile.TemporaryDirectory() as folder:
      foreign = hf.FORMAT.open(recorded.directory(name, Path(folder) / "theirs"))
      model = foreign.model(dropout=0.0)
      params = foreign.params(model, lambda path, values: values)
    arrays = recorded.arrays(name)
    real = arrays["mask"] > 0
    logits = np.asarray(jax.jit(model.apply)(params, recorded.batch(name)).logits)
    away = float(np.abs(logits[real] - arrays["logits"][real]).max())
    key = foreign.build.__module__
    found[key] = max(found.get(key, 0.0), away)
  return found


def main() -> None:
  """Writes the page."""
  near = distances()
  rows = [f"{row} {near[module]:.1e} |" for module, row in families()]
  PAGE.write_text(HEAD + "\n".join(rows) + "\n")


if __name__ == "__main__":
  main()
