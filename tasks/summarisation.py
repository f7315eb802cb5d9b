"""CNN/Daily Mail summaries (1506.03340), under T5's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def register() -> None:
  """Registers the task `cnn_dailymail_v002`, measured by ROUGE."""
  from mtm.tasks import _metrics, _t5

  _t5.text_to_text("cnn_dailymail_v002", "cnn_dailymail:3.4.0", summarise, [_metrics.rouge])


def summarise(example: Mapping[str, Any]) -> dict[str, Any]:
  """`summarize: ` in front of the article, as T5 writes it."""
  return {"inputs": "summarize: " + example["article"], "targets": example["highlights"]}
