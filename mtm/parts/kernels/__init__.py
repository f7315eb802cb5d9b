"""Attention kernels: `prepare(q, k, v, pattern, ...)` finds the engine that suits the call best."""

from mtm.parts.kernels._choose import Kernel, Request, prepare

__all__ = ["Kernel", "Request", "prepare"]
