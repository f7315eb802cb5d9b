"""T5X's T5 (`examples/t5`): a name for each layer's arrays, and heads joined."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from mtm.errors import UserError
from mtm.families._names import FromHeads, IntoHeads, Row, row
from mtm.families._published import complete
from mtm.families.t5 import t5
from mtm.interop._slots import Source, moments, slots

BUILD = t5

__all__ = ["BUILD", "arguments_of", "depth", "found", "moments", "rows", "sizes", "slots", "tower"]


def found(names: Iterable[str]) -> bool:
  """Whether these may be the arrays of an encoder-decoder: `arguments_of` tells what they lack."""
  del names
  return True


def sizes(source: Source, tokens: str, side: str, attention: str) -> dict[str, Any]:
  """The arguments that a T5 and its decoder alone share.

  Args:
    source: the arrays.
    tokens: the name of the token table.
    side: a tower of the model.
    attention: the name of self-attention in it.

  Raises:
    UserError: an array is missing.
  """
  names = source.names()

  def shape(name: str) -> tuple[int, ...]:
    if name not in names:
      raise UserError(
        f"{source.where} has no {name}: mtm reads T5X checkpoints of its T5, scalable T5 and"
        " decoder_only"
      )
    return source.shape(name)

  vocab, embed = shape(tokens)
  heads, buckets = shape(f"target/{side}/relpos_bias/rel_embedding")
  gated = f"target/{side}/layers_0/mlp/wi_0/kernel" in names
  return {
    "layers": depth(names, side),
    "embed": embed,
    "heads": heads,
    "head_dim": shape(f"target/{side}/layers_0/{attention}/query/kernel")[1] // heads,
    "mlp": shape(f"target/{side}/layers_0/mlp/wi{'_0' if gated else ''}/kernel")[1],
    "vocab": vocab,
    "activation": jax.nn.gelu if gated else jax.nn.relu,
    "gated": gated,
    "tied": "target/decoder/logits_dense/kernel" not in names,
    "buckets": buckets,
  }


def depth(names: Iterable[str], side: str) -> int:
  """How many layers a tower has."""
  found = (re.match(rf"target/{side}/layers_(\d+)/", name) for name in names)
  return 1 + max((int(match[1]) for match in found if match), default=-1)


def arguments_of(source: Source) -> dict[str, Any]:
  """The arguments of `t5` that shapes tell. Raises UserError where they are no unscanned T5's."""
  told = sizes(source, "target/token_embedder/embedding", "encoder", "attention")
  return complete(t5, {**told, "decoder_layers": depth(source.names(), "decoder")})


def rows(a: Mapping[str, Any]) -> list[Row]:
  """The name table of `t5` with these arguments."""
  head = [row("head/logits_dense/kernel", "target/decoder/logits_dense/kernel")]
  return [
    row("tokens/embedding", "target/token_embedder/embedding"),
    *tower("encoder", {"mixer": ("attention", "pre_attention_layer_norm")}, a),
    *tower(
      "decoder",
      {
        "mixer": ("self_attention", "pre_self_attention_layer_norm"),
        "cross": ("encoder_decoder_attention", "pre_cross_attention_layer_norm"),
      },
      a,
    ),
    *([] if a["tied"] else head),
  ]


def tower(
  name: str, attentions: Mapping[str, tuple[str, str]], a: Mapping[str, Any]
) -> Iterable[Row]:
  """The rows of a tower; `attentions`: our part → their names of it and of its norm."""
  ours, theirs = f"{name}/stack/period_0", f"target/{name}/layers_{{}}"
  into, out = IntoHeads(a["heads"], False), FromHeads(a["heads"], False)
  for part, (attention, norm) in attentions.items():
    for projection in ("query", "key", "value"):
      kernel = f"{projection}/kernel"
      yield row(f"{ours}/{part}/{kernel}", f"{theirs}/{attention}/{kernel}", into)
    yield row(f"{ours}/{part}/out/kernel", f"{theirs}/{attention}/out/kernel", out)
    yield row(f"{ours}/{part}_norm/scale", f"{theirs}/{norm}/scale")
  for projection in (*(("wi_0", "wi_1") if a["gated"] else ("wi",)), "wo"):
    yield row(f"{ours}/channel/{projection}/kernel", f"{theirs}/mlp/{projection}/kernel")
  yield row(f"{ours}/channel_norm/scale", f"{theirs}/pre_mlp_layer_norm/scale")
  yield row(f"{name}/final_norm/scale", f"target/{name}/{name}_norm/scale")
  yield row(f"{name}/position/rel_embedding", f"target/{name}/relpos_bias/rel_embedding")
