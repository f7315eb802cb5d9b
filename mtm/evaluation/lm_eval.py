"""A model for lm-evaluation-harness: `mtm eval --lm_eval=TASKS CHECKPOINT`, or, once this module is
imported, `lm_eval.simple_evaluate(model="mtm", ...)`.

Texts become ids as with the harness's own HuggingFace backend, so that the scores of one checkpoint
are the same: special ids of its tokenizer around a context, a context and what follows it tokenized
together for a decoder and apart beside an encoder, contexts that are too long cut on the left.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model

from mtm.decoding import Policy
from mtm.decoding.greedy import Greedy
from mtm.decoding.sample import Sample
from mtm.errors import UserError, nearest
from mtm.evaluation.scorer import ENCODER
from mtm.evaluation.speaker import Handle, Speaker

UNLIMITED = 2048  # what the harness takes for the length of a model without one
LENGTH = 256  # tokens to generate where a task does not say
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
NEUTRAL = {"num_beams": 1, "repetition_penalty": 1.0}  # what a task may say that says nothing


@register_model("mtm")
class MTM(TemplateLM):
  """A checkpoint of `mtm.load`, a decoder or an encoder with a decoder.

  Args:
    pretrained: its path; or a handle from `mtm.load`.
    batch_size: rows together, rounded up to what the mesh divides.
    max_length: the longest sequence; None: the model's.
    seed: decides samples.

  Raises:
    UserError: there is no such checkpoint, or it has no vocabulary.
  """

  def __init__(
    self,
    pretrained: str | Path | Handle,
    batch_size: int | str = 16,
    max_length: int | None = None,
    seed: int = 0,
    **unused: Any,
  ) -> None:
    super().__init__()
    import mtm

    refused = [name for name, value in unused.items() if name not in ("device", "max_batch_size")]
    if refused:
      raise UserError(f"the model mtm has no argument {refused[0]!r}; see `MTM`")
    handle: Any = mtm.load(pretrained) if isinstance(pretrained, str | Path) else pretrained
    rows, every = int(batch_size), handle.plan.rows
    handle = dataclasses.replace(handle, batch_size=-(-rows // every) * every)
    self.where = str(pretrained) if isinstance(pretrained, str | Path) else "mtm"
    self.speaker, self.handle, self.seed = Speaker(handle), handle, seed
    self.backend = "seq2seq" if ENCODER in handle.model.inputs else "causal"
    self.max_length = max_length or handle.model.max_length or UNLIMITED

  @property
  def begins(self) -> bool:
    """Whether the decoder is fed a begin before its prompt that belongs to no text."""
    return self.backend == "causal" and self.handle.begin_id is not None

  @property
  def eot_token_id(self) -> int:
    """What ends a text."""
    ends = self.handle.eos_id
    return int(ends[0] if isinstance(ends, tuple) else ends)

  @property
  def prefix_token_id(self) -> int:
    """What stands before a text without a context."""
    return int(self.handle.begin_id) if self.begins else self.speaker.prefix_id

  @property
  def max_gen_toks(self) -> int:
    """Tokens to generate where a task does not say."""
    return LENGTH

  @property
  def tokenizer_name(self) -> str:
    """Tells caches of requests apart."""
    return self.where.replace("/", "__")

  def get_model_info(self) -> Mapping[str, Any]:
    """What results say of the model."""
    return {"model": self.where, "architecture": self.handle.model.architecture}

  def tok_encode(
    self, string: str, add_special_tokens: bool | None = None, **unused: Any
  ) -> list[int]:
    """The ids of a text; between the tokenizer's special ids unless told not to."""
    del unused
    vocabulary = self.handle.vocabulary
    if add_special_tokens is None and not self.begins:
      begin = vocabulary.decode([self.prefix_token_id])
      add_special_tokens = not (begin and string.startswith(begin))
    return vocabulary.encode(string) if add_special_tokens is False else self.handle.ids(string)

  def _loglikelihood_tokens(
    self,
    requests: Sequence[tuple[tuple[str, str] | None, list[int], list[int]]],
    disable_tqdm: bool = False,
    **unused: Any,
  ) -> list[tuple[float, bool]]:
    """See `TemplateLM`; requests with one context are one question."""
    del disable_tqdm, unused
    groups: dict[tuple[int, ...], list[int]] = {}
    lines = [self._cut(context, continuation) for _, context, continuation in requests]
    for number, (context, _) in enumerate(lines):
      groups.setdefault(tuple(context), []).append(number)
    questions = [(ids, [lines[n][1] for n in numbers]) for ids, numbers in groups.items()]
    found: list[tuple[float, bool]] = [(0.0, True)] * len(requests)
    for numbers, scores in zip(groups.values(), self.speaker.scorer(questions), strict=True):
      for number, score in zip(numbers, scores, strict=True):
        found[number] = score.total, score.greedy
        text = requests[number][0]
        if text is not None:
          self.cache_hook.add_partial("loglikelihood", text, found[number])
    return found

  def _cut(self, context: list[int], continuation: list[int]) -> tuple[list[int], list[int]]:
    """The two as long as the model, what is too much cut off on the left."""
    limit = self.max_length
    if self.backend == "seq2seq":
      return context[-limit:], continuation[-limit:]
    if self.begins:  # the scorer puts it there
      context, limit = context[context[:1] == [self.prefix_token_id] :], limit - 1
    kept = max(limit + 1 - len(continuation), 0)
    return context[max(len(context) - kept, 0) :], continuation

  def loglikelihood_rolling(
    self, requests: Sequence[Any], disable_tqdm: bool = False
  ) -> list[float]:
    """See `LM`."""
    del disable_tqdm
    begin = [] if self.begins else [self.prefix_token_id]
    texts = [request.args[0] for request in requests]
    lines = [self.tok_encode(text) for text in texts]
    found = self.speaker.scorer.rolling(lines, begin, self.max_length)
    for text, total in zip(texts, found, strict=True):
      self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
    return found

  def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
    """See `LM`. Raises UserError for a generation argument that has no meaning here."""
    del disable_tqdm
    found = [""] * len(requests)
    groups: dict[str, list[int]] = {}
    for number, request in enumerate(requests):
      groups.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(number)
    for numbers in groups.values():
      asked = dict(requests[numbers[0]].args[1])
      policy, length, until = self._generation(asked)
      prompts = {n: self._prompt(requests[n].args[0], length) for n in numbers}
      order = sorted(numbers, key=lambda n: len(prompts[n]))
      asked_ids = [prompts[n] for n in order]
      texts = self.handle.generate(asked_ids, length, policy, self.seed, order, until)
      for number, text in zip(order, texts, strict=True):
        for stop in filter(None, until):
          text = text.split(stop)[0]
        found[number] = text
        self.cache_hook.add_partial("generate_until", requests[number].args, text)
    return found

  def _prompt(self, context: str, length: int) -> list[int]:
    """The ids of a context, cut on the left so that `length` more tokens fit."""
    if self.backend == "seq2seq":
      return self.handle.ids(context)[-self.max_length :]
    room = self.max_length - length - self.begins
    if room < 1:
      raise UserError(
        f"{length} tokens to generate leave no room for a prompt in the model's {self.max_length}:"
        " give a smaller max_gen_toks"
      )
    return self.handle.ids(context)[-room:]

  def _generation(self, asked: dict[str, Any]) -> tuple[Policy, int, list[str]]:
    """The policy, the most tokens and the texts that end one, of a task's `generation_kwargs`."""
    told = asked.pop("until", None) or []
    lengths = [asked.pop(name) for name in LENGTHS if name in asked]
    temperature, draws = float(asked.pop("temperature", 0.0)), asked.pop("do_sample", None)
    top_k, top_p = int(asked.pop("top_k", 0)), float(asked.pop("top_p", 1.0))
    left = [name for name, value in asked.items() if value != NEUTRAL.get(name, asked)]
    if left:
      known = ["until", *LENGTHS, "temperature", "do_sample", "top_k", "top_p"]
      raise UserError(f"generation_kwargs {left[0]!r} means nothing here{nearest(left[0], known)}")
    drawn = temperature > 0 and draws is not False
    if draws and not temperature:
      drawn, temperature = True, 1.0
    policy: Policy = Sample(temperature, top_k, top_p) if drawn else Greedy()
    return policy, int(lengths[0] if lengths else LENGTH), [told] if isinstance(told, str) else told
