"""What BART (1910.13461) and its descendants share: one encoder-decoder, and its name table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from mtm.errors import UserError
from mtm.families._names import Row, heads_in, heads_out, linear, norm, row
from mtm.families._published import Arguments, Config, name_of
from mtm.parts.attention import Attention, CrossAttention, head_width
from mtm.parts.heads import TiedHead
from mtm.parts.kernels import Kernel
from mtm.parts.linear import Embed, normal
from mtm.parts.mlp import Mlp
from mtm.parts.norm import LayerNorm
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full
from mtm.parts.positions import Position
from mtm.parts.positions.learned import Learned
from mtm.parts.positions.sinusoidal import Sinusoidal
from mtm.parts.stack import Block, PostNorm, PreNorm, Stack
from mtm.parts.transformer import EncoderDecoder, Model, Tower

OFFSET = 2  # their position tables have two rows that no position reads


@dataclasses.dataclass(frozen=True)
class Variant:
  """What a descendant decides once for all its sizes.

  Attributes:
    pre_norm: norms stand before the sublayers and after the last one, not after each.
    embed_norm: whether the embeddings are normed.
    learned: whether positions are learned; otherwise sines, then cosines.
    offset: rows of their position tables that no position reads.
  """

  pre_norm: bool
  embed_norm: bool
  learned: bool
  offset: int = OFFSET

  def position(self, max_length: int, embed: int) -> Position:
    """The positions of one side."""
    if self.learned:
      return Learned(max_length, embed, self.offset)
    return Sinusoidal(interleaved=False)


def build(
  variant: Variant,
  *,
  layers: int,
  embed: int,
  heads: int,
  mlp: int,
  vocab: int,
  max_length: int,
  decoder_layers: int | None,
  decoder_heads: int | None,
  decoder_mlp: int | None,
  dropout: float,
  attention_dropout: float,
  activation_dropout: float,
  activation: Callable[[jax.Array], jax.Array],
  scale_embedding: bool,
  kernel: Kernel | str | None,
  scan: bool,
  remat: Callable[..., bool] | None,
  dtype: Any,
  mixers: Sequence[nn.Module] = (),
  decoder_max_length: int | None = None,
) -> Model:
  """The model.

  Args:
    variant: see there.
    mixers: the encoder's, one for each layer of the period that is repeated; none: all see all.
    decoder_max_length: the longest sequence of the decoder, where it is another than `max_length`.
    others: see `bart`.
  """
  init = normal(0.02)

  def attention(heads: int) -> dict[str, Any]:
    return {
      "heads": heads, "head_dim": head_width(embed, heads), "kernel": kernel, "bias": True,
      "dropout": attention_dropout, "weight_init": init, "out_init": init,
    }  # fmt: skip

  def block(mixer: nn.Module, cross: CrossAttention | None, hidden: int) -> Block:
    channel = Mlp(
      hidden, activation, bias=True, dropout=activation_dropout, weight_init=init, out_init=init
    )
    placement = PreNorm() if variant.pre_norm else PostNorm()
    return Block(mixer, channel, LayerNorm, cross, placement, dropout)

  def tower(period: tuple[Block, ...], repeats: int, longest: int) -> Tower:
    return Tower(
      Stack(period, repeats // len(period), scan, remat),
      position=variant.position(longest, embed),
      embed_norm=LayerNorm if variant.embed_norm else None,
      final_norm=LayerNorm if variant.pre_norm else None,
      embed_scale=embed**0.5 if scale_embedding else 1.0,
      dropout=dropout,
    )

  theirs = attention(decoder_heads or heads)
  mixers = mixers or (Attention(pattern=Full(), **attention(heads)),)
  own = block(Attention(pattern=Causal(), **theirs), CrossAttention(**theirs), decoder_mlp or mlp)
  module = EncoderDecoder(
    tokens=Embed(vocab, embed, weight_init=init),
    encoder=tower(tuple(block(mixer, None, mlp) for mixer in mixers), layers, max_length),
    decoder=tower((own,), decoder_layers or layers, decoder_max_length or max_length),
    head=TiedHead(),
  )
  inputs = ("encoder_input_tokens", "decoder_input_tokens")
  return Model(module, inputs, vocab, max_length, dtype, decoder_max_length)


def arguments_of(theirs: Config, variant: Variant) -> Arguments:
  """The builder's arguments. Raises UserError where the config asks for another variant."""
  theirs.expect("tie_word_embeddings", True)
  # Old configs say which variant they are.
  theirs.expect("normalize_before", variant.pre_norm)
  theirs.expect("add_final_layer_norm", variant.pre_norm)
  theirs.expect("normalize_embedding", variant.embed_norm)
  theirs.expect("static_position_embeddings", not variant.learned)
  theirs.expect("add_bias_logits", False)
  # Initialisation, heads that are not built, generation, and what their code no longer reads.
  theirs.ignore("init_std", "classif_dropout", "_num_labels", "extra_pos_embeddings", "save_step")
  theirs.ignore("force_bos_token_to_be_generated")
  layers = theirs.get("encoder_layers", 12)
  theirs.expect("num_hidden_layers", layers)
  return {
    "layers": layers,
    "embed": theirs.get("d_model", 1024),
    "heads": theirs.get("encoder_attention_heads", 16),
    "mlp": theirs.get("encoder_ffn_dim", 4096),
    "vocab": theirs.need("vocab_size"),
    "max_length": theirs.get("max_position_embeddings", 1024),
    "decoder_layers": theirs.get("decoder_layers", 12),
    "decoder_heads": theirs.get("decoder_attention_heads", 16),
    "decoder_mlp": theirs.get("decoder_ffn_dim", 4096),
    "dropout": theirs.get("dropout", 0.1),
    "attention_dropout": theirs.get("attention_dropout", 0.0),
    "activation_dropout": theirs.get("activation_dropout", 0.0),
    "activation": theirs.activation("activation_function", "gelu"),
    "scale_embedding": theirs.get("scale_embedding", False),
  }


def config_of(a: Arguments) -> dict[str, Any]:
  """The config of a builder's arguments, without the ids that the vocabulary decides."""
  return {
    "encoder_layers": a["layers"], "decoder_layers": a["decoder_layers"] or a["layers"],
    "d_model": a["embed"], "vocab_size": a["vocab"], "max_position_embeddings": a["max_length"],
    "encoder_attention_heads": a["heads"],
    "decoder_attention_heads": a["decoder_heads"] or a["heads"],
    "encoder_ffn_dim": a["mlp"], "decoder_ffn_dim": a["decoder_mlp"] or a["mlp"],
    "dropout": a["dropout"], "attention_dropout": a["attention_dropout"],
    "activation_dropout": a["activation_dropout"], "activation_function": name_of(a["activation"]),
    "scale_embedding": a["scale_embedding"], "is_encoder_decoder": True,
  }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Zeros:
  """A tensor of theirs that has to be zero, for which we have no parameter.

  Their heads add a buffer `final_logits_bias` that no training changes: a parameter would.
  """

  shape: tuple[int, ...]

  def load(self, *theirs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Nothing. Raises UserError where there is something to lose."""
    (values,) = theirs
    if values.shape != self.shape or values.any():
      raise UserError(f"a tensor of shape {self.shape} should be zero and is not")
    return ()

  def save(self, *ours: np.ndarray) -> tuple[np.ndarray, ...]:
    """The zeros."""
    del ours
    return (np.zeros(self.shape, np.float32),)


def tower_rows(
  variant: Variant, name: str, heads: int, cross: bool, prefix: str = "model"
) -> list[Row]:
  """One side, `encoder` or `decoder`, below `prefix`; `cross`: with attention to the other."""
  ours, theirs = f"{name}/stack/period_0", f"{prefix}.{name}.layers.{{}}"

  def attention(part: str, called: str) -> list[Row]:
    return [
      *heads_in(f"{ours}/{part}/query", f"{theirs}.{called}.q_proj", heads),
      *heads_in(f"{ours}/{part}/key", f"{theirs}.{called}.k_proj", heads),
      *heads_in(f"{ours}/{part}/value", f"{theirs}.{called}.v_proj", heads),
      *heads_out(f"{ours}/{part}/out", f"{theirs}.{called}.out_proj", heads),
      *norm(f"{ours}/{part}_norm", f"{theirs}.{called}_layer_norm"),
    ]

  rows = [
    *attention("mixer", "self_attn"),
    *linear(f"{ours}/channel/wi", f"{theirs}.fc1"),
    *linear(f"{ours}/channel/wo", f"{theirs}.fc2"),
    *norm(f"{ours}/channel_norm", f"{theirs}.final_layer_norm"),
  ]
  rows += attention("cross", "encoder_attn") if cross else []
  return rows + ends_rows(variant, name, prefix)


def ends_rows(variant: Variant, name: str, prefix: str = "model") -> list[Row]:
  """What stands before and after the layers of one side."""
  theirs, rows = f"{prefix}.{name}", []
  if variant.learned:
    rows.append(row(f"{name}/position/table/embedding", f"{theirs}.embed_positions.weight"))
  rows += norm(f"{name}/embed_norm", f"{theirs}.layernorm_embedding") * variant.embed_norm
  rows += norm(f"{name}/final_norm", f"{theirs}.layer_norm") * variant.pre_norm
  return rows


def rows_of(a: Arguments, variant: Variant) -> list[Row]:
  """The name table of a builder's arguments."""
  return [
    row("tokens/embedding", "model.shared.weight"),
    *tower_rows(variant, "encoder", a["heads"], False),
    *tower_rows(variant, "decoder", a["decoder_heads"] or a["heads"], True),
    Row((), ("final_logits_bias",), Zeros((1, a["vocab"])), optional=True),
  ]


IGNORED = (r"model\.(encoder|decoder)\.version",)
COPIES = {
  "model.encoder.embed_tokens.weight": "model.shared.weight",
  "model.decoder.embed_tokens.weight": "model.shared.weight",
  "lm_head.weight": "model.shared.weight",
}
