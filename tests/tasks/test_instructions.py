"""FLAN's and T0's collections: their members, and mixtures without a cluster."""

from __future__ import annotations

import itertools

from mtm.data import registry
from mtm.prompts import library
from mtm.tasks import instructions


def members(table) -> list[str]:
  return list(itertools.chain.from_iterable(table.values()))


def test_flan_has_twelve_clusters_of_known_sets():
  assert len(instructions.FLAN) == 12
  known = library.sets()
  for cluster, names in instructions.FLAN.items():
    assert {known[name].cluster for name in names} == {cluster}
  assert len(members(instructions.FLAN)) == len(set(members(instructions.FLAN)))


def test_t0_is_trained_on_nothing_that_it_holds_out():
  trained, held_out = members(instructions.T0), members(instructions.T0_HELD_OUT)
  assert not set(trained) & set(held_out)
  assert set(trained) | set(held_out) <= set(library.names())
  assert (len(trained), len(held_out)) == (35, 11)


def test_what_needs_no_download_is_whole_clusters():
  clusters = library.clusters()
  for cluster in instructions.GENERATED:
    assert all(library.find(name).licence in ("generated", "PSF-2.0") for name in clusters[cluster])


def test_mixtures_leave_their_cluster_out():
  tasks = {
    name: {task.name for task in registry.find(name).tasks}
    for name in ("flan", "flan_without_nli", "generated", "generated_without_dates")
  }
  assert tasks["flan"] - tasks["flan_without_nli"] == set(instructions.FLAN["nli"])
  dates = set(library.clusters()["dates"])
  assert tasks["generated"] - tasks["generated_without_dates"] == dates
