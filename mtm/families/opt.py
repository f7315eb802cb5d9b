"""OPT (2205.01068): a GPT-3-like decoder with ReLU; its 350M is post-norm with narrow tokens."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.families._names import Row, heads_in, heads_out, linear, norm, row
from mtm.families._published import Arguments, Config, Published, name_of
from mtm.parts.attention import Attention, head_width
from mtm.parts.heads import TiedHead
from mtm.parts.kernels import Kernel
from mtm.parts.linear import Dense, Embed, normal
from mtm.parts.mlp import Mlp
from mtm.parts.norm import LayerNorm
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.causal import Causal
from mtm.parts.positions.learned import Learned
from mtm.parts.stack import Block, PostNorm, PreNorm, Stack
from mtm.parts.transformer import Decoder, Model, Tower

OFFSET = 2  # rows of the position table before position 0, left from fairseq's padding


class NarrowEmbed(Embed):
  """A table of vectors narrower than the model, and a projection on each side.

  Attributes:
    width: the model's; `features` is the table's.
  """

  width: int = 0

  def setup(self) -> None:
    super().setup()
    init = self.weight_init
    self.into = Dense((self.width,), ("mlp", "embed"), weight_init=init)
    self.out = Dense((self.features,), ("embed", "mlp"), weight_init=init)

  def __call__(self, ids: jax.Array) -> jax.Array:
    """`[...]` → `[..., width]`."""
    return self.into(super().__call__(ids))

  def attend(self, x: jax.Array) -> jax.Array:
    """`[..., width]` → `[..., vocab]`."""
    return super().attend(self.out(x))


def opt(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  max_length: int = 2048,
  mlp: int | None = None,
  token_embed: int | None = None,
  pre_norm: bool = True,
  dropout: float = 0.1,
  attention_dropout: float = 0.0,
  activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
  pattern: Pattern = Causal(),  # noqa: B008 (frozen)
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """An OPT.

  Args:
    layers: number of layers.
    embed: width.
    heads: attention heads, a divisor of `embed`; each has embed / heads features.
    vocab: number of token ids.
    max_length: the longest sequence.
    mlp: hidden width of the feed-forward layer; None: 4 · embed.
    token_embed: width of the token table, projected to `embed` and back; None: `embed` without
      projections (350M: 512).
    pre_norm: whether norms stand before the sublayers and at the end; False: after each sublayer
      and none at the end (350M).
    dropout: share dropped of sublayer outputs; embeddings are not dropped (section 2.2).
    attention_dropout: share dropped of attention probabilities.
    activation: of the feed-forward layer.
    pattern: who sees whom.
    kernel: the attention engine; None: the best that supports the call.
    scan, remat: see `Stack`.
    dtype: compute dtype.
  """
  init, out_init = normal(0.006), normal(0.006 / (2 * layers) ** 0.5)  # section 2.2
  block = Block(
    mixer=Attention(
      heads, head_width(embed, heads), pattern=pattern, kernel=kernel, bias=True,
      dropout=attention_dropout, weight_init=init, out_init=out_init,
    ),
    channel=Mlp(mlp or 4 * embed, activation, bias=True, weight_init=init, out_init=out_init),
    norm=LayerNorm,
    placement=PreNorm() if pre_norm else PostNorm(),
    dropout=dropout,
  )  # fmt: skip
  tower = Tower(
    Stack((block,), layers, scan, remat),
    position=Learned(max_length, embed, OFFSET, init),
    final_norm=LayerNorm if pre_norm else None,
  )
  tokens = Embed(vocab, embed, weight_init=init)
  if token_embed is not None:
    tokens = NarrowEmbed(vocab, token_embed, weight_init=init, width=embed)
  return Model(
    Decoder(tokens, tower, TiedHead()), ("decoder_input_tokens",), vocab, max_length, dtype
  )


def _arguments(theirs: Config) -> Arguments:
  theirs.expect("enable_bias", True)
  theirs.expect("layer_norm_elementwise_affine", True)
  theirs.expect("_remove_final_layer_norm", False)
  theirs.expect("tie_word_embeddings", True)
  theirs.expect("activation_dropout", 0.0)
  theirs.expect("layerdrop", 0.0)
  theirs.ignore("init_std")
  embed = theirs.get("hidden_size", 768)
  token_embed = theirs.get("word_embed_proj_dim", embed)
  return {
    "layers": theirs.get("num_hidden_layers", 12),
    "embed": embed,
    "heads": theirs.get("num_attention_heads", 12),
    "vocab": theirs.need("vocab_size"),
    "max_length": theirs.get("max_position_embeddings", 2048),
    "mlp": theirs.get("ffn_dim", 3072),
    "token_embed": None if token_embed == embed else token_embed,
    "pre_norm": theirs.get("do_layer_norm_before", True),
    "dropout": theirs.get("dropout", 0.1),
    "attention_dropout": theirs.get("attention_dropout", 0.0),
    "activation": theirs.activation("activation_function", "relu"),
  }


def _config(a: Arguments) -> dict[str, Any]:
  return {
    "num_hidden_layers": a["layers"], "hidden_size": a["embed"], "num_attention_heads": a["heads"],
    "vocab_size": a["vocab"], "max_position_embeddings": a["max_length"],
    "ffn_dim": a["mlp"] or 4 * a["embed"], "do_layer_norm_before": a["pre_norm"],
    "word_embed_proj_dim": a["token_embed"] or a["embed"], "dropout": a["dropout"],
    "attention_dropout": a["attention_dropout"], "activation_function": name_of(a["activation"]),
  }  # fmt: skip


def _rows(a: Arguments) -> list[Row]:
  ours, theirs, heads = "decoder/stack/period_0", "model.decoder.layers.{}", a["heads"]
  last = norm("decoder/final_norm", "model.decoder.final_layer_norm") if a["pre_norm"] else []
  sides = [] if a["token_embed"] is None else [("into", "project_in"), ("out", "project_out")]
  return [
    row("tokens/embedding", "model.decoder.embed_tokens.weight"),
    *(r for x, y in sides for r in linear(f"tokens/{x}", f"model.decoder.{y}", bias=False)),
    row("decoder/position/table/embedding", "model.decoder.embed_positions.weight"),
    *heads_in(f"{ours}/mixer/query", f"{theirs}.self_attn.q_proj", heads),
    *heads_in(f"{ours}/mixer/key", f"{theirs}.self_attn.k_proj", heads),
    *heads_in(f"{ours}/mixer/value", f"{theirs}.self_attn.v_proj", heads),
    *heads_out(f"{ours}/mixer/out", f"{theirs}.self_attn.out_proj", heads),
    *norm(f"{ours}/mixer_norm", f"{theirs}.self_attn_layer_norm"),
    *linear(f"{ours}/channel/wi", f"{theirs}.fc1"),
    *linear(f"{ours}/channel/wo", f"{theirs}.fc2"),
    *norm(f"{ours}/channel_norm", f"{theirs}.final_layer_norm"),
    *last,
  ]


HF = Published(
  "opt", ("OPTForCausalLM",), opt, _arguments, _config, _rows, "model.",
  copies={"lm_head.weight": "model.decoder.embed_tokens.weight"},
)  # fmt: skip

EXAMPLES = [
  functools.partial(opt, 2, 16, 4, 40, max_length=32, mlp=24),
  functools.partial(opt, 2, 16, 4, 40, max_length=32, mlp=24, token_embed=8, pre_norm=False),
]
