"""A query sees itself and what came before."""

from __future__ import annotations

import dataclasses

from mtm.parts.patterns._algebra import Pattern


@dataclasses.dataclass(frozen=True)
class Causal(Pattern):
  """A decoder's pattern: k ≤ q."""

  def mask(self, q, k):
    return k <= q


EXAMPLES = [Causal()]
