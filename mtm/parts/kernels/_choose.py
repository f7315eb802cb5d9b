"""The kernel seam: what every attention engine is given, and which one takes the call."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mtm.discovery import modules
from mtm.errors import UserError
from mtm.parts.bias import Bias
from mtm.parts.dropout import keep_mask
from mtm.parts.patterns._algebra import Pattern, visible
from mtm.parts.patterns.full import Full
from mtm.parts.patterns.segment import SameSegment


@dataclasses.dataclass(frozen=True)
class Request:
  """One attention: everything that a kernel must honour or refuse.

  Attributes:
    q: `[batch, queries, heads, head_dim]`.
    k, v: `[batch, keys, kv_heads, head_dim]`; `heads` is a multiple of `kv_heads`.
    pattern: who sees whom, segments included; the same for all heads.
    q_place, k_place: places of queries and keys for the pattern, `[queries]` or `[batch, queries]`.
    labels: per-token facts that the pattern reads, name → (`[batch, queries]`, `[batch, keys]`).
    bias: what is added to the scaled scores, or None.
    scale: what the scores are multiplied by.
    dropout: None, or (key, rate): attention probabilities to drop.
    aligned: whether both places are 0, 1, 2, ...: true outside decoding.
  """

  q: jax.Array
  k: jax.Array
  v: jax.Array
  pattern: Pattern
  q_place: jax.Array
  k_place: jax.Array
  labels: Mapping[str, tuple[jax.Array, jax.Array]]
  bias: Bias | None
  scale: float
  dropout: tuple[jax.Array, float] | None
  aligned: bool

  def bias_array(self) -> jax.Array | None:
    """The bias of all pairs, `[1 or batch, 1 or heads, queries, keys]`; None if there is none."""
    return None if self.bias is None else self.bias.dense(self.q_place, self.k_place)


class Kernel(Protocol):
  """An engine. A module of this package ends with `EXAMPLES`, its kernels; the first of them goes
  by the module's name and is a candidate for "auto"."""

  def supports(self, request: Request) -> str | None:
    """None if this engine honours every part of the request, else the reason why not."""

  def cost(self, request: Request) -> float:
    """About how long it takes for a request that it supports, in units of plain softmax over all
    pairs. Of several engines the cheapest is taken."""

  def __call__(self, request: Request) -> jax.Array:
    """`[batch, queries, heads, head_dim]` in the dtype of `q`; a row that sees nothing is 0."""


def attend(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  pattern: Pattern,
  *,
  bias: Bias | jax.Array | None = None,
  segment_ids: tuple[jax.Array, jax.Array] | None = None,
  labels: Mapping[str, tuple[jax.Array, jax.Array]] | None = None,
  positions: tuple[jax.Array, jax.Array] | None = None,
  scale: float | None = None,
  dropout: tuple[jax.Array, float] | None = None,
  kernel: Kernel | str = "auto",
) -> jax.Array:
  """Softmax attention of `q` over the keys that `pattern` shows.

  Args:
    q: `[batch, queries, heads, head_dim]`.
    k, v: `[batch, keys, kv_heads, head_dim]`; query head h reads key head h // (heads / kv_heads).
    pattern: who sees whom.
    bias: added to the scaled scores: `[1 or batch, 1 or heads, queries, keys]`, or a `Bias`, whose
      rules a sparse engine evaluates only where it looks; None for nothing.
    segment_ids: of queries and keys, `[batch, queries]` and `[batch, keys]`; a query sees keys of
      its own segment only, and none of segment 0.
    labels: further facts that `pattern` reads, name → (`[batch, queries]`, `[batch, keys]`).
    positions: places of queries and keys; None: 0, 1, 2, ... on both sides.
    scale: what scores are multiplied by; None: 1 / √head_dim.
    dropout: (PRNG key, rate), or None.
    kernel: the engine or its name; "auto": the cheapest one that supports the call.

  Returns:
    `[batch, queries, heads, head_dim]` in the dtype of `q`; a query that sees nothing gets 0.

  Raises:
    UserError: no engine has this name, the engine cannot honour an argument, `heads` is no multiple
      of `kv_heads`, or a pattern by head is for another number of heads.
  """
  engine, request = prepare(
    q, k, v, pattern, bias=bias, segment_ids=segment_ids, labels=labels, positions=positions,
    scale=scale, dropout=dropout, kernel=kernel,
  )  # fmt: skip
  return engine(request)


def prepare(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  pattern: Pattern,
  *,
  bias: Bias | jax.Array | None = None,
  segment_ids: tuple[jax.Array, jax.Array] | None = None,
  labels: Mapping[str, tuple[jax.Array, jax.Array]] | None = None,
  positions: tuple[jax.Array, jax.Array] | None = None,
  scale: float | None = None,
  dropout: tuple[jax.Array, float] | None = None,
  kernel: Kernel | str | None = None,
) -> tuple[Callable[[Request], jax.Array], Request]:
  """`attend` in two steps: the engine and the request that it supports. `engine(request)` is then
  the only frame between the caller and the engine. `kernel` None is "auto"."""
  if q.shape[2] % k.shape[2]:
    raise UserError(f"{q.shape[2]} query heads are no multiple of {k.shape[2]} key heads")
  labels = dict(labels or {})
  if segment_ids is not None:
    labels["segment"] = segment_ids
    pattern = pattern & SameSegment()
  places = positions or (jnp.arange(q.shape[1]), jnp.arange(k.shape[1]))
  if bias is not None and not isinstance(bias, Bias):
    bias = Bias(bias)
  request = Request(
    q, k, v, pattern, *places, labels, bias,
    q.shape[-1] ** -0.5 if scale is None else scale, dropout, aligned=positions is None,
  )  # fmt: skip
  engine = named(kernel) if isinstance(kernel, str) else kernel
  if pattern.by_head is not None:
    return functools.partial(_by_head, engine), request
  return _able(engine, request), request


def named(name: str) -> Kernel | None:
  """The engine of that name; None for "auto". Raises UserError if there is none."""
  found = {"auto": None, **_engines()}
  if name not in found:
    raise UserError(f"no attention kernel {name!r}; there are {', '.join(sorted(found))}")
  return found[name]


def _engines() -> dict[str, Kernel]:
  return {m.__name__.rpartition(".")[2]: m.EXAMPLES[0] for m in modules(__package__)}


def _able(kernel: Kernel | None, request: Request) -> Kernel:
  """`kernel`, or the cheapest that supports the request. Raises UserError if it does not."""
  if kernel is None:
    able = [kernel for kernel in _engines().values() if kernel.supports(request) is None]
    return min(able, key=lambda kernel: kernel.cost(request))  # `reference` supports every request
  reason = kernel.supports(request)
  if reason is not None:
    raise UserError(f"attention kernel {type(kernel).__name__} cannot run this: {reason}")
  return kernel


def _by_head(kernel: Kernel | None, request: Request) -> jax.Array:
  """Heads of one pattern together, each with the key head that it reads."""
  patterns, heads = request.pattern.by_head or (), request.q.shape[2]
  if len(patterns) != heads:
    raise UserError(f"a pattern for each of {len(patterns)} heads meets {heads} heads")
  shared = heads // request.k.shape[2]
  out = jnp.zeros((*request.q.shape[:3], request.v.shape[-1]), request.q.dtype)
  for index, pattern in enumerate(dict.fromkeys(patterns)):
    own = np.flatnonzero([other == pattern for other in patterns])
    part = dataclasses.replace(
      request,
      q=request.q[:, :, own],
      k=request.k[:, :, own // shared],
      v=request.v[:, :, own // shared],
      pattern=pattern,
      bias=None if request.bias is None else request.bias.of_heads(own),
      dropout=request.dropout
      and (jax.random.fold_in(request.dropout[0], index), request.dropout[1]),
    )
    out = out.at[:, :, own].set(_able(kernel, part)(part))
  return out


def seen_by(request: Request) -> jax.Array | None:
  """Which keys each query sees, bool `[1 or batch, 1, queries, keys]`; None where it is all."""
  if request.pattern == Full():
    return None
  seen = visible(request.pattern, request.q_place, request.k_place, request.labels)
  seen = jnp.expand_dims(seen, -3)  # heads
  return jnp.expand_dims(seen, tuple(range(4 - seen.ndim)))


def masked_softmax(s_BHLS: jax.Array, seen: jax.Array | None) -> jax.Array:
  """Softmax over the visible keys; 0 where a query sees none."""
  if seen is None:
    return jax.nn.softmax(s_BHLS, axis=-1)
  p = jax.nn.softmax(jnp.where(seen, s_BHLS, jnp.finfo(s_BHLS.dtype).min), axis=-1)
  return jnp.where(seen, p, 0.0)


def drop(p: jax.Array, dropout: tuple[jax.Array, float] | None) -> jax.Array:
  """Attention probabilities after dropout, for kernels that hold them."""
  if dropout is None or dropout[1] == 0.0:
    return p
  keep, probability = keep_mask(dropout[0], dropout[1], p.shape)
  return jnp.where(keep, p / probability, jnp.zeros((), p.dtype))
