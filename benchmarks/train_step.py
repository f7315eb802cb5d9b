"""Training steps against HuggingFace `transformers` on torch CPU: float32, eager, AdamW.

`pip install -e '.[bench]'`, then `python -m benchmarks.train_step [--output FILE.json]`.
"""

from __future__ import annotations

import sys

from benchmarks import _paired

GOALS = {"gpt2": 0.80, "t5": 0.90}
TITLE = "Training step, 8 × 256 tokens: mtm against transformers on torch, two threads"

if __name__ == "__main__":
  sys.exit(_paired.main("train", TITLE, GOALS))
