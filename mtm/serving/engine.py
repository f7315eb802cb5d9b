"""Continuous batching: rows of one cache that begin and end each at its own time.

A prompt goes through the model alone and its keys into a free row; every step then feeds the newest
token of each row at its own position, in one compiled program, whatever stands in the other rows. A
row gets what it would get alone. The cache is as wide as its longest text asks for, in powers of
two, so that few programs are compiled and short texts don't pay for long ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mtm.errors import UserError
from mtm.serving.choose import Told
from mtm.serving.rows import Constraints, Programs, Texts, Width, inserted, resized
from mtm.sharding.plan import Plan
from mtm.types import Model, Params

ENCODER = "encoder_input_tokens"
SHORTEST = 16  # columns of the smallest program; the next ones have twice as many
WIDEST_WASTE = 4  # a cache this many times wider than its texts is cut when one begins
NO_END = -1  # no token has this id


def size(needed: int, limit: int) -> int:
  """The smallest power of two times `SHORTEST` with room for so many, `limit` at most."""
  found = SHORTEST
  while found < needed:
    found *= 2
  return min(found, limit)


@dataclasses.dataclass(frozen=True)
class Prompt:
  """What a row is asked.

  Attributes:
    ids: token ids, without the id that begins; with an end-of-sequence id where the model saw it.
    limit: the most tokens to generate.
    temperature, top_k, top_p: see `mtm.decoding.sample.Sample`; a temperature of 0 is greedy.
    seed, number, sample: decide the draws: those of `Handle.generate(..., seed=seed)` for the
      prompt of this number, its sample of that number.
  """

  ids: Sequence[int]
  limit: int
  temperature: float = 0.0
  top_k: int = 0
  top_p: float = 1.0
  seed: int = 0
  number: int = 0
  sample: int = 0


class Engine:
  """Rows of a model that generate together. Not for several threads at once.

  Attributes:
    rows: texts at once.
    together: prompts that go through the model in one call.
    columns: the longest text, see `__init__`.
    source_columns: the longest input of an encoder.
    reads_encoder: whether prompts go to an encoder.
    width: columns of the cache now, of the decoder's texts and of the encoder's.
  """

  def __init__(
    self,
    model: Model,
    plan: Plan,
    params: Params,
    rows: int = 8,
    columns: int = 1024,
    source_columns: int = 0,
    begin_id: int | None = 0,
    eos_id: int | tuple[int, ...] | None = None,
    constraints: Constraints = lambda limit: (),
    bidirectional_prefix: bool = False,
  ) -> None:
    """Makes an engine.

    Args:
      model: a decoder, or an encoder-decoder.
      plan: where arrays lie.
      params: the model's.
      rows: texts at once; rounded up to what the mesh divides.
      columns: the longest text of a decoder, prompt and answer together; beside an encoder, the
        longest answer.
      source_columns: the longest input of an encoder.
      begin_id: what a decoder is fed first; None: nothing before its prompt.
      eos_id: ends a text, for constraints.
      constraints: see `Programs`.
      bidirectional_prefix: whether a decoder reads its prompt in both directions.

    Raises:
      UserError: the model cannot decode, or not so long a text.
    """
    if "decoder_input_tokens" not in model.inputs:
      raise UserError(
        f"an {model.architecture} alone generates nothing: take the checkpoint of a decoder"
      )
    self.model, self.plan, self.begin_id = model, plan, begin_id
    self.together = plan.rows
    self.rows = -(-rows // plan.rows) * plan.rows
    self.columns, self.source_columns = columns, source_columns
    self.reads_encoder = ENCODER in model.inputs
    self._programs = Programs(
      model, columns, NO_END if eos_id is None else eos_id, constraints, bidirectional_prefix
    )
    self._params = plan.jit(model.prepare)(params)
    self._compile()
    self.reset()

  def _compile(self) -> None:
    """Names the programs; each is compiled when it is first run with some width."""
    self._grows = True
    smallest, whole = (self._shapes(self._sized(n, 1)) for n in (1, self.columns))
    # A window's ring is made for one length, and cannot grow.
    same: Any = jax.tree.structure(smallest)
    self._grows = same == jax.tree.structure(whole)
    plan, programs = self.plan, self._programs
    self._by_row = by_row = plan.activations.sharding(("batch",), (self.rows,), "rows")
    self._prefill = plan.jit(programs.prefill, static_argnums=2)
    self._put_cache = plan.jit(inserted, donate_argnums=0, out_shardings=by_row)
    self._put_texts = plan.jit(programs.insert, donate_argnums=0, out_shardings=by_row)
    self._step = plan.jit(
      programs.step, static_argnums=5, donate_argnums=(1, 2), out_shardings=(by_row, by_row, None)
    )
    self._empty_texts = plan.jit(programs.empty, static_argnums=0, out_shardings=by_row)
    self._empty_cache = plan.jit(
      lambda width: self.model.empty_cache(self.rows, *width), static_argnums=0,
      out_shardings=by_row,
    )  # fmt: skip
    self._resize: dict[Width, Any] = {}

  def reset(self) -> None:
    """Forgets all rows."""
    self._place = np.zeros(self.rows, np.int64)  # of each row's newest token
    self._source = np.zeros(self.rows, np.int64)  # the length of each row's input
    self.width = self._sized(1, 1)
    self._cache = self._empty_cache(self.width)
    self._texts: Texts = self._empty_texts(self.rows)

  def check(self, ids: Sequence[int], limit: int) -> None:
    """Raises UserError where a prompt and `limit` tokens after it cannot be served."""
    if not len(ids) and not self.reads_encoder and self.begin_id is None:
      raise UserError(
        "the prompt is empty, and nothing stands before it in this model: give a text"
      )
    if self.reads_encoder and len(ids) > self.source_columns:
      raise UserError(
        f"the input has {len(ids)} tokens and this model takes {self.source_columns}: shorten it"
      )
    room = self.room(ids)
    if room < 1:
      raise UserError(
        f"the prompt has {len(ids)} tokens, which leaves no room for an answer in the"
        f" {self.columns} that this model takes: shorten it"
      )
    if limit > room:
      raise UserError(
        f"{limit} tokens are to follow a prompt of {len(ids)}, and this model has room for {room}"
        f" of its {self.columns}: shorten the prompt, or ask for fewer tokens"
      )

  def room(self, ids: Sequence[int]) -> int:
    """The most tokens that can follow this prompt."""
    return self.columns - (0 if self.reads_encoder else len(ids))

  def admit(self, prompts: Mapping[int, Prompt], active: Iterable[int] = ()) -> None:
    """Puts prompts, `together` at most, into rows; what stood there is forgotten.

    Args:
      prompts: row → prompt, each one that `check` lets pass.
      active: the rows that go on.
    """
    asked = [*prompts.items()]
    asked += [(self.rows, Prompt([0], 1))] * (self.together - len(asked))  # their rows are dropped
    prompts_only = [prompt for _, prompt in asked]
    lines = [self._line(prompt) for prompt in prompts_only]
    known = [len(line) - (0 if self._programs.prefix else 1) for line in lines]
    length = size(max(known), self.columns)
    tokens = np.zeros((self.together, length), np.int32)
    for index, line in enumerate(lines):
      tokens[index, : known[index]] = line[: known[index]]
    batch = {"decoder_input_tokens": tokens, "known": np.asarray(known, np.int32)}
    if self.reads_encoder:
      batch |= self._sources(prompts_only)
    put = self.plan.put_batch(batch)
    cache = self._prefill(self._params, put, length if self._grows else self.columns)
    for row, line in zip(prompts, lines, strict=False):
      self._place[row], self._source[row] = len(line) - 1, len(prompts[row].ids)
    self._fit([*active, *prompts], fresh=True)
    into = np.asarray([row for row, _ in asked], np.int32)
    self._cache = self._put_cache(self._cache, cache, into)
    self._texts = self._put_texts(self._texts, {"row": into, **_columns(prompts_only, lines)})

  def step(self, active: Sequence[int], telling: bool = False) -> Told:
    """The next token of these rows, on the device: the call may return before it is computed.

    Args:
      active: the rows; what is told of others means nothing.
      telling: whether alternatives are wanted too.
    """
    self._fit(active)
    mask = np.zeros(self.rows, bool)
    mask[list(active)] = True
    self._cache, self._texts, told = self._step(
      self._params, self._cache, self._texts, mask, np.asarray(telling), self.width[0]
    )
    self._place[mask] += 1
    return told

  def _line(self, prompt: Prompt) -> list[int]:
    """What the decoder is fed before it generates."""
    begin = [] if self.begin_id is None else [self.begin_id]
    return begin if self.reads_encoder else [*begin, *prompt.ids]

  def _sources(self, prompts: Sequence[Prompt]) -> dict[str, np.ndarray]:
    length = size(max(len(prompt.ids) for prompt in prompts), self.source_columns)
    tokens = np.zeros((self.together, length), np.int32)
    segments = np.zeros_like(tokens)
    segments[:, 0] = 1  # rows of padding attend to something
    for index, prompt in enumerate(prompts):
      tokens[index, : len(prompt.ids)], segments[index, : len(prompt.ids)] = prompt.ids, 1
    return {ENCODER: tokens, "encoder_segment_ids": segments}

  def _fit(self, active: Sequence[int], fresh: bool = False) -> None:
    """Makes the cache as wide as these rows need; narrower only where a text begins (`fresh`)."""
    rows = list(active)
    needed = int(self._place[rows].max(initial=0)) + 1, int(self._source[rows].max(initial=1))
    wanted = self._sized(*needed)
    cut = fresh and len(active) and self.width[0] >= WIDEST_WASTE * wanted[0]
    width = wanted if cut else (max(wanted[0], self.width[0]), max(wanted[1], self.width[1]))
    if width == self.width:
      return
    if width not in self._resize:
      shapes = self._shapes(width)
      self._resize[width] = self.plan.jit(
        lambda cache: resized(cache, shapes), out_shardings=self._by_row
      )
    self._cache, self.width = self._resize[width](self._cache), width

  def _sized(self, needed: int, source: int) -> Width:
    """The width for texts and inputs of these lengths."""
    columns = size(needed, self.columns) if self._grows else self.columns
    return columns, size(source, self.source_columns) if self.reads_encoder else 0

  def _shapes(self, width: Width) -> Any:
    return jax.eval_shape(lambda: self.model.empty_cache(self.rows, *width))


def _columns(prompts: Sequence[Prompt], lines: Sequence[list[int]]) -> dict[str, np.ndarray]:
  """What `Programs.insert` reads of prompts and of what is fed before their answers."""

  def column(name: str, dtype: Any) -> np.ndarray:
    return np.asarray([getattr(prompt, name) for prompt in prompts], dtype)

  return {
    "last": np.asarray([line[-1] for line in lines], np.int32),
    "place": np.asarray([len(line) - 1 for line in lines], np.int32),
    "temperature": column("temperature", np.float32),
    "top_k": column("top_k", np.int32),
    "top_p": column("top_p", np.float32),
    "limit": column("limit", np.int32),
    "seed": np.asarray([prompt.seed % 2**32 for prompt in prompts], np.uint32),
    "number": column("number", np.uint32),
    "sample": column("sample", np.uint32),
  }
