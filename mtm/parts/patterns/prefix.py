"""The tokens of a prefix see each other in both directions."""

from __future__ import annotations

import dataclasses

from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns.causal import Causal


@dataclasses.dataclass(frozen=True)
class Prefix(Pattern):
  """Query and key both carry label `prefix` = 1; `Causal() | Prefix()` is the prefix LM's pattern.

  The label comes from the batch's `decoder_causal_attention` (T5X's name).
  """

  positional = False
  period = 1

  def mask(self, q, k):
    return (q >= 0) | (k >= 0)

  def visible(self, q, k, labels):
    if "prefix" not in labels:  # no prefix in this batch, as in decoding beyond it
      return (q < 0) & (k < 0)
    of_query, of_key = labels["prefix"]
    return (of_query > 0) & (of_key > 0)


def prefix_lm() -> Pattern:
  """`Causal() | Prefix()`, for gin, which cannot write it: bind it to a family's `pattern`."""
  return Causal() | Prefix()


EXAMPLES = [Prefix(), Causal() | Prefix(), Causal() & ~Prefix()]
