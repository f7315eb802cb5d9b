from __future__ import annotations

import itertools
import json
import pathlib

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mtm.data.preprocessors.span_corruption import (
  build,
  noise_counts,
  noise_mask,
  piece_length,
  sentinels_for_spans,
)
from mtm.errors import UserError
from mtm.objectives.span_corruption import SpanCorruption
from tests.data.toy import EOS, EXTRA, VOCAB, tokens

FIXTURE = json.loads(
  (pathlib.Path(__file__).parents[2] / "fixtures/t5/span_corruption.json").read_text()
)
LENGTHS = {"inputs": 64, "targets": 20}


def corrupted(ids, lengths=LENGTHS, seed=0, **fields):
  example = {"targets": np.array(ids, np.int32)}
  pieces = build(SpanCorruption(**fields), lengths).pieces(
    example, tokens(), np.random.default_rng(seed)
  )
  return [(inputs.tolist(), targets.tolist()) for inputs, targets in pieces]


def restored(inputs, targets):
  """Text of a piece: each sentinel of the inputs becomes what follows it in the targets."""
  assert inputs[-1] == targets[-1] == EOS
  spans, current = {}, None
  for i in targets[:-1]:
    if i >= VOCAB - EXTRA:
      current = spans[i] = []
    else:
      current.append(i)
  return [x for i in inputs[:-1] for x in (spans[i] if i in spans else [i])]


@pytest.mark.parametrize("case", FIXTURE["cases"])
def test_the_layout_is_what_t5_writes(case):
  ids, noise = np.array(case["tokens"], np.int32), np.array(case["noise"], bool)
  size = FIXTURE["vocab_size"]
  assert sentinels_for_spans(ids, noise, size).tolist() == case["inputs"]
  assert sentinels_for_spans(ids, ~noise, size).tolist() == case["targets"]


@pytest.mark.parametrize("case", FIXTURE["cases"])
def test_masks_have_as_much_noise_in_as_many_spans_as_t5s(case):
  for seed in range(5):
    rng = np.random.default_rng(seed)
    ours = noise_mask(len(case["tokens"]), case["density"], case["mean_span"], rng)
    theirs = np.array(case["noise"], bool)
    assert ours.sum() == theirs.sum()
    assert (np.diff(ours.astype(int)) == 1).sum() == (np.diff(theirs.astype(int)) == 1).sum()


def test_lengths_are_those_of_t5s_random_spans_helper():
  for inputs, density, span, length, targets in FIXTURE["helper"]:
    assert piece_length(inputs, density, span) == (length, targets), (inputs, density, span)
  assert piece_length(512, 0.15, 3.0) == (568, 114)  # the numbers of the paper's models


@given(st.lists(st.integers(3, VOCAB - EXTRA - 1), min_size=2, max_size=300), st.integers(0, 2**32))
def test_inverse_recovers_the_text(ids, seed):
  pieces = corrupted(ids, seed=seed)
  single = [piece for piece in pieces if len(piece[0]) == 2]  # one token has no noise to hide
  whole = [piece for piece in pieces if len(piece[0]) > 2]
  assert [i for p in whole for i in restored(*p)] + [p[0][0] for p in single] == ids


@given(
  st.integers(2, 400), st.sampled_from([0.1, 0.15, 0.3, 0.5]), st.sampled_from([1.0, 3.0, 8.0])
)
def test_masks_begin_without_noise_and_end_with_it(length, density, span):
  noise, spans = noise_counts(length, density, span)
  assume(spans <= length - noise)  # otherwise T5's own code fails
  mask = noise_mask(length, density, span, np.random.default_rng(length))
  runs = [(value, len(list(run))) for value, run in itertools.groupby(mask.tolist())]
  assert [value for value, _ in runs] == [False, True] * spans
  assert sum(n for value, n in runs if value) == noise


def test_all_masks_are_equally_likely():
  # 7 tokens, 3 of them noise in 2 spans: 2 ways to part the noise, 3 to part the rest.
  masks = [
    tuple(noise_mask(7, 3 / 7, 1.5, np.random.default_rng(seed)).tolist()) for seed in range(3000)
  ]
  counts = np.array([masks.count(mask) for mask in set(masks)])
  assert len(counts) == 6
  # Chi-square with 5 degrees of freedom exceeds 25.7 once in 10,000 trials; the seeds are fixed.
  assert ((counts - 500) ** 2 / 500).sum() < 25.7


@pytest.mark.parametrize(
  "lengths", [{"inputs": 512, "targets": 114}, {"inputs": 64, "targets": 14}]
)
def test_a_long_documents_pieces_fill_the_rows_exactly(lengths):
  inputs, targets = corrupted([5] * 2000, lengths)[0]
  assert (len(inputs), len(targets)) == (lengths["inputs"], lengths["targets"])


@given(
  st.integers(1, 200), st.sampled_from([0.1, 0.15, 0.3, 0.5, 0.8]), st.sampled_from([1.0, 3.0])
)
def test_no_piece_of_any_length_exceeds_a_row(inputs, density, span):
  _, targets = piece_length(inputs, density, span)
  lengths = {"inputs": inputs, "targets": targets + 1}
  try:
    preprocessor = build(SpanCorruption(noise_density=density, mean_span_length=span), lengths)
  except UserError:
    return  # told that it cannot be
  rng = np.random.default_rng(0)
  for n in range(1, preprocessor.piece + 1):
    for a, b in preprocessor.pieces({"targets": np.full(n, 5, np.int32)}, tokens(), rng):
      assert len(a) <= inputs and len(b) <= targets + 1


def test_sentinels_count_down_from_the_last_id():
  inputs, targets = corrupted(range(3, 103), {"inputs": 128, "targets": 40})[0]
  count = sum(i >= VOCAB - EXTRA for i in inputs)
  wanted = list(range(VOCAB - 1, VOCAB - 1 - count, -1))
  assert count == noise_counts(100, 0.15, 3.0)[1]
  assert [i for i in inputs if i >= VOCAB - EXTRA] == wanted
  assert [i for i in targets if i >= VOCAB - EXTRA] == wanted


def test_targets_that_are_too_short_are_told():
  with pytest.raises(UserError, match="at least 114, not 512 and 100"):
    build(SpanCorruption(), {"inputs": 512, "targets": 100})


def test_too_few_sentinels_are_told_and_none_at_all_is_t5s_way():
  preprocessor = build(SpanCorruption(), {"inputs": 512, "targets": 114})
  with pytest.raises(UserError, match="needs 28 sentinels.*has 10.*extra_ids=28"):
    preprocessor.check(tokens(extra_ids=10))
  preprocessor.check(tokens(extra_ids=28))
  preprocessor.check(tokens(extra_ids=0))


@pytest.mark.parametrize("fields", [{"noise_density": 0.0}, {"mean_span_length": 0.5}])
def test_numbers_out_of_range_are_told(fields):
  with pytest.raises(UserError, match="noise_density"):
    build(SpanCorruption(**fields), LENGTHS)
