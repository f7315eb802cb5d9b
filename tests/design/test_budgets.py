"""The budgets of design §12 that are read off the source."""

from __future__ import annotations

import ast
import itertools
import re

from mtm.sharding.mesh import AXES
from tests.design.source import PACKAGE, ROOT, Source, over, sources

CORE = ("parts", "families", "objectives")


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
  """Lines from the first statement after the docstring to the last."""
  body = function.body[1:] if ast.get_docstring(function) else function.body
  return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_modules_have_at_most_400_lines() -> None:
  lengths = {s.name: s.text.count("\n") for s in sources()}
  assert not over("module", {name: n for name, n in lengths.items() if n > 400})


def test_function_bodies_have_at_most_60_lines() -> None:
  lengths = {f"{s.name}.{name}": body_lines(f) for s in sources() for name, f in s.functions()}
  assert not over("function", {name: n for name, n in lengths.items() if n > 60})


def test_parts_have_at_most_12_fields() -> None:
  fields = {
    f"{s.name}.{c.name}": sum(isinstance(n, ast.AnnAssign) for n in c.body)
    for s in sources()
    if s.layer == "parts"
    for c in s.classes()
  }
  assert fields["mtm.parts.attention.Attention"] > 5, "fields are not counted"
  assert not over("fields", {name: n for name, n in fields.items() if n > 12})


def test_no_branch_on_a_configuration_or_a_name() -> None:
  """No `if name == "..."`, no enum member compared, no attribute of a config, no `match` on one."""
  found: dict[str, object] = {}
  for source in sources():
    if source.layer not in CORE:
      continue
    for node in ast.walk(source.tree):
      if isinstance(node, ast.Compare) and any(isinstance(o, ast.Eq | ast.NotEq | ast.In)
                                               for o in node.ops):  # fmt: skip
        sides = [node.left, *node.comparators]
        if any(isinstance(s, ast.Constant) and isinstance(s.value, str) for s in sides) and not (
          isinstance(node.ops[0], ast.In) and isinstance(node.comparators[-1], ast.Name)
        ):
          found[f"{source.name}: {ast.unparse(node)}"] = node.lineno
      if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.value.id in ("config", "cfg", "flags", "FLAGS", "hparams"):
          found[f"{source.name}: {ast.unparse(node)}"] = node.lineno
      if isinstance(node, ast.Match):
        found[f"{source.name}: match {ast.unparse(node.subject)}"] = node.lineno
      if isinstance(node, ast.ClassDef) and any("Enum" in ast.unparse(b) for b in node.bases):
        found[f"{source.name}: enum {node.name}"] = node.lineno
  assert not over("branches", found)


def test_no_keyword_arguments_are_passed_through() -> None:
  found = {
    f"{s.name}.{name}": f.lineno
    for s in sources()
    if s.layer in CORE
    for name, f in s.functions()
    if f.args.kwarg is not None
  }
  assert not over("kwargs", found)


def test_mesh_axes_are_named_in_sharding_only() -> None:
  """A part says `embed`, never `fsdp`. `expert`, `stage` are logical axes too and may be named."""
  mesh_only = set(AXES) - {"expert", "stage"}
  found: dict[str, object] = {}
  for source in sources():
    if source.layer in CORE:
      for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and node.value in mesh_only:
          found[f"{source.name}: {node.value}"] = node.lineno
  assert not over("mesh axes", found)


def annotated(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
  every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
  named = [a for i, a in enumerate(every) if not (i == 0 and a.arg in ("self", "cls"))]
  return function.returns is not None and all(a.annotation is not None for a in named)


def test_at_least_95_percent_of_functions_are_annotated() -> None:
  every = [(f"{s.name}.{name}", f) for s in sources() for name, f in s.functions()]
  bare = [name for name, f in every if not annotated(f)]
  assert len(bare) <= 0.05 * len(every), f"{len(bare)} of {len(every)}: {bare}"


def public(source: Source) -> dict[str, ast.AST]:
  """The module, its public classes and functions and their public methods.

  An override says what its base says (`mask` of a pattern), and a property or `__call__` with a
  class docstring may be told there.
  """
  out: dict[str, ast.AST] = {source.name: source.tree}
  for node in source.tree.body:
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
      out[f"{source.name}.{node.name}"] = node
  return out


def test_public_things_have_docstrings() -> None:
  found = {
    name: "no docstring"
    for source in sources()
    for name, node in public(source).items()
    if not ast.get_docstring(node)  # type: ignore[arg-type]
  }
  assert not over("docstrings", found)


def shingles(source: Source, size: int = 6) -> set[tuple[str, ...]]:
  """Runs of `size` lines of code, without comments, docstrings and imports."""
  tree = ast.parse(source.text)
  for node in ast.walk(tree):
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node):
      node.body = node.body[1:] or [ast.Pass()]
  lines = [line.strip() for line in ast.unparse(tree).splitlines()]
  lines = [line for line in lines if line and not line.startswith(("import ", "from "))]
  return {tuple(lines[i : i + size]) for i in range(len(lines) - size + 1)}


def test_two_modules_share_at_most_a_quarter_of_their_lines() -> None:
  every = {s.name: shingles(s) for s in sources()}
  every = {name: found for name, found in every.items() if len(found) >= 10}
  found = {}
  for (a, of_a), (b, of_b) in itertools.combinations(every.items(), 2):
    share = len(of_a & of_b) / min(len(of_a), len(of_b))
    if share > 0.25:
      found[f"{a} ~ {b}"] = round(share, 2)
  assert not over("duplicates", found)


def test_the_duplicate_measure_sees_a_copy() -> None:
  one = next(s for s in sources() if s.name == "mtm.parts.stack")
  copy = Source("copy", one.path)
  assert len(shingles(one) & shingles(copy)) == len(shingles(one)) > 50


def test_gin_directories_hold_no_init() -> None:
  """A package `gin` beside gin-config's would hide it."""
  homes = [p for p in (ROOT / "gin", PACKAGE / "gin") if p.exists()]
  assert homes
  for home in homes:
    assert not list(home.rglob("__init__.py"))


def test_nothing_names_a_workplace() -> None:
  """No file of the project tells where or by what it was written."""
  words = re.compile(
    "|".join(["/" + "work/", "/" + "tmp/spec", r"\bhelp" + r"ers? own", "issue" + " 2"])
  )
  kinds = {".py", ".md", ".gin", ".toml", ".txt", ".json", ".ipynb", ".yml", ""}
  found = []
  for home in ("mtm", "tests", "docs", "gin", "benchmarks", "notebooks", ".ci"):
    for path in (ROOT / home).rglob("*"):
      if path.is_file() and path.suffix in kinds and "__pycache__" not in path.parts:
        text = path.read_text(encoding="utf-8", errors="ignore")
        found += [f"{path.relative_to(ROOT)}: {m.group()}" for m in words.finditer(text)]
  assert not found
