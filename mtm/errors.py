"""Errors that are the user's to fix: binaries print them as one line and exit 1."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
  """Bad input, told in one sentence that names the culprit and the fix."""


def nearest(name: str, choices: Iterable[str]) -> str:
  """`; did you mean 'x'?` for the choice closest to `name`, or the choices when none is close."""
  choices = sorted(set(choices))
  close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
  if close:
    return f"; did you mean {close[0]!r}?"
  if not choices:
    return ""
  shown = ", ".join(choices[:8]) + (", ..." if len(choices) > 8 else "")
  return f"; choose one of: {shown}"
