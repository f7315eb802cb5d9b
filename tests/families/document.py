"""Writes docs/families.md: the published families, and how near ours are to the originals.

COMMAND: python -m tests.families.document
"""

from __future__ import annotations

import functools
import importlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from mtm.interop import hf
from tests.families import recorded
from tests.families.states import watched

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "families.md"
HEAD = """# Which published models can I load, and how near are they to the originals?

`mtm.load(directory)` gives a model from a HuggingFace directory (`config.json` and safetensors),
from a checkpoint of T5X (T5, native or through orbax) or of mtm; `mtm convert` writes one as
another, see [checkpoints](checkpoints.md). A config that a family cannot honour is refused by name.

The last two columns are the largest |Δ| between ours and `transformers`, of logits and of hidden
states of any layer, on tiny random models in float32, where they are of order 1 to 10.
Gradients, and for decoders greedy and beam tokens, are compared too by `make parity`, there also on
configs that are drawn at random. This page is written by `python -m tests.families.document`.

| family | what makes it different | `model_type`: classes | gin files | logits | hidden states |
|---|---|---|---|---|---|
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


def distances() -> dict[str, tuple[list[float], list[float]]]:
  """Module of a family → how far logits and hidden states are from theirs, in each recorded
  model."""
  found: dict[str, tuple[list[float], list[float]]] = {}
  for name in recorded.NAMES:
    with tempfile.TemporaryDirectory() as folder:
      foreign = hf.FORMAT.open(recorded.directory(name, Path(folder) / "theirs"))
      model = foreign.model(dropout=0.0)
      params = foreign.params(model, lambda path, values: values)
    arrays, batch = recorded.arrays(name), recorded.batch(name)
    told = recorded.states(name)
    watch = watched if told else lambda model, *args: (model.apply(*args), {})
    output, states = jax.jit(functools.partial(watch, model))(params, batch)
    logits, hidden = found.setdefault(foreign.build.__module__, ([], []))
    logits.append(away(output.logits, arrays["logits"], arrays["mask"]))
    for side, theirs in told.items():
      real = batch.get(f"{side}_segment_ids", arrays["mask"])
      hidden += [away(*pair, real) for pair in zip(states[side], theirs, strict=False)]
  return found


def away(ours: jax.Array, theirs: np.ndarray, mask: np.ndarray) -> float:
  """The largest difference where the mask `[rows, length]` says so."""
  real = mask > 0
  return float(np.abs(np.asarray(ours)[real] - theirs[real]).max())


def main() -> None:
  """Writes the page."""
  near = distances()
  rows = []
  for module, row in families():
    told = [f"{max(values):.1e}" if values else "not recorded" for values in near[module]]
    rows.append(f"{row} {' | '.join(told)} |")
  PAGE.write_text(HEAD + "\n".join(rows) + "\n")


if __name__ == "__main__":
  main()
