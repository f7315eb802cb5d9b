"""Arithmetic with dates and weekdays, with rationales: a generator makes them, no download."""

from __future__ import annotations

import calendar
import datetime
import random
from typing import Any

from mtm.tasks import _generated, _templates

DAYS = tuple(calendar.day_name)
FIRST = datetime.date(1990, 1, 1)
SPAN = 40 * 365  # days, from the first on


def days_later(rng: random.Random) -> dict[str, Any]:
  """The date some days after another, as ISO 8601 writes it."""
  day, count = FIRST + datetime.timedelta(rng.randrange(SPAN)), rng.randint(1, 30)
  then = day + datetime.timedelta(count)
  left = calendar.monthrange(day.year, day.month)[1] - day.day
  if count > left:
    steps = f"{left} days are left in month {day.month}, and {count} - {left} = {count - left}."
  else:
    steps = f"{left} days are left in month {day.month}, and {day.day} + {count} = {then.day}."
  return {
    "question": f"Which date is {count} days after {day}?",
    "answer": str(then),
    "rationale": steps,
  }


def days_between(rng: random.Random) -> dict[str, Any]:
  """The days from one date to a later one, at most 60."""
  day, count = FIRST + datetime.timedelta(rng.randrange(SPAN)), rng.randint(1, 60)
  then = day + datetime.timedelta(count)
  return {"question": f"How many days are from {day} to {then}?", "answer": str(count)}


def weekday_later(rng: random.Random) -> dict[str, Any]:
  """The weekday some days after another."""
  start, count = rng.randrange(7), rng.randint(1, 99)
  left, gold = count % 7, (start + count) % 7
  return {
    "question": f"Today is {DAYS[start]}. Which day is it in {count} days?",
    "choices": list(DAYS),
    "gold": gold,
    "rationale": (
      f"{count} days are {count // 7} weeks and {left} days. "
      f"{left} days after {DAYS[start]} is {DAYS[gold]}."
    ),
  }


def earlier_date(rng: random.Random) -> dict[str, Any]:
  """Which of two dates comes first."""
  days = [str(FIRST + datetime.timedelta(n)) for n in rng.sample(range(SPAN), 2)]
  question = f"Which date is earlier: {days[0]} or {days[1]}?"
  return {"question": question, "choices": days, "gold": days.index(min(days))}


FREE, CHOICES, REASONED = (
  _templates.open_questions(), _templates.choice_questions(), _templates.reasoned(),
)  # fmt: skip
SETS = tuple(
  _generated.made(make.__name__, "dates", make, templates, metric, "question", answer, few)
  for make, templates, metric, answer, few in (
    (days_later, (*FREE, *REASONED), "exact_match", _templates.ANSWER, False),
    (days_between, FREE, "exact_match", None, False),
    (weekday_later, (*CHOICES, *REASONED), "accuracy", _templates.ANSWER, True),
    (earlier_date, CHOICES, "accuracy", None, False),
  )
)
