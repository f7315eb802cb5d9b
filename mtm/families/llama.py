"""LLaMA (2302.13971, 2307.09288): rotary positions, RMSNorm, SwiGLU, grouped-query heads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from mtm.families._names import Row, heads_in, heads_out, linear, norm, row
from mtm.families._published import Arguments, Config, Published
from mtm.parts.attention import Attention, head_width
from mtm.parts.heads import DenseHead, TiedHead
from mtm.parts.kernels import Kernel
from mtm.parts.linear import Embed, normal
from mtm.parts.mlp import Mlp
from mtm.parts.norm import RMSNorm
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.causal import Causal
from mtm.parts.positions.rotary import Rotary
from mtm.parts.stack import Block, Stack
from mtm.parts.transformer import Decoder, Model, Tower


def llama(
  layers: int,
  embed: int,
  heads: int,
  mlp: int,
  vocab: int,
  kv_heads: int | None = None,
  rope_base: float = 10_000.0,
  tied: bool = False,
  epsilon: float = 1e-5,
  pattern: Pattern = Causal(),  # noqa: B008 (frozen)
  dropout: float = 0.0,
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A LLaMA.

  Args:
    layers: number of layers.
    embed: width.
    heads: query heads, a divisor of `embed`; each has embed / heads features.
    mlp: hidden width of the gated feed-forward layer.
    vocab: number of token ids.
    kv_heads: key and value heads, a divisor of `heads`; None: `heads`.
    rope_base: base of the rotary wavelengths.
    tied: whether the head is the token table.
    epsilon: of the norms.
    pattern: who sees whom.
    dropout: share of sublayer outputs dropped (the published models: 0).
    kernel: the attention engine; None: the best that supports the call.
    scan, remat: see `Stack`.
    dtype: compute dtype.
  """
  init = normal(0.02)
  rms_norm = functools.partial(RMSNorm, epsilon=epsilon)
  block = Block(
    mixer=Attention(
      heads, head_width(embed, heads), kv_heads, pattern, Rotary(rope_base), kernel,
      weight_init=init, out_init=init,
    ),
    channel=Mlp(mlp, jax.nn.silu, gated=True, weight_init=init, out_init=init),
    norm=rms_norm,
    dropout=dropout,
  )  # fmt: skip
  tower = Tower(Stack((block,), layers, scan, remat), final_norm=rms_norm, dropout=dropout)
  head = TiedHead() if tied else DenseHead(vocab, init)
  module = Decoder(Embed(vocab, embed, weight_init=init), tower, head)
  return Model(module, ("decoder_input_tokens",), vocab, None, dtype)


# What their code takes where a config is silent.
SIZES: Mapping[str, Any] = {
  "intermediate_size": 11008, "rms_norm_eps": 1e-6, "rope_theta": 10_000.0,
}  # fmt: skip


def arguments_of(theirs: Config, sizes: Mapping[str, Any] = SIZES) -> Arguments:
  """The builder's arguments. Raises UserError where the config asks for what LLaMA lacks."""
  theirs.expect("hidden_act", "silu")
  theirs.expect("attention_bias", False)
  theirs.expect("mlp_bias", False)
  theirs.expect("attention_dropout", 0.0)
  theirs.expect("rope_scaling", None)
  theirs.ignore("max_position_embeddings")  # rotary positions have no end
  base = theirs.get("rope_theta", sizes["rope_theta"])
  rope = theirs.get("rope_parameters", {"rope_theta": base})
  Config(rope, f"{theirs.source}: rope_parameters").expect("rope_type", "default")
  heads, embed = theirs.get("num_attention_heads", 32), theirs.get("hidden_size", 4096)
  theirs.expect("head_dim", head_width(embed, heads))
  return {
    "layers": theirs.get("num_hidden_layers", 32),
    "embed": embed,
    "heads": heads,
    "mlp": theirs.get("intermediate_size", sizes["intermediate_size"]),
    "vocab": theirs.need("vocab_size"),
    "kv_heads": theirs.get("num_key_value_heads", heads),
    "rope_base": float(rope.get("rope_theta", sizes["rope_theta"])),
    "tied": theirs.get("tie_word_embeddings", False),
    "epsilon": theirs.get("rms_norm_eps", sizes["rms_norm_eps"]),
  }


def config_of(a: Arguments) -> dict[str, Any]:
  """The config of a builder's arguments."""
  return {
    "num_hidden_layers": a["layers"], "hidden_size": a["embed"], "num_attention_heads": a["heads"],
    "intermediate_size": a["mlp"], "vocab_size": a["vocab"], "rms_norm_eps": a["epsilon"],
    "num_key_value_heads": a["kv_heads"] or a["heads"], "rope_theta": a["rope_base"],
    "rope_parameters": {"rope_type": "default", "rope_theta": a["rope_base"]},
    "tie_word_embeddings": a["tied"], "head_dim": a["embed"] // a["heads"],
  }  # fmt: skip


def rows_of(a: Arguments) -> list[Row]:
  """The name table of a builder's arguments."""
  ours, theirs = "decoder/stack/period_0", "model.layers.{}"
  kv_heads = a["kv_heads"] or a["heads"]
  head = [] if a["tied"] else linear("head/logits_dense", "lm_head", bias=False)
  return [
    row("tokens/embedding", "model.embed_tokens.weight"),
    *norm(f"{ours}/mixer_norm", f"{theirs}.input_layernorm", bias=False),
    *heads_in(f"{ours}/mixer/query", f"{theirs}.self_attn.q_proj", a["heads"], bias=False),
    *heads_in(f"{ours}/mixer/key", f"{theirs}.self_attn.k_proj", kv_heads, bias=False),
    *heads_in(f"{ours}/mixer/value", f"{theirs}.self_attn.v_proj", kv_heads, bias=False),
    *heads_out(f"{ours}/mixer/out", f"{theirs}.self_attn.o_proj", a["heads"], bias=False),
    *norm(f"{ours}/channel_norm", f"{theirs}.post_attention_layernorm", bias=False),
    *linear(f"{ours}/channel/wi_0", f"{theirs}.mlp.gate_proj", bias=False),
    *linear(f"{ours}/channel/wi_1", f"{theirs}.mlp.up_proj", bias=False),
    *linear(f"{ours}/channel/wo", f"{theirs}.mlp.down_proj", bias=False),
    *norm("decoder/final_norm", "model.norm", bias=False),
    *head,
  ]


IGNORED = (r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq",)
COPIES = {"lm_head.weight": "model.embed_tokens.weight"}

HF = Published(
  "llama", ("LlamaForCausalLM",), llama, arguments_of, config_of, rows_of, "model.", IGNORED,
  COPIES,
)  # fmt: skip

EXAMPLES = [
  functools.partial(llama, 2, 16, 4, 24, 40),
  functools.partial(llama, 2, 16, 4, 24, 40, kv_heads=2, tied=True),
]
