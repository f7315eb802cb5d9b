"""What crosses a package border: batches, parameters, model outputs, sums, and three protocols."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp

Array: TypeAlias = jax.Array
Batch: TypeAlias = Mapping[str, Any]  # SeqIO feature name → [batch, length]
Params: TypeAlias = Mapping[str, Any]  # nested dict of arrays
BEYOND = 2**30  # in decoding the position of padding and of an empty slot: after all others
Cache: TypeAlias = Any  # pytree that a Model makes, reads and returns; opaque to everybody else
Axes: TypeAlias = Any  # tree like Params whose leaves are tuples of logical axis names


class Output(NamedTuple):
  """What `Model.apply` returns.

  Attributes:
    logits: `[batch, length, vocab]`, in float32.
    hidden: `[batch, length, embed]`, the last normalised hidden states, in the compute dtype.
    cache: the cache after these tokens, or None when none was given.
    losses: auxiliary losses by name, float32 scalars, already weighted, a mean over tokens.
    metrics: auxiliary metrics by name, float32, scalars or with an axis `layers` and maybe more.
    encoded: `[batch, source length, embed]`, the encoder's last hidden states beside a decoder;
      None where the model has no encoder beside its decoder, or the cache remembers them.
  """

  logits: Array
  hidden: Array
  cache: Cache = None
  losses: Mapping[str, Array] = {}
  metrics: Mapping[str, Array] = {}
  encoded: Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sums:
  """Sums over examples, never means: two of them add up to that of the joined batch.

  Attributes:
    loss: the summed loss, a float32 scalar; its gradient is the summed gradient.
    weight: what to divide `loss` by, a float32 scalar (the count of weighted target tokens).
    metrics: name → (numerator, denominator), float32; denominators are scalars, and
      most numerators.
  """

  loss: Array
  weight: Array
  metrics: Mapping[str, tuple[Array, Array]] = dataclasses.field(default_factory=dict)

  def __add__(self, other: Sums) -> Sums:
    return jax.tree.map(jnp.add, self, other)

  def means(self) -> dict[str, Array]:
    """Each metric as numerator / denominator, and `loss`; a zero denominator gives 0."""
    pairs = {"loss": (self.loss, self.weight), **self.metrics}
    return {k: n / jnp.where(d == 0, 1.0, d) for k, (n, d) in pairs.items()}


class Apply(Protocol):
  """`Model.apply`, as objectives and decoders receive it."""

  def __call__(
    self,
    params: Params,
    batch: Batch,
    rng: Array | None = None,
    train: bool = False,
    cache: Cache = None,
  ) -> Output: ...


class Model(Protocol):
  """A pure-function model: everything above `families` sees only this.

  Attributes:
    apply: runs it.
    architecture: what it is built as: `Encoder`, `Decoder` or `EncoderDecoder`.
    inputs: the batch features that it cannot do without.
    vocab_size: number of token ids.
    max_length: the longest sequence, or None where positions are unbounded.
  """

  @property
  def apply(self) -> Apply: ...

  @property
  def architecture(self) -> str: ...

  @property
  def inputs(self) -> tuple[str, ...]: ...

  @property
  def vocab_size(self) -> int: ...

  @property
  def max_length(self) -> int | None: ...

  def fitted(self, remat: Any = None, matmul: Any = None) -> Model:
    """The model, recomputing as a policy says and multiplying in another way; None: as it is."""

  def init(self, rng: Array, batch: Batch) -> Params:
    """Fresh parameters, float32; `batch` gives only shapes."""

  def axes(self, batch: Batch) -> Axes:
    """The logical axis names of every parameter, as a tree parallel to `init`'s."""

  def prepare(self, params: Params) -> Params:
    """The parameters as decoding wants them: `apply` with a cache then does less at every step."""

  def empty_cache(self, batch_size: int, length: int, source_length: int = 0) -> Cache:
    """A cache of `length` decoder slots, for `source_length` encoder positions."""


class Batches(Protocol):
  """An endless (training) or finite (evaluation) stream of batches that can be resumed exactly."""

  def __iter__(self) -> Batches: ...

  def __next__(self) -> Mapping[str, Any]:
    """The next batch: SeqIO feature name → numpy `[batch, length]`."""

  def state(self) -> dict[str, Any]:
    """Everything that decides the batches still to come, JSON-able, the same on every host."""

  def restore(self, state: Mapping[str, Any]) -> None:
    """Continue exactly where `state()` was taken. Raises ValueError for another stream's state."""

  def proportions(self) -> dict[str, dict[str, float]]:
    """Task → its `rate`, and the `realised` share, `examples` and `tokens` given so far."""


class Objective(Protocol):
  """What is predicted from what, and its loss. See `mtm.objectives._base`."""

  preprocessor: ClassVar[str]
  side: ClassVar[str]

  def loss(
    self, apply: Apply, params: Params, batch: Batch, rng: Array | None, train: bool
  ) -> Sums: ...


Schedule: TypeAlias = Callable[[Array], Array]  # step → learning rate
