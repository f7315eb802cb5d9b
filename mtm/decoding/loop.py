"""The decoding loop: prompts in one pass, then one compiled `while_loop` over tokens.

A prompt is fed as training feeds it: shifted right, `0, p1, ..., pn`. All of it goes through the
model at once to fill the cache, without logits, which XLA then never computes. Each turn of the
loop feeds the newest token of every hypothesis at its own position, so prompts of different lengths
run together, and ends early when the policy says that every example is done.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mtm.decoding._base import NEVER, Generated, Policy, View
from mtm.decoding.constraints import Constraint
from mtm.errors import UserError
from mtm.types import BEYOND, Batch, Model, Params

Memory = Any
DOMAIN = "decoder_domain"


def generate(
  model: Model,
  params: Params,
  batch: Batch,
  keys: jax.Array | None = None,
  *,
  policy: Policy,
  max_length: int,
  eos_id: int | tuple[int, ...] = 1,
  constraints: Sequence[Constraint] = (),
  use_cache: bool = True,
) -> Generated:
  """Continues every example. Pure, and to be jitted once and kept:

  `decode = jax.jit(functools.partial(generate, model, policy=Beam(4), max_length=64))`, then
  `decode(params, batch)`; on a mesh `plan.jit(...)`.

  Args:
    model: gives `apply` and `empty_cache`.
    params: its parameters.
    batch: `encoder_*` features `[batch, source_length]` where the model has an encoder; the prompt
      as `decoder_input_tokens` `[batch, length]` (absent: the begin id 0 alone), with
      `decoder_segment_ids` 0 at padding, which stands on the right (absent: no padding),
      `decoder_causal_attention` for a bidirectional prefix, and `decoder_domain` `[batch, 1 or
      more]` where the model reads it.
    keys: PRNG keys `[batch]` for policies that draw, see `sample.example_keys`.
    policy: which tokens follow.
    max_length: the most tokens to generate for an example.
    eos_id: ends a hypothesis; of several ids any does.
    constraints: all must allow a token.
    use_cache: False runs the model over the whole prefix at every step: slow, to check the cache.

  Raises:
    UserError: `max_length` is below 1, or the model cannot decode.
  """
  if max_length < 1:
    raise UserError(f"max_length = {max_length}: decoding must generate at least one token")
  engine = (_Cached if use_cache else _Uncached)(model, params, batch, policy.width, max_length)
  size, width = engine.size, policy.width

  def more(carry: Any) -> jax.Array:
    step, _, _, _, done = carry
    return (step < max_length) & ~jnp.all(done)

  def turn(carry: Any) -> Any:
    step, tokens, memory, state, _ = carry
    logits, memory = engine.logits(memory, step)
    logits = logits.reshape(size, width, -1)
    norm = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    view = View(logits, tokens, step, keys, eos_id, norm)
    for constraint in constraints:
      allowed = jnp.where(constraint(view), view.logits, NEVER)
      view = dataclasses.replace(view, logits=allowed)
    choice = policy.step(state, view)
    if choice.parents is not None:
      rows = (jnp.arange(size)[:, None] * width + choice.parents).reshape(-1)
      memory = engine.reorder(memory, rows)
      tokens = tokens.reshape(size * width, max_length)[rows].reshape(tokens.shape)
    tokens = tokens.at[:, :, step].set(choice.tokens)
    memory = engine.extend(memory, choice.tokens.reshape(-1), step)
    return step + 1, tokens, memory, choice.state, choice.done

  start = (
    jnp.int32(0),
    jnp.zeros((size, width, max_length), jnp.int32),
    engine.start(),
    policy.start(size, max_length),
    jnp.zeros(size, bool),
  )
  _, tokens, _, state, _ = jax.lax.while_loop(more, turn, start)
  return policy.finish(state, tokens)


class _Cached:
  """Feeds the newest tokens; the cache remembers the rest. Memory: the cache and those tokens.

  The prompts fill the first slots of the cache, side by side, and each turn adds one for all.
  """

  def __init__(
    self, model: Model, params: Params, batch: Batch, width: int, max_length: int
  ) -> None:
    self.model, self.params, self.batch, self.width = model, model.prepare(params), batch, width
    self.tokens, self.lengths = _prompt(batch)
    self.size, columns = self.tokens.shape
    self.prefix, self.domain = batch.get("decoder_causal_attention"), _domain(batch)
    # The first turn feeds a prompt's last token. In a bidirectional prefix earlier tokens see it,
    # so it is there from the start too, and hidden when it comes again.
    self.fed = columns if self.prefix is not None else max(columns - 1, 1)
    self.slots = self.fed + max_length

  def start(self) -> Memory:
    """The prompt but for its last token."""
    known = self.lengths if self.prefix is not None else self.lengths - 1
    positions = self.positions(known)
    batch: dict[str, Any] = {
      **_encoder(self.batch),
      **self.domain,
      "decoder_input_tokens": self.tokens[:, : self.fed],
      "decoder_positions": positions[:, : self.fed],
      "decoder_cache_start": 0,
      "decoder_cache_positions": positions,
    }
    if self.prefix is not None:
      batch["decoder_causal_attention"] = jnp.asarray(self.prefix)
    source = batch.get("encoder_input_tokens")
    source_length = 0 if source is None else source.shape[1]
    cache = self.model.empty_cache(self.size, self.slots, source_length)
    cache = self.model.apply(self.params, batch, cache=cache).cache
    last = jnp.take_along_axis(self.tokens, self.lengths[:, None] - 1, axis=1)[:, 0]
    if self.width > 1:
      cache = jax.tree.map(lambda x: jnp.repeat(x, self.width, axis=0), cache)
    return cache, jnp.repeat(last, self.width)

  def positions(self, known: jax.Array) -> jax.Array:
    """The position of every slot's token `[batch, slots]`; of a prompt `known` `[batch]` count."""
    slots = jnp.arange(self.slots)[None]
    prompt = jnp.where(slots < known[:, None], slots, BEYOND)
    return jnp.where(slots < self.fed, prompt, self.lengths[:, None] - 1 + slots - self.fed)

  def logits(self, memory: Memory, step: jax.Array) -> tuple[jax.Array, Memory]:
    """`[batch · width, vocab]` after the newest tokens, which are then in the cache."""
    cache, last = memory
    lengths = jnp.repeat(self.lengths - 1, self.width)
    batch = {
      **{name: jnp.repeat(x, self.width, axis=0) for name, x in self.domain.items()},
      "decoder_input_tokens": last[:, None],
      "decoder_positions": (lengths + step)[:, None],
      "decoder_cache_start": self.fed + step,
      "decoder_cache_positions": jnp.repeat(self.positions(self.lengths - 1), self.width, axis=0),
    }
    output = self.model.apply(self.params, batch, cache=cache)
    return output.logits[:, 0], (output.cache, last)

  def reorder(self, memory: Memory, rows: jax.Array) -> Memory:
    """Each hypothesis takes the memory of the one it continues, `rows` `[batch · width]`."""
    cache, last = memory
    return jax.tree.map(lambda x: jnp.take(x, rows, axis=0), cache), last

  def extend(self, memory: Memory, tokens: jax.Array, step: jax.Array) -> Memory:
    """The memory with the tokens `[batch · width]` chosen at `step`."""
    del step
    return memory[0], tokens


class _Uncached:
  """Runs whole prefixes at every step. Memory: prompts and what follows, `[batch · width, all]`."""

  def __init__(
    self, model: Model, params: Params, batch: Batch, width: int, max_length: int
  ) -> None:
    self.model, self.params, self.width = model, params, width
    self.prompt, self.lengths = _prompt(batch)
    self.size = self.prompt.shape[0]
    wide = {**_encoder(batch), **_domain(batch)}
    prefix = batch.get("decoder_causal_attention")
    if prefix is not None:
      wide["decoder_causal_attention"] = _padded(jnp.asarray(prefix), max_length)
    self.batch = {name: jnp.repeat(x, width, axis=0) for name, x in wide.items()}
    self.max_length = max_length

  def start(self) -> Memory:
    """See `_Cached`."""
    known = jnp.arange(self.prompt.shape[1])[None] < self.lengths[:, None]
    prompt = jnp.where(known, self.prompt, 0)
    return jnp.repeat(_padded(prompt, self.max_length), self.width, axis=0)

  def logits(self, memory: Memory, step: jax.Array) -> tuple[jax.Array, Memory]:
    """See `_Cached`."""
    output = self.model.apply(self.params, {**self.batch, "decoder_input_tokens": memory})
    newest = jnp.repeat(self.lengths - 1, self.width) + step
    return jnp.take_along_axis(output.logits, newest[:, None, None], axis=1)[:, 0], memory

  def reorder(self, memory: Memory, rows: jax.Array) -> Memory:
    """See `_Cached`."""
    return memory[rows]

  def extend(self, memory: Memory, tokens: jax.Array, step: jax.Array) -> Memory:
    """See `_Cached`."""
    places = jnp.repeat(self.lengths, self.width) + step
    return memory.at[jnp.arange(memory.shape[0]), places].set(tokens)


def _encoder(batch: Batch) -> dict[str, jax.Array]:
  return {name: jnp.asarray(x) for name, x in batch.items() if name.startswith("encoder_")}


def _domain(batch: Batch) -> dict[str, jax.Array]:
  """The label of each row's domain, `[batch, 1]`, where the batch tells it: that of its first token
  holds for all that follows."""
  told = batch.get(DOMAIN)
  return {} if told is None else {DOMAIN: jnp.asarray(told)[:, :1]}


def _prompt(batch: Batch) -> tuple[jax.Array, jax.Array]:
  """The decoder's prompts `[batch, length]` int32 and their lengths `[batch]`, at least 1."""
  tokens = batch.get("decoder_input_tokens")
  if tokens is None:
    source = next(iter(batch.values()))
    return jnp.zeros((source.shape[0], 1), jnp.int32), jnp.ones(source.shape[0], jnp.int32)
  tokens = jnp.asarray(tokens, jnp.int32)
  segments = batch.get("decoder_segment_ids")
  if segments is None:
    return tokens, jnp.full(tokens.shape[0], tokens.shape[1], jnp.int32)
  # An empty prompt begins with padding, whose id is the begin id's: it is the prompt of nothing.
  lengths = jnp.sum(jnp.asarray(segments) > 0, axis=1, dtype=jnp.int32)
  return tokens, jnp.maximum(lengths, 1)


def _padded(x: jax.Array, columns: int) -> jax.Array:
  return jnp.pad(x, ((0, 0), (0, columns)))
