from __future__ import annotations

import json

import numpy as np
import pytest

from mtm.data._random import Draws
from mtm.data.mixing import Mixing
from mtm.data.pool import Pool
from mtm.data.preprocessors import causal_lm, span_corruption
from mtm.data.rows import Feed, Rows, from_json, to_json
from mtm.data.streams import DirectReader, Stream
from mtm.errors import UserError
from mtm.objectives.causal_lm import CausalLM
from mtm.objectives.span_corruption import SpanCorruption
from tests.data.toy import EOS, documents, tokens

SPANS = span_corruption.build(SpanCorruption(), {"inputs": 32, "targets": 12})
LM = causal_lm.build(CausalLM(), {"targets": 24})


def make(texts, preprocessor=SPANS, num_epochs=None, rates=None, seed=0, pack=True, pool=1):
  feeds = []
  for i, ids in enumerate(texts):
    reader = DirectReader(
      lambda ids=ids: iter([{"targets": np.array(x, np.int32)} for x in ids]), str(i), seed
    )
    stream = Stream(str(i), "train", reader, num_epochs)
    feeds.append(Feed(str(i), (rates or [1.0] * 9)[i], stream, tokens(), Draws(seed, str(i))))
  return Rows(feeds, Mixing([f.rate for f in feeds], seed), preprocessor, pack, Pool(pool, seed))


TEXTS = [documents(11, 1, 9, 1), documents(7, 30, 90, 2)]


def flat(rows):
  return [(p.source, [c.tolist() for c in p.columns]) for row in rows for p in row]


@pytest.mark.parametrize("pool", [1, 17])
@pytest.mark.parametrize("stop", [1, 2, 5, 13, 40])
def test_rows_go_on_from_a_snapshot_bit_identically(stop, pool):
  first, second = make(TEXTS, pool=pool), make(TEXTS, pool=pool)
  first.take(stop)
  second.restore(from_json(json.loads(json.dumps(to_json(first.snapshot())))))
  assert second.snapshot() == first.snapshot()
  assert flat(second.take(50)) == flat(first.take(50))


def test_the_size_of_a_request_does_not_matter():
  one, many = make(TEXTS), make(TEXTS)
  assert flat(row for _ in range(30) for row in one.take(1)) == flat(many.take(30))


def test_a_snapshot_is_small_and_holds_no_tokens():
  rows = make([documents(500, 50, 400, 3)] * 3)
  rows.take(200)
  assert len(json.dumps(to_json(rows.snapshot()))) < 4096


@pytest.mark.parametrize("pool", [1, 17, 10_000])
def test_a_finite_mixture_ends_with_every_piece_in_a_row(pool):
  rows = make(TEXTS, LM, num_epochs=2, pool=pool)
  taken = rows.take(10_000)
  sources = [source for source, _ in flat(taken)]
  assert len(set(sources)) == len(sources)
  text = [i for _, (ids,) in flat(taken) for i in ids]
  assert sorted(text) == sorted(2 * [i for t in TEXTS for ids in t for i in [*ids, EOS]])
  assert rows.take(1) == []


def test_an_examples_pieces_are_a_function_of_seed_task_epoch_and_number():
  wanted = dict(flat(make(TEXTS).take(60)))
  other = dict(flat(make(TEXTS, rates=[7.0, 1.0]).take(60)))
  shared = wanted.keys() & other.keys()
  assert len(shared) > 20
  assert all(wanted[source] == other[source] for source in shared)
  assert flat(make(TEXTS, seed=1).take(60)) != flat(make(TEXTS).take(60))


def test_a_snapshot_of_examples_that_are_gone_is_refused():
  rows = make(TEXTS)
  rows.take(5)
  with pytest.raises(UserError, match="the data changed"):
    make([t[:1] for t in TEXTS]).restore(rows.snapshot())


def test_the_pieces_of_a_long_document_are_spread_by_the_pool():
  texts = [documents(40, 600, 600, 5)]  # 26 rows each

  def neighbours(pool):
    row_of = [row[0].source[2] for row in make(texts, LM, pool=pool).take(500)]
    return sum(a == b for a, b in zip(row_of, row_of[1:], strict=False)) / 500

  assert neighbours(1) > 0.9
  assert neighbours(400) < 0.2
