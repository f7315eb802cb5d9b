"""Causal language modelling (GPT): predict every token from those before it."""

from __future__ import annotations

import dataclasses

from mtm.objectives._base import TokenObjective


@dataclasses.dataclass(frozen=True)
class CausalLM(TokenObjective):
  """Every token of a document is a target, the end of the document included."""

  preprocessor = "mtm.data.preprocessors.causal_lm:build"
  side = "decoder"


EXAMPLES = [CausalLM()]
