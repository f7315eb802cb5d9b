"""Dense and Embed: the only place that declares parameters, their initialisers and their axes.

A part computes in the dtype of its input; `mtm.parts.transformer.Model` casts the parameters once,
so mixed precision is a matter of the whole model and no part carries a dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm import axes
from mtm.parts import matmul

Initializer = Callable[..., jax.Array]

FEW = 64  # a matmul with this many times fewer rows on one side than on the other is a few vectors

fan_in: Initializer = jax.nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


def normal(stddev: float) -> Initializer:
  """Gaussian initialiser with this standard deviation, the same for every shape."""
  return jax.nn.initializers.normal(stddev)


def fan_in_of(contracted: int, scale: float = 1.0) -> Initializer:
  """Truncated normal with variance `scale` / (size of the first `contracted` axes).

  `jax`'s own fan-in takes the last but one axis only, which is wrong for a kernel such as
  `[heads, head_dim, embed]`.
  """

  def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    fan = 1
    for size in shape[:contracted]:
      fan *= size
    # The constant restores the variance that truncation at two deviations takes away.
    stddev = (scale / fan) ** 0.5 / 0.87962566103423978
    return stddev * jax.random.truncated_normal(key, -2, 2, shape, dtype)

  return init


def each(init: Initializer) -> Initializer:
  """`init` for every one along a leading axis, which is no fan-in: `[experts, ...]`."""

  def many(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    keys = jax.random.split(key, shape[0])
    return jax.vmap(lambda one: init(one, shape[1:], dtype))(keys)

  return many


def declare(
  module: nn.Module,
  name: str,
  init: Initializer,
  shape: tuple[int, ...],
  names: tuple[str | None, ...],
) -> jax.Array:
  """Declares a float32 parameter of `module` with a logical axis name for each dimension."""
  axes.check(names, len(shape), f"parameter {name!r}")
  boxed: Any = nn.with_partitioning(init, names)  # Linen unboxes it
  return module.param(name, boxed, shape, jnp.float32)


class Spec(NamedTuple):
  """A parameter that is yet to be declared.

  Attributes:
    init: its initialiser.
    shape: its shape.
    axes: a logical axis name for each dimension, or None where it stays whole.
  """

  init: Initializer
  shape: tuple[int, ...]
  axes: tuple[str | None, ...]


class Parameters(nn.Module):
  """Declares the parameters of a pure function: a tree of `Spec`s → the same tree of arrays.

  Attributes:
    specs: name → `Spec`, or a mapping of such.
  """

  specs: Mapping[str, Any]

  @nn.compact
  def __call__(self) -> dict[str, Any]:
    return {
      name: declare(self, name, *spec) if isinstance(spec, Spec) else Parameters(spec, name=name)()
      for name, spec in self.specs.items()
    }


class Dense(nn.Module):
  """Contracts the last axes of `x` with a kernel: `[..., *inputs] → [..., *features]`.

  Attributes:
    features: sizes of the output axes.
    axes: logical names of the kernel's axes, inputs first.
    contract: how many trailing axes of `x` are inputs.
    bias: whether to add a bias of shape `features`.
    weight_init: kernel initialiser; None is a fan-in truncated normal.
  """

  features: tuple[int, ...]
  axes: tuple[str, ...]
  contract: int = 1
  bias: bool = False
  weight_init: Initializer | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    inputs = x.shape[x.ndim - self.contract :]
    init = self.weight_init or fan_in_of(self.contract)
    kernel = declare(self, "kernel", init, inputs + tuple(self.features), tuple(self.axes))
    y = (matmul.active() or _dense)(x, kernel.astype(x.dtype), self.contract)
    if self.bias:
      names = tuple(self.axes[self.contract :])
      bias = declare(self, "bias", jax.nn.initializers.zeros, tuple(self.features), names)
      y = y + jnp.expand_dims(bias.astype(x.dtype), tuple(range(y.ndim - bias.ndim)))
    return y


def _product(x: jax.Array, kernel: jax.Array, contract: int) -> jax.Array:
  contracted = tuple(range(x.ndim - contract, x.ndim)), tuple(range(contract))
  return jax.lax.dot_general(x, kernel, (contracted, ((), ())))


_dense = jax.custom_vjp(_product, nondiff_argnums=(2,))


def _dense_forward(x: jax.Array, kernel: jax.Array, contract: int):
  # Not `_dense`: policies of recomputation look for products, and do not look into it.
  return _product(x, kernel, contract), (x, kernel)


def _dense_backward(contract: int, saved: tuple[jax.Array, jax.Array], g: jax.Array):
  x, kernel = saved
  # Without the barrier XLA computes what led to `g` twice, once in transposed order.
  x, g = jax.lax.optimization_barrier((x, g))
  features = kernel.ndim - contract
  over = tuple(range(g.ndim - features, g.ndim)), tuple(range(contract, kernel.ndim))
  return jax.lax.dot_general(g, kernel, (over, ((), ()))), _weight_gradient(x, g, contract)


_dense.defvjp(_dense_forward, _dense_backward)


def _weight_gradient(x: jax.Array, g: jax.Array, inputs: int) -> jax.Array:
  """The gradient of a kernel, summed over the leading axes: `[*inputs, *features]`.

  XLA's CPU matmul transposes its left operand in memory and is slow where its result has to be
  transposed too: so the narrower side stands left, and the barrier keeps XLA from swapping them.

  Args:
    x: `[..., *inputs]`.
    g: `[..., *features]`.
    inputs: how many axes `x` does not share with `g`.
  """
  shared = tuple(range(x.ndim - inputs))
  dimensions = ((shared, shared), ((), ()))
  if x.size <= g.size:
    return jax.lax.optimization_barrier(jax.lax.dot_general(x, g, dimensions))
  d_kernel = jax.lax.optimization_barrier(jax.lax.dot_general(g, x, dimensions))
  features = d_kernel.ndim - inputs
  return d_kernel.transpose(*range(features, d_kernel.ndim), *range(features))


class Embed(nn.Module):
  """A table of vectors, looked up by id; also the tied output layer.

  Attributes:
    vocab: number of rows.
    features: size of a vector.
    axes: logical names of the table's axes.
    weight_init: initialiser of the table.
  """

  vocab: int
  features: int
  axes: tuple[str, str] = ("vocab", "embed")
  weight_init: Initializer = normal(1.0)

  def setup(self) -> None:
    self.embedding = declare(
      self, "embedding", self.weight_init, (self.vocab, self.features), tuple(self.axes)
    )

  def __call__(self, ids: jax.Array) -> jax.Array:
    """`[...]` int32 in `[0, vocab)` → `[..., features]`, by gather (one-hot costs FLOPs)."""
    # A table cut along `embed` is gathered whole once, not looked up in pieces.
    table = axes.constrain(self.embedding, self.axes[0], "embed")
    return jnp.take(table, ids, axis=0, mode="clip")

  def attend(self, x: jax.Array) -> jax.Array:
    """`x @ table.T`: `[..., features]` → `[..., vocab]`, in the dtype of `x`."""
    if self.has_variable("params", _TURNED):
      return x @ self.get_variable("params", _TURNED).astype(x.dtype)
    return _attend(x, self.embedding.astype(x.dtype))

  @nn.nowrap
  def prepare(self, params: Mapping[str, Any]) -> dict[str, Any]:
    """See `Model.prepare`, where `attend` gives the logits: on CPU the turned table lies beside the
    other one, so that every step of decoding multiplies by it as it lies."""
    if _TURNED in params or not axes.is_for("cpu"):
      return dict(params)
    return {**params, _TURNED: jnp.swapaxes(params["embedding"], 0, 1)}


_TURNED = "turned"  # `[features, vocab]`


@jax.custom_vjp
def _attend(x: jax.Array, table: jax.Array) -> jax.Array:
  if x.size < table.size // FEW:  # in decoding: the table stands left, else it is transposed
    return jnp.moveaxis(jnp.einsum("vd,...d->v...", table, x), 0, -1)
  return jnp.einsum("...d,vd->...v", x, table)


def _attend_forward(x: jax.Array, table: jax.Array):
  return _attend(x, table), (x, table)


def _attend_backward(saved: tuple[jax.Array, jax.Array], g: jax.Array):
  x, table = saved
  d_table = jnp.swapaxes(_weight_gradient(x, g, 1), 0, 1)
  return jnp.einsum("...v,vd->...d", g, table), d_table


_attend.defvjp(_attend_forward, _attend_backward)
