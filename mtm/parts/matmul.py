"""How dense layers multiply: as XLA does, or in eight bits.

A `Dense` asks `active()` for its matmul. `Model.matmul` sets it for a whole model, so that no part
has a field for it; embeddings, heads, attention scores, routers and experts stay as they are.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from mtm.errors import UserError, nearest


class Matmul(Protocol):
  """Called within a `Dense`: `(x [..., *inputs], kernel [*inputs, *features], inputs) →
  [..., *features]`, where `inputs` says how many axes are contracted; differentiable in both."""

  def __call__(self, x: jax.Array, kernel: jax.Array, inputs: int) -> jax.Array: ...


_ACTIVE: contextvars.ContextVar[Matmul | None] = contextvars.ContextVar("matmul", default=None)


@contextlib.contextmanager
def use(matmul: Matmul | None) -> Iterator[None]:
  """Within it, dense layers multiply by `matmul`; None: as XLA does."""
  token = _ACTIVE.set(matmul)
  try:
    yield
  finally:
    _ACTIVE.reset(token)


def active() -> Matmul | None:
  """The matmul that dense layers are to use."""
  return _ACTIVE.get()


KINDS = ("int8", "int4", "float8_e4m3fn", "float8_e5m2")


@dataclasses.dataclass(frozen=True)
class Quantized:
  """Multiplies in few bits, by qwix, with one scale a row and a column (absmax).

  The weights that are trained keep their precision: they are rounded anew at each use, and the
  gradient passes the rounding unchanged (straight through, 1308.3432).

  Attributes:
    weights, activations: of `KINDS`; None: not quantized.
    gradients: what incoming gradients are rounded to, so that both products of the backward pass
      are quantized too; None: they are computed as XLA does.

  Raises:
    UserError: a type that is none of `KINDS`, or qwix is not installed.
  """

  weights: str | None = "int8"
  activations: str | None = "int8"
  gradients: str | None = "int8"

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      kind = getattr(self, field.name)
      if kind is not None and kind not in KINDS:
        raise UserError(
          f"matmul: {field.name} = {kind!r} is no quantized type{nearest(str(kind), KINDS)};"
          f" there are {', '.join(KINDS)}, and None"
        )
    self._provider()

  def __call__(self, x: jax.Array, kernel: jax.Array, inputs: int) -> jax.Array:
    contracted = tuple(range(x.ndim - inputs, x.ndim)), tuple(range(inputs))
    with warnings.catch_warnings():  # qwix asks Flax for a name that Flax has retired
      warnings.filterwarnings("ignore", message="'VariableState' was removed")
      out = self._provider().dot_general(x, kernel, (contracted, ((), ())))
    return jnp.asarray(out, x.dtype)

  def _provider(self) -> Any:
    try:
      import qwix
    except ImportError:
      raise UserError(
        'matmuls in few bits need qwix, which is not installed: pip install "mtm[quant]"'
      ) from None
    rule = qwix.QtRule(
      module_path=".*", weight_qtype=self.weights, act_qtype=self.activations,
      bwd_qtype=self.gradients,
    )  # fmt: skip
    return qwix.QtProvider([rule])
