"""Masked language modelling (BERT, 1810.04805, §3.1; dynamic: RoBERTa, 1907.11692)."""

from __future__ import annotations

import dataclasses

from mtm.objectives._base import TokenObjective


@dataclasses.dataclass(frozen=True)
class MaskedLM(TokenObjective):
  """Some tokens are chosen; most of them become the mask token, some a random token, the rest stay;
  all chosen ones are predicted.

  Attributes:
    mask_rate: share of tokens that are chosen.
    mask_share: share of the chosen ones that become the mask token.
    random_share: share of the chosen ones that become a random token.
    dynamic: whether every epoch draws a new mask (RoBERTa) or keeps the first one (BERT).
    whole_word: whether all pieces of a word are chosen together.
    mask_id: id of the mask token; None: the vocabulary's last one.
  """

  preprocessor = "mtm.data.preprocessors.mlm:build"
  side = "encoder"

  mask_rate: float = 0.15
  mask_share: float = 0.8
  random_share: float = 0.1
  dynamic: bool = True
  whole_word: bool = False
  mask_id: int | None = None


EXAMPLES = [MaskedLM()]
