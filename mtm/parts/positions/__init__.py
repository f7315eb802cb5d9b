"""Position schemes: how a model knows the order of its tokens."""

from mtm.discovery import lazy_attributes
from mtm.parts.positions._base import Position

__getattr__ = lazy_attributes(__name__)
__all__ = ["Position"]
