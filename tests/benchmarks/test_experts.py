"""The benchmark of experts runs its layers, and asks both sides for the same."""

from __future__ import annotations

import json

import pytest

from benchmarks import _experts_mtm, experts


@pytest.mark.parametrize(
  "name",
  [
    "dense",
    *(pytest.param(n, marks=pytest.mark.slow) for n in ("capacity-4", "dropless-4-einsum")),
  ],
)
def test_prints_the_seconds_of_every_pass(
  name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
  small = _experts_mtm.Shape(2, 8, 4, 8)
  monkeypatch.setattr(_experts_mtm, "Shape", lambda: small)
  _experts_mtm.main(name, "2")
  said = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert len(said["seconds"]) == 2 and min(said["seconds"]) > 0


def test_every_goal_is_measured_against_the_dense_layer() -> None:
  cases = experts.layers(3)
  assert {case.name: case.goal for case in cases} == experts.GOALS
  assert all(case.theirs.first == ("dense",) and case.ours.first == (case.name,) for case in cases)
