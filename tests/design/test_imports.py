"""Who may import whom (design §3), by walking every module's imports."""

from __future__ import annotations

import pytest

from tests.design.source import Source, over, sources

BASE = {"axes", "types", "errors", "discovery"}
BINARIES = {
  "train",
  "eval",
  "infer",
  "compile",
  "plan",
  "convert",
  "inspect",
  "cli",
  "programs",
  "chat",
  "serve",
}

# Layer → the other layers it may import. Binaries may import all.
MAY_IMPORT = {
  "axes": {"errors"},
  "types": set(),
  "errors": set(),
  "discovery": {"errors"},
  "parts": BASE,
  "families": BASE | {"parts"},
  "objectives": BASE,
  "adaptation": BASE,
  "decoding": BASE,
  "sharding": BASE,
  "training": BASE | {"sharding"},
  "prompts": BASE,
  "data": BASE | {"prompts"},
  "tasks": BASE | {"data", "prompts"},
  "report": {"errors"},
  "config": {"errors"},
  "evaluation": BASE | {"decoding", "prompts"},
  "serving": BASE | {"decoding", "sharding"},
  "scale": BASE | {"parts", "sharding", "training", "decoding"},
  "interop": BASE | {"families", "parts"},
}

# Library → where it may be imported at all (prefixes of module names).
ONLY_IN = {
  "gin": ("mtm.config",),
  "seqio": ("mtm.data", "mtm.tasks"),
  "tensorflow": ("mtm.data", "mtm.tasks"),
  "tensorflow_datasets": ("mtm.data", "mtm.tasks"),
  "flax": ("mtm.parts", "mtm.families"),
  "orbax": ("mtm.training.checkpoint", "mtm.interop"),
  "jax.sharding": ("mtm.sharding", "mtm.axes"),
  "jax.experimental.pjit": (),
}

# Never at the top of a module: gin files import these modules, and the check must be quick.
LAZY = ("seqio", "tensorflow", "tensorflow_datasets", "clu", "orbax")


def below(name: str, prefix: str) -> bool:
  return name == prefix or name.startswith(f"{prefix}.")


def test_layers_import_only_what_lies_below_them() -> None:
  found: dict[str, object] = {}
  for source in sources():
    if source.layer in BINARIES or source.layer == "":
      continue
    assert source.layer in MAY_IMPORT, f"{source.name}: a layer that design §3 does not know"
    allowed = MAY_IMPORT[source.layer] | {source.layer}
    for module, line, _ in source.imports():
      parts = module.split(".")
      if parts[0] == "mtm" and len(parts) > 1 and parts[1] not in allowed | {"__version__"}:
        found[f"{source.name} → mtm.{parts[1]}"] = line
  assert not over("layers", found)


@pytest.mark.parametrize("library", list(ONLY_IN))
def test_a_library_stays_in_its_room(library: str) -> None:
  found: dict[str, object] = {}
  for source in sources():
    if not any(below(source.name, home) for home in ONLY_IN[library]):
      for module, line, _ in source.imports():
        if below(module, library):
          found[f"{source.name} → {library}"] = line
  assert not over("libraries", found)


def test_heavy_libraries_are_imported_inside_functions() -> None:
  found: dict[str, object] = {}
  for source in sources():
    for module, line, top in source.imports():
      if top and any(below(module, name) for name in LAZY):
        found[source.name] = f"{module} at line {line}"
  assert not over("lazy", found)


def test_nothing_imports_tests_or_benchmarks() -> None:
  for source in sources():
    for module, line, _ in source.imports():
      assert module.split(".")[0] not in ("tests", "benchmarks"), f"{source.name}:{line}"


def test_the_walk_sees_imports_inside_functions() -> None:
  """A test of this test: the checkpoint module imports orbax in its functions."""
  (checkpoint,) = (s for s in sources() if s.name == "mtm.training.checkpoint")
  assert any(below(m, "orbax") and not top for m, _, top in checkpoint.imports())
  assert isinstance(checkpoint, Source)
