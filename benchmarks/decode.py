"""Greedy decoding of 64 tokens against HuggingFace `transformers` on torch CPU, both with a cache.

`pip install -e '.[bench]'`, then `python -m benchmarks.decode [--output FILE.json]`.
"""

from __future__ import annotations

import sys

from benchmarks import _paired

GOALS = {"gpt2": 0.36, "t5": 0.65}
TITLE = "Greedy decoding, 8 × 64 tokens: mtm against transformers on torch, two threads"

if __name__ == "__main__":
  sys.exit(_paired.main("decode", TITLE, GOALS))
