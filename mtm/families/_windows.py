"""What Longformer and LED share: layers whose window and global tokens a config tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mtm.errors import UserError
from mtm.families._names import Row, heads_in
from mtm.families._published import Arguments, Config

PROJECTIONS = ("query", "key", "value")


def period_of(layers: int, windows: Sequence[int], slots: int, first: int) -> int:
  """How many layers differ. Raises UserError where no layer can have such windows and globals."""
  if not windows or layers % len(windows):
    raise UserError(f"layers = {layers} is no multiple of the {len(windows)} {windows = }")
  if any(window < 2 or window % 2 for window in windows):
    raise UserError(f"{windows = }: a window is even, half of it on each side of a token")
  if first > slots:
    raise UserError(
      f"first_global = {first} tokens do not fit max_global = {slots}: raise max_global"
    )
  return len(windows)


def windows_of(theirs: Config, layers: int) -> Arguments:
  """The builder's `windows`: the shortest period that a config's repeat."""
  told = theirs.get("attention_window", 512)
  every = [told] * layers if isinstance(told, int) else list(told)
  if len(every) != layers:
    raise UserError(
      f"{theirs.source} has attention_window = {told}, which is not one for each of {layers} layers"
    )
  length = next(
    n for n in range(1, layers + 1) if layers % n == 0 and every == every[:n] * (layers // n)
  )
  return {"windows": tuple(every[:length])}


def words(a: Arguments) -> dict[str, Any]:
  """The config that `windows_of` reads."""
  return {"attention_window": list(a["windows"]) * (a["layers"] // len(a["windows"]))}


def projection_rows(ours: str, theirs: str, heads: int) -> list[Row]:
  """The projections of global tokens; `theirs`: what stands before the names."""
  return [
    row
    for name in PROJECTIONS
    for row in heads_in(f"{ours}/{name}_global", f"{theirs}.{name}_global", heads)
  ]
