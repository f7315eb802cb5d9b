"""Engines: how the rows of a plan get to their experts and back. `engines.Gather()`."""

from mtm.discovery import lazy_attributes
from mtm.parts.experts.engines._base import Engine, Work, perform

__getattr__ = lazy_attributes(__name__)
__all__ = ["Engine", "Work", "perform"]
