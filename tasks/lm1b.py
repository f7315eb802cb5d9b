"""The one billion word benchmark (1312.3005): one sentence an example."""

from __future__ import annotations


def register() -> None:
  """Registers the task `lm1b`."""
  from mtm.tasks import _t5

  _t5.language("lm1b", "lm1b:1.1.0")
