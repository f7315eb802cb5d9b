"""The Switch Transformer (2101.03961): a T5 with an expert period, one expert for each token."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.errors import UserError
from mtm.families._experts import dispatch_of, one_in, spread, with_experts
from mtm.families._names import Row, linear, of_each_expert
from mtm.families._published import Arguments, Config, Published, name_of
from mtm.families.t5 import COPIES, IGNORED, arguments_of, config_of, rows_of, t5
from mtm.parts.experts.engines import Engine
from mtm.parts.experts.layer import Experts
from mtm.parts.experts.mlp import ExpertMlp
from mtm.parts.experts.routers.switch import Switch
from mtm.parts.kernels import Kernel
from mtm.parts.linear import fan_in_of
from mtm.parts.transformer import Model

EVERYBODY = 2**31 - 1  # as a config writes that nobody is dropped


def switch(
  layers: int,
  embed: int,
  heads: int,
  head_dim: int,
  mlp: int,
  vocab: int,
  experts: int,
  step: int = 2,
  capacity: float | None = 1.25,
  eval_capacity: float | None = None,
  places: int | None = None,
  jitter: float = 0.01,
  balance: float = 0.01,
  z: float = 0.001,
  router_bias: bool = False,
  dropout: float = 0.1,
  expert_dropout: float | None = None,
  activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
  gated: bool = False,
  tied: bool = True,
  kernel: Kernel | str | None = None,
  engine: Engine | str = "auto",
  decoder_layers: int | None = None,
  decoder_step: int | None = None,
  buckets: int = 32,
  max_distance: int = 128,
  epsilon: float = 1e-6,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A Switch Transformer; arguments that are not told of here are those of `t5`.

  Args:
    mlp: hidden width of the feed-forward layer and of each expert.
    experts: how many there are in a layer that has them.
    step: the second of so many layers of the encoder has experts; 1: each has; 0: none.
    capacity: places of all experts in training, as a multiple of a row's tokens; who finds none is
      passed on as it is. None: nobody is dropped.
    eval_capacity: the same outside training.
    places: of an expert in a row, in training and outside, whatever the capacities say, as in
      checkpoints of `transformers`; None: as they say.
    jitter, balance, z, router_bias: see the router `Switch`.
    expert_dropout: share of an expert's hidden layer dropped in training; None: `dropout`.
    engine: that of the experts, see `Experts`.
    decoder_step: None: as `step`.
  """
  model = t5(
    layers, embed, heads, head_dim, mlp, vocab,
    dropout=dropout, activation=activation, gated=gated, tied=tied, kernel=kernel,
    decoder_layers=decoder_layers, buckets=buckets, max_distance=max_distance, epsilon=epsilon,
    scan=scan, remat=remat, dtype=dtype,
  )  # fmt: skip
  init = fan_in_of(1, 0.1)  # §2.4: a tenth of what dense layers have
  expert = ExpertMlp(
    mlp, activation, gated, dropout=dropout if expert_dropout is None else expert_dropout,
    weight_init=init, out_init=init,
  )  # fmt: skip

  def make() -> Experts:
    return Experts(
      experts, Switch(jitter, balance, z, router_bias), expert, dispatch_of(capacity, places),
      dispatch_of(eval_capacity, places), engine,
    )  # fmt: skip

  encoder_sparse, decoder_sparse = _sparse(layers, step, decoder_layers, decoder_step)
  both: Any = model.module
  module = both.clone(
    encoder=with_experts(both.encoder, make, encoder_sparse),
    decoder=with_experts(both.decoder, make, decoder_sparse),
  )
  return dataclasses.replace(model, module=module)


def _sparse(
  layers: int, step: int, decoder_layers: int | None, decoder_step: int | None
) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
  """Where the encoder has experts in a period, and where the decoder."""
  depth = layers if decoder_layers is None else decoder_layers
  return one_in(step, layers), one_in(step if decoder_step is None else decoder_step, depth)


def _arguments(theirs: Config) -> Arguments:
  """Padding finds no expert here. Theirs has no use for `router_ignore_padding_tokens` and gives
  it one; where padding stands before a row's tokens it can take their places."""
  theirs.expect("router_dtype", "float32")
  theirs.expect("router_type", "tokens_masked")
  theirs.expect("num_selected_experts", 1)
  theirs.expect("is_gated_act", False)
  theirs.ignore("router_ignore_padding_tokens", "add_router_probs")
  activation = theirs.activation("dense_act_fn", "relu")
  layers = theirs.get("num_layers", 12)
  depth = theirs.get("num_decoder_layers", layers)
  told = arguments_of(theirs, {**SIZES, "num_layers": layers})
  places = theirs.get("expert_capacity", 64)
  return {
    **told,
    "embed": theirs.get("d_model", 768),
    "activation": activation,
    "gated": False,
    "experts": theirs.get("num_experts", 8),
    "step": _step(theirs, "encoder", layers),
    "decoder_step": _step(theirs, "decoder", depth),
    "places": None if places == EVERYBODY else places,
    "capacity": None,
    "jitter": float(theirs.get("router_jitter_noise", 0.01)),
    "balance": theirs.get("router_aux_loss_coef", 0.001),
    "z": theirs.get("router_z_loss_coef", 0.001),
    "router_bias": theirs.get("router_bias", False),
  }


def _step(theirs: Config, side: str, layers: int) -> int:
  """One layer in how many has experts; theirs knows it from the number of those that have."""
  sparse = theirs.get(f"num_sparse_{side}_layers", 3)
  return int(theirs.get(f"{side}_sparse_step", layers // sparse if sparse else layers))


SIZES = {"feed_forward_proj": "relu", "num_heads": 12, "d_ff": 2048}


def _config(a: Arguments) -> dict[str, Any]:
  if a["gated"]:
    raise UserError(
      "SwitchTransformersForConditionalGeneration has no gated experts: a model with gated = True"
      " has no form at HuggingFace"
    )
  told = config_of(a)
  del told["feed_forward_proj"], told["scale_decoder_outputs"]
  depth = a["decoder_layers"] or a["layers"]
  step = a["step"] if a["decoder_step"] is None else a["decoder_step"]
  sparse = _sparse(a["layers"], a["step"], depth, step)
  counts = [sum(one) * (n // len(one)) for one, n in zip(sparse, (a["layers"], depth), strict=True)]
  return {
    **told, "dense_act_fn": name_of(a["activation"]), "num_experts": a["experts"],
    "num_sparse_encoder_layers": counts[0], "num_sparse_decoder_layers": counts[1],
    "encoder_sparse_step": a["step"], "decoder_sparse_step": step,
    "expert_capacity": a["places"] or EVERYBODY, "router_jitter_noise": a["jitter"],
    "router_aux_loss_coef": a["balance"], "router_z_loss_coef": a["z"],
    "router_bias": a["router_bias"], "router_dtype": "float32",
  }  # fmt: skip


def _rows(a: Arguments) -> list[Row]:
  """Those of T5 with another name of the feed-forward layer, and those of the experts."""
  rows = [
    dataclasses.replace(r, theirs=tuple(t.replace(".DenseReluDense.", ".mlp.") for t in r.theirs))
    for r in rows_of(a)
  ]
  sparse = _sparse(a["layers"], a["step"], a["decoder_layers"], a["decoder_step"])
  for name, where, place in zip(("encoder", "decoder"), sparse, (1, 2), strict=True):
    mixer = f"{name}.block.{{}}.layer.{place}.mlp"
    rows = spread(rows, f"{name}/stack", where, functools.partial(_bank, mixer, a))
  return rows


def _bank(theirs: str, a: Arguments, ours: str) -> list[Row]:
  expert = f"{theirs}.experts.expert_<>"
  each = [
    r
    for name in ("wi", "wo")
    for r in linear(f"{ours}/expert/{name}", f"{expert}.{name}", bias=False)
  ]
  router = linear(f"{ours}/router", f"{theirs}.router.classifier", bias=a["router_bias"])
  return [*router, *of_each_expert(each, a["experts"])]


HF = Published(
  "switch_transformers", ("SwitchTransformersForConditionalGeneration",), switch, _arguments,
  _config, _rows, "", IGNORED, COPIES,
)  # fmt: skip

EXAMPLES = [
  functools.partial(switch, 2, 16, 4, 8, 24, 40, 4),
  functools.partial(switch, 3, 16, 2, 4, 24, 40, 3, step=1, gated=True, decoder_step=2),
]
