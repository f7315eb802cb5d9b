"""A loaded model as evaluations talk to it: texts in, log-likelihoods or texts out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mtm.decoding import Policy
from mtm.errors import UserError
from mtm.evaluation.scorer import ENCODER, Ids, Scored, Scorer
from mtm.types import Model, Params


class Handle(Protocol):
  """What `mtm.load` returns, see `mtm.programs.handle.Handle`."""

  @property
  def model(self) -> Model: ...

  @property
  def params(self) -> Params: ...

  @property
  def plan(self) -> Any: ...

  @property
  def vocabulary(self) -> Any: ...

  @property
  def begin_id(self) -> int | None: ...

  @property
  def eos_id(self) -> Any: ...

  @property
  def batch_size(self) -> int: ...

  @property
  def framed(self) -> bool: ...

  @property
  def prefix(self) -> bool: ...

  def ids(self, text: str) -> list[int]:
    """The ids of a text as the model reads its inputs."""

  def generate(
    self,
    inputs: Sequence[Any],
    max_length: int,
    policy: Policy,
    seed: int,
    numbers: Sequence[int] | None,
    until: Sequence[str] = (),
  ) -> list[Any]:
    """Texts; lists of them where the policy keeps several."""


@dataclasses.dataclass(frozen=True)
class Speaker:
  """A model that answers.

  Attributes:
    handle: the model.
  """

  handle: Handle

  def __post_init__(self) -> None:
    if self.handle.vocabulary is None:
      raise UserError("this checkpoint has no vocabulary: questions in words need one")

  @property
  def reads_encoder(self) -> bool:
    """Whether inputs go to an encoder."""
    return ENCODER in self.handle.model.inputs

  @functools.cached_property
  def scorer(self) -> Scorer:
    """The engine."""
    handle = self.handle
    return Scorer(
      handle.model, handle.params, handle.plan, handle.batch_size, handle.begin_id, handle.prefix
    )

  def length(self, text: str) -> int:
    """The tokens of a text."""
    return len(self.handle.vocabulary.encode(text))

  @property
  def context(self) -> int | None:
    """The most tokens of a question with its answer; None: any number. Beside an encoder the answer
    has a place of its own."""
    limit = self.handle.model.max_length
    own = int(self.handle.begin_id is not None) if not self.reads_encoder else 0
    return None if limit is None else limit - own - 2  # special ids around a text

  def likelihoods(
    self, questions: Sequence[tuple[str, Sequence[str]]], ended: bool | None = None
  ) -> list[list[Scored]]:
    """The scores of texts that may follow texts.

    Args:
      questions: pairs of inputs and what may follow them.
      ended: whether a continuation's end counts as one of its tokens; None: beside an encoder.
    """
    ended = self.reads_encoder if ended is None else ended
    ends = self.handle.eos_id
    end = ends[0] if isinstance(ends, tuple) else ends
    tail = [end] if ended and end is not None else []

    def ids(inputs: str, texts: Sequence[str]) -> tuple[Ids, list[Ids]]:
      pairs = [self.pair(inputs, text) for text in texts]
      return (pairs[0][0] if pairs else []), [[*ids, *tail] for _, ids in pairs]

    return self.scorer([ids(*question) for question in questions])

  def rolling(self, texts: Sequence[str]) -> list[tuple[float, int]]:
    """The log-likelihood of each text from its begin on, and its tokens; see `Scorer.rolling`."""
    ids = [self.handle.vocabulary.encode(text) for text in texts]
    totals = self.scorer.rolling(ids, [] if self._begins else [self.prefix_id])
    return [(total, len(line)) for total, line in zip(totals, ids, strict=True)]

  def texts(
    self,
    prompts: Sequence[str],
    max_length: int,
    policy: Policy,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    until: Sequence[str] = (),
  ) -> list[list[str]]:
    """What the model writes after each prompt, as many texts as the policy keeps.

    Args:
      prompts: texts.
      max_length: the most tokens to write.
      policy: how they are chosen.
      seed, numbers: decide samples, see `Handle.generate`.
      until: a text ends before the first of these.
    """
    found = self.handle.generate(prompts, max_length, policy, seed, numbers, until)
    listed = found if policy.width > 1 else [[text] for text in found]
    return [[cut(text, until) for text in texts] for texts in listed]

  def pair(self, inputs: str, text: str) -> tuple[Ids, Ids]:
    """The ids of inputs and of what follows them.

    A decoder that comes from elsewhere has read the two as one text: they are tokenized together,
    blanks between them on the side of the second. A model that was trained here has read the two
    one after the other, as its task has them.
    """
    vocabulary = self.handle.vocabulary
    if self.reads_encoder or not self.handle.framed:
      return self.handle.ids(inputs), vocabulary.encode(text)
    kept = inputs.rstrip()
    if not kept:
      return ([] if self._begins else [self.prefix_id]), vocabulary.encode(inputs + text)
    before = self.handle.ids(kept)
    return before, self.handle.ids(inputs + text)[len(before) :]

  @property
  def _begins(self) -> bool:
    """Whether something stands before a decoder's empty prompt."""
    return self.handle.begin_id is not None and not self.reads_encoder

  @property
  def prefix_id(self) -> int:
    """What stands before a text that nothing precedes: the begin of texts, else their end.

    Raises:
      UserError: the vocabulary has neither.
    """
    vocabulary = self.handle.vocabulary
    found = vocabulary.eos_id if vocabulary.bos_id is None else vocabulary.bos_id
    if found is None:
      raise UserError("the vocabulary has neither a begin nor an end: give a text something before")
    return found

  def told(self) -> Mapping[str, Any]:
    """What the answers depend on besides parameters, JSON-able."""
    handle = self.handle
    return {"begin_id": handle.begin_id, "prefix": handle.prefix, "framed": handle.framed}


def cut(text: str, until: Sequence[str]) -> str:
  """The text before the first of these that it holds."""
  ends = [text.find(stop) for stop in until if stop]
  return text[: min((end for end in ends if end >= 0), default=len(text))]
