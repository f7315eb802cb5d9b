"""The name table both ways: nothing is missed, left over, misshapen or damaged in silence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families._names import Transposed, every, of_each_expert, row
from mtm.interop.tree import flatten, read, write

RNG = np.random.default_rng(0)
ROWS = [
  row("a/kernel", "top.weight", Transposed()),
  *every([row("stack/b", "layer.{}.b")], 0, 2),
  *every([row("stack/c", "layer.{}.b")], 1, 2),
]
LIKE = {"a/kernel": (2, 3), "stack/b": (2, 4), "stack/c": (2, 4)}


class Memory:
  """Tensors of a dict."""

  where = "there"

  def __init__(self, **changes: Any) -> None:
    tensors = {f"layer.{i}.b": RNG.normal(size=4).astype(np.float32) for i in range(4)}
    tensors["top.weight"] = RNG.normal(size=(3, 2)).astype(np.float32)
    self.tensors = {k: v for k, v in {**tensors, **changes}.items() if v is not None}

  def names(self) -> set[str]:
    return set(self.tensors)

  def get(self, name: str) -> np.ndarray:
    return self.tensors[name]


def load(source: Memory, **fields: Any) -> dict[str, Any]:
  return read(source, ROWS, LIKE, lambda path, values: values, **fields)


def test_layers_are_stacked_by_their_place_in_the_period_and_come_back() -> None:
  source = Memory()
  params = load(source)
  np.testing.assert_array_equal(params["a"]["kernel"], source.get("top.weight").T)
  np.testing.assert_array_equal(params["stack"]["b"][1], source.get("layer.2.b"))
  np.testing.assert_array_equal(params["stack"]["c"][0], source.get("layer.1.b"))
  back = dict(write(params, ROWS))
  assert back.keys() == source.names()
  for name, values in back.items():
    np.testing.assert_array_equal(values, source.get(name))


@pytest.mark.parametrize(
  ("changes", "told"),
  [
    ({"layer.3.b": None}, "lacks the tensor layer.3.b"),
    ({"extra": np.zeros(1)}, "holds 1 tensors that the model has no place for, such as extra"),
    ({"top.weight": np.zeros((2, 2))}, r"top.weight gives a parameter of shape \(2, 2\)"),
    ({"layer.0.b": np.array([0, np.nan, 0, 0])}, "layer.0.b holds NaN"),
  ],
)
def test_what_does_not_fit_is_told(changes: dict[str, Any], told: str) -> None:
  with pytest.raises(UserError, match=told):
    load(Memory(**changes))


def test_an_empty_parameter_is_told() -> None:
  with pytest.raises(UserError, match="all of the model but 1 parameters, such as more"):
    read(Memory(), ROWS, {**LIKE, "more": (1,)}, lambda path, values: values)


def test_buffers_are_ignored_and_copies_must_be_copies() -> None:
  source = Memory(buffer=np.zeros(1), head=None)
  source.tensors["head"] = source.get("top.weight").copy()
  load(source, ignored=["buf.*"], copies={"head": "top.weight"})
  source.tensors["head"] += 1
  with pytest.raises(UserError, match="head should repeat top.weight and does not"):
    load(source, ignored=["buf.*"], copies={"head": "top.weight"})


def test_a_parameter_without_a_name_cannot_be_written() -> None:
  with pytest.raises(UserError, match="no name for other"):
    list(write({**load(Memory()), "other": np.zeros(1)}, ROWS))


def test_flatten_joins_keys() -> None:
  assert flatten({"a": {"b": 1}, "c": 2}) == {"a/b": 1, "c": 2}


def test_experts_are_stacked_behind_their_layers_and_come_back() -> None:
  """A tensor for each expert of each layer; layers 1 and 3 of four have experts."""
  tensors = {f"l.{i}.e.{j}": RNG.normal(size=(3, 2)) for i in (1, 3) for j in range(3)}
  source = Memory()
  source.tensors = tensors
  rows = every(of_each_expert([row("moe/w", "l.{}.e.<>", Transposed())], 3), 1, 2)
  params = read(source, rows, {"moe/w": (2, 3, 2, 3)}, lambda path, values: values)
  np.testing.assert_array_equal(params["moe"]["w"][1, 2], tensors["l.3.e.2"].T)
  back = dict(write(params, rows))
  assert back.keys() == tensors.keys()
  for name, values in back.items():
    np.testing.assert_array_equal(values, tensors[name])
  assert rows[0].names(1) == ("l.3.e.0", "l.3.e.1", "l.3.e.2")
