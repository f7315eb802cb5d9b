"""What every policy must keep: run on the EXAMPLES of all modules of `mtm.decoding`."""

import functools

import jax
import numpy as np
import pytest

from mtm import decoding
from mtm.decoding._base import TokenByToken
from mtm.decoding.loop import generate
from mtm.decoding.sample import example_keys
from mtm.discovery import modules
from tests.decoding.models import EOS, Trigram, decoder, prompts, trigram

POLICIES = [
  example
  for module in modules("mtm.decoding")
  for example in getattr(module, "EXAMPLES", [])
  if hasattr(example, "finish")
]
LENGTH = 6
ROWS = [[5, 3, 6, 2], [4], [6, 6, 2], []]


def run(model, params, batch, policy, ids, use_cache=True):
  settings = {"policy": policy, "max_length": LENGTH, "eos_id": EOS, "use_cache": use_cache}
  keys = example_keys(0, np.asarray(ids))
  return jax.jit(functools.partial(generate, model, **settings))(params, batch, keys)


def assert_same(a, b):
  np.testing.assert_array_equal(a.tokens, b.tokens)
  np.testing.assert_array_equal(a.lengths, b.lengths)
  # Another batch size or a cache is another order of float32 sums.
  np.testing.assert_allclose(a.scores, b.scores, rtol=1e-4, atol=1e-4)


def test_policies_are_discovered_and_reached_by_name():
  assert {type(p).__name__ for p in POLICIES} == {"Greedy", "Sample", "Beam", "MeanBeam"}
  assert decoding.Beam is type(next(p for p in POLICIES if type(p).__name__ == "Beam"))


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
class TestContract:
  def test_neither_cache_nor_padding_nor_neighbours_count(self, policy):
    model, params = decoder()
    padded = run(model, params, prompts(ROWS, 8), policy, range(4))
    bare = run(model, params, prompts(ROWS[1:3], 4), policy, [1, 2], use_cache=False)
    assert_same(bare, jax.tree.map(lambda x: x[1:3], padded))

  def test_an_example_alone_is_decoded_as_in_a_batch(self, policy):
    table, _ = trigram(16, 7)
    together = run(Trigram(), table, prompts(ROWS, 9), policy, range(4))
    alone = run(Trigram(), table, prompts([ROWS[2]], 4), policy, [2])
    assert_same(alone, jax.tree.map(lambda x: x[2:3], together))

  def test_any_of_several_ids_ends(self, policy):
    table, _ = trigram(16, 7)
    batch, keys = prompts(ROWS, 9), example_keys(0, np.arange(4))
    ends = (EOS, 4, 5)
    decode = functools.partial(generate, Trigram(), policy=policy, max_length=LENGTH, eos_id=ends)
    out = jax.jit(decode)(table, batch, keys)
    lines = [
      line[:length].tolist()
      for rows, lengths in zip(np.asarray(out.tokens), np.asarray(out.lengths), strict=True)
      for line, length in zip(rows, lengths, strict=True)
      if length
    ]
    assert not any(set(ends) & set(line[:-1]) for line in lines)
    assert all(line[-1] in ends for line in lines if len(line) < LENGTH)
    assert len({line[-1] for line in lines} & set(ends)) > 1

  def test_shapes_and_dtypes_and_nothing_after_the_end(self, policy):
    table, _ = trigram(16, 7)
    out = run(Trigram(), table, prompts(ROWS, 9), policy, range(4))
    assert out.tokens.shape == (4, policy.width, LENGTH) and out.tokens.dtype == np.int32
    assert out.scores.shape == (4, policy.width) and out.scores.dtype == np.float32
    assert out.lengths.shape == (4, policy.width) and out.lengths.dtype == np.int32
    tokens, lengths = np.asarray(out.tokens), np.asarray(out.lengths)
    assert lengths.min() < LENGTH  # something ends
    for row, length in zip(tokens.reshape(-1, LENGTH), lengths.reshape(-1), strict=True):
      assert not row[length:].any()
      assert EOS not in row[: max(length - 1, 0)]
      assert length in (0, LENGTH) or row[length - 1] == EOS


@pytest.mark.parametrize("policy", [p for p in POLICIES if isinstance(p, TokenByToken)], ids=repr)
def test_token_by_token_scores_are_the_models_log_likelihoods(policy):
  table, log_probs = trigram(10, 7)
  out = run(Trigram(), table, prompts([[5, 3]], 3), policy, [0])
  for tokens, score, length in zip(out.tokens[0], out.scores[0], out.lengths[0], strict=True):
    line, expected = [0, 5, 3], 0.0
    for token in np.asarray(tokens[: int(length)]).tolist():
      expected += log_probs(line)[token]
      line.append(token)
    np.testing.assert_allclose(score, expected, rtol=1e-5)
