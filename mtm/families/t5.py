"""T5 1.0 (1910.10683) and 1.1 (2002.05202): an encoder-decoder with bucketed relative positions.

mT5 (2010.11934) is T5 1.1 with other ids. Scores are not divided by √head_dim: the query
initialiser absorbs it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from mtm.errors import UserError
from mtm.families._names import Row, Transposed, heads_in, heads_out, linear, norm, row
from mtm.families._published import ACTIVATIONS, Arguments, Config, Published, name_of
from mtm.parts.attention import Attention, CrossAttention
from mtm.parts.heads import DenseHead, TiedHead
from mtm.parts.kernels import Kernel
from mtm.parts.linear import Embed, fan_in_of, normal
from mtm.parts.mlp import Mlp
from mtm.parts.norm import RMSNorm
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full
from mtm.parts.positions import Position
from mtm.parts.positions.t5_bias import T5Bias
from mtm.parts.stack import Block, Stack
from mtm.parts.transformer import EncoderDecoder, Model, Tower

_SHARED = (1,)  # one dropout draw along length


def t5(
  layers: int,
  embed: int,
  heads: int,
  head_dim: int,
  mlp: int,
  vocab: int,
  dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
  gated: bool = True,
  tied: bool = False,
  kernel: Kernel | str | None = None,
  encoder_pattern: Pattern = Full(),  # noqa: B008 (frozen)
  decoder_layers: int | None = None,
  buckets: int = 32,
  max_distance: int = 128,
  epsilon: float = 1e-6,
  layer_bias: bool = False,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A T5; the defaults are T5 1.1's. T5 1.0: `activation=jax.nn.relu, gated=False, tied=True`.

  Args:
    layers: encoder layers.
    embed: width.
    heads: attention heads.
    head_dim: features of a head; heads · head_dim need not be `embed`.
    mlp: hidden width of the feed-forward layer.
    vocab: number of token ids.
    dropout: share dropped of embeddings, attention probabilities, hidden and sublayer outputs.
    activation: of the feed-forward layer.
    gated: whether a second projection gates it.
    tied: whether the head is the token table, with states scaled by 1 / √embed.
    kernel: the attention engine; None: the best that supports the call.
    encoder_pattern: who sees whom in the encoder.
    decoder_layers: None: as many as `layers`.
    buckets, max_distance: of the relative positions, see `T5Bias`.
    epsilon: of the norms.
    layer_bias: whether each layer has relative positions of its own, see `umt5`.
    scan, remat: see `Stack`.
    dtype: compute dtype.
  """
  fan_in = fan_in_of(1)
  rms_norm = functools.partial(RMSNorm, epsilon=epsilon)
  attention: Callable[..., dict[str, Any]] = functools.partial(
    dict, heads=heads, head_dim=head_dim, kernel=kernel, scale=1.0, dropout=dropout,
    weight_init=fan_in, query_init=fan_in_of(1, 1 / head_dim), out_init=fan_in_of(2),
  )  # fmt: skip

  def tower(pattern: Pattern, cross: CrossAttention | None, repeats: int) -> Tower:
    position = T5Bias(heads, cross is None, buckets, max_distance, normal(1.0))
    channel = Mlp(mlp, activation, gated, dropout=dropout, weight_init=fan_in, out_init=fan_in)
    mixer = Attention(pattern=pattern, position=position if layer_bias else None, **attention())
    block = Block(mixer, channel, rms_norm, cross, dropout=dropout, dropout_shared=_SHARED)
    return Tower(
      Stack((block,), repeats, scan, remat),
      position=Position() if layer_bias else position,
      final_norm=rms_norm,
      dropout=dropout,
      dropout_shared=_SHARED,
      final_dropout=True,
    )

  module = EncoderDecoder(
    tokens=Embed(vocab, embed, weight_init=normal(1.0)),
    encoder=tower(encoder_pattern, None, layers),
    decoder=tower(Causal(), CrossAttention(**attention()), decoder_layers or layers),
    head=TiedHead(embed**-0.5) if tied else DenseHead(vocab),
  )
  return Model(module, ("encoder_input_tokens", "decoder_input_tokens"), vocab, None, dtype)


# What their code takes where a config is silent.
T5_SIZES: Mapping[str, Any] = {
  "feed_forward_proj": "relu", "num_layers": 6, "num_heads": 8, "d_ff": 2048,
}  # fmt: skip
MT5_SIZES: Mapping[str, Any] = {
  "feed_forward_proj": "gated-gelu", "num_layers": 8, "num_heads": 6, "d_ff": 1024,
}  # fmt: skip


def arguments_of(theirs: Config, sizes: Mapping[str, Any] = T5_SIZES) -> Arguments:
  """The builder's arguments. Raises UserError where the config asks for what T5 lacks."""
  theirs.ignore("dense_act_fn", "is_gated_act", "classifier_dropout")  # follow from the next one
  projection = theirs.get("feed_forward_proj", sizes["feed_forward_proj"])
  activation = projection.removeprefix("gated-")
  # The original T5 1.1 has the approximate GELU under this name.
  activation = {"gated-gelu": "gelu_new"}.get(projection, activation)
  if activation not in ACTIVATIONS:
    raise UserError(
      f"{theirs.source} has feed_forward_proj = {projection!r}, which mtm cannot honour: it has"
      f" {', '.join(sorted(ACTIVATIONS))}, each with or without 'gated-' before it"
    )
  layers = theirs.get("num_layers", sizes["num_layers"])
  # transformers 5 writes that all heads are tied, and beside it what was meant.
  tied = theirs.get("scale_decoder_outputs", theirs.get("tie_word_embeddings", True))
  return {
    "layers": layers,
    "embed": theirs.get("d_model", 512),
    "heads": theirs.get("num_heads", sizes["num_heads"]),
    "head_dim": theirs.get("d_kv", 64),
    "mlp": theirs.get("d_ff", sizes["d_ff"]),
    "vocab": theirs.need("vocab_size"),
    "dropout": theirs.get("dropout_rate", 0.1),
    "activation": ACTIVATIONS[activation],
    "gated": projection.startswith("gated-"),
    "tied": tied,
    "decoder_layers": theirs.get("num_decoder_layers", layers),
    "buckets": theirs.get("relative_attention_num_buckets", 32),
    "max_distance": theirs.get("relative_attention_max_distance", 128),
    "epsilon": theirs.get("layer_norm_epsilon", 1e-6),
  }


def _mt5_arguments(theirs: Config) -> Arguments:
  """Never tied: transformers 5 writes that it is, whatever the weights say, and does not scale."""
  theirs.ignore("tie_word_embeddings")
  theirs.expect("scale_decoder_outputs", False)
  return {**arguments_of(theirs, MT5_SIZES), "tied": False}


def config_of(a: Arguments) -> dict[str, Any]:
  """The config of a builder's arguments."""
  activation = name_of(a["activation"])
  projection = f"gated-{activation}" if a["gated"] else activation
  return {
    "num_layers": a["layers"], "num_decoder_layers": a["decoder_layers"] or a["layers"],
    "d_model": a["embed"], "num_heads": a["heads"], "d_kv": a["head_dim"], "d_ff": a["mlp"],
    "vocab_size": a["vocab"], "dropout_rate": a["dropout"], "tie_word_embeddings": a["tied"],
    "scale_decoder_outputs": a["tied"],
    "feed_forward_proj": projection.replace("gated-gelu_new", "gated-gelu"),
    "relative_attention_num_buckets": a["buckets"], "layer_norm_epsilon": a["epsilon"],
    "relative_attention_max_distance": a["max_distance"], "is_encoder_decoder": True,
    "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
  }  # fmt: skip


def _tower(name: str, a: Arguments, cross: bool, layer_bias: bool) -> list[Row]:
  ours, block, heads = f"{name}/stack/period_0", f"{name}.block.{{}}.layer", a["heads"]
  channel = f"{block}.{1 + cross}"

  def attention(part: str, theirs: str) -> list[Row]:
    return [
      *heads_in(f"{ours}/{part}/query", f"{theirs}.q", heads, bias=False),
      *heads_in(f"{ours}/{part}/key", f"{theirs}.k", heads, bias=False),
      *heads_in(f"{ours}/{part}/value", f"{theirs}.v", heads, bias=False),
      *heads_out(f"{ours}/{part}/out", f"{theirs}.o", heads, bias=False),
    ]

  biased, number = (f"{ours}/mixer", "{}") if layer_bias else (name, "0")
  rows = [
    row(f"{biased}/position/rel_embedding",
        f"{name}.block.{number}.layer.0.SelfAttention.relative_attention_bias.weight",
        Transposed()),
    *attention("mixer", f"{block}.0.SelfAttention"),
    *norm(f"{ours}/mixer_norm", f"{block}.0.layer_norm", bias=False),
    *norm(f"{ours}/channel_norm", f"{channel}.layer_norm", bias=False),
    *linear(f"{ours}/channel/wo", f"{channel}.DenseReluDense.wo", bias=False),
    *norm(f"{name}/final_norm", f"{name}.final_layer_norm", bias=False),
  ]  # fmt: skip
  for part in ("wi_0", "wi_1") if a["gated"] else ("wi",):
    rows += linear(f"{ours}/channel/{part}", f"{channel}.DenseReluDense.{part}", bias=False)
  if cross:
    rows += attention("cross", f"{block}.1.EncDecAttention")
    rows += norm(f"{ours}/cross_norm", f"{block}.1.layer_norm", bias=False)
  return rows


def rows_of(a: Arguments, layer_bias: bool = False) -> list[Row]:
  """The name table of a builder's arguments; T5's own has no place for a bias of each layer."""
  head = [] if a["tied"] else linear("head/logits_dense", "lm_head", bias=False)
  return [
    row("tokens/embedding", "shared.weight"),
    *_tower("encoder", a, False, layer_bias),
    *_tower("decoder", a, True, layer_bias),
    *head,
  ]


IGNORED = (r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",)
COPIES = {
  "encoder.embed_tokens.weight": "shared.weight",
  "decoder.embed_tokens.weight": "shared.weight",
  "lm_head.weight": "shared.weight",
}

HF = (
  Published(
    "t5", ("T5ForConditionalGeneration",), t5, arguments_of, config_of, rows_of, "", IGNORED, COPIES
  ),
  Published(
    "mt5", ("MT5ForConditionalGeneration",), t5, _mt5_arguments, config_of, rows_of, "", IGNORED,
    COPIES,
  ),
)  # fmt: skip

EXAMPLES = [
  functools.partial(t5, 2, 16, 4, 8, 24, 40),
  functools.partial(
    t5, 1, 16, 2, 4, 24, 40, activation=jax.nn.relu, gated=False, tied=True, decoder_layers=2
  ),
]
