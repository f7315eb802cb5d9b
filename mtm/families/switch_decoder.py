"""A decoder with Switch layers (2101.03961): a LLaMA of which one layer in two has experts.

The paper's models are encoder-decoders, see `switch`; this is its idea in a language model, with as
many FLOPs a token as the LLaMA of the same sizes.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.families._experts import dispatch_of, one_in, with_experts
from mtm.families.llama import llama
from mtm.parts.experts.engines import Engine
from mtm.parts.experts.layer import Experts
from mtm.parts.experts.mlp import ExpertMlp
from mtm.parts.experts.routers.switch import Switch
from mtm.parts.kernels import Kernel
from mtm.parts.linear import normal
from mtm.parts.transformer import Model


def switch_decoder(
  layers: int,
  embed: int,
  heads: int,
  mlp: int,
  vocab: int,
  experts: int,
  step: int = 2,
  capacity: float | None = 1.25,
  eval_capacity: float | None = None,
  jitter: float = 0.01,
  balance: float = 0.01,
  z: float = 0.001,
  group: int | None = None,
  tied: bool = True,
  dropout: float = 0.0,
  expert_dropout: float | None = None,
  kernel: Kernel | str | None = None,
  engine: Engine | str = "auto",
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A decoder with Switch layers; arguments that are not told of here are those of `llama`.

  Args:
    mlp: hidden width of the gated feed-forward layer and of each expert.
    experts: how many there are in a layer that has them.
    step: the second of so many layers has experts; 1: each has.
    capacity: places of all experts in training, as a multiple of a group's tokens; who finds none
      is passed on as it is. None: nobody is dropped.
    eval_capacity: the same outside training.
    jitter, balance, z: see the router `Switch`.
    group: tokens that share places; None: those of a row.
    expert_dropout: share of an expert's hidden layer dropped in training; None: `dropout`.
    engine: that of the experts, see `Experts`.
  """
  model = llama(
    layers, embed, heads, mlp, vocab, tied=tied, dropout=dropout, kernel=kernel, scan=scan,
    remat=remat, dtype=dtype,
  )  # fmt: skip
  init = normal(0.02)
  expert = ExpertMlp(
    mlp, jax.nn.silu, gated=True, dropout=dropout if expert_dropout is None else expert_dropout,
    weight_init=init, out_init=init,
  )  # fmt: skip
  places = dispatch_of(capacity, None), dispatch_of(eval_capacity, None)
  make = functools.partial(
    Experts, experts, Switch(jitter, balance, z), expert, *places, engine, group
  )
  module: Any = model.module
  tower = with_experts(module.decoder, make, one_in(step, layers))
  return dataclasses.replace(model, module=module.clone(decoder=tower))


EXAMPLES = [functools.partial(switch_decoder, 2, 16, 4, 24, 40, 4)]
