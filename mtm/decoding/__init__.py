"""Decoding: one compiled loop, and policies that say which token comes next. `decoding.Beam(4)`."""

from mtm.decoding._base import Choice, Generated, Policy, View
from mtm.discovery import lazy_attributes

__getattr__ = lazy_attributes(__name__)
__all__ = ["Choice", "Generated", "Policy", "View"]
