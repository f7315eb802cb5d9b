from __future__ import annotations

import numpy as np
import pytest

from mtm.data.batches import Cut, RowBatches
from mtm.data.shards import Shards
from mtm.errors import UserError
from tests.data.test_rows import LM, TEXTS, make
from tests.data.toy import VOCAB


def batches(cut, vocab_size=VOCAB, **kwargs):
  rows = Shards({0: make(TEXTS, LM, **kwargs)})
  return RowBatches(rows, LM.layout, cut, vocab_size, {"name": "toy"}, {"0": 0.5, "1": 0.5})


def test_the_first_rows_go_to_the_first_host():
  whole = next(batches(Cut(4, prefetch=0)))
  for host in (0, 1):
    part = next(batches(Cut(4, (host, 2), prefetch=0)))
    for name, values in part.items():
      np.testing.assert_array_equal(values, whole[name][2 * host : 2 * host + 2])


def test_a_state_may_go_on_with_batches_of_another_size():
  first = batches(Cut(4, prefetch=0))
  next(first)
  wide = next(first)
  again = batches(Cut(4, prefetch=0))
  next(again)
  narrow = batches(Cut(2, prefetch=1))
  narrow.restore(again.state())
  halves = [next(narrow), next(narrow)]
  for name, values in wide.items():
    np.testing.assert_array_equal(np.concatenate([h[name] for h in halves]), values)
  narrow.close()


def test_a_limit_ends_the_stream_and_stays_ended():
  stream = batches(Cut(2, limit=3))
  assert len(list(stream)) == 3
  assert list(stream) == []


def test_the_end_of_finite_data_stays_the_end():
  stream = batches(Cut(2), num_epochs=1)
  assert len(list(stream)) > 3
  state = stream.state()
  assert list(stream) == [] and stream.state() == state
  stream.restore(state)
  assert list(stream) == []


def test_after_close_there_is_no_batch_until_a_restore():
  stream = batches(Cut(2))
  next(stream)
  state = stream.state()
  wanted = next(stream)
  stream.close()
  assert list(stream) == []
  stream.restore(state)
  for name, values in next(stream).items():
    np.testing.assert_array_equal(values, wanted[name])
  stream.close()


def test_proportions_are_counted_up_to_the_last_batch_given():
  ahead, plain = batches(Cut(2, prefetch=6)), batches(Cut(2, prefetch=0))
  assert plain.proportions()["0"] == {"rate": 0.5, "realised": 0.0, "examples": 0, "tokens": 0}
  for _ in range(5):
    next(ahead), next(plain)
  assert ahead.proportions() == plain.proportions()
  told = plain.proportions().values()
  assert sum(p["realised"] for p in told) == pytest.approx(1.0)
  ahead.close()


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_error_reaches_the_reader(prefetch):
  with pytest.raises(UserError, match="the vocabulary ends at 9"):
    next(batches(Cut(2, prefetch=prefetch), vocab_size=10))


@pytest.mark.parametrize(
  "cut, told",
  [(Cut(5, (0, 2)), "multiple of 2"), (Cut(4, (2, 2)), "from 0 to 1"), (Cut(0), "batch_size = 0")],
)
def test_rows_that_do_not_divide_are_told(cut, told):
  with pytest.raises(UserError, match=told):
    batches(cut)
