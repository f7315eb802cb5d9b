"""What an expert computes: the feed-forward layer of `mtm.parts.mlp`, as a pure function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from mtm.parts.dropout import keep_mask
from mtm.parts.linear import Initializer, Spec, fan_in_of

# (rows `[..., in]`, {"kernel": ..., maybe "bias": ...}) → `[..., out]`: each row times the kernel
# of its expert. How rows and experts are laid out is the engine's business.
Product = Callable[[jax.Array, Mapping[str, jax.Array]], jax.Array]


class Expert(Protocol):
  """A frozen dataclass whose fields are its numbers; it works on each row by itself."""

  def parameters(self, embed: int) -> Mapping[str, Mapping[str, Spec]]:
    """Those of one expert: layer → `kernel`, and maybe `bias`."""

  def __call__(
    self, rows: jax.Array, weights: Mapping[str, Any], product: Product, key: jax.Array | None
  ) -> jax.Array:
    """`[..., embed]` → the same shape.

    Args:
      rows: what the experts read, in the compute dtype.
      weights: as `parameters` says, of one expert or, with a leading axis, of all: see `product`.
      product: multiplies rows with a layer's weights.
      key: for dropout; None: nothing is dropped.
    """


@dataclasses.dataclass(frozen=True)
class ExpertMlp:
  """`wo(f(wi x))`, or with a gate `wo(f(wi_0 x) · wi_1 x)`.

  Attributes:
    hidden: size of the hidden layer.
    activation: f.
    gated: whether a second, linear projection multiplies the activated one.
    bias: whether the projections have biases.
    dropout: share of the hidden layer dropped in training: "expert dropout" where it is larger than
      that of the rest (2101.03961 §2.4: 0.4).
    weight_init, out_init: kernel initialisers; None is fan-in.
  """

  hidden: int
  activation: Callable[[jax.Array], jax.Array] = jax.nn.gelu
  gated: bool = False
  bias: bool = False
  dropout: float = 0.0
  weight_init: Initializer | None = None
  out_init: Initializer | None = None

  def parameters(self, embed: int) -> Mapping[str, Mapping[str, Spec]]:
    up = ("wi_0", "wi_1") if self.gated else ("wi",)
    into = {name: self._layer(self.weight_init, ("embed", "mlp"), embed) for name in up}
    return {**into, "wo": self._layer(self.out_init, ("mlp", "embed"), embed)}

  def _layer(
    self, init: Initializer | None, axes: tuple[str, str], embed: int
  ) -> Mapping[str, Spec]:
    shape = tuple({"embed": embed, "mlp": self.hidden}[axis] for axis in axes)
    layer = {"kernel": Spec(init or fan_in_of(1), shape, axes)}
    if self.bias:
      layer["bias"] = Spec(jax.nn.initializers.zeros, shape[1:], axes[1:])
    return layer

  def __call__(
    self, rows: jax.Array, weights: Mapping[str, Any], product: Product, key: jax.Array | None
  ) -> jax.Array:
    if self.gated:
      hidden = self.activation(product(rows, weights["wi_0"])) * product(rows, weights["wi_1"])
    else:
      hidden = self.activation(product(rows, weights["wi"]))
    if key is not None and self.dropout:
      keep, probability = keep_mask(key, self.dropout, hidden.shape)
      hidden = jnp.where(keep, hidden / jnp.asarray(probability, hidden.dtype), 0)
    return product(hidden, weights["wo"])
