"""cuDNN's fused attention, by `jax.nn.dot_product_attention`: NVIDIA GPUs, half precision."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mtm import axes
from mtm.parts.kernels._choose import Request, seen_by
from mtm.parts.patterns._algebra import And, Pattern
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full
from mtm.parts.patterns.window import Window

_HALF = (jnp.bfloat16, jnp.float16)
_WIDEST = 128  # features of a head, on every card since Ampere


@dataclasses.dataclass(frozen=True)
class Gpu:
  """Softmax in float32 on tensor cores. Full, causal and causal windowed attention store nothing of
  size queries × keys; any other pattern is given as a mask of that size."""

  def supports(self, request: Request) -> str | None:
    """On GPUs, in bfloat16 or float16, outside decoding."""
    if not axes.is_for("gpu"):
      return f"it is for NVIDIA GPUs, and this program is for a {axes.platform()}"
    if request.q.dtype not in _HALF:
      return f"cuDNN computes in bfloat16 or float16, and queries are {request.q.dtype}"
    if not request.aligned:
      return "queries and keys must stand at 0, 1, 2, ..."
    width = max(request.q.shape[-1], request.v.shape[-1])
    if width > _WIDEST or request.q.shape[-1] % 8:
      return f"heads have {width} features: it takes multiples of 8 up to {_WIDEST}"
    if request.dropout is not None and request.dropout[1] > 0:
      return "its dropout cannot be made the same on every mesh"
    return None

  def cost(self, request: Request) -> float:
    """Measured in benchmarks/gpu_attention.py: a mask of all pairs costs its reading."""
    flags = _flags(request.pattern)
    if flags is None:
      return 0.4
    share = 1.0
    if "local_window_size" in flags:
      share = min(1.0, sum(flags["local_window_size"], 1) / request.k.shape[1])
    return 0.15 * share

  def __call__(self, request: Request) -> jax.Array:
    heads = ("batch", None, "heads", None)
    names: list[Any] = [heads, ("batch", None, "kv_heads", None), ("batch", None, "kv_heads", None)]
    arrays = [request.q, request.k, request.v]
    flags = _flags(request.pattern)
    seen = seen_by(request) if flags is None else None
    bias = request.bias_array()
    for extra in (seen, bias):
      if extra is not None:
        arrays.append(extra)
        names.append(tuple(n if s > 1 else None for n, s in zip(_PAIRS, extra.shape, strict=True)))

    def run(q: Any, k: Any, v: Any, *extra: Any) -> jax.Array:
      masks = {"mask": extra[0]} if seen is not None else {}
      if bias is not None:
        masks["bias"] = extra[-1].astype(q.dtype)
      return jax.nn.dot_product_attention(
        q, k, v, scale=request.scale, implementation="cudnn", **masks, **(flags or {})
      )

    out = axes.local(run, arrays, names, heads)
    if seen is not None:
      out = jnp.where(jnp.any(seen, axis=-1)[:, 0, :, None, None], out, 0)
    return out


_PAIRS = ("batch", "heads", None, None)


def _flags(pattern: Pattern) -> dict[str, Any] | None:
  """The arguments by which cuDNN knows `pattern`; None if it does not."""
  if pattern == Full():
    return {}
  if pattern == Causal():
    return {"is_causal": True}
  if isinstance(pattern, And) and Causal() in (pattern.a, pattern.b):
    other = pattern.b if pattern.a == Causal() else pattern.a
    if isinstance(other, Window) and other.dilation == 1 and other.right == 0:
      return {"is_causal": True, "local_window_size": (other.left, 0)}
  return None


EXAMPLES = [Gpu()]
