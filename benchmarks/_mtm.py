"""The side of mtm: `python -m benchmarks._mtm train|decode gpt2|t5|switch SIZE STEPS` prints JSON.

Runs the training step and the decoder that `mtm.train` and `mtm.infer` run.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from typing import Any

import jax
import numpy as np

from benchmarks._sizes import (
  CAPACITY,
  EXPERTS,
  LEARNING_RATE,
  SIZES,
  TWO_TOWERS,
  WEIGHT_DECAY,
  Size,
)
from mtm.decoding.greedy import Greedy
from mtm.decoding.loop import generate
from mtm.families.gpt2 import gpt2
from mtm.families.switch import switch
from mtm.families.t5 import t5
from mtm.objectives.causal_lm import CausalLM
from mtm.objectives.seq2seq import Seq2Seq
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from mtm.training.optimizers.adamw import adamw
from mtm.training.trainer import Trainer
from mtm.types import Model

WARM_UP = 3  # steps after compilation that are not counted


def build(family: str, size: Size) -> tuple[Model, Any]:
  """A model of `family` and its objective."""
  if family == "switch":
    return switch(
      size.layers, size.embed, size.heads, size.embed // size.heads, size.mlp, size.vocab, EXPERTS,
      capacity=CAPACITY, dropout=size.dropout, tied=False, scan=False,
    ), Seq2Seq()  # fmt: skip
  if family == "t5":
    model = t5(
      size.layers, size.embed, size.heads, size.embed // size.heads, size.mlp, size.vocab,
      dropout=size.dropout, scan=False,
    )  # fmt: skip
    return model, Seq2Seq()
  model = gpt2(
    size.layers, size.embed, size.heads, size.vocab, mlp=size.mlp, dropout=size.dropout, scan=False
  )
  return model, CausalLM()


def tokens(size: Size, length: int) -> np.ndarray:
  """Random ids `[batch, length]` int32 without padding."""
  return np.random.default_rng(0).integers(2, size.vocab, (size.batch, length), np.int32)


def train(family: str, size: Size, steps: int) -> list[float]:
  """Seconds of each of `steps` training steps."""
  model, objective = build(family, size)
  targets = tokens(size, size.length)
  batch = {
    "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
    "decoder_target_tokens": targets,
    "decoder_loss_weights": np.ones_like(targets),
  }
  if family in TWO_TOWERS:
    batch["encoder_input_tokens"] = targets
  optimizer = adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)
  plan = Plan(mesh(devices=jax.devices()[:1]))
  shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch.items()}
  trainer = Trainer(model, objective, optimizer, plan, shapes)
  state = trainer.create()
  batch = plan.put_batch(batch)
  seconds = []
  for _ in range(WARM_UP + steps):
    start = time.perf_counter()
    state, sums = trainer.train_step(state, batch)
    jax.block_until_ready((state, sums))
    seconds.append(time.perf_counter() - start)
  return seconds[WARM_UP:]


def decode(family: str, size: Size, steps: int) -> list[float]:
  """Seconds of each of `steps` greedy decodings of `size.generated` tokens."""
  model, _ = build(family, size)
  prompt = tokens(size, size.prompt)
  example = {"decoder_input_tokens": prompt, "encoder_input_tokens": prompt}
  batch = (
    {"encoder_input_tokens": prompt} if family in TWO_TOWERS else {"decoder_input_tokens": prompt}
  )
  plan = Plan(mesh(devices=jax.devices()[:1]))
  params = plan.jit(model.prepare)(plan.jit(model.init)(jax.random.key(0), example))
  # No token has the id -1, so that nothing ends early.
  run = plan.jit(
    functools.partial(generate, model, policy=Greedy(), max_length=size.generated, eos_id=-1)
  )
  seconds = []
  for _ in range(WARM_UP + steps):
    start = time.perf_counter()
    jax.block_until_ready(run(params, batch))
    seconds.append(time.perf_counter() - start)
  return seconds[WARM_UP:]


def main(work: str, family: str, size: str, steps: str) -> None:
  """Prints `{"seconds": [...], "versions": {...}}`."""
  seconds = {"train": train, "decode": decode}[work](family, SIZES[size], int(steps))
  print(json.dumps({"seconds": seconds, "versions": {"jax": jax.__version__}}))


if __name__ == "__main__":
  main(*sys.argv[1:])
