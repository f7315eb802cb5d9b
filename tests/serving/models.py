"""Tiny models for tests of serving, and what they generate alone."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mtm import axes
from mtm.decoding import Policy
from mtm.decoding.greedy import Greedy
from mtm.families.gpt2 import gpt2
from mtm.families.llama import llama
from mtm.families.mamba import mamba
from mtm.families.t5 import t5
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.prefix import prefix_lm
from mtm.parts.patterns.window import Window
from mtm.programs.generation import Generator
from mtm.serving.engine import Engine
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from tests.contracts.discovered import parameters

VOCAB, COLUMNS = 29, 64
WINDOW = Causal() & Window(4, 0)
BUILDERS = {
  "decoder": lambda: llama(1, 16, 2, 24, VOCAB, kv_heads=1),
  "pair": lambda: t5(1, 16, 2, 8, 24, VOCAB, dropout=0.0),
  "window": lambda: gpt2(1, 16, 2, VOCAB, max_length=64, dropout=0.0, pattern=WINDOW),
  "state space": lambda: mamba(1, 16, VOCAB),
  "prefix": lambda: gpt2(2, 16, 2, VOCAB, max_length=64, dropout=0.0, pattern=prefix_lm()),
}  # fmt: skip


@functools.cache
def model(name: str) -> tuple[Any, Any]:
  """A model and parameters that make it prefer something."""
  made = BUILDERS[name]()
  batch = {feature: np.zeros((1, 4), np.int32) for feature in made.inputs}
  with axes.use(None):
    return made, jax.tree.map(lambda p: 2 * p, parameters(made.init, batch))


@functools.cache
def plan() -> Plan:
  """One device."""
  return Plan(mesh(data=1, devices=jax.devices()[:1]))


def engine(name: str, rows: int = 2, on: Plan | None = None, **kwargs: Any) -> Engine:
  """An engine for a model."""
  made, params = model(name)
  sources = 16 if len(made.inputs) > 1 else 0
  return Engine(made, on or plan(), params, rows, COLUMNS, sources, **kwargs)


def alone(
  name: str, prompts: Sequence[Sequence[int]], length: int, policy: Policy = Greedy(), **kwargs: Any  # noqa: B008
) -> list[list[list[int]]]:  # fmt: skip
  """The hypotheses of each prompt, in a batch of `Generator`; no token ends any."""
  made, params = model(name)
  run = Generator(made, plan(), policy, length, None, len(prompts), **kwargs)
  return [[h.tokens for h in found] for found in run(params, enumerate(prompts))]
