"""Encoder, Decoder, EncoderDecoder: the only wiring of parts; and Model, which makes them pure.

Each takes a batch by its SeqIO feature names and returns a `mtm.types.Output`. Nothing above
`families` sees a Linen module: it sees `Model`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtm.axes import constrain
from mtm.errors import UserError
from mtm.parts import matmul
from mtm.parts.bias import Bias, of_position
from mtm.parts.context import Aux, Context, Slots, Source
from mtm.parts.dropout import Dropout
from mtm.parts.linear import Dense, Embed
from mtm.parts.matmul import Matmul
from mtm.parts.positions._base import Position
from mtm.parts.remat import Policy, applied
from mtm.parts.stack import Layers, NormFactory
from mtm.types import Axes, Batch, Cache, Output, Params

PLACES = ("decoder_positions", "decoder_cache_start", "decoder_cache_positions")  # for a cache
# What layers are told of each token, in `Context.labels` → the feature that tells it.
LABELS = {
  "prefix": "causal_attention", "token_types": "token_types", "global": "global_attention",
}  # fmt: skip

FACTS = {"domain": "domain"}  # the same for `Context.facts`, which also has the ids themselves
FLOAT32 = "router"  # what is below this name stays in float32: its last bits decide who goes where


class Tower(nn.Module):
  """Ids → hidden states: embedding, positions, a stack of layers, a last norm.

  Attributes:
    stack: the layers.
    position: adds to the embedding and biases the scores of all layers.
    embed_norm: makes a norm of the embeddings, given `name`; None: no norm.
    final_norm: makes a norm of the output, given `name`; None: no norm.
    token_types: table of segment types (BERT), or None.
    embed_scale: multiplies the token vectors.
    dropout: share of the embeddings dropped in training, and of the output where it is normed.
    dropout_shared: axes along which one dropout draw is shared.
    project: from the embeddings' width to that of the layers, after the dropout (ELECTRA, ALBERT);
      None: they have one width.
  """

  stack: Layers
  position: Position = dataclasses.field(default_factory=Position)
  embed_norm: NormFactory | None = None
  final_norm: NormFactory | None = None
  token_types: Embed | None = None
  embed_scale: float = 1.0
  dropout: float = 0.0
  dropout_shared: tuple[int, ...] = ()
  final_dropout: bool = False
  project: Dense | None = None

  @nn.compact
  def __call__(
    self, ids_BL: jax.Array, tokens: Embed, context: Context, types_BL: jax.Array | None = None
  ) -> tuple[jax.Array, Aux]:
    """`[batch, length]` ids → `[batch, length, embed]`.

    Args:
      ids_BL: token ids.
      tokens: the token table, owned by the model so that towers and heads can share it.
      context: facts about the tokens; its cache is the whole stack's, its bias is made here.
      types_BL: token type ids, where the tower has a table for them; None: all 0.
    """
    x_BLD = tokens(ids_BL)
    if self.embed_scale != 1.0:
      x_BLD = x_BLD * self.embed_scale
    if self.token_types is not None:
      x_BLD = x_BLD + self.token_types(jnp.zeros_like(ids_BL) if types_BL is None else types_BL)
    x_BLD = self.position.embed(x_BLD, context.positions)
    if self.embed_norm is not None:
      x_BLD = self.embed_norm(name="embed_norm")(x_BLD)
    x_BLD = Dropout(self.dropout, self.dropout_shared)(x_BLD, context.train)
    if self.project is not None:
      x_BLD = self.project(x_BLD)
    cache = context.cache
    x_BLD = constrain(x_BLD, "batch", "length" if cache is not None else "residual_length", "embed")
    context = dataclasses.replace(context, bias=self._bias(context), cache=None)
    x_BLD, aux = self.stack(x_BLD, context, cache)
    if self.final_norm is not None:
      x_BLD = self.final_norm(name="final_norm")(x_BLD)
    if self.final_dropout:
      x_BLD = Dropout(self.dropout, self.dropout_shared)(x_BLD, context.train)
    return x_BLD, aux

  def _bias(self, context: Context) -> Bias | None:
    """Places are row indices (a packed row has one scale), or in decoding the positions."""
    places = None
    if context.slots is not None and not context.slots.fresh:
      places = context.positions, context.slots.positions
    return of_position(self.position, places, context.positions.shape[1])

  @nn.nowrap
  def prepare(self, params: Params) -> Params:
    """See `Model.prepare`."""
    return {**params, "stack": self.stack.prepare(params["stack"])}


class Encoder(nn.Module):
  """A bidirectional tower and a head. Batch: `encoder_input_tokens`, optional positions, segment
  ids, `encoder_token_types` and `encoder_global_attention` (1 at tokens that see and are seen by
  all, where the layers have such)."""

  tokens: Embed
  encoder: Tower
  head: nn.Module

  def __call__(self, batch: Batch, train: bool = False, cache: Cache = None) -> Output:
    """Logits `[batch, length, vocab]` at every encoder position."""
    if cache is not None:
      raise ValueError("an encoder has no cache: it cannot decode")
    context = _context(batch, "encoder", train, padding=True)
    types = batch.get("encoder_token_types")
    x, aux = self.encoder(batch["encoder_input_tokens"], self.tokens, context, types)
    with matmul.use(None):
      scores = self.head(x, self.tokens, train)
    return Output(scores, x, None, aux.losses, aux.metrics)


class Decoder(nn.Module):
  """A causal tower and a head. Batch: `decoder_input_tokens`, optional positions, segment ids and
  `decoder_causal_attention` (1 on a bidirectional prefix)."""

  tokens: Embed
  decoder: Tower
  head: nn.Module

  def __post_init__(self) -> None:
    _refuse_looking_ahead(self.decoder)
    super().__post_init__()

  def __call__(self, batch: Batch, train: bool = False, cache: Cache = None) -> Output:
    """Logits `[batch, length, vocab]`; for a cache see `Model.apply`."""
    context = _context(batch, "decoder", train).with_cache(cache)
    x, aux = self.decoder(batch["decoder_input_tokens"], self.tokens, context)
    with matmul.use(None):
      logits = self.head(x, self.tokens)
    return Output(logits, x, aux.cache, aux.losses, aux.metrics)

  @nn.nowrap
  def empty_cache(self, batch: int, length: int, source_length: int, dtype: Any) -> Cache:
    """Every leaf is `[batch, ...]`."""
    return self.decoder.stack.empty_cache(batch, length, source_length, dtype)

  @nn.nowrap
  def prepare(self, params: Params) -> Params:
    """See `Model.prepare`."""
    return _prepared(self, params)


class EncoderDecoder(nn.Module):
  """Two towers that share a token table. Batch: `encoder_*` and `decoder_*` features.

  With a cache, `encoder_input_tokens` in the batch are encoded and remembered; without them the
  cache's source is used.
  """

  tokens: Embed
  encoder: Tower
  decoder: Tower
  head: nn.Module

  def __post_init__(self) -> None:
    _refuse_looking_ahead(self.decoder)
    super().__post_init__()

  def __call__(self, batch: Batch, train: bool = False, cache: Cache = None) -> Output:
    """Logits `[batch, length, vocab]` at every decoder position."""
    states = None
    if cache is None or "encoder_input_tokens" in batch:
      around = _context(batch, "encoder", train, padding=True)
      states, aux = self.encoder(batch["encoder_input_tokens"], self.tokens, around)
      real = jnp.asarray(around.segments)
      source = Source(states, real if cache is None else (real > 0).astype(jnp.int32))
    else:
      source, aux = Source(None, cache["source_segments"]), Aux()
    context = _context(batch, "decoder", train).with_cache(cache and cache["decoder"])
    context = dataclasses.replace(context, source=source)
    x, own = self.decoder(batch["decoder_input_tokens"], self.tokens, context)
    if cache is not None:
      cache = {"decoder": own.cache, "source_segments": source.segments}
    losses = {**_prefixed("encoder", aux.losses), **_prefixed("decoder", own.losses)}
    metrics = {**_prefixed("encoder", aux.metrics), **_prefixed("decoder", own.metrics)}
    with matmul.use(None):
      logits = self.head(x, self.tokens)
    return Output(logits, x, cache, losses, metrics, states)

  @nn.nowrap
  def empty_cache(self, batch: int, length: int, source_length: int, dtype: Any) -> Cache:
    """Every leaf is `[batch, ...]`."""
    return {
      "decoder": self.decoder.stack.empty_cache(batch, length, source_length, dtype),
      "source_segments": jnp.zeros((batch, source_length), jnp.int32),
    }

  @nn.nowrap
  def prepare(self, params: Params) -> Params:
    """See `Model.prepare`; the encoder runs once and stays as it is."""
    return _prepared(self, params)


def _prepared(module: Decoder | EncoderDecoder, params: Params) -> Params:
  """See `Model.prepare`: the decoder, and the token table where the head multiplies by it."""
  tokens = params["tokens"]
  if getattr(module.head, "tied", False):
    tokens = module.tokens.prepare(tokens)
  return {**params, "tokens": tokens, "decoder": module.decoder.prepare(params["decoder"])}


@dataclasses.dataclass(frozen=True)
class Model:
  """A model as everything above `families` sees it.

  Attributes:
    module: an Encoder, Decoder or EncoderDecoder.
    inputs: the batch features that it cannot do without.
    vocab_size: number of token ids.
    max_length: the longest sequence, or None where positions are unbounded.
    dtype: compute dtype; parameters are float32 masters, cast at every call, but for routers of
      experts (selective precision, 2101.03961 §2.4).
    decoder_max_length: the longest sequence of the decoder where that is another; None: it is not.
    matmul: how dense layers multiply, see `mtm.parts.matmul`; None: as XLA does.
  """

  module: nn.Module
  inputs: tuple[str, ...]
  vocab_size: int
  max_length: int | None = None
  dtype: Any = "float32"
  decoder_max_length: int | None = None
  matmul: Matmul | None = None

  @property
  def architecture(self) -> str:
    """The class of its module."""
    return type(self.module).__name__

  def fitted(self, remat: Policy | None = None, matmul: Matmul | None = None) -> Model:
    """This model, recomputing and multiplying as said; None leaves either as it is."""
    module = self.module if remat is None else applied(self.module, remat)
    return dataclasses.replace(self, module=module, matmul=matmul or self.matmul)

  def init(self, rng: jax.Array, batch: Batch) -> Params:
    """Fresh float32 parameters; of `batch` only the shapes matter."""
    self._check(batch, self.inputs)
    return nn.meta.unbox(self.module.init(rng, batch)["params"])

  def axes(self, batch: Batch) -> Axes:
    """A tree like the parameters whose leaves are tuples of logical axis names."""
    boxed = jax.eval_shape(self.module.init, jax.random.key(0), batch)["params"]
    is_box = lambda x: isinstance(x, nn.meta.AxisMetadata)  # noqa: E731
    return jax.tree.map(lambda box: tuple(box.names), boxed, is_leaf=is_box)

  def apply(
    self,
    params: Params,
    batch: Batch,
    rng: jax.Array | None = None,
    train: bool = False,
    cache: Cache = None,
  ) -> Output:
    """Runs the model.

    Args:
      params: from `init`.
      batch: feature name → `[batch, length]`.
      rng: the dropout key; needed when `train` is set and the model drops anything.
      train: whether dropout is on.
      cache: from `empty_cache` or an earlier call; the output's goes into the next. The batch then
        says where the decoder's tokens stand in their sequences, `decoder_positions` `[batch,
        length]`; in which slot of the cache the first of them goes, `decoder_cache_start`, an int32
        scalar or one a row, `[batch]`, or the number 0 where they are the first of their sequences;
        and the position of each slot's token, `decoder_cache_positions` `[1 or batch, slots]`,
        beyond all others where a slot holds padding or nothing yet.

    Raises:
      UserError: a feature that the model needs is not in the batch, or a sequence is longer than
        the model.
    """
    if cache is None:
      self._check(batch, self.inputs)
    else:
      self._check(batch, ("decoder_input_tokens",), PLACES)
    weights = self._cast(params)
    rngs = None if rng is None else {"dropout": rng}
    with matmul.use(self.matmul):
      return cast(Output, self.module.apply({"params": weights}, batch, train, cache, rngs=rngs))

  def _cast(self, params: Params) -> Params:
    def cast(path: Any, p: jax.Array) -> jax.Array:
      return (
        p if any(getattr(key, "key", None) == FLOAT32 for key in path) else p.astype(self.dtype)
      )

    return jax.tree_util.tree_map_with_path(cast, params)

  def prepare(self, params: Params) -> Params:
    """The parameters as `apply` with a cache wants them, so that no step has to make them anew.

    They are in the compute dtype and cut into layers, which takes the memory of a copy. `apply`
    takes any parameters; a loop over tokens runs faster with these.
    """
    weights = self._cast(params)
    return self.module.prepare(weights) if hasattr(self.module, "prepare") else weights

  def empty_cache(self, batch_size: int, length: int, source_length: int = 0) -> Cache:
    """A cache of `length` decoder slots; every leaf is `[batch, ...]`."""
    limit = self.decoder_max_length
    if limit is not None and length > limit + 1:  # what is generated last is not read again
      raise UserError(
        f"{length - 1} tokens of a decoder whose positions end at {limit}: generate fewer"
      )
    if not hasattr(self.module, "empty_cache"):
      raise UserError(f"a {type(self.module).__name__} cannot decode: it has no cache")
    return self.module.empty_cache(batch_size, length, source_length, jnp.dtype(self.dtype))

  def _check(self, batch: Batch, needed: tuple[str, ...], also: tuple[str, ...] = ()) -> None:
    """Raises UserError unless `batch` has all features, and `needed` ones are not too long."""
    missing = [name for name in needed + also if name not in batch]
    if missing:
      raise UserError(
        f"the model ({type(self.module).__name__}) needs {', '.join(missing)}, but the batch has"
        f" {', '.join(sorted(batch))}: take an objective that makes what this model reads"
      )
    for name in needed:
      length, limit = np.shape(batch[name])[1], self.max_length
      if self.decoder_max_length is not None and name.startswith("decoder_"):
        limit = self.decoder_max_length
      if limit is not None and length > limit:
        raise UserError(
          f"{name} is {length} long and the model's positions end at {limit}: shorten it, or raise"
          " the model's max_length"
        )


def _context(batch: Batch, side: str, train: bool, padding: bool = False) -> Context:
  """The facts that a batch tells about the tokens of one side.

  Args:
    batch: the batch.
    side: `encoder` or `decoder`, the prefix of its features.
    train: whether dropout is on.
    padding: whether id 0 is padding where no segment ids say what is (needed without causality).
  """
  ids = jnp.asarray(batch[f"{side}_input_tokens"])
  positions = batch.get(f"{side}_positions")
  if positions is None:
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1], dtype=jnp.int32), ids.shape)
  segments = batch.get(f"{side}_segment_ids")
  if segments is None and padding:
    segments = (ids != 0).astype(jnp.int32)

  def told(names: Mapping[str, str]) -> dict[str, jax.Array]:
    values = {name: batch.get(f"{side}_{feature}") for name, feature in names.items()}
    return {name: jnp.asarray(value) for name, value in values.items() if value is not None}

  start = batch.get(f"{side}_cache_start")
  slots = None
  if start is not None:
    fresh = isinstance(start, int) and start == 0  # known now, not when the program runs
    first, places = jnp.asarray(start, jnp.int32), batch[f"{side}_cache_positions"]
    slots = Slots(first, jnp.asarray(places), fresh)
  facts = {"ids": ids, **told(FACTS)}
  return Context(jnp.asarray(positions), segments, told(LABELS), facts, slots=slots, train=train)


def _refuse_looking_ahead(decoder: Tower) -> None:
  """Raises UserError where a mixer says of itself that it sees what is to be predicted, or a
  channel mixer that its experts are chosen with a view to it."""
  for block in decoder.stack.period:
    if not getattr(block.channel, "causal", True):
      raise UserError(
        f"{type(block.channel).__name__} in which experts choose among all tokens would show a"
        " decoder those that it is to predict: take a router whose tokens choose, or an Encoder"
      )
    if not getattr(block.mixer, "causal", True):
      raise UserError(
        f"{type(block.mixer).__name__} with causal = False would show a decoder the tokens that it"
        " is to predict: set causal = True where the mixer has that form, or take an Encoder"
      )


def _prefixed(prefix: str, values: Any) -> dict[str, jax.Array]:
  return {f"{prefix}/{name}": value for name, value in values.items()}
