"""Every query sees every key."""

from __future__ import annotations

import dataclasses

from mtm.parts.patterns._algebra import Pattern


@dataclasses.dataclass(frozen=True)
class Full(Pattern):
  """An encoder's pattern."""

  def mask(self, q, k):
    return (q >= 0) | (k >= 0)


EXAMPLES = [Full(), ~(~Full())]
