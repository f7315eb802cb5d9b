from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtm.data._random import BLOCK, Draws, Uniforms, permuted


@given(st.integers(1, 3000), st.integers(0, 2**40), st.data())
def test_permuted_is_a_permutation_whatever_the_blocks(size, seed, data):
  border = data.draw(st.integers(0, size))
  whole = permuted(size, 0, size, seed, "x")
  assert sorted(whole) == list(range(size))
  halves = [permuted(size, 0, border, seed, "x"), permuted(size, border, size, seed, "x")]
  np.testing.assert_array_equal(np.concatenate(halves), whole)


def test_permuted_needs_no_table_of_a_huge_corpus():
  far = permuted(10**15, 10**14, 10**14 + 1000, 0, "x")
  assert len(set(far.tolist())) == 1000 and far.min() >= 0 and far.max() < 10**15


@pytest.mark.parametrize("size", [5, 64, 1000])
def test_every_element_is_as_likely_anywhere(size):
  trials = 4000
  first = np.array([permuted(size, 0, 1, seed, "x")[0] for seed in range(trials)])
  counts = np.bincount(first * 5 // size, minlength=5)
  expected = np.bincount(np.arange(size) * 5 // size) / size * trials
  # Chi-square with 4 degrees of freedom exceeds 23.5 once in 10,000 trials; the seeds are fixed.
  assert ((counts - expected) ** 2 / expected).sum() < 23.5


def test_neighbours_are_torn_apart():
  order = permuted(4096, 0, 4096, 0, "x")
  # A random permutation keeps one pair of neighbours on average, Poisson distributed.
  assert (np.diff(order) == 1).sum() <= 8


def test_draws_depend_on_their_address_only():
  draws = Draws(7, "task")
  wanted = draws.at(3, 11).random(5)
  draws.at(3, 12).integers(10, size=3, dtype=np.uint32)  # leaves half a word in the buffer
  np.testing.assert_array_equal(draws.at(3, 11).random(5), wanted)
  np.testing.assert_array_equal(Draws(7, "task").at(3, 11).random(5), wanted)
  for other in (
    draws.at(4, 11),
    draws.at(3, 12),
    Draws(8, "task").at(3, 11),
    Draws(7, "t").at(3, 11),
  ):
    assert not np.isclose(other.random(5), wanted).any()


def test_uniforms_are_the_same_in_any_order():
  numbers = Uniforms(0, "x")
  forward = [numbers[i] for i in range(2 * BLOCK)]
  again = Uniforms(0, "x")
  assert [again[i] for i in reversed(range(2 * BLOCK))] == forward[::-1]
  assert 0.47 < np.mean(forward) < 0.53  # 4.7 standard errors


def test_draws_equal_numpys_own_philox():
  draws = Draws(5, "x")
  draws.at(1, 2)
  key = draws._philox.state["state"]["key"]
  wanted = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 2, 1])).random(9)
  np.testing.assert_array_equal(draws.at(1, 2).random(9), wanted)
