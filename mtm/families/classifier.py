"""Classifiers of texts: the encoder of any family under a head of classes (1810.04805, §4.1), and
BERT's as it is published."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from mtm.errors import UserError
from mtm.families import bert as masked
from mtm.families._names import Row, linear
from mtm.families._published import Arguments, Config, Published
from mtm.parts.activations import gelu
from mtm.parts.heads import PooledClassHead
from mtm.parts.kernels import Kernel
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.full import Full
from mtm.parts.transformer import Encoder, Model

HeadFactory = Callable[..., nn.Module]


def classifier(
  model: Model, classes: int, dropout: float = 0.1, head: HeadFactory = PooledClassHead
) -> Model:
  """The encoder of a model under a new head.

  Its logits are `[batch, length, classes]`, and those at a text's first token are the text's.

  Args:
    model: an encoder of any family, such as `roberta(...)`; its own head is left out.
    classes: number of logits.
    dropout: of the head.
    head: makes the head, given `classes` and `dropout`: `PooledClassHead` (BERT), `DenseClassHead`
      (RoBERTa), or a part of your own.

  Raises:
    UserError: the model is no encoder, or there are no classes.
  """
  module = model.module
  if not isinstance(module, Encoder):
    raise UserError(
      f"a classifier reads texts with an encoder, and this model is a {model.architecture}: give it"
      " one of a family such as bert or roberta"
    )
  if classes < 1:
    raise UserError(f"a classifier of {classes} classes has nothing to tell: give it at least 1")
  return head_over(model, head(classes=classes, dropout=dropout))


def head_over(model: Model, head: nn.Module) -> Model:
  """A model under another head, which is called as those of `mtm.parts.heads` are."""
  module: Any = model.module
  return dataclasses.replace(model, module=module.clone(head=head))


def bert_classifier(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  classes: int,
  max_length: int = 512,
  mlp: int | None = None,
  token_types: int = 2,
  dropout: float = 0.1,
  head_dropout: float | None = None,
  activation: Callable[[jax.Array], jax.Array] = gelu,
  epsilon: float = 1e-12,
  pattern: Pattern = Full(),  # noqa: B008 (frozen)
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A BERT that classifies texts, see `classifier`.

  Args:
    layers, embed, heads, vocab, max_length, mlp, token_types, dropout, activation, epsilon,
      pattern, kernel, scan, remat, dtype: as in `mtm.families.bert.bert`.
    classes: number of logits.
    head_dropout: share of the pooler's outputs dropped; None: `dropout`.
  """
  encoder = masked.bert(
    layers, embed, heads, vocab, max_length, mlp, token_types, dropout, activation, epsilon,
    pattern, kernel, scan, remat, dtype,
  )  # fmt: skip
  return classifier(encoder, classes, dropout if head_dropout is None else head_dropout)


_MASKED, _ = masked.HF


def labels_of(theirs: Config) -> int:
  """How many classes a config tells."""
  return len(theirs.get("id2label", {})) or theirs.get("num_labels", 2)


def _arguments(theirs: Config) -> Arguments:
  return {
    **_MASKED.arguments(theirs),
    "classes": labels_of(theirs),
    "head_dropout": theirs.get("classifier_dropout", None),
  }


def _config(a: Arguments) -> dict[str, Any]:
  names = [f"LABEL_{i}" for i in range(a["classes"])]
  return {
    **_MASKED.config(a), "classifier_dropout": a["head_dropout"],
    "id2label": {str(i): name for i, name in enumerate(names)},
    "label2id": {name: i for i, name in enumerate(names)},
  }  # fmt: skip


def _rows(a: Arguments) -> list[Row]:
  body = [row for row in _MASKED.rows(a) if not row.ours[0].startswith("head/")]
  return [*body, *linear("head/pooler", "bert.pooler.dense"), *linear("head/out", "classifier")]


HF = Published(
  "bert", ("BertForSequenceClassification",), bert_classifier, _arguments, _config, _rows, "bert.",
  (r"bert\.embeddings\.position_ids",),
)  # fmt: skip

# As many classes as token ids: the contract of families expects a logit for each of those.
EXAMPLES = [functools.partial(bert_classifier, 2, 16, 4, 40, 40, max_length=32, mlp=24)]
