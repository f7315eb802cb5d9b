"""Reformer (2001.04451): reversible layers of local attention and of attention by hashing."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtm.axes import constrain
from mtm.errors import UserError
from mtm.families._names import Row, every, heads_in, heads_out, linear, norm, row
from mtm.families._published import Arguments, Config, Published, name_of
from mtm.parts.attention import Attention
from mtm.parts.linear import Dense, Embed, normal
from mtm.parts.mixers.local import Local
from mtm.parts.mixers.lsh import LSH, Hashing
from mtm.parts.mlp import Mlp
from mtm.parts.norm import LayerNorm
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.chunks import Chunks
from mtm.parts.patterns.full import Full
from mtm.parts.positions._base import Position
from mtm.parts.positions.axial import Axial
from mtm.parts.positions.learned import Learned
from mtm.parts.reversible import ReversibleStack, Streams
from mtm.parts.stack import Block
from mtm.parts.transformer import Decoder, Encoder, Model, Tower

LOCAL, HASHED = "local", "lsh"  # what a config calls the two kinds of layers
CLASSES = ("ReformerModelWithLMHead", "ReformerForMaskedLM")
INIT = normal(0.02)


class BiasedHead(nn.Module):
  """Logits of the two streams side by side, by a projection of its own with a bias.

  Attributes:
    vocab: number of logits.
  """

  vocab: int

  @nn.compact
  def __call__(self, x_BLD: jax.Array, tokens: Embed, train: bool = False) -> jax.Array:
    """`[batch, length, 2 · embed]` → `[batch, length, vocab]`; `tokens` is not read."""
    del tokens, train
    dense = Dense((self.vocab,), ("embed", "vocab"), bias=True, weight_init=INIT, name="out")
    return constrain(dense(x_BLD).astype(jnp.float32), "batch", "length", "vocab")


@dataclasses.dataclass(frozen=True)
class Line:
  """Theirs keeps the table of an axis in the shape of the grid, whose other axes have size 1."""

  axis: int
  axes: int

  def load(self, *theirs: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    return tuple(x.reshape(x.shape[self.axis], x.shape[-1]) for x in theirs)

  def save(self, *ours: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `Transform`."""
    before, after = self.axis, self.axes - self.axis - 1
    return tuple(x.reshape(*(1,) * before, len(x), *(1,) * after, x.shape[-1]) for x in ours)


def reformer(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  causal: bool = True,
  hashed: Sequence[bool] = (False, True),
  head_dim: int = 64,
  mlp: int | None = None,
  grid: Sequence[int] | None = (64, 64),
  widths: Sequence[int] | None = None,
  max_length: int = 4096,
  chunk: int = 64,
  lsh_chunk: int = 64,
  neighbours: Sequence[int] = (1, 0),
  lsh_neighbours: Sequence[int] = (1, 0),
  buckets: int | Sequence[int] | None = None,
  rounds: int = 1,
  seed: int | None = None,
  once: bool = False,
  dropout: float = 0.05,
  lsh_dropout: float = 0.0,
  activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
  epsilon: float = 1e-12,
  scan: bool = True,
  dtype: Any = "float32",
) -> Model:
  """A Reformer.

  Args:
    layers: number of layers, a multiple of the number of `hashed`.
    embed: width.
    heads: attention heads.
    vocab: number of token ids.
    causal: whether it is a decoder; else it fills masks and sees both ways.
    hashed: for each layer of the period that is repeated, whether it hashes or is local.
    head_dim: size of a head.
    mlp: hidden width of the feed-forward layer; None: 4 · embed.
    grid: shape of the axial positions; None: a learned vector for each position.
    widths: features that each axis of the grid gives; None: as near to equal as can be.
    max_length: the longest sequence; the grid must hold it.
    chunk: tokens of a chunk of local attention.
    lsh_chunk: tokens of a chunk under hashing. No parameter depends on it: build the model with a
      larger one to decode longer texts, see `LSH`.
    neighbours, lsh_neighbours: how many chunks before and after its own a query looks at.
    buckets, rounds, seed: see `Hashing`.
    once: see `LSH`.
    dropout: share dropped of embeddings, local attention probabilities, the feed-forward layer and
      sublayer outputs.
    lsh_dropout: share dropped of attention probabilities under hashing.
    activation: of the feed-forward layer.
    epsilon: of the norms.
    scan: see `Stack`.
    dtype: compute dtype.

  Raises:
    UserError: the layers are no whole number of periods, the grid is too small, or a decoder looks
      at chunks after its own.
  """
  if not hashed or layers % len(hashed):
    raise UserError(f"layers = {layers} is no multiple of the {len(hashed)} layers of {hashed = }")
  if causal and (neighbours[1] or lsh_neighbours[1]):
    raise UserError(
      f"{neighbours = }, {lsh_neighbours = }: a decoder sees nothing of the chunks after its own;"
      " set the second number to 0, or causal = False"
    )
  # As in the original, rows are padded for all layers alike: chunks of padding count as neighbours.
  multiple = math.lcm(*({True: lsh_chunk, False: chunk}[kind] for kind in hashed))
  pattern = Causal() if causal else Full()
  tables = tuple(buckets) if isinstance(buckets, Sequence) else buckets
  hashing = Hashing(tables, rounds, seed, 2 * max(math.isqrt(max_length // lsh_chunk), lsh_chunk))
  (before, after), (lsh_before, lsh_after) = neighbours, lsh_neighbours
  layer_norm = functools.partial(LayerNorm, epsilon=epsilon)

  def block(hashes: bool) -> Block:
    mixer: nn.Module
    if hashes:
      mixer = LSH(
        heads, head_dim, hashing, lsh_chunk, lsh_before, lsh_after, multiple, pattern, once,
        lsh_dropout, INIT, INIT,
      )  # fmt: skip
    elif causal:
      near = pattern & Chunks(chunk, before, after)
      mixer = Attention(
        heads, head_dim, pattern=near, dropout=dropout, weight_init=INIT, out_init=INIT
      )
    else:
      mixer = Local(heads, head_dim, chunk, before, after, multiple, pattern, dropout, INIT, INIT)
    channel = Mlp(
      mlp or 4 * embed, activation, bias=True, dropout=dropout, weight_init=INIT, out_init=INIT
    )
    return Block(mixer, channel, layer_norm, placement=Streams(), dropout=dropout)

  tower = Tower(
    ReversibleStack(tuple(block(kind) for kind in hashed), layers // len(hashed), scan),
    position=_position(grid, widths, max_length, embed),
    final_norm=layer_norm,
    dropout=dropout,
    final_dropout=True,
  )
  tokens, head = Embed(vocab, embed, weight_init=INIT), BiasedHead(vocab)
  if causal:
    return Model(Decoder(tokens, tower, head), ("decoder_input_tokens",), vocab, max_length, dtype)
  return Model(Encoder(tokens, tower, head), ("encoder_input_tokens",), vocab, max_length, dtype)


def _position(
  grid: Sequence[int] | None, widths: Sequence[int] | None, max_length: int, embed: int
) -> Position:
  if grid is None:
    return Learned(max_length, embed)
  if math.prod(grid) < max_length:
    raise UserError(
      f"{grid = } holds {math.prod(grid)} positions and max_length is {max_length}: shorten it, or"
      " take a larger grid"
    )
  if widths is None:
    widths = [(axis + 1) * embed // len(grid) - axis * embed // len(grid)
              for axis in range(len(grid))]  # fmt: skip
  return Axial(tuple(grid), tuple(widths))


def _kinds(theirs: Config) -> tuple[int, tuple[bool, ...]]:
  """The number of layers of a config, and the shortest period that they repeat."""
  known = {LOCAL: False, HASHED: True}
  told = theirs.get("attn_layers", [LOCAL, HASHED] * 3)
  if not known.keys() >= set(told):
    raise UserError(
      f"{theirs.source} has attn_layers = {told}, which mtm cannot honour: it has {LOCAL} and"
      f" {HASHED}"
    )
  theirs.expect("num_hidden_layers", len(told))
  kinds = [known[kind] for kind in told]
  layers = len(kinds)
  period = next(n for n in range(1, layers + 1) if layers % n == 0
                and kinds == kinds[:n] * (layers // n))  # fmt: skip
  return layers, tuple(kinds[:period])


def _arguments(theirs: Config) -> Arguments:
  theirs.expect("tie_word_embeddings", False)
  # How it is computed and initialised; the grid is named even where there is none.
  theirs.ignore("chunk_size_lm_head", "axial_norm_std", "axial_pos_shape", "axial_pos_embds_dim")
  layers, hashed = _kinds(theirs)
  causal = theirs.get("is_decoder", False)
  if causal and not all(hashed):
    theirs.expect("local_num_chunks_before", 1, 0)  # theirs count more of them twice in short rows
  grid = tuple(theirs.get("axial_pos_shape", (64, 64)))
  axial = theirs.get("axial_pos_embds", True)
  longest = theirs.get("max_position_embeddings", 4096)
  buckets = theirs.get("num_buckets", None)
  if axial and len(grid) != 2:
    theirs.expect("axial_pos_shape", (64, 64))
  return {
    "layers": layers,
    "embed": theirs.get("hidden_size", 256),
    "heads": theirs.get("num_attention_heads", 12),
    "vocab": theirs.need("vocab_size"),
    "causal": causal,
    "hashed": hashed,
    "head_dim": theirs.get("attention_head_size", 64),
    "mlp": theirs.get("feed_forward_size", 512),
    "grid": grid if axial else None,
    "widths": tuple(theirs.get("axial_pos_embds_dim", (64, 192))) if axial else None,
    "max_length": longest,
    "chunk": theirs.get("local_attn_chunk_length", 64),
    "lsh_chunk": theirs.get("lsh_attn_chunk_length", 64),
    "neighbours": _neighbours(theirs, LOCAL),
    "lsh_neighbours": _neighbours(theirs, HASHED),
    "buckets": tuple(buckets) if isinstance(buckets, Sequence) else buckets,
    "rounds": theirs.get("num_hashes", 1),
    "seed": theirs.get("hash_seed", None),
    "dropout": theirs.same(
      "hidden_dropout_prob", "local_attention_probs_dropout_prob", default=0.05
    ),
    "lsh_dropout": theirs.get("lsh_attention_probs_dropout_prob", 0.0),
    "activation": theirs.activation("hidden_act", "relu"),
    "epsilon": theirs.get("layer_norm_eps", 1e-12),
  }


def _neighbours(theirs: Config, kind: str) -> tuple[int, int]:
  return theirs.get(f"{kind}_num_chunks_before", 1), theirs.get(f"{kind}_num_chunks_after", 0)


def _config(a: Arguments) -> dict[str, Any]:
  if a["once"]:
    raise UserError("once = True cannot be written as a config.json: transformers counts a key as"
                    " often as it is met")  # fmt: skip
  grid: dict[str, Any] = {"axial_pos_embds": False}
  if a["grid"] is not None:
    position = _position(a["grid"], a["widths"], a["max_length"], a["embed"])
    grid = {"axial_pos_embds": True, "axial_pos_shape": list(position.shape),
            "axial_pos_embds_dim": list(position.widths)}  # fmt: skip
  kinds = [{True: HASHED, False: LOCAL}[kind] for kind in a["hashed"]]
  layers = kinds * (a["layers"] // len(kinds))
  buckets = a["buckets"]
  (before, after), (lsh_before, lsh_after) = a["neighbours"], a["lsh_neighbours"]
  return {
    "architectures": [CLASSES[not a["causal"]]], "is_decoder": a["causal"],
    "attn_layers": layers, "num_hidden_layers": len(layers), "hidden_size": a["embed"],
    "num_attention_heads": a["heads"], "attention_head_size": a["head_dim"],
    "vocab_size": a["vocab"], "feed_forward_size": a["mlp"] or 4 * a["embed"], **grid,
    "max_position_embeddings": a["max_length"], "local_attn_chunk_length": a["chunk"],
    "lsh_attn_chunk_length": a["lsh_chunk"], "local_num_chunks_before": before,
    "local_num_chunks_after": after, "lsh_num_chunks_before": lsh_before,
    "lsh_num_chunks_after": lsh_after, "num_hashes": a["rounds"], "hash_seed": a["seed"],
    "num_buckets": list(buckets) if isinstance(buckets, Sequence) else buckets,
    "hidden_dropout_prob": a["dropout"], "local_attention_probs_dropout_prob": a["dropout"],
    "lsh_attention_probs_dropout_prob": a["lsh_dropout"], "hidden_act": name_of(a["activation"]),
    "layer_norm_eps": a["epsilon"], "tie_word_embeddings": False,
  }  # fmt: skip


def _rows(a: Arguments) -> list[Row]:
  side = {True: "decoder", False: "encoder"}[a["causal"]]
  heads, period, table = a["heads"], len(a["hashed"]), "reformer.embeddings.position_embeddings"
  position = [row(f"{side}/position/table/embedding", f"{table}.embedding.weight")]
  if a["grid"] is not None:
    axes = len(a["grid"])
    position = [
      row(f"{side}/position/tables_{i}/embedding", f"{table}.weights.{i}", Line(i, axes))
      for i in range(axes)
    ]

  def layer(ours: str, projections: Sequence[str]) -> list[Row]:
    theirs, attention = "reformer.encoder.layers.{}.feed_forward", f"{ours}/mixer"
    mixer = "reformer.encoder.layers.{}.attention"
    found = [
      heads_in(f"{attention}/{name}", f"{mixer}.self_attention.{name}", heads, bias=False)
      for name in projections
    ]
    return [
      *norm(f"{ours}/mixer_norm", f"{mixer}.layer_norm"),
      *(r for rows in found for r in rows),
      *heads_out(f"{attention}/out", f"{mixer}.output.dense", heads, bias=False),
      *norm(f"{ours}/channel_norm", f"{theirs}.layer_norm"),
      *linear(f"{ours}/channel/wi", f"{theirs}.dense.dense"),
      *linear(f"{ours}/channel/wo", f"{theirs}.output.dense"),
    ]

  projected = {False: ("query", "key", "value"), True: ("query_key", "value")}
  return [
    row("tokens/embedding", "reformer.embeddings.word_embeddings.weight"),
    *position,
    *(r for i, kind in enumerate(a["hashed"])
      for r in every(layer(f"{side}/stack/period_{i}", projected[kind]), i, period)),
    *norm(f"{side}/final_norm", "reformer.encoder.layer_norm"),
    *linear("head/out", "lm_head.decoder"),
  ]  # fmt: skip


HF = Published(
  "reformer", CLASSES, reformer, _arguments, _config, _rows, "reformer.",
  # A bias that nobody reads: in old files it repeats the one that is read, in new ones it is 0.
  (r"lm_head\.bias",), {"lm_head.bias": "lm_head.decoder.bias"},
)  # fmt: skip

EXAMPLES = [
  functools.partial(
    reformer, 2, 16, 2, 40, head_dim=8, mlp=24, grid=(4, 8), widths=(4, 12), max_length=32,
    chunk=3, lsh_chunk=8, buckets=4,
  ),
  functools.partial(
    reformer, 2, 16, 2, 40, causal=False, head_dim=8, mlp=24, grid=None, max_length=32, chunk=2,
    lsh_chunk=4, lsh_neighbours=(1, 1), buckets=(2, 4), rounds=2, scan=False,
  ),
]  # fmt: skip
