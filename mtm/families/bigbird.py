"""BigBird (2007.14062): a BERT whose tokens see blocks: the first and last, the next and some drawn
ones."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from mtm.errors import UserError
from mtm.families import _encoder as encoder
from mtm.families._names import Row, every
from mtm.families._published import Arguments, Config, Published
from mtm.parts.attention import Attention, head_width
from mtm.parts.heads import MaskedHead
from mtm.parts.kernels import Kernel
from mtm.parts.linear import Embed
from mtm.parts.mixers.bigbird import BigBird, Plan
from mtm.parts.mlp import Mlp
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.full import Full
from mtm.parts.positions.learned import Learned
from mtm.parts.stack import Block, PostNorm, Stack
from mtm.parts.transformer import Decoder, Encoder, Model, Tower

SPARSE, FULL = (
  "block_sparse",
  "original_full",
)  # what a config calls a model with and without blocks
CLASSES = ("BigBirdForMaskedLM", "BigBirdForCausalLM", "BigBirdForPreTraining")


def bigbird(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  max_length: int = 4096,
  mlp: int | None = None,
  block: int | None = 64,
  random: int = 3,
  drawn_in_eval: bool = True,
  causal: bool = False,
  token_types: int = 2,
  use_bias: bool = True,
  scale_embedding: bool = False,
  dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
  epsilon: float = 1e-12,
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A BigBird for masked language modelling, or a decoder.

  Each layer draws blocks of its own, by its number and as published, so that layers do not share a
  scanned body. Rows of up to (5 + 2 · random) · block tokens are seen whole, as in the original.

  Args:
    layers: number of layers.
    embed: width.
    heads: attention heads, a divisor of `embed`; each has embed / heads features.
    vocab: number of token ids.
    max_length: the longest sequence.
    mlp: hidden width of the feed-forward layer; None: 4 · embed.
    block: tokens of a block; None: every token sees every other, or those before it.
    random: drawn blocks that a block sees besides the first, the last and its neighbours.
    drawn_in_eval: whether evaluation sees the blocks drawn for training, as in the paper;
      `transformers` instead counts the first block once more for each.
    causal: whether it is a decoder, which has no blocks.
    token_types: number of token types; a decoder's tokens are all of the first.
    use_bias: whether queries, keys and values have a bias.
    scale_embedding: whether token vectors are multiplied by √embed.
    dropout: share dropped of embeddings, attention probabilities and sublayer outputs.
    activation: of the feed-forward layer and the head.
    epsilon: of the norms.
    kernel: the attention engine; None: the best that supports the call.
    scan, remat: see `Stack`.
    dtype: compute dtype.

  Raises:
    UserError: a decoder with blocks.
  """
  if causal and block is not None:
    raise UserError(
      f"{causal = } and {block = }: BigBird's blocks see both ways, so a decoder has none; set"
      " block = None, or causal = False"
    )
  norm, init, head_dim = encoder.layer_norm(epsilon), encoder.INIT, head_width(embed, heads)
  bias = True if use_bias else ("out",)
  pattern = Causal() if causal else Full()

  def layer(number: int) -> Block:
    mixer: nn.Module
    if block is None:
      mixer = Attention(
        heads, head_dim, pattern=pattern, kernel=kernel, bias=bias, dropout=dropout,
        weight_init=init, out_init=init,
      )  # fmt: skip
    else:
      plan = Plan(block, random, number, max_length, drawn_in_eval)
      mixer = BigBird(heads, head_dim, plan, kernel, bias, dropout, init, init)
    channel = Mlp(mlp or 4 * embed, activation, bias=True, weight_init=init, out_init=init)
    return Block(mixer, channel, norm, placement=PostNorm(), dropout=dropout)

  period = _period(layers, block)
  tower = Tower(
    Stack(tuple(layer(number) for number in range(period)), layers // period, scan, remat),
    position=Learned(max_length, embed),
    embed_norm=norm,
    token_types=Embed(token_types, embed, ("token_types", "embed"), init),
    embed_scale=embed**0.5 if scale_embedding else 1.0,
    dropout=dropout,
  )
  tokens, head = Embed(vocab, embed, weight_init=init), MaskedHead(norm, activation, init)
  if causal:
    return Model(Decoder(tokens, tower, head), ("decoder_input_tokens",), vocab, max_length, dtype)
  return Model(Encoder(tokens, tower, head), ("encoder_input_tokens",), vocab, max_length, dtype)


def _period(layers: int, block: int | None) -> int:
  """How many layers differ."""
  return 1 if block is None else layers


def _arguments(theirs: Config) -> Arguments:
  causal = theirs.get("is_decoder", False)  # the class does not decide it
  theirs.expect("attention_type", SPARSE, FULL)
  blocks = {SPARSE: theirs.get("block_size", 64), FULL: None}
  block = blocks[theirs.get("attention_type", SPARSE)]
  if causal and block is not None:
    raise UserError(
      f"{theirs.source} has is_decoder = True and attention_type = {SPARSE!r}, which mtm cannot"
      f" honour: blocks see both ways, and a decoder's is {FULL!r}"
    )
  return {
    **encoder.sizes(theirs, activation="gelu_new", decoder=causal),
    **encoder.attended(theirs),
    "max_length": theirs.get("max_position_embeddings", 4096),
    "block": block,
    "random": theirs.get("num_random_blocks", 3),
    "drawn_in_eval": False,
    "causal": causal,
    "token_types": theirs.get("type_vocab_size", 2),
    "use_bias": theirs.get("use_bias", True),
    "scale_embedding": theirs.get("rescale_embeddings", False),
  }


def _config(a: Arguments) -> dict[str, Any]:
  if a["block"] is not None and a["random"] and a["drawn_in_eval"]:
    raise UserError(
      "drawn_in_eval = True cannot be written as a config.json: transformers draws no blocks in"
      " evaluation; to have its model of these weights, build it with drawn_in_eval = False"
    )
  kind = {"attention_type": FULL}
  if a["block"] is not None:
    kind = {"attention_type": SPARSE, "block_size": a["block"]}
  return {
    **encoder.words(a), **kind, "architectures": [CLASSES[a["causal"]]],
    "num_random_blocks": a["random"], "is_decoder": a["causal"],
    "type_vocab_size": a["token_types"], "use_bias": a["use_bias"],
    "rescale_embeddings": a["scale_embedding"],
  }  # fmt: skip


def _rows(a: Arguments) -> list[Row]:
  side = {True: "decoder", False: "encoder"}[a["causal"]]
  head, period = "cls.predictions", _period(a["layers"], a["block"])

  def layer(number: int) -> list[Row]:
    ours = f"{side}/stack/period_{number}"
    rows = encoder.layer_rows("bert.encoder.layer.{}", a["heads"], ours=ours, bias=a["use_bias"])
    return every(rows, number, period)

  return [
    *encoder.embedding_rows(
      "bert.embeddings", f"{side}/position/table/embedding", f"{side}/embed_norm"
    ),
    encoder.types_row("bert.embeddings", side),
    *(row for number in range(period) for row in layer(number)),
    *encoder.head_rows(f"{head}.transform.dense", f"{head}.transform.LayerNorm", f"{head}.bias"),
  ]


HF = Published(
  "big_bird", CLASSES, bigbird, _arguments, _config, _rows, "bert.",
  # Files hold a pooler that no logit of a token reads, and those of pre-training a head for pairs.
  (r"bert\.embeddings\.(position_ids|token_type_ids)", r"bert\.pooler\.(weight|bias)",
   r"cls\.seq_relationship\.(weight|bias)"),
  encoder.tied(
    "cls.predictions.decoder", "bert.embeddings.word_embeddings.weight", "cls.predictions.bias"
  ),
  {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
)  # fmt: skip

EXAMPLES = [
  functools.partial(bigbird, 2, 16, 4, 40, max_length=32, mlp=24, block=1, random=1),
  functools.partial(bigbird, 2, 16, 4, 40, max_length=32, mlp=24, block=None),
  functools.partial(bigbird, 2, 16, 4, 40, max_length=32, mlp=24, block=None, causal=True),
]
