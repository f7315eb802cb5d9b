from __future__ import annotations

import gc
import itertools
import threading
import weakref

import pytest

from mtm.data.prefetch import Prefetch


def workers() -> list[threading.Thread]:
  return [t for t in threading.enumerate() if t.name == "mtm-data"]


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_items_come_in_order_and_end(depth):
  items = iter(range(20))
  assert list(Prefetch(lambda: next(items, None), depth)) == list(range(20))


def test_it_works_at_most_depth_items_ahead():
  made = itertools.count()
  reached = threading.Event()

  def produce() -> int:
    i = next(made)
    if i == 4:
      reached.set()
    return i

  ahead = Prefetch(produce, 3)
  assert next(ahead) == 0
  assert reached.wait(10)  # 3 on the shelf and one in hand
  ahead.close()
  assert next(made) == 5


@pytest.mark.parametrize("depth", [0, 2])
def test_the_readers_error_is_the_producers_after_the_good_items(depth):
  items = iter([1, 2])

  def produce() -> int:
    for item in items:
      return item
    raise OSError("gone")

  ahead = Prefetch(produce, depth)
  assert [next(ahead), next(ahead)] == [1, 2]
  with pytest.raises(OSError, match="gone"):
    next(ahead)


@pytest.mark.parametrize("depth", [0, 2])
def test_after_close_there_is_nothing_and_no_thread(depth):
  before = workers()
  ahead = Prefetch(lambda: 1, depth)
  next(ahead)
  ahead.close()
  assert workers() == before
  with pytest.raises(StopIteration):
    next(ahead)


def test_an_abandoned_one_is_collected_with_its_thread():
  before = workers()
  ahead = Prefetch(lambda: 1, 2)
  next(ahead)
  gone = weakref.ref(ahead)
  del ahead
  gc.collect()
  assert gone() is None and workers() == before
