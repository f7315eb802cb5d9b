"""A row of the engine gets what it would get alone, whatever its neighbours do."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import pytest

from mtm.decoding.constraints import Forced, MinLength, NoRepeat
from mtm.decoding.greedy import Greedy
from mtm.decoding.sample import Sample
from mtm.errors import UserError
from mtm.families.bert import bert
from mtm.families.gpt2 import gpt2
from mtm.families.mamba import mamba
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.prefix import prefix_lm
from mtm.parts.patterns.window import Window
from mtm.programs.generation import Generator
from mtm.serving.engine import Engine, Prompt, size
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from tests.decoding.models import EOS, decoder, encoder_decoder, sharpened

LENGTH = 7
PROMPTS = [[5, 3, 7, 2], [6], [], [2, 12, 4] * 6, [9, 9]]


@functools.cache
def windowed() -> Any:
  model = gpt2(2, 16, 2, 13, max_length=64, dropout=0.0, pattern=Causal() & Window(4, 0))
  return model, sharpened(model)


@functools.cache
def recurrent() -> Any:
  model = mamba(1, 16, 13)
  return model, sharpened(model)


@functools.cache
def with_prefix() -> Any:
  model = gpt2(2, 16, 2, 13, max_length=64, dropout=0.0, pattern=prefix_lm())
  return model, sharpened(model)


@functools.cache
def one_device() -> Plan:
  return Plan(mesh(data=1, devices=jax.devices()[:1]))


def alone(model: Any, params: Any, policy: Any = Greedy(), **kwargs: Any) -> list[list[list[int]]]:  # noqa: B008
  """What each prompt gets in a batch of `Generator`, no token of which ends anything."""
  run = Generator(model, one_device(), policy, LENGTH, None, len(PROMPTS), **kwargs)
  return [[h.tokens for h in found] for found in run(params, enumerate(PROMPTS))]


def engine(model: Any, params: Any, rows: int = 2, plan: Plan | None = None, **kwargs: Any):
  sources = 32 if len(model.inputs) > 1 else 0
  return Engine(model, plan or one_device(), params, rows, 64, sources, **kwargs)


def served(engine: Engine, prompts: list[Prompt]) -> list[list[int]]:
  """Each prompt's tokens: a row is given to the next one as soon as it is free, so that texts of
  different ages stand beside each other."""
  waiting, running, found = list(enumerate(prompts)), {}, [[] for _ in prompts]
  while waiting or running:
    free = [row for row in range(engine.rows) if row not in running]
    if free and waiting:
      some = [waiting.pop(0) for _ in free[: min(engine.together, len(waiting))]]
      engine.admit(dict(zip(free, (p for _, p in some), strict=False)), running)
      running |= dict(zip(free, (n for n, _ in some), strict=False))
    told = engine.step([*running])
    for row, number in [*running.items()]:
      found[number].append(int(told.token[row]))
      if len(found[number]) == prompts[number].limit:
        del running[row]
  return found


MODELS = {
  "decoder": decoder, "pair": encoder_decoder, "window": windowed, "state space": recurrent,
}  # fmt: skip


@pytest.mark.parametrize("of", MODELS.values(), ids=MODELS.keys())
def test_staggered_texts_are_those_of_generate(of: Any) -> None:
  model, params = of()
  found = served(engine(model, params), [Prompt(ids, LENGTH) for ids in PROMPTS])
  assert found == [best for (best,) in alone(model, params)]
