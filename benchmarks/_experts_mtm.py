"""A side of `benchmarks.experts`: `python -m benchmarks._experts_mtm LAYER STEPS` prints JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mtm import axes
from mtm.parts.context import Context
from mtm.parts.experts.dispatch.capacity import Capacity
from mtm.parts.experts.dispatch.dropless import Dropless
from mtm.parts.experts.layer import Experts
from mtm.parts.experts.mlp import ExpertMlp
from mtm.parts.experts.routers.switch import Switch
from mtm.parts.mlp import Mlp

WARM_UP = 3


class Shape(NamedTuple):
  """Of the input, and of the layer."""

  batch: int = 8
  length: int = 512
  embed: int = 256
  hidden: int = 1024
  dtype: str = "float32"


def layer(name: str, hidden: int) -> Any:
  """`dense`, or `DISPATCH-EXPERTS[-ENGINE]`: top-1, so of as many FLOPs as the dense one."""
  if name == "dense":
    return Mlp(hidden)
  kind, experts, *engine = name.split("-")
  dispatch = {"capacity": Capacity(1.25), "dropless": Dropless()}[kind]
  return Experts(int(experts), Switch(), ExpertMlp(hidden), dispatch, engine=(*engine, "auto")[0])


def pass_of(name: str, shape: Shape) -> Callable[[], Any]:
  """Forward and backward of a layer in training, compiled: the output and all gradients."""
  module, key = layer(name, shape.hidden), jax.random.key(0)
  rows = shape.batch, shape.length
  x, d_y = jax.random.normal(key, (2, *rows, shape.embed), shape.dtype)
  context = Context(jnp.broadcast_to(jnp.arange(shape.length), rows), train=True)

  def work(weights: Any, x: jax.Array, d_y: jax.Array, key: jax.Array) -> Any:
    def loss(weights: Any, x: jax.Array) -> Any:
      y, aux = module.apply(weights, x, context, rngs={"dropout": key})
      return jnp.sum(y * d_y) + sum(aux.losses.values()), (y, aux.metrics)

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(weights, x)

  with axes.use(None):
    weights = jax.jit(lambda: module.init(key, x, context))()
    run = jax.jit(work).lower(weights, x, d_y, key).compile()
  return lambda: run(weights, x, d_y, key)


def timed(run: Callable[[], Any], steps: int) -> list[float]:
  """Seconds of each call after the first ones."""
  seconds = []
  for _ in range(WARM_UP + steps):
    start = time.perf_counter()
    jax.block_until_ready(run())
    seconds.append(time.perf_counter() - start)
  return seconds[WARM_UP:]


def main(name: str, steps: str) -> None:
  """Prints `{"seconds": [...], "versions": {...}}`."""
  seconds = timed(pass_of(name, Shape()), int(steps))
  print(json.dumps({"seconds": seconds, "versions": {"jax": jax.__version__}}))


if __name__ == "__main__":
  main(*sys.argv[1:])
