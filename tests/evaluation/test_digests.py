"""Digests change with what they are about, and kept rows survive an interruption."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.evaluation.digests import Kept, digest, of_params
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan


def test_a_digest_does_not_depend_on_the_order_of_names() -> None:
  assert digest({"a": 1, "b": (2, 3)}) == digest({"b": [2, 3], "a": 1}) != digest({"a": 1})


def test_parameters_are_told_apart_by_name_and_value_not_by_layout() -> None:
  values = {"a": {"w": np.arange(16, dtype=np.float32)}, "b": np.ones(8, np.float32)}
  put = Plan(mesh()).put_batch({"w": values["a"]["w"]})["w"]
  assert of_params({"a": {"w": put}, "b": jax.numpy.ones(8)}) == of_params(values)
  assert of_params({**values, "b": np.zeros(8, np.float32)}) != of_params(values)
  assert of_params({"a": {"v": values["a"]["w"]}, "b": values["b"]}) != of_params(values)


def test_rows_are_found_again_but_for_one_cut_off(tmp_path: Path) -> None:
  path = tmp_path / "new" / "rows.jsonl"
  kept = Kept(path)
  kept.add([{"id": "1", "said": "ä"}, {"id": "2", "said": "\ud800"}])
  path.write_bytes(path.read_bytes() + b'{"id": "3", "sa')
  again = Kept(path)
  assert again.get("1") == {"id": "1", "said": "ä"} and again.get("3") is None
  again.add([{"id": "3", "said": "x"}])
  assert Kept(path).get("3") and len(path.read_text().splitlines()) == 3


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot write .*choose another directory"):
    Kept(tmp_path / "file" / "rows.jsonl")
