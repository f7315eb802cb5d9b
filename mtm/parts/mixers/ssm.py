"""Selective state spaces (Mamba, 2312.00752): a recurrence whose steps depend on the token.

Letters beyond those of `mtm.axes`: F is the inner width (`mlp`), K the state of a feature
(`head_dim`), W the taps of the convolution.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtm.axes import constrain
from mtm.errors import UserError
from mtm.parts.context import Aux, Context
from mtm.parts.linear import Dense, Initializer, declare
from mtm.types import BEYOND

STEP_FLOOR = 1e-4  # no fresh step is shorter

# The original's: uniform with the variance 1 / (3 · inputs), torch's for a dense layer.
uniform: Initializer = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Memory(NamedTuple):
  """What a layer remembers of the tokens before: the convolution's last inputs
  `[batch, taps − 1, width]`, and the state `[batch, width, state]` in float32."""

  inputs: jax.Array
  state: jax.Array


class SelectiveSSM(nn.Module):
  """Mamba's mixer: a gated causal convolution and a selective scan, with `width` features each of
  which has a state of its own.

  A document of a packed row begins with an empty state and nothing to convolve. Padding is passed
  over, wherever it stands: the token after it follows the one before it. The scan runs in float32.

  Attributes:
    width: inner features.
    rank: of the projection that gives each feature its step.
    state: size of a feature's state.
    taps: tokens that the convolution reads, the token itself included.
    bias: whether the projections in and out have biases.
    conv_bias: whether the convolution has one.
    weight_init: initialiser of the projections and the convolution.
    out_init: of the projection out; None: `weight_init`.
    steps: fresh parameters give steps between these two, evenly in their logarithms.
    chunk: tokens scanned at once; the backward pass keeps one state for each chunk.
  """

  width: int
  rank: int
  state: int = 16
  taps: int = 4
  bias: bool = False
  conv_bias: bool = True
  weight_init: Initializer = uniform
  out_init: Initializer | None = None
  steps: tuple[float, float] = (0.001, 0.1)
  chunk: int = 64

  @nn.compact
  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Aux]:
    """`[batch, length, embed]` → the same shape, and the `Memory` after these tokens.

    Raises:
      UserError: the batch has a bidirectional prefix.
    """
    labels = context.labels
    if "prefix" in labels:
      raise UserError(
        "a state space reads from left to right and cannot see a prefix in both directions: take"
        " another objective (objectives/causal_lm.gin), or a model with attention"
      )
    order = _order(context)
    x_BLD = order.sorted(x_BLD)
    memory = context.cache
    if memory is None:
      memory = self.empty_cache(x_BLD.shape[0], 0, 0, x_BLD.dtype)
    x_BLF, gate_BLF = self._project(x_BLD, "input"), self._project(x_BLD, "gate")
    seen_BTF = jnp.concatenate([memory.inputs.astype(x_BLF.dtype), x_BLF], axis=1)
    x_BLF = jax.nn.silu(self._convolve(seen_BTF, order)).astype(x_BLF.dtype)
    y_BLF, state_BFK = self._scan(x_BLF, order, memory.state)
    y_BLF = (y_BLF * jax.nn.silu(gate_BLF.astype(jnp.float32))).astype(x_BLF.dtype)
    y_BLF = constrain(y_BLF, "batch", "length", "mlp")
    out = Dense(
      (x_BLD.shape[-1],), ("mlp", "embed"), bias=self.bias,
      weight_init=self.out_init or self.weight_init, name="out",
    )  # fmt: skip
    y_BLD = order.restored(out(y_BLF))
    if context.cache is None:
      return y_BLD, Aux()
    last_BWF = order.last(seen_BTF, self.taps - 1).astype(memory.inputs.dtype)
    return y_BLD, Aux(Memory(last_BWF, state_BFK))

  def _project(self, x_BLD: jax.Array, name: str) -> jax.Array:
    axes, init = ("embed", "mlp"), self.weight_init
    dense = Dense((self.width,), axes, bias=self.bias, weight_init=init, name=name)
    return constrain(dense(x_BLD), "batch", "length", "mlp")

  def _convolve(self, seen_BTF: jax.Array, order: _Order) -> jax.Array:
    """The convolution of each feature over `taps` tokens, in float32: `taps − 1` tokens fewer."""
    shape = (self.taps, self.width)
    kernel_WF = declare(self, "conv_kernel", self.weight_init, shape, ("head_dim", "mlp"))
    length = seen_BTF.shape[1] - self.taps + 1
    total = jnp.zeros((), jnp.float32)
    for tap in range(self.taps):
      x_BLF = seen_BTF[:, tap : tap + length].astype(jnp.float32)
      if order.document_BL is not None:
        before = order.document_BL[:, : max(length - self.taps + 1 + tap, 0)]
        before = jnp.pad(before, ((0, 0), (length - before.shape[1], 0)), constant_values=-1)
        x_BLF = jnp.where((before == order.document_BL)[..., None], x_BLF, 0.0)
      total = total + x_BLF * kernel_WF[tap].astype(jnp.float32)[None, None]
    if self.conv_bias:
      bias = declare(self, "conv_bias", jax.nn.initializers.zeros, (self.width,), ("mlp",))
      total = total + bias.astype(jnp.float32)[None, None]
    return total

  def _scan(
    self, x_BLF: jax.Array, order: _Order, state_BFK: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """What the states say of each token, float32, and the last state."""
    init, rank = self.weight_init, self.rank
    choose = Dense((rank + 2 * self.state,), ("mlp", "head_dim"), weight_init=init, name="choose")
    low_BLR, b_BLK, c_BLK = jnp.split(choose(x_BLF), (rank, rank + self.state), axis=-1)
    step = Dense((self.width,), ("head_dim", "mlp"), weight_init=init, name="step")
    bias = declare(self, "step_bias", _fresh_steps(*self.steps), (self.width,), ("mlp",))
    step_BLF = step(low_BLR).astype(jnp.float32) + bias.astype(jnp.float32)[None, None]
    step_BLF = jax.nn.softplus(constrain(step_BLF, "batch", "length", "mlp"))
    if order.real_BL is not None:  # a step of no time leaves the state as it is
      step_BLF = jnp.where(order.real_BL[..., None], step_BLF, 0.0)
    shape = (self.width, self.state)
    log_FK = declare(self, "decay_log", _fresh_decays, shape, ("mlp", "head_dim"))
    skip = declare(self, "skip", jax.nn.initializers.ones, (self.width,), ("mlp",))
    wide = [x.astype(jnp.float32) for x in (x_BLF, b_BLK, c_BLK)]
    decay_FK = -jnp.exp(log_FK.astype(jnp.float32))
    tokens = Tokens(wide[0], step_BLF, wide[1], wide[2], order.starts_BL())
    y_BLF, state_BFK = selective_scan(decay_FK, tokens, state_BFK, self.chunk)
    return y_BLF + wide[0] * skip.astype(jnp.float32)[None, None], state_BFK

  @nn.nowrap
  def empty_cache(self, batch: int, length: int, source_length: int, dtype: Any) -> Memory:
    """The memory of no token; it does not grow with `length`."""
    del length, source_length
    inputs = jnp.zeros((batch, self.taps - 1, self.width), dtype)
    return Memory(inputs, jnp.zeros((batch, self.width, self.state), jnp.float32))


class Tokens(NamedTuple):
  """What a scan reads of each token.

  Attributes:
    x_BLF: its features.
    step_BLF: the time that passes for each of them, at least 0.
    b_BLK: where in the state features are written.
    c_BLK: how the state is read.
    start_BL: whether the state is emptied before the token; None: never.
  """

  x_BLF: jax.Array
  step_BLF: jax.Array
  b_BLK: jax.Array
  c_BLK: jax.Array
  start_BL: jax.Array | None = None


def selective_scan(
  decay_FK: jax.Array, tokens: Tokens, state_BFK: jax.Array, chunk: int
) -> tuple[jax.Array, jax.Array]:
  """h[t] = exp(step[t] · decay) · h[t−1] + step[t] · x[t] · b[t]; y[t] = ⟨h[t], c[t]⟩, in float32.

  The states of a whole sequence would take `state` times the memory of its features: they exist
  for one chunk at a time, and are computed again in the backward pass.

  Args:
    decay_FK: negative.
    tokens: of `[batch, length]`.
    state_BFK: the state before them.
    chunk: tokens whose states are in memory at once.

  Returns:
    y `[batch, length, width]` and the last state.
  """
  length = tokens.x_BLF.shape[1]
  one = functools.partial(_scan_chunk, decay_FK)
  if length <= chunk:
    state_BFK, y_BLF = one(state_BFK, tokens)
    return y_BLF, state_BFK

  def cut(x: jax.Array) -> jax.Array:
    """`[batch, length, ...]` → `[chunks, batch, chunk, ...]`; zeros behind are steps of no time."""
    x = jnp.pad(x, ((0, 0), (0, -length % chunk)) + ((0, 0),) * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(x.shape[0], -1, chunk, *x.shape[2:]), 1, 0)

  scanned = jax.checkpoint(one, prevent_cse=False)
  state_BFK, y_CBLF = jax.lax.scan(scanned, state_BFK, jax.tree.map(cut, tokens))
  y_BLF = jnp.moveaxis(y_CBLF, 0, 1).reshape(y_CBLF.shape[1], -1, y_CBLF.shape[-1])
  return y_BLF[:, :length], state_BFK


def _scan_chunk(
  decay_FK: jax.Array, state_BFK: jax.Array, tokens: Tokens
) -> tuple[jax.Array, jax.Array]:
  """The last state and y of a few tokens."""
  keep_BLFK = jnp.exp(tokens.step_BLF[..., None] * decay_FK[None, None])
  if tokens.start_BL is not None:
    keep_BLFK = jnp.where(tokens.start_BL[..., None, None], 0.0, keep_BLFK)
  add_BLFK = (tokens.step_BLF * tokens.x_BLF)[..., None] * tokens.b_BLK[:, :, None]
  kept, added = jax.lax.associative_scan(_both, (keep_BLFK, add_BLFK), axis=1)
  states_BLFK = kept * state_BFK[:, None] + added
  # Not a matmul: an accelerator would round its operands.
  return states_BLFK[:, -1], jnp.sum(states_BLFK * tokens.c_BLK[:, :, None], axis=-1)


def _both(
  first: tuple[jax.Array, jax.Array], then: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
  """Two affine maps of the state, one after the other."""
  return first[0] * then[0], first[1] * then[0] + then[1]


class _Order(NamedTuple):
  """The tokens of each row with padding moved behind them, so that they follow each other.

  Attributes:
    index_BL: which token comes first, second, ...; None: they stay.
    real_BL: which are no padding, in that order; None: all.
    document_BL: the number of each one's document in its row, in that order; None: one.
  """

  index_BL: jax.Array | None = None
  real_BL: jax.Array | None = None
  document_BL: jax.Array | None = None

  def sorted(self, x_BLD: jax.Array) -> jax.Array:
    if self.index_BL is None:
      return x_BLD
    return jnp.take_along_axis(x_BLD, self.index_BL[..., None], axis=1)

  def restored(self, x_BLD: jax.Array) -> jax.Array:
    if self.index_BL is None:
      return x_BLD
    back_BL = jnp.argsort(self.index_BL, axis=1)
    return jnp.take_along_axis(x_BLD, back_BL[..., None], axis=1)

  def starts_BL(self) -> jax.Array | None:
    """Whether a token is the first of its document, but for the row's first."""
    if self.document_BL is None:
      return None
    return jnp.diff(self.document_BL, axis=1, prepend=self.document_BL[:, :1]) != 0

  def last(self, seen_BTF: jax.Array, size: int) -> jax.Array:
    """The last `size` of what was seen that are no padding; `size` came before the tokens."""
    if self.real_BL is None:
      return seen_BTF[:, seen_BTF.shape[1] - size :]
    count_B1 = jnp.sum(self.real_BL, axis=1, keepdims=True)
    return jnp.take_along_axis(seen_BTF, (count_B1 + jnp.arange(size)[None])[..., None], axis=1)


def _order(context: Context) -> _Order:
  """With a cache, padding has a position beyond all others; without one, segment 0."""
  if context.slots is not None:
    real_BL = context.positions < BEYOND
    if real_BL.shape[1] == 1:
      return _Order(None, real_BL)
    index_BL = jnp.argsort(~real_BL, axis=1, stable=True)
    return _Order(index_BL, jnp.take_along_axis(real_BL, index_BL, axis=1))
  if context.segments is None:
    return _Order()
  segments_BL = jnp.asarray(context.segments)
  index_BL = jnp.argsort(segments_BL <= 0, axis=1, stable=True)
  segments_BL = jnp.take_along_axis(segments_BL, index_BL, axis=1)
  changes_BL = jnp.diff(segments_BL, axis=1, prepend=segments_BL[:, :1]) != 0
  return _Order(index_BL, segments_BL > 0, jnp.cumsum(changes_BL, axis=1, dtype=jnp.int32))


def _fresh_steps(shortest: float, longest: float) -> Initializer:
  """Biases whose softplus lies between the two, evenly in the logarithm."""

  def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    low, high = math.log(shortest), math.log(longest)
    step = jnp.maximum(jnp.exp(jax.random.uniform(key, shape, dtype, low, high)), STEP_FLOOR)
    return step + jnp.log(-jnp.expm1(-step))

  return init


def _fresh_decays(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
  """The logarithms of 1, 2, ..., in each feature: S4D's real initialisation (2206.11893)."""
  del key
  return jnp.broadcast_to(jnp.log(jnp.arange(1, shape[1] + 1, dtype=dtype))[None], shape)


EXAMPLES = [
  SelectiveSSM(24, 2, state=4),
  SelectiveSSM(16, 3, state=5, taps=3, bias=True, conv_bias=False, chunk=3),
]
