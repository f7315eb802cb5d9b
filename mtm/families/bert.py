"""BERT (1810.04805): a post-norm encoder with learned positions, token types and an MLM head."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.families._names import Row, heads_in, heads_out, linear, norm, row
from mtm.families._published import Arguments, Config, Published, name_of
from mtm.parts.activations import gelu
from mtm.parts.attention import Attention, head_width
from mtm.parts.heads import MaskedHead
from mtm.parts.kernels import Kernel
from mtm.parts.linear import Embed, normal
from mtm.parts.mlp import Mlp
from mtm.parts.norm import LayerNorm
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.full import Full
from mtm.parts.positions.learned import Learned
from mtm.parts.stack import Block, PostNorm, Stack
from mtm.parts.transformer import Encoder, Model, Tower


def bert(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  max_length: int = 512,
  mlp: int | None = None,
  token_types: int = 2,
  dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = gelu,
  epsilon: float = 1e-12,
  pattern: Pattern = Full(),  # noqa: B008 (frozen)
  kernel: Kernel | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A BERT for masked language modelling.

  Args:
    layers: number of layers.
    embed: width.
    heads: attention heads, a divisor of `embed`; each has embed / heads features.
    vocab: number of token ids.
    max_length: the longest sequence.
    mlp: hidden width of the feed-forward layer; None: 4 · embed.
    token_types: number of token types.
    dropout: share dropped of embeddings, attention probabilities and sublayer outputs.
    activation: of the feed-forward layer and the head.
    epsilon: of the norms.
    pattern: who sees whom.
    kernel: the attention engine; None: the best that supports the call.
    scan, remat: see `Stack`.
    dtype: compute dtype.
  """
  init = normal(0.02)
  layer_norm = functools.partial(LayerNorm, epsilon=epsilon)
  mixer = Attention(
    heads, head_width(embed, heads), pattern=pattern, kernel=kernel, bias=True, dropout=dropout,
    weight_init=init, out_init=init,
  )  # fmt: skip
  channel = Mlp(mlp or 4 * embed, activation, bias=True, weight_init=init, out_init=init)
  block = Block(mixer, channel, layer_norm, placement=PostNorm(), dropout=dropout)
  tower = Tower(
    Stack((block,), layers, scan, remat),
    position=Learned(max_length, embed),
    embed_norm=layer_norm,
    token_types=Embed(token_types, embed, ("token_types", "embed"), init),
    dropout=dropout,
  )
  head = MaskedHead(layer_norm, activation, init)
  module = Encoder(Embed(vocab, embed, weight_init=init), tower, head)
  return Model(module, ("encoder_input_tokens",), vocab, max_length, dtype)


def _arguments(config: Config) -> Arguments:
  config.expect("position_embedding_type", "absolute")
  config.expect("tie_word_embeddings", True)
  config.expect("is_decoder", False)
  config.expect("add_cross_attention", False)
  return {
    "layers": config.get("num_hidden_layers", 12),
    "embed": config.get("hidden_size", 768),
    "heads": config.get("num_attention_heads", 12),
    "vocab": config.need("vocab_size"),
    "max_length": config.get("max_position_embeddings", 512),
    "mlp": config.get("intermediate_size", 3072),
    "token_types": config.get("type_vocab_size", 2),
    "dropout": config.same("hidden_dropout_prob", "attention_probs_dropout_prob", default=0.1),
    "activation": config.activation("hidden_act", "gelu"),
    "epsilon": config.get("layer_norm_eps", 1e-12),
  }


def _config(a: Arguments) -> dict[str, Any]:
  return {
    "num_hidden_layers": a["layers"], "hidden_size": a["embed"], "num_attention_heads": a["heads"],
    "vocab_size": a["vocab"], "max_position_embeddings": a["max_length"],
    "intermediate_size": a["mlp"] or 4 * a["embed"], "type_vocab_size": a["token_types"],
    "hidden_dropout_prob": a["dropout"], "attention_probs_dropout_prob": a["dropout"],
    "hidden_act": name_of(a["activation"]), "layer_norm_eps": a["epsilon"],
  }  # fmt: skip


def _rows(a: Arguments) -> list[Row]:
  ours, theirs, heads = "encoder/stack/period_0", "bert.encoder.layer.{}", a["heads"]
  return [
    row("tokens/embedding", "bert.embeddings.word_embeddings.weight"),
    row("encoder/position/table/embedding", "bert.embeddings.position_embeddings.weight"),
    row("encoder/token_types/embedding", "bert.embeddings.token_type_embeddings.weight"),
    *norm("encoder/embed_norm", "bert.embeddings.LayerNorm"),
    *heads_in(f"{ours}/mixer/query", f"{theirs}.attention.self.query", heads),
    *heads_in(f"{ours}/mixer/key", f"{theirs}.attention.self.key", heads),
    *heads_in(f"{ours}/mixer/value", f"{theirs}.attention.self.value", heads),
    *heads_out(f"{ours}/mixer/out", f"{theirs}.attention.output.dense", heads),
    *norm(f"{ours}/mixer_norm", f"{theirs}.attention.output.LayerNorm"),
    *linear(f"{ours}/channel/wi", f"{theirs}.intermediate.dense"),
    *linear(f"{ours}/channel/wo", f"{theirs}.output.dense"),
    *norm(f"{ours}/channel_norm", f"{theirs}.output.LayerNorm"),
    *linear("head/dense", "cls.predictions.transform.dense"),
    *norm("head/norm", "cls.predictions.transform.LayerNorm"),
    row("head/bias", "cls.predictions.bias"),
  ]


HF = Published(
  "bert", ("BertForMaskedLM",), bert, _arguments, _config, _rows, "bert.",
  (r"bert\.embeddings\.position_ids",),
  {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
  },
)  # fmt: skip

EXAMPLES = [functools.partial(bert, 2, 16, 4, 40, max_length=32, mlp=24)]
