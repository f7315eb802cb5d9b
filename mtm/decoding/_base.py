"""The decoding seam: what a policy is shown at every step, and what it says.

A policy keeps `width` hypotheses an example. The loop (`mtm.decoding.loop`) runs the model on all
of them, shows their next-token log-probabilities, and extends each as the policy chose.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp

NEVER = -1.0e7  # a log-probability that nothing real reaches; finite, so that sums stay ordered


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class View:
  """One step, as policies and constraints see it.

  Attributes:
    logits: `[batch, width, vocab]` float32 of the next token, `NEVER` where a constraint forbids.
    tokens: `[batch, width, length]` int32, what each hypothesis holds before `step`; 0 from there.
    step: int32 scalar, how many tokens were generated.
    keys: PRNG keys `[batch]`, one an example, the same at every step; or None.
    eos_id: the id that ends a hypothesis, or several any of which does.
    norm: `[batch, width, 1]` float32, what to subtract from logits for log-probabilities under the
      model; the default is right where they are log-probabilities already.
  """

  logits: jax.Array
  tokens: jax.Array
  step: jax.Array
  keys: jax.Array | None
  eos_id: int | tuple[int, ...] = dataclasses.field(metadata={"static": True})
  norm: jax.Array | float = 0.0

  @property
  def endings(self) -> tuple[int, ...]:
    """All ids that end a hypothesis."""
    return self.eos_id if isinstance(self.eos_id, tuple) else (self.eos_id,)

  def ends(self, ids: jax.Array) -> jax.Array:
    """Which of these ids end a hypothesis, bool of their shape."""
    return functools.reduce(jnp.logical_or, [ids == ending for ending in self.endings])

  @property
  def log_probs(self) -> jax.Array:
    """`[batch, width, vocab]` float32, about `NEVER` where a constraint forbids the token."""
    return self.logits - self.norm

  def log_probs_of(self, ids: jax.Array) -> jax.Array:
    """Of the tokens `[batch, width]` alone, which spares a pass over the vocabulary."""
    return (jnp.take_along_axis(self.logits, ids[..., None], axis=-1) - self.norm)[..., 0]


class Choice(NamedTuple):
  """What a policy decides.

  Attributes:
    state: its own, for the next step.
    tokens: `[batch, width]` int32, the next token of each hypothesis.
    parents: `[batch, width]` int32, which hypothesis each one continues; None: itself.
    done: `[batch]` bool, whether nothing that may follow changes the example's result.
  """

  state: Any
  tokens: jax.Array
  parents: jax.Array | None
  done: jax.Array


class Generated(NamedTuple):
  """The result of decoding.

  Attributes:
    tokens: `[batch, samples, length]` int32, the end-of-sequence id included, 0 after it.
    scores: `[batch, samples]` float32, see the policy.
    lengths: `[batch, samples]` int32, tokens generated, the end-of-sequence id included; 0 where
      the policy found fewer than `samples` sequences.
  """

  tokens: jax.Array
  scores: jax.Array
  lengths: jax.Array


class Policy(Protocol):
  """A search or sampling rule: a frozen dataclass. A module of this package ends with `EXAMPLES`.

  A policy's results for an example may not depend on the batch's other examples.
  """

  @property
  def width(self) -> int:
    """Hypotheses an example."""

  def start(self, batch: int, length: int) -> Any:
    """The state before the first step, a pytree with leading axis `batch`; `length` is the most
    tokens that will be generated."""

  def step(self, state: Any, view: View) -> Choice:
    """Chooses the next token of every hypothesis."""

  def finish(self, state: Any, tokens: jax.Array) -> Generated:
    """The result; `tokens` `[batch, width, length]` are the hypotheses' at the end."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Progress:
  """The state of `TokenByToken`: `scores` float32, `lengths` int32, `ended` bool, `[batch, width]`
  each."""

  scores: jax.Array
  lengths: jax.Array
  ended: jax.Array


class TokenByToken(abc.ABC):
  """A policy whose hypotheses don't compete: each goes on until it draws the end.

  Scores are sums of the model's own log-probabilities, whatever the rule that chose.
  """

  width: ClassVar[int]

  @abc.abstractmethod
  def choose(self, view: View) -> jax.Array:
    """The next token of each hypothesis, `[batch, width]` int32."""

  def start(self, batch: int, length: int) -> Progress:
    """Nothing generated yet."""
    del length
    shape = (batch, self.width)
    return Progress(jnp.zeros(shape), jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool))

  def step(self, state: Progress, view: View) -> Choice:
    """See `Policy.step`."""
    chosen = self.choose(view)
    gained = view.log_probs_of(chosen)
    going = ~state.ended
    ended = state.ended | view.ends(chosen)
    state = Progress(
      state.scores + jnp.where(going, gained, 0.0), state.lengths + going.astype(jnp.int32), ended
    )
    return Choice(state, jnp.where(going, chosen, 0), None, jnp.all(ended, axis=1))

  def finish(self, state: Progress, tokens: jax.Array) -> Generated:
    """See `Policy.finish`."""
    return Generated(tokens, state.scores, state.lengths)
