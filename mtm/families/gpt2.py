"""GPT-2 (Radford et al., 2019): a pre-norm decoder with learned positions and a tied head."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.families._names import FromHeads, IntoHeads, Joined, Row, norm, row
from mtm.families._published import Arguments, Config, Published, name_of
from mtm.parts.attention import Attention, head_width
from mtm.parts.heads import TiedHead
from mtm.parts.kernels import Kernel
from mtm.parts.linear import Embed, normal
from mtm.parts.mlp import Mlp
from mtm.parts.norm import LayerNorm
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.causal import Causal
from mtm.parts.positions.learned import Learned
from mtm.parts.stack import Block, Stack
from mtm.parts.transformer import Decoder, Model, Tower


def gpt2(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  max_length: int = 1024,
  mlp: int | None = None,
  dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
  epsilon: float = 1e-5,
  pattern: Pattern = Causal(),  # noqa: B008 (frozen)
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A GPT-2.

  Args:
    layers: number of layers.
    embed: width.
    heads: attention heads, a divisor of `embed`; each has embed / heads features.
    vocab: number of token ids.
    max_length: the longest sequence.
    mlp: hidden width of the feed-forward layer; None: 4 · embed.
    dropout: share dropped of embeddings, attention probabilities and sublayer outputs.
    activation: of the feed-forward layer.
    epsilon: of the norms.
    pattern: who sees whom.
    kernel: the attention engine; None: the best that supports the call.
    scan, remat: see `Stack`.
    dtype: compute dtype.
  """
  init, out_init = normal(0.02), normal(0.02 / (2 * layers) ** 0.5)
  layer_norm = functools.partial(LayerNorm, epsilon=epsilon)
  block = Block(
    mixer=Attention(
      heads, head_width(embed, heads), pattern=pattern, kernel=kernel, bias=True, dropout=dropout,
      weight_init=init, out_init=out_init,
    ),
    channel=Mlp(mlp or 4 * embed, activation, bias=True, weight_init=init, out_init=out_init),
    norm=layer_norm,
    dropout=dropout,
  )  # fmt: skip
  tower = Tower(
    Stack((block,), layers, scan, remat),
    position=Learned(max_length, embed),
    final_norm=layer_norm,
    dropout=dropout,
  )
  module = Decoder(Embed(vocab, embed, weight_init=init), tower, TiedHead())
  return Model(module, ("decoder_input_tokens",), vocab, max_length, dtype)


def _arguments(theirs: Config) -> Arguments:
  theirs.expect("scale_attn_weights", True)
  theirs.expect("scale_attn_by_inverse_layer_idx", False)
  theirs.expect("add_cross_attention", False)
  theirs.expect("tie_word_embeddings", True)
  theirs.ignore("reorder_and_upcast_attn")  # how, not what, is computed
  return {
    "layers": theirs.get("n_layer", 12),
    "embed": theirs.get("n_embd", 768),
    "heads": theirs.get("n_head", 12),
    "vocab": theirs.need("vocab_size"),
    "max_length": theirs.get("n_positions", 1024),
    "mlp": theirs.get("n_inner", None),
    "dropout": theirs.same("resid_pdrop", "embd_pdrop", "attn_pdrop", default=0.1),
    "activation": theirs.activation("activation_function", "gelu_new"),
    "epsilon": theirs.get("layer_norm_epsilon", 1e-5),
  }


def _config(a: Arguments) -> dict[str, Any]:
  return {
    "n_layer": a["layers"], "n_embd": a["embed"], "n_head": a["heads"], "n_inner": a["mlp"],
    "vocab_size": a["vocab"], "n_positions": a["max_length"], "resid_pdrop": a["dropout"],
    "embd_pdrop": a["dropout"], "attn_pdrop": a["dropout"],
    "activation_function": name_of(a["activation"]), "layer_norm_epsilon": a["epsilon"],
  }  # fmt: skip


def _rows(a: Arguments) -> list[Row]:
  ours, theirs, heads = "decoder/stack/period_0", "transformer.h.{}", a["heads"]
  joined = Joined(3, -1, IntoHeads(heads, transposed=False))
  qkv = ("query", "key", "value")
  return [
    row("tokens/embedding", "transformer.wte.weight"),
    row("decoder/position/table/embedding", "transformer.wpe.weight"),
    *norm(f"{ours}/mixer_norm", f"{theirs}.ln_1"),
    Row(tuple(f"{ours}/mixer/{x}/kernel" for x in qkv), (f"{theirs}.attn.c_attn.weight",), joined),
    Row(tuple(f"{ours}/mixer/{x}/bias" for x in qkv), (f"{theirs}.attn.c_attn.bias",), joined),
    row(f"{ours}/mixer/out/kernel", f"{theirs}.attn.c_proj.weight", FromHeads(heads, False)),
    row(f"{ours}/mixer/out/bias", f"{theirs}.attn.c_proj.bias"),
    *norm(f"{ours}/channel_norm", f"{theirs}.ln_2"),
    row(f"{ours}/channel/wi/kernel", f"{theirs}.mlp.c_fc.weight"),
    row(f"{ours}/channel/wi/bias", f"{theirs}.mlp.c_fc.bias"),
    row(f"{ours}/channel/wo/kernel", f"{theirs}.mlp.c_proj.weight"),
    row(f"{ours}/channel/wo/bias", f"{theirs}.mlp.c_proj.bias"),
    *norm("decoder/final_norm", "transformer.ln_f"),
  ]


HF = Published(
  "gpt2", ("GPT2LMHeadModel", "GPT2Model"), gpt2, _arguments, _config, _rows, "transformer.",
  (r"transformer\.h\.\d+\.attn\.(masked_)?bias",),
  {"lm_head.weight": "transformer.wte.weight"},
)  # fmt: skip

EXAMPLES = [functools.partial(gpt2, 2, 16, 4, 40, max_length=32, mlp=24)]
