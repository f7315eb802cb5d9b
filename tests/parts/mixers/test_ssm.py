"""The selective state space against a plain loop over time: documents, padding, chunks, caches."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.context import Context, Slots
from mtm.parts.mixers.ssm import SelectiveSSM, uniform
from mtm.types import BEYOND
from tests.contracts.discovered import parameters

D, L = 6, 11
X = np.random.default_rng(0).normal(size=(2, L, D)).astype(np.float32)
PLAIN = SelectiveSSM(8, 2, state=3)
BIASED = SelectiveSSM(5, 3, state=4, taps=3, bias=True, conv_bias=False, chunk=4)
MIXERS = [pytest.param(PLAIN, id="plain"), pytest.param(BIASED, id="biased-chunks")]


def weights(mixer: SelectiveSSM) -> Any:
  context = Context(jnp.zeros((1, 2), jnp.int32))
  return parameters(mixer.init, jnp.zeros((1, 2, D)), context)["params"]


def run(mixer: SelectiveSSM, x: Any, segments: Any = None) -> Any:
  positions = jnp.tile(jnp.arange(x.shape[1])[None], (len(x), 1))
  segments = None if segments is None else jnp.asarray(segments)
  context = Context(positions, segments)
  return mixer.apply({"params": weights(mixer)}, jnp.asarray(x), context)[0]


def silu(x: np.ndarray) -> np.ndarray:
  return x / (1 + np.exp(-x))


def loop(mixer: SelectiveSSM, x: np.ndarray) -> np.ndarray:
  """One document `[length, embed]`, token after token, in float64."""
  p = jax.tree.map(lambda w: np.asarray(w, np.float64), weights(mixer))
  inner = x @ p["input"]["kernel"] + p["input"].get("bias", 0)
  gate = x @ p["gate"]["kernel"] + p["gate"].get("bias", 0)
  h, out = np.zeros((mixer.width, mixer.state)), []
  for t in range(len(x)):
    u = np.zeros(mixer.width) + p.get("conv_bias", 0)
    for back in range(min(mixer.taps, t + 1)):
      u = u + p["conv_kernel"][mixer.taps - 1 - back] * inner[t - back]
    u = silu(u)
    chosen = u @ p["choose"]["kernel"]
    low, b, c = np.split(chosen, (mixer.rank, mixer.rank + mixer.state))
    step = np.log1p(np.exp(low @ p["step"]["kernel"] + p["step_bias"]))
    h = np.exp(step[:, None] * -np.exp(p["decay_log"])) * h + (step * u)[:, None] * b[None]
    out.append((h @ c + p["skip"] * u) * silu(gate[t]))
  return np.stack(out) @ p["out"]["kernel"] + p["out"].get("bias", 0)


def check(ours: Any, wanted: np.ndarray) -> None:
  np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mixer", MIXERS)
def test_it_is_the_loop_over_time(mixer: SelectiveSSM) -> None:
  y = run(mixer, X)
  for row in (0, 1):
    check(y[row], loop(mixer, X[row]))


@pytest.mark.parametrize("mixer", MIXERS)
def test_documents_are_what_they_are_alone_and_padding_is_passed_over(mixer: SelectiveSSM) -> None:
  segments = np.array([[1, 1, 1, 2, 2, 2, 2, 3, 0, 0, 0], [0, 4, 4, 0, 4, 0, 0, 4, 6, 6, 0]])
  y = run(mixer, X, segments)
  for row, ids in enumerate(segments):
    for document in set(ids) - {0}:
      check(y[row, ids == document], loop(mixer, X[row, ids == document]))


@pytest.mark.parametrize("chunk", [1, 3, 5, 10, 11, 64])
def test_chunks_change_neither_values_nor_gradients(chunk: int) -> None:
  cut = PLAIN.clone(chunk=chunk)
  weight = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
  segments = np.array([[1] * 4 + [2] * 7, [1] * 9 + [0] * 2])

  def loss(params: Any, mixer: SelectiveSSM) -> jax.Array:
    context = Context(jnp.zeros(X.shape[:2], jnp.int32), jnp.asarray(segments))
    return jnp.sum(mixer.apply({"params": params}, jnp.asarray(X), context)[0] * weight)

  (a, of_a), (b, of_b) = (jax.value_and_grad(loss)(weights(PLAIN), m) for m in (PLAIN, cut))
  np.testing.assert_allclose(a, b, rtol=1e-5)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), of_a, of_b)


def step(mixer: SelectiveSSM, cache: Any, x: Any, positions: Any) -> Any:
  slots = Slots(jnp.int32(0), jnp.zeros((1, L), jnp.int32))
  context = Context(jnp.asarray(positions), cache=cache, slots=slots)
  return mixer.apply({"params": weights(mixer)}, jnp.asarray(x), context)


@pytest.mark.parametrize("mixer", MIXERS)
def test_prompts_of_different_lengths_go_on_together(mixer: SelectiveSSM) -> None:
  """Prompts of 1 and 5 tokens padded to 6, the first with nothing known of it; then the rest."""
  cache, known = mixer.empty_cache(2, L, 0, jnp.float32), (0, 5)
  places = np.arange(6)[None].repeat(2, 0)
  positions = np.where(places < np.array(known)[:, None], places, BEYOND)
  y, aux = step(mixer, cache, X[:, :6], positions)
  wanted = [loop(mixer, x) for x in X]
  check(y[1, :5], wanted[1][:5])
  np.testing.assert_array_equal(aux.cache.state[0], 0)
  np.testing.assert_array_equal(aux.cache.inputs[0], 0)
  cache = aux.cache
  for turn in range(6):
    at = np.array(known) + turn
    y, aux = step(mixer, cache, X[np.arange(2), at][:, None], at[:, None])
    for row in (0, 1):
      check(y[row, 0], wanted[row][at[row]])
    cache = aux.cache


def test_padding_anywhere_changes_no_memory() -> None:
  cache = PLAIN.empty_cache(1, L, 0, jnp.float32)
  _, aux = step(PLAIN, cache, X[:1, :5], np.arange(5)[None])
  holes = X[:1, [0, 0, 7, 1, 9, 2, 3, 4, 8]]
  positions = np.array([[0, BEYOND, BEYOND, 1, BEYOND + 3, 2, 3, 4, BEYOND]])
  _, same = step(PLAIN, cache, holes, positions)
  jax.tree.map(check, same.cache, aux.cache)
  _, still = step(PLAIN, aux.cache, X[:1, 5:6], np.array([[BEYOND]]))
  jax.tree.map(np.testing.assert_array_equal, still.cache, aux.cache)


def test_half_precision_is_scanned_in_float32() -> None:
  x = jnp.asarray(X, jnp.bfloat16)
  cache = PLAIN.empty_cache(2, L, 0, jnp.bfloat16)
  y, aux = step(PLAIN, cache, x, np.tile(np.arange(L), (2, 1)))
  assert y.dtype == jnp.bfloat16
  assert aux.cache.state.dtype == jnp.float32
  assert aux.cache.inputs.dtype == jnp.bfloat16
  wanted = np.stack([loop(PLAIN, row) for row in np.asarray(x, np.float32)])
  np.testing.assert_allclose(y.astype(np.float32), wanted, rtol=0.05, atol=0.05)


def test_fresh_parameters_are_the_originals() -> None:
  mixer = SelectiveSSM(2000, 4, state=3)
  context = Context(jnp.zeros((1, 2), jnp.int32))
  params = mixer.init(jax.random.key(0), jnp.zeros((1, 2, D)), context)["params"]
  params = {name: getattr(value, "value", value) for name, value in params.items()}
  steps = np.asarray(jax.nn.softplus(params["step_bias"]))
  assert 0.001 * 0.99 < steps.min() < 0.0012 and 0.085 < steps.max() < 0.1 * 1.01
  # Evenly in the logarithm: half of them lie below the geometric mean.
  assert 0.45 < (steps < 0.01).mean() < 0.55
  np.testing.assert_allclose(np.exp(params["decay_log"]), np.tile([1, 2, 3], (2000, 1)), rtol=1e-6)
  assert (np.asarray(params["skip"]) == 1).all()
  drawn = uniform(jax.random.key(0), (16, 1000), jnp.float32)
  assert 0.24 < np.abs(drawn).max() <= 0.25


def test_a_bidirectional_prefix_is_refused() -> None:
  context = Context(jnp.zeros((2, L), jnp.int32), labels={"prefix": jnp.ones((2, L), jnp.int32)})
  with pytest.raises(UserError, match="prefix in both directions"):
    PLAIN.init(jax.random.key(0), jnp.asarray(X), context)
