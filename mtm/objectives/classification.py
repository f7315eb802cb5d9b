"""Classification of texts, or pairs of texts (BERT, 1810.04805, §4.1): the class of each one."""

from __future__ import annotations

import dataclasses

from mtm.errors import UserError
from mtm.objectives._base import TokenObjective
from mtm.types import Batch, Output, Sums


@dataclasses.dataclass(frozen=True)
class Classification(TokenObjective):
  """The model's logits at the first token of a text are those of its classes, see
  `mtm.families.classifier`; one target a text. A text is `[CLS] text [SEP]`, and a pair `[CLS] text
  [SEP] second [SEP]`.

  Attributes:
    classes: how many there are; a task's `label` is a number below it.
    pairs: whether there is a second text, in the task's feature `second`.
    token_types: whether the second text of a pair has token type 1 (BERT); RoBERTa and MPNet, whose
      tables of types have one row or none, take False.
    separators: how many separators stand between the texts of a pair; RoBERTa and MPNet: 2.
    begin_id: the id before every text; None: the vocabulary's own, such as `[CLS]`.
    end_id: the id that ends and parts texts; None: the vocabulary's own, such as `[SEP]`.
  """

  preprocessor = "mtm.data.preprocessors.classification:build"
  side = "encoder"

  classes: int = 2
  pairs: bool = False
  token_types: bool = True
  separators: int = 1
  begin_id: int | None = None
  end_id: int | None = None

  def sums(self, output: Output, batch: Batch) -> Sums:
    """See `TokenObjective.sums`: `accuracy` is the share of texts whose class is the likeliest.

    Raises:
      UserError: the model has another number of classes.
    """
    found = output.logits.shape[-1]
    if found != self.classes:
      raise UserError(
        f"the objective has {self.classes} classes and the model {found}: set CLASSES, which both"
        " of them take"
      )
    return super().sums(output, batch)


# As many classes as the contract's model has logits.
EXAMPLES = [Classification(classes=40)]
