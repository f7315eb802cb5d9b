"""Names of slices."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from mtm.errors import UserError
from mtm.scale import topology
from mtm.scale.chips import CHIPS
from mtm.training import flops


@pytest.mark.parametrize("name", topology.EXAMPLES.values())
def test_a_name_is_read_as_it_is_written(name: str) -> None:
  assert topology.parse(name).name == name


def test_several_slices_have_so_many_chips() -> None:
  both = topology.parse("v5p:8x8x8", 2)
  assert both.chips == 1024 and both.name == "2 × v5p:8x8x8"


@pytest.mark.parametrize(
  "name, said",
  [
    ("v5f:8x8", "did you mean 'v5"),
    ("v5p:8x8", "3 directions, such as v5p:8x8x8"),
    ("v5e:16", "2 directions"),
    ("v5e:0x4", "2 directions"),
    ("v5e", "2 directions"),
    ("h100:8", "Known: v4:8x8x8"),
  ],
)
def test_another_name_is_told_with_what_there_is(name: str, said: str) -> None:
  with pytest.raises(UserError, match=said):
    topology.parse(name)


def test_no_slice_at_all_is_refused() -> None:
  with pytest.raises(UserError, match="at least one"):
    topology.parse("v5e:4x4", 0)


def test_without_libtpu_the_way_to_install_it_is_told(monkeypatch: Any) -> None:
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(UserError, match=r'pip install "mtm\[tpu\]"'):
    topology.parse("v5e:2x2").devices()


def test_peaks_are_those_by_which_training_measures_itself() -> None:
  names = {"v4": "TPU v4", "v5e": "TPU v5e", "v5p": "TPU v5", "v6e": "TPU v6e", "tpu7x": "TPU7x"}
  assert {kind: chip.flops for kind, chip in CHIPS.items()} == {
    kind: flops.PEAKS[name] for kind, name in names.items()
  }
