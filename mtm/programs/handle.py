"""`mtm.load`: one handle for a trained model, wherever it comes from."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mtm.decoding import Policy
from mtm.decoding.greedy import Greedy
from mtm.errors import UserError
from mtm.programs import published
from mtm.programs.generation import Generator, Hypothesis
from mtm.programs.modes import Score, Setting
from mtm.sharding.mesh import Mesh
from mtm.sharding.plan import Plan
from mtm.types import Batch, Model, Params

Text = str | Sequence[int]  # a text, or token ids where the model has no vocabulary


@dataclasses.dataclass(frozen=True)
class Handle:
  """A model, its parameters on a mesh, and its vocabulary.

  Attributes:
    model: pure functions, see `mtm.types.Model`.
    params: float32, laid out on the mesh.
    plan: where arrays lie.
    config: the arguments of the builder that made the model.
    vocabulary: text ↔ ids, or None where the checkpoint has none.
    begin_id: what a decoder is fed first; None: nothing before its prompt.
    eos_id: what ends a sequence, or None.
    batch_size: examples together in `score`, `generate` and `encode`.
  """

  model: Model
  params: Params
  plan: Plan
  config: dict[str, Any]
  vocabulary: Any = None
  begin_id: int | None = 0
  eos_id: int | None = None
  batch_size: int = 8

  def logits(self, batch: Batch) -> jax.Array:
    """Logits `[batch, length, vocab]` float32 for a batch of the model's features."""
    return self._apply(self.params, self.plan.put_batch(batch)).logits

  def encode(self, inputs: Sequence[Text]) -> list[np.ndarray]:
    """The last hidden states `[tokens, embed]` of each input: the encoder's of an encoder, the
    decoder's of a decoder.

    Raises:
      UserError: the model is an encoder-decoder (its hidden states are the decoder's), or an input
        is text and there is no vocabulary.
    """
    if len(self.model.inputs) > 1:
      raise UserError("an encoder-decoder encodes a pair: take `model.apply` and its batch")
    side = self.model.inputs[0].removesuffix("_input_tokens")
    found: list[np.ndarray] = []
    rows = [self._ids(text) for text in inputs]
    for start in range(0, len(rows), self.batch_size):
      part = rows[start : start + self.batch_size]
      tokens = np.zeros((self.batch_size, max(map(len, part))), np.int32)
      segments = np.zeros_like(tokens)
      for index, ids in enumerate(part):
        tokens[index, : len(ids)], segments[index, : len(ids)] = ids, 1
      batch = {f"{side}_input_tokens": tokens, f"{side}_segment_ids": segments}
      hidden = np.asarray(self._apply(self.params, self.plan.put_batch(batch)).hidden)
      found += [states[: len(ids)] for states, ids in zip(hidden, part, strict=False)]
    return found

  def score(self, inputs: Sequence[Text], targets: Sequence[Text]) -> list[float]:
    """The log-likelihood of each target after its input, in nats.

    Raises:
      UserError: an input is text and there is no vocabulary.
    """
    setting = Setting(
      self.model, self.params, self.plan, self.vocabulary, self.batch_size, begin_id=self.begin_id
    )
    examples = enumerate(
      {"inputs_ids": self._ids(a), "targets_ids": self._ids(b)}
      for a, b in zip(inputs, targets, strict=True)
    )
    return [row["score"] for row in Score().rows(setting, examples)]

  def generate(
    self,
    inputs: Sequence[Text],
    max_length: int = 64,
    policy: Policy = Greedy(),  # noqa: B008 (frozen)
    seed: int = 0,
  ) -> list[Any]:
    """Continues each prompt (a decoder) or answers each input (an encoder-decoder).

    Args:
      inputs: texts, or token ids.
      max_length: the most tokens to generate.
      policy: greedy, sampling or beam search.
      seed: decides samples.

    Returns:
      for each input a text, or token ids where the model has no vocabulary; a list of them where
      the policy keeps several.

    Raises:
      UserError: an input is text and there is no vocabulary, or it is too long.
    """
    run = Generator(
      self.model, self.plan, policy, max_length, self.eos_id, self.batch_size, seed=seed,
      begin_id=self.begin_id,
    )  # fmt: skip
    prompts = enumerate(self._ids(text) for text in inputs)
    answers = [[self._told(h) for h in found] for found in run(self.params, prompts)]
    return answers if policy.width > 1 else [answer[0] for answer in answers]

  @functools.cached_property
  def _apply(self) -> Any:
    return self.plan.jit(self.model.apply)

  def _ids(self, text: Text) -> list[int]:
    if not isinstance(text, str):
      return list(text)
    if self.vocabulary is None:
      raise UserError("this checkpoint has no vocabulary: give token ids instead of text")
    ids = self.vocabulary.encode(text)
    if self.eos_id is None or "encoder_input_tokens" not in self.model.inputs:
      return ids
    return [*ids, self.eos_id]

  def _told(self, found: Hypothesis) -> Any:
    return found.tokens if self.vocabulary is None else self.vocabulary.decode(found.tokens)


def load(path: str | Path, mesh: Mesh | None = None, **changes: Any) -> Handle:
  """The model at `path`: ours, HuggingFace's or T5X's; it is found out which.

  Args:
    path: a MODEL_DIR, one checkpoint of it, or the directory of another library's checkpoint.
    mesh: where the parameters go; None: all devices, each with a copy.
    changes: arguments of the model's builder to replace, such as `dtype="bfloat16"`.

  Raises:
    UserError: no checkpoint there, a damaged one, or one of a model that mtm cannot honour.
  """
  from mtm.sharding.mesh import mesh as all_devices

  opened = published.open_checkpoint(path)
  model = opened.model(**changes)
  plan = Plan(mesh if mesh is not None else all_devices())
  vocabulary = None if opened.vocabulary is None else opened.vocabulary()
  eos = opened.eos_id if vocabulary is None or opened.eos_id is not None else vocabulary.eos_id
  return Handle(
    model, opened.read(model, plan), plan, opened.arguments, vocabulary, opened.begin_id,
    eos[0] if isinstance(eos, list) else eos,
  )  # fmt: skip
