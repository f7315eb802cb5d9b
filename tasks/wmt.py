"""WMT translation, under T5's names (1910.10683, appendix D.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

LANGUAGES = {"de": "German", "en": "English", "fr": "French", "ro": "Romanian"}
# Name → TFDS data set, source, target.
TASKS = {
  "wmt14_ende_v003": ("wmt14_translate/de-en:1.0.0", "en", "de"),
  "wmt14_enfr_v003": ("wmt14_translate/fr-en:1.0.0", "en", "fr"),
  "wmt15_enfr_v003": ("wmt15_translate/fr-en:1.0.0", "en", "fr"),
  "wmt16_enro_v003": ("wmt16_translate/ro-en:1.0.0", "en", "ro"),
  "wmt19_ende_v003": ("wmt19_translate/de-en:1.0.0", "en", "de"),
  "wmt_t2t_ende_v003": ("wmt_t2t_translate/de-en:1.0.0", "en", "de"),
}


def register() -> None:
  """Registers every task of `TASKS`, measured by BLEU."""
  from mtm.tasks import _metrics, _t5

  for name, (tfds_name, source, target) in TASKS.items():
    _t5.text_to_text(name, tfds_name, translate(source, target), [_metrics.bleu])


def translate(source: str, target: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
  """`translate English to German: ...` in front of the source, as T5 writes it."""
  asked = f"translate {LANGUAGES[source]} to {LANGUAGES[target]}: "

  def write(example: Mapping[str, Any]) -> dict[str, Any]:
    return {"inputs": asked + example[source], "targets": example[target]}

  return write
