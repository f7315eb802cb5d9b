"""ELECTRA (2003.10555): BERT's encoder behind narrower embeddings; a generator fills masks, a
discriminator says of each token whether it was replaced."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from mtm.families import _encoder as encoder
from mtm.families._names import Row, linear
from mtm.families._published import Arguments, Config, Published
from mtm.parts.activations import gelu
from mtm.parts.heads import MaskedHead, TokenClassHead
from mtm.parts.kernels import Kernel
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.full import Full
from mtm.parts.positions.learned import Learned
from mtm.parts.stack import Stack
from mtm.parts.transformer import Model


def generator(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  width: int = 128,
  max_length: int = 512,
  mlp: int | None = None,
  token_types: int = 2,
  dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = gelu,
  epsilon: float = 1e-12,
  pattern: Pattern = Full(),  # noqa: B008 (frozen)
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """ELECTRA's generator, for masked language modelling.

  Args:
    layers, embed, heads, vocab, max_length, mlp, token_types, dropout, epsilon, pattern, kernel,
      scan, remat, dtype: as in `mtm.families.bert.bert`.
    width: size of the embeddings, projected to `embed` where that is another.
    activation: of the feed-forward layer; that of the head is always GELU.
  """
  block = encoder.layer(embed, heads, mlp, dropout, activation, epsilon, pattern, kernel)
  head = MaskedHead(encoder.layer_norm(epsilon), gelu, encoder.INIT)
  stack = Stack((block,), layers, scan, remat)
  return _model(stack, head, vocab, embed, width, max_length, epsilon, token_types, dropout, dtype)


def discriminator(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  width: int = 128,
  max_length: int = 512,
  mlp: int | None = None,
  token_types: int = 2,
  dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = gelu,
  epsilon: float = 1e-12,
  pattern: Pattern = Full(),  # noqa: B008 (frozen)
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """ELECTRA's discriminator: logits `[batch, length, 1]`, above 0 where a token was replaced.

  The arguments are those of `generator`; `activation` is that of the head too.
  """
  block = encoder.layer(embed, heads, mlp, dropout, activation, epsilon, pattern, kernel)
  head = TokenClassHead(1, activation, encoder.INIT)
  stack = Stack((block,), layers, scan, remat)
  return _model(stack, head, vocab, embed, width, max_length, epsilon, token_types, dropout, dtype)


def _model(
  stack: Stack, head: nn.Module, vocab: int, embed: int, width: int, max_length: int,
  epsilon: float, token_types: int, dropout: float, dtype: Any,
) -> Model:  # fmt: skip
  return encoder.model(
    stack, head, vocab, width, max_length, Learned(max_length, width),
    encoder.layer_norm(epsilon), token_types, dropout, dtype, None if width == embed else embed,
  )  # fmt: skip


def _arguments(theirs: Config) -> Arguments:
  theirs.ignore("summary_last_dropout")
  return {
    **encoder.sizes(theirs, 256, 1024),
    **encoder.attended(theirs, 4),
    "width": theirs.get("embedding_size", 128),
    "max_length": theirs.get("max_position_embeddings", 512),
    "token_types": theirs.get("type_vocab_size", 2),
  }


def _config(a: Arguments) -> dict[str, Any]:
  return {
    **encoder.words(a), "embedding_size": a["width"], "type_vocab_size": a["token_types"],
  }  # fmt: skip


def _body(a: Arguments) -> list[Row]:
  narrow = a["width"] != a["embed"]
  return [
    *encoder.embedding_rows("electra.embeddings"),
    encoder.types_row("electra.embeddings"),
    *(linear("encoder/project", "electra.embeddings_project") if narrow else ()),
    *encoder.layer_rows("electra.encoder.layer.{}", a["heads"]),
  ]


def _generator_rows(a: Arguments) -> list[Row]:
  theirs = "generator_predictions"
  head = encoder.head_rows(f"{theirs}.dense", f"{theirs}.LayerNorm", "generator_lm_head.bias")
  return [*_body(a), *head]


def _discriminator_rows(a: Arguments) -> list[Row]:
  theirs = "discriminator_predictions"
  head = [
    *linear("head/dense", f"{theirs}.dense"), *linear("head/out", f"{theirs}.dense_prediction"),
  ]  # fmt: skip
  return [*_body(a), *head]


_BUFFERS = (r"electra\.embeddings\.position_ids",)

HF = (
  Published(
    "electra", ("ElectraForMaskedLM",), generator, _arguments, _config, _generator_rows,
    "electra.", _BUFFERS,
    encoder.tied("generator_lm_head", "electra.embeddings.word_embeddings.weight"),
  ),
  Published(
    "electra", ("ElectraForPreTraining",), discriminator, _arguments, _config, _discriminator_rows,
    "electra.", _BUFFERS,
  ),
)  # fmt: skip

# The discriminator has one logit where the contract of families expects one for each token id.
EXAMPLES = [
  functools.partial(generator, 2, 16, 4, 40, 12, max_length=32, mlp=24),
  functools.partial(generator, 2, 16, 4, 40, 16, max_length=32, mlp=24),
]
