"""Attention patterns: which key a query may see. `patterns.Causal() & patterns.Window(128, 0)`."""

from mtm.discovery import lazy_attributes
from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns._plot import plot

__getattr__ = lazy_attributes(__name__)
__all__ = ["Pattern", "plot"]
