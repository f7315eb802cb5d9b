"""DEMix (2108.05036): a GPT-2 whose feed-forward layers are one net for each domain of the data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.families._experts import with_experts
from mtm.families.gpt2 import gpt2
from mtm.parts.experts.dispatch.dropless import Dropless
from mtm.parts.experts.engines import Engine
from mtm.parts.experts.layer import Experts
from mtm.parts.experts.mlp import ExpertMlp
from mtm.parts.experts.routers.domain import Domain
from mtm.parts.kernels import Kernel
from mtm.parts.transformer import Model


def demix(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  domains: int = 8,
  max_length: int = 1024,
  mlp: int | None = None,
  dropout: float = 0.1,
  activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
  epsilon: float = 1e-5,
  kernel: Kernel | str | None = None,
  engine: Engine | str = "auto",
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A DEMix; arguments that are not told of here are those of `gpt2`.

  A batch says of each token in `decoder_domain`, `[batch, length]` or `[batch, 1]`, which domain it
  is of; one that is none of them passes the feed-forward layers as it is.

  Args:
    domains: how many there are, each with an expert in every layer.
    mlp: hidden width of each; None: 4 · embed.
    engine: that of the experts, see `Experts`.
  """
  model = gpt2(
    layers, embed, heads, vocab, max_length, mlp, dropout, activation, epsilon, kernel=kernel,
    scan=scan, remat=remat, dtype=dtype,
  )  # fmt: skip
  decoder: Any = model.module
  (layer,) = decoder.decoder.stack.period
  dense = layer.channel
  expert = ExpertMlp(
    dense.hidden, activation, bias=True, weight_init=dense.weight_init, out_init=dense.out_init
  )
  make = functools.partial(Experts, domains, Domain(), expert, Dropless(), engine=engine)
  module = decoder.clone(decoder=with_experts(decoder.decoder, make, (True,)))
  return dataclasses.replace(model, module=module, inputs=(*model.inputs, "decoder_domain"))


EXAMPLES = [functools.partial(demix, 2, 16, 4, 40, 2, max_length=32, mlp=24)]
