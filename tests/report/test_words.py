"""Numbers keep their value to the digits shown, and change unit where they should."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtm.report import _words

_LETTERS = {"": 1, "k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


@given(st.floats(1, 9e14))
def test_a_count_reads_back_within_half_of_its_last_digit(number: float) -> None:
  text = _words.count(number)
  letter = text[-1] if text[-1] in _LETTERS else ""
  value = float(text.removesuffix(letter)) * _LETTERS[letter]
  # Three digits: 0.5 % of the value, and half a unit where no letter scales it.
  assert value == pytest.approx(number, rel=5.1e-3, abs=0.501 if not letter else 0)
  assert len(text) <= 6


@pytest.mark.parametrize(
  ("number", "text"),
  [
    (0, "0"),
    (512, "512"),
    (999.9, "1.00k"),
    (41_000, "41.0k"),
    (1_234_567, "1.23M"),
    (7e9, "7.00B"),
  ],
)
def test_counts_take_the_letter_of_their_size(number: float, text: str) -> None:
  assert _words.count(number) == text


@pytest.mark.parametrize(
  ("seconds", "clock", "words"),
  [
    (0.42, "0:00", "0.42 s"),
    (12.14, "0:12", "12.1 s"),
    (59.96, "1:00", "1 min 00 s"),
    (245, "4:05", "4 min 05 s"),
    (3599.6, "1:00:00", "1 h 00 min"),
    (10_931, "3:02:11", "3 h 02 min"),
    (100_000, "27:46:40", "27 h 47 min"),
  ],
)
def test_times_carry_over_at_sixty(seconds: float, clock: str, words: str) -> None:
  assert (_words.clock(seconds), _words.duration(seconds)) == (clock, words)


@given(st.floats(0, 9e14))
def test_a_size_reads_back_within_half_of_its_last_digit(number: float) -> None:
  digits, unit = _words.size(number).split()
  assert float(digits) * _UNITS[unit] == pytest.approx(number, rel=5.1e-3, abs=0.501)
  assert float(digits) <= 1000 or unit == "TiB"


def test_small_shares_keep_a_digit_and_zero_needs_none() -> None:
  assert [_words.share(x) for x in (0, 0.0012, 0.31, 1)] == ["0 %", "0.1 %", "31 %", "100 %"]


def test_losses_that_diverged_stay_short() -> None:
  assert [_words.loss(x) for x in (2.31, 12345.6, float("nan"))] == ["2.310", "1.23e+04", "nan"]
