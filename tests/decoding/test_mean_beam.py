import functools

import jax
import numpy as np
import pytest

from mtm.decoding.greedy import Greedy
from mtm.decoding.loop import generate
from mtm.decoding.mean_beam import MeanBeam
from mtm.errors import UserError
from tests.decoding.models import EOS, Trigram, trigram


def search(log_probs, vocab, size, power, length, full_is_done):
  """The search in plain Python: `[(score, tokens)]`, best first."""
  live, ended = [(0.0, ())], []
  for step in range(1, length + 1):
    candidates = sorted(
      ((lp + more, (*line, t)) for lp, line in live
       for t, more in enumerate(log_probs([0, *line]))),
      reverse=True,
    )[: 2 * size]  # fmt: skip
    stop = [c for c in candidates[:size] if c[1][-1] == EOS or step == length]
    ended = sorted(ended + [(lp / step**power, line) for lp, line in stop], reverse=True)[:size]
    live = [c for c in candidates if c[1][-1] != EOS][:size]
    worst = ended[-1][0] if len(ended) == size else -np.inf
    if len(ended) == size and (full_is_done or live[0][0] / step**power <= worst):
      break
  return ended


def decode(table, policy, length, rows=1):
  run = jax.jit(
    functools.partial(generate, Trigram(), policy=policy, max_length=length, eos_id=EOS)
  )
  return run(table, {"decoder_input_tokens": np.zeros((rows, 1), np.int32)})


@pytest.mark.parametrize("full_is_done", [False, True])
@pytest.mark.parametrize("power", [0.0, 1.0, 2.0, -0.5])
@pytest.mark.parametrize("seed", range(4))
def test_search_equals_plain_python(seed, power, full_is_done):
  table, log_probs = trigram(7, 5, seed)
  out = decode(table, MeanBeam(3, power, full_is_done), 7)
  expected = search(log_probs, 5, 3, power, 7, full_is_done)
  assert len(expected) == 3
  for tokens, length, score, (their_score, line) in zip(
    out.tokens[0], out.lengths[0], out.scores[0], expected, strict=True
  ):
    assert tuple(np.asarray(tokens)[: int(length)].tolist()) == line
    np.testing.assert_allclose(score, their_score, rtol=1e-5)


def test_one_beam_ends_only_where_the_end_is_the_best_token():
  table, _ = trigram(8, 6, seed=2)
  mean, greedy = decode(table, MeanBeam(1), 8), decode(table, Greedy(), 8)
  np.testing.assert_array_equal(mean.tokens, greedy.tokens)


def test_what_is_open_at_the_full_length_competes_with_what_ended():
  table, log_probs = trigram(4, 9, seed=1)
  table[..., EOS] = -1e4
  out = decode(table, MeanBeam(3), 4)
  expected = search(log_probs, 9, 3, 1.0, 4, False)
  np.testing.assert_array_equal(out.tokens[0], [line for _, line in expected])
  np.testing.assert_array_equal(out.lengths, 4)


def test_a_done_example_does_not_change_beside_a_slow_one():
  table, _ = trigram(20, 5, seed=0)
  table[:, :, :, EOS] += 8.0  # ends at once from anywhere ...
  table[:, :, :, 4] -= 30.0
  table[:, :, 4, EOS] -= 30.0  # ... but after a 4, which follows itself
  table[:, :, 4, 4] += 60.0
  policy = MeanBeam(2, power=3.0)  # so that hypotheses which go on would win later
  run = jax.jit(functools.partial(generate, Trigram(), policy=policy, max_length=18, eos_id=EOS))
  fast, slow = np.array([[0, 2]], np.int32), np.array([[0, 4]], np.int32)
  alone = run(table, {"decoder_input_tokens": fast})
  both = run(table, {"decoder_input_tokens": np.concatenate([fast, slow])})
  np.testing.assert_array_equal(alone.tokens[0], both.tokens[0])
  np.testing.assert_array_equal(alone.scores[0], both.scores[0])
  assert int(alone.lengths.max()) < 18


def test_no_beam_is_refused():
  with pytest.raises(UserError, match="beam size = 0: must be at least 1"):
    MeanBeam(0)
