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
class State:
  """All rows; every leaf is `[rows, ...]`.

  Attributes:
    cache: the model's.
    last: int32, the newest token, which is fed next.
    place: int32, its position.
    tokens: int32 `[rows, columns]`, what was generated, 0 from `step` on.
    step: int32, how many tokens that is.
    rules: how the next one is chosen.
  """

  cache: Cache
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

  def empty(self, rows: int, width: Width) -> State:
    """No text in any row."""
    zeros = jnp.zeros(rows, jnp.int32)
    unsigned = jnp.zeros(rows, jnp.uint32)
    rules = Rules(
      jnp.zeros(rows), zeros, jnp.ones(rows), keys(unsigned, unsigned, unsigned), zeros + 1
    )
    tokens = jnp.zeros((rows, self.columns), jnp.int32)
    return State(self.model.empty_cache(rows, *width), zeros, zeros, tokens, zeros, rules)

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

  def insert(self, state: State, cache: Cache, new: Mapping[str, jax.Array]) -> State:
    """The state with texts that begin.

    Args:
      state: at least as wide as `cache`.
      cache: of the prompts, `[prompts, ...]`.
      new: `row` (none where it is out of bounds), `last`, `place`, the fields of `Rules` but `key`,
        and `seed`, `number`, `sample`; all `[prompts]`.
    """
    row, none = new["row"], jnp.zeros_like(new["last"])

    def put(old: jax.Array, rows: jax.Array) -> jax.Array:
      return old.at[row].set(fitted(rows, (rows.shape[0], *old.shape[1:])), mode="drop")

    key = keys(new["seed"], new["number"], new["sample"])
    rules = Rules(new["temperature"], new["top_k"], new["top_p"], key, new["limit"])
    blank = jnp.zeros((row.shape[0], self.columns), jnp.int32)
    return jax.tree.map(put, state, State(cache, new["last"], new["place"], blank, none, rules))

  def step(
    self, params: Params, state: State, active: jax.Array, telling: jax.Array, width: int
  ) -> tuple[State, Told]:
    """The next token of each row.

    Args:
      params: prepared ones.
      state: of `width` columns.
      active: `[rows]` bool; the other rows stay where they are, and what is told of them is noise.
      telling: bool, whether anybody asks for alternatives.
      width: columns.
    """
    place = jnp.minimum(state.place, width - 1)
    columns = jnp.arange(width, dtype=jnp.int32)[None]
    batch = {
      "decoder_input_tokens": state.last[:, None],
      "decoder_positions": place[:, None],
      "decoder_cache_start": place,
      "decoder_cache_positions": jnp.where(columns <= place[:, None], columns, BEYOND),
    }
    output = self.model.apply(params, batch, cache=state.cache)
    logits = output.logits[:, 0]
    token = choose(self._allowed(logits, state), state.rules, state.step, active)
    rows, one = jnp.arange(token.shape[0]), active.astype(jnp.int32)
    tokens = state.tokens.at[rows, state.step].set(token, mode="drop")
    new = State(
      output.cache, jnp.where(active, token, state.last), state.place + one, tokens,
      state.step + one, state.rules,
    )  # fmt: skip
    return new, told(logits, token, telling)

  def _allowed(self, logits: jax.Array, state: State) -> jax.Array:
    """The logits, `NEVER` where a constraint forbids; row by row, as each has an age of its own."""

    def one(row: jax.Array, tokens: jax.Array, step: jax.Array, limit: jax.Array) -> jax.Array:
      view = View(row[None, None], tokens[None, None], step, None, self.eos_id)
      for constraint in self.constraints(limit):
        allowed = jnp.where(constraint(view), view.logits, NEVER)
        view = dataclasses.replace(view, logits=allowed)
      return view.logits[0, 0]

    return jax.vmap(one)(logits, state.tokens, state.step, state.rules.limit)


def resized(state: State, shapes: Any) -> State:
  """The state with a cache of these shapes: columns are added, or cut off."""
  cache = jax.tree.map(lambda x, wanted: fitted(x, wanted.shape), state.cache, shapes)
  return dataclasses.replace(state, cache=cache)


def fitted(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """`x` cut and padded with zeros at the end of each axis."""
  if x.shape == shape:
    return x
  kept = x[tuple(slice(min(a, b)) for a, b in zip(x.shape, shape, strict=True))]
  return jnp.pad(kept, [(0, b - a) for a, b in zip(kept.shape, shape, strict=True)])
