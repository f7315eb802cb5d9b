"""The table of published scales is made of the runs' own commands, and the page shows it."""

from __future__ import annotations

import json

from benchmarks import scale
from mtm import compile as verb
from mtm.scale import topology

FOUND = json.loads((scale.ROOT / "benchmarks/results/scale.json").read_text())["runs"]


def test_every_run_names_its_command_and_its_result() -> None:
  for path in scale.RUNS.glob("*.gin"):
    known = verb.arguments("mtm compile", None).parse_args(scale.command(path))
    assert known.gin_file == [f"runs/scale/{path.name}"]
    where = topology.parse(known.topology, known.slices)
    assert FOUND[path.stem]["command"] == " ".join(scale.command(path))
    assert FOUND[path.stem]["topology"] == where.name and FOUND[path.stem]["fits"]


def test_the_page_shows_the_results() -> None:
  assert scale.DOCS.read_text() == scale.write(scale.DOCS.read_text(), scale.table(FOUND))


def test_a_table_is_put_between_its_marks() -> None:
  page = f"before\n{scale.MARKS[0]}\nold\n{scale.MARKS[1]}\nafter\n"
  assert scale.write(page, "new") == page.replace("old", "new")
