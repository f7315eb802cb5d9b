"""Token ids in, token ids out: batches, padding and compilation around `mtm.decoding.loop`."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mtm.decoding import Generated, Policy
from mtm.decoding.constraints import Constraint
from mtm.decoding.loop import generate
from mtm.decoding.sample import example_keys
from mtm.errors import UserError
from mtm.programs.special import ENCODER, Ids, without_begin
from mtm.sharding.plan import Plan
from mtm.types import Batch, Model, Params

_NEVER = -1  # no token has this id
_NUMBERS = "example_numbers"
NO_BEGIN = "an input is empty, and nothing stands before it in this model: give it a token"
SHORTEST = 16  # prompts are padded to this length times a power of two, so that few shapes compile


def padded(longest: int, limit: int | None = None) -> int:
  """The length that `longest` tokens are padded to, `limit` at most.

  Raises:
    UserError: they are longer than that.
  """
  length = SHORTEST
  while length < longest:
    length *= 2
  if limit is None:
    return length
  if longest > limit:
    raise UserError(f"{longest} tokens are longer than the model's {limit}: shorten them")
  return min(length, limit)


class Hypothesis(NamedTuple):
  """One continuation: its ids without the end-of-sequence id, and its score under the policy."""

  tokens: list[int]
  score: float


@dataclasses.dataclass(frozen=True)
class Generator:
  """Continues prompts (decoder) or answers inputs (encoder-decoder), whichever the model is for.

  Attributes:
    model: the model.
    plan: where arrays lie.
    policy: greedy, sampling or beam search.
    max_length: the most tokens to generate.
    eos_id: ends a hypothesis, as any of several ids does; None: only its length does.
    batch_size: examples decoded together; the last batch is padded.
    constraints: what may not be generated.
    use_cache: False decodes without the key-value cache, to check it.
    bidirectional_prefix: whether the prompt is read in both directions (prefix LM).
    seed: decides samples, together with each example's number.
    begin_id: what a decoder is fed before its prompt, or before all where it answers an encoder;
      None: nothing, so that a decoder's prompt must not be empty, and beside an encoder nothing can
      be generated.
  """

  model: Model
  plan: Plan
  policy: Policy
  max_length: int
  eos_id: Ids = 1
  batch_size: int = 8
  constraints: Sequence[Constraint] = ()
  use_cache: bool = True
  bidirectional_prefix: bool = False
  seed: int = 0
  begin_id: int | None = 0

  def __call__(
    self, params: Params, prompts: Iterable[tuple[int, Sequence[int]]]
  ) -> Iterator[list[Hypothesis]]:
    """The hypotheses of each prompt, best first where the policy ranks them.

    Args:
      params: the model's parameters.
      prompts: a number, which decides the prompt's samples, and its token ids without padding; with
        the end-of-sequence id where the model saw it in training.

    Raises:
      UserError: a prompt and `max_length` together are longer than the model, a prompt is empty and
        nothing stands before it, or the model has no decoder.
    """
    self._check()
    prompts = iter(prompts)
    if self.use_cache:
      params = self._prepare(params)  # once, not for every batch
    while True:
      rows = list(itertools.islice(prompts, self.batch_size))
      longest = max((len(prompt) for _, prompt in rows), default=0)
      most, longest = self.plan.largest([len(rows), longest])  # hosts run the same programs
      if not most:
        return
      if self.begin_id is None and not all(len(prompt) for _, prompt in rows):
        raise UserError(NO_BEGIN)
      # What fills the batch up repeats a row, and so ends when that does.
      whole = [*rows, *(rows[-1:] or [(0, ())]) * (self.batch_size - len(rows))]
      batch = self._batch([list(prompt) for _, prompt in whole], self._length(longest))
      numbers = [number for number, _ in whole]
      put = self.plan.put_batch({**batch, _NUMBERS: np.asarray(numbers).astype(np.int32)})
      ids = put.pop(_NUMBERS)
      out = self.plan.own(self._decode(params, put, ids), put)
      for index in range(len(rows)):
        yield _hypotheses(out, index, self.eos_id)

  @functools.cached_property
  def _prepare(self) -> Any:
    return self.plan.jit(self.model.prepare)

  @functools.cached_property
  def _decode(self) -> Any:
    """The compiled loop, `(params, batch, ids) → Generated`."""

    def run(params: Params, batch: Batch, ids: jax.Array) -> Generated:
      return generate(
        self.model, params, batch, example_keys(self.seed, ids), policy=self.policy,
        max_length=self.max_length, eos_id=_NEVER if self.eos_id is None else self.eos_id,
        constraints=self.constraints,
        use_cache=self.use_cache,
      )  # fmt: skip

    return self.plan.jit(run)

  def _check(self) -> None:
    if "decoder_input_tokens" not in self.model.inputs:
      raise UserError(
        f"an {self.model.architecture} alone generates nothing: take the checkpoint of a decoder,"
        " or `encode` and `logits` of this one"
      )
    if self.reads_encoder and self.begin_id is None:
      raise UserError(without_begin("the checkpoint"))

  @property
  def reads_encoder(self) -> bool:
    """Whether inputs go to an encoder; otherwise they are the decoder's prompt."""
    return ENCODER in self.model.inputs

  def _length(self, longest: int) -> int:
    """The padded length of a batch whose longest prompt has so many tokens."""
    limit = self.model.max_length
    if limit is None:
      return padded(longest)
    room = limit if self.reads_encoder else limit - self.max_length
    if longest > room:
      raise UserError(
        f"a prompt of {longest} tokens and {self.max_length} generated ones do not fit the model's"
        f" {limit}: shorten the prompt, or generate fewer"
      )
    return padded(longest, room)

  def _batch(self, rows: list[list[int]], length: int) -> dict[str, np.ndarray]:
    tokens = np.zeros((len(rows), length), np.int32)
    segments = np.zeros_like(tokens)
    for index, row in enumerate(rows):
      tokens[index, : len(row)], segments[index, : len(row)] = row, 1
    if self.reads_encoder:
      segments[:, 0] = 1  # rows of padding attend to something
      batch = {"encoder_input_tokens": tokens, "encoder_segment_ids": segments}
      begin = np.full((len(rows), 1), self.begin_id or 0, np.int32)
      return batch if not self.begin_id else {**batch, "decoder_input_tokens": begin}
    if self.begin_id is not None:
      begin = np.full((len(rows), 1), self.begin_id, np.int32)
      tokens = np.concatenate([begin, tokens], axis=1)
      segments = np.concatenate([np.ones_like(begin), segments], axis=1)
    batch = {"decoder_input_tokens": tokens, "decoder_segment_ids": segments}
    if self.bidirectional_prefix:
      batch["decoder_causal_attention"] = batch["decoder_segment_ids"]
    return batch


def _hypotheses(out: Generated, index: int, eos_id: Ids) -> list[Hypothesis]:
  found, ends = [], eos_id if isinstance(eos_id, tuple) else (eos_id,)
  for tokens, score, length in zip(
    out.tokens[index], out.scores[index], out.lengths[index], strict=True
  ):
    if length:
      ids = tokens[:length].tolist()
      found.append(Hypothesis(ids[:-1] if ids[-1] in ends else ids, float(score)))
  return found
