"""The engine that scores choices against the plain path over whole lines."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import numpy as np
import pytest

from mtm.decoding.score import score
from mtm.errors import UserError
from mtm.evaluation.scorer import Scorer, windows
from mtm.families.gpt2 import gpt2
from mtm.parts.patterns.prefix import prefix_lm
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from tests.decoding.models import decoder, encoder_decoder, sharpened

# Each with two lines of two or three tokens, but for one without choices: one program serves all.
QUESTIONS = [
  ([3, 4, 5], [[6], [7], [6, 8, 9, 1], [2, 8, 2]]),
  ([2] * 12, [[9, 9, 3], [1, 4, 4]]),
  ([7], [[5, 4, 3, 2], [1, 1, 1]]),
  ([4, 4], []),
  ([5, 6, 7, 8, 9], [[3], [3, 4], [3, 4, 5], [4], [5], [6, 6, 1, 1], []]),
]


def one_device() -> Plan:
  return Plan(mesh(devices=jax.devices()[:1]))


@functools.cache
def scorer(kind: str) -> Scorer:
  model, params = decoder() if kind == "decoder" else encoder_decoder()
  return Scorer(model, params, one_device())


@functools.cache
def plainly(kind: str) -> list[list[float]]:
  """Each choice in a line of its own, without a cache."""
  model, params = decoder() if kind == "decoder" else encoder_decoder()
  run = jax.jit(functools.partial(score, model.apply))
  found = []
  for prompt, choices in QUESTIONS:
    totals = []
    for choice in choices:
      line = [*([] if kind == "encoder" else prompt), *choice]
      tokens, weights = np.zeros((1, 32), np.int32), np.zeros((1, 32), np.int32)
      tokens[0, : len(line)] = line
      weights[0, len(line) - len(choice) : len(line)] = 1
      batch = {
        "decoder_input_tokens": np.pad(tokens[:, :-1], ((0, 0), (1, 0))),
        "decoder_target_tokens": tokens, "decoder_loss_weights": weights,
      }  # fmt: skip
      if kind == "encoder":
        source = np.zeros((1, 24), np.int32)
        source[0, : len(prompt)] = prompt
        batch["encoder_input_tokens"] = source
      totals.append(float(run(params, batch)[0]))
    found.append(totals)
  return found


def totals(scored: Sequence) -> list[list[float]]:
  return [[choice.total for choice in choices] for choices in scored]


def close(got: list[list[float]], expected: list[list[float]]) -> None:
  assert [len(row) for row in got] == [len(row) for row in expected]
  np.testing.assert_allclose(np.concatenate(got), np.concatenate(expected), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_scores_are_those_of_whole_lines_without_a_cache(kind: str) -> None:
  close(totals(scorer(kind)(QUESTIONS)), plainly(kind))


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_neither_the_questions_beside_it_nor_devices_change_a_score(kind: str) -> None:
  model, params = decoder() if kind == "decoder" else encoder_decoder()
  everywhere = Scorer(model, params, Plan(mesh()))
  close(totals(everywhere(QUESTIONS)), plainly(kind))
  close(totals(everywhere(QUESTIONS[:2])), plainly(kind)[:2])


def test_batch_size_does_not_change_a_score() -> None:
  model, params = decoder()
  close(totals(Scorer(model, params, one_device(), 2)(QUESTIONS[::-1])[::-1]), plainly("decoder"))


def test_greedy_says_whether_the_model_would_write_just_that() -> None:
  best: list[int] = []
  for more in ([[1] * 4], []):  # for the same number of lines
    asked = [*([*best, token] for token in range(13)), [0] * 4, *more]
    every = scorer("decoder")([([3, 4, 5], asked)])[0][:13]
    assert sum(choice.greedy for choice in every) == 1
    best = [*best, int(np.argmax([choice.total for choice in every]))]
    assert every[best[-1]].greedy
  wrong = (best[0] + 1) % 13
  (scored,) = scorer("decoder")([([3, 4, 5], [best, [wrong, best[1], 0, 0], []])])
  assert [choice.greedy for choice in scored] == [True, False, True]
  assert [len(choice.log_probs) for choice in scored] == [2, 4, 0]


def test_choices_of_one_token_share_a_line() -> None:
  (piece,) = scorer("decoder")._pieces(0, [3], [[5], [6], [7, 1], [7, 2], [7]])
  assert piece.lines == [[7]] and sorted(piece.choices) == [0, 1, 2, 3, 4]


def test_a_bidirectional_prefix_is_read_in_both_directions() -> None:
  model = gpt2(2, 16, 2, 13, max_length=24, dropout=0.0, pattern=prefix_lm())
  params = sharpened(model)
  scorer = Scorer(model, params, one_device(), 1, bidirectional_prefix=True)
  ((both,),) = scorer([([3, 4, 5], [[6, 7]])])
  line = np.zeros((1, 16), np.int32)
  line[0, 1:5] = [3, 4, 5, 6]
  seen = (np.arange(16)[None] < 4).astype(np.int32)
  run = jax.jit(model.apply)
  wide, narrow = (
    jax.nn.log_softmax(run(params, {"decoder_input_tokens": line, **more}).logits[0])
    for more in ({"decoder_causal_attention": seen}, {"decoder_causal_attention": 0 * seen})
  )
  np.testing.assert_allclose(both.log_probs, [wide[3, 6], wide[4, 7]], atol=1e-5)
  assert abs(wide[3, 6] - narrow[3, 6]) > 1e-3


def test_windows_predict_each_token_once_with_as_much_before_it_as_fits() -> None:
  text = list(range(10))
  assert list(windows(text, 4, [99])) == [
    ([99], [0, 1, 2, 3]), ([3], [4, 5, 6, 7]), ([5, 6, 7], [8, 9]),
  ]  # fmt: skip
  assert list(windows([], 4, [99])) == [] and list(windows([1], 4, [99])) == [([99], [1])]


def test_a_text_in_one_window_is_scored_like_a_choice() -> None:
  text, plain = [5, 4, 3, 2, 6, 7, 8], scorer("decoder")
  assert plain.rolling([text, []]) == pytest.approx([plain([([], [text])])[0][0].total, 0.0])


def test_what_does_not_fit_is_told() -> None:
  model = gpt2(1, 8, 2, 13, max_length=12)
  alone = Scorer(model, {}, one_device(), begin_id=None)
  assert len(list(alone._pieces(0, [3] * 11, [[4, 5]]))) == 1
  with pytest.raises(UserError, match="prompt of 11 tokens and an answer of 3 do not fit .* 12"):
    alone([([3] * 11, [[4, 5, 6]])])
  with pytest.raises(UserError, match="prompt of 12 tokens"):
    Scorer(model, {}, one_device())([([3] * 11, [[4, 5]])])  # the begin counts
  with pytest.raises(UserError, match="a prompt is empty"):
    alone([([], [[4]])])
