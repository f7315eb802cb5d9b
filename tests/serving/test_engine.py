"""A row of the engine gets what it would get alone, whatever its neighbours do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pytest

from mtm.decoding.constraints import Forced, NoRepeat
from mtm.decoding.sample import Sample
from mtm.errors import UserError
from mtm.families.bert import bert
from mtm.serving.engine import Engine, Prompt, size
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from tests.serving import models

LENGTH = 5
PROMPTS = [[5, 3, 7, 2], [6], [], [2, 12, 4] * 2, [9, 9]]


@pytest.fixture(scope="module")
def decoder() -> Engine:
  """One for several tests: it is compiled once."""
  return models.engine("decoder")


def served(engine: Engine, prompts: Sequence[Prompt]) -> list[list[int]]:
  """Each prompt's tokens: a row is given to the next one as soon as it is free, so that texts of
  different ages stand beside each other."""
  waiting, running, found = list(enumerate(prompts)), {}, [[] for _ in prompts]
  while waiting or running:
    free = [row for row in range(engine.rows) if row not in running]
    if free and waiting:
      some = [waiting.pop(0) for _ in free[: min(engine.together, len(waiting))]]
      engine.admit(dict(zip(free, (p for _, p in some), strict=False)), running)
      running |= dict(zip(free, (n for n, _ in some), strict=False))
    told = jax.device_get(engine.step([*running]))
    for row, number in [*running.items()]:
      found[number].append(int(told.token[row]))
      if len(found[number]) == prompts[number].limit:
        del running[row]
  return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["window", "state space", "prefix"])
def test_staggered_texts_are_those_of_generate(name: str) -> None:
  both_ways = {"bidirectional_prefix": name == "prefix"}
  engine = models.engine(name, **both_ways)
  found = served(engine, [Prompt(ids, LENGTH) for ids in PROMPTS])
  assert found == [best for (best,) in models.alone(name, PROMPTS, LENGTH, **both_ways)]
  assert engine.width[0] == (64 if name == "window" else 16)  # a ring is made for one length


def test_an_answer_beside_an_encoder_heeds_constraints_of_its_own_length() -> None:
  """Each is forced to end at its own last step, and says nothing twice."""

  def constraints(limit: Any) -> list[Any]:
    return [NoRepeat(1), Forced(limit - 1, (1,))]

  engine = models.engine("pair", constraints=constraints)
  limits = [5, 4, 5, 5, 4]
  free = models.alone("pair", PROMPTS, LENGTH, constraints=[NoRepeat(1)])
  prompts = [Prompt(ids, n) for ids, n in zip(PROMPTS, limits, strict=True)]
  wanted = [[*best[: n - 1], 1] for (best,), n in zip(free, limits, strict=True)]
  assert served(engine, prompts) == wanted


def both_ways(prompts: Sequence[list[int]]) -> tuple[list[Prompt], list[list[int]]]:
  """Each prompt greedily and with two samples, and what `generate` gives for them."""
  greedy = models.alone("decoder", prompts, LENGTH)
  policy = Sample(temperature=0.9, top_k=9, top_p=0.8, num_samples=2)
  drawn = models.alone("decoder", prompts, LENGTH, policy, seed=3)
  assert len({tuple(line) for lines in drawn for line in lines}) > 5  # they differ
  asked, wanted = [], []
  for number, ids in enumerate(prompts):
    asked.append(Prompt(ids, LENGTH))
    asked += [Prompt(ids, LENGTH, 0.9, 9, 0.8, 3, number, sample) for sample in (0, 1)]
    wanted += [greedy[number][0], *drawn[number]]
  return asked, wanted


def test_greedy_and_sampled_texts_stand_beside_each_other(decoder: Engine) -> None:
  asked, wanted = both_ways(PROMPTS)
  assert served(decoder, asked) == wanted
  assert decoder.width == (16, 0)


@pytest.mark.slow
def test_the_cache_grows_with_its_longest_text_and_is_cut_again(decoder: Engine) -> None:
  long = [3, 8, 20] * 5 + [4]  # its last tokens stand beyond 16 columns
  asked, wanted = both_ways([*PROMPTS, long])
  assert served(decoder, asked) == wanted
  assert decoder.width == (32, 0)
  longest = [5, 9, 7] * 15
  (best,) = models.alone("decoder", [longest], LENGTH)
  assert served(decoder, [Prompt(longest, LENGTH)]) == best and decoder.width == (64, 0)
  decoder.admit({1: Prompt([5], 2)}, [0])  # row 0 may be long still
  assert decoder.width == (64, 0)
  decoder.admit({0: Prompt([5], 2)}, [1])
  assert decoder.width == (16, 0)


@pytest.mark.slow
def test_a_mesh_changes_nothing() -> None:
  engine = models.engine("decoder", rows=3, on=Plan(mesh(data=4, devices=jax.devices()[:4])))
  assert engine.rows == engine.together == 4
  found = served(engine, [Prompt(ids, LENGTH) for ids in PROMPTS])
  assert found == [best for (best,) in models.alone("decoder", PROMPTS, LENGTH)]


def test_alternatives_are_the_likeliest_tokens_and_what_does_not_fit_is_told(
  decoder: Engine,
) -> None:
  engine = decoder
  engine.admit({1: Prompt([5, 3], 2)})
  plain = jax.device_get(engine.step([1]))
  assert not plain.top.any()
  told = jax.device_get(engine.step([1], telling=True))
  assert told.top.shape == (2, 20) and told.top[1, 0] == told.token[1]
  assert told.top_log_probs[1, 0] == told.log_prob[1]
  assert np.all(np.diff(told.top_log_probs[1]) <= 0) and np.exp(told.top_log_probs[1]).sum() <= 1
  engine.check([5] * 60, 4)
  with pytest.raises(UserError, match=r"5 tokens are to follow a prompt of 60.* room for 4 of"):
    engine.check([5] * 60, 5)
  with pytest.raises(UserError, match="no room for an answer"):
    engine.check([5] * 64, 1)


def test_sizes_are_few() -> None:
  assert {size(n, 100) for n in range(101)} == {16, 32, 64, 100}


def test_an_encoder_alone_is_refused() -> None:
  model = bert(1, 16, 2, 13)
  with pytest.raises(UserError, match="an Encoder alone generates nothing"):
    Engine(model, models.plan(), {})
