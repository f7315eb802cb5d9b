"""LongT5 (2112.07916): a T5 1.1 whose encoder sees a window, and summaries of blocks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.families._names import Row, Transposed, norm, row
from mtm.families._published import Arguments, Config, Published
from mtm.families.t5 import COPIES, IGNORED, arguments_of, config_of, rows_of, t5
from mtm.parts.kernels import Kernel
from mtm.parts.linear import normal
from mtm.parts.mixers.transient_global import SummaryBias, TransientGlobal
from mtm.parts.norm import RMSNorm
from mtm.parts.patterns.published import longt5_local
from mtm.parts.transformer import Model

LOCAL, GLOBAL = "local", "transient-global"  # what a config calls the encoder's attention


def longt5(
  layers: int,
  embed: int,
  heads: int,
  head_dim: int,
  mlp: int,
  vocab: int,
  radius: int = 127,
  block: int | None = 16,
  dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
  gated: bool = True,
  tied: bool = False,
  kernel: Kernel | str | None = None,
  decoder_layers: int | None = None,
  buckets: int = 32,
  max_distance: int = 128,
  epsilon: float = 1e-6,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A LongT5; arguments that are not told of here are those of `t5`.

  Args:
    radius: how many tokens before and after itself the encoder's tokens see.
    block: tokens of a block, whose summary all see too (transient-global attention, see
      `TransientGlobal`); None: no summaries (local attention).
  """
  model = t5(
    layers, embed, heads, head_dim, mlp, vocab,
    dropout=dropout, activation=activation, gated=gated, tied=tied, kernel=kernel,
    encoder_pattern=longt5_local(radius), decoder_layers=decoder_layers, buckets=buckets,
    max_distance=max_distance, epsilon=epsilon, scan=scan, remat=remat, dtype=dtype,
  )  # fmt: skip
  if block is None:
    return model
  encoder: Any = model.module.encoder
  (layer,) = encoder.stack.period
  near = layer.mixer
  mixer = TransientGlobal(
    heads, head_dim, radius, block, functools.partial(RMSNorm, epsilon=epsilon), kernel,
    near.scale, dropout, near.weight_init, near.query_init, near.out_init,
  )  # fmt: skip
  encoder = encoder.clone(
    stack=encoder.stack.clone(period=(layer.clone(mixer=mixer),)),
    position=SummaryBias(heads, True, buckets, max_distance, normal(1.0)),
  )
  return dataclasses.replace(model, module=model.module.clone(encoder=encoder))


def _arguments(theirs: Config) -> Arguments:
  theirs.expect("encoder_attention_type", LOCAL, GLOBAL)
  blocks = {LOCAL: None, GLOBAL: theirs.get("global_block_size", 16)}
  return {
    **arguments_of(theirs),
    "radius": theirs.get("local_radius", 127),
    "block": blocks[theirs.get("encoder_attention_type", LOCAL)],
  }


def _config(a: Arguments) -> dict[str, Any]:
  kind: dict[str, Any] = {"encoder_attention_type": LOCAL}
  if a["block"] is not None:
    kind = {"encoder_attention_type": GLOBAL, "global_block_size": a["block"]}
  return {**config_of(a), **kind, "local_radius": a["radius"]}


def _rows(a: Arguments) -> list[Row]:
  """Those of T5 with another name of the encoder's attention, and those of the summaries."""
  name = "LocalSelfAttention" if a["block"] is None else "TransientGlobalSelfAttention"

  def renamed(tensor: str) -> str:
    return tensor.replace("SelfAttention", name) if tensor.startswith("encoder.") else tensor

  rows = [dataclasses.replace(r, theirs=tuple(map(renamed, r.theirs))) for r in rows_of(a)]
  if a["block"] is None:
    return rows
  return [
    *rows,
    row("encoder/position/side_embedding",
        f"encoder.block.0.layer.0.{name}.global_relative_attention_bias.weight", Transposed()),
    *norm("encoder/stack/period_0/mixer/summary_norm",
          f"encoder.block.{{}}.layer.0.{name}.global_input_layer_norm", bias=False),
  ]  # fmt: skip


HF = Published(
  "longt5", ("LongT5ForConditionalGeneration",), longt5, _arguments, _config, _rows, "", IGNORED,
  COPIES,
)  # fmt: skip

EXAMPLES = [
  functools.partial(longt5, 2, 16, 4, 4, 24, 40, radius=2, block=3),
  functools.partial(longt5, 2, 16, 4, 4, 24, 40, radius=2, block=None, tied=True),
]
