"""Span corruption (T5, 1910.10683, §3.1.4): restore spans that sentinels stand for."""

from __future__ import annotations

import dataclasses

from mtm.objectives._base import TokenObjective


@dataclasses.dataclass(frozen=True)
class SpanCorruption(TokenObjective):
  """The encoder reads text with a sentinel for each corrupted span; the decoder writes the spans.

  Attributes:
    noise_density: share of tokens that are corrupted.
    mean_span_length: average number of tokens in a corrupted span.
  """

  preprocessor = "mtm.data.preprocessors.span_corruption:build"
  side = "decoder"

  noise_density: float = 0.15
  mean_span_length: float = 3.0


EXAMPLES = [SpanCorruption()]
