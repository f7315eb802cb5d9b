"""BLOOM (2211.05100): a pre-norm decoder with ALiBi, a norm of the embeddings and a tied head."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mtm.families._names import Row, heads_out, linear, norm, row
from mtm.families._published import Arguments, Config, Published
from mtm.parts.attention import Attention, head_width
from mtm.parts.heads import TiedHead
from mtm.parts.kernels import Kernel
from mtm.parts.linear import Embed, normal
from mtm.parts.mlp import Mlp
from mtm.parts.norm import LayerNorm
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.causal import Causal
from mtm.parts.positions.alibi import Alibi
from mtm.parts.stack import Block, Stack
from mtm.parts.transformer import Decoder, Model, Tower


def bloom(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  dropout: float = 0.0,
  epsilon: float = 1e-5,
  pattern: Pattern = Causal(),  # noqa: B008 (frozen)
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A BLOOM.

  Args:
    layers: number of layers.
    embed: width; the feed-forward layer is four times as wide.
    heads: attention heads, a divisor of `embed`; each has embed / heads features.
    vocab: number of token ids.
    dropout: share dropped of attention probabilities and sublayer outputs.
    epsilon: of the norms.
    pattern: who sees whom.
    kernel: the attention engine; None: the best that supports the call.
    scan, remat: see `Stack`.
    dtype: compute dtype.
  """
  init, out_init = normal(0.02), normal(0.02 / (2 * layers) ** 0.5)
  layer_norm = functools.partial(LayerNorm, epsilon=epsilon)
  mixer = Attention(
    heads, head_width(embed, heads), pattern=pattern, kernel=kernel, bias=True, dropout=dropout,
    weight_init=init, out_init=out_init,
  )  # fmt: skip
  channel = Mlp(4 * embed, jax.nn.gelu, bias=True, weight_init=init, out_init=out_init)
  tower = Tower(
    Stack((Block(mixer, channel, layer_norm, dropout=dropout),), layers, scan, remat),
    position=Alibi(heads),
    embed_norm=layer_norm,
    final_norm=layer_norm,
  )
  module = Decoder(Embed(vocab, embed, weight_init=init), tower, TiedHead())
  return Model(module, ("decoder_input_tokens",), vocab, None, dtype)


@dataclasses.dataclass(frozen=True)
class FusedHeads:
  """Query, key and value of one head after another in one torch Linear.

  Theirs is `[heads · 3 · head_dim, embed]`, ours three of `[embed, heads, head_dim]`; or the bias,
  `[heads · 3 · head_dim]`, and three of `[heads, head_dim]`.
  """

  heads: int

  def load(self, *theirs: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    (whole,) = theirs
    split = whole.T.reshape(*whole.shape[1:], self.heads, 3, -1)
    return tuple(np.ascontiguousarray(split[..., part, :]) for part in range(3))

  def save(self, *ours: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    whole = np.stack(ours, axis=-2)
    return (np.ascontiguousarray(whole.reshape(*whole.shape[:-3], -1).T),)


def _arguments(theirs: Config) -> Arguments:
  theirs.expect("apply_residual_connection_post_layernorm", False)
  theirs.expect("tie_word_embeddings", True)
  # How Megatron computed, not what; the length it trained on, which ALiBi does not end at; and
  # settings that the original's code never reads.
  theirs.ignore(
    "slow_but_exact", "seq_length", "attention_softmax_in_fp32", "masked_softmax_fusion",
    "bias_dropout_fusion", "skip_bias_add", "skip_bias_add_qkv", "offset_alibi",
  )  # fmt: skip
  # Two names each: those of the first BLOOM configs and those of today.
  embed = theirs.get("n_embed", theirs.get("hidden_size", 64))
  theirs.expect("n_inner", None, 4 * embed)
  return {
    "layers": theirs.get("num_hidden_layers", theirs.get("n_layer", 2)),
    "embed": embed,
    "heads": theirs.get("num_attention_heads", theirs.get("n_head", 8)),
    "vocab": theirs.need("vocab_size"),
    "dropout": theirs.same("hidden_dropout", "attention_dropout"),
    "epsilon": theirs.get("layer_norm_epsilon", 1e-5),
  }


def _config(a: Arguments) -> dict[str, Any]:
  return {
    "n_layer": a["layers"], "hidden_size": a["embed"], "n_head": a["heads"],
    "vocab_size": a["vocab"], "hidden_dropout": a["dropout"], "attention_dropout": a["dropout"],
    "layer_norm_epsilon": a["epsilon"],
  }  # fmt: skip


def _rows(a: Arguments) -> list[Row]:
  ours, theirs, fused = "decoder/stack/period_0", "transformer.h.{}", FusedHeads(a["heads"])

  def qkv(ours_end: str, theirs_end: str) -> Row:
    names = tuple(f"{ours}/mixer/{part}/{ours_end}" for part in ("query", "key", "value"))
    return Row(names, (f"{theirs}.self_attention.query_key_value.{theirs_end}",), fused)

  return [
    row("tokens/embedding", "transformer.word_embeddings.weight"),
    *norm("decoder/embed_norm", "transformer.word_embeddings_layernorm"),
    *norm(f"{ours}/mixer_norm", f"{theirs}.input_layernorm"),
    qkv("kernel", "weight"),
    qkv("bias", "bias"),
    *heads_out(f"{ours}/mixer/out", f"{theirs}.self_attention.dense", a["heads"]),
    *norm(f"{ours}/channel_norm", f"{theirs}.post_attention_layernorm"),
    *linear(f"{ours}/channel/wi", f"{theirs}.mlp.dense_h_to_4h"),
    *linear(f"{ours}/channel/wo", f"{theirs}.mlp.dense_4h_to_h"),
    *norm("decoder/final_norm", "transformer.ln_f"),
  ]


HF = Published(
  "bloom", ("BloomForCausalLM",), bloom, _arguments, _config, _rows, "transformer.",
  copies={"lm_head.weight": "transformer.word_embeddings.weight"},
)  # fmt: skip

EXAMPLES = [
  functools.partial(bloom, 2, 16, 4, 40),
  functools.partial(bloom, 2, 18, 3, 40),
]
