"""Routers: which experts a token goes to, and with what weight. `routers.Switch()`."""

from mtm.discovery import lazy_attributes
from mtm.parts.experts.routers._base import Router, Routing, Tokens

__getattr__ = lazy_attributes(__name__)
__all__ = ["Router", "Routing", "Tokens"]
