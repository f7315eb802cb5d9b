"""One way to serve a queue of requests: `python -m benchmarks._serving WAY SIZE STEPS` prints JSON.

`WAY` is `continuous` (a row is given on as soon as its text ends), `batches` (eight together, until
the longest of them ends) or `one` (one after the other). All requests are there from the beginning;
prompts and answers have the lengths that one random generator draws.
"""

from __future__ import annotations

import functools
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks._mtm import build
from benchmarks._sizes import SIZES, Size
from mtm.decoding.greedy import Greedy
from mtm.programs.generation import Generator
from mtm.serving.engine import Engine, Prompt
from mtm.serving.scheduler import Job, Piece, Scheduler
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan

REQUESTS, ROWS = 32, 8


def requests(size: Size) -> list[tuple[list[int], int]]:
  """Prompts and the tokens that each gets: exponential, most are short and a few are long."""
  rng = np.random.default_rng(0)
  prompts = rng.integers(size.prompt // 2, 2 * size.prompt + 1, REQUESTS)
  lengths = np.clip(rng.exponential(size.generated, REQUESTS), 4, 4 * size.generated).astype(int)
  return [
    (rng.integers(2, size.vocab, prompt).tolist(), int(length))
    for prompt, length in zip(prompts, lengths, strict=True)
  ]


def engine_of(size: Size, rows: int) -> Callable[[], None]:
  """Serves all requests with so many rows, by the scheduler of `mtm serve`."""
  model, _ = build("gpt2", size)
  plan, asked = Plan(mesh(devices=jax.devices()[:1])), requests(size)
  params = jax.jit(model.init)(jax.random.key(0), {"decoder_input_tokens": np.zeros((1, 8), int)})
  longest = max(len(ids) + length for ids, length in asked)
  engine = Engine(model, plan, params, rows, longest)
  scheduler = Scheduler(engine, lambda ids: "x" * len(ids), (), REQUESTS)

  def serve() -> None:
    left, done = [len(asked)], threading.Event()

    def deliver(piece: Piece) -> None:
      left[0] -= piece.finish is not None
      if piece.finish == "error":
        raise RuntimeError(piece.error)
      if not left[0]:
        done.set()

    scheduler.submit([Job(Prompt(ids, length), deliver) for ids, length in asked])
    done.wait()

  return serve


def in_batches(size: Size) -> Callable[[], None]:
  """Serves them eight by eight, in the order in which they came."""
  model, _ = build("gpt2", size)
  plan, asked = Plan(mesh(devices=jax.devices()[:1])), requests(size)
  params = jax.jit(model.init)(jax.random.key(0), {"decoder_input_tokens": np.zeros((1, 8), int)})
  params = plan.jit(model.prepare)(params)
  parts = [asked[start : start + ROWS] for start in range(0, len(asked), ROWS)]
  made = [
    Generator(model, plan, Greedy(), max(length for _, length in part), None, ROWS)
    for part in parts
  ]

  def serve() -> None:
    for run, part in zip(made, parts, strict=True):
      for _ in run(params, enumerate(ids for ids, _ in part)):
        pass

  return serve


WAYS: dict[str, Callable[[Size], Callable[[], None]]] = {
  "continuous": functools.partial(engine_of, rows=ROWS),
  "batches": in_batches,
  "one": functools.partial(engine_of, rows=1),
}


def main(argv: list[str]) -> None:
  """Prints `{"seconds": [...], "versions": {...}, "tokens": ...}`."""
  way, name, steps = argv
  serve, seconds = WAYS[way](SIZES[name]), []
  for step in range(int(steps) + 1):
    began = time.perf_counter()
    serve()
    if step:  # the first one compiles
      seconds.append(time.perf_counter() - began)
  told: dict[str, Any] = {"seconds": seconds, "versions": {"jax": jax.__version__}}
  print(json.dumps(told | {"tokens": sum(length for _, length in requests(SIZES[name]))}))


if __name__ == "__main__":
  main(sys.argv[1:])
