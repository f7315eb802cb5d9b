"""How texts become ids before a model is asked, and what of its texts counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from mtm.decoding.greedy import Greedy
from mtm.decoding.sample import Sample
from mtm.errors import UserError
from mtm.evaluation import speaker
from mtm.evaluation.speaker import Speaker, cut
from tests.evaluation.oracle import scored


class Merging:
  """Ids of characters, but "n " and " a" are one token: what stands together matters."""

  eos_id, bos_id = 1, None

  def encode(self, text: str) -> list[int]:
    text = text.replace(" a", "\x02").replace("n ", "\x03")
    return [ord(c) for c in text]


@dataclasses.dataclass
class Fake:
  """As much of a handle as texts need."""

  inputs: tuple[str, ...] = ("decoder_input_tokens",)
  framed: bool = False
  begin_id: int | None = 0
  max_length: int | None = None
  vocabulary: Any = dataclasses.field(default_factory=Merging)
  eos_id: Any = 1
  params: Any = None
  plan: Any = None
  batch_size: int = 4
  prefix: bool = False

  @property
  def model(self) -> Any:
    return self

  def ids(self, text: str) -> list[int]:
    end = [1] if self.framed and len(self.inputs) > 1 else []
    return [*self.vocabulary.encode(text), *end]

  def generate(
    self, inputs: Sequence[Any], length: int, policy: Any, seed: int, numbers: Any, until: Any
  ):
    texts = [f"{text} one\ntwo" for text in inputs]
    return [[text] * policy.width for text in texts] if policy.width > 1 else texts


PAIRED = ("encoder_input_tokens", "decoder_input_tokens")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
  """The questions in ids that would go to the model."""
  kept: list[Any] = []

  def scores(self: Any, questions: Any) -> Any:
    kept.extend(questions)
    return [[scored(-1.0, len(ids)) for ids in choices] for _, choices in questions]

  monkeypatch.setattr(speaker.Scorer, "__call__", scores)
  return kept


def text(ids: Sequence[int]) -> str:
  return "".join({2: " a", 3: "n ", 1: "$"}.get(i, chr(i)) for i in ids)


def test_a_decoder_from_elsewhere_reads_inputs_and_answer_as_one_text(asked: list[Any]) -> None:
  Speaker(Fake(framed=True, begin_id=None)).likelihoods([("in", [" a", " b"])])
  ((before, (one, other)),) = asked
  assert text(before) == "in" and text(one) == " a" and text(other) == "b"  # "n " took the blank
  assert 3 not in before


def test_blanks_at_the_end_belong_to_the_answer(asked: list[Any]) -> None:
  Speaker(Fake(framed=True, begin_id=None)).likelihoods([("of ", ["a"])])
  assert asked == [([ord("o"), ord("f")], [[2]])]


def test_a_model_trained_here_reads_one_after_the_other(asked: list[Any]) -> None:
  Speaker(Fake()).likelihoods([("in", [" b"]), ("", ["b"])])
  assert [(text(a), text(b[0])) for a, b in asked] == [("in", " b"), ("", "b")]
  assert [list(map(len, b)) for _, b in asked] == [[2], [1]]


def test_an_answer_beside_an_encoder_ends_unless_told_not_to(asked: list[Any]) -> None:
  paired = Speaker(Fake(PAIRED, framed=True))
  paired.likelihoods([("in", ["b"])])
  paired.likelihoods([("in", ["b"])], ended=False)
  Speaker(Fake()).likelihoods([("in", ["b"])], ended=True)
  assert [(text(a), text(b[0])) for a, b in asked] == [("in$", "b$"), ("in$", "b"), ("in", "b$")]


def test_the_end_of_texts_stands_before_one_without_inputs(asked: list[Any]) -> None:
  told = Speaker(Fake(framed=True, begin_id=None))
  told.likelihoods([("", ["b"])])
  assert asked == [([1], [[ord("b")]])] and told.rolling(["bb"]) == [(-1.0, 2)]
  assert asked[1] == ([1], [[ord("b")] * 2])
  Speaker(Fake()).rolling(["b"])
  assert asked[2] == ([], [[ord("b")]])


def test_texts_end_where_they_are_told_to() -> None:
  assert cut("one two, three", ["three", ",", "none", ""]) == "one two"
  fake = Speaker(Fake())
  assert fake.texts(["a", "b"], 8, Greedy(), until=["\n"]) == [["a one"], ["b one"]]
  assert fake.texts(["a"], 8, Sample(num_samples=2)) == [["a one\ntwo"] * 2]


def test_room_is_the_models_less_its_begin_and_ends() -> None:
  assert Speaker(Fake(max_length=32)).context == 29
  assert Speaker(Fake(PAIRED, max_length=32)).context == 30
  assert Speaker(Fake()).context is None


def test_a_checkpoint_without_a_vocabulary_is_refused() -> None:
  with pytest.raises(UserError, match="no vocabulary"):
    Speaker(Fake(vocabulary=None))
