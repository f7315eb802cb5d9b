"""Hash layers (2106.04426): a GPT-2 in some layers of which a token's id chooses its net."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from mtm.errors import UserError
from mtm.families._experts import period_of, with_experts
from mtm.families.gpt2 import gpt2
from mtm.parts.experts.dispatch.dropless import Dropless
from mtm.parts.experts.engines import Engine
from mtm.parts.experts.layer import Experts
from mtm.parts.experts.mlp import ExpertMlp
from mtm.parts.experts.routers.hash import Hash, Random, Table
from mtm.parts.kernels import Kernel
from mtm.parts.transformer import Model


def hash_layers(
  layers: int,
  embed: int,
  heads: int,
  vocab: int,
  experts: int,
  hashed: tuple[int, ...],
  tables: tuple[Table, ...] = (Random(),),
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
  """A decoder with hash layers; arguments that are not told of here are those of `gpt2`.

  Args:
    experts: how many there are in a hashed layer, for each table.
    hashed: the numbers of those layers, of 0, 1, ...
    tables: which expert each id has; several: the hidden layer is cut in so many parts, each chosen
      by a table of its own (MultiHash).
    mlp: hidden width of the feed-forward layer and of what a token is sent to; None: 4 · embed.
    engine: that of the experts, see `Experts`.

  Raises:
    UserError: a hashed layer is not there, or the tables do not divide the hidden width.
  """
  if not set(hashed) <= set(range(layers)):
    raise UserError(f"hashed = {hashed} names a layer beyond 0 to {layers - 1}: leave it out")
  hidden = mlp or 4 * embed
  width, left = divmod(hidden, len(tables))
  if left:
    raise UserError(
      f"{len(tables)} tables do not divide the hidden width {hidden}: take mlp ="
      f" {len(tables) * (width + 1)}"
    )
  model = gpt2(
    layers, embed, heads, vocab, max_length, hidden, dropout, activation, epsilon, kernel=kernel,
    scan=scan, remat=remat, dtype=dtype,
  )  # fmt: skip
  decoder: Any = model.module
  (layer,) = decoder.decoder.stack.period
  dense = layer.channel
  expert = ExpertMlp(
    width, activation, bias=True, weight_init=dense.weight_init, out_init=dense.out_init
  )
  router, count = Hash(tables), experts * len(tables)
  make = functools.partial(Experts, count, router, expert, Dropless(), engine=engine)
  sparse = period_of(tuple(number in hashed for number in range(layers)))
  module = decoder.clone(decoder=with_experts(decoder.decoder, make, sparse))
  return dataclasses.replace(model, module=module)


EXAMPLES = [
  functools.partial(hash_layers, 3, 16, 4, 40, 3, (1,), max_length=32, mlp=24),
  functools.partial(
    hash_layers, 4, 16, 2, 40, 2, (1, 3), (Random(1), Random(2)), max_length=32, mlp=24
  ),
]
