"""What a published checkpoint asks of everyone who generates with it, as `transformers` heeds it.

How tokens are chosen (beams, samples) and how many at most is the caller's to say; which may come
is the checkpoint's: a first token, no end before so many tokens, no phrase twice.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from mtm.decoding.constraints import Constraint, Forced, MinLength, NoRepeat
from mtm.types import Model

NEUTRAL = {"repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0}  # say nothing


def heed(wishes: Mapping[str, Any], model: Model, max_length: int) -> list[Constraint]:
  """The constraints that honour them; the others are warned of. See `constraints`.

  Args:
    wishes: see `Special.generation`.
    model: what generates.
    max_length: the most tokens to generate.
  """
  paired = len(model.inputs) > 1
  left = unheeded(wishes, paired)
  if left:
    warnings.warn(f"generating does not heed {', '.join(left)} of the checkpoint", stacklevel=3)
  return constraints(wishes, paired, max_length)


def constraints(wishes: Mapping[str, Any], paired: bool, max_length: int) -> list[Constraint]:
  """The constraints that honour them.

  Args:
    wishes: see `Special.generation`, by the names of `transformers`, which forces no first token
      after a prompt.
    paired: whether the decoder answers an encoder; of a decoder alone they count its prompt too,
      which no constraint sees: there `min_length` and `no_repeat_ngram_size` are `unheeded`.
    max_length: the most tokens to generate.
  """
  found: list[Constraint] = []
  least = wishes.get("min_new_tokens", 0)
  if paired:
    least = least or wishes.get("min_length", 0) - 1  # they count the begin
    if wishes.get("forced_bos_token_id") is not None:
      found.append(Forced(0, _ids(wishes["forced_bos_token_id"])))
    if wishes.get("no_repeat_ngram_size"):
      found.append(NoRepeat(wishes["no_repeat_ngram_size"]))
  if least > 0:
    found.append(MinLength(least))
  if wishes.get("forced_eos_token_id") is not None:
    found.append(Forced(max_length - 1, _ids(wishes["forced_eos_token_id"])))
  return found


def unheeded(wishes: Mapping[str, Any], paired: bool) -> list[str]:
  """Those that no constraint honours, as `name = value`."""
  heeded = {"min_new_tokens", "forced_eos_token_id", "forced_bos_token_id"}
  if paired:
    heeded |= {"min_length", "no_repeat_ngram_size"}
  return [
    f"{name} = {value!r}"
    for name, value in wishes.items()
    if name not in heeded and value not in (NEUTRAL.get(name), [], 0)
  ]


def _ids(told: Any) -> tuple[int, ...]:
  return tuple(told) if isinstance(told, list | tuple) else (told,)
