"""What content-based mixers cannot honour they refuse, in the same words."""

from __future__ import annotations

import jax

from mtm.errors import UserError
from mtm.parts.bias import Bias
from mtm.parts.context import Context


def refuse_bias(mixer: str, bias: Bias | jax.Array | None) -> None:
  """Raises UserError where a bias of the scores is asked for: there is none with `mixer`."""
  if bias is not None:
    raise UserError(
      f"{mixer} cannot add a bias to its scores: take positions that embed or rotate (Learned,"
      " Sinusoidal, Rotary), or Attention as the mixer"
    )


def refuse_prefix(mixer: str, context: Context) -> None:
  """Raises UserError where a batch has a bidirectional prefix: a causal `mixer` cannot see it."""
  labels = context.labels
  if "prefix" in labels:
    raise UserError(
      f"causal {mixer} cannot see a prefix in both directions: take another objective"
      " (objectives/causal_lm.gin), or Attention as the mixer"
    )


def refuse_cache(mixer: str, why: str, context: Context) -> None:
  """Raises UserError in decoding: `mixer` keeps nothing, because of `why`."""
  if context.slots is not None:
    raise UserError(f"{mixer} has no cache, as {why}: it cannot decode, and LinearAttention can")
