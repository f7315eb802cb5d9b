"""What is special about each router, against plain numpy; what all must keep is a contract."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from mtm.errors import UserError
from mtm.parts.experts.routers import Router, Routing, Tokens
from mtm.parts.experts.routers._base import balance_loss, jittered, z_loss
from mtm.parts.experts.routers.base import Base, priced, seated
from mtm.parts.experts.routers.domain import Domain
from mtm.parts.experts.routers.expert_choice import ExpertChoice
from mtm.parts.experts.routers.hash import (
  Balanced,
  Given,
  Hash,
  Random,
  clusters,
  dispersed,
  read,
)
from mtm.parts.experts.routers.noisy import Noisy
from mtm.parts.experts.routers.prototyped import Prototyped
from mtm.parts.experts.routers.switch import Switch
from mtm.parts.experts.routers.topk import Above, AtRandom, TopK, every_choice

N, D, E = 16, 6, 4
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, D)).astype(np.float32)
REAL = np.arange(N) < 13
TOKENS = Tokens(jnp.asarray(REAL))
KERNEL = RNG.normal(size=(D, E)).astype(np.float32)


def route(
  router: Router, tokens: Tokens = TOKENS, key: int | None = None, **weights: Any
) -> Routing:
  weights = {name: jnp.asarray(value) for name, value in {"kernel": KERNEL, **weights}.items()}
  # Not Threefry, whose draws take long to compile.
  rng = None if key is None else jax.random.key(key, impl="unsafe_rbg")
  routing = jax.jit(lambda x: router(x, weights, tokens, E, rng))(jnp.asarray(X))
  return jax.tree.map(np.asarray, routing)


def softmax(logits: np.ndarray) -> np.ndarray:
  e = np.exp(logits - logits.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


# float64 sums beside float32 ones.
close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # noqa: E731


def balance_by_hand(probabilities: np.ndarray, chosen: list[list[int]]) -> float:
  """Switch, equations 4 to 6, over real tokens."""
  experts, total = probabilities.shape[1], 0.0
  rows = [n for n in range(len(chosen)) if REAL[n]]
  for e in range(experts):
    f = sum(e in chosen[n] for n in rows) / len(rows)
    p = sum(probabilities[n, e] for n in rows) / len(rows)
    total += experts * f * p
  return total


def test_switch_takes_the_most_probable_and_its_losses_are_those_of_the_papers() -> None:
  routing = route(Switch(balance=0.01, z=0.001))
  logits = X.astype(np.float64) @ KERNEL
  p = softmax(logits)
  best = p.argmax(1)
  np.testing.assert_array_equal(routing.expert[REAL], best[REAL])
  close(routing.weight[REAL], p.max(1)[REAL])
  close(routing.losses["balance"], 0.01 * balance_by_hand(p, [[e] for e in best]))
  z = np.mean([math.log(sum(math.exp(v) for v in row)) ** 2 for row in logits[REAL]])
  close(routing.losses["router_z"], 0.001 * z)
  close(routing.metrics["router_z"], z)


def test_jitter_is_of_training_alone() -> None:
  still = route(Switch(jitter=0.5))
  assert (route(Switch(jitter=0.5), key=0).weight != still.weight).any()
  np.testing.assert_array_equal(still.weight, route(Switch(jitter=0.0), key=0).weight)


def test_jitter_is_uniform_around_one() -> None:
  noise = np.asarray(jittered(jnp.ones((100, 200)), 0.1, jax.random.key(0)))
  assert (noise >= 0.9).all() and (noise <= 1.1).all()
  # Five deviations of the mean, and about as many of the deviation, of 20,000 draws.
  np.testing.assert_allclose(noise.mean(), 1.0, atol=5 * 0.1 / np.sqrt(3 * 20_000))
  np.testing.assert_allclose(noise.std(), 0.1 / np.sqrt(3), rtol=0.02)


def test_losses_at_balance_and_at_collapse_have_the_values_of_the_papers() -> None:
  even = jnp.full((N, E), 1 / E)
  turns = jnp.arange(N)[:, None] % E
  everyone = Tokens(jnp.ones(N, bool))
  close(balance_loss(even, turns, everyone), 1.0)
  close(balance_loss(even, jnp.concatenate([turns, (turns + 1) % E], axis=1), everyone), 2.0)
  alone = jax.nn.one_hot(jnp.zeros(N, int), E)
  close(balance_loss(alone, jnp.zeros((N, 1), int), everyone), E)
  close(z_loss(jnp.zeros((N, E)), everyone), math.log(E) ** 2)
  # The gradient pushes down the experts that have more than their share, and only by probability.
  gradient = jax.grad(lambda p: balance_loss(p, jnp.zeros((N, 1), int), everyone))(even)
  close(gradient, np.tile([E / N, 0, 0, 0], (N, 1)))


def test_gshard_normalises_its_two_weights_and_counts_first_choices() -> None:
  routing = route(TopK(balance=1.0))
  p = softmax(X.astype(np.float64) @ KERNEL)
  order = np.argsort(-p, axis=1)[:, :2]
  np.testing.assert_array_equal(routing.expert.reshape(2, N)[:, REAL], order.T[:, REAL])
  pair = np.take_along_axis(p, order, axis=1)
  close(routing.weight.reshape(2, N)[:, REAL], (pair / pair.sum(1, keepdims=True)).T[:, REAL])
  # Algorithm 1 of GShard: mean over experts of c_e / S · m_e; ours is experts² times that.
  counts = np.bincount(order[REAL, 0], minlength=E)
  gshard = np.mean(counts / REAL.sum() * p[REAL].mean(0))
  close(routing.losses["balance"], E**2 * gshard)


def test_mixtral_counts_all_choices_and_v_moe_leaves_weights_as_they_are() -> None:
  p = softmax(X.astype(np.float64) @ KERNEL)
  order = np.argsort(-p, axis=1)[:, :2]
  mixtral = route(TopK(2, every_choice, counted=2, balance=1.0))
  close(mixtral.losses["balance"], balance_by_hand(p, order.tolist()))
  close(mixtral.weight.reshape(2, N).sum(0), REAL)
  vmoe = route(TopK(2, every_choice, normalise=False))
  close(vmoe.weight.reshape(2, N)[:, REAL], np.take_along_axis(p, order, axis=1).T[:, REAL])


def test_second_choices_hold_at_random_in_training_by_threshold_or_always() -> None:
  weight = jnp.tile(jnp.array([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5]]), (2000, 1))
  held = np.asarray(AtRandom(2.0)(weight, jax.random.key(0))).reshape(2000, 3, 2)
  # Five deviations of a mean of 2,000 draws: 0.06 at most.
  np.testing.assert_allclose(held.mean(0)[:, 1], [0.2, 0.8, 1.0], atol=0.06)
  assert np.asarray(AtRandom()(weight, None)).all() and every_choice(weight, None).all()
  np.testing.assert_array_equal(Above(0.2)(weight, None)[:3], [[1, 0], [1, 1], [1, 1]])


def test_a_choice_that_does_not_hold_asks_for_no_place_and_the_first_always_holds() -> None:
  routing = route(TopK(2, Above(2.0)))
  np.testing.assert_array_equal(routing.expert.reshape(2, N)[1], np.full(N, E))
  assert (routing.expert.reshape(2, N)[0, REAL] < E).all()


def test_more_choices_than_experts_are_refused() -> None:
  with pytest.raises(UserError, match="k = 5 of 4 experts"):
    route(TopK(5))


def noisy_by_hand(k: int, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Shazeer et al., equations 3 to 5, 6 and 8 to 10: gates, importance and load."""
  x = X.astype(np.float64)
  clean, deviation = x @ KERNEL, np.log1p(np.exp(x @ (KERNEL / 2))) + 0.01
  h = clean + noise * deviation
  gates, load = np.zeros((N, E)), np.zeros(E)
  for n in range(N):
    top = np.argsort(-h[n])[:k]
    gates[n, top] = softmax(h[n, top])
    for i in range(E):
      others = np.sort(np.delete(h[n], i))[::-1]
      to_beat = others[k - 1] if k < E else -np.inf
      chance = 0.5 * (1 + math.erf((clean[n, i] - to_beat) / deviation[n, i] / math.sqrt(2)))
      load[i] += chance * REAL[n]
  return gates, gates[REAL].sum(0), load


@pytest.mark.parametrize(("k", "key"), [(2, None), (2, 3), (E, None)])
def test_noisy_gating_importance_and_load_are_those_of_the_paper(k: int, key: int | None) -> None:
  routing = route(Noisy(k, importance=0.1, load=0.2), key=key, noise=KERNEL / 2)
  noise = np.zeros((N, E))
  if key is not None:
    noise = np.asarray(jax.random.normal(jax.random.key(key, impl="unsafe_rbg"), (N, E)))
  gates, importance, load = noisy_by_hand(k, noise)
  ours = np.zeros((N, E + 1))
  ours[routing.token, routing.expert] = routing.weight
  close(ours[REAL, :E], gates[REAL])
  close(routing.losses["importance"], 0.1 * importance.var() / importance.mean() ** 2)
  close(routing.losses["load"], 0.2 * load.var() / load.mean() ** 2)


def test_prototypes_choose_one_expert_each() -> None:
  routing = route(Prototyped(2, balance=1.0, z=1.0))
  logits = X.astype(np.float64) @ KERNEL
  groups = [logits[:, :2], logits[:, 2:]]
  best = np.stack([group.argmax(1) for group in groups])
  np.testing.assert_array_equal(routing.expert.reshape(2, N)[:, REAL], (best + [[0], [2]])[:, REAL])
  close(routing.weight.reshape(2, N)[:, REAL], [softmax(g).max(1)[REAL] for g in groups])
  own = [balance_by_hand(softmax(g), [[e] for e in b]) for g, b in zip(groups, best, strict=True)]
  close(routing.losses["balance"], np.mean(own))
  close(routing.losses["router_z"], np.mean([np.log(np.exp(g[REAL]).sum(1)) ** 2 for g in groups]))
  with pytest.raises(UserError, match="choose a divisor"):
    route(Prototyped(3))


def test_experts_choose_the_tokens_that_they_like_best() -> None:
  routing = route(ExpertChoice(factor=1.0))
  p = softmax(X.astype(np.float64) @ KERNEL) * REAL[:, None]
  places = round(REAL.sum() / E)
  token, expert, weight = (getattr(routing, name).reshape(E, -1) for name in
                           ("token", "expert", "weight"))  # fmt: skip
  for e in range(E):
    best = np.argsort(-p[:, e])[:places]
    np.testing.assert_array_equal(token[e, :places], best)
    close(weight[e, :places], p[best, e])
    np.testing.assert_array_equal(expert[e], [e] * places + [E] * (token.shape[1] - places))
  assert routing.choices is None and not ExpertChoice.causal


def test_base_gives_each_expert_equally_many_tokens_in_training_and_is_greedy_outside() -> None:
  kernel = KERNEL + 5 * np.eye(D, E, dtype=np.float32)[:1]  # many like the first best
  everyone = Tokens(jnp.ones(N, bool))
  trained = route(Base(), everyone, key=0, kernel=kernel)
  np.testing.assert_array_equal(np.bincount(trained.expert), [N // E] * E)
  score = X.astype(np.float64) @ kernel
  close(trained.weight, 1 / (1 + np.exp(-score[np.arange(N), trained.expert])))
  some = route(Base(), key=0, kernel=kernel)
  assert np.bincount(some.expert[REAL]).max() <= math.ceil(REAL.sum() / E)
  np.testing.assert_array_equal(some.expert[~REAL], E)
  greedy = route(Base(), kernel=kernel)
  np.testing.assert_array_equal(greedy.expert[REAL], score.argmax(1)[REAL])
  assert not trained.losses


@pytest.mark.parametrize("kind", ["independent", "alike", "collapsed"])
def test_base_comes_close_to_the_best_assignment(kind: str) -> None:
  n, experts = 64, 8
  rng = np.random.default_rng(1)
  score = {
    "independent": rng.normal(size=(n, experts)),
    "alike": rng.normal(size=(n, 3)) @ rng.normal(size=(3, experts)),
    "collapsed": rng.normal(size=(n, experts)) + 100 * np.eye(experts)[0],
  }[kind].astype(np.float32)  # fmt: skip
  real = jnp.ones(n, bool)
  assign = jax.jit(lambda s: seated(priced(s, real, 30, 0.1), real))
  expert = np.asarray(assign(jnp.asarray(score)))
  np.testing.assert_array_equal(np.bincount(expert), [n // experts] * experts)
  rows, columns = linear_sum_assignment(-np.repeat(score, n // experts, axis=1))
  best = np.repeat(score, n // experts, axis=1)[rows, columns].mean()
  ours, chance = score[np.arange(n), expert].mean(), score.mean()
  assert (ours - chance) / (best - chance) > 0.95


def test_equal_scores_are_seated_too() -> None:
  real = jnp.arange(10) < 7
  expert = np.asarray(jax.jit(seated)(jnp.zeros((10, 3)), real))
  assert (np.bincount(expert[:7], minlength=3) <= 3).all() and (expert[7:] == 3).all()


def by_id(ids: list[int], router: Router) -> np.ndarray:
  tokens = Tokens(jnp.ones(N, bool), {"ids": jnp.asarray(np.resize(ids, N), jnp.int32)})
  return route(router, tokens).expert.reshape(-1, N)[:, : len(ids)]


def test_a_hash_depends_on_id_and_seed_alone_and_spreads_ids_evenly() -> None:
  np.testing.assert_array_equal(
    by_id([3, 7, 3, 9], Hash())[0, [0]], by_id([5, 1, 3], Hash())[0, [2]]
  )
  ids = jnp.arange(32_000)
  first, second = (np.asarray(Random(seed)(ids, 8)) for seed in (0, 1))
  # Five deviations of a count of 32,000 draws, each of one in eight.
  np.testing.assert_allclose(np.bincount(first, minlength=8), 4000, atol=5 * 60)
  np.testing.assert_allclose(np.mean(first == second), 1 / 8, atol=0.01)


def test_a_balanced_hash_gives_experts_equal_shares_of_the_text() -> None:
  counts = tuple(1e6 / (rank + 3) for rank in range(500))  # Zipf
  table = np.asarray(Balanced(counts)(jnp.arange(500), 8))
  loads = np.bincount(table, weights=counts)
  np.testing.assert_allclose(loads / loads.mean(), 1, atol=0.01)
  np.testing.assert_array_equal(
    Balanced((5.0, 3.0, 3.0, 1.0))(jnp.arange(9), 2), [0, 1, 1, 0] + [0] * 5
  )


def test_several_hashes_choose_each_from_their_own_experts() -> None:
  expert = by_id([0, 1, 2], Hash((Given((0, 1, 1)), Given((1, 0, 1)))))
  np.testing.assert_array_equal(expert, [[0, 1, 1], [3, 2, 3]])
  with pytest.raises(UserError, match="tables divide"):
    by_id([0], Hash((Random(), Random(1), Random(2))))


def test_clusters_send_similar_ids_to_one_expert_and_dispersed_ones_apart() -> None:
  centres = 10 * np.eye(4)
  vectors = centres[np.arange(40) % 4] + 0.1 * RNG.normal(size=(40, 4))
  table = clusters(vectors, 4)
  assert len(np.unique(table[:4])) == 4
  np.testing.assert_array_equal(table, table[np.arange(40) % 4])
  apart = dispersed(table, 4)
  for cluster in range(4):
    assert np.ptp(np.bincount(apart[table == cluster], minlength=4)) <= 1
  np.testing.assert_array_equal(np.bincount(apart), [10] * 4)


def test_a_table_is_read_from_a_file_and_must_fit(tmp_path) -> None:
  np.save(tmp_path / "table.npy", np.array([3, 0, 1]))
  table = read(str(tmp_path / "table.npy"))
  np.testing.assert_array_equal(by_id([0, 1, 2, 9], Hash((Given(table),)))[0], [3, 0, 1, 1])
  with pytest.raises(UserError, match="experts 0 to 3, of 2"):
    Given(table)(jnp.arange(3), 2)
  np.save(tmp_path / "square.npy", np.ones((2, 2)))
  for name in ("square.npy", "none.npy"):
    with pytest.raises(UserError, match=name):
      read(str(tmp_path / name))


def test_a_domain_is_an_expert_and_an_unknown_one_is_none() -> None:
  domain = np.resize([0, 3, 4, -1], N)
  tokens = Tokens(jnp.asarray(REAL), {"domain": jnp.asarray(domain, jnp.int32)})
  routing = route(Domain(), tokens)
  wanted = np.where(REAL & (domain >= 0) & (domain < E), domain, E)
  np.testing.assert_array_equal(routing.expert, wanted)
  np.testing.assert_array_equal(routing.weight, wanted < E)


@pytest.mark.parametrize(("router", "name"), [(Hash(), "token ids"), (Domain(), "decoder_domain")])
def test_a_fact_that_the_batch_does_not_tell_is_named(router: Router, name: str) -> None:
  with pytest.raises(UserError, match=name):
    route(router)
