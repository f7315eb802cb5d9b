"""Attention kernels: `attend(q, k, v, pattern, ...)` by whichever engine supports the call best."""

from mtm.parts.kernels._choose import Kernel, Request, attend, auto

__all__ = ["Kernel", "Request", "attend", "auto"]
