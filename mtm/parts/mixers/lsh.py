"""Attention by locality-sensitive hashing (Reformer, 2001.04451 §2): tokens that hash alike meet.

Letters beyond those of `mtm.axes`: R is the rounds of hashing; N, C, Q and S are those of
`mtm.parts.mixers._chunks`, where a row's rounds stand one after another in C.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm.axes import constrain
from mtm.errors import UserError
from mtm.parts import cache as kv
from mtm.parts.context import Aux, Context
from mtm.parts.dropout import Dropout
from mtm.parts.linear import Dense, Initializer
from mtm.parts.mixers._chunks import HIDDEN, Facts, around, cut, facts, sees
from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns.full import Full

ITSELF = -1e5  # a token's score of itself: above what is hidden, below all that is seen


@dataclasses.dataclass(frozen=True)
class Hashing:
  """Angular hashing (1509.02897): of random directions and their opposites, the nearest one.

  Attributes:
    buckets: how many there are, an even number; or several, whose hashes are combined into one of
      their product; None: about twice as many as there are chunks.
    rounds: how often all is hashed, with other directions.
    seed: draws the directions, for all layers alike; None: in training every layer and step draws
      its own, and elsewhere the seed is 0.
    limit: with `buckets` None, more than these are made of two factors; None: never.
  """

  buckets: int | tuple[int, ...] | None = None
  rounds: int = 1
  seed: int | None = None
  limit: int | None = None

  def factors(self, length: int, chunk: int) -> tuple[int, ...]:
    """The numbers of buckets that are combined. Raises UserError where one is odd."""
    if self.buckets is None:
      power = (2 * (length // chunk)).bit_length() - 1
      if self.limit is None or 2**power <= self.limit:
        return (2**power,)
      return 2 ** (power // 2), 2 ** (power - power // 2)
    found = self.buckets if isinstance(self.buckets, tuple) else (self.buckets,)
    if not found or any(n < 2 or n % 2 for n in found):
      raise UserError(
        f"buckets = {self.buckets}: each direction and its opposite make two; take even numbers"
      )
    return found

  def buckets_of(self, x_BHNK: jax.Array, factors: tuple[int, ...], key: jax.Array) -> jax.Array:
    """The bucket of each token in each round: `[B, H, R, N]`, in the least unsigned type."""
    shape = (x_BHNK.shape[1], x_BHNK.shape[3], self.rounds, sum(factors) // 2)
    turns_HKRW = jax.random.normal(key, shape, jnp.float32)
    wide_BHNK = jax.lax.stop_gradient(x_BHNK).astype(jnp.float32)
    turned_BHRNW = jnp.einsum("bhnk,hkrw->bhrnw", wide_BHNK, turns_HKRW)
    total, first, step = jnp.zeros((), jnp.int32), 0, 1
    for count in factors:
      part = turned_BHRNW[..., first : first + count // 2]
      nearest = jnp.argmax(jnp.concatenate([part, -part], axis=-1), axis=-1).astype(jnp.int32)
      total, first, step = total + step * nearest, first + count // 2, step * count
    return total.astype(next(t for t in (jnp.uint8, jnp.uint16, jnp.uint32)
                             if step - 1 <= jnp.iinfo(t).max))  # fmt: skip


class Decided(NamedTuple):
  """What cannot be recomputed from an input that is a little off: see `mtm.parts.reversible`.

  Attributes:
    buckets: `[batch, heads, rounds, tokens]`; None: not decided yet, or nothing to decide.
  """

  buckets: jax.Array | None = None


class LSH(nn.Module):
  """Attention whose queries are their own keys, each looking at tokens in buckets near its own.

  In each round tokens are sorted by bucket and cut into chunks, and a chunk attends to itself and
  some neighbours in that order; rounds are weighed by how much they saw. Keys have length 1, and a
  token attends to itself only where it sees nothing else. A row of no more than a chunk is not
  hashed: attention is full, and exact.

  Causality and documents hold for every pair, so no value of the future or of another document
  gets in, and what other documents say does not matter at all. Which tokens share a chunk depends
  on all of a document, though, its later tokens included, and on where it stands in the row: a
  packed document gets another draw than it gets alone. That is also why a cache is refused for
  rows that would be hashed.

  Attributes:
    heads: attention heads.
    head_dim: size of a head.
    hashing: how tokens are put into buckets.
    chunk: tokens of a chunk.
    before, after: neighbouring chunks that are looked at too; chunks of all rounds form one ring.
    multiple: rows are padded to a multiple of it, itself one of `chunk`; None: of `chunk`.
    pattern: who sees whom of those that meet, by their places in the row.
    once: whether a key that a query meets several times counts once (the paper's appendix A, which
      then tends to full attention with more rounds); else every time, as in published models.
    dropout: share of attention probabilities dropped in training.
    weight_init, out_init: kernel initialisers; None is fan-in.
  """

  heads: int
  head_dim: int
  hashing: Hashing = Hashing()
  chunk: int = 64
  before: int = 1
  after: int = 0
  multiple: int | None = None
  pattern: Pattern = Full()
  once: bool = False
  dropout: float = 0.0
  weight_init: Initializer | None = None
  out_init: Initializer | None = None

  @nn.compact
  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → the same shape, and the cache with these tokens' keys.

    Outside decoding the context's cache may be a `Decided`: an empty one is given back filled, a
    filled one is followed.

    Raises:
      UserError: positions add a bias to the scores, or heads have patterns of their own.
    """
    self._refuse(context)
    length, drop = x_BLD.shape[1], Dropout(self.dropout, name="probabilities")
    x_BHLK, v_BHLK = self._project(x_BLD, "query_key"), self._project(x_BLD, "value")
    cache = context.cache
    if context.slots is not None:
      y_BHLK, cache = self._decode(x_BHLK, v_BHLK, context, drop)
    elif length <= self.chunk:
      of = jax.tree.map(lambda x: cut(x, length), facts(context, length))
      q, k, v = (cut(x, length) for x in (x_BHLK, _unit(x_BHLK), v_BHLK))
      y_BHLK = self._attend(q, k, v, of, of, drop, context.train)[0][:, :, 0]
    else:
      y_BHLK, buckets = self._hashed(x_BHLK, v_BHLK, context, drop)
      cache = None if cache is None else Decided(buckets)
    y_BLHK = jnp.swapaxes(y_BHLK.astype(x_BLD.dtype), 1, 2)
    y_BLHK = constrain(y_BLHK, "batch", "length", "heads", "head_dim")
    axes = ("heads", "head_dim", "embed")
    out = Dense((x_BLD.shape[-1],), axes, contract=2, weight_init=self.out_init, name="out")
    return out(y_BLHK), Aux(cache)

  @nn.nowrap
  def undecided(self) -> Decided:
    """See `mtm.parts.reversible`."""
    return Decided()

  @nn.nowrap
  def empty_cache(self, batch: int, length: int, source_length: int, dtype: Any) -> kv.KeyValue:
    """A cache for `length` tokens. Raises UserError where so many would be hashed."""
    del source_length
    if length > self.chunk:
      raise UserError(
        f"LSH attention in chunks of {self.chunk} sorts a text of {length} tokens anew with each"
        f" token, which no cache follows: to decode, build the model with LSH chunks of at least"
        f" {length} (they have no parameters; attention is then full)"
      )
    return kv.empty(batch, length, self.heads, self.head_dim, dtype)

  @nn.nowrap
  def _refuse(self, context: Context) -> None:
    if context.bias is not None:
      raise UserError("LSH attention knows no bias of the scores: take positions that embed")
    if getattr(self.pattern, "by_head", None) is not None:
      raise UserError("LSH attention knows no patterns by head: take one for all heads")

  def _hashed(
    self, x_BHLK: jax.Array, v_BHLK: jax.Array, context: Context, drop: Dropout
  ) -> tuple[jax.Array, jax.Array]:
    """Float32 `[B, H, L, K]`, and the buckets."""
    length = x_BHLK.shape[2]
    padding = -length % (self.multiple or self.chunk)
    wide = ((0, 0), (0, 0), (0, padding), (0, 0))
    x_BHNK, v_BHNK = jnp.pad(x_BHLK, wide), jnp.pad(v_BHLK, wide)
    buckets_BHRN = context.cache.buckets if isinstance(context.cache, Decided) else None
    if buckets_BHRN is None:
      factors = self.hashing.factors(x_BHNK.shape[2], self.chunk)
      buckets_BHRN = self.hashing.buckets_of(x_BHNK, factors, self._key(context))
    of_N = facts(context, length, padding)
    order_BHRN, back_BHRN = _sorted(buckets_BHRN, of_N.segment)

    def chunks(x_BHNK: jax.Array) -> jax.Array:
      every = jnp.broadcast_to(x_BHNK[:, :, None], (*order_BHRN.shape, x_BHNK.shape[-1]))
      moved = permuted(every, order_BHRN, back_BHRN)
      return cut(moved.reshape(*moved.shape[:2], -1, moved.shape[-1]), self.chunk)

    of_q = jax.tree.map(lambda x: _at(x, order_BHRN, self.chunk), of_N)
    times = _meetings(order_BHRN, back_BHRN, self) if self.once else None
    y_BHCQK, seen_BHCQ = self._attend(
      chunks(x_BHNK), self._window(chunks(_unit(x_BHNK))), self._window(chunks(v_BHNK)), of_q,
      jax.tree.map(self._window, of_q), drop, context.train, times,
    )  # fmt: skip
    shape = order_BHRN.shape
    y_BHRNK = permuted(y_BHCQK.reshape(*shape, -1), back_BHRN, order_BHRN)
    seen_BHRN1 = permuted(seen_BHCQ.reshape(*shape, 1), back_BHRN, order_BHRN)
    y_BHNK = jnp.sum(y_BHRNK * self._shares(seen_BHRN1, 2)[0], axis=2)
    return y_BHNK[:, :, :length], buckets_BHRN

  def _decode(
    self, x_BHLK: jax.Array, v_BHLK: jax.Array, context: Context, drop: Dropout
  ) -> tuple[jax.Array, kv.KeyValue]:
    """Full attention over the cache, whose keys are kept before they are given length 1."""
    assert context.slots is not None
    own = jnp.swapaxes(x_BHLK, 1, 2), jnp.swapaxes(v_BHLK, 1, 2)
    cache, *rows_of, place = context.cache.store(*own, context.slots)
    k_BHSK, v_BHSK = (jnp.swapaxes(x, 1, 2) for x in rows_of)
    rows, length, slots = x_BHLK.shape[0], x_BHLK.shape[2], k_BHSK.shape[2]
    labels = {name: label[:, None, None] for name, label in context.labels.items()}
    beyond = ((0, 0), (0, 0), (0, 0), (0, slots - length))
    of_keys = {name: jnp.pad(label, beyond) for name, label in labels.items()}
    place_BS = jnp.broadcast_to(place, (rows, slots))
    of_q = Facts(context.positions[:, None, None], None, labels)
    of_k = Facts(place_BS[:, None, None], None, of_keys)
    q, k, v = (x[:, :, None] for x in (x_BHLK, _unit(k_BHSK), v_BHSK))
    y_BHCQK, _ = self._attend(q, k, v, of_q, of_k, drop, context.train)
    return y_BHCQK[:, :, 0], cache

  def _attend(
    self, q_BHCQK: jax.Array, k_BHCSK: jax.Array, v_BHCSK: jax.Array, of_q: Facts, of_k: Facts,
    drop: Dropout, train: bool, times_BHCQS: jax.Array | None = None,
  ) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """Float32 outputs `[B, H, C, Q, K]`, and the logarithms of the sums of their weights
    `[B, H, C, Q]`; `times`: how often a query meets a key in all rounds."""
    s_BHCQS = jnp.einsum("bhcqk,bhcsk->bhcqs", q_BHCQK, k_BHCSK, preferred_element_type=jnp.float32)
    s_BHCQS = self.head_dim**-0.5 * s_BHCQS
    itself = of_q.place[..., :, None] == of_k.place[..., None, :]
    s_BHCQS = jnp.where(sees(self.pattern, of_q, of_k), s_BHCQS, HIDDEN)
    s_BHCQS = jnp.where(itself, ITSELF, s_BHCQS)
    if times_BHCQS is not None:
      s_BHCQS = s_BHCQS - jnp.log(times_BHCQS)
    p_BHCQS, total_BHCQ1 = self._shares(s_BHCQS, -1)
    p_BHCQS = drop(p_BHCQS, train).astype(v_BHCSK.dtype)
    y_BHCQK = jnp.einsum("bhcqs,bhcsk->bhcqk", p_BHCQS, v_BHCSK, preferred_element_type=jnp.float32)
    return y_BHCQK, total_BHCQ1[..., 0]

  @nn.nowrap
  def _shares(self, s: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """Softmax along an axis, and the logarithm of what it divides by.

    Published models were made with the second form. At −100,000, the score of a token that meets
    nothing but itself, its float32 is rounded to 1/128, and the shares add up to 0.3% more or less.
    """
    total = jax.nn.logsumexp(s, axis=axis, keepdims=True)
    return (jax.nn.softmax(s, axis=axis) if self.once else jnp.exp(s - total)), total

  def _project(self, x_BLD: jax.Array, name: str) -> jax.Array:
    """`[batch, length, embed]` → `[batch, heads, length, head_dim]`."""
    axes = ("embed", "heads", "head_dim")
    dense = Dense((self.heads, self.head_dim), axes, weight_init=self.weight_init, name=name)
    return jnp.swapaxes(constrain(dense(x_BLD), "batch", "length", "heads", "head_dim"), 1, 2)

  def _key(self, context: Context) -> jax.Array:
    seed = self.hashing.seed
    if seed is None and context.train and self.has_rng("dropout"):
      return self.make_rng("dropout")
    return jax.random.key(seed or 0)

  @nn.nowrap
  def _window(self, x_BHCQ: jax.Array) -> jax.Array:
    return around(x_BHCQ, self.before, self.after)


@jax.custom_vjp
def permuted(x_BHRNK: jax.Array, order_BHRN: jax.Array, back_BHRN: jax.Array) -> jax.Array:
  """The tokens in another order; `back` is its inverse, so that the gradient is a gather too."""
  return jnp.take_along_axis(x_BHRNK, order_BHRN[..., None], axis=-2)


def _permuted_forward(x_BHRNK: jax.Array, order_BHRN: jax.Array, back_BHRN: jax.Array):
  return permuted(x_BHRNK, order_BHRN, back_BHRN), (order_BHRN, back_BHRN)


def _permuted_backward(saved: tuple[jax.Array, jax.Array], g_BHRNK: jax.Array):
  order_BHRN, back_BHRN = saved
  return permuted(g_BHRNK, back_BHRN, order_BHRN), None, None


permuted.defvjp(_permuted_forward, _permuted_backward)


def _unit(x_BHNK: jax.Array) -> jax.Array:
  """Keys of one length, √head_dim, in the dtype of `x`."""
  wide = x_BHNK.astype(jnp.float32)
  power = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
  # Not by rsqrt: jaxlib 0.10.2 compiles its gradient under vmap to wrong numbers here, on CPU.
  return (wide / jnp.sqrt(power + 1e-6)).astype(x_BHNK.dtype)


def _sorted(buckets_BHRN: jax.Array, segment_B1N: jax.Array | None) -> tuple[jax.Array, jax.Array]:
  """Which token stands where when documents, then buckets are sorted, and where each one went:
  int32 `[B, H, R, N]` twice. Padding stands last."""
  shape = buckets_BHRN.shape
  place = jax.lax.broadcasted_iota(jnp.int32, shape, 3)
  keys = [buckets_BHRN]
  if segment_B1N is not None:
    segment = segment_B1N.astype(jnp.int32)
    segment = jnp.where(segment > 0, segment, jnp.iinfo(jnp.int32).max)
    keys.insert(0, jnp.broadcast_to(segment[:, :, None], shape))
  order = jax.lax.sort((*keys, place), dimension=3, is_stable=True, num_keys=len(keys))[-1]
  return order, jax.lax.sort((order, place), dimension=3, num_keys=1)[1]


def _at(fact_B1N: jax.Array, order_BHRN: jax.Array, chunk: int) -> jax.Array:
  """A fact of each token, where it stands in the sorted rows: `[B, H, C, Q]`."""
  every = jnp.broadcast_to(fact_B1N[:, :, None], order_BHRN.shape)
  moved = jnp.take_along_axis(every, order_BHRN, axis=-1)
  return cut(moved.reshape(*moved.shape[:2], -1), chunk)


def _meetings(order_BHRN: jax.Array, back_BHRN: jax.Array, mixer: LSH) -> jax.Array:
  """How often a query meets a key of its window in all rounds: float32 `[B, H, C, Q, S]`."""
  rounds, tokens = order_BHRN.shape[2:]
  own = tokens // mixer.chunk  # chunks of a round
  first = jnp.arange(rounds, dtype=jnp.int32)[None, None, :, None] * own
  chunk_BHRN = back_BHRN // mixer.chunk + first
  mine_RBHCQ = jax.vmap(lambda x: _at(x, order_BHRN, mixer.chunk), in_axes=2)(chunk_BHRN)
  its_RBHCS = jax.vmap(mixer._window)(mine_RBHCQ)
  # A chunk at the end of a round has neighbours in the next: no other rounds meet.
  back, on = math.ceil(mixer.before / own), math.ceil(mixer.after / own)
  ahead = {d % rounds for d in range(-back, on + 1)}
  sides = range(-mixer.before, mixer.after + 1)

  def add(total: jax.Array, places: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
    mine_BHCQ, its_BHCS = places
    for away in sides:
      looked = (mine_BHCQ + away) % (rounds * own)
      total = total + (looked[..., :, None] == its_BHCS[..., None, :]).astype(jnp.float32)
    return total, None

  total = jnp.zeros((*mine_RBHCQ.shape[1:], its_RBHCS.shape[-1]), jnp.float32)
  for d in ahead:
    total, _ = jax.lax.scan(add, total, (mine_RBHCQ, jnp.roll(its_RBHCS, -d, axis=0)))
  return total


# A token does not attend to itself, which the contract of mixers asks for: tests/parts/mixers/
# test_lsh.py runs the rest of it.
EXAMPLES: list[LSH] = []
