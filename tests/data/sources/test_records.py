"""SeqIO sources over records: the same from memory and from a stream, errors told plainly."""

from __future__ import annotations

import pytest

from mtm.data._tensorflow import tensorflow
from mtm.data.sources import _records
from mtm.errors import UserError

ROWS = [{"a": f"größe {i}", "b": str(i)} for i in range(5)]


def origin(records) -> _records.Origin:
  return _records.Origin(records, ["train"], ["a", "b"], "here", "1")


@pytest.mark.parametrize("how", ["held", "streamed"])
def test_examples_come_in_order_and_again(how):
  made = origin(lambda split: iter(ROWS))
  source = _records.source(made, getattr(made, how))
  for _ in range(2):
    found = source.get_dataset("train", shuffle=True, seed=3).as_numpy_iterator()
    assert [{k: v.decode() for k, v in row.items()} for row in found] == ROWS
  assert list(source.splits) == ["train"] and source.label == "here" and source.version == "1"


def test_an_error_in_a_stream_comes_back_as_it_was():
  def records(split):
    yield from ROWS
    raise UserError("a.jsonl:6: not JSON; mend the line")

  with pytest.raises(UserError, match=r"^a.jsonl:6: not JSON; mend the line$"):
    with _records.told_plainly():
      list(origin(records).streamed("train").as_numpy_iterator())


def test_tensorflows_own_errors_stay_what_they_are():
  tf = tensorflow()
  with pytest.raises(tf.errors.InvalidArgumentError), _records.told_plainly():
    tf.reshape(tf.zeros(3), [2])


def test_examples_are_counted_for_mixtures_by_size():
  made = origin(lambda split: iter(ROWS))
  assert _records.source(made, made.streamed).num_input_examples("train") == 5
