"""How a model is asked: to rank choices, to write an answer, to vote among several, to be measured.

A method's reply is JSON-able, so that it can be kept, and says the answer by itself.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from mtm.decoding import Policy
from mtm.decoding.greedy import Greedy
from mtm.decoding.sample import Sample
from mtm.errors import UserError
from mtm.evaluation.metrics import Answer
from mtm.evaluation.questions import Question
from mtm.evaluation.ranking import PerByte, PerToken, Rule, Sum, log_softmax
from mtm.evaluation.scorer import Scored
from mtm.evaluation.speaker import Speaker

Reply = dict[str, Any]
_NUMBERS = 2**31  # of questions, which decide samples


class Method(Protocol):
  """A way of asking. A frozen dataclass: its `repr` tells replies of different ways apart."""

  @property
  def writes(self) -> int:
    """The most tokens that it needs after a question, beside those of its answers."""

  def metrics(self, own: Sequence[str]) -> Sequence[str]:
    """The names of metrics of its answers, the main one first, to a set with these of its own."""

  def ask(self, speaker: Speaker, questions: Sequence[Question]) -> list[Reply]:
    """A reply for each question, which does not depend on the others."""

  def answers(self, question: Question, reply: Reply) -> Mapping[str, Answer]:
    """Label → answer; the first is the main one, and its label is left out of tables."""


@dataclasses.dataclass(frozen=True)
class Rank:
  """The likeliest choice is the answer.

  Attributes:
    rules: how likelihoods are compared; each has results of its own, and the first is the main one.
    ended: whether a choice's end counts; None: beside an encoder, whose answers are trained with
      it.
  """

  rules: Sequence[Rule] = (Sum(), PerToken(), PerByte())
  ended: bool | None = None
  writes = 0

  def metrics(self, own: Sequence[str]) -> Sequence[str]:
    """See `Method.metrics`."""
    return "accuracy", *own, "calibration_error"

  def ask(self, speaker: Speaker, questions: Sequence[Question]) -> list[Reply]:
    """See `Method.ask`. Raises UserError for a question without choices."""
    wanted: dict[tuple[str, tuple[str, ...]], None] = {}
    asked = []
    for question in questions:
      if not question.choices:
        raise UserError(
          f"set {question.data.name!r}, template {question.template.name!r} gives no choices to"
          " rank: take a method that generates"
        )
      texts = question.continuations
      others = [[(text, texts) for text in rule.others(question)] for rule in self.rules]
      asked.append(((question.inputs, texts), others))
      wanted |= dict.fromkeys([(question.inputs, texts), *(key for keys in others for key in keys)])
    found = dict(zip(wanted, speaker.likelihoods(list(wanted), self.ended), strict=True))
    return [
      {
        "scores": self._scores(
          question, found[own], [[found[key] for key in keys] for keys in more]
        )
      }
      for question, (own, more) in zip(questions, asked, strict=True)
    ]

  def _scores(
    self, question: Question, own: Sequence[Scored], others: Sequence[Sequence[Sequence[Scored]]]
  ) -> dict[str, list[float]]:
    return {
      rule.name: rule.scores(question, own, more).tolist()
      for rule, more in zip(self.rules, others, strict=True)
    }

  def answers(self, question: Question, reply: Reply) -> Mapping[str, Answer]:
    """See `Method.answers`; a label is the name of a rule."""
    found = {}
    for name, scores in reply["scores"].items():
      chosen = int(np.argmax(scores))
      sure = float(np.exp(log_softmax(np.asarray(scores))[chosen]))
      found[name] = Answer(
        question.choices[chosen], question.rendered.references, chosen, question.rendered.gold, sure
      )
    return found


@dataclasses.dataclass(frozen=True)
class Generate:
  """What the model writes is the answer, or what the set extracts from it.

  Attributes:
    max_length: the most tokens to write.
    until: the text ends before the first of these.
    policy: how tokens are chosen.
    seed: decides samples.
  """

  max_length: int = 64
  until: Sequence[str] = ("\n\n",)
  policy: Policy = Greedy()  # noqa: RUF009 (frozen)
  seed: int = 0

  def metrics(self, own: Sequence[str]) -> Sequence[str]:
    """See `Method.metrics`."""
    return own

  @property
  def writes(self) -> int:
    """See `Method.writes`."""
    return self.max_length

  def ask(self, speaker: Speaker, questions: Sequence[Question]) -> list[Reply]:
    """See `Method.ask`."""
    texts = _written(speaker, questions, self.max_length, self.policy, self.seed, self.until)
    return [{"texts": found[:1]} for found in texts]

  def answers(self, question: Question, reply: Reply) -> Mapping[str, Answer]:
    """See `Method.answers`."""
    return {"": _free(question, question.data.extracted(reply["texts"][0]))}


@dataclasses.dataclass(frozen=True)
class SelfConsistency:
  """The answer that most of several sampled texts come to (2203.11171); of equally many the one
  that was sampled first. Its share of the votes is the confidence.

  Attributes:
    samples: texts for a question.
    temperature, top_k, top_p: see `mtm.decoding.sample.Sample`; the paper's for LaMDA are 0.5, 40.
    max_length, until, seed: see `Generate`.
  """

  samples: int = 8
  temperature: float = 0.5
  top_k: int = 40
  top_p: float = 1.0
  max_length: int = 128
  until: Sequence[str] = ("\n\n",)
  seed: int = 0

  def metrics(self, own: Sequence[str]) -> Sequence[str]:
    """See `Method.metrics`."""
    return *own, "calibration_error"

  @property
  def writes(self) -> int:
    """See `Method.writes`."""
    return self.max_length

  def ask(self, speaker: Speaker, questions: Sequence[Question]) -> list[Reply]:
    """See `Method.ask`."""
    policy = Sample(self.temperature, self.top_k, self.top_p, self.samples)
    texts = _written(speaker, questions, self.max_length, policy, self.seed, self.until)
    return [{"texts": found} for found in texts]

  def answers(self, question: Question, reply: Reply) -> Mapping[str, Answer]:
    """See `Method.answers`."""
    given = [question.data.extracted(text) for text in reply["texts"]]
    votes = collections.Counter(map(spelled, given))  # in order of first appearance
    ((best, count),) = votes.most_common(1)
    text = next(answer for answer in given if spelled(answer) == best)
    return {"": dataclasses.replace(_free(question, text), confidence=count / len(given))}


@dataclasses.dataclass(frozen=True)
class Perplexity:
  """How likely the right answer is; without inputs, in windows as long as the model."""

  ended: bool = False
  writes = 0

  def metrics(self, own: Sequence[str]) -> Sequence[str]:
    """See `Method.metrics`."""
    del own
    return ("likelihood",)

  def ask(self, speaker: Speaker, questions: Sequence[Question]) -> list[Reply]:
    """See `Method.ask`."""
    texts = [question.rendered.continuation(question.rendered.targets) for question in questions]
    after = [i for i, question in enumerate(questions) if question.inputs]
    alone = [i for i, question in enumerate(questions) if not question.inputs]
    pairs = [(questions[i].inputs, [texts[i]]) for i in after]
    replies: dict[int, tuple[float, int]] = {
      i: (scores[0].total, len(scores[0].log_probs))
      for i, scores in zip(after, speaker.likelihoods(pairs, self.ended), strict=True)
    }
    replies |= dict(zip(alone, speaker.rolling([texts[i] for i in alone]), strict=True))
    return [
      {"log_likelihood": nats, "tokens": tokens, "bytes": len(texts[i].encode())}
      for i, (nats, tokens) in sorted(replies.items())
    ]

  def answers(self, question: Question, reply: Reply) -> Mapping[str, Answer]:
    """See `Method.answers`."""
    told = reply["log_likelihood"], reply["tokens"], reply["bytes"]
    return {"": Answer(references=question.rendered.references, likelihood=told)}


def _written(
  speaker: Speaker, questions: Sequence[Question], max_length: int, policy: Policy, seed: int,
  until: Sequence[str],
) -> list[list[str]]:  # fmt: skip
  prompts = [question.inputs for question in questions]
  numbers = [int(question.digest, 16) % _NUMBERS for question in questions]
  return speaker.texts(prompts, max_length, policy, seed, numbers, until)


def _free(question: Question, text: str) -> Answer:
  """A text as an answer; to a question with choices it chooses the one that it spells out."""
  chosen, found = None, question.rendered
  if found.choices:
    told = [spelled(choice) for choice in found.choices]
    chosen = told.index(spelled(text)) if spelled(text) in told else -1
  return Answer(text, found.references, chosen, found.gold)


def spelled(text: str) -> str:
  """What makes two answers the same: no case, single blanks, no punctuation at the end."""
  return " ".join(text.casefold().split()).rstrip(".,;:!")
