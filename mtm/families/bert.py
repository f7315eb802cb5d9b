"""BERT (1810.04805): a post-norm encoder with learned positions, token types and an MLM head; as it
was pre-trained, with a head for pairs of sentences too."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax

from mtm.families import _encoder as encoder
from mtm.families._names import Row, linear
from mtm.families._published import Arguments, Config, Published
from mtm.parts.activations import gelu
from mtm.parts.heads import MaskedHead, PairHead
from mtm.parts.kernels import Kernel
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.full import Full
from mtm.parts.positions.learned import Learned
from mtm.parts.stack import Stack
from mtm.parts.transformer import Encoder, Model
from mtm.types import Params


def bert(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
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
  """A BERT for masked language modelling.

  Args:
    layers: number of layers.
    embed: width.
    heads: attention heads, a divisor of `embed`; each has embed / heads features.
    vocab: number of token ids.
    max_length: the longest sequence.
    mlp: hidden width of the feed-forward layer; None: 4 · embed.
    token_types: number of token types.
    dropout: share dropped of embeddings, attention probabilities and sublayer outputs.
    activation: of the feed-forward layer and the head.
    epsilon: of the norms.
    pattern: who sees whom.
    kernel: the attention engine; None: the best that supports the call.
    scan, remat: see `Stack`.
    dtype: compute dtype.
  """
  block = encoder.layer(embed, heads, mlp, dropout, activation, epsilon, pattern, kernel)
  head = MaskedHead(encoder.layer_norm(epsilon), activation, encoder.INIT)
  stack = Stack((block,), layers, scan, remat)
  return _model(stack, head, vocab, embed, max_length, epsilon, token_types, dropout, dtype)


def bert_pairs(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
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
  """A `bert` that also keeps the pooler and the next-sentence head of its pre-training.

  Its logits are those of tokens; those of a pair of sentences come from `next_sentence`.
  """
  block = encoder.layer(embed, heads, mlp, dropout, activation, epsilon, pattern, kernel)
  masked = MaskedHead(encoder.layer_norm(epsilon), activation, encoder.INIT)
  head = PairHead(masked, embed, weight_init=encoder.INIT)
  stack = Stack((block,), layers, scan, remat)
  return _model(stack, head, vocab, embed, max_length, epsilon, token_types, dropout, dtype)


def next_sentence(model: Model, params: Params, hidden: jax.Array) -> jax.Array:
  """Whether the second sentence of each row follows the first (class 0) or not (class 1).

  Args:
    model: a `bert_pairs`.
    params: its parameters.
    hidden: `[batch, length, embed]`, the `hidden` of what it returned for rows of one pair each.

  Returns:
    float32 logits, `[batch, 2]`.
  """

  def pair(module: nn.Module, x: jax.Array) -> jax.Array:
    return cast(PairHead, cast(Encoder, module).head).pair(x)

  weights = {"params": model.prepare(params)}
  return cast(jax.Array, model.module.apply(weights, hidden, method=pair))


def _model(
  stack: Stack, head: nn.Module, vocab: int, embed: int, max_length: int, epsilon: float,
  token_types: int, dropout: float, dtype: Any,
) -> Model:  # fmt: skip
  return encoder.model(
    stack, head, vocab, embed, max_length, Learned(max_length, embed),
    encoder.layer_norm(epsilon), token_types, dropout, dtype,
  )  # fmt: skip


def _arguments(theirs: Config) -> Arguments:
  return {
    **encoder.sizes(theirs),
    **encoder.attended(theirs),
    "max_length": theirs.get("max_position_embeddings", 512),
    "token_types": theirs.get("type_vocab_size", 2),
  }


def _config(a: Arguments) -> dict[str, Any]:
  return {**encoder.words(a), "type_vocab_size": a["token_types"]}


def _rows(a: Arguments, at: str = "head") -> list[Row]:
  head = "cls.predictions"
  return [
    *encoder.embedding_rows("bert.embeddings"),
    encoder.types_row("bert.embeddings"),
    *encoder.layer_rows("bert.encoder.layer.{}", a["heads"]),
    *encoder.head_rows(
      f"{head}.transform.dense", f"{head}.transform.LayerNorm", f"{head}.bias", at
    ),
  ]


def _pair_rows(a: Arguments) -> list[Row]:
  return [
    *_rows(a, "head/masked"),
    *linear("head/pooler", "bert.pooler.dense"),
    *linear("head/relation", "cls.seq_relationship"),
  ]


_BUFFERS = (r"bert\.embeddings\.position_ids",)
_COPIES = encoder.tied(
  "cls.predictions.decoder", "bert.embeddings.word_embeddings.weight", "cls.predictions.bias"
)

HF = (
  Published(
    "bert", ("BertForMaskedLM",), bert, _arguments, _config, _rows, "bert.",
    # The paper's checkpoints are called so and hold what read pairs too; masked language modelling
    # does not read it. As a BertForPreTraining all of it is kept.
    (*_BUFFERS, r"bert\.pooler\.dense\.(weight|bias)", r"cls\.seq_relationship\.(weight|bias)"),
    _COPIES,
  ),
  Published(
    "bert", ("BertForPreTraining",), bert_pairs, _arguments, _config, _pair_rows, "bert.",
    _BUFFERS, _COPIES,
  ),
)  # fmt: skip

# `bert_pairs` has parameters that no logit of a token depends on, which the contract forbids.
EXAMPLES = [functools.partial(bert, 2, 16, 4, 40, max_length=32, mlp=24)]
