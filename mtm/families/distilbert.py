"""DistilBERT (1910.01108): BERT's encoder with half of the layers and without token types."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.families import _encoder as encoder
from mtm.families._names import Row
from mtm.families._published import Arguments, Config, Published, name_of
from mtm.parts.activations import gelu
from mtm.parts.heads import MaskedHead
from mtm.parts.kernels import Kernel
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.full import Full
from mtm.parts.positions.learned import Learned
from mtm.parts.stack import Stack
from mtm.parts.transformer import Model

EPSILON = 1e-12  # its code has no other

NAMES = {
  "query": "attention.q_lin", "key": "attention.k_lin", "value": "attention.v_lin",
  "out": "attention.out_lin", "mixer_norm": "sa_layer_norm", "wi": "ffn.lin1", "wo": "ffn.lin2",
  "channel_norm": "output_layer_norm",
}  # fmt: skip


def distilbert(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  max_length: int = 512,
  mlp: int | None = None,
  dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = gelu,
  pattern: Pattern = Full(),  # noqa: B008 (frozen)
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A DistilBERT for masked language modelling; the arguments are those of `bert`."""
  block = encoder.layer(embed, heads, mlp, dropout, activation, EPSILON, pattern, kernel)
  norm = encoder.layer_norm(EPSILON)
  head = MaskedHead(norm, activation, encoder.INIT)
  position = Learned(max_length, embed)
  stack = Stack((block,), layers, scan, remat)
  return encoder.model(stack, head, vocab, embed, max_length, position, norm, 0, dropout, dtype)


def _arguments(theirs: Config) -> Arguments:
  encoder.refuse(theirs)
  # Sinusoids are what a table of positions starts from: it is trained and saved all the same.
  theirs.ignore("sinusoidal_pos_embds", "qa_dropout", "seq_classif_dropout", "tie_weights_")
  return {
    "layers": theirs.get("n_layers", 6),
    "embed": theirs.get("dim", 768),
    "heads": theirs.get("n_heads", 12),
    "vocab": theirs.need("vocab_size"),
    "max_length": theirs.get("max_position_embeddings", 512),
    "mlp": theirs.get("hidden_dim", 3072),
    "dropout": theirs.same("dropout", "attention_dropout", default=0.1),
    "activation": theirs.activation("activation", "gelu"),
  }


def _config(a: Arguments) -> dict[str, Any]:
  return {
    "n_layers": a["layers"], "dim": a["embed"], "n_heads": a["heads"], "vocab_size": a["vocab"],
    "max_position_embeddings": a["max_length"], "hidden_dim": a["mlp"] or 4 * a["embed"],
    "dropout": a["dropout"], "attention_dropout": a["dropout"],
    "activation": name_of(a["activation"]),
  }  # fmt: skip


def _rows(a: Arguments) -> list[Row]:
  return [
    *encoder.embedding_rows("distilbert.embeddings"),
    *encoder.layer_rows("distilbert.transformer.layer.{}", a["heads"], NAMES),
    *encoder.head_rows("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
  ]


HF = Published(
  "distilbert", ("DistilBertForMaskedLM",), distilbert, _arguments, _config, _rows, "distilbert.",
  (r"distilbert\.embeddings\.position_ids",),
  encoder.tied("vocab_projector", "distilbert.embeddings.word_embeddings.weight"),
)  # fmt: skip

EXAMPLES = [functools.partial(distilbert, 2, 16, 4, 40, max_length=32, mlp=24)]
