"""GShard (2006.16668): an encoder-decoder of which every other layer has experts, two a token."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.families._experts import dispatch_of, one_in, with_experts
from mtm.families.t5 import t5
from mtm.parts.experts.engines import Engine
from mtm.parts.experts.layer import Experts
from mtm.parts.experts.mlp import ExpertMlp
from mtm.parts.experts.routers.topk import AtRandom, Policy, TopK
from mtm.parts.kernels import Kernel
from mtm.parts.linear import fan_in_of
from mtm.parts.transformer import Model


def gshard(
  layers: int,
  embed: int,
  heads: int,
  head_dim: int,
  mlp: int,
  vocab: int,
  experts: int,
  decoder_layers: int | None = None,
  chosen: int = 2,
  later: Policy = AtRandom(),  # noqa: B008 (frozen)
  capacity: float | None = 2.0,
  eval_capacity: float | None = None,
  balance: float = 0.01,
  group: int | None = None,
  dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
  tied: bool = True,
  kernel: Kernel | str | None = None,
  engine: Engine | str = "auto",
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A GShard: layers 1, 3, ... of both sides have experts where the others have one net.

  The paper does not say how positions are told; norms, positions and the head are here those of
  `t5`, as are the arguments that are not told of.

  Args:
    mlp: hidden width of the feed-forward layer and of each expert.
    experts: how many there are in a layer that has them.
    chosen: how many of them a token has.
    later: which of its choices after the first hold, see `TopK`.
    capacity: places of all experts in training, as a multiple of a group's tokens; who finds none
      is passed on as it is. None: nobody is dropped.
    eval_capacity: the same outside training.
    balance: weight of the loss that keeps the load even.
    group: tokens that share places; None: those of a row.
    engine: that of the experts, see `Experts`.
  """
  model = t5(
    layers, embed, heads, head_dim, mlp, vocab, dropout, activation, False, tied, kernel,
    decoder_layers=decoder_layers, scan=scan, remat=remat, dtype=dtype,
  )  # fmt: skip
  init = fan_in_of(1)
  router = TopK(chosen, later, balance=balance)
  expert = ExpertMlp(mlp, activation, dropout=dropout, weight_init=init, out_init=init)
  places = dispatch_of(capacity, None), dispatch_of(eval_capacity, None)
  both: Any = model.module

  def sparse(tower: Any) -> Any:
    make = functools.partial(Experts, experts, router, expert, *places, engine, group)
    return with_experts(tower, make, one_in(2, tower.stack.repeats))

  module = both.clone(encoder=sparse(both.encoder), decoder=sparse(both.decoder))
  return dataclasses.replace(model, module=module)


EXAMPLES = [functools.partial(gshard, 2, 16, 4, 8, 24, 40, 4, decoder_layers=3)]
