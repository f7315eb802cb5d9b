"""The compiled programs of the engine, pure: rows of one cache, each at its own place.

A row's tokens stand in the column of their position, so that what a column holds follows from the
row's place alone: what lies behind it is nobody's, and hidden.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mtm.decoding._base import NEVER, View
from mtm.decoding.constraints import Constraint
from mtm.serving.choose import Rules, Told, choose, keys, told
from mtm.types import BEYOND, Batch, Cache, Model, Params

Width = tuple[int, int]  # columns of the decoder's texts, and of the encoder's
Constraints = Callable[[Any], Sequence[Constraint]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Texts:
  """What is known of each row beside the cache; every leaf is `[rows, ...]`.

  Attributes:
    last: int32, the newest token, which is fed next.
    place: int32, its position.
    tokens: int32 `[rows, columns]`, what was generated, 0 from `step` on.
    step: int32, how many tokens that is.
    rules: how the next one is chosen.
  """

  last: jax.Array
  place: jax.Array
  tokens: jax.Array
  step: jax.Array
  rules: Rules


@dataclasses.dataclass(frozen=True)
class Programs:
  """What runs on the device. All methods are pure, and to be jitted.

  Attributes:
    model: a decoder, or an encoder-decoder.
    columns: the most tokens of a row.
    eos_id: ends a text, for constraints.
    constraints: those of a text of at most so many tokens; the number is traced.
    prefix: whether a decoder reads its prompt in both directions.
  """

  model: Model
  columns: int
  eos_id: int | tuple[int, ...]
  constraints: Constraints
  prefix: bool

  def empty(self, rows: int) -> Texts:
    """No text in any row."""
    zeros = jnp.zeros(rows, jnp.int32)
    unsigned = jnp.zeros(rows, jnp.uint32)
    rules = Rules(
      jnp.zeros(rows), zeros, jnp.ones(rows), keys(unsigned, unsigned, unsigned), zeros + 1
    )
    return Texts(zeros, zeros, jnp.zeros((rows, self.columns), jnp.int32), zeros, rules)

  def prefill(self, params: Params, batch: Batch, length: int) -> Cache:
    """The cache `[prompts, ...]` of all but each prompt's last token.

    Args:
      params: prepared ones.
      batch: `decoder_input_tokens` `[prompts, length or less]`, `known` `[prompts]` int32, how many
        of them count, and features of an encoder.
      length: columns.
    """
    tokens, known = batch["decoder_input_tokens"], batch["known"]
    columns = jnp.arange(length, dtype=jnp.int32)[None]
    positions = jnp.where(columns < known[:, None], columns, BEYOND)
    fed: dict[str, Any] = {
      **{name: x for name, x in batch.items() if name.startswith("encoder_")},
      "decoder_input_tokens": tokens,
      "decoder_positions": positions[:, : tokens.shape[1]],
      "decoder_cache_start": 0,
      "decoder_cache_positions": positions,
    }
    if self.prefix:
      fed["decoder_causal_attention"] = (columns < known[:, None])[:, : tokens.shape[1]] * 1
    source = fed.get("encoder_input_tokens")
    sources = 0 if source is None else source.shape[1]
    cache = self.model.empty_cache(tokens.shape[0], length, sources)
    return self.model.apply(params, fed, cache=cache).cache

  def insert(self, texts: Texts, new: Mapping[str, jax.Array]) -> Texts:
    """The texts with some that begin.

    Args:
      texts: of all rows.
      new: `row` (none where it is out of bounds), `last`, `place`, the fields of `Rules` but `key`,
        and `seed`, `number`, `sample`; all `[prompts]`.
    """
    row, none = new["row"], jnp.zeros_like(new["last"])
    key = keys(new["seed"], new["number"], new["sample"])
    rules = Rules(new["temperature"], new["top_k"], new["top_p"], key, new["limit"])
    blank = jnp.zeros((row.shape[0], self.columns), jnp.int32)
    fresh = Texts(new["last"], new["place"], blank, none, rules)
    return jax.tree.map(lambda old, some: old.at[row].set(some, mode="drop"), texts, fresh)

  def step(
    self,
    params: Params,
    cache: Cache,
    texts: Texts,
    active: jax.Array,
    telling: jax.Array,
    width: int,
  ) -> tuple[Cache, Texts, Told]:
    """`forward`, then `choose`, in one program: two would cost a call more for each token."""
    cache, logits = self.forward(params, cache, texts.last, texts.place, width)
    return cache, *self.choose(texts, logits, active, telling)

  def forward(
    self, params: Params, cache: Cache, last: jax.Array, place: jax.Array, width: int
  ) -> tuple[Cache, jax.Array]:
    """Feeds a token of each row; the cache after it, and float32 logits `[rows, vocab]`.

    Args:
      params: prepared ones.
      cache: of `width` columns.
      last, place: `[rows]` int32, the tokens and their positions.
      width: columns.
    """
    place = jnp.minimum(place, width - 1)  # a row that has ended may stand beyond
    columns = jnp.arange(width, dtype=jnp.int32)[None]
    batch = {
      "decoder_input_tokens": last[:, None],
      "decoder_positions": place[:, None],
      "decoder_cache_start": place,
      "decoder_cache_positions": jnp.where(columns <= place[:, None], columns, BEYOND),
    }
    output = self.model.apply(params, batch, cache=cache)
    return output.cache, output.logits[:, 0]

  def choose(
    self, texts: Texts, logits: jax.Array, active: jax.Array, telling: jax.Array
  ) -> tuple[Texts, Told]:
    """The next token of each row.

    Args:
      texts: of all rows.
      logits: `[rows, vocab]` float32.
      active: `[rows]` bool; the other rows stay where they are, and what is told of them is noise.
      telling: bool, whether anybody asks for alternatives.
    """
    token = choose(self._allowed(logits, texts), texts.rules, texts.step, active)
    rows, one = jnp.arange(token.shape[0]), active.astype(jnp.int32)
    tokens = texts.tokens.at[rows, texts.step].set(token, mode="drop")
    last = jnp.where(active, token, texts.last)
    new = Texts(last, texts.place + one, tokens, texts.step + one, texts.rules)
    return new, told(logits, token, telling)

  def _allowed(self, logits: jax.Array, texts: Texts) -> jax.Array:
    """The logits, `NEVER` where a constraint forbids; row by row, as each has an age of its own."""

    def one(row: jax.Array, tokens: jax.Array, step: jax.Array, limit: jax.Array) -> jax.Array:
      view = View(row[None, None], tokens[None, None], step, None, self.eos_id)
      for constraint in self.constraints(limit):
        allowed = jnp.where(constraint(view), view.logits, NEVER)
        view = dataclasses.replace(view, logits=allowed)
      return view.logits[0, 0]

    return jax.vmap(one)(logits, texts.tokens, texts.step, texts.rules.limit)


def inserted(cache: Cache, prompts: Cache, row: jax.Array) -> Cache:
  """The cache with those of prompts `[prompts, ...]`, none wider, in these rows `[prompts]`; a row
  out of bounds is none."""

  def put(old: jax.Array, some: jax.Array) -> jax.Array:
    return old.at[row].set(fitted(some, (some.shape[0], *old.shape[1:])), mode="drop")

  return jax.tree.map(put, cache, prompts)


def resized(cache: Cache, shapes: Any) -> Cache:
  """The cache in these shapes: columns are added, or cut off."""
  return jax.tree.map(lambda x, wanted: fitted(x, wanted.shape), cache, shapes)


def fitted(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """`x` cut and padded with zeros at the end of each axis."""
  if x.shape == shape:
    return x
  kept = x[tuple(slice(min(a, b)) for a, b in zip(x.shape, shape, strict=True))]
  return jnp.pad(kept, [(0, b - a) for a, b in zip(kept.shape, shape, strict=True)])
