"""Ring attention (2310.01889): the devices that share a sequence pass its keys around in a circle.

Each device has the queries of its own places and puts softmax together from the keys that come by;
no device ever holds more than its share. Pieces that the pattern leaves empty are skipped, and
turns of the circle at which nobody has anything to do are not made, so that a window asks its
neighbours only. Under a causal pattern the last places would have all the work: where that saves
time each device takes a chunk from the front and its mirror image from the back.

The backward pass goes round again and recomputes the probabilities; the gradients of keys travel
with them. Dropout drops what `reference` drops on one device.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mtm import axes
from mtm.parts.dropout import threshold, words
from mtm.parts.kernels._choose import Request
from mtm.parts.kernels._circle import Circle, circle
from mtm.parts.patterns._algebra import Pattern, visible
from mtm.parts.patterns._tiles import split

_NOTHING = -1e30  # a score that no real one comes near, and whose differences are finite
_ALONE = 3.0  # on one device others do the same for less
AWARE = 1e-3  # the others would gather all keys on every device: whatever they cost, this is less
_UNROLLED = 4  # so many turns of the circle are written out; more are a loop over all of them


@dataclasses.dataclass(frozen=True)
class Ring:
  """Softmax in float32 over keys that travel.

  Attributes:
    block: keys of a piece, at most.
  """

  block: int = 512

  def supports(self, request: Request) -> str | None:
    """All but decoding, cross-attention to another length, and a bias that is an array."""
    return refusal(request)

  def cost(self, request: Request) -> float:
    """The busiest device's share of all pairs, and what it sends."""
    ways = axes.ways("length")
    if ways == 1:
      return _ALONE
    heads, kv_heads = request.q.shape[2], request.k.shape[2]
    plan = self._circle(request)
    sent = 2 * kv_heads * (len(plan.steps) - 1) + plan.folded * 2 * (heads + kv_heads)
    return AWARE * (plan.share + sent / (ways * heads))

  def __call__(self, request: Request) -> jax.Array:
    key, rate = request.dropout or (None, 0.0)
    plan = _Plan(self._circle(request), request.pattern, request.q.shape[2], request.scale, rate)
    rules = () if request.bias is None else request.bias.rules
    extra, shape = jax.tree.flatten((request.labels, rules, key if rate else None))
    arrays = [request.q, request.k, request.v, *extra]
    labels = 2 * len(request.labels)
    names: list[tuple[str | None, ...]] = [("batch", "length", "heads", None)]
    names += [("batch", "length", "kv_heads", None)] * 2 + [("batch", "length")] * labels
    names += [(None,) * jnp.ndim(x) for x in extra[labels:]]

    def run(q: jax.Array, k: jax.Array, v: jax.Array, *extra: jax.Array) -> jax.Array:
      labels, rules, key = jax.tree.unflatten(shape, extra)
      q, k, v, labels = jax.tree.map(plan.circle.fold, (q, k, v, labels))
      return plan.circle.unfold(_attend(plan, q, k, v, rules, labels, key))

    out = jax.ShapeDtypeStruct((*request.q.shape[:3], request.v.shape[-1]), request.q.dtype)
    return axes.local(run, arrays, names, names[0], out)

  def _circle(self, request: Request) -> Circle:
    pattern, _ = split(request.pattern)
    return circle(pattern, request.q.shape[1], axes.ways("length"), self.block)


def refusal(request: Request) -> str | None:
  """Why an engine for cut lengths cannot take this; None if it can."""
  if not request.aligned:
    return "queries and keys must stand at 0, 1, 2, ..."
  if request.q.shape[1] != request.k.shape[1]:
    return "queries and keys must be those of one sequence"
  if request.bias is not None and request.bias.array is not None:
    return "a bias given as an array has a value for every pair: give it as a rule (mtm.parts.bias)"
  sizes = {
    "batch": request.q.shape[0],
    "length": request.q.shape[1],
    "heads": request.q.shape[2],
    "kv_heads": request.k.shape[2],
  }
  for name, size in sizes.items():
    if size % axes.ways(name):
      return f"the mesh cuts {name} into {axes.ways(name)}, which does not divide {size}"
  return None


@dataclasses.dataclass(frozen=True)
class _Plan:
  """What is known before anything is computed: hashable, and the same for equal calls."""

  circle: Circle
  pattern: Pattern
  heads: int
  scale: float
  rate: float


class _Piece(NamedTuple):
  """Queries of a chunk and keys of a piece: where they stand, and whether any see any."""

  q_place: jax.Array
  k_place: jax.Array
  active: jax.Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(
  plan: _Plan,
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  rules: Any,
  labels: Any,
  key: jax.Array | None,
) -> jax.Array:
  """Attention of a device's chunks.

  Args:
    plan: the pattern and the circle.
    q: `[batch, chunks, chunk, heads, head_dim]`.
    k, v: `[batch, chunks, chunk, kv_heads, head_dim]`.
    rules: what is added to the scores.
    labels: name → (of queries, of keys), each `[batch, chunks, chunk]`.
    key: of dropout, or None.

  Returns:
    the shape of `q`, with the width of `v`.
  """
  return _forward(plan, q, k, v, rules, labels, key)[0]


def _forward(plan, q, k, v, rules, labels, key):
  q_BCGRLK, k_BCGLK, v_BCGLK = _heads_first(q, k.shape[3]), _turned(k), _turned(v)
  of_q = {name: pair[0] for name, pair in labels.items()}
  travelling = k_BCGLK, v_BCGLK, {name: pair[1] for name, pair in labels.items()}
  shape = q_BCGRLK.shape[:-1]
  zero = jnp.zeros((*shape, v.shape[-1]), jnp.float32)
  carry = zero, jnp.full(shape, _NOTHING, jnp.float32), jnp.zeros(shape, jnp.float32)

  def turn(carry, travelling, step):
    def one(chunk, own, piece, k_p, v_p, of_k):
      out, top, total = own
      s, seen = _scores(plan, q_BCGRLK[:, chunk], k_p, rules, of_q, of_k, chunk, piece)[:2]
      new = jnp.maximum(top, jnp.max(s, axis=-1))
      p = jnp.where(seen, jnp.exp(s - new[..., None]), 0.0)
      old = jnp.exp(top - new)
      kept = _dropped(plan, piece, p, key).astype(v_p.dtype)
      more = jnp.einsum("bgrls,bgsk->bgrlk", kept, v_p, preferred_element_type=jnp.float32)
      return out * old[..., None] + more, new, total * old + jnp.sum(p, axis=-1)

    return _every(plan, carry, travelling, step, one), travelling

  carry, _ = _around(plan, turn, carry, travelling)
  out, top, total = carry
  some = jnp.where(total > 0, total, 1.0)
  out_BCGRLK = (out / some[..., None]).astype(q.dtype)
  norm = jnp.where(total > 0, top + jnp.log(some), 0.0)
  return _heads_last(out_BCGRLK), (q, k, v, rules, labels, key, out_BCGRLK, norm)


def _backward(plan, saved, g):
  q, k, v, rules, labels, key, out, norm = saved
  q_BCGRLK, g_BCGRLK = _heads_first(q, k.shape[3]), _heads_first(g, k.shape[3])
  of_q = {name: pair[0] for name, pair in labels.items()}
  delta = jnp.sum(g_BCGRLK.astype(jnp.float32) * out.astype(jnp.float32), axis=-1)
  k_BCGLK, v_BCGLK = _turned(k), _turned(v)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), (k_BCGLK, v_BCGLK))
  travelling = (k_BCGLK, v_BCGLK, {name: pair[1] for name, pair in labels.items()}), zeros
  carry = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), (q_BCGRLK, rules))

  def turn(carry, travelling, step):
    d_q, d_rules = carry
    there, (d_k, d_v) = travelling

    def one(chunk, own, piece, k_p, v_p, of_k):
      d_q, d_rules = own
      q_C, g_C = q_BCGRLK[:, chunk], g_BCGRLK[:, chunk]
      s, seen, pull = _scores(plan, q_C, k_p, rules, of_q, of_k, chunk, piece)
      p = jnp.where(seen, jnp.exp(s - norm[:, chunk, ..., None]), 0.0)
      d_p = jnp.einsum("bgrlk,bgsk->bgrls", g_C, v_p, preferred_element_type=jnp.float32)
      d_s = p * (_dropped(plan, piece, d_p, key) - delta[:, chunk, ..., None])
      d_rules = jax.tree.map(jnp.add, d_rules, pull(d_s))
      d_s, kept = d_s.astype(q.dtype), _dropped(plan, piece, p, key).astype(q.dtype)
      to_q, to_k = "bgrls,bgsk->bgrlk", "bgrls,bgrlk->bgsk"
      more = jnp.einsum(to_q, d_s, k_p, preferred_element_type=jnp.float32) * plan.scale
      own_k = jnp.einsum(to_k, d_s, q_C, preferred_element_type=jnp.float32) * plan.scale
      own_v = jnp.einsum(to_k, kept, g_C, preferred_element_type=jnp.float32)
      return (d_q + more, d_rules), (own_k, own_v)

    (d_q, d_rules), (more_k, more_v) = _every_back(plan, (d_q, d_rules), there, step, one)
    return (d_q, d_rules), (there, (d_k + more_k, d_v + more_v))

  (d_q, d_rules), (_, (d_k, d_v)) = _around(plan, turn, carry, travelling, home=True)
  grads = _heads_last(d_q), _turned(d_k), _turned(d_v), d_rules
  grads = jax.tree.map(lambda d, x: d.astype(x.dtype), grads, (q, k, v, rules))
  return *grads, None, None


_attend.defvjp(_forward, _backward)


def _around(
  plan: _Plan, turn: Callable[..., Any], carry: Any, travelling: Any, home: bool = False
) -> Any:
  """Runs `turn(carry, travelling, step)` at the steps of the circle at which anybody has work.

  Args:
    plan, turn, carry: as ever.
    travelling: what is passed on; `home`: and must be back in the end.
  """
  everybody, (steps, ways) = axes.peers("length"), (plan.circle.steps, plan.circle.ways)
  if len(steps) > _UNROLLED:

    def body(state: Any, step: jax.Array) -> Any:
      carry, travelling = turn(*state, step)
      return (carry, everybody.turn(travelling, 1)), None

    return jax.lax.scan(body, (carry, travelling), jnp.arange(ways, dtype=jnp.int32))[0]
  at = 0
  for step in steps:
    travelling = everybody.turn(travelling, step - at)
    carry, travelling = turn(carry, travelling, jnp.int32(step))
    at = step
  return carry, everybody.turn(travelling, -at % ways) if home else travelling


def _every(plan: _Plan, carry: Any, there: Any, step: jax.Array, one: Callable[..., Any]) -> Any:
  """`carry` after `one` for each chunk of queries and each piece of keys that it sees any of."""
  with_nothing = lambda *args: (one(*args), ())  # noqa: E731
  carries = []
  for chunk in range(plan.circle.chunks):
    own = jax.tree.map(lambda x: x[:, chunk], carry)  # noqa: B023
    carries.append(_pieces(plan, chunk, own, there, step, with_nothing, ())[0])
  return jax.tree.map(lambda *parts: jnp.stack(parts, axis=1), *carries)


def _every_back(
  plan: _Plan, carry: Any, there: Any, step: jax.Array, one: Callable[..., Any]
) -> Any:
  """The same in the backward pass; and the gradients of the keys and values that are there."""
  (d_q, d_rules), (k, v, _) = carry, there
  pieces = plan.circle.chunks * plan.circle.pieces
  nothing = tuple(
    jnp.zeros((*x.shape[:1], x.shape[2], x.shape[3] // plan.circle.pieces, x.shape[-1]))
    for x in (k, v)
  )
  queries, keys = [], None
  for chunk in range(plan.circle.chunks):
    own = d_q[:, chunk], d_rules
    (own_q, d_rules), more = _pieces(plan, chunk, own, there, step, one, nothing)
    queries.append(own_q)
    keys = more if keys is None else jax.tree.map(jnp.add, keys, more)

  def joined(x: jax.Array) -> jax.Array:  # [pieces, batch, kv_heads, piece, width]
    x = x.reshape(plan.circle.chunks, pieces // plan.circle.chunks, *x.shape[1:])
    x = jnp.transpose(x, (2, 0, 3, 1, 4, 5))
    return x.reshape(*x.shape[:3], -1, x.shape[-1])

  return (jnp.stack(queries, axis=1), d_rules), jax.tree.map(joined, keys)


def _pieces(
  plan: _Plan, chunk: int, own: Any, there: Any, step: jax.Array, one: Callable[..., Any],
  nothing: Any,
) -> Any:  # fmt: skip
  """Runs `one(chunk, own, piece, k, v, labels)` over the pieces of the keys that are there."""
  around, me = plan.circle, axes.peers("length").index()
  k, v, of_k = there
  owner = (me - step) % around.ways

  def body(own: Any, number: jax.Array) -> Any:
    its_chunk, within = number // around.pieces, number % around.pieces
    piece = around.piece(me, chunk, owner, its_chunk, within)

    def part(x: jax.Array, axis: int) -> jax.Array:
      whole = jax.lax.dynamic_index_in_dim(x, its_chunk, 1, keepdims=False)
      return jax.lax.dynamic_slice_in_dim(
        whole, within * around.piece_size, around.piece_size, axis
      )

    def look(own: Any) -> Any:
      labels = {name: part(x, 1) for name, x in of_k.items()}
      return one(chunk, own, _Piece(*piece), part(k, 2), part(v, 2), labels)

    return jax.lax.cond(piece[2], look, lambda own: (own, nothing), own)

  count = jnp.arange(around.chunks * around.pieces, dtype=jnp.int32)
  return jax.lax.scan(body, own, count)


def _scores(
  plan: _Plan, q: jax.Array, k: jax.Array, rules: Any, of_q: Any, of_k: Any, chunk: int,
  piece: _Piece,
) -> Any:  # fmt: skip
  """Scores `[batch, kv_heads, group, queries, keys]` in float32, which of them are seen, and the
  function from their gradient to that of `rules`."""
  s = jnp.einsum("bgrlk,bgsk->bgrls", q * plan.scale, k, preferred_element_type=jnp.float32)
  heads = axes.peers("heads").index() * (s.shape[1] * s.shape[2])

  def biased(rules: Any) -> jax.Array:
    places = piece.q_place[None], piece.k_place[None]
    added = sum((rule(*places) for rule in rules), start=jnp.zeros((), jnp.float32))
    own = jax.lax.dynamic_slice_in_dim(added, heads, s.shape[1] * s.shape[2], axis=1)
    return own.reshape(1, *s.shape[1:]).astype(jnp.float32)

  pull = lambda d_s: ()  # noqa: E731
  if rules:
    added, transpose = jax.vjp(biased, rules)
    s = s + added
    pull = lambda d_s: transpose(jnp.sum(d_s, axis=0, keepdims=True))[0]  # noqa: E731
  labels = {name: (of_q[name][:, chunk], of_k[name]) for name in of_q}
  seen = visible(plan.pattern, piece.q_place, piece.k_place, labels)
  seen = jnp.expand_dims(seen, (-4, -3)) if seen.ndim == 3 else seen[None, None, None]
  return jnp.where(seen, s, 2 * _NOTHING), seen, pull


def _dropped(plan: _Plan, piece: _Piece, p: jax.Array, key: jax.Array | None) -> jax.Array:
  """`p` where it is kept, scaled to keep the mean: what `drop` does to the whole on one device."""
  if key is None:
    return p
  batch, kv_heads, group, queries, _ = p.shape
  own = axes.peers("heads").index() * (kv_heads * group)
  head = own + jnp.arange(kv_heads * group, dtype=jnp.int32).reshape(kv_heads, group, 1)
  row = axes.peers("batch").index() * batch + jnp.arange(batch, dtype=jnp.int32)
  row = row.reshape(batch, 1, 1, 1) * plan.heads + head[None]
  row = row * plan.circle.length + piece.q_place.reshape(1, 1, 1, queries)
  column = piece.k_place.astype(jnp.uint32).reshape(1, 1, 1, 1, -1)
  least, probability = threshold(plan.rate)
  kept = words(key, row[..., None].astype(jnp.uint32), column) >= least
  return jnp.where(kept, p / probability, 0.0)


def _heads_first(x: jax.Array, kv_heads: int) -> jax.Array:
  """`[batch, chunks, chunk, heads, width]` → `[batch, chunks, kv_heads, group, chunk, width]`."""
  x = x.reshape(*x.shape[:3], kv_heads, -1, x.shape[-1])
  return jnp.transpose(x, (0, 1, 3, 4, 2, 5))


def _heads_last(x: jax.Array) -> jax.Array:
  """The inverse of `_heads_first`."""
  x = jnp.transpose(x, (0, 1, 4, 2, 3, 5))
  return x.reshape(*x.shape[:3], -1, x.shape[-1])


def _turned(x: jax.Array) -> jax.Array:
  """`[batch, chunks, chunk, kv_heads, width]` ↔ `[batch, chunks, kv_heads, chunk, width]`."""
  return jnp.swapaxes(x, 2, 3)


EXAMPLES = [Ring(), Ring(block=4)]
