"""A thread that works ahead."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
  """Iterates over `produce()` until it returns None, up to `depth` items ahead of its reader.

  Args:
    produce: makes the next item, or None at the end; called by one thread at a time.
    depth: items kept ready; with 0 there is no thread.
  """

  def __init__(self, produce: Callable[[], T | None], depth: int) -> None:
    self._produce = produce
    self._shelf: _Shelf[T] | None = None
    if depth > 0:
      self._shelf = _Shelf(depth)
      thread = threading.Thread(
        target=_work, args=(produce, self._shelf), name="mtm-data", daemon=True
      )
      # Also at exit, before the interpreter takes away what the thread works with.
      self._finalizer = weakref.finalize(self, _finish, self._shelf, thread)
      thread.start()

  def __iter__(self) -> Iterator[T]:
    return self

  def __next__(self) -> T:
    """The next item. Raises whatever `produce` raised."""
    item = self._produce() if self._shelf is None else self._shelf.get()
    if item is None:
      raise StopIteration
    return item

  def close(self) -> None:
    """Ends the thread; nothing can be read afterwards."""
    self._produce = lambda: None
    if self._shelf is not None:
      self._finalizer()


class _Shelf(Generic[T]):
  """A bounded queue that either side may close."""

  def __init__(self, depth: int) -> None:
    self._depth = depth
    self._items: deque[T] = deque()
    self._changed = threading.Condition()
    self._closed = False
    self._error: BaseException | None = None

  def put(self, item: T) -> bool:
    """Waits for room; False when there will be none."""
    with self._changed:
      self._changed.wait_for(lambda: self._closed or len(self._items) < self._depth)
      if not self._closed:
        self._items.append(item)
        self._changed.notify_all()
      return not self._closed

  def get(self) -> T | None:
    """Waits for an item; None when there will be none."""
    with self._changed:
      self._changed.wait_for(lambda: self._closed or self._items)
      if self._items:
        item = self._items.popleft()
        self._changed.notify_all()
        return item
      if self._error is not None:
        raise self._error
      return None

  def close(self, error: BaseException | None = None) -> None:
    """No more items."""
    with self._changed:
      self._closed = True
      self._error = self._error or error
      self._changed.notify_all()

  def clear(self) -> None:
    """Forgets what nobody will read."""
    with self._changed:
      self._items.clear()


def _work(produce: Callable[[], T | None], shelf: _Shelf[T]) -> None:
  """The thread. It knows no `Prefetch`, so that an abandoned one can be collected."""
  try:
    while (item := produce()) is not None:
      if not shelf.put(item):
        return
    shelf.close()
  except BaseException as e:  # the reader raises it
    shelf.close(e)


def _finish(shelf: _Shelf[T], thread: threading.Thread) -> None:
  shelf.close()
  shelf.clear()
  if thread is not threading.current_thread():
    thread.join()
