"""Attention kernels: `attend(q, k, v, pattern)` takes the engine that suits the call best."""

from mtm.parts.kernels._choose import Kernel, Request, attend, prepare

__all__ = ["Kernel", "Request", "attend", "prepare"]
