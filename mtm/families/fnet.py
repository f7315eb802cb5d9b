"""FNet (2105.03824): BERT's encoder with a Fourier transform where attention stands."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from mtm.families import _encoder as encoder
from mtm.families._names import Row, linear, norm
from mtm.families._published import Arguments, Config, Published
from mtm.parts.context import Aux, Context
from mtm.parts.dropout import Dropout
from mtm.parts.heads import MaskedHead
from mtm.parts.linear import Dense
from mtm.parts.mixers.fourier import Fourier
from mtm.parts.mlp import Mlp
from mtm.parts.positions.learned import Learned
from mtm.parts.stack import Block, NormFactory, PostNorm, Stack
from mtm.parts.transformer import Model


class NormedProjection(nn.Module):
  """A norm and a dense layer after it: FNet projects its embeddings before it drops any.

  Attributes:
    norm: makes the norm, given `name`.
    features: width of the output.
  """

  norm: NormFactory
  features: int

  @nn.compact
  def __call__(self, x_BLD: jax.Array) -> jax.Array:
    """`[batch, length, width]` → `[batch, length, features]`."""
    axes, init = ("mlp", "embed"), encoder.INIT
    dense = Dense((self.features,), axes, bias=True, weight_init=init, name="project")
    return dense(self.norm(name="norm")(x_BLD))


class DroppedMlp(nn.Module):
  """A feed-forward layer with dropout on its output; FNet drops nothing of the transform.

  Attributes:
    mlp: the layer.
    dropout: share dropped in training.
  """

  mlp: Mlp
  dropout: float

  @nn.compact
  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → the same shape."""
    y_BLD, aux = self.mlp(x_BLD, context)
    return Dropout(self.dropout)(y_BLD, context.train), aux


def fnet(
  layers: int,
  embed: int,
  vocab: int,
  max_length: int = 512,
  mlp: int | None = None,
  token_types: int = 4,
  dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
  epsilon: float = 1e-12,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """An FNet for masked language modelling; the arguments are those of `bert`.

  What it says of a text depends on the padding around it: see `Fourier`.
  """
  init, layer_norm = encoder.INIT, encoder.layer_norm(epsilon)
  channel = DroppedMlp(
    Mlp(mlp or 4 * embed, activation, bias=True, weight_init=init, out_init=init), dropout
  )
  block = Block(Fourier(), channel, layer_norm, placement=PostNorm())
  embed_norm = functools.partial(NormedProjection, layer_norm, embed)
  return encoder.model(
    Stack((block,), layers, scan, remat), MaskedHead(layer_norm, activation, init), vocab, embed,
    max_length, Learned(max_length, embed), embed_norm, token_types, dropout, dtype,
  )  # fmt: skip


def _arguments(theirs: Config) -> Arguments:
  # Its transform by matrices cuts a matrix of another length for shorter texts: another function.
  theirs.expect("use_tpu_fourier_optimizations", False)
  theirs.ignore("tpu_short_seq_length")
  return {
    **encoder.sizes(theirs, activation="gelu_new"),
    "dropout": theirs.get("hidden_dropout_prob", 0.1),
    "max_length": theirs.get("max_position_embeddings", 512),
    "token_types": theirs.get("type_vocab_size", 4),
  }


def _config(a: Arguments) -> dict[str, Any]:
  attention = ("num_attention_heads", "attention_probs_dropout_prob")
  told = encoder.words({**a, "heads": None})
  return {
    **{name: value for name, value in told.items() if name not in attention},
    "type_vocab_size": a["token_types"],
  }  # fmt: skip


def _rows(a: Arguments) -> list[Row]:
  theirs, head = "fnet.encoder.layer.{}", "cls.predictions"
  return [
    *encoder.embedding_rows("fnet.embeddings", embed_norm="encoder/embed_norm/norm"),
    encoder.types_row("fnet.embeddings"),
    *linear("encoder/embed_norm/project", "fnet.embeddings.projection"),
    *norm(f"{encoder.STACK}/mixer_norm", f"{theirs}.fourier.output.LayerNorm"),
    *linear(f"{encoder.STACK}/channel/mlp/wi", f"{theirs}.intermediate.dense"),
    *linear(f"{encoder.STACK}/channel/mlp/wo", f"{theirs}.output.dense"),
    *norm(f"{encoder.STACK}/channel_norm", f"{theirs}.output.LayerNorm"),
    *encoder.head_rows(f"{head}.transform.dense", f"{head}.transform.LayerNorm", f"{head}.bias"),
  ]


HF = Published(
  "fnet", ("FNetForMaskedLM",), fnet, _arguments, _config, _rows, "fnet.",
  # `transformers` saves a pooler that masked language modelling does not read.
  (r"fnet\.embeddings\.position_ids", r"fnet\.pooler\.dense\.(weight|bias)"),
  encoder.tied(
    "cls.predictions.decoder", "fnet.embeddings.word_embeddings.weight", "cls.predictions.bias"
  ),
)  # fmt: skip

EXAMPLES = [functools.partial(fnet, 2, 16, 40, max_length=32, mlp=24)]
