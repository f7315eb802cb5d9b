"""Checkpoints of other libraries: read, checked, and written back."""

from __future__ import annotations

from mtm.discovery import modules
from mtm.interop._base import Export, Foreign, Format, Moments

__all__ = ["Export", "Foreign", "Format", "Moments", "formats"]


def formats() -> dict[str, Format]:
  """Every format, by name."""
  found = (getattr(module, "FORMAT", None) for module in modules(__package__))
  return {format.name: format for format in found if format is not None}
