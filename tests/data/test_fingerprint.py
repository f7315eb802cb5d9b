from __future__ import annotations

import functools
import subprocess
import sys

import numpy as np

from mtm.data._fingerprint import fingerprint


def maker(n):
  def function(x, y=1):
    return x + n + y

  return function


class Holder:
  def __init__(self, n):
    self.n = n
    self._lock = object()  # differs from object to object, and decides nothing


def test_equal_things_have_equal_fingerprints():
  for make in (
    lambda: maker(3),
    lambda: functools.partial(maker(3), y=2),
    lambda: Holder(3),
    lambda: {"b": [1, 2.0, None], "a": {"x", "y"}},
  ):
    assert fingerprint(make()) == fingerprint(make())


def test_what_a_function_or_object_holds_counts():
  things = [
    maker(3),
    maker(4),
    functools.partial(maker(3), y=2),
    functools.partial(maker(3), y=3),
    Holder(3),
    Holder(4),
    [1],
    (1, 2),
    {"a": 1},
    {"a": 2},
    1,
    1.0,
    "1",
    None,
  ]
  assert len({fingerprint(thing) for thing in things}) == len(things)


def test_a_file_counts_by_its_contents(tmp_path):
  a, b = tmp_path / "a", tmp_path / "b"
  a.write_text("one")
  b.write_text("one")
  assert fingerprint(str(a)) == fingerprint(b)
  before = fingerprint(a)
  a.write_text("two")
  assert fingerprint(a) != before


def test_a_pattern_counts_by_the_contents_of_its_files(tmp_path):
  pattern = str(tmp_path / "*.txt")
  found = [fingerprint(pattern)]
  for name, text in (("a.txt", "one"), ("a.txt", "two"), ("b.txt", "two"), ("c.csv", "")):
    (tmp_path / name).write_text(text)
    found.append(fingerprint(pattern))
  assert len(set(found)) == 4 and found[-1] == found[-2]


def test_arrays_count_by_their_values():
  values = [np.arange(3), np.arange(4), np.arange(3.0), np.arange(4).reshape(2, 2)]
  assert len({fingerprint(v) for v in values}) == 4
  assert fingerprint(np.arange(3)) == fingerprint(values[0])


def test_data_deep_in_a_closure_count():
  def deep(leaf):
    return functools.partial(maker({"a": [[[[(maker([leaf]),)]]]]}))

  assert fingerprint(deep(1)) == fingerprint(deep(1)) != fingerprint(deep(2))


def test_an_edit_of_a_functions_module_counts(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(str(tmp_path))
  found = []
  for i, number in enumerate((1, 2)):
    (tmp_path / f"edited_{i}.py").write_text(
      f"def helper():\n  return {number}\ndef f(): return helper()\n"
    )
    module = __import__(f"edited_{i}")
    module.f.__module__ = "edited"
    found.append(fingerprint(module.f))
  assert found[0] != found[1]


def test_it_is_the_same_in_every_process():
  code = (
    "import functools\nfrom mtm.data._fingerprint import fingerprint\n"
    "print(fingerprint(functools.partial(functools.reduce, lambda a, b: a), {'x', 'y', 'z'}, 'é'))"
  )
  runs = [
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for _ in range(2)
  ]
  assert runs[0] == runs[1] and len(runs[0].strip()) == 32


def test_a_structure_that_contains_itself_ends():
  loop = []
  loop.append(loop)
  assert fingerprint(loop) == fingerprint(loop)
