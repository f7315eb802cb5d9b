"""What BERT and its descendants share: a post-norm encoder, their configs' words, their names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from mtm.families._names import Row, heads_in, heads_out, linear, norm, row
from mtm.families._published import Arguments, Config, name_of
from mtm.parts.attention import Attention, head_width
from mtm.parts.kernels import Kernel
from mtm.parts.linear import Dense, Embed, normal
from mtm.parts.mlp import Mlp
from mtm.parts.norm import LayerNorm
from mtm.parts.patterns import Pattern
from mtm.parts.positions._base import Position
from mtm.parts.stack import Block, NormFactory, PostNorm, Stack
from mtm.parts.transformer import Encoder, Model, Tower

INIT = normal(0.02)
STACK = "encoder/stack/period_0"

# The special ids of fairseq's models.
FAIRSEQ = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}

# Parts of a layer → BERT's names of them, below `encoder.layer.{}`.
LAYER: Mapping[str, str] = {
  "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
  "out": "attention.output.dense", "mixer_norm": "attention.output.LayerNorm",
  "wi": "intermediate.dense", "wo": "output.dense", "channel_norm": "output.LayerNorm",
}  # fmt: skip


def layer_norm(epsilon: float) -> NormFactory:
  """Makes LayerNorms with this epsilon."""
  return functools.partial(LayerNorm, epsilon=epsilon)


def layer(
  embed: int,
  heads: int,
  mlp: int | None,
  dropout: float,
  activation: Callable[[jax.Array], jax.Array],
  epsilon: float,
  pattern: Pattern,
  kernel: Kernel | str | None,
) -> Block:
  """BERT's layer; the arguments are those of `mtm.families.bert.bert`."""
  mixer = Attention(
    heads, head_width(embed, heads), pattern=pattern, kernel=kernel, bias=True, dropout=dropout,
    weight_init=INIT, out_init=INIT,
  )  # fmt: skip
  channel = Mlp(mlp or 4 * embed, activation, bias=True, weight_init=INIT, out_init=INIT)
  return Block(mixer, channel, layer_norm(epsilon), placement=PostNorm(), dropout=dropout)


def model(
  stack: Stack,
  head: nn.Module,
  vocab: int,
  width: int,
  max_length: int,
  position: Position,
  embed_norm: NormFactory,
  token_types: int,
  dropout: float,
  dtype: Any,
  project: int | None = None,
) -> Model:
  """An encoder whose embeddings are normed.

  Args:
    stack: its layers.
    head: hidden states and the token table → logits.
    vocab: number of token ids.
    width: size of the embeddings.
    max_length: the longest sequence.
    position: its positions, of size `width`.
    embed_norm: makes the norm of the embeddings, given `name`.
    token_types: number of token types; 0: none.
    dropout: share of the embeddings dropped.
    dtype: compute dtype.
    project: width of the layers, into which the embeddings are projected; None: they are not.
  """
  types = Embed(token_types, width, ("token_types", "embed"), INIT) if token_types else None
  tower = Tower(
    stack, position=position, embed_norm=embed_norm, token_types=types, dropout=dropout,
    project=None if project is None else projection(project),
  )  # fmt: skip
  module = Encoder(Embed(vocab, width, weight_init=INIT), tower, head)
  return Model(module, ("encoder_input_tokens",), vocab, max_length, dtype)


def projection(features: int) -> Dense:
  """From the width of the embeddings to `features`."""
  return Dense((features,), ("mlp", "embed"), bias=True, weight_init=INIT)


def refuse(theirs: Config, decoder: bool = False) -> None:
  """Raises UserError where the config asks for what no encoder (or decoder) of this kind has."""
  theirs.expect("position_embedding_type", "absolute")
  theirs.expect("tie_word_embeddings", True)
  theirs.expect("is_decoder", decoder)
  theirs.expect("add_cross_attention", False)


def sizes(
  theirs: Config, embed: int = 768, mlp: int = 3072, activation: str = "gelu", decoder: bool = False
) -> Arguments:
  """What a config in BERT's words says of the layers, with these defaults where it says nothing."""
  refuse(theirs, decoder)
  return {
    "layers": theirs.get("num_hidden_layers", 12),
    "embed": theirs.get("hidden_size", embed),
    "vocab": theirs.need("vocab_size"),
    "mlp": theirs.get("intermediate_size", mlp),
    "activation": theirs.activation("hidden_act", activation),
    "epsilon": theirs.get("layer_norm_eps", 1e-12),
  }


def attended(theirs: Config, heads: int = 12, dropout: float = 0.1) -> Arguments:
  """What it says of attention and dropout."""
  return {
    "heads": theirs.get("num_attention_heads", heads),
    "dropout": theirs.same("hidden_dropout_prob", "attention_probs_dropout_prob", default=dropout),
  }


def words(a: Arguments) -> dict[str, Any]:
  """The config that `sizes` and `attended` read, and the longest sequence in BERT's words."""
  return {
    "num_hidden_layers": a["layers"], "hidden_size": a["embed"], "num_attention_heads": a["heads"],
    "vocab_size": a["vocab"], "max_position_embeddings": a["max_length"],
    "intermediate_size": a["mlp"] or 4 * a["embed"], "hidden_dropout_prob": a["dropout"],
    "attention_probs_dropout_prob": a["dropout"], "hidden_act": name_of(a["activation"]),
    "layer_norm_eps": a["epsilon"],
  }  # fmt: skip


def embedding_rows(
  theirs: str,
  position: str = "encoder/position/table/embedding",
  embed_norm: str = "encoder/embed_norm",
) -> list[Row]:
  """Token and position tables and the norm of the embeddings, below `theirs`."""
  return [
    row("tokens/embedding", f"{theirs}.word_embeddings.weight"),
    row(position, f"{theirs}.position_embeddings.weight"),
    *norm(embed_norm, f"{theirs}.LayerNorm"),
  ]


def types_row(theirs: str, side: str = "encoder") -> Row:
  """The table of token types, below `theirs`."""
  return row(f"{side}/token_types/embedding", f"{theirs}.token_type_embeddings.weight")


def layer_rows(
  theirs: str,
  heads: int,
  names: Mapping[str, str] = LAYER,
  ours: str = STACK,
  bias: bool = True,
) -> list[Row]:
  """The layers.

  Args:
    theirs: what stands before a part's name: `....layer.{}`, or one layer that all share.
    heads: attention heads.
    names: parts → their names, as in `LAYER`.
    ours: our block.
    bias: whether queries, keys and values have one.
  """
  their = {part: f"{theirs}.{name}" for part, name in names.items()}
  return [
    *heads_in(f"{ours}/mixer/query", their["query"], heads, bias),
    *heads_in(f"{ours}/mixer/key", their["key"], heads, bias),
    *heads_in(f"{ours}/mixer/value", their["value"], heads, bias),
    *heads_out(f"{ours}/mixer/out", their["out"], heads),
    *norm(f"{ours}/mixer_norm", their["mixer_norm"]),
    *linear(f"{ours}/channel/wi", their["wi"]),
    *linear(f"{ours}/channel/wo", their["wo"]),
    *norm(f"{ours}/channel_norm", their["channel_norm"]),
  ]


def head_rows(dense: str, head_norm: str, bias: str, ours: str = "head") -> list[Row]:
  """A `MaskedHead`, ours at that path, by the names of its parts."""
  return [
    *linear(f"{ours}/dense", dense),
    *norm(f"{ours}/norm", head_norm),
    row(f"{ours}/bias", bias),
  ]


def tied(decoder: str, table: str, bias: str | None = None) -> dict[str, str]:
  """See `Published.copies`: an output layer whose weight is the token table.

  Args:
    decoder: the output layer.
    table: the token table.
    bias: the tensor that its bias repeats; None: it is the only one.
  """
  copies = {f"{decoder}.weight": table}
  return copies if bias is None else {**copies, f"{decoder}.bias": bias}
