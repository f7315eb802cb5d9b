"""Counting a program's matrix multiplications, and what a device can do of them in a second.

XLA's own cost analysis counts the body of a loop once, so FLOPs are counted on the jaxpr: each
product of an m×k and a k×n matrix is 2mkn, loops with a known length are multiplied, and all else
(softmax, norms, optimizer) is left out, as model FLOPs utilisation (2204.02311, appendix B) does.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from mtm import axes
from mtm.types import Apply, Batch, Objective, Params

_KERNEL = "pallas_call"
_BACKWARD = 2  # the gradients of both operands of a product cost as much as the product, each


class Tally(NamedTuple):
  """What was counted.

  Attributes:
    flops: of matrix multiplications and convolutions.
    open_loops: `while` loops met, whose trip count is unknown: their bodies were counted once.
  """

  flops: int = 0
  open_loops: int = 0


def count(fn: Callable[..., Any], *args: Any) -> int:
  """FLOPs of `fn(*args)` over all devices; the arguments are arrays or `ShapeDtypeStruct`s."""
  return tally(fn, *args).flops


def tally(fn: Callable[..., Any], *args: Any) -> Tally:
  """As `count`, and how many loops of unknown length there were."""
  return _walk(jax.make_jaxpr(fn)(*args).jaxpr)


def kernels(jaxpr: Any) -> int:
  """FLOPs over all devices of the products within Pallas kernels, which a compiled program does not
  show. Blocks that a kernel skips count.

  Args:
    jaxpr: of a traced function.
  """
  return _walk(getattr(jaxpr, "jaxpr", jaxpr), counted=False).flops


def training_step(apply: Apply, objective: Objective, params: Params, batch: Batch) -> int:
  """Model FLOPs of a training step: three times the loss's forward pass.

  What rematerialisation computes again is not counted, since it is no progress.

  Args:
    apply: the model's.
    objective: gives the loss.
    params, batch: arrays or `ShapeDtypeStruct`s, of the whole batch.
  """
  key = jax.eval_shape(lambda: jax.random.key(0))

  def loss(params: Params, batch: Batch, key: jax.Array) -> jax.Array:
    return objective.loss(apply, params, batch, rng=key, train=True).loss

  with axes.use(None):  # the count is of the whole, however a mesh cuts it
    return (1 + _BACKWARD) * count(loss, params, batch, key)


def peak(device: Any) -> float | None:
  """The most FLOP/s that a JAX device can do, None where no number is published.

  An accelerator's is its published dense bfloat16 peak (float16 for those without bfloat16); a
  CPU's is measured in float32 on the spot, a process's CPU devices sharing it evenly.
  """
  if device.platform == "cpu":
    return measured(device) / jax.local_device_count("cpu")
  kind = device.device_kind
  found = [name for name in PEAKS if name in kind]
  return PEAKS[max(found, key=len)] if found else None


# Dense peaks in FLOP/s for one JAX device, by a part of `device_kind`; the longest match counts.
PEAKS = {
  # TPU v2 and v3: Jouppi et al., CACM 63(7), 2020: 46 and 123 T a chip, which is two devices.
  "TPU v2": 46e12 / 2,
  "TPU v3": 123e12 / 2,
  # TPU v4i: Jouppi et al., ISCA 2021. The others: cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e,tpu7x}.
  "TPU v4 lite": 138e12,
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5e": 197e12,
  "TPU v5": 459e12,
  "TPU v6 lite": 918e12,
  "TPU v6e": 918e12,
  "TPU7x": 2307e12 / 2,  # a chip is two devices
  # NVIDIA's data sheets, without sparsity; the plain name is the SXM part.
  "V100": 125e12,
  "V100-PCIE": 112e12,
  "T4": 65e12,
  "A100": 312e12,
  "L4": 121e12,
  "L40": 181e12,
  "L40S": 362e12,
  "H100": 989e12,
  "H100 PCIe": 756e12,
  "H100 NVL": 835e12,
  "GH200": 989e12,
  "H200": 989e12,
  "H200 NVL": 835e12,
  "B200": 2250e12,
  "GB200": 2500e12,
}


@functools.cache
def measured(device: Any, side: int = 1024, seconds: float = 0.2, dtype: str = "float32") -> float:
  """The best rate of a product of square matrices on this device, in FLOP/s.

  Args:
    device: where.
    side: of the matrices.
    seconds: how long it is tried.
    dtype: of the matrices.
  """
  x = jax.device_put(jnp.ones((side, side), dtype), device)
  product = jax.jit(jnp.matmul)
  product(x, x).block_until_ready()
  best, until = math.inf, time.perf_counter() + seconds
  while time.perf_counter() < until:
    began = time.perf_counter()
    product(x, x).block_until_ready()
    best = min(best, time.perf_counter() - began)
  return 2 * side**3 / best


def _walk(jaxpr: Any, counted: bool = True) -> Tally:
  """Counts a jaxpr and, under each equation, those within it; unless `counted`, kernels alone."""
  flops = loops = 0
  for equation in jaxpr.eqns:
    name, params = equation.primitive.name, equation.params
    if counted and name in _PRODUCTS:
      flops += _PRODUCTS[name](equation)
    within = counted or name == _KERNEL
    inner = [_walk(getattr(j, "jaxpr", j), within) for j in core.jaxprs_in_params(params)]
    if inner:
      one = _JOIN.get(name, _all)(inner)
      flops += one.flops * _TIMES.get(name, _once)(params)
      loops += one.open_loops + (name == "while")
  return Tally(flops, loops)


def _all(inner: list[Tally]) -> Tally:
  return Tally(sum(t.flops for t in inner), sum(t.open_loops for t in inner))


def _once(params: dict[str, Any]) -> int:
  del params
  return 1


def _dot(equation: Any) -> int:
  (contracted, _), _ = equation.params["dimension_numbers"]
  left = equation.invars[0].aval.shape
  return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[a] for a in contracted)


def _ragged_dot(equation: Any) -> int:
  """Each row meets one expert's matrix: `[m, k]` by `[experts, k, n]`."""
  numbers = equation.params["ragged_dot_dimension_numbers"]
  (contracted, _), _ = numbers.dot_dimension_numbers
  left = equation.invars[0].aval.shape
  return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[a] for a in contracted)


def _convolution(equation: Any) -> int:
  """Each output is a sum over the window and the input features of its group."""
  kernel = equation.invars[1].aval.shape
  features = equation.params["dimension_numbers"].rhs_spec[0]
  summed = math.prod(kernel) // kernel[features]
  return 2 * math.prod(equation.outvars[0].aval.shape) * summed


def _cudnn_attention(equation: Any) -> int:
  """Scores and averages of cuDNN's fused attention, `[batch, length, heads, head_dim]`: of all
  pairs, or of those in the window, as the other engines count."""
  query, key, value = (v.aval.shape for v in equation.invars[:3])
  keys = min(key[1], equation.params["sliding_window_length"] or key[1])
  return 2 * math.prod(query[:3]) * keys * (query[3] + value[3])


# By primitive: its own FLOPs; how often it runs what is within; how branches are joined.
_PRODUCTS = {
  "dot_general": _dot,
  "ragged_dot_general": _ragged_dot,
  "conv_general_dilated": _convolution,
  "dot_product_attention_fwd_wrapper": _cudnn_attention,
}
_TIMES: dict[str, Callable[[dict[str, Any]], int]] = {
  "scan": lambda p: p["length"],
  "shard_map": lambda p: math.prod(p["mesh"].shape[a] for a in p["newly_manual_axes"]),
  _KERNEL: lambda p: math.prod(p["grid_mapping"].grid),
}
_JOIN: dict[str, Callable[[list[Tally]], Tally]] = {"cond": max}
