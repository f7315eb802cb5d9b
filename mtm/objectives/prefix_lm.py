"""Prefix language modelling (T5, 1910.10683, §3.2.1): a prefix is read in both directions."""

from __future__ import annotations

import dataclasses

from mtm.objectives._base import TokenObjective


@dataclasses.dataclass(frozen=True)
class PrefixLM(TokenObjective):
  """A task's inputs are the prefix and its targets are predicted; where a task has targets only, a
  random point divides each piece. The model's pattern should be `Causal() | Prefix()`.

  Attributes:
    loss_on_prefix: whether the prefix is predicted too: only sensible with a causal pattern, since
      a bidirectional prefix sees what it would predict.
  """

  preprocessor = "mtm.data.preprocessors.prefix_lm:build"
  side = "decoder"

  loss_on_prefix: bool = False


EXAMPLES = [PrefixLM()]
