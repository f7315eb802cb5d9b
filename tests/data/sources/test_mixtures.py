"""Mixtures in one call: by given rates, and by size with temperature and cap."""

from __future__ import annotations

import json

import pytest

from mtm.data import registry
from mtm.data.provider import splits_of
from mtm.data.sources import files
from mtm.data.sources.mixtures import mixture
from mtm.errors import UserError
from tests.data import tiny

SIZES = {"mixed_a": 9, "mixed_b": 4, "mixed_c": 1}


@pytest.fixture
def tasks(tmp_path) -> list[str]:
  for name, size in SIZES.items():
    path = tmp_path / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"targets": str(i)}) + "\n" for i in range(size)))
    files.jsonl_task(name, {"train": path}, vocabulary=tiny.vocabulary())
  return list(SIZES)


def rates(name: str) -> dict[str, float]:
  return {split.name: split.rate for split in splits_of(registry.find(name), "train")}


def test_given_rates_are_kept_and_may_be_given_again(tasks):
  mixture("mixed", {"mixed_a": 3.0, "mixed_b": 1.0})
  assert rates("mixed") == {"mixed_a": 3.0, "mixed_b": 1.0}
  mixture("mixed", {"mixed_c": 1.0})
  assert rates("mixed") == {"mixed_c": 1.0}


def test_rates_by_size_follow_temperature_and_cap(tasks):
  mixture("mixed_sizes", tasks)
  assert rates("mixed_sizes") == pytest.approx(SIZES)
  mixture("mixed_warm", tasks, temperature=2.0)
  assert rates("mixed_warm") == pytest.approx({k: v**0.5 for k, v in SIZES.items()})
  mixture("mixed_capped", tasks, cap=4)
  assert rates("mixed_capped") == pytest.approx({"mixed_a": 4, "mixed_b": 4, "mixed_c": 1})


def test_mistakes_are_told(tasks):
  with pytest.raises(UserError, match="'mixed_b' .*rate above 0|mixed_b needs a rate above 0"):
    mixture("mixed_bad", {"mixed_a": 1.0, "mixed_b": 0.0})
  with pytest.raises(UserError, match="apply to rates by size only"):
    mixture("mixed_bad", {"mixed_a": 1.0}, cap=3)
  with pytest.raises(UserError, match="is registered already"):
    mixture("mixed_a", {"mixed_b": 1.0})
