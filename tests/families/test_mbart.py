"""mBART: its published size; what it computes is compared in test_recorded.py."""

from __future__ import annotations

import math

from mtm.families.mbart import mbart
from mtm.interop._base import shapes


def test_parameter_count_is_the_published_one() -> None:
  model = mbart(12, 1024, 16, 4096, 250027)  # facebook/mbart-large-cc25
  assert sum(map(math.prod, shapes(model).values())) == 610_851_840
