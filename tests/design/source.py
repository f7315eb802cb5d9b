"""What the design tests read: every module's syntax tree, and the table of exceptions."""

from __future__ import annotations

import ast
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mtm"

# (budget, what) → why it may exceed the budget. A row that is not needed fails a test.
EXCEPTIONS: dict[tuple[str, str], str] = {
  ("layers", "mtm.data.registry → mtm.tasks"): "registration is asked for by name, when needed",
  ("layers", "mtm.data.show → mtm.cli"): "it is the binary of `mtm tasks`",
  ("kwargs", "mtm.families.text_classifiers.over.made"): "bound to a signature that refuses others",
}


@dataclasses.dataclass(frozen=True)
class Source:
  """One module.

  Attributes:
    name: dotted, such as `mtm.parts.stack`.
    path: the file.
  """

  name: str
  path: Path

  @property
  def layer(self) -> str:
    """The package below mtm that it belongs to; a binary or base module is its own name."""
    return self.name.split(".")[1] if "." in self.name else ""

  @functools.cached_property
  def text(self) -> str:
    return self.path.read_text(encoding="utf-8")

  @functools.cached_property
  def tree(self) -> ast.Module:
    return ast.parse(self.text)

  def functions(self) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function with its qualified name, methods and inner functions included."""

    def visit(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
      for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
          yield f"{prefix}{child.name}", child
        inner = f"{prefix}{child.name}." if hasattr(child, "name") else prefix
        yield from visit(child, inner)

    return visit(self.tree, "")

  def classes(self) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef))

  def imports(self) -> Iterator[tuple[str, int, bool]]:
    """Each imported module: its absolute dotted name, the line, and whether it is at the top."""
    top = set(self.tree.body) | {
      inner for node in self.tree.body if isinstance(node, ast.If | ast.Try) for inner in node.body
    }
    for node in ast.walk(self.tree):
      if isinstance(node, ast.Import):
        for alias in node.names:
          yield alias.name, node.lineno, node in top
      elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        if node.module != "__future__":
          yield node.module, node.lineno, node in top
          for alias in node.names:
            yield f"{node.module}.{alias.name}", node.lineno, node in top


@functools.cache
def sources() -> tuple[Source, ...]:
  """Every module of mtm."""
  out = []
  for path in sorted(PACKAGE.rglob("*.py")):
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    out.append(Source(name, path))
  assert len(out) > 50, "the package was not found"
  return tuple(out)


def over(budget: str, found: dict[str, object]) -> dict[str, object]:
  """What is over a budget and not excepted; exceptions that nothing needs are over it too."""
  known = {what for name, what in EXCEPTIONS if name == budget}
  stale = {f"needless exception: {what}": EXCEPTIONS[budget, what] for what in known - set(found)}
  return {what: value for what, value in found.items() if what not in known} | stale
