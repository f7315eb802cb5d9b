"""GSM8K from files like its own."""

from __future__ import annotations

import json

import pytest

from mtm.errors import UserError
from mtm.prompts import library
from mtm.tasks import gsm8k

ROW = {
  "question": "Ann has 500 pens and buys twice as many. How many has she?",
  "answer": "She buys 2*500=<<2*500=1000>>1,000 pens.\nShe has 500+1000=<<500+1000=1500>>1500.\n"
  "#### 1,500",
}  # fmt: skip


@pytest.fixture
def home(tmp_path, monkeypatch):
  rows = [{**ROW, "question": f"{n}: {ROW['question']}"} for n in range(203)]
  for split, count in (("train", 203), ("test", 2)):
    text = "".join(json.dumps(row) + "\n" for row in rows[:count])
    (tmp_path / f"{split}.jsonl").write_text(text)
  monkeypatch.setenv(gsm8k.VARIABLE, str(tmp_path))
  return tmp_path


def test_the_rationale_loses_its_calculations_and_the_number_its_comma(home):
  data = library.find("gsm8k")
  record = next(data.examples("test"))
  assert record["rationale"] == "She buys 2*500=1,000 pens. She has 500+1000=1500."
  cot = data.template("cot1").render(record)
  assert cot.targets == f"{record['rationale']} The answer is 1500."
  assert cot.references == ("1500", "1,500") and data.extracted(cot.targets) == "1500"
  assert data.extracted("So the answer is: $1,500.50 in all.") == "1,500.50"
  assert data.template("p1").render(record).targets == "1500"


def test_the_first_200_of_training_are_held_out(home):
  data = library.find("gsm8k")
  assert [data.size(split) for split in ("train", "validation", "test")] == [3, 200, 2]
  assert next(data.examples("train"))["question"].startswith("200: ")


def test_missing_directories_and_files_are_told(home, monkeypatch):
  data = library.find("gsm8k")
  (home / "test.jsonl").rename(home / "tests.jsonl")
  with pytest.raises(UserError, match="there is no test.jsonl in it; did you mean 'tests.jsonl'"):
    data.size("test")
  monkeypatch.delenv(gsm8k.VARIABLE)
  with pytest.raises(UserError, match="set MTM_GSM8K to the directory that has train.jsonl"):
    data.size("train")
  with pytest.raises(UserError, match="no '####' before its answer: 'many'"):
    gsm8k.problem({"question": "", "answer": "many"})
