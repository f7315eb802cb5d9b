from __future__ import annotations

import numpy as np
import pytest

from mtm.data import streams
from mtm.data.cached import build
from mtm.data.streams import CachedReader, DirectReader, Stream
from mtm.errors import UserError

COUNT = 50


def examples(count=COUNT):
  return iter([{"targets": np.array([i + 3], np.int32)} for i in range(count)])


@pytest.fixture(params=["cached", "direct"])
def reader(request, tmp_path, monkeypatch):
  monkeypatch.setattr(streams, "BLOCK", 8)

  def make(seed=0, count=COUNT, name="t"):
    if request.param == "direct":
      return DirectReader(lambda: examples(count), name, seed)
    folder = tmp_path / f"{count}"
    return CachedReader(build(folder, examples(count), {"targets": 100}), name, seed)

  return make


def numbers(walk):
  found = []
  for number, example in walk:
    assert example["targets"].tolist() == [number + 3]
    found.append(number)
  return found


@pytest.mark.parametrize("seed", [None, 0])
def test_an_epoch_holds_every_example_once_and_can_be_entered_anywhere(reader, seed):
  whole = numbers(reader(seed).walk(2, 0))
  assert sorted(whole) == list(range(COUNT))
  for position in range(COUNT + 1):
    assert numbers(reader(seed).walk(2, position)) == whole[position:]


@pytest.mark.parametrize("seed", [None, 0])
def test_shards_share_out_the_examples_and_can_be_entered_anywhere(reader, seed):
  whole = numbers(reader(seed).walk(2, 0))
  shards = [reader(seed).dealt((i, 3)) for i in range(3)]
  parts = [numbers(shard.walk(2, 0)) for shard in shards]
  assert sorted(sum(parts, [])) == sorted(whole)
  assert {len(part) for part in parts} == {COUNT // 3, COUNT // 3 + 1}
  for shard, part in zip(shards, parts, strict=True):
    assert [numbers(shard.walk(2, n)) for n in range(len(part))] == [
      part[n:] for n in range(len(part))
    ]
  if isinstance(shards[0], CachedReader):
    assert parts == [whole[i::3] for i in range(3)]


def test_without_a_seed_the_order_is_the_sources(reader):
  assert numbers(reader(None).walk(0, 0)) == list(range(COUNT))


def test_epochs_seeds_and_tasks_have_orders_of_their_own(reader):
  orders = [
    numbers(reader(0).walk(0, 0)),
    numbers(reader(0).walk(1, 0)),
    numbers(reader(1).walk(0, 0)),
    numbers(reader(0, name="other").walk(0, 0)),
  ]
  assert len({tuple(order) for order in orders}) == 4


def test_with_the_cache_all_examples_are_shuffled_and_in_a_stream_blocks_of_them(reader):
  order = np.array(numbers(reader(0).walk(0, 0)))
  stays = (order // 8 == np.arange(COUNT) // 8).mean()
  assert stays == 1 if isinstance(reader(), DirectReader) else stays < 0.5


def test_fetch_finds_examples_by_number(reader):
  found = reader().fetch([7, 3, 49])
  assert {n: e["targets"].tolist() for n, e in found.items()} == {7: [10], 3: [6], 49: [52]}
  assert reader().fetch([]) == {}


def test_a_stream_ends_after_its_epochs(reader):
  stream = Stream("t", "train", reader(count=5), 2)
  found = []
  while stream.live:
    item = stream.next()
    if item is not None:
      stream.count(1)
      found.append(item[:2])
  assert [epoch for epoch, _ in found] == [0] * 5 + [1] * 5
  assert stream.examples == stream.tokens == 10


def test_a_stream_goes_on_from_its_state(reader):
  def read(stream, n):
    found = []
    while len(found) < n:
      item = stream.next()
      if item is not None:
        stream.count(1)
        found.append(item[:2])
    return found

  first, second = (Stream("t", "train", reader(count=7), None) for _ in range(2))
  for n in (3, 4, 7, 1):
    read(first, n)
    second.restore(*first.state())
    assert second.state() == first.state()
    assert read(second, 20) == read(first, 20)
    second = Stream("t", "train", reader(count=7), None)


def test_an_empty_dataset_is_told(reader):
  with pytest.raises(UserError, match="task 't', split 'train': the dataset is empty.*no example"):
    Stream("t", "train", reader(count=0), None).next()


def test_a_dataset_without_text_is_told_rather_than_read_for_ever(reader):
  stream = Stream("t", "train", reader(count=4), None)
  for _ in range(4):
    stream.next()
    stream.count(0)
  with pytest.raises(UserError, match="no text in any example"):
    stream.next()
