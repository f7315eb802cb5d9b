"""The dense feed-forward channel mixer."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax

from mtm.axes import constrain
from mtm.parts.context import Aux, Context
from mtm.parts.dropout import Dropout
from mtm.parts.linear import Dense, Initializer
from mtm.parts.remat import named


class Mlp(nn.Module):
  """`wo(f(wi x))`, or with a gate `wo(f(wi_0 x) · wi_1 x)` (Shazeer, 2002.05202).

  Attributes:
    hidden: size of the hidden layer.
    activation: f.
    gated: whether a second, linear projection multiplies the activated one.
    bias: whether the projections have biases.
    dropout: share of the hidden layer dropped in training.
    weight_init, out_init: kernel initialisers; None is fan-in.
  """

  hidden: int
  activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu
  gated: bool = False
  bias: bool = False
  dropout: float = 0.0
  weight_init: Initializer | None = None
  out_init: Initializer | None = None

  @nn.compact
  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → the same shape."""

    def up(name: str) -> jax.Array:
      wide = Dense(
        (self.hidden,), ("embed", "mlp"), bias=self.bias, weight_init=self.weight_init, name=name
      )
      return named(wide(x_BLD), "hidden")

    if self.gated:
      h_BLF = self.activation(up("wi_0")) * up("wi_1")
    else:
      h_BLF = self.activation(up("wi"))
    h_BLF = constrain(h_BLF, "batch", "length", "mlp")
    h_BLF = Dropout(self.dropout)(h_BLF, context.train)
    out = Dense(
      (x_BLD.shape[-1],), ("mlp", "embed"), bias=self.bias, weight_init=self.out_init, name="wo"
    )
    return out(h_BLF), Aux()
