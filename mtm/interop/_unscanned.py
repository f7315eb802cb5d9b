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
from mtm.interop._scanned import Source


def arguments_of(source: Source) -> dict[str, Any]:
  """The arguments of `t5` that shapes tell. Raises UserError where they are no unscanned T5's."""
  names = source.names()

  def shape(name: str) -> tuple[int, ...]:
    if name not in names:
      raise UserError(
        f"{source.where} has no {name}: mtm reads T5X checkpoints of encoder-decoders whose layers"
        " are not scanned"
      )
    return source.shape(name)

  def depth(tower: str) -> int:
    found = (re.match(rf"target/{tower}/layers_(\d+)/", name) for name in names)
    return 1 + max((int(match[1]) for match in found if match), default=-1)

  vocab, embed = shape("target/token_embedder/embedding")
  heads, buckets = shape("target/encoder/relpos_bias/rel_embedding")
  gated = "target/encoder/layers_0/mlp/wi_0/kernel" in names
  told = {
    "layers": depth("encoder"),
    "embed": embed,
    "heads": heads,
    "head_dim": shape("target/encoder/layers_0/attention/query/kernel")[1] // heads,
    "mlp": shape(f"target/encoder/layers_0/mlp/wi{'_0' if gated else ''}/kernel")[1],
    "vocab": vocab,
    "activation": jax.nn.gelu if gated else jax.nn.relu,
    "gated": gated,
    "tied": "target/decoder/logits_dense/kernel" not in names,
    "decoder_layers": depth("decoder"),
    "buckets": buckets,
  }
  return complete(t5, told)


def rows(a: Mapping[str, Any]) -> list[Row]:
  """The name table of `t5` with these arguments."""
  head = [row("head/logits_dense/kernel", "target/decoder/logits_dense/kernel")]
  return [
    row("tokens/embedding", "target/token_embedder/embedding"),
    *_tower("encoder", {"mixer": ("attention", "pre_attention_layer_norm")}, a),
    *_tower(
      "decoder",
      {
        "mixer": ("self_attention", "pre_self_attention_layer_norm"),
        "cross": ("encoder_decoder_attention", "pre_cross_attention_layer_norm"),
      },
      a,
    ),
    *([] if a["tied"] else head),
  ]


def _tower(
  name: str, attentions: Mapping[str, tuple[str, str]], a: Mapping[str, Any]
) -> Iterable[Row]:
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
