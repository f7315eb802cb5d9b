"""Sets of records: splits, templates, sampling and answers in generated texts."""

from __future__ import annotations

import collections

import pytest

from mtm.errors import UserError
from mtm.prompts.prompted import Prompted
from mtm.prompts.template import Template

TEMPLATES = (
  Template("a", "{q}"), Template("b", "{q}?"), Template("c", "{q}", "{rationale} {answer}")
)  # fmt: skip


def toy(records=({"q": "1", "answer": "2"},), **fields):
  return Prompted("toy", "toys", {"train": lambda: records}, TEMPLATES, **fields)


def test_an_empty_split_and_an_unknown_one_are_told():
  with pytest.raises(UserError, match="'toy': its split 'train' is empty"):
    list(toy(()).examples("train"))
  with pytest.raises(UserError, match="'toy' has no split 'trian'; did you mean 'train'"):
    list(toy().examples("trian"))


def test_templates_are_found_by_name_and_have_different_ones():
  assert toy().template("b") is TEMPLATES[1]
  with pytest.raises(UserError, match="'toy' has no template 'd'; choose one of: a, b, c"):
    toy().template("d")
  with pytest.raises(UserError, match="needs templates, each with a name of its own"):
    Prompted("toy", "toys", {}, (TEMPLATES[0], TEMPLATES[0]))


def test_sampling_is_even_and_depends_on_record_and_seed_alone():
  drawn = [toy().sampled(str(key)).name for key in range(400)]
  assert drawn == [toy().sampled(str(key)).name for key in range(400)]
  counts = collections.Counter(drawn)
  assert counts.keys() == {"a", "b"} and min(counts.values()) > 160  # 4 standard deviations
  assert drawn != [toy().sampled(str(key), seed=1).name for key in range(400)]
  assert {toy().sampled(str(key), among=TEMPLATES[2:]).name for key in range(9)} == {"c"}


def test_rationales_are_asked_apart():
  assert toy().asking(reasons=True) == TEMPLATES[2:]
  plain = Prompted("plain", "toys", {}, TEMPLATES[:2])
  with pytest.raises(UserError, match="'plain' has no template with a rationale"):
    plain.asking(reasons=True)


def test_the_last_match_is_the_answer_else_the_text():
  data = toy(extract=r"answer is (.*?)\.?$")
  assert data.extracted(" First the answer is 3.\nNo, the answer is 4.\n") == "4"
  assert data.extracted(" 5 ") == toy().extracted("5\n") == "5"


def test_sizes_are_told_or_counted():
  assert toy().size("train") == 1 and toy(sizes={"train": 7}).size("train") == 7
  assert toy(({"q": 1},) * 3).held("train", 2) == ({"q": 1},) * 2
