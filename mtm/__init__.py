"""mtm: pretrain, adapt and evaluate Transformer language models of every kind, in JAX."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def load(path: Any, mesh: Any = None, **changes: Any) -> Any:
  """A trained model from any checkpoint that mtm knows, see `mtm.programs.handle.load`."""
  from mtm.programs import handle

  return handle.load(path, mesh, **changes)
