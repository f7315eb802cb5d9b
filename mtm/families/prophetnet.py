"""ProphetNet (2001.04063): a BART whose decoder predicts some tokens at once, a stream for each."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mtm.errors import UserError
from mtm.families._names import Row, heads_in, heads_out, linear, norm, row
from mtm.families._published import Arguments, Config, Published, name_of
from mtm.parts.activations import gelu
from mtm.parts.attention import Attention, CrossAttention, head_width
from mtm.parts.heads import TiedHead
from mtm.parts.kernels import Kernel
from mtm.parts.linear import Embed, normal
from mtm.parts.mixers.ngram import Ngram, NgramStack
from mtm.parts.mlp import Mlp
from mtm.parts.norm import LayerNorm
from mtm.parts.positions.learned import Learned
from mtm.parts.stack import Block, PostNorm, Stack
from mtm.parts.transformer import EncoderDecoder, Model, Tower

# Of their position tables no token reads the first row, and only predicting streams read the last.
SPARE = 2
_IDS = {"bos_token_id": 1, "pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0}


@dataclasses.dataclass(frozen=True)
class LastFirst:
  """Theirs keeps the vector of the next token's stream last, ours first."""

  def load(self, *theirs: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    return tuple(np.roll(x, 1, axis=0) for x in theirs)

  def save(self, *ours: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    return tuple(np.roll(x, -1, axis=0) for x in ours)


def prophetnet(
  layers: int,
  embed: int,
  heads: int,
  mlp: int,
  vocab: int,
  max_length: int = 510,
  ngram: int = 2,
  futures: int = 1,
  buckets: int = 32,
  max_distance: int = 128,
  decoder_layers: int | None = None,
  decoder_heads: int | None = None,
  decoder_mlp: int | None = None,
  dropout: float = 0.1,
  attention_dropout: float = 0.1,
  activation_dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = gelu,
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A ProphetNet.

  Stream s predicts at each place the token that follows it, from the token s - 1 places before and
  what lies further back. No stream sees another, so the first alone, which all of what is known
  informs, gives the logits that scores and decoding read, and the others need not run.

  Args:
    layers, embed, heads, mlp, vocab, decoder_layers, decoder_heads, decoder_mlp, dropout,
      attention_dropout, activation_dropout, activation, scan, remat, dtype: as in
      `mtm.families.bart.bart`.
    max_length: the longest sequence of either side.
    ngram: predicting streams that there are parameters of.
    futures: how many of them run. The logits and states are `[batch, futures · length, ...]`: those
      of the first stream, then those of the second, all of the same targets.
    buckets: buckets of distances in the decoder's self-attention.
    max_distance: distances from here on share the last bucket.
    kernel: the engine of the encoder's attention and the decoder's over the source; None: the best
      that supports the call.

  Raises:
    UserError: `futures` is not between 1 and `ngram`, or `heads` does not divide `embed`.
  """
  if not 1 <= futures <= ngram:
    raise UserError(
      f"futures = {futures} of ngram = {ngram} streams cannot run: take one from 1 to {ngram}"
    )
  init = normal(0.02)

  def attention(heads: int) -> dict[str, Any]:
    return {
      "heads": heads, "head_dim": head_width(embed, heads), "dropout": attention_dropout,
      "weight_init": init, "out_init": init,
    }  # fmt: skip

  def stack(mixer: Any, cross: CrossAttention | None, hidden: int, repeats: int) -> Stack:
    channel = Mlp(
      hidden, activation, bias=True, dropout=activation_dropout, weight_init=init, out_init=init
    )
    block = Block(mixer, channel, LayerNorm, cross, PostNorm(), dropout)
    return Stack((block,), repeats, scan, remat)

  def position() -> Learned:
    return Learned(max_length + SPARE - 1, embed, offset=1)

  ours, theirs = attention(heads), attention(decoder_heads or heads)
  reading = CrossAttention(kernel=kernel, bias=True, **theirs)
  mixer = Ngram(streams=1 + futures, buckets=buckets, max_distance=max_distance, **theirs)
  streams = NgramStack(
    stack(mixer, reading, decoder_mlp or mlp, decoder_layers or layers),
    position(),
    Embed(ngram, embed, ("token_types", "embed"), init),
    futures,
    LayerNorm,
    dropout,
  )
  module = EncoderDecoder(
    tokens=Embed(vocab, embed, weight_init=init),
    encoder=Tower(
      stack(Attention(kernel=kernel, bias=True, **ours), None, mlp, layers),
      position=position(),
      embed_norm=LayerNorm,
      dropout=dropout,
    ),
    decoder=Tower(streams),
    head=TiedHead(),
  )
  inputs = ("encoder_input_tokens", "decoder_input_tokens")
  return Model(module, inputs, vocab, max_length, dtype)


def _arguments(theirs: Config) -> Arguments:
  theirs.expect("tie_word_embeddings", True)
  theirs.expect("add_cross_attention", True)
  theirs.expect("pad_token_id", 0)  # it shifts their positions, and their cache's by another number
  # Initialisation, the loss of training, and what their code does not read: sizes of fairseq's
  # tables, and layers that fairseq dropped.
  theirs.ignore("init_std", "disable_ngram_loss", "eps", "encoder_layerdrop", "decoder_layerdrop")
  theirs.ignore("encoder_max_position_embeddings", "decoder_max_position_embeddings")
  layers = theirs.get("num_encoder_layers", 12)
  theirs.expect("num_hidden_layers", layers)
  return {
    "layers": layers,
    "embed": theirs.get("hidden_size", 1024),
    "heads": theirs.get("num_encoder_attention_heads", 16),
    "mlp": theirs.get("encoder_ffn_dim", 4096),
    "vocab": theirs.need("vocab_size"),
    "max_length": theirs.get("max_position_embeddings", 512) - SPARE,
    "ngram": theirs.get("ngram", 2),
    "buckets": theirs.get("num_buckets", 32),
    "max_distance": theirs.get("relative_max_distance", 128),
    "decoder_layers": theirs.get("num_decoder_layers", 12),
    "decoder_heads": theirs.get("num_decoder_attention_heads", 16),
    "decoder_mlp": theirs.get("decoder_ffn_dim", 4096),
    "dropout": theirs.get("dropout", 0.1),
    "attention_dropout": theirs.get("attention_dropout", 0.1),
    "activation_dropout": theirs.get("activation_dropout", 0.1),
    "activation": theirs.activation("activation_function", "gelu"),
  }


def _config(a: Arguments) -> dict[str, Any]:
  return {
    "num_encoder_layers": a["layers"], "num_decoder_layers": a["decoder_layers"] or a["layers"],
    "hidden_size": a["embed"], "vocab_size": a["vocab"],
    "max_position_embeddings": a["max_length"] + SPARE, "ngram": a["ngram"],
    "num_buckets": a["buckets"], "relative_max_distance": a["max_distance"],
    "num_encoder_attention_heads": a["heads"],
    "num_decoder_attention_heads": a["decoder_heads"] or a["heads"],
    "encoder_ffn_dim": a["mlp"], "decoder_ffn_dim": a["decoder_mlp"] or a["mlp"],
    "dropout": a["dropout"], "attention_dropout": a["attention_dropout"],
    "activation_dropout": a["activation_dropout"], "activation_function": name_of(a["activation"]),
    "is_encoder_decoder": True, "add_cross_attention": True, **_IDS,
  }  # fmt: skip


def _attention(ours: str, theirs: str, heads: int) -> list[Row]:
  return [
    *heads_in(f"{ours}/query", f"{theirs}.query_proj", heads),
    *heads_in(f"{ours}/key", f"{theirs}.key_proj", heads),
    *heads_in(f"{ours}/value", f"{theirs}.value_proj", heads),
    *heads_out(f"{ours}/out", f"{theirs}.out_proj", heads),
    *norm(f"{ours}_norm", f"{theirs}_layer_norm"),
  ]


def _side(ours: str, around: str, name: str, heads: int) -> list[Row]:
  """The rows that both sides have: `ours` is a period's path, `around` that of the embeddings."""
  theirs = f"prophetnet.{name}"
  return [
    row(f"{around}/position/table/embedding", f"{theirs}.position_embeddings.weight"),
    *norm(f"{around}/embed_norm", f"{theirs}.embeddings_layer_norm"),
    *_attention(f"{ours}/mixer", f"{theirs}.layers.{{}}.self_attn", heads),
    *linear(f"{ours}/channel/wi", f"{theirs}.layers.{{}}.feed_forward.intermediate"),
    *linear(f"{ours}/channel/wo", f"{theirs}.layers.{{}}.feed_forward.output"),
    *norm(f"{ours}/channel_norm", f"{theirs}.layers.{{}}.feed_forward_layer_norm"),
  ]


def _rows(a: Arguments) -> list[Row]:
  heads, ours = a["decoder_heads"] or a["heads"], "decoder/stack/stack/period_0"
  layer, distance = "prophetnet.decoder.layers.{}", "self_attn.relative_pos_embeddings"
  starts = "prophetnet.decoder.ngram_embeddings.weight"
  return [
    row("tokens/embedding", "prophetnet.word_embeddings.weight"),
    *_side("encoder/stack/period_0", "encoder", "encoder", a["heads"]),
    *_side(ours, "decoder/stack", "decoder", heads),
    *_attention(f"{ours}/cross", f"{layer}.cross_attn", heads),
    *heads_in(f"{ours}/mixer/distance", f"{layer}.{distance}", a["buckets"]),
    row("decoder/stack/starts/embedding", starts, LastFirst()),
  ]


HF = Published(
  "prophetnet", ("ProphetNetForConditionalGeneration", "ProphetNetModel"), prophetnet, _arguments,
  _config, _rows, "prophetnet.", (),
  {
    "prophetnet.encoder.word_embeddings.weight": "prophetnet.word_embeddings.weight",
    "prophetnet.decoder.word_embeddings.weight": "prophetnet.word_embeddings.weight",
    "lm_head.weight": "prophetnet.word_embeddings.weight",
  },
  _IDS,
)  # fmt: skip

EXAMPLES = [
  functools.partial(
    prophetnet, 2, 16, 4, 24, 40, max_length=32, buckets=6, max_distance=5, decoder_layers=1,
    decoder_heads=2,
  )
]  # fmt: skip
