"""Dispatches: which of a routing's pairs are worked on. `dispatch.Capacity(1.25)`."""

from mtm.discovery import lazy_attributes
from mtm.parts.experts.dispatch._base import Dispatch, Plan

__getattr__ = lazy_attributes(__name__)
__all__ = ["Dispatch", "Plan"]
