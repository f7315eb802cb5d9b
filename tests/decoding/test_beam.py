import functools
import itertools

import jax
import numpy as np
import pytest

from mtm.decoding._base import NEVER
from mtm.decoding.beam import Beam
from mtm.decoding.greedy import Greedy
from mtm.decoding.loop import generate
from mtm.errors import UserError
from tests.decoding.models import EOS, Trigram, trigram


def penalty(length, alpha):
  return ((5 + length) / 6) ** alpha


def search(log_probs, vocab, size, alpha, length):
  """Beam search in plain Python: `[(score, tokens)]`, best first; no early end."""
  live, ended = [(0.0, ())], []
  for step in range(length):
    candidates = sorted(
      ((lp + step_lp, (*line, t)) for lp, line in live
       for t, step_lp in enumerate(log_probs([0, *line]))),
      reverse=True,
    )[: 2 * size]  # fmt: skip
    ended += [(lp / penalty(step + 1, alpha), c) for lp, c in candidates if c[-1] == EOS]
    ended = sorted(ended, reverse=True)[:size]
    live = [c for c in candidates if c[1][-1] != EOS][:size]
  return ended or live


def decode(table, policy, length, rows=1):
  model = Trigram()
  run = jax.jit(functools.partial(generate, model, policy=policy, max_length=length, eos_id=EOS))
  return run(table, {"decoder_input_tokens": np.zeros((rows, 1), np.int32)})


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("seed", range(6))
def test_search_equals_plain_python(seed, alpha):
  table, log_probs = trigram(7, 5, seed)
  out = decode(table, Beam(3, alpha), 7)
  expected = search(log_probs, 5, 3, alpha, 7)
  assert len(expected) == 3
  for tokens, length, score, (their_score, line) in zip(
    out.tokens[0], out.lengths[0], out.scores[0], expected, strict=True
  ):
    assert tuple(np.asarray(tokens)[: int(length)].tolist()) == line
    np.testing.assert_allclose(score, their_score, rtol=1e-5)


def test_a_beam_as_wide_as_the_space_finds_the_best_of_all_sequences():
  vocab, length, alpha = 3, 4, 0.6
  table, log_probs = trigram(length, vocab, seed=3)
  every = []
  for n in range(1, length + 1):
    for body in itertools.product([0, 2], repeat=n - 1):
      line = (*body, EOS)
      total = sum(log_probs([0, *line[:i]])[line[i]] for i in range(n))
      every.append((total / penalty(n, alpha), line))
  every.sort(reverse=True)
  out = decode(table, Beam(vocab**length, alpha), length)
  assert int((np.asarray(out.lengths) > 0).sum()) == len(every)
  for i, (score, line) in enumerate(every):
    assert tuple(np.asarray(out.tokens[0, i, : len(line)]).tolist()) == line
    np.testing.assert_allclose(out.scores[0, i], score, rtol=1e-5)
  assert np.all(np.asarray(out.scores[0, len(every) :]) == NEVER)


def test_one_beam_is_greedy_until_the_end():
  table, _ = trigram(8, 6, seed=2)
  table[..., EOS] = -1e4
  table[5, ..., EOS] = 1e4
  beam, greedy = decode(table, Beam(1), 8), decode(table, Greedy(), 8)
  np.testing.assert_array_equal(beam.tokens, greedy.tokens)
  assert int(beam.lengths[0, 0]) == 6


def test_where_nothing_ended_open_hypotheses_are_returned_with_plain_log_probabilities():
  table, log_probs = trigram(4, 9, seed=1)
  table[..., EOS] = -1e4
  out = decode(table, Beam(3), 4)
  expected = search(log_probs, 9, 3, 0.6, 4)
  np.testing.assert_array_equal(out.tokens[0], [line for _, line in expected])
  np.testing.assert_allclose(out.scores[0], [score for score, _ in expected], rtol=1e-5)
  np.testing.assert_array_equal(out.lengths, 4)


def test_a_finished_example_ends_early_and_does_not_change_beside_a_slow_one():
  table, _ = trigram(20, 5, seed=0)
  table[:, :, :, EOS] += 8.0  # ends at once from anywhere ...
  table[:, :, 4, EOS] -= 30.0  # ... but after a 4, which follows itself
  table[:, :, 4, 4] += 30.0
  model, run = Trigram(), functools.partial
  run = jax.jit(run(generate, model, policy=Beam(2), max_length=18, eos_id=EOS))
  fast, slow = np.array([[0, 2]], np.int32), np.array([[0, 4]], np.int32)
  alone = run(table, {"decoder_input_tokens": fast})
  both = run(table, {"decoder_input_tokens": np.concatenate([fast, slow])})
  np.testing.assert_array_equal(alone.tokens[0], both.tokens[0])
  np.testing.assert_array_equal(alone.scores[0], both.scores[0])
  assert int(alone.lengths.max()) < 4


def test_the_loop_stops_as_soon_as_no_open_hypothesis_can_win():
  turns = []

  class Counting(Trigram):
    def apply(self, params, batch, rng=None, train=False, cache=None):
      if batch["decoder_input_tokens"].shape[0] == 2:  # the loop's two hypotheses
        jax.debug.callback(lambda: turns.append(1))
      return super().apply(params, batch, rng, train, cache)

  table, _ = trigram(200, 4, seed=0)
  table[..., EOS] += 8.0
  batch = {"decoder_input_tokens": np.zeros((1, 1), np.int32)}
  run = functools.partial(generate, Counting(), policy=Beam(2), max_length=200, eos_id=EOS)
  jax.block_until_ready(jax.jit(run)(table, batch))
  jax.effects_barrier()
  assert len(turns) < 10


@pytest.mark.parametrize("values", [{"size": 0}, {"alpha": -0.1}])
def test_numbers_out_of_range_are_refused(values):
  with pytest.raises(UserError, match="must be at least"):
    Beam(**values)
