"""Classifiers of texts (1810.04805, §4.1) as RoBERTa, DistilBERT, ALBERT, ELECTRA, MPNet and BART
are published: a family's encoder, or BART's decoder, under a head of classes.

Logits are `[batch, length, classes]`. Those of a text stand at its first token, and BART's at the
place of its last `</s>` in the decoder, which is fed the text again behind the begin id.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any

import jax

from mtm.families import albert, bart, distilbert, electra, mpnet, roberta
from mtm.families._names import Row, linear
from mtm.families._published import Arguments, Config, Published
from mtm.families.classifier import HeadFactory, head_over, labels_of
from mtm.parts.activations import gelu
from mtm.parts.heads import DenseClassHead, PooledClassHead
from mtm.parts.transformer import Model

_PLAIN = inspect.Parameter.POSITIONAL_OR_KEYWORD


def over(build: Callable[..., Model], head: HeadFactory, name: str) -> Callable[..., Model]:
  """A builder of classifiers: takes what `build` takes, and `classes` and `head_dropout`.

  Args:
    build: a family's builder, which has an argument `dropout`.
    head: see `classifier`.
    name: what gin calls it, the name of this module's variable.

  Returns:
    a builder. `classes`: number of logits; `head_dropout`: of the head, None: `dropout`.
  """
  theirs = list(inspect.signature(build).parameters.values())
  needed = [x for x in theirs if x.default is x.empty]
  told = [x for x in theirs if x.default is not x.empty]
  classes, own = (
    inspect.Parameter("classes", _PLAIN),
    inspect.Parameter("head_dropout", _PLAIN, default=None),
  )
  signature = inspect.Signature([*needed, classes, *told, own])

  def made(*given: Any, **named: Any) -> Model:
    bound = signature.bind(*given, **named)
    bound.apply_defaults()
    count, dropout = (bound.arguments.pop(x) for x in ("classes", "head_dropout"))
    usual = bound.arguments["dropout"]
    return head_over(
      build(**bound.arguments), head(classes=count, dropout=usual if dropout is None else dropout)
    )

  made.__doc__ = f"A classifier over `{build.__module__}.{build.__name__}`, see `over`."
  made.__name__ = made.__qualname__ = name
  made.__annotations__ = {
    **typing.get_type_hints(build), "classes": int, "head_dropout": float | None,
  }  # fmt: skip
  made.__signature__ = signature  # type: ignore[attr-defined]
  return made


@dataclasses.dataclass(frozen=True)
class _Kind:
  """How a family's classifiers are published.

  Attributes:
    family: its other models.
    build: ours.
    architecture: their class.
    layers: our two layers of the head → theirs.
    dropout: the head's dropout in their config, and what it is there where nothing is said.
    ignored: what its files may hold besides.
  """

  family: Published
  build: Callable[..., Model]
  architecture: str
  layers: Sequence[tuple[str, str]]
  dropout: tuple[str, float | None] = ("classifier_dropout", None)
  ignored: tuple[str, ...] = ()

  def arguments(self, theirs: Config) -> Arguments:
    """See `Published`."""
    return {
      **self.family.arguments(theirs), "classes": labels_of(theirs),
      "head_dropout": theirs.get(*self.dropout),
    }  # fmt: skip

  def config(self, a: Arguments) -> dict[str, Any]:
    """See `Published`."""
    names = {str(i): f"LABEL_{i}" for i in range(a["classes"])}
    labels = {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}}
    return {**self.family.config(a), self.dropout[0]: a["head_dropout"], **labels}

  def rows(self, a: Arguments) -> list[Row]:
    """See `Published`."""
    every = self.family.rows(a)  # of which some fill nothing, as BART's buffer of a head
    body = [row for row in every if row.ours and not row.ours[0].startswith("head/")]
    return [*body, *(row for pair in self.layers for row in linear(*pair))]

  def published(self) -> Published:
    """All of it."""
    return dataclasses.replace(
      self.family, architectures=(self.architecture,), build=self.build, arguments=self.arguments,
      config=self.config, rows=self.rows, ignored=(*self.ignored, *self._buffers()),
    )  # fmt: skip

  def _buffers(self) -> list[str]:
    layers = tuple(theirs for _, theirs in self.layers)
    return [name for name in self.family.ignored if not name.replace("\\", "").startswith(layers)]


DENSE = ("head/dense", "classifier.dense"), ("head/out", "classifier.out_proj")
_relu_pooled = functools.partial(PooledClassHead, activation=jax.nn.relu)
_gelu_dense = functools.partial(DenseClassHead, activation=gelu)

roberta_classifier = over(roberta.roberta, DenseClassHead, "roberta_classifier")
distilbert_classifier = over(distilbert.distilbert, _relu_pooled, "distilbert_classifier")
albert_classifier = over(albert.albert, PooledClassHead, "albert_classifier")
electra_classifier = over(electra.discriminator, _gelu_dense, "electra_classifier")
mpnet_classifier = over(mpnet.mpnet, DenseClassHead, "mpnet_classifier")
bart_classifier = over(bart.bart, DenseClassHead, "bart_classifier")

KINDS = (
  _Kind(roberta.HF, roberta_classifier, "RobertaForSequenceClassification", DENSE),
  _Kind(
    distilbert.HF, distilbert_classifier, "DistilBertForSequenceClassification",
    (("head/pooler", "pre_classifier"), ("head/out", "classifier")), ("seq_classif_dropout", 0.2),
  ),
  _Kind(
    albert.HF, albert_classifier, "AlbertForSequenceClassification",
    (("head/pooler", "albert.pooler"), ("head/out", "classifier")),
    ("classifier_dropout_prob", 0.1),
  ),
  _Kind(electra.HF[1], electra_classifier, "ElectraForSequenceClassification", DENSE),
  _Kind(mpnet.HF, mpnet_classifier, "MPNetForSequenceClassification", DENSE),
  _Kind(
    bart.HF, bart_classifier, "BartForSequenceClassification",
    (("head/dense", "classification_head.dense"), ("head/out", "classification_head.out_proj")),
    ("classifier_dropout", 0.0),
  ),
)  # fmt: skip
HF = tuple(kind.published() for kind in KINDS)

# As many classes as token ids: the contract of families expects a logit for each of those.
EXAMPLES = [
  functools.partial(roberta_classifier, 1, 16, 4, 40, 40, max_length=32, mlp=24),
  functools.partial(distilbert_classifier, 1, 16, 4, 40, 40, max_length=32, mlp=24),
]
