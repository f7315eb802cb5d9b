"""Dates: answers by another way of counting."""

from __future__ import annotations

import datetime
import itertools
import re

from mtm.prompts import library

WEEK = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def records(name: str, count: int = 200):
  return itertools.islice(library.find(name).examples("test"), count)


def days(text: str) -> list[int]:
  return [datetime.date.fromisoformat(d).toordinal() for d in re.findall(r"\d{4}-\d\d-\d\d", text)]


def test_days_later():
  for record in records("days_later"):
    count = int(record["question"].split()[3])
    assert days(record["answer"])[0] == days(record["question"])[0] + count <= 800_000
    last = re.findall(r"\d+", record["rationale"])[-1]
    assert int(last) == int(record["answer"][-2:]), record


def test_days_between():
  for record in records("days_between"):
    first, last = days(record["question"])
    assert record["answer"] == str(last - first) and last > first


def test_the_weekday_some_days_later():
  for record in records("weekday_later"):
    words = record["question"].split()
    start, count = WEEK.index(words[2].strip(".")), int(words[-2])
    assert record["choices"][record["gold"]] == WEEK[(start + count) % 7]
    assert record["rationale"].endswith(f"{record['choices'][record['gold']]}.")


def test_the_earlier_date():
  for record in records("earlier_date"):
    first, last = days(record["question"])
    assert record["gold"] == int(last < first)
