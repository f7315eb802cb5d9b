"""Text to text: predict a task's targets from its inputs, in an encoder-decoder."""

from __future__ import annotations

import dataclasses

from mtm.objectives._base import TokenObjective


@dataclasses.dataclass(frozen=True)
class Seq2Seq(TokenObjective):
  """Teacher forcing: what fine-tuning a T5 uses."""

  preprocessor = "mtm.data.preprocessors.seq2seq:build"
  side = "decoder"


EXAMPLES = [Seq2Seq()]
