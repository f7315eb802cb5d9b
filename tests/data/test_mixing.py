from __future__ import annotations

import numpy as np

from mtm.data.mixing import Mixing

ALL = (True, True, True)


def test_tasks_come_in_proportion_to_their_rates():
  rates = np.array([5.0, 0.5, 20.0])
  mixing = Mixing(rates, 0)
  drawn = np.bincount([mixing.choose(i, ALL) for i in range(20_000)], minlength=3) / 20_000
  shares = rates / rates.sum()
  # Four standard errors of a binomial; the seed is fixed.
  assert (np.abs(drawn - shares) < 4 * np.sqrt(shares * (1 - shares) / 20_000)).all()


def test_a_choice_is_a_pure_function_of_seed_and_counter():
  forward = [Mixing([1, 2, 3], 9).choose(i, ALL) for i in range(50)]
  one = Mixing([1, 2, 3], 9)
  assert [one.choose(i, ALL) for i in reversed(range(50))] == forward[::-1]
  assert [Mixing([1, 2, 3], 8).choose(i, ALL) for i in range(50)] != forward


def test_a_task_that_ended_leaves_the_others_their_proportions():
  mixing = Mixing([1, 100, 3], 0)
  drawn = np.bincount([mixing.choose(i, (True, False, True)) for i in range(8000)], minlength=3)
  assert drawn[1] == 0
  assert abs(drawn[2] / 8000 - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 8000)


def test_tiny_rates_do_not_fall_off_the_end():
  mixing = Mixing([1e-300, 1.0, 1e-300], 0)
  assert {mixing.choose(i, ALL) for i in range(1000)} == {1}
  assert mixing.choose(0, (False, False, True)) == 2
