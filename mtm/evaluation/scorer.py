"""Log-likelihoods of many continuations, each prompt read once.

Choices that begin alike share what they share: a line is read once for all choices that are the
same but for their last token, as answers of one token are.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from mtm.decoding.choices import judge
from mtm.errors import UserError
from mtm.types import Batch, Model, Params

ENCODER = "encoder_input_tokens"
SHORTEST = 16  # prompts are padded to this or more, so that few shapes compile
LONG = 256  # from here on a shape more costs less than the padding it saves
FEWEST = 32  # log-probabilities that are asked of a question at least: so, too, few shapes compile
Ids = Sequence[int]
Question = tuple[Ids, Sequence[Ids]]  # a prompt, and what may follow it


class Scored(NamedTuple):
  """What a model says of one continuation.

  Attributes:
    log_probs: float32 `[tokens]`, nats.
    greedy: whether each token is the likeliest after those before it.
  """

  log_probs: np.ndarray
  greedy: bool

  @property
  def total(self) -> float:
    """The log-likelihood in nats."""
    return float(np.sum(self.log_probs, dtype=np.float64))


@dataclasses.dataclass(frozen=True)
class Scorer:
  """Scores continuations under a decoder, or a decoder that reads its encoder's states.

  A score does not depend on the questions beside it, on padding or on the mesh, but for the last
  bits of float32.

  Attributes:
    model, params: the model.
    plan: where arrays lie, a `mtm.sharding.plan.Plan`.
    batch_size: lines together.
    begin_id: what the decoder is fed first; None: nothing before a decoder's own prompt.
    bidirectional_prefix: whether a decoder reads its prompt in both directions.
  """

  model: Model
  params: Params
  plan: Any
  batch_size: int = 8
  begin_id: int | None = 0
  bidirectional_prefix: bool = False

  def __call__(self, questions: Sequence[Question]) -> list[list[Scored]]:
    """The scores of each question's continuations. All hosts ask the same questions.

    Args:
      questions: ids without padding; what an encoder reads ends as in training.

    Raises:
      UserError: a prompt with a continuation is longer than the model, a decoder has neither a
        prompt nor a begin, or the model has no decoder.
    """
    self._check()
    found: list[list[Scored]] = [[Scored(np.zeros(0, np.float32), True)] * len(choices)
                                 for _, choices in questions]  # fmt: skip
    pieces = [piece for number, question in enumerate(questions) for piece in
              self._pieces(number, *question)]  # fmt: skip
    pieces.sort(key=lambda p: (_double(len(p.lines)), len(p.prompt), max(map(len, p.lines))))
    for width, group in itertools.groupby(pieces, lambda p: _double(len(p.lines))):
      every = self.plan.rows
      rows = -(-max(self.batch_size // width, 1) // every) * every
      while part := list(itertools.islice(group, rows)):
        for piece, scores in zip(part, self._run(part, width, rows), strict=True):
          for choice, score in zip(piece.choices, scores, strict=True):
            found[piece.question][choice] = score
    return found

  def rolling(self, texts: Sequence[Ids], begin: Ids = (), limit: int | None = None) -> list[float]:
    """The log-likelihood of each text, every token predicted once, in windows as long as the model.

    Args:
      texts: ids.
      begin: what stands before the first window, where the decoder has no begin of its own.
      limit: the longest window; None: the model's, or all of a text.
    """
    own = self.begin_id is not None and not self.reads_encoder
    limit = limit or self.model.max_length or 2**30
    cut = [list(windows(text, limit - own, begin)) for text in texts]
    parts = [(list(context), [predicted]) for pieces in cut for context, predicted in pieces]
    totals = iter([scores[0].total for scores in self(parts)])
    return [sum(itertools.islice(totals, len(pieces))) for pieces in cut]

  @property
  def reads_encoder(self) -> bool:
    """Whether prompts go to an encoder."""
    return ENCODER in self.model.inputs

  @functools.cached_property
  def _judge(self) -> Any:
    return self.plan.jit(functools.partial(judge, self.model))

  @functools.cached_property
  def _prepared(self) -> Params:
    return self.plan.jit(self.model.prepare)(self.params)  # once, not for every batch

  def _check(self) -> None:
    if "decoder_input_tokens" not in self.model.inputs:
      raise UserError(
        f"an {self.model.architecture} alone gives continuations no likelihood: take the checkpoint"
        " of a decoder"
      )
    if self.reads_encoder and self.begin_id is None:
      raise UserError(
        "nobody says what the decoder begins with: give begin_id to mtm.load, or put"
        " decoder_start_token_id into the checkpoint's config.json"
      )

  def _pieces(self, number: int, prompt: Ids, choices: Sequence[Ids]) -> Iterator[_Piece]:
    """The question, cut where it has more lines than go together."""
    prompt = list(prompt)
    if not self.reads_encoder:
      prompt = [*([] if self.begin_id is None else [self.begin_id]), *prompt]
      if not prompt:
        raise UserError("a prompt is empty, and nothing stands before it in this model")
    self._fits(len(prompt), max(map(len, choices), default=0))
    order = (i for i, ids in enumerate(choices) if len(ids))
    piece = _Piece(number, prompt)
    for i in sorted(order, key=lambda i: list(choices[i][:-1]), reverse=True):
      if len(piece.lines) == max(self.batch_size, 1) and not piece.holds(choices[i]):
        yield piece
        piece = _Piece(number, prompt)
      piece.add(i, list(choices[i]))
    if piece.choices:
      yield piece

  def _fits(self, prompt: int, choice: int) -> None:
    limit = self.model.max_length
    if limit is None or not choice:
      return
    longest = max(prompt, choice) if self.reads_encoder else prompt + choice - 1
    if longest > limit:
      raise UserError(
        f"a prompt of {prompt} tokens and an answer of {choice} do not fit the model's {limit}:"
        " take fewer exemplars, or a shorter question"
      )

  def _run(self, pieces: Sequence[_Piece], width: int, rows: int) -> Iterator[list[Scored]]:
    """The scores of each piece, in a batch of `rows` questions of `width` lines."""
    limit = self.model.max_length or 2**30
    length = min(_padded(max(len(piece.prompt) for piece in pieces)), limit)
    fed = max(len(line) for piece in pieces for line in piece.lines)
    fed = min(_double(fed + 1), limit) - 1
    count = max(FEWEST, _double(max(len(piece.asked) for piece in pieces)))
    lines, lengths = np.zeros((rows, width, fed), np.int32), np.zeros((rows, width), np.int32)
    asked = np.zeros((rows, count, 3), np.int32)
    for row, piece in enumerate(pieces):
      for number, line in enumerate(piece.lines):
        lines[row, number, : len(line)], lengths[row, number] = line, len(line)
      asked[row, : len(piece.asked)] = piece.asked
    prompts = self._prompts([piece.prompt for piece in pieces], rows, length)
    told = {"lines": lines, "lengths": lengths, "asked": asked}
    put = self.plan.put_batch({**prompts, **told})
    batch = {name: put[name] for name in prompts}
    out = self._judge(self._prepared, batch, *(put[name] for name in told))
    log_probs, greedy = self.plan.own(out, put)
    for row, piece in enumerate(pieces):
      yield [
        Scored(np.asarray(log_probs[row, start:end]), bool(np.all(greedy[row, start:end])))
        for start, end in piece.spans
      ]

  def _prompts(self, prompts: Sequence[Ids], rows: int, length: int) -> Batch:
    tokens, segments = np.zeros((rows, length), np.int32), np.zeros((rows, length), np.int32)
    segments[:, 0] = 1  # rows of padding attend to something
    for row, ids in enumerate(prompts):
      tokens[row, : len(ids)], segments[row, : len(ids)] = ids, 1
    if self.reads_encoder:
      begin = np.full((rows, 1), self.begin_id, np.int32)
      return {
        ENCODER: tokens, "encoder_segment_ids": segments, "decoder_input_tokens": begin,
      }  # fmt: skip
    batch = {"decoder_input_tokens": tokens, "decoder_segment_ids": segments}
    if self.bidirectional_prefix:
      batch["decoder_causal_attention"] = segments
    return batch


@dataclasses.dataclass
class _Piece:
  """Continuations of one prompt that are scored together.

  Attributes:
    question: its number.
    prompt: ids.
    lines: what is fed after the prompt; none begins another.
    choices: the numbers of the continuations.
    asked: line, place and token of each of their tokens.
    spans: where in `asked` each continuation stands.
  """

  question: int
  prompt: Ids
  lines: list[list[int]] = dataclasses.field(default_factory=list)
  choices: list[int] = dataclasses.field(default_factory=list)
  asked: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)
  spans: list[tuple[int, int]] = dataclasses.field(default_factory=list)

  def holds(self, ids: Ids) -> bool:
    """Whether the newest line, the only one that can, begins with all that `ids` needs to feed."""
    return bool(self.lines) and self.lines[-1][: len(ids) - 1] == list(ids[:-1])

  def add(self, number: int, ids: list[int]) -> None:
    """Takes a continuation; they come from the last to the first in the order of what they feed, so
    that each stands right after those that begin with it."""
    if not self.holds(ids):
      self.lines.append(ids[:-1])
    start, line = len(self.asked), len(self.lines) - 1
    self.asked += [(line, place, token) for place, token in enumerate(ids)]
    self.choices.append(number)
    self.spans.append((start, len(self.asked)))


def windows(text: Ids, limit: int, begin: Ids = ()) -> Iterator[tuple[Ids, Ids]]:
  """Cuts a text into (context, predicted): every token is predicted once; a context and what
  follows it, but for the last token, are `limit` tokens at most.

  The first window has `begin` as its context; of the others each but the last has the one token
  before it, and the last, which predicts what is left, as many as it can.
  """
  done = min(limit - max(len(begin), 1) + 1, len(text))
  if done:
    yield begin, text[:done]
  while done < len(text):
    predicted = min(len(text) - done, limit)
    done += predicted
    yield text[max(done - limit - 1, 0) : done - predicted], text[done - predicted : done]


def _double(count: int) -> int:
  """The smallest power of two that is not smaller."""
  return 1 << max(count - 1, 0).bit_length()


def _padded(length: int) -> int:
  """The length that prompts are padded to: 16, 32, ..., 256, 384, 512, 768, ..."""
  whole = max(_double(length), SHORTEST)
  return whole * 3 // 4 if whole > LONG and length <= whole * 3 // 4 else whole
