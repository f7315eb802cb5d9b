"""Sets by name, by cluster, and without a cluster; and what all of ours have in common."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mtm.errors import UserError
from mtm.prompts import library

MINE = """
from mtm.prompts.prompted import Prompted
from mtm.prompts.template import Template

SETS = (
  Prompted("mine", "mine", {"train": lambda: [{"answer": "1"}]}, (Template("t", ""),)),
  Prompted("sort_numbers", "mine", {"train": lambda: []}, (Template("t", ""),)),
)
"""


def test_sets_are_found_by_name():
  assert library.find("arithmetic_2da").cluster == "arithmetic"
  with pytest.raises(UserError, match="no set 'arithmetic_2dx' has prompts; did you mean 'arith"):
    library.find("arithmetic_2dx")


def test_holding_a_cluster_out_leaves_all_others():
  clusters, left = library.clusters(), library.held_out("arithmetic")
  assert not set(left) & set(clusters["arithmetic"])
  assert sorted([*left, *clusters["arithmetic"]]) == library.names()
  with pytest.raises(UserError, match="no cluster 'arithmetik'; did you mean 'arithmetic'"):
    library.held_out("arithmetik")


def test_a_module_of_ones_own_adds_sets_and_wins(tmp_path, monkeypatch):
  (tmp_path / "my_prompted_sets.py").write_text(MINE)
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "path", [*sys.path])
  assert library.find("mine", "my_prompted_sets").cluster == "mine"
  assert library.find("sort_numbers", "my_prompted_sets").cluster == "mine"
  assert library.clusters("my_prompted_sets")["mine"] == ["mine", "sort_numbers"]
  with pytest.raises(UserError, match="no module 'my_lost_sets'"):
    library.names("my_lost_sets")


def test_nothing_of_it_loads_tensorflow_or_jax():
  code = (
    "import sys; from mtm.prompts import library; from mtm.prompts.shots import Shots\n"
    "data = library.find('coin_flip_1'); template = data.templates[0]\n"
    "Shots(2).prompt(data, template, next(data.examples('test')))\n"
    "print([m for m in ('tensorflow', 'seqio', 'jax') if m in sys.modules])"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout == "[]\n"
