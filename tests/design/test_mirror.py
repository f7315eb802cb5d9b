"""Tests mirror sources: `mtm/x/y.py` has `tests/x/test_y.py`."""

from __future__ import annotations

from pathlib import Path

from tests.design.source import ROOT, Source, sources

# Modules without a test file of their own → the test that covers them. `PACKAGE.*` is all of it.
ELSEWHERE = {
  "mtm.evaluation.lm_eval": "tests/parity/test_lm_eval.py",
  "mtm.programs.asking": "tests/e2e/test_infer.py",
  "mtm.decoding.choices": "tests/evaluation/test_scorer.py",
  "mtm.decoding._beams": "tests/decoding/test_beam.py",
  "mtm.train": "tests/e2e/test_train.py",
  "mtm.eval": "tests/e2e/test_infer.py",
  "mtm.infer": "tests/e2e/test_infer.py",
  "mtm.serve": "tests/e2e/test_serve.py",
  "mtm.parts.kernels.reference": "tests/contracts/test_kernels.py",
  "mtm.parts.patterns.*": "tests/parts/patterns/test_patterns.py",
  "mtm.parts.positions.*": "tests/parts/positions/test_positions.py",
  "mtm.parts.experts.dispatch.*": "tests/contracts/test_dispatch.py",
  "mtm.parts.experts.engines.*": "tests/contracts/test_engines.py",
  "mtm.parts.experts.routers.*": "tests/parts/experts/routers/test_routers.py",
  "mtm.families.*": "tests/families/test_recorded.py",
  "mtm.scale.chips": "tests/scale/test_topology.py",
  "mtm.scale.traffic": "tests/scale/test_census.py",
  "mtm.scale.memory": "tests/scale/test_census.py",
  "mtm.scale.replicated": "tests/scale/test_census.py",
  "mtm.scale.program": "tests/test_compile.py",
  "mtm.scale.report": "tests/test_compile.py",
  "mtm.interop._arrays": "tests/interop/test_t5x.py",
  "mtm.interop._slots": "tests/interop/test_t5x.py",
  "mtm.interop._unscanned": "tests/interop/test_t5x.py",
  "mtm.programs.published": "tests/test_convert.py",
  "mtm.objectives.*": "tests/contracts/test_objectives.py",
}


def expected(source: Source) -> Path:
  """The mirrored test; a core `_x.py` is tested by `test_x.py`."""
  *parents, last = source.name.split(".")[1:]
  return ROOT.joinpath("tests", *parents, f"test_{last.lstrip('_')}.py")


def elsewhere(source: Source) -> str | None:
  package = source.name.rsplit(".", 1)[0]
  return ELSEWHERE.get(source.name) or ELSEWHERE.get(f"{package}.*")


def test_every_module_has_a_test() -> None:
  missing = [
    source.name
    for source in sources()
    if source.path.name != "__init__.py"
    and not expected(source).exists()
    and elsewhere(source) is None
  ]
  assert not missing


def test_exceptions_point_at_tests_that_exist() -> None:
  names = {source.name for source in sources()}
  packages = {name.rsplit(".", 1)[0] for name in names}
  for module, test in ELSEWHERE.items():
    assert (ROOT / test).exists(), test
    assert module in names or module.removesuffix(".*") in packages, module
