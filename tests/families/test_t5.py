"""T5 against what the real T5X computed (tests/fixtures/t5x/README.md)."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import numpy as np
import pytest

from mtm import axes
from mtm.decoding.beam import Beam
from mtm.decoding.greedy import Greedy
from mtm.decoding.loop import generate
from mtm.decoding.score import score
from mtm.families.t5 import t5
from mtm.interop._base import shapes
from mtm.objectives.seq2seq import Seq2Seq
from tests.families import t5x_names

# float32 with other orders of summation; logits are of order 1.
CLOSE = {"rtol": 2e-5, "atol": 1e-5}


@dataclasses.dataclass(frozen=True)
class Case:
  """A model with T5X's parameters, and what T5X computed with them."""

  model: Any
  arrays: dict[str, np.ndarray]
  params: Any
  batch: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=["t5_1_1", "t5_tied"])
def case(request: pytest.FixtureRequest) -> Case:
  model = t5(2, 16, 2, 8, 24, 64, dropout=0.0, tied=request.param == "t5_tied")
  arrays = t5x_names.load(request.param)
  batch = {k.removeprefix("in/"): v for k, v in arrays.items() if k.startswith("in/")}
  return Case(model, arrays, t5x_names.tree(arrays, "param"), batch)


def test_parameters_have_the_names_and_shapes_of_the_mapping(case: Case) -> None:
  fresh = jax.eval_shape(case.model.init, jax.random.key(0), case.batch)
  shapes = jax.tree.map(lambda x: x.shape, fresh)
  assert shapes == jax.tree.map(lambda x: x.shape, case.params)


def test_logits_are_those_of_t5x(case: Case) -> None:
  logits = jax.jit(case.model.apply)(case.params, case.batch).logits
  real = case.batch["decoder_loss_weights"] > 0  # T5X masks padded decoder keys, we need not
  np.testing.assert_allclose(logits[real], case.arrays["logits"][real], **CLOSE)


def test_encoder_states_are_those_of_t5x(case: Case) -> None:
  seen = []

  def watch(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
    out = next_fun(*args, **kwargs)
    if context.module.name == "encoder" and context.method_name == "__call__":
      seen.append(out[0])
    return out

  import flax.linen as nn

  with nn.intercept_methods(watch):
    case.model.apply(case.params, case.batch)
  real = case.batch["encoder_input_tokens"] > 0
  np.testing.assert_allclose(seen[0][real], case.arrays["encoded"][real], **CLOSE)


def test_loss_and_gradients_are_those_of_t5x(case: Case) -> None:
  objective = Seq2Seq(z_loss=1e-4)

  @jax.jit
  def run(params: Any) -> Any:
    def loss(params: Any) -> Any:
      return objective.loss(case.model.apply, params, case.batch).loss

    return jax.value_and_grad(loss)(params)

  loss, grads = run(case.params)
  np.testing.assert_allclose(loss, case.arrays["loss"], rtol=1e-6)
  wanted = t5x_names.tree(case.arrays, "grad")
  # Gradients of a sum over 22 tokens reach 10; single entries cancel to rounding.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=5e-5), grads, wanted)


def test_scores_are_those_of_t5x(case: Case) -> None:
  ours = jax.jit(functools.partial(score, case.model.apply))(case.params, case.batch)
  np.testing.assert_allclose(ours, case.arrays["score"], rtol=1e-5)


def test_greedy_decoding_is_that_of_t5x(case: Case) -> None:
  decode = jax.jit(functools.partial(generate, case.model, policy=Greedy(), max_length=9))
  source = {"encoder_input_tokens": case.batch["encoder_input_tokens"]}
  ours = decode(case.params, source)
  np.testing.assert_array_equal(ours.tokens, case.arrays["decode/greedy"])


def test_beam_search_is_that_of_t5x(case: Case) -> None:
  decode = jax.jit(functools.partial(generate, case.model, policy=Beam(4, 0.6), max_length=9))
  source = {"encoder_input_tokens": case.batch["encoder_input_tokens"]}
  ours = decode(case.params, source)
  # T5X lists the worst beam first.
  np.testing.assert_array_equal(ours.tokens[:, ::-1], case.arrays["decode/beam4"])
  np.testing.assert_allclose(ours.scores[:, ::-1], case.arrays["decode/beam4_scores"], rtol=1e-5)


@pytest.mark.parametrize("gated", [True, False])
def test_parameter_count_is_the_published_one(gated: bool) -> None:
  if gated:  # T5 1.1 small: 76,961,152, from google-research/t5 released checkpoints
    model = t5(8, 512, 6, 64, 1024, 32128)
    wanted = 76_961_152
  else:  # T5 1.0 small: 60,506,624
    model = t5(6, 512, 8, 64, 2048, 32128, activation=jax.nn.relu, gated=False, tied=True)
    wanted = 60_506_624
  batch = {name: np.zeros((1, 2), np.int32) for name in model.inputs}
  with axes.use(None):
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
  assert sum(x.size for x in jax.tree.leaves(shapes)) == wanted


def test_parameter_count_of_mt5_is_the_published_one() -> None:
  model = t5(8, 512, 6, 64, 1024, 250112)  # google/mt5-small: 300M in the paper (2010.11934)
  assert sum(map(math.prod, shapes(model).values())) == 300_176_768
