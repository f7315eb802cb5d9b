"""Block-sparse attention in plain XLA: time and memory go with what the pattern touches.

Queries and keys are cut into blocks. A loop takes a few query blocks at a time, gathers the key
blocks that they see, and no others, and computes softmax over them. The backward pass runs the same
loop and recomputes the probabilities (FlashAttention, 2205.14135, appendix B.2), so that nothing of
size queries × keys is ever stored. It runs on every platform that XLA compiles for.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtm.parts.bias import Rule
from mtm.parts.dropout import keep_mask
from mtm.parts.kernels._choose import Request
from mtm.parts.kernels._schedule import Group, Schedule, schedule
from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns._tiles import ALL, NONE, split, tiles

_BATCH = ((0, 1, 2), (0, 1, 2))  # example, key head, query block
_NOTHING = -1e30  # a score that no real one comes near, and whose differences are finite


@dataclasses.dataclass(frozen=True)
class Blocks:
  """Softmax in float32 over gathered key blocks.

  Attributes:
    block: places in a block.
    scores: how many scores one step of the loop holds, if one query block does not need more:
      enough to keep matmuls busy, few enough to stay in a cache.
  """

  block: int = 64
  scores: int = 2**18

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
    q, k, v = request.q * request.scale, request.k, request.v
    pattern, rest = split(request.pattern)
    key, rate = request.dropout or (None, 0.0)
    budget = self.scores // (q.shape[0] * q.shape[2] * self.block**2)
    plan = _Plan(pattern, rest, q.shape[1], k.shape[1], self.block, max(budget, 1), rate)
    labels = {name: tuple(map(plan.cut_label, pair)) for name, pair in request.labels.items()}
    rules = () if request.bias is None else request.bias.rules
    shared = q.shape[2] // k.shape[2]
    out = _attend(
      plan, plan.cut(q, shared), plan.cut(k), plan.cut(v), rules, labels, key if rate else None
    )
    return plan.joined(out, q.shape, shared)


@dataclasses.dataclass(frozen=True)
class _Plan:
  """What is known before anything is computed: hashable, and the same for equal calls."""

  pattern: Pattern
  rest: Pattern | None
  q_len: int
  k_len: int
  block: int
  budget: int
  rate: float

  @property
  def schedule(self) -> Schedule:
    return schedule(self.pattern, self.q_len, self.k_len, self.block, self.budget)

  def cut(self, x: jax.Array, shared: int = 1) -> jax.Array:
    """`[batch, length, heads, width]` → `[batch, heads / shared, blocks, shared · block,
    width]`."""
    batch, _, heads, width = x.shape
    x = _padded(x, self.block)
    x = x.reshape(batch, -1, self.block, heads // shared, shared, width)
    x = jnp.transpose(x, (0, 3, 1, 4, 2, 5))
    return x.reshape(batch, heads // shared, -1, shared * self.block, width)

  def joined(self, x: jax.Array, shape: tuple[int, ...], shared: int) -> jax.Array:
    """What `cut` cut, in its old order and length."""
    batch, length, heads, _ = shape
    x = x.reshape(batch, heads // shared, -1, shared, self.block, x.shape[-1])
    x = jnp.transpose(x, (0, 2, 4, 1, 3, 5))
    return x.reshape(batch, -1, heads, x.shape[-1])[:, :length]

  def cut_label(self, x: jax.Array) -> jax.Array:
    """`[batch, length]` → `[batch, blocks, block]`."""
    return _padded(x, self.block).reshape(x.shape[0], -1, self.block)


class _Step(NamedTuple):
  """One turn of the loop, see `Group`, and its number."""

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
    q: `[batch, kv_heads, query blocks, group · block, head_dim]`, scaled; group: the query heads
      that share a key head.
    k, v: `[batch, kv_heads, key blocks, block, head_dim]`.
    rules: what is added to the scores.
    labels: name → (`[batch, query blocks, block]`, `[batch, key blocks, block]`).
    key: of dropout, or None.

  Returns:
    the shape of `q`.
  """
  return _forward(plan, q, k, v, rules, labels, key)[0]


def _forward(plan, q, k, v, rules, labels, key):
  def turn(whole, _, step):
    s, _ = _scores(plan, whole, step, _take(q, step.rows), _gather(k, step.columns), rules, labels)
    top = jnp.max(s, axis=-1, keepdims=True)
    p = jnp.where(s > _NOTHING, jnp.exp(s - top), 0.0)
    total = jnp.sum(p, axis=-1, keepdims=True)
    p = _dropped(plan, step, p, key).astype(v.dtype)
    out = _dot(p, _gather(v, step.columns), 4, 3) / jnp.where(total > 0, total, 1.0)
    norm = jnp.where(total > 0, top + jnp.log(jnp.where(total > 0, total, 1.0)), 0.0)
    return None, (out.astype(q.dtype), norm[..., 0])

  outs, norms = [], []
  for whole, steps in _numbered(plan.schedule.groups):
    _, (out, norm) = jax.lax.scan(functools.partial(turn, whole), None, steps)
    outs.append(out)
    norms.append(norm)
  out, norm = _in_order(plan, outs, q.shape), _in_order(plan, norms, q.shape[:-1])
  return out, (q, k, v, rules, labels, key, out, norm)


def _backward(plan, saved, g):
  q, k, v, rules, labels, key, out, norm = saved
  total = jnp.sum(g.astype(jnp.float32) * out.astype(jnp.float32), axis=-1)

  def turn(whole, carry, step):
    d_k, d_v, d_rules = carry
    q_C, g_C, k_C, v_C = (
      *(_take(x, step.rows) for x in (q, g)),
      *(_gather(x, step.columns) for x in (k, v)),
    )
    s, pull = _scores(plan, whole, step, q_C, k_C, rules, labels)
    p = jnp.where(s > _NOTHING, jnp.exp(s - _take(norm, step.rows)[..., None]), 0.0)
    d_p = _dropped(plan, step, _dot(g_C, v_C, 4, 4), key)
    d_s = p * (d_p - _take(total, step.rows)[..., None])
    d_rules = jax.tree.map(jnp.add, d_rules, pull(d_s))
    d_s = d_s.astype(q.dtype)
    p = _dropped(plan, step, p, key).astype(q.dtype)
    d_k = _scatter(d_k, step.columns, _dot(d_s, q_C, 3, 3))
    d_v = _scatter(d_v, step.columns, _dot(p, g_C, 3, 3))
    return (d_k, d_v, d_rules), _dot(d_s, k_C, 4, 3).astype(q.dtype)

  carry = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), (k, v, rules))
  d_qs = []
  for whole, steps in _numbered(plan.schedule.groups):
    carry, d_q = jax.lax.scan(functools.partial(turn, whole), carry, steps)
    d_qs.append(d_q)
  d_k, d_v, d_rules = carry
  d_rules = jax.tree.map(lambda d, x: d.astype(x.dtype), d_rules, rules)
  d_q = _in_order(plan, d_qs, q.shape)
  return d_q, d_k.astype(k.dtype), d_v.astype(v.dtype), d_rules, None, None


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
    float32 `[batch, kv_heads, at_once, group · block, width · block]`, below `_NOTHING` where
    nothing is seen; and the function.
  """
  s = _dot(q, k, 4, 4)
  batch, kv_heads, at_once, rows, columns = s.shape
  apart = (batch, kv_heads, at_once, rows // plan.block, plan.block, columns)
  within = jnp.arange(plan.block)
  q_place = step.rows[:, None] * plan.block + within[None]
  k_place = step.columns[..., None] * plan.block + within[None, None]
  k_place = k_place.reshape(at_once, columns)

  def biased(rules: Any) -> jax.Array:
    added = sum((rule(q_place, k_place) for rule in rules), start=jnp.zeros((), jnp.float32))
    added = jnp.moveaxis(added, 0, 1).reshape(1, kv_heads, -1, at_once, plan.block, columns)
    return jnp.moveaxis(added, 2, 3).astype(jnp.float32)

  s = s.reshape(apart)
  pull = lambda d_s: ()  # noqa: E731
  if rules:
    added, transpose = jax.vjp(biased, rules)
    s = s + added
    pull = lambda d_s: transpose(jnp.sum(d_s.reshape(apart), axis=0, keepdims=True))[0]  # noqa: E731
  if whole:
    seen = jnp.repeat(step.mask_id != NONE, plan.block, axis=1)[None, None, :, None, None]
  else:
    seen = jnp.swapaxes(jnp.asarray(plan.schedule.masks)[step.mask_id], 1, 2)
    seen = seen.reshape(1, 1, at_once, 1, plan.block, columns)
  if plan.rest is not None:
    pairs = {
      name: (of_q[:, step.rows][..., None], of_k[:, step.columns].reshape(batch, at_once, 1, -1))
      for name, (of_q, of_k) in labels.items()
    }
    shown = plan.rest.visible(q_place[None, :, :, None], k_place[None, :, None, :], pairs)
    seen = seen & shown[:, None, :, None]
  return jnp.where(seen, s, 2 * _NOTHING).reshape(batch, kv_heads, at_once, rows, columns), pull


def _numbered(groups: tuple[Group, ...]) -> list[tuple[bool, _Step]]:
  """The groups as JAX arrays, and whether each has whole blocks only; the steps of all of them are
  counted through."""
  steps, done = [], 0
  for group in groups:
    whole = bool(np.isin(group.mask_id, (ALL, NONE)).all())
    number = done + jnp.arange(len(group.rows))
    rows, columns, mask_id = (jnp.asarray(x) for x in group)
    steps.append((whole, _Step(rows, columns, mask_id, number)))
    done += len(group.rows)
  return steps


def _in_order(plan: _Plan, parts: list[jax.Array], shape: tuple[int, ...]) -> jax.Array:
  """The outputs of all steps, `[steps, batch, kv_heads, at_once, ...]` each, as `shape` `[batch,
  kv_heads, query blocks, ...]`; 0 for a block that was in no group."""
  joined = [jnp.moveaxis(x, 0, 2).reshape(*shape[:2], -1, *shape[3:]) for x in parts]
  place = plan.schedule.place
  if (place == sum(x.shape[2] for x in joined)).any():
    joined.append(
      jnp.zeros((*shape[:2], 1, *shape[3:]), joined[0].dtype if joined else jnp.float32)
    )
  return jnp.concatenate(joined, axis=2)[:, :, place]


def _take(x: jax.Array, rows: jax.Array) -> jax.Array:
  return x.at[:, :, rows].get(mode="promise_in_bounds")


def _gather(x: jax.Array, columns: jax.Array) -> jax.Array:
  """`[batch, heads, blocks, block, width]` at `[at_once, n]` → `[batch, heads, at_once, n · block,
  width]`."""
  chosen = _take(x, columns)
  return chosen.reshape(*x.shape[:2], columns.shape[0], -1, x.shape[-1])


def _scatter(total: jax.Array, columns: jax.Array, part: jax.Array) -> jax.Array:
  """Adds what `_gather` would have taken."""
  part = part.reshape(*total.shape[:2], *columns.shape, *total.shape[3:])
  return total.at[:, :, columns].add(part, mode="promise_in_bounds")


def _dot(a: jax.Array, b: jax.Array, of_a: int, of_b: int) -> jax.Array:
  """Float32 sums over axis `of_a` of `a` and `of_b` of `b`, for each example, head and block."""
  contracted = ((of_a,), (of_b,))
  return jax.lax.dot_general(a, b, (contracted, _BATCH), preferred_element_type=jnp.float32)


def _dropped(plan: _Plan, step: _Step, p: jax.Array, key: jax.Array | None) -> jax.Array:
  """`p` where it is kept, scaled to keep the mean; the same draw whenever a step runs."""
  if key is None:
    return p
  keep, probability = keep_mask(jax.random.fold_in(key, step.number), plan.rate, p.shape)
  return jnp.where(keep, p / probability, 0.0)


def _padded(x: jax.Array, block: int) -> jax.Array:
  """Zeros behind `[batch, length, ...]` to a multiple of `block`."""
  return jnp.pad(x, [(0, 0), (0, -x.shape[1] % block)] + [(0, 0)] * (x.ndim - 2))


EXAMPLES = [Blocks(), Blocks(block=4, scores=256)]
