"""Attention of mtm: `python -m benchmarks._attention_mtm attend|step|memory ENGINE LENGTH STEPS`.

Prints JSON as `benchmarks._mtm` does; of `memory`, bytes of temporaries.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtm.families.bert import bert
from mtm.objectives.mlm import MaskedLM
from mtm.parts.kernels import attend
from mtm.parts.kernels._choose import named
from mtm.parts.patterns import published
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from mtm.training.optimizers.adamw import adamw
from mtm.training.trainer import Trainer

HEADS, HEAD_DIM = 4, 64
# Passes that are not counted: on a virtual machine the first touch of a huge page takes 3 ms, and
# it is some passes until malloc has touched all that it will use.
WARM_UP = 10


def compiled(engine: str, length: int) -> Any:
  """BigBird's attention, one example, forward and backward: the program and its arguments."""
  shape = (1, length, HEADS, HEAD_DIM)
  arrays = [jax.random.normal(jax.random.key(i), shape, jnp.float32) for i in range(4)]
  pattern = published.bigbird(length)

  @jax.jit
  def run(q: Any, k: Any, v: Any, g: Any) -> Any:
    out, pull = jax.vjp(lambda *x: attend(*x, pattern, kernel=engine), q, k, v)
    return out, pull(g)

  return run.lower(*arrays).compile(), arrays


def attention(engine: str, length: int, steps: int) -> list[float]:
  """Seconds of each of `steps` passes."""
  run, arrays = compiled(engine, length)
  return timed(lambda: run(*arrays), steps, WARM_UP)


def step(engine: str, length: int, steps: int) -> list[float]:
  """Seconds of training steps of an encoder of four layers with Longformer's window of 512."""
  model = bert(
    4, HEADS * HEAD_DIM, HEADS, 8192, max_length=length, kernel=named(engine),
    pattern=published.longformer(512, 64),
  )  # fmt: skip
  ids = np.random.default_rng(0).integers(5, 8192, (1, length), np.int32)
  batch = {
    "encoder_input_tokens": ids, "encoder_target_tokens": ids,
    "encoder_loss_weights": (ids % 7 == 0).astype(np.int32),
  }  # fmt: skip
  plan = Plan(mesh(devices=jax.devices()[:1]))
  shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch.items()}
  trainer = Trainer(model, MaskedLM(), adamw(1e-4), plan, shapes)
  state, batch = trainer.create(), plan.put_batch(batch)

  def run() -> Any:
    nonlocal state
    state, sums = trainer.train_step(state, batch)
    return state, sums

  return timed(run, steps, 1)


def timed(run: Any, steps: int, warm_up: int) -> list[float]:
  """Seconds of each call after the first `warm_up`."""
  seconds = []
  for _ in range(warm_up + steps):
    start = time.perf_counter()
    jax.block_until_ready(run())
    seconds.append(time.perf_counter() - start)
  return seconds[warm_up:]


def main(work: str, engine: str, length: str, steps: str) -> None:
  """Prints `{"seconds": [...], "versions": {...}}`, or `{"bytes": ...}`."""
  if work == "memory":
    program, _ = compiled(engine, int(length))
    print(json.dumps({"bytes": program.memory_analysis().temp_size_in_bytes}))
    return
  seconds = {"attend": attention, "step": step}[work](engine, int(length), int(steps))
  print(json.dumps({"seconds": seconds, "versions": {"jax": jax.__version__}}))


if __name__ == "__main__":
  main(*sys.argv[1:])
