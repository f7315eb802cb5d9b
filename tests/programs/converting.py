"""How much memory conversions take: `converting.py LAYERS MLP CHUNK_BYTES`; prints it as JSON.

A T5 of random parameters goes from format to format. Memory is what cannot be given back: pages
that belong to no file.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np

WAYS = (("hf", "mtm"), ("mtm", "hf"), ("hf", "t5x"), ("t5x", "mtm"))


def unbacked() -> int:
  """Bytes of this process that lie in no file."""
  lines = Path("/proc/self/status").read_text().splitlines()
  (line,) = (line for line in lines if line.startswith("RssAnon"))
  return int(line.split()[1]) << 10


class Peak:
  """The largest `unbacked` while the block runs, above what it was before."""

  def __enter__(self) -> Peak:
    self._before = self._most = unbacked()
    self._done = threading.Event()
    self._thread = threading.Thread(target=self._watch)
    self._thread.start()
    return self

  def _watch(self) -> None:
    while not self._done.wait(0.005):
      self._most = max(self._most, unbacked())

  def __exit__(self, *told: object) -> None:
    self._done.set()
    self._thread.join()
    self.bytes = self._most - self._before


class Drawn:
  """A random array, drawn when it is asked for: what was freed before would hide a peak."""

  def __init__(self, shape: tuple[int, ...]) -> None:
    self.shape = shape

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(self.shape, np.float32)


def write(folder: Path, layers: int, mlp: int) -> int:
  """Writes a T5 at HuggingFace's, and returns the bytes of its parameters."""
  from mtm.families._published import complete
  from mtm.families.t5 import t5
  from mtm.interop import hf
  from mtm.interop._base import Export, shapes
  from mtm.interop.tree import put

  sizes = {"layers": layers, "embed": 256, "heads": 4, "head_dim": 64, "mlp": mlp, "vocab": mlp}
  arguments = complete(t5, {**sizes, "activation": jax.nn.gelu, "gated": True, "tied": False})
  params: dict[str, Any] = {}
  for path, shape in shapes(t5(**arguments)).items():
    put(params, path, Drawn(shape))
  return 4 * hf.FORMAT.write(folder, Export(t5, arguments, params))


def measured(layers: int, mlp: int, chunk: int) -> dict[str, Any]:
  """`total`, and for each of `WAYS` its peak, all in bytes."""
  from mtm import convert
  from mtm.training import checkpoint

  checkpoint.CHUNK_BYTES = chunk
  told: dict[str, Any] = {}
  with tempfile.TemporaryDirectory() as name:
    for case, sizes in (("small", (1, 64)), ("large", (layers, mlp))):  # the first loads libraries
      home = Path(name) / case
      told["total"] = write(home / "hf", *sizes)
      last = home / "hf"
      for source, target in WAYS:
        with Peak() as peak:
          arguments = [last, home / f"{source}_{target}", f"--to={target}", "--no-compare"]
          assert convert.main([str(argument) for argument in arguments]) == 0
        told[f"{source} {target}"] = peak.bytes
        last = home / f"{source}_{target}"
  return told


if __name__ == "__main__":
  found = measured(*map(int, sys.argv[1:]))
  print(json.dumps(found), flush=True)
