"""Mamba (2312.00752): selective state spaces where others have attention and feed-forward layers.

Its state does not grow with the text. A stack's residual sum is float32 in every compute dtype.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtm.families._names import Joined, Row, Transposed, linear, norm, row
from mtm.families._published import Arguments, Config, Published
from mtm.parts.heads import DenseHead, TiedHead
from mtm.parts.linear import Embed, normal
from mtm.parts.mixers.ssm import SelectiveSSM, uniform
from mtm.parts.norm import RMSNorm
from mtm.parts.stack import Block, Stack
from mtm.parts.transformer import Decoder, Model, Tower


class Cast(nn.Module):
  """To another dtype; it stands where a norm of the embeddings could.

  Attributes:
    dtype: of the output.
  """

  dtype: Any

  def __call__(self, x: jax.Array) -> jax.Array:
    """`[...]` → the same shape."""
    return x.astype(self.dtype)


class CastNorm(RMSNorm):
  """An `RMSNorm` that leads from the dtype of the residual sum to that of a sublayer.

  Attributes:
    dtype: of the output.
  """

  dtype: Any = "float32"

  def __call__(self, x: jax.Array) -> jax.Array:
    """`[..., embed]` → the same shape."""
    return super().__call__(x).astype(self.dtype)


def mamba(
  layers: int,
  embed: int,
  vocab: int,
  state: int = 16,
  taps: int = 4,
  expand: float = 2,
  rank: int | None = None,
  tied: bool = True,
  bias: bool = False,
  conv_bias: bool = True,
  epsilon: float = 1e-5,
  wide_residual: bool = True,
  dropout: float = 0.0,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A Mamba.

  Args:
    layers: number of layers, each of them a mixer alone.
    embed: width.
    vocab: number of token ids.
    state: size of a feature's state.
    taps: tokens that the convolution reads.
    expand: a mixer has expand · embed features.
    rank: of the steps' projection; None: embed / 16, rounded up.
    tied: whether the head is the token table.
    bias: whether the projections into and out of mixers have biases.
    conv_bias: whether convolutions have biases.
    epsilon: of the norms.
    wide_residual: whether the residual sum is float32 whatever `dtype` is.
    dropout: share of mixers' outputs and embeddings dropped (the published models: 0).
    scan, remat: see `Stack`.
    dtype: compute dtype of the mixers; their scan is float32.
  """
  rms_norm = functools.partial(CastNorm, epsilon=epsilon, dtype=dtype)
  # As the residual sum has `layers` terms, each is smaller by the root of their number.
  out_init = jax.nn.initializers.variance_scaling(1 / (3 * layers), "fan_in", "uniform")
  mixer = SelectiveSSM(
    _width(embed, expand), rank or _rank(embed), state, taps, bias, conv_bias, uniform, out_init
  )
  block = Block(mixer, None, rms_norm, dropout=dropout)
  tower = Tower(
    Stack((block,), layers, scan, remat),
    embed_norm=functools.partial(Cast, jnp.float32) if wide_residual else None,
    final_norm=rms_norm,
    dropout=dropout,
  )
  head = TiedHead() if tied else DenseHead(vocab, normal(0.02))
  module = Decoder(Embed(vocab, embed, weight_init=normal(0.02)), tower, head)
  return Model(module, ("decoder_input_tokens",), vocab, None, dtype)


def _width(embed: int, expand: float) -> int:
  return int(expand * embed)


def _rank(embed: int) -> int:
  return math.ceil(embed / 16)


@dataclasses.dataclass(frozen=True)
class Depthwise:
  """torch's Conv1d with a group for each feature keeps `[features, 1, taps]`, ours `[taps,
  features]`."""

  def load(self, *theirs: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `mtm.families._names.Transform`."""
    return tuple(np.ascontiguousarray(x[:, 0].T) for x in theirs)

  def save(self, *ours: np.ndarray) -> tuple[np.ndarray, ...]:
    """See `mtm.families._names.Transform`."""
    return tuple(np.ascontiguousarray(x.T)[:, None] for x in ours)


def _arguments(theirs: Config) -> Arguments:
  # Whether it is the gate's activation too depends on the version of theirs.
  theirs.expect("hidden_act", "silu")
  theirs.expect("rms_norm", True)
  embed, layers = theirs.get("hidden_size", 768), theirs.get("num_hidden_layers", 32)
  expand = theirs.get("expand", 2)
  for name, value in (
    ("intermediate_size", _width(embed, expand)), ("d_inner", _width(embed, expand)),
    ("d_model", embed), ("n_layer", layers),
  ):  # fmt: skip
    theirs.expect(name, value)
  theirs.ignore(  # fresh parameters; how, not what, is computed; what vocab_size has already
    "time_step_min", "time_step_max", "time_step_floor", "time_step_scale", "time_step_init_scheme",
    "rescale_prenorm_residual", "use_mambapy", "use_associative_scan", "fused_add_norm",
    "pad_vocab_size_multiple",
  )  # fmt: skip
  ranks = {"auto": _rank(embed)}
  rank = theirs.get("time_step_rank", "auto")
  return {
    "layers": layers,
    "embed": embed,
    "vocab": theirs.need("vocab_size"),
    "state": theirs.get("state_size", 16),
    "taps": theirs.get("conv_kernel", 4),
    "expand": expand,
    "rank": ranks.get(rank, rank),
    "tied": theirs.get("tie_word_embeddings", True),
    "bias": theirs.get("use_bias", False),
    "conv_bias": theirs.get("use_conv_bias", True),
    "epsilon": theirs.get("layer_norm_epsilon", 1e-5),
    "wide_residual": theirs.get("residual_in_fp32", True),
  }


def _config(a: Arguments) -> dict[str, Any]:
  return {
    "num_hidden_layers": a["layers"], "hidden_size": a["embed"], "vocab_size": a["vocab"],
    "state_size": a["state"], "conv_kernel": a["taps"], "expand": a["expand"],
    "intermediate_size": _width(a["embed"], a["expand"]),
    "time_step_rank": a["rank"] or _rank(a["embed"]), "tie_word_embeddings": a["tied"],
    "use_bias": a["bias"], "use_conv_bias": a["conv_bias"], "layer_norm_epsilon": a["epsilon"],
    "residual_in_fp32": a["wide_residual"], "hidden_act": "silu",
  }  # fmt: skip


def _rows(a: Arguments) -> list[Row]:
  ours, theirs = "decoder/stack/period_0/mixer", "backbone.layers.{}.mixer"
  names = tuple(f"{ours}/{half}/kernel" for half in ("input", "gate"))
  rows = [
    row("tokens/embedding", "backbone.embeddings.weight"),
    *norm("decoder/stack/period_0/mixer_norm", "backbone.layers.{}.norm", bias=False),
    Row(names, (f"{theirs}.in_proj.weight",), Joined(2, 0, Transposed())),
    row(f"{ours}/conv_kernel", f"{theirs}.conv1d.weight", Depthwise()),
    *linear(f"{ours}/choose", f"{theirs}.x_proj", bias=False),
    row(f"{ours}/step/kernel", f"{theirs}.dt_proj.weight", Transposed()),
    row(f"{ours}/step_bias", f"{theirs}.dt_proj.bias"),
    row(f"{ours}/decay_log", f"{theirs}.A_log"),
    row(f"{ours}/skip", f"{theirs}.D"),
    *linear(f"{ours}/out", f"{theirs}.out_proj", a["bias"]),
    *norm("decoder/final_norm", "backbone.norm_f", bias=False),
  ]
  if a["bias"]:
    names = tuple(f"{ours}/{half}/bias" for half in ("input", "gate"))
    rows.append(Row(names, (f"{theirs}.in_proj.bias",), Joined(2, 0)))
  if a["conv_bias"]:
    rows.append(row(f"{ours}/conv_bias", f"{theirs}.conv1d.bias"))
  return rows if a["tied"] else [*rows, *linear("head/logits_dense", "lm_head", bias=False)]


HF = Published(
  "mamba", ("MambaForCausalLM",), mamba, _arguments, _config, _rows, "backbone.",
  copies={"lm_head.weight": "backbone.embeddings.weight"},
)  # fmt: skip

EXAMPLES = [
  functools.partial(mamba, 2, 16, 40),
  functools.partial(
    mamba, 2, 16, 40, state=5, taps=3, expand=1, rank=3, tied=False, bias=True, conv_bias=False
  ),
]
