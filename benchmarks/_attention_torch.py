"""Torch's dense attention: `python -m benchmarks._attention_torch attend ENGINE LENGTH STEPS`."""

from __future__ import annotations

import json
import sys
import time

import torch

HEADS, HEAD_DIM, WARM_UP = 4, 64, 10


def main(work: str, engine: str, length: str, steps: str) -> None:
  """Prints `{"seconds": [...], "versions": {...}}`; `work` and `engine` are for the other side."""
  del work, engine
  torch.manual_seed(0)
  q, k, v, g = (torch.randn(1, HEADS, int(length), HEAD_DIM) for _ in range(4))
  for x in (q, k, v):
    x.requires_grad_()
  seconds = []
  for _ in range(WARM_UP + int(steps)):
    start = time.perf_counter()
    torch.nn.functional.scaled_dot_product_attention(q, k, v).backward(g)
    seconds.append(time.perf_counter() - start)
  versions = {"torch": torch.__version__}
  print(json.dumps({"seconds": seconds[WARM_UP:], "versions": versions}))


if __name__ == "__main__":
  main(*sys.argv[1:])
