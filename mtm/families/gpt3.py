"""GPT-3 (2005.14165): a GPT-2 of which every other layer sees a band of what came before."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.errors import UserError
from mtm.families.gpt2 import gpt2
from mtm.parts.attention import head_width
from mtm.parts.kernels import Kernel
from mtm.parts.patterns import Pattern
from mtm.parts.patterns.causal import Causal
from mtm.parts.patterns.published import banded
from mtm.parts.stack import Block
from mtm.parts.transformer import Model


def gpt3(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  max_length: int = 2048,
  band: int = 256,
  mlp: int | None = None,
  head_dim: int | None = None,
  dropout: float = 0.0,
  activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu,
  epsilon: float = 1e-5,
  kernel: Kernel | str | None = None,
  scan: bool = True,
  remat: Callable[..., bool] | None = None,
  dtype: Any = "float32",
) -> Model:
  """A GPT-3: layers 0, 2, ... see all that came before, layers 1, 3, ... a band of it.

  The paper says that dense and locally banded layers alternate, but neither how wide the band is
  nor which comes first. Arguments that are not told of here are those of `gpt2`.

  Args:
    layers: number of layers, even.
    band: how many tokens a banded layer sees, the query's own among them.
    head_dim: features of a head; None: embed / heads. In the paper's table 2.1 the heads of 1.3B
      and 13B are not as wide.

  Raises:
    UserError: `layers` is odd, or `band` is less than 1.
  """
  if layers % 2:
    raise UserError(
      f"layers = {layers} is odd, and GPT-3's come in pairs of a dense and a banded one: take"
      f" {layers + 1}"
    )
  if band < 1:
    raise UserError(f"band = {band}: a band of at least 1 token shows the query itself")
  width = head_dim or head_width(embed, heads)
  model = gpt2(
    layers, embed, 1, vocab, max_length,  # its heads divide its width; those of the paper need not
    mlp=mlp, dropout=dropout, activation=activation, epsilon=epsilon, kernel=kernel, scan=scan,
    remat=remat, dtype=dtype,
  )  # fmt: skip
  tower: Any = model.module.decoder
  (layer,) = tower.stack.period

  def block(pattern: Pattern) -> Block:
    mixer = layer.mixer.clone(heads=heads, head_dim=width, pattern=pattern)
    return layer.clone(mixer=mixer, channel=layer.channel.clone())

  period = (block(Causal()), block(banded(band)))
  tower = tower.clone(stack=tower.stack.clone(period=period, repeats=layers // 2))
  return dataclasses.replace(model, module=model.module.clone(decoder=tower))


EXAMPLES = [functools.partial(gpt3, 4, 16, 4, 40, max_length=32, mlp=24, band=3)]
