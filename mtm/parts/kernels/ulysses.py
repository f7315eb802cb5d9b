"""DeepSpeed-Ulysses (2309.14509): the devices that share a sequence swap their places for heads.

An all-to-all gives each device all places of some heads, where any other engine runs as on one
device; a second one brings the results home. What is sent does not grow with the number of devices,
which the key heads must be a multiple of.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from mtm import axes
from mtm.parts.bias import Bias, Rule
from mtm.parts.kernels._choose import Kernel, Request, named, prepare
from mtm.parts.kernels.ring import AWARE, refusal
from mtm.parts.patterns._algebra import EMPTY
from mtm.parts.patterns._tiles import split, tiles

_ALONE = 3.0  # on one device the engine within does the same


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Own:
  """The heads of a rule that are a device's own.

  Attributes:
    rule: of all heads.
    count: how many its own are.
  """

  rule: Rule
  count: int = dataclasses.field(metadata={"static": True})

  def __call__(self, q_place: jax.Array, k_place: jax.Array) -> jax.Array:
    everybody, heads = axes.peers("length"), axes.peers("heads")
    first = (heads.index() * everybody.size + everybody.index()) * self.count
    every = self.rule(q_place, k_place)
    return jax.lax.dynamic_slice_in_dim(every, first, self.count, axis=1)


@dataclasses.dataclass(frozen=True)
class Ulysses:
  """Another engine, run on all places of some heads.

  Attributes:
    engine: the engine within or its name; "auto": the cheapest one for what a device gets.
    block: the size of blocks by which the cost is told.
  """

  engine: Kernel | str = "auto"
  block: int = 64

  def supports(self, request: Request) -> str | None:
    """Like `ring`; but no dropout, and only where the devices divide the heads of each."""
    ways = axes.ways("length")
    for name, x in (("heads", request.q), ("kv_heads", request.k)):
      if x.shape[2] % (ways * axes.ways(name)):
        return (
          f"{ways} devices share the sequence and {axes.ways(name)} the {name}, which together do"
          f" not divide {x.shape[2]}"
        )
    if request.dropout is not None and request.dropout[1] > 0:
      return "it drops no probabilities, as each device would draw its own: `ring` does"
    return refusal(request)

  def cost(self, request: Request) -> float:
    """The share of pairs that are looked at, and what a device sends."""
    ways = axes.ways("length")
    if ways == 1:
      return _ALONE
    heads, kv_heads, length = request.q.shape[2], request.k.shape[2], request.q.shape[1]
    pattern, _ = split(request.pattern)
    share = float((tiles(pattern, length, length, self.block).map != EMPTY).mean())
    return AWARE * (share + 2 * (heads + kv_heads) / heads) / ways

  def __call__(self, request: Request) -> jax.Array:
    rules = () if request.bias is None else request.bias.rules
    extra, shape = jax.tree.flatten((dict(request.labels), rules))
    arrays = [request.q, request.k, request.v, *extra]
    labels = 2 * len(request.labels)
    names: list[tuple[str | None, ...]] = [("batch", "length", "heads", None)]
    names += [("batch", "length", "kv_heads", None)] * 2 + [("batch", None)] * labels
    names += [(None,) * x.ndim for x in extra[labels:]]

    def run(q: jax.Array, k: jax.Array, v: jax.Array, *extra: jax.Array) -> jax.Array:
      everybody = axes.peers("length")
      q, k, v = (everybody.exchange(x, 2, 1) for x in (q, k, v))
      labels, rules = jax.tree.unflatten(shape, extra)
      own = Bias(rules=tuple(_Own(rule, q.shape[2]) for rule in rules))
      out = self._within(request, q, k, v, labels, own if rules else None)
      return everybody.exchange(out, 1, 2)

    out = jax.ShapeDtypeStruct((*request.q.shape[:3], request.v.shape[-1]), request.q.dtype)
    return axes.local(run, arrays, names, names[0], out)

  def _within(
    self, request: Request, q: jax.Array, k: jax.Array, v: jax.Array, labels: Any, bias: Bias | None
  ) -> jax.Array:
    """What the engine within gives for all places of some heads."""
    kernel = named(self.engine) if isinstance(self.engine, str) else self.engine
    engine, own = prepare(
      q, k, v, request.pattern, bias=bias, labels=labels, scale=request.scale, kernel=kernel
    )
    return engine(own)


EXAMPLES = [Ulysses()]
