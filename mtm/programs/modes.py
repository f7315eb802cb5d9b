"""What can be asked of a model for every example: to generate, or to score given targets."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from mtm.decoding import Policy
from mtm.decoding.constraints import Constraint
from mtm.decoding.greedy import Greedy
from mtm.decoding.score import score
from mtm.errors import UserError
from mtm.programs import wishes
from mtm.programs.examples import Example
from mtm.programs.generation import NO_BEGIN, Generator, padded
from mtm.programs.special import ENCODER, Ids, without_begin
from mtm.sharding.plan import Plan
from mtm.types import Model, Params

Numbered = Iterator[tuple[int, Example]]
Row = dict[str, Any]


class Mode(Protocol):
  """What is asked of the model for every example."""

  def rows(self, setting: Setting, examples: Numbered) -> Iterator[Row]:
    """One JSON-able row for each numbered example, in order."""


@dataclasses.dataclass(frozen=True)
class Setting:
  """A model that is ready to answer.

  Attributes:
    model, params, plan: the model and where it lies.
    vocabulary: text ↔ ids; has `encode`, `decode` and `eos_id`.
    batch_size: examples together.
    bidirectional_prefix: whether a decoder reads its prompt in both directions.
    seed: decides samples.
    begin_id: see `Generator`.
    eos_id: see `Generator`; None: the vocabulary's.
    generation: what the checkpoint asks of everyone who generates, see `mtm.programs.wishes`.
  """

  model: Model
  params: Params
  plan: Plan
  vocabulary: Any
  batch_size: int = 8
  bidirectional_prefix: bool = False
  seed: int = 0
  begin_id: int | None = 0
  eos_id: Ids = None
  generation: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Predict:
  """Generates: `prediction` is the text, `score` its score under the policy; where the policy gives
  several, they are lists, best first.

  Attributes:
    policy: how the next token is chosen.
    max_length: the most tokens to generate.
    constraints: what may not be generated, beside what the checkpoint itself asks.
    use_cache: False decodes without the key-value cache, to check it.
  """

  policy: Policy = Greedy()  # noqa: B008 (frozen)
  max_length: int = 64
  constraints: Sequence[Constraint] = ()
  use_cache: bool = True

  def rows(self, setting: Setting, examples: Numbered) -> Iterator[Row]:
    """See `Mode.rows`."""
    eos = setting.vocabulary.eos_id if setting.eos_id is None else setting.eos_id
    asked = wishes.heed(setting.generation, setting.model, self.max_length)
    generate = Generator(
      setting.model, setting.plan, self.policy, self.max_length, eos,
      setting.batch_size, (*asked, *self.constraints), self.use_cache, setting.bidirectional_prefix,
      setting.seed, setting.begin_id,
    )  # fmt: skip
    kept, prompts = itertools.tee(examples)
    answers = generate(setting.params, ((n, e["inputs_ids"]) for n, e in prompts))
    for (_, example), hypotheses in zip(kept, answers, strict=True):
      texts = [setting.vocabulary.decode(h.tokens) for h in hypotheses]
      scores = [h.score for h in hypotheses]
      many = self.policy.width > 1
      yield {
        **_told(example),
        "prediction": texts if many else texts[0],
        "score": scores if many else scores[0],
      }


@dataclasses.dataclass(frozen=True)
class Score:
  """Scores each example's own targets: `score` is their log-likelihood in nats, `tokens` their
  number."""

  def rows(self, setting: Setting, examples: Numbered) -> Iterator[Row]:
    """See `Mode.rows`.

    Raises:
      UserError: an example has no targets, or the model no decoder.
    """
    if "decoder_input_tokens" not in setting.model.inputs:
      raise UserError(
        f"an {setting.model.architecture} alone gives targets no likelihood: take the checkpoint of"
        " a decoder, or `logits` of this one"
      )
    run = setting.plan.jit(functools.partial(score, setting.model.apply))
    while part := list(itertools.islice(examples, setting.batch_size)):
      for number, example in part:
        if "targets_ids" not in example:
          raise UserError(f"example {number} has no targets to score: give every line a 'targets'")
      batch = _scored_batch(setting, [example for _, example in part])
      put = setting.plan.put_batch(batch)
      values = setting.plan.own(run(setting.params, put), put)
      for (_, example), value in zip(part, values, strict=False):
        tokens = len(example["targets_ids"])
        yield {**_told(example), "score": float(value), "tokens": tokens}


def _scored_batch(setting: Setting, examples: list[Example]) -> dict[str, np.ndarray]:
  """Rows of teacher forcing; a decoder reads inputs and targets in one line."""
  encoder = ENCODER in setting.model.inputs
  lines, known = [], []
  for example in examples:
    inputs, targets = list(example["inputs_ids"]), list(example["targets_ids"])
    lines.append(targets if encoder else inputs + targets)
    known.append(0 if encoder else len(inputs))
  limit = setting.model.max_length
  rows, length = setting.batch_size, padded(max(map(len, lines)), limit)
  tokens, weights = np.zeros((rows, length), np.int32), np.zeros((rows, length), np.int32)
  for index, (line, start) in enumerate(zip(lines, known, strict=True)):
    tokens[index, : len(line)], weights[index, start : len(line)] = line, 1
  begin = setting.begin_id
  if begin is None and encoder:
    raise UserError(without_begin("the checkpoint"))
  if begin is None and not all(known):
    raise UserError(NO_BEGIN)
  batch = {
    "decoder_input_tokens": _before(tokens, begin),
    "decoder_target_tokens": tokens if begin is not None else _after(tokens),
    "decoder_loss_weights": weights if begin is not None else _after(weights),
  }
  if encoder:
    sources = [list(example["inputs_ids"]) for example in examples]
    source = np.zeros((rows, padded(max(map(len, sources)), limit)), np.int32)
    segments = np.zeros_like(source)
    for index, line in enumerate(sources):
      source[index, : len(line)], segments[index, : len(line)] = line, 1
    batch |= {"encoder_input_tokens": source, "encoder_segment_ids": segments}
  elif setting.bidirectional_prefix:
    ends = np.asarray(known + [0] * (rows - len(known))) + (begin is not None)
    prefix = np.arange(length)[None] < ends[:, None]
    batch["decoder_causal_attention"] = prefix.astype(np.int32)
  return batch


def _before(tokens: np.ndarray, begin: int | None) -> np.ndarray:
  """What a decoder is fed to predict `tokens` `[batch, length]`; None: it predicts its own line."""
  if begin is None:
    return tokens
  return np.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=begin)


def _after(line: np.ndarray) -> np.ndarray:
  """What follows each place of a line `[batch, length]`."""
  return np.pad(line[:, 1:], ((0, 0), (0, 1)))


def _told(example: Example) -> Row:
  return {name: value for name, value in example.items() if not name.endswith("_ids")}
