"""`mtm plan`: the mesh, recomputation and microbatches by which a run is quickest on a slice."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mtm.compile import arguments
from mtm.errors import UserError
from mtm.programs import planned, setup
from mtm.programs.planned import Run
from mtm.report import _files, tables
from mtm.report import scale as shown
from mtm.scale import program, report, search, topology
from mtm.scale.search import Candidate
from mtm.scale.topology import Topology

# Written by hand; those that fit the run and the slice are always tried.
SHIPPED = ("mesh/data.gin", "mesh/fsdp.gin", "mesh/fsdp_tensor.gin")
SHIPPED_EXPERTS = ("mesh/fsdp_expert.gin",)
SHIPPED_SLICES = ("mesh/slices.gin",)


@dataclasses.dataclass(frozen=True)
class Trial:
  """A candidate and what became of it.

  Attributes:
    candidate: what was tried.
    report: see `mtm.scale.report.of_training`.
    gin: the file that makes it.
  """

  candidate: Candidate
  report: dict[str, Any]
  gin: str

  @property
  def point(self) -> tuple[float, float] | None:
    """Predicted seconds and GiB of a chip; None where it does not fit."""
    if not self.report["fits"]:
      return None
    return self.report["predicted"]["step_seconds"], self.report["hbm_gib_per_chip"]["peak"]


def plan(
  load: Callable[[str], Run],
  base: Run,
  where: Topology,
  rows: int,
  tries: int,
  tell: Callable[[str], None],
) -> list[Trial]:
  """Compiles the hand-written meshes and the candidates that an estimate likes best.

  Args:
    load: a gin text → the run with it after its own files.
    base: the run on which the estimate is made.
    where: the slice.
    rows: of a batch.
    tries: candidates to compile besides the hand-written ones.
    tell: is told what is being tried.

  Returns:
    the trials, those that fit first, the quickest first.

  Raises:
    UserError: nothing fits.
  """
  devices = where.devices()
  found = search.facts(base.trainer(devices, data=-1, **_across(where)))
  found = found._replace(
    rows=rows, tokens=found.tokens * rows // found.rows, flops=found.flops * rows // found.rows
  )
  trials: list[Trial] = []
  for candidate, needed in _order(found, where, tries):
    if not needed and sum(t.candidate.file is None for t in trials) >= tries:
      break
    text = candidate.gin(rows)
    try:
      trainer = load(text).trainer(devices)
      tell(f"trying {candidate.told}")
      made = program.training(trainer, quick=True)
    except UserError as error:
      if needed:
        tell(f"leaving {candidate.told} out: {error}")
      continue  # the mesh does not divide the model or the batch
    trials.append(Trial(candidate, report.of_training(trainer, where, made), text))
  if not any(trial.point for trial in trials):
    raise UserError(
      f"nothing of what was tried fits {where.name}: take more chips, or a smaller --target-batch"
    )
  return sorted(trials, key=lambda trial: trial.point or (float("inf"), 0.0))


def _across(where: Topology) -> dict[str, Any]:
  return {"dcn": {"data": where.slices}} if where.slices > 1 else {}


def _order(found: search.Facts, where: Topology, tries: int) -> Iterator[tuple[Candidate, bool]]:
  """Candidates, the hand-written ones first, and whether each is of those."""
  best = search.best(found, where, 8 * tries)
  parts = best[0].microbatches if best else 1
  files = SHIPPED + (SHIPPED_EXPERTS if found.expert_parameters else ())
  for file in files if where.slices == 1 else SHIPPED_SLICES:
    yield Candidate({}, "full", parts, where.slices, file), True
  for candidate in best:
    yield candidate, False


def main(argv: Sequence[str] | None = None) -> int:
  """The command line; prints the table, and writes the gin file that is quickest."""
  parser = arguments("mtm plan", __doc__)
  parser.add_argument("--target-batch", type=int, required=True, help="rows of a batch")
  parser.add_argument("--tries", type=int, default=3, help="besides the meshes of mesh/*.gin")
  parser.add_argument("--output", default="plan.gin", help="the gin file to write")
  known, rest = parser.parse_known_args(argv)
  where = topology.parse(known.topology, known.slices)
  if known.target_batch < 1 or known.tries < 0:
    raise UserError("--target-batch must be at least 1, and --tries at least 0")
  setup.start()
  with tempfile.TemporaryDirectory() as folder:

    def load(text: str) -> Run:
      file = Path(folder) / "plan.gin"
      file.write_text(text)
      return planned.of([*known.gin_file, str(file)], rest, known.gin_search_paths)

    base = planned.of(known.gin_file, rest, known.gin_search_paths)
    trials = plan(load, base, where, known.target_batch, known.tries, _progress)
  rows = [(trial.candidate.told, trial.report) for trial in trials]
  points = search.pareto([trial.point for trial in trials])
  tables.show(shown.pareto(rows, points, f"{', '.join(known.gin_file)} on {where.name}"))
  chosen = trials[0]
  seconds, gib = chosen.point or (0.0, 0.0)
  head = f"# Chosen by mtm plan for {where.name}: predicted {seconds:.3g} s a step, {gib:.1f} GiB\n"
  head += "# on each chip. Give it after the other gin files.\n"
  _files.write(known.output, (head + chosen.gin).encode())
  print(f"wrote {known.output}: {chosen.candidate.told}")
  return 0


def _progress(line: str) -> None:
  print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
  from mtm import cli

  sys.exit(cli.main(["plan", *sys.argv[1:]]))
