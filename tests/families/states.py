"""The hidden states of every layer, which models do not give: a run watched from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from mtm.parts.context import Aux, Context
from mtm.parts.stack import Block, Period, Stack
from mtm.parts.transformer import Tower
from mtm.types import Batch, Output, Params

States = dict[str, list[jax.Array]]


def watched(model: Any, params: Params, batch: Batch) -> tuple[Output, States]:
  """Runs a model layer by layer: what leaves a scan is gone before anybody sees it.

  Args:
    model: a `Model`.
    params: its parameters.
    batch: feature name → `[batch, length]`.

  Returns:
    what `model.apply` gives, and tower → `[batch, length, embed]` each: what enters its layers,
    what leaves each of them but the last, and what leaves the tower, normed where it has a last
    norm. So `transformers` tells them too.
  """
  found: States = {}
  current: list[jax.Array] = []

  def watch(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
    module = context.module
    if context.method_name != "__call__":
      return call(*args, **kwargs)
    if isinstance(module, Stack):
      current[:] = args[:1]
      return unrolled(module, *args[:2])
    result = call(*args, **kwargs)
    if isinstance(module, Block):
      current.append(result[0])
    if isinstance(module, Tower):
      found[module.name] = [*current[:-1], result[0]]
    return result

  with nn.intercept_methods(watch):
    return model.apply(params, batch), found


def unrolled(stack: Stack, x: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
  """What `stack` does without a cache, a repetition after another; its losses are left out."""
  period = Period(tuple(block.clone(parent=None) for block in stack.period), parent=None)
  for weights in stack.prepare(stack.variables["params"])["layers"]:
    x, _ = period.apply({"params": weights}, x, None, context)
  return x, Aux()
