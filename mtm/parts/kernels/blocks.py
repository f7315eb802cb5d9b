"""Block-sparse attention in plain XLA: time and memory go with what the pattern touches.

Queries and keys are cut into blocks. A loop takes a few query blocks at a time, gathers some of the
key blocks that they see, and no others, and puts softmax together from them (FlashAttention,
2205.14135, algorithm 1). The backward pass runs the same loop and recomputes the probabilities
(appendix B.2), so that nothing of size queries × keys is ever stored. It runs on every platform
that XLA compiles for.

Three things are for XLA on CPU: scores have keys as rows, so that the long side of a matmul is the
one that it need not pack; blocks are gathered in the order that matmuls want (`_gather`); and where
XLA takes the matmuls of a batch one after another on one core, a step has lanes that do not depend
on one another, of which it runs two at once.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtm.parts import _cpu
from mtm.parts.bias import Rule
from mtm.parts.dropout import keep_mask
from mtm.parts.kernels._choose import Request
from mtm.parts.kernels._gather import add, take, take_turned, turned, untake
from mtm.parts.kernels._schedule import Schedule, schedule
from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns._tiles import NONE, split, tiles

_BATCH = ((0, 1, 2), (0, 1, 2))  # example, key head, piece
_NOTHING = -1e30  # a score that no real one comes near, and whose differences are finite
_ONCE: dict[str, Any] = {"mode": "promise_in_bounds", "unique_indices": True}


@dataclasses.dataclass(frozen=True)
class Blocks:
  """Softmax in float32 over gathered key blocks.

  Attributes:
    block: places in a block.
    scores: how many scores one step of the loop holds, if its lanes do not need more: enough to
      keep matmuls busy, few enough to stay in a cache.
    lanes: into how many parts that do not depend on one another a step is cut at most.
    ahead: whether on one CPU the backward pass sums outputs times their gradients before its
      loop, not in each step, where lanes hide it. A GPU fuses it with a step's gathers.
  """

  block: int = 64
  scores: int = 2**19
  lanes: int = 1 if _cpu.BATCHES else 4
  ahead: bool = _cpu.BATCHES

  def supports(self, request: Request) -> str | None:
    """All but decoding and a bias that is an array."""
    if not request.aligned:
      return "queries and keys must stand at 0, 1, 2, ..."
    if request.bias is not None and request.bias.array is not None:
      return (
        "a bias given as an array has a value for every pair: give it as a rule (mtm.parts.bias)"
      )
    return None

  def cost(self, request: Request) -> float:
    """By the share of blocks that are looked at; gathering costs about as much as computing."""
    pattern, _ = split(request.pattern)
    lengths = request.q.shape[1], request.k.shape[1]
    if max(lengths) <= 4 * self.block:
      return 2.0
    return 2.0 * float((tiles(pattern, *lengths, self.block).map > 0).mean()) + 0.01

  def __call__(self, request: Request) -> jax.Array:
    q, k, v = request.q, request.k, request.v
    pattern, rest = split(request.pattern)
    key, rate = request.dropout or (None, 0.0)
    budget = max(self.scores // (q.shape[0] * q.shape[2] * self.block**2), 1)
    # Many examples and heads: few lanes, so as to save memory.
    lanes = min(self.lanes, max(budget // 8, 2))
    ahead = self.ahead and _cpu.alone()
    plan = _Plan(
      pattern, rest, q.shape[1], k.shape[1], self.block, budget, lanes, ahead, request.scale, rate
    )
    labels = {name: tuple(map(plan.cut, pair)) for name, pair in request.labels.items()}
    rules = () if request.bias is None else request.bias.rules
    out = _attend(plan, plan.cut(q), plan.cut(k), plan.cut(v), rules, labels, key if rate else None)
    return out.reshape(q.shape[0], -1, *out.shape[3:])[:, : q.shape[1]]


@dataclasses.dataclass(frozen=True)
class _Plan:
  """What is known before anything is computed: hashable, and the same for equal calls."""

  pattern: Pattern
  rest: Pattern | None
  q_len: int
  k_len: int
  block: int
  budget: int
  lanes: int
  ahead: bool
  scale: float
  rate: float

  @property
  def schedule(self) -> Schedule:
    return schedule(self.pattern, self.q_len, self.k_len, self.block, self.budget, self.lanes)

  def cut(self, x: jax.Array) -> jax.Array:
    """`[batch, length, ...]` → `[batch, blocks, block, ...]`, zeros behind the end."""
    x = jnp.pad(x, [(0, 0), (0, -x.shape[1] % self.block)] + [(0, 0)] * (x.ndim - 2))
    return x.reshape(x.shape[0], -1, self.block, *x.shape[2:])


class _Step(NamedTuple):
  """One turn of the loop or a lane of it, see `Group`, and its number."""

  rows: jax.Array
  columns: jax.Array
  mask_id: jax.Array
  number: jax.Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(
  plan: _Plan,
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  rules: tuple[Rule, ...],
  labels: Any,
  key: jax.Array | None,
) -> jax.Array:
  """Attention of blocks.

  Args:
    plan: the pattern and its blocks.
    q: `[batch, query blocks, block, heads, head_dim]`.
    k, v: `[batch, key blocks, block, kv_heads, head_dim]`.
    rules: what is added to the scores.
    labels: name → (`[batch, query blocks, block]`, `[batch, key blocks, block]`).
    key: of dropout, or None.

  Returns:
    the shape of `q`, with the width of `v`.
  """
  return _forward(plan, q, k, v, rules, labels, key)[0]


def _forward(plan, q, k, v, rules, labels, key):
  heads, v_T = k.shape[3], turned(v)

  def part(whole, step):
    q_C = take(q, step.rows[:, None], heads) * plan.scale
    k_C = take(k, step.columns, heads)
    s, _ = _scores(plan, whole, step, q_C, k_C, rules, labels)
    top = jnp.maximum(jnp.max(s, axis=3, keepdims=True), _NOTHING)
    p = jnp.exp(s - top)
    total = jnp.sum(p, axis=3, keepdims=True)
    some = jnp.where(total > 0, total, 1.0)
    p = _dropped(plan, step, p, key).astype(v.dtype)
    out = _dot(take_turned(v_T, step.columns, heads), p, 4, 3) / some
    norm = jnp.where(total > 0, top + jnp.log(some), _NOTHING)
    return untake(out, plan.block), untake(norm, plan.block)

  def turn(whole, lanes, carry, step):
    parts = zip(*(part(whole, lane) for lane in _lanes(step, lanes)), strict=True)
    new = [jnp.concatenate(x, axis=1) for x in parts]
    old = [x.at[:, step.rows].get(**_ONCE) for x in carry]
    norm = jnp.logaddexp(old[1], new[1])
    out = old[0] * jnp.exp(old[1] - norm) + new[0] * jnp.exp(new[1] - norm)
    put = [x.at[:, step.rows].set(y, **_ONCE) for x, y in zip(carry, (out, norm), strict=True)]
    return tuple(put), None

  out = jnp.zeros((*q.shape[:-1], v.shape[-1]), jnp.float32)
  carry = out, jnp.full((*q.shape[:-1], 1), _NOTHING, jnp.float32)
  for whole, lanes, steps in _loops(plan):
    carry, _ = jax.lax.scan(functools.partial(turn, whole, lanes), carry, steps)
  out, norm = carry[0].astype(q.dtype), carry[1]
  return out, (q, k, v, rules, labels, key, out, norm)


def _backward(plan, saved, g):
  q, k, v, rules, labels, key, out, norm = saved
  # Not before the forward pass is done with the values turned.
  later_k, _ = jax.lax.optimization_barrier((k, norm))
  heads, k_T = k.shape[3], turned(later_k)
  totals = _cpu.in_order(_products(g, out)) if plan.ahead else None

  def part(whole, step):
    q_C, g_C, norm_C = (take(x, step.rows[:, None], heads) for x in (q, g, norm))
    q_C = q_C * plan.scale
    if totals is None:
      total = _products(g_C, take(out, step.rows[:, None], heads))
    else:
      total = take(totals, step.rows[:, None], heads)
    total = jnp.swapaxes(total, 3, 4)
    k_C, v_C = take(k, step.columns, heads), take(v, step.columns, heads)
    s, pull = _scores(plan, whole, step, q_C, k_C, rules, labels)
    p = jnp.exp(s - jnp.swapaxes(norm_C, 3, 4))
    d_s = p * (_dropped(plan, step, _dot(v_C, g_C, 4, 4), key) - total)
    d_rules = pull(d_s)
    d_s = d_s.astype(q.dtype)
    p = _dropped(plan, step, p, key).astype(q.dtype)
    d_q = _dot(take_turned(k_T, step.columns, heads), d_s, 4, 3) * plan.scale
    return untake(d_q, plan.block), _dot(d_s, q_C, 4, 3), _dot(p, g_C, 4, 3), d_rules

  def turn(whole, lanes, carry, step):
    d_q, d_k, d_v, d_rules = carry
    parts = [(lane, *part(whole, lane)) for lane in _lanes(step, lanes)]
    d_q = d_q.at[:, step.rows].add(jnp.concatenate([x[1] for x in parts], axis=1), **_ONCE)
    for lane, _, of_k, of_v, of_rules in parts:
      d_k, d_v = add(d_k, lane.columns, of_k), add(d_v, lane.columns, of_v)
      d_rules = jax.tree.map(jnp.add, d_rules, of_rules)
    return (d_q, d_k, d_v, d_rules), None

  carry = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), (q, k, v, rules))
  for whole, lanes, steps in _loops(plan):
    carry, _ = jax.lax.scan(functools.partial(turn, whole, lanes), carry, steps)
  grads = jax.tree.map(lambda d, x: d.astype(x.dtype), carry, (q, k, v, rules))
  return *grads, None, None


_attend.defvjp(_forward, _backward)


def _scores(
  plan: _Plan, whole: bool, step: _Step, q: jax.Array, k: jax.Array, rules: Any, labels: Any
) -> Any:
  """Scores of a step, and the function from their gradient to that of `rules`.

  Args:
    plan, step: as ever.
    whole: whether every pair of blocks is seen wholly or not at all.
    q: `[batch, kv_heads, at_once, group · block, head_dim]`.
    k: `[batch, kv_heads, at_once, width · block, head_dim]`.
    rules, labels: as in `_attend`.

  Returns:
    float32 `[batch, kv_heads, at_once, width · block, group · block]`, below `_NOTHING` where
    nothing is seen; and the function.
  """
  s = _dot(k, q, 4, 4)
  batch, kv_heads, at_once, keys, queries = s.shape
  apart = (batch, kv_heads, at_once, keys, queries // plan.block, plan.block)
  within = jnp.arange(plan.block)
  q_place = step.rows[:, None] * plan.block + within[None]
  k_place = step.columns[..., None] * plan.block + within[None, None]
  k_place = k_place.reshape(at_once, keys)

  def biased(rules: Any) -> jax.Array:
    added = sum((rule(q_place, k_place) for rule in rules), start=jnp.zeros((), jnp.float32))
    added = added.reshape(at_once, kv_heads, -1, plan.block, keys)
    return jnp.transpose(added, (1, 0, 4, 2, 3))[None].astype(jnp.float32)

  s = s.reshape(apart)
  pull = lambda d_s: ()  # noqa: E731
  if rules:
    added, transpose = jax.vjp(biased, rules)
    s = s + added
    pull = lambda d_s: transpose(jnp.sum(d_s.reshape(apart), axis=0, keepdims=True))[0]  # noqa: E731
  if whole:
    seen = jnp.repeat(step.mask_id != NONE, plan.block, axis=1)[None, None, ..., None, None]
  else:
    masks = jnp.asarray(np.swapaxes(plan.schedule.masks, 1, 2))
    seen = masks[step.mask_id].reshape(1, 1, at_once, keys, 1, plan.block)
  if plan.rest is not None:
    pairs = {
      name: (of_q[:, step.rows][..., None], of_k[:, step.columns].reshape(batch, at_once, 1, -1))
      for name, (of_q, of_k) in labels.items()
    }
    shown = plan.rest.visible(q_place[None, :, :, None], k_place[None, :, None, :], pairs)
    seen = seen & jnp.swapaxes(shown, 2, 3)[:, None, :, :, None]
  s = jnp.where(seen, s, 2 * _NOTHING)
  return s.reshape(batch, kv_heads, at_once, keys, queries), pull


def _loops(plan: _Plan) -> list[tuple[bool, int, _Step]]:
  """Of each group whether it has whole blocks only, in how many lanes its steps are cut, and the
  steps as JAX arrays, counted through."""
  loops, done = [], 0
  for group in plan.schedule.groups:
    number = (done + jnp.arange(len(group.rows))) * plan.lanes
    rows, columns, mask_id = (jnp.asarray(x) for x in group)
    lanes = math.gcd(group.rows.shape[1], plan.lanes)
    loops.append((group.whole, lanes, _Step(rows, columns, mask_id, number)))
    done += len(group.rows)
  return loops


def _lanes(step: _Step, lanes: int) -> list[_Step]:
  """`step` cut into as many parts, with numbers of their own."""
  rows, columns, mask_id = (jnp.split(x, lanes) for x in step[:3])
  number = [step.number + index for index in range(lanes)]
  return [_Step(*part) for part in zip(rows, columns, mask_id, number, strict=True)]


def _dot(a: jax.Array, b: jax.Array, of_a: int, of_b: int) -> jax.Array:
  """Float32 sums over axis `of_a` of `a` and `of_b` of `b`, for each example, head and piece."""
  contracted = ((of_a,), (of_b,))
  return jax.lax.dot_general(a, b, (contracted, _BATCH), preferred_element_type=jnp.float32)


def _products(a: jax.Array, b: jax.Array) -> jax.Array:
  """Float32 sums of products over the last axis, which stays."""
  return jnp.sum(a.astype(jnp.float32) * b.astype(jnp.float32), axis=-1, keepdims=True)


def _dropped(plan: _Plan, step: _Step, p: jax.Array, key: jax.Array | None) -> jax.Array:
  """`p` where it is kept, scaled to keep the mean; the same draw whenever a step runs."""
  if key is None:
    return p
  keep, probability = keep_mask(jax.random.fold_in(key, step.number), plan.rate, p.shape)
  return jnp.where(keep, p / probability, 0.0)


EXAMPLES = [
  Blocks(ahead=True),
  Blocks(block=4, scores=256, lanes=2, ahead=False),
]
