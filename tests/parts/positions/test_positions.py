"""Each scheme's own formula; the contract is in tests/contracts/test_positions.py."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.parts.positions.alibi import Alibi, slopes
from mtm.parts.positions.axial import Axial
from mtm.parts.positions.learned import Learned
from mtm.parts.positions.rotary import Rotary
from mtm.parts.positions.sinusoidal import Sinusoidal
from mtm.parts.positions.t5_bias import T5Bias, bucket_of
from tests.contracts.discovered import parameters

RNG = np.random.default_rng(0)


def test_alibi_slopes_are_the_published_ones() -> None:
  """ofirpress/attention_with_linear_biases, `get_slopes`."""

  def published(n: int) -> list[float]:
    if math.log2(n).is_integer():
      start = 2 ** (-(2 ** -(math.log2(n) - 3)))
      return [start * start**i for i in range(n)]
    near = 2 ** math.floor(math.log2(n))
    return published(near) + published(2 * near)[0::2][: n - near]

  for heads in (1, 2, 6, 8, 12, 16):
    np.testing.assert_allclose(slopes(heads), published(heads), rtol=1e-6)


def test_alibi_subtracts_slope_times_distance() -> None:
  bias = Alibi(2).apply({}, jnp.array([[3]]), jnp.arange(5)[None], method="bias")
  np.testing.assert_allclose(bias[0, :, 0], -np.outer(slopes(2), [3, 2, 1, 0, 1]))


def test_rotary_scores_depend_on_the_difference_only() -> None:
  q, k = RNG.normal(size=(2, 1, 1, 1, 8)).astype(np.float32)

  def score(at_q: int, at_k: int) -> float:
    turn = Rotary().apply
    of_q, _ = turn({}, q, k, jnp.array([[at_q]]), method="rotate")
    _, of_k = turn({}, q, k, jnp.array([[at_k]]), method="rotate")
    return float(jnp.sum(of_q * of_k))

  assert score(5, 3) == pytest.approx(score(105, 103), rel=1e-4)
  assert score(0, 0) == pytest.approx(float(np.sum(q * k)), rel=1e-6)
  assert abs(score(5, 3) - score(5, 4)) > 1e-3


def test_rotary_is_a_complex_rotation() -> None:
  q = RNG.normal(size=(1, 3, 2, 8)).astype(np.float32)
  turned, _ = Rotary(100.0).apply({}, q, q, jnp.array([[0, 1, 7]]), method="rotate")
  z = q[..., :4] + 1j * q[..., 4:]
  angle = np.array([0, 1, 7])[:, None] * 100.0 ** (-np.arange(4) / 4)
  z = z * np.exp(1j * angle)[None, :, None]
  np.testing.assert_allclose(turned, np.concatenate([z.real, z.imag], -1), rtol=1e-5, atol=1e-6)


def test_rotary_refuses_an_odd_width() -> None:
  q = jnp.ones((1, 1, 1, 5))
  with pytest.raises(UserError, match="head_dim = 5 is odd"):
    Rotary().apply({}, q, q, jnp.zeros((1, 1), int), method="rotate")


def test_sinusoidal_is_its_formula() -> None:
  x = jnp.zeros((1, 4, 6))
  y = Sinusoidal().apply({}, x, jnp.array([[0, 1, 5, 2]]), method="embed")[0]
  for row, p in enumerate([0, 1, 5, 2]):
    for i in range(3):
      angle = p / 10_000 ** (2 * i / 6)
      np.testing.assert_allclose(y[row, 2 * i : 2 * i + 2], [math.sin(angle), math.cos(angle)],
                                 rtol=1e-5, atol=1e-6)  # fmt: skip


@pytest.mark.parametrize("interleaved", [True, False])
def test_the_last_sine_of_an_odd_width_has_no_cosine(interleaved: bool) -> None:
  sinusoidal = Sinusoidal(interleaved=interleaved)
  y = sinusoidal.apply({}, jnp.zeros((1, 1, 5)), jnp.array([[3]]), method="embed")[0, 0]
  angles = [3 / 10_000 ** (2 * i / 5) for i in range(3)]
  sines, cosines = [math.sin(a) for a in angles], [math.cos(a) for a in angles[:2]]
  order = [0, 3, 1, 4, 2] if interleaved else range(5)
  expected = [(sines + cosines)[i] for i in order]
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_learned_adds_the_row_of_the_position() -> None:
  learned = Learned(6, 4, offset=2)
  x, positions = jnp.ones((1, 3, 4)), jnp.array([[0, 5, 1]])
  params = parameters(lambda key: learned.init(key, x, positions, method="embed"))
  table = params["params"]["table"]["embedding"]
  assert table.shape == (8, 4)
  y = learned.apply(params, x, positions, method="embed")
  np.testing.assert_allclose(y, 1 + table[np.array([[2, 7, 3]])], rtol=1e-6)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_are_those_of_mesh_tensorflow(bidirectional: bool) -> None:
  """mesh_tensorflow/transformer/transformer_layers.py `_relative_position_bucket`, in numpy."""

  def published(relative: int, buckets: int = 32, far: int = 128) -> int:
    ret, n = 0, -relative
    if bidirectional:
      buckets //= 2
      ret += buckets if n < 0 else 0
      n = abs(n)
    else:
      n = max(n, 0)
    exact = buckets // 2
    if n < exact:
      return ret + n
    large = exact + int(math.log(n / exact) / math.log(far / exact) * (buckets - exact))
    return ret + min(large, buckets - 1)

  away = np.arange(-200, 201)
  ours = bucket_of(jnp.asarray(away), bidirectional)
  np.testing.assert_array_equal(ours, [published(int(a)) for a in away])


def test_t5_bias_reads_the_bucket_of_key_minus_query() -> None:
  module = T5Bias(2, bidirectional=True)
  q, k = jnp.array([[4]]), jnp.arange(9)[None]
  params = parameters(lambda key: module.init(key, q, k, method="bias"))
  table = params["params"]["rel_embedding"]
  bias = module.apply(params, q, k, method="bias")
  assert bias.shape == (1, 2, 1, 9)
  np.testing.assert_array_equal(bias[0, :, 0], table[:, bucket_of(jnp.arange(9) - 4, True)])


def test_axial_joins_the_vectors_of_a_row_and_a_column() -> None:
  axial = Axial((2, 3), (2, 4))
  x, positions = jnp.ones((1, 4, 6)), jnp.array([[0, 5, 2, 3]])
  params = parameters(lambda key: axial.init(key, x, positions, method="embed"))
  rows, columns = (params["params"][f"tables_{i}"]["embedding"] for i in (0, 1))
  assert rows.shape == (2, 2) and columns.shape == (3, 4)
  y = axial.apply(params, x, positions, method="embed")
  wanted = [np.concatenate([rows[p // 3], columns[p % 3]]) for p in (0, 5, 2, 3)]
  np.testing.assert_allclose(y, 1 + np.stack(wanted)[None], rtol=1e-6)


def test_axial_refuses_widths_that_do_not_fit() -> None:
  x, positions = jnp.ones((1, 4, 6)), jnp.zeros((1, 4), int)
  for widths, name in (((2, 3), "sum to 5, and the embedding has 6"), ((6,), "one width for each")):
    with pytest.raises(UserError, match=name):
      Axial((2, 3), widths).init(jax.random.key(0), x, positions, method="embed")
