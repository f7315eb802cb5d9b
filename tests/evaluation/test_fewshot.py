"""The runner: every cell once, again only what is new, results with digests."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtm.errors import UserError
from mtm.evaluation import fewshot
from mtm.evaluation.fewshot import FewShot
from mtm.evaluation.methods import Rank
from mtm.evaluation.ranking import PerToken, Sum
from mtm.prompts.template import Template
from tests.evaluation.oracle import COLOURS, Oracle, colours, noise, sums

HANDLE: Any = types.SimpleNamespace(params={"w": np.ones(3, np.float32)})


@pytest.fixture
def speaker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Oracle]:
  """What `FewShot` talks to, and a module `sets_of_a_test` with three sets."""
  module: Any = types.ModuleType("sets_of_a_test")
  odd = Template("odd", "Which {thing} was it?", original=False)
  more = (*colours().templates, odd)
  module.SETS = (colours(), colours("tints", templates=more), sums())
  monkeypatch.setitem(sys.modules, "sets_of_a_test", module)
  oracle = Oracle(noise, lambda inputs, number: [f"it is {int(inputs.split('?')[-2][-5]) + 1}"])
  monkeypatch.setattr(fewshot, "Speaker", lambda handle: oracle)
  yield oracle


def asking(**changes: Any) -> FewShot:
  fields: dict[str, Any] = {"sets": ["looks"], "module": "sets_of_a_test", "at_once": 4}
  return FewShot(**{**fields, **changes})


def test_each_set_is_asked_under_each_template_with_each_number_of_exemplars(
  speaker: Oracle, tmp_path: Path
) -> None:
  lines: list[str] = []
  results = asking(shots=(0, 1), seeds=(0, 1)).run(HANDLE, tmp_path, lines.append)
  cells = [(c["set"], c["template"], c["k"], c["seed"]) for c in results["cells"]]
  assert cells == [
    (name, template, k, seed)
    for name in ("colours", "tints")
    for template in ("asks", "is")  # and not the one that is turned around
    for k, seed in ((0, 0), (1, 0), (1, 1))
  ]
  assert len(lines) == 12 and "tints (is, 1-shot, seed 1): accuracy 0." in lines[-1]
  assert all(c["questions"] == 6 and c["split"] == "test" for c in results["cells"])
  rows = [(r["set"], r["k"], r["cells"]) for r in results["sets"]]
  assert rows == [("colours", 0, 2), ("colours", 1, 4), ("tints", 0, 2), ("tints", 1, 4)]
  (first, second) = results["clusters"]
  assert (first["cluster"], first["k"], first["sets"]) == ("looks", 0, 2)
  assert second["value"] == pytest.approx(
    np.mean([r["value"] for r in results["sets"] if r["k"] == 1])
  )


def test_results_are_those_of_the_answers(speaker: Oracle, tmp_path: Path) -> None:
  results = asking(sets=["colours"], templates=["asks"]).run(HANDLE, tmp_path, str)
  (cell,) = results["cells"]
  right = [
    np.argmax([noise(f"Colour of thing{i}?", f" {colour}") for colour in COLOURS]) == i % 3
    for i in range(6)
  ]
  assert cell["metrics"]["accuracy"] == np.mean(right)
  assert {"accuracy/per_token", "calibration_error", "accuracy_stderr"} <= cell["metrics"].keys()
  assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(results))


def test_what_was_answered_is_not_asked_again(speaker: Oracle, tmp_path: Path) -> None:
  everything = asking(shots=(0, 2))
  whole = everything.run(HANDLE, tmp_path / "a", str)
  count = len(speaker.asked)
  assert everything.run(HANDLE, tmp_path / "a", str) == whole and len(speaker.asked) == count
  rows = (tmp_path / "a" / "answers.jsonl").read_bytes()
  (tmp_path / "b").mkdir()
  (tmp_path / "b" / "answers.jsonl").write_bytes(rows[: len(rows) * 2 // 3])  # killed
  assert everything.run(HANDLE, tmp_path / "b", str) == whole
  assert 0 < len(speaker.asked) - count < count / 2


@pytest.mark.parametrize("change", ["method", "parameters"])
def test_answers_of_another_method_or_model_do_not_count(
  speaker: Oracle, tmp_path: Path, change: str
) -> None:
  asking().run(HANDLE, tmp_path, str)
  count = len(speaker.asked)
  other = types.SimpleNamespace(params={"w": np.zeros(3, np.float32)})
  if change == "method":
    asking(rank=Rank((PerToken(), Sum()))).run(HANDLE, tmp_path, str)
  else:
    asking().run(other, tmp_path, str)
  assert len(speaker.asked) == 2 * count


def test_digests_tell_what_was_the_same(speaker: Oracle, tmp_path: Path) -> None:
  results = asking(sets=["colours"], shots=(0, 1)).run(HANDLE, tmp_path, str)
  zero, one, *_ = (cell["digests"] for cell in results["cells"])
  assert zero["task"] == one["task"] and zero["data"] == one["data"]
  assert zero["prompts"] != one["prompts"] and len(results["checkpoint"]["digest"]) == 16


def test_what_has_no_choices_is_generated_from_its_own_split(
  speaker: Oracle, tmp_path: Path
) -> None:
  results = asking(sets=["sums"], shots=(1,)).run(HANDLE, tmp_path, str)
  (cell,) = results["cells"]
  assert cell["split"] == "validation" and cell["main"] == "exact_match"
  assert cell["metrics"]["exact_match"] == 1.0 and "Generate" in cell["method"]


def test_exemplars_and_what_is_written_have_to_fit(speaker: Oracle, tmp_path: Path) -> None:
  speaker.context = 70  # 64 are to be written
  with pytest.raises(UserError, match="'sums'"):
    asking(sets=["sums"], shots=(2,)).run(HANDLE, tmp_path, str)


@pytest.mark.parametrize(
  "changes, told",
  [
    ({"sets": ["colors"]}, "no set 'colors' has prompts; did you mean 'colours'"),
    ({"sets": []}, "no set is asked"),
    ({"templates": ["ask"]}, "no template 'ask'; did you mean 'asks'"),
    ({"split": "tests"}, "no split 'tests'; did you mean 'test'"),
  ],
)
def test_what_does_not_exist_is_told(
  speaker: Oracle, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
  with pytest.raises(UserError, match=told):
    asking(**changes).run(HANDLE, tmp_path, str)
