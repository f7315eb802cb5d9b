"""Mixtral (2401.04088): a LLaMA in which each token has the best two of eight gated experts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.errors import UserError
from mtm.families._experts import dispatch_of, spread, with_experts
from mtm.families._names import Joined, Row, Swapped, Transposed, linear, of_each_expert, row
from mtm.families._published import Arguments, Config, Published
from mtm.families.llama import COPIES, IGNORED, arguments_of, config_of, llama, rows_of
from mtm.parts.experts.engines import Engine
from mtm.parts.experts.layer import Experts
from mtm.parts.experts.mlp import ExpertMlp
from mtm.parts.experts.routers.topk import TopK, every_choice
from mtm.parts.kernels import Kernel
from mtm.parts.linear import normal
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.window import Window
from mtm.parts.transformer import Model


def mixtral(
  layers: int,
  embed: int,
  heads: int,
  mlp: int,
  vocab: int,
  kv_heads: int | None = None,
  experts: int = 8,
  chosen: int = 2,
  capacity: float | None = None,
  eval_capacity: float | None = None,
  balance: float = 0.02,
  z: float = 0.0,
  window: int | None = None,
  rope_base: float = 1e6,
  tied: bool = False,
  epsilon: float = 1e-5,
  dropout: float = 0.0,
  kernel: Kernel | str | None = None,
  engine: Engine | str = "auto",
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A Mixtral; arguments that are not told of here are those of `llama`.

  Args:
    mlp: hidden width of each expert.
    experts: how many there are in each layer.
    chosen: how many of them a token has; their weights are made to add up to 1.
    capacity: places of all experts in training, as a multiple of a row's tokens; None: nobody is
      dropped.
    eval_capacity: the same outside training.
    balance: weight of the loss that keeps the load even; all `chosen` count.
    z: weight of the router's z-loss.
    window: how many tokens a query sees, itself and those just before; None: all.
    engine: that of the experts, see `Experts`.

  Raises:
    UserError: the window shows nothing.
  """
  if window is not None and window < 1:
    raise UserError(f"window = {window}: a window of at least 1 token shows the query itself")
  model = llama(
    layers, embed, heads, mlp, vocab, kv_heads, rope_base, tied, epsilon,
    Causal() if window is None else Causal() & Window(window - 1, 0),
    dropout=dropout, kernel=kernel, scan=scan, remat=remat, dtype=dtype,
  )  # fmt: skip
  router = TopK(chosen, every_choice, counted=chosen, balance=balance, z=z)
  init = normal(0.02)
  expert = ExpertMlp(mlp, jax.nn.silu, gated=True, weight_init=init, out_init=init)

  def make() -> Experts:
    return Experts(
      experts, router, expert, dispatch_of(capacity, None), dispatch_of(eval_capacity, None), engine
    )

  module: Any = model.module
  tower = with_experts(module.decoder, make, (True,))
  return dataclasses.replace(model, module=module.clone(decoder=tower))


SIZES = {"intermediate_size": 14336, "rms_norm_eps": 1e-5, "rope_theta": 1e6}


def _arguments(theirs: Config) -> Arguments:
  theirs.expect("router_jitter_noise", 0.0)  # theirs multiplies what the experts read, too
  theirs.ignore("output_router_logits")
  told = arguments_of(theirs, SIZES)
  if theirs.values.get("num_key_value_heads", told["kv_heads"]) is None:
    kv_heads = told["heads"]
  else:
    kv_heads = theirs.get("num_key_value_heads", 8)
  return {
    **told,
    "kv_heads": kv_heads,
    "experts": theirs.get("num_local_experts", 8),
    "chosen": theirs.get("num_experts_per_tok", 2),
    "balance": theirs.get("router_aux_loss_coef", 0.001),
    "window": theirs.get("sliding_window", None),
  }


def _config(a: Arguments) -> dict[str, Any]:
  return {
    **config_of(a), "num_local_experts": a["experts"], "num_experts_per_tok": a["chosen"],
    "router_aux_loss_coef": a["balance"], "sliding_window": a["window"],
  }  # fmt: skip


def _table(bank: Callable[[Arguments, str], list[Row]], a: Arguments) -> list[Row]:
  return spread(rows_of(a), "decoder/stack", (True,), functools.partial(bank, a))


def _apart(a: Arguments, ours: str) -> list[Row]:
  """As checkpoints are published: three tensors for each expert."""
  theirs = "model.layers.{}.block_sparse_moe"
  each = [
    r
    for name, number in (("wi_0", 1), ("wi_1", 3), ("wo", 2))
    for r in linear(f"{ours}/expert/{name}", f"{theirs}.experts.<>.w{number}", bias=False)
  ]
  router = linear(f"{ours}/router", f"{theirs}.gate", bias=False)
  return [*router, *of_each_expert(each, a["experts"])]


def _together(a: Arguments, ours: str) -> list[Row]:
  """As transformers 5 holds them: two tensors for all experts."""
  del a
  theirs, up = "model.layers.{}.mlp", ("wi_0", "wi_1")
  return [
    row(f"{ours}/router/kernel", f"{theirs}.gate.weight", Transposed()),
    Row(
      tuple(f"{ours}/expert/{name}/kernel" for name in up),
      (f"{theirs}.experts.gate_up_proj",),
      Joined(2, 1, Swapped()),
    ),
    row(f"{ours}/expert/wo/kernel", f"{theirs}.experts.down_proj", Swapped()),
  ]


HF = Published(
  "mixtral", ("MixtralForCausalLM",), mixtral, _arguments, _config,
  functools.partial(_table, _apart), "model.", IGNORED, COPIES,
  others=(functools.partial(_table, _together),),
)  # fmt: skip

EXAMPLES = [
  functools.partial(mixtral, 2, 16, 4, 24, 40, experts=4),
  functools.partial(mixtral, 2, 16, 4, 24, 40, kv_heads=2, experts=3, window=3),
]
