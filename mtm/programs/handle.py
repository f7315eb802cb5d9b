"""`mtm.load`: one handle for a trained model, wherever it comes from."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mtm.decoding import Policy
from mtm.decoding._base import TokenByToken
from mtm.decoding.greedy import Greedy
from mtm.errors import UserError
from mtm.programs import published, stops, wishes
from mtm.programs.examples import encoded
from mtm.programs.generation import Generator, Hypothesis, padded
from mtm.programs.modes import Score, Setting
from mtm.programs.special import ENCODER, Ids
from mtm.sharding.mesh import Mesh
from mtm.sharding.plan import Plan
from mtm.types import Batch, Model, Params

SEGMENTS, POSITIONS = "encoder_segment_ids", "encoder_positions"
ROWS = 8  # examples together, or the next number that the mesh divides
Text = str | Sequence[int]  # a text, or token ids where the model has no vocabulary


@dataclasses.dataclass(frozen=True)
class Handle:
  """A model, its parameters on a mesh, and its vocabulary.

  Inputs and targets are texts, or token ids where padding at either end stands for nothing.

  Attributes:
    model: pure functions, see `mtm.types.Model`.
    params: float32, laid out on the mesh.
    plan: where arrays lie.
    config: the arguments of the builder that made the model.
    vocabulary: text ↔ ids, or None where the checkpoint has none.
    begin_id: what a decoder is fed first; None: nothing before its prompt.
    eos_id: what ends a sequence, several ids any of which does, or None.
    batch_size: examples together in `score`, `generate` and `encode`.
    pad_id: what pads, or None.
    framed: whether a text gets the special ids that the original's tokenizer puts around it;
      otherwise only its end, and that beside an encoder.
    prefix: whether a decoder alone reads its prompt in both directions.
    counted: whether an encoder's positions count the tokens that are no padding, as RoBERTa's do.
    generation: what the checkpoint asks of everyone who generates, see `mtm.programs.wishes`.
  """

  model: Model
  params: Params
  plan: Plan
  config: dict[str, Any]
  vocabulary: Any = None
  begin_id: int | None = 0
  eos_id: Ids = None
  batch_size: int = 8
  pad_id: int | None = 0
  framed: bool = False
  prefix: bool = False
  counted: bool = False
  generation: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def logits(self, batch: Batch) -> jax.Array:
    """Logits `[batch, length, vocab]` float32 for a batch of the model's features, of any number of
    rows. Several hosts give rows of their own, as many places long, and get theirs back.

    Where `encoder_segment_ids` don't say what an encoder may look at, it is all but `pad_id`.

    Raises:
      UserError: a feature is missing or too long, or an id is none of the model's.
    """
    told = {name: np.asarray(x) for name, x in batch.items()}
    for name in self.model.inputs:
      if name in told:
        self._check_ids(told[name], name)
    if ENCODER in told and SEGMENTS not in told and self.pad_id is not None:
      told[SEGMENTS] = (told[ENCODER] != self.pad_id).astype(np.int32)
      if self.counted and POSITIONS not in told:
        told[POSITIONS] = np.maximum(np.cumsum(told[SEGMENTS], axis=1) - 1, 0).astype(np.int32)
    rows = max((len(x) for x in told.values()), default=0)
    lengths = [x.shape[1] for _, x in sorted(told.items())]
    (most, *longest) = self.plan.largest([rows, *lengths])
    if longest != lengths:
      raise UserError(f"rows of {max(lengths)} here and {max(longest)} on another host: pad them")
    lacking = most - rows + -most % self.plan.rows
    whole = {n: np.concatenate([x, np.repeat(x[-1:], lacking, axis=0)]) for n, x in told.items()}
    batch = self.plan.put_batch(whole)
    logits = self._apply(self.params, batch).logits
    return (logits if jax.process_count() == 1 else self.plan.own(logits, batch))[:rows]

  def encode(self, inputs: Sequence[Text]) -> list[np.ndarray]:
    """The last hidden states `[tokens, embed]` of each input: the encoder's, or of a decoder alone
    the decoder's.

    Raises:
      UserError: an input is text and there is no vocabulary, or it is too long.
    """
    side = self.model.inputs[0].removesuffix("_input_tokens")
    found: list[np.ndarray] = []
    rows = [self.ids(text) for text in self._listed(inputs)]
    for start in range(0, len(rows), self.batch_size):
      part = rows[start : start + self.batch_size]
      length = padded(max(map(len, part)), self.model.max_length)
      tokens = np.zeros((self.batch_size, length), np.int32)
      segments = np.zeros_like(tokens)
      segments[:, 0] = 1  # rows of padding attend to something
      for index, ids in enumerate(part):
        tokens[index, : len(ids)], segments[index, : len(ids)] = ids, 1
      batch = {f"{side}_input_tokens": tokens, f"{side}_segment_ids": segments}
      for name in self.model.inputs[1:]:  # its decoder is never run: nothing reads it
        batch[name] = np.zeros((self.batch_size, 1), np.int32)
      put = self.plan.put_batch(batch)
      hidden = self.plan.own(self._encode(self.params, put), put)
      found += [states[: len(ids)] for states, ids in zip(hidden, part, strict=False)]
    return found

  def score(self, inputs: Sequence[Text], targets: Sequence[Text]) -> list[float]:
    """The log-likelihood of each target after its input, in nats.

    Raises:
      UserError: a text and there is no vocabulary, not as many targets as inputs, nothing that a
        decoder could begin with, or a model without a decoder.
    """
    inputs, targets = self._listed(inputs), self._listed(targets)
    if len(inputs) != len(targets):
      raise UserError(f"{len(inputs)} inputs and {len(targets)} targets: give one for each")
    setting = Setting(
      self.model, self.params, self.plan, self.vocabulary, self.batch_size, self.prefix,
      begin_id=self.begin_id,
    )  # fmt: skip
    examples = (
      {"inputs_ids": self.ids(a), "targets_ids": self.ids(b, framed=self._paired)}
      for a, b in zip(inputs, targets, strict=True)
    )
    return [row["score"] for row in Score().rows(setting, enumerate(examples))]

  def generate(
    self,
    inputs: Sequence[Text],
    max_length: int = 64,
    policy: Policy = Greedy(),  # noqa: B008 (frozen)
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    until: Sequence[str] = (),
  ) -> list[Any]:
    """Continues each prompt (a decoder) or answers each input (an encoder-decoder), as the
    checkpoint's `generation_config.json` asks: a first token, no end before some length, no phrase
    twice. How tokens are chosen and how many at most is told here alone.

    Args:
      inputs: texts, or token ids.
      max_length: the most tokens to generate.
      policy: greedy, sampling or beam search.
      seed: decides samples, together with an input's number.
      numbers: one for each input; None: 0, 1, 2, ...
      until: a text that holds one of these goes no further; it is not cut. A beam search ignores
        it.

    Returns:
      for each input a text, or token ids where the model has no vocabulary; a list of them where
      the policy keeps several.

    Raises:
      UserError: an input is text and there is no vocabulary, or it is too long; there is nothing
        that a decoder could begin with, or no decoder.
    """
    key = (policy, max_length, seed, tuple(until))
    run = self._generators.get(key) or self._generators.setdefault(key, self._generator(*key))
    listed = self._listed(inputs)
    prompts = zip(
      range(len(listed)) if numbers is None else numbers, map(self.ids, listed), strict=True
    )
    answers = [[self._told(h) for h in found] for found in run(self.params, prompts)]
    return answers if policy.width > 1 else [answer[0] for answer in answers]

  @functools.cached_property
  def _generators(self) -> dict[Any, Generator]:
    """Those that were made, so that each compiles once."""
    return {}

  def _generator(
    self, policy: Policy, max_length: int, seed: int, until: Sequence[str]
  ) -> Generator:
    constraints = [*wishes.heed(self.generation, self.model, max_length)]
    each = isinstance(policy, TokenByToken)  # in a search the end of one changes what others get
    if each and self.vocabulary is not None and self.eos_id is not None:
      stop = stops.until(self.vocabulary, self.model.vocab_size, until)
      constraints += [stop] if stop else []
    return Generator(
      self.model, self.plan, policy, max_length, self.eos_id, self.batch_size,
      constraints=constraints,
      bidirectional_prefix=self.prefix, seed=seed, begin_id=self.begin_id,
    )  # fmt: skip

  @functools.cached_property
  def _apply(self) -> Any:
    return self.plan.jit(self.model.apply)

  @functools.cached_property
  def _encode(self) -> Any:
    def states(params: Params, batch: Batch) -> jax.Array:
      output = self.model.apply(params, batch)
      return output.hidden if output.encoded is None else output.encoded

    return self.plan.jit(states)

  @property
  def _paired(self) -> bool:
    return len(self.model.inputs) > 1

  @staticmethod
  def _listed(texts: Sequence[Text]) -> Sequence[Text]:
    """Raises UserError where they are one text and no list."""
    if isinstance(texts, str):
      raise UserError(f"{texts[:40]!r} is one text: give a list of texts, [{texts[:40]!r}]")
    return texts

  def ids(self, text: Text, framed: bool = True) -> list[int]:
    """The ids of a text as the model was trained to read it, `framed` by special ids; those of an
    id sequence are taken as they are, but for padding around them.

    Raises:
      UserError: it is text and there is no vocabulary, or an id is none of the model's.
    """
    if isinstance(text, str):
      if self.vocabulary is None:
        raise UserError("this checkpoint has no vocabulary: give token ids instead of text")
      return encoded(self.vocabulary, text, ENCODER in self.model.inputs, self.framed and framed)
    found = np.asarray(text)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
      raise UserError(f"an input is neither a text nor a list of token ids: {str(text)[:60]}")
    self._check_ids(found, "an input")
    real = np.flatnonzero(found != self.pad_id) if self._pads else np.arange(found.size)
    return found[real[0] : real[-1] + 1].tolist() if real.size else []

  @property
  def _pads(self) -> bool:
    """Whether some id stands for padding only."""
    ends = self.eos_id if isinstance(self.eos_id, tuple) else (self.eos_id,)
    return self.pad_id is not None and self.pad_id not in ends

  def _check_ids(self, ids: np.ndarray, what: str) -> None:
    if ids.size and not 0 <= ids.min() <= ids.max() < self.model.vocab_size:
      wrong = ids.max() if ids.min() >= 0 else ids.min()
      raise UserError(
        f"{what} holds the id {wrong}, and the model knows 0 to {self.model.vocab_size - 1}: are"
        " the ids of another vocabulary?"
      )

  def _told(self, found: Hypothesis) -> Any:
    return found.tokens if self.vocabulary is None else self.vocabulary.decode(found.tokens)


def load(
  path: str | Path, mesh: Mesh | None = None, begin_id: int | None = None, **changes: Any
) -> Handle:
  """The model at `path`: ours, HuggingFace's or T5X's; it is found out which.

  Args:
    path: a MODEL_DIR, one checkpoint of it, or the directory of another library's checkpoint.
    mesh: where the parameters go; None: all devices, each with a copy.
    begin_id: what a decoder is fed first, where the checkpoint does not say or says another.
    changes: arguments of the model's builder to replace, such as `dtype="bfloat16"`.

  Raises:
    UserError: no checkpoint there, a damaged one, or one of a model that mtm cannot honour.
  """
  from mtm.sharding.mesh import mesh as all_devices

  opened = published.open_checkpoint(path)
  model = opened.model(**changes)
  plan = Plan(mesh if mesh is not None else all_devices())
  vocabulary = None if opened.vocabulary is None else opened.vocabulary()
  special = opened.special
  eos = special.eos_id
  return Handle(
    model, opened.read(model, plan), plan, opened.arguments, vocabulary,
    special.begin_id if begin_id is None else begin_id,
    vocabulary.eos_id if eos is None and vocabulary is not None else eos,
    -(-ROWS // plan.rows) * plan.rows, special.pad_id, opened.framed,
    special.prefix, special.counted, special.generation,
  )  # fmt: skip
