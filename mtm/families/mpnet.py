"""MPNet (2004.09297): RoBERTa's encoder with T5's relative bias and without token types."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.families import _encoder as encoder
from mtm.families._names import Row, Transposed, row
from mtm.families._published import Arguments, Config, Published
from mtm.parts.activations import gelu
from mtm.parts.heads import MaskedHead
from mtm.parts.kernels import Kernel
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.full import Full
from mtm.parts.positions._base import Position
from mtm.parts.positions.learned import Learned
from mtm.parts.positions.t5_bias import T5Bias
from mtm.parts.stack import Stack
from mtm.parts.transformer import Model

FIRST = 2  # its positions follow the padding id, 1, as RoBERTa's do
BUCKETS = 32  # its code has no other number, whatever the config says

NAMES = {
  "query": "attention.attn.q", "key": "attention.attn.k", "value": "attention.attn.v",
  "out": "attention.attn.o", "mixer_norm": "attention.LayerNorm", "wi": "intermediate.dense",
  "wo": "output.dense", "channel_norm": "output.LayerNorm",
}  # fmt: skip


class Positions(Position):
  """A vector for each position, and a bias for each distance that all layers share.

  Attributes:
    absolute: adds to the embeddings.
    relative: biases the scores.
  """

  absolute: Learned
  relative: T5Bias

  def embed(self, x: jax.Array, positions: jax.Array) -> jax.Array:
    """See `Position.embed`."""
    return self.absolute.embed(x, positions)

  def bias(self, q_place: jax.Array, k_place: jax.Array) -> jax.Array | None:
    """See `Position.bias`."""
    return self.relative.bias(q_place, k_place)


def mpnet(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  max_length: int = 512,
  mlp: int | None = None,
  dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = gelu,
  epsilon: float = 1e-5,
  pattern: Pattern = Full(),  # noqa: B008 (frozen)
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """An MPNet, as a masked language model; its permuted objective is not built.

  Its tokenizer gives padding the id 1 and `<s>` the id 0, which a model takes for padding where no
  segment ids say what is: batches need `encoder_segment_ids`, as the handle of `mtm.load` adds.

  Args:
    layers, embed, heads, vocab, mlp, dropout, epsilon, pattern, kernel, scan, remat, dtype: as in
      `mtm.families.bert.bert`.
    max_length: the longest sequence, two less than the rows of the table of positions.
    activation: of the feed-forward layer; that of the head is always GELU.
  """
  block = encoder.layer(embed, heads, mlp, dropout, activation, epsilon, pattern, kernel)
  norm = encoder.layer_norm(epsilon)
  relative = T5Bias(heads, True, BUCKETS, weight_init=encoder.INIT)
  position = Positions(Learned(max_length, embed, FIRST), relative)
  return encoder.model(
    Stack((block,), layers, scan, remat), MaskedHead(norm, gelu, encoder.INIT), vocab, embed,
    max_length, position, norm, 0, dropout, dtype,
  )  # fmt: skip


def _arguments(theirs: Config) -> Arguments:
  theirs.expect("relative_attention_num_buckets", BUCKETS)
  return {
    **encoder.sizes(theirs),
    **encoder.attended(theirs),
    "max_length": theirs.get("max_position_embeddings", 512) - FIRST,
  }


def _config(a: Arguments) -> dict[str, Any]:
  return {
    **encoder.words(a), "max_position_embeddings": a["max_length"] + FIRST,
    "relative_attention_num_buckets": BUCKETS, "pad_token_id": FIRST - 1,
  }  # fmt: skip


def _rows(a: Arguments) -> list[Row]:
  bias = "encoder/position/relative/rel_embedding"
  return [
    *encoder.embedding_rows("mpnet.embeddings", "encoder/position/absolute/table/embedding"),
    row(bias, "mpnet.encoder.relative_attention_bias.weight", Transposed()),
    *encoder.layer_rows("mpnet.encoder.layer.{}", a["heads"], NAMES),
    *encoder.head_rows("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
  ]


HF = Published(
  "mpnet", ("MPNetForMaskedLM",), mpnet, _arguments, _config, _rows, "mpnet.",
  # A pooler stands in some files; masked language modelling does not read it.
  (r"mpnet\.embeddings\.position_ids", r"mpnet\.pooler\.dense\.(weight|bias)"),
  encoder.tied("lm_head.decoder", "mpnet.embeddings.word_embeddings.weight", "lm_head.bias"),
  encoder.FAIRSEQ, counted=True,
)  # fmt: skip

EXAMPLES = [functools.partial(mpnet, 2, 16, 4, 40, max_length=32, mlp=24)]
