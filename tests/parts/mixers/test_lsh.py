"""LSH attention against a loop over tokens and rounds; what it is when nothing is left out."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.bias import Bias
from mtm.parts.context import Context, Slots
from mtm.parts.mixers.lsh import LSH, Decided, Hashing, permuted
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.prefix import Prefix
from tests.contracts import test_mixers as contract
from tests.contracts.discovered import parameters

B, L, D, H, K = 2, 13, 6, 2, 4
X = np.random.default_rng(0).normal(size=(B, L, D)).astype(np.float32)
SEGMENTS = np.array([[1] * 5 + [2] * 6 + [0] * 2, [0] + [3] * 12])
SMALL = Hashing(4, 3, seed=2)


def context(segments: Any = None, length: int = L, **fields: Any) -> Context:
  segments = None if segments is None else jnp.asarray(segments)
  return Context(jnp.tile(jnp.arange(length)[None], (B, 1)), segments, **fields)


def run(mixer: LSH, around: Context, x: Any = X) -> tuple[Any, np.ndarray]:
  params = parameters(mixer.init, jnp.asarray(x), around)
  return params["params"], np.asarray(jax.jit(mixer.apply)(params, jnp.asarray(x), around)[0])


def buckets(q: np.ndarray, hashing: Hashing, factors: tuple[int, ...]) -> np.ndarray:
  """`[batch, length, heads, head_dim]` → `[batch, heads, rounds, length]`, one after another."""
  shape = (H, K, hashing.rounds, sum(factors) // 2)
  turns = np.asarray(jax.random.normal(jax.random.key(hashing.seed or 0), shape), np.float64)
  found = np.zeros((len(q), H, hashing.rounds, q.shape[1]), int)
  for b, h, r, i in np.ndindex(*found.shape):
    first, step = 0, 1
    for count in factors:
      part = q[b, i, h] @ turns[h, :, r, first : first + count // 2]
      found[b, h, r, i] += step * int(np.argmax(np.concatenate([part, -part])))
      first, step = first + count // 2, step * count
  return found


def windows(of: np.ndarray, segments: np.ndarray, mixer: LSH) -> list[list[list[int]]]:
  """For each round and token of a row (`of`: buckets `[rounds, tokens]`), the tokens it meets."""
  rounds, tokens = of.shape
  ring: list[list[int]] = []
  for r in range(rounds):
    last = np.where(segments > 0, segments, 10**6)
    order = sorted(range(tokens), key=lambda i: (last[i], of[r, i], i))
    ring += [order[i : i + mixer.chunk] for i in range(0, tokens, mixer.chunk)]
  met: list[list[list[int]]] = [[[] for _ in range(tokens)] for _ in range(rounds)]
  for number, chunk in enumerate(ring):
    looked = [ring[(number + d) % len(ring)] for d in range(-mixer.before, mixer.after + 1)]
    for i in chunk:
      met[number * mixer.chunk // tokens][i] = [j for one in looked for j in one]
  return met


def looped(p: Any, mixer: LSH, segments: Any = None, causal: bool = False) -> np.ndarray:
  """The definition, in float64, one pair after another."""
  padding = -L % (mixer.multiple or mixer.chunk)
  x = np.pad(X.astype(np.float64), ((0, 0), (0, padding), (0, 0)))
  known = np.ones((B, L), int) if segments is None else np.asarray(segments)
  known = np.pad(known, ((0, 0), (0, padding)))
  q, v = (np.einsum("bld,dhk->blhk", x, p[n]["kernel"]) for n in ("query_key", "value"))
  k = q / np.sqrt(np.mean(q**2, -1, keepdims=True) + 1e-6)
  of = buckets(q, mixer.hashing, mixer.hashing.factors(L + padding, mixer.chunk))
  out = np.zeros((B, L, D))
  for b, h in np.ndindex(B, H):
    met = windows(of[b, h], known[b], mixer)
    for i in range(L):
      every = [j for one in met for j in one[i]]
      seen = [j for j in every if j != i and known[b, j] == known[b, i] > 0]
      seen = [j for j in seen if not causal or j <= i]
      seen = seen or [i]
      share = np.exp([q[b, i, h] @ k[b, j, h] / K**0.5 for j in seen])
      if mixer.once:
        share = share / np.array([every.count(j) for j in seen])
      share = share / share.sum()
      out[b, i] += (
        sum(w * v[b, j, h] for w, j in zip(share, seen, strict=True)) @ (p["out"]["kernel"][h])
      )
  return out


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["one", "packed"])
@pytest.mark.parametrize("causal", [False, True], ids=["bi", "uni"])
@pytest.mark.parametrize(
  "mixer",
  [
    LSH(H, K, SMALL, 4),
    LSH(H, K, SMALL, 4, once=True),
    LSH(H, K, Hashing((2, 4), 2), 3, 1, 1, 6),
    LSH(H, K, Hashing(None, 1, limit=4), 2, 3, 0, once=True),
  ],
  ids=["rounds", "once", "factors", "auto"],
)
def test_it_is_the_loop_over_pairs(mixer: LSH, causal: bool, segments: Any) -> None:
  mixer = mixer.clone(pattern=Causal()) if causal else mixer
  params, y = run(mixer, context(segments))
  real = np.ones((B, L), bool) if segments is None else segments > 0
  # A token that meets nobody has shares that are rounded: see `LSH._shares`.
  atol = 1e-5 if mixer.once else 1e-2
  np.testing.assert_allclose(
    y[real], looped(params, mixer, segments, causal)[real], rtol=1e-5, atol=atol
  )


def full(p: Any, x: Any, causal: bool = False) -> np.ndarray:
  """Full attention in which queries are keys, in float64."""
  x = np.asarray(x, np.float64)
  q, v = (np.einsum("bld,dhk->bhlk", x, p[n]["kernel"]) for n in ("query_key", "value"))
  k = q / np.sqrt(np.mean(q**2, -1, keepdims=True) + 1e-6)
  s = np.einsum("bhlk,bhsk->bhls", q, k) / K**0.5
  s = np.where(np.eye(x.shape[1], dtype=bool), -1e5, s)
  if causal:
    s = np.where(np.tril(np.ones(s.shape[2:], bool)), s, -np.inf)
  share = np.exp(s - s.max(-1, keepdims=True))
  share /= share.sum(-1, keepdims=True)
  return np.einsum("bhls,bhsk,hkd->bld", share, v, p["out"]["kernel"])


@pytest.mark.parametrize("causal", [False, True], ids=["bi", "uni"])
@pytest.mark.parametrize(
  "mixer",
  [
    LSH(H, K, SMALL, L),  # one chunk holds all
    LSH(H, K, Hashing(4), 4, before=3),  # a chunk looks at every other, once
    LSH(H, K, SMALL, 4, before=11, once=True),  # every pair meets in every round
    LSH(H, K, SMALL, 4, before=7, after=5, once=True),  # and some of them twice in one
  ],
  ids=["chunk", "neighbours", "rounds", "twice"],
)
def test_it_is_full_attention_where_all_meet(mixer: LSH, causal: bool) -> None:
  mixer = mixer.clone(pattern=Causal()) if causal else mixer
  params, y = run(mixer, context())
  np.testing.assert_allclose(y, full(params, X, causal), rtol=1e-5, atol=1e-5)


def test_more_rounds_come_nearer_to_full_attention() -> None:
  length = 48
  x = np.random.default_rng(1).normal(size=(B, length, D)).astype(np.float32)
  away = []
  for rounds in (1, 4, 16, 64):
    mixer = LSH(H, K, Hashing(8, rounds), 6, once=True)
    params, y = run(mixer, context(length=length), x)
    away.append(float(np.abs(y - full(params, x)).mean()))
  assert away[0] > 1.5 * away[1] > 1.5**2 * away[2], away
  assert away[3] < away[0] / 20, "64 rounds have brought nearly all pairs together"


CAUSAL = LSH(4, 8, Hashing(4, 2), 3, pattern=Causal())
WHOLE = LSH(4, 8, Hashing(4, 2), 16, pattern=Causal())


@pytest.mark.parametrize("mixer", [CAUSAL, WHOLE], ids=["hashed", "whole"])
def test_gradient_of_the_future_is_zero(mixer: LSH) -> None:
  params, x, around = contract.setting(mixer)
  by = contract.influence(mixer, around, params, x)
  assert (by[np.triu_indices(len(by), 1)] == 0).all()
  assert by[0, 0] > 0 and (by[2:, :2].max(1) > 0).any()


@pytest.mark.parametrize("mixer", [CAUSAL, WHOLE], ids=["hashed", "whole"])
def test_the_contract_of_mixers_that_does_not_ask_for_oneself(mixer: LSH) -> None:
  contract.test_gradient_of_another_document_is_zero(mixer)
  if mixer is WHOLE:
    contract.test_cached_is_uncached(mixer)


def test_the_future_changes_nothing_but_who_meets() -> None:
  """With who meets whom held, what comes later does not change a bit of what was before."""
  mixer, around = LSH(H, K, SMALL, 4, pattern=Causal()), context()
  params = parameters(mixer.init, jnp.asarray(X), around)
  apply = jax.jit(mixer.apply)
  _, aux = apply(params, jnp.asarray(X), around.with_cache(mixer.undecided()))
  other = jnp.asarray(X).at[:, 8:].add(1.0)
  before, after = (apply(params, x, around.with_cache(aux.cache))[0] for x in (X, other))
  np.testing.assert_array_equal(before[:, :8], after[:, :8])
  assert np.abs(before[:, 8:] - after[:, 8:]).max() > 1e-2


def test_what_another_document_or_padding_says_does_not_matter() -> None:
  """Not even to who meets whom, so to the last bit."""
  mixer, around = LSH(H, K, SMALL, 4), context(SEGMENTS)
  _, y = run(mixer, around)
  for kept in (1, 2, 3):
    mine = kept == SEGMENTS
    _, other = run(mixer, around, np.where(mine[..., None], X, 7.0 - 3.0 * X))
    np.testing.assert_array_equal(y[mine], other[mine])


def test_packed_documents_are_what_they_are_alone_where_a_chunk_holds_the_row() -> None:
  mixer = LSH(H, K, SMALL, 16, pattern=Causal())
  params, y = run(mixer, context(SEGMENTS))
  for start, end in ((0, 5), (5, 11)):
    alone = full(params, X[:1, start:end], causal=True)
    np.testing.assert_allclose(y[:1, start:end], alone, rtol=1e-5, atol=1e-5)


def test_a_prefix_is_seen_both_ways() -> None:
  mixer = LSH(H, K, SMALL, 4, before=11, pattern=Causal() | Prefix(), once=True)
  _, y = run(mixer, context(labels={"prefix": jnp.ones((B, L), jnp.int32)}))
  params, _ = run(mixer, context(labels={"prefix": jnp.zeros((B, L), jnp.int32)}))
  np.testing.assert_allclose(y, full(params, X), rtol=1e-5, atol=1e-5)


def test_decisions_are_told_and_followed() -> None:
  mixer, around = LSH(H, K, SMALL, 4), context()
  params = parameters(mixer.init, jnp.asarray(X), around)
  apply = jax.jit(lambda cache: mixer.apply(params, jnp.asarray(X), around.with_cache(cache)))
  y, aux = apply(mixer.undecided())
  assert aux.cache.buckets.shape == (B, H, 3, 16) and aux.cache.buckets.dtype == jnp.uint8
  np.testing.assert_array_equal(y, apply(aux.cache)[0])
  other, _ = apply(Decided(jnp.zeros_like(aux.cache.buckets)))
  assert np.abs(y - other).max() > 1e-2
  assert apply(None)[1].cache is None


def test_directions_are_drawn_anew_in_training_unless_a_seed_holds_them() -> None:
  around = context(train=True)
  for seed, same in ((None, False), (3, True)):
    mixer = LSH(H, K, Hashing(4, 1, seed), 3)
    params = parameters(mixer.init, jnp.asarray(X), context())
    apply = jax.jit(lambda key, m=mixer, p=params: m.apply(p, X, around, rngs={"dropout": key})[0])
    a, b = (apply(jax.random.key(key)) for key in (0, 1))
    assert bool((a == b).all()) == same


def test_dropout_is_drawn_in_training_only() -> None:
  mixer = LSH(H, K, Hashing(4, 1, seed=0), 3, dropout=0.5)
  params, y = run(mixer, context())
  _, plain = run(mixer.clone(dropout=0.0), context())
  np.testing.assert_array_equal(y, plain)
  rngs = {"dropout": jax.random.key(0)}
  train, _ = mixer.apply({"params": params}, jnp.asarray(X), context(train=True), rngs=rngs)
  assert np.abs(train - y).max() > 1e-2


def test_the_number_of_buckets_grows_with_the_row() -> None:
  """transformers' ReformerLSHSelfAttention, `_set_num_buckets`."""
  auto = Hashing(limit=16)
  assert [auto.factors(n, 4) for n in (8, 12, 16, 32, 64, 256)] == [
    (4,), (4,), (8,), (16,), (4, 8), (8, 16),
  ]  # fmt: skip
  assert Hashing().factors(256, 4) == (128,)
  assert Hashing((2, 6)).factors(8, 4) == (2, 6)


@pytest.mark.parametrize("wrong", [3, 0, (4, 5), ()])
def test_odd_buckets_are_refused(wrong: Any) -> None:
  with pytest.raises(UserError, match="even numbers"):
    run(LSH(H, K, Hashing(wrong), 4), context())


def test_the_gradient_of_a_permutation_is_its_inverse() -> None:
  order = jnp.asarray([[[[2, 0, 1, 3]]]])
  back = jnp.argsort(order, axis=-1)
  x = jnp.arange(8.0).reshape(1, 1, 1, 4, 2)
  weight = jnp.asarray(np.random.default_rng(0).normal(size=x.shape), jnp.float32)
  ours = jax.grad(lambda x: jnp.sum(weight * permuted(x, order, back)))(x)
  plain = jax.grad(lambda x: jnp.sum(weight * jnp.take_along_axis(x, order[..., None], -2)))(x)
  np.testing.assert_array_equal(ours, plain)


def test_a_cache_for_rows_that_would_be_hashed_is_refused_with_the_fix() -> None:
  with pytest.raises(UserError, match="chunks of at least 20 .*they have no parameters"):
    CAUSAL.empty_cache(2, 20, 0, jnp.float32)
  long = CAUSAL.clone(chunk=20)
  params, _ = run(long, context())
  shapes = jax.tree.map(np.shape, run(CAUSAL, context())[0])
  assert jax.tree.map(np.shape, params) == shapes


def test_prompts_of_different_lengths_decode_together() -> None:
  """Of 2 and 5 tokens; what a slot of padding holds is never seen."""
  mixer, known = LSH(H, K, SMALL, 16, pattern=Causal()), np.array([2, 5])
  params, _ = run(mixer, context())
  wanted = full(params, X, causal=True)
  places = np.arange(5)[None].repeat(B, 0)
  places = np.where(places < known[:, None], places, 100)
  slots = np.full((B, 8), 100)
  slots[:, :5] = places
  cache = mixer.empty_cache(B, 8, 0, jnp.float32)

  apply = jax.jit(mixer.apply)

  def feed(x: Any, start: int, at: np.ndarray) -> Any:
    own = Slots(jnp.int32(start), jnp.asarray(slots))
    around = Context(jnp.asarray(at), cache=cache, slots=own)
    return apply({"params": params}, jnp.asarray(x), around)

  y, aux = feed(X[:, :5], 0, places)
  np.testing.assert_allclose(y[0, :2], wanted[0, :2], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(y[1, :5], wanted[1, :5], rtol=1e-5, atol=1e-5)
  for turn in range(3):
    cache, at = aux.cache, known + turn
    slots[:, 5 + turn] = at
    y, aux = feed(X[np.arange(B), at][:, None], 5 + turn, at[:, None])
    np.testing.assert_allclose(y[:, 0], wanted[np.arange(B), at], rtol=1e-5, atol=1e-5)


def test_what_it_cannot_honour_is_refused() -> None:
  with pytest.raises(UserError, match="no bias of the scores"):
    run(LSH(H, K, SMALL, 4), context(bias=Bias(jnp.zeros((1, H, L, L)))))

  @dataclasses.dataclass(frozen=True)
  class ByHead(Causal):
    by_head = (Causal(), Causal())

  with pytest.raises(UserError, match="patterns by head"):
    run(LSH(H, K, SMALL, 4, pattern=ByHead()), context())
