"""The objective seam.

An objective is a frozen dataclass: its fields are its numbers, `preprocessor` names the function of
`mtm.data` that turns a task's tokenised examples into the batch features it reads (a name, so that
training needs no TensorFlow), and `loss` turns a batch into sums. Losses are sums over target
tokens, so that microbatches of any padding add up to the big batch.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from mtm.objectives._losses import cross_entropy
from mtm.types import Apply, Array, Batch, Output, Params, Sums


@dataclasses.dataclass(frozen=True)
class TokenObjective(abc.ABC):
  """Predicts tokens with cross-entropy at the weighted positions of one side of the model.

  Attributes:
    z_loss: weight of log²(Z), which keeps the softmax normaliser near 1 (T5X: 1e-4).
    label_smoothing: probability given to all other tokens together.
  """

  preprocessor: ClassVar[str]
  side: ClassVar[str]  # the features it reads begin with this

  z_loss: float = 0.0
  label_smoothing: float = 0.0

  def loss(
    self, apply: Apply, params: Params, batch: Batch, rng: Array | None = None, train: bool = False
  ) -> Sums:
    """Runs the model and sums the losses of its predictions.

    Args:
      apply: the model's.
      params: its parameters.
      batch: must hold `<side>_target_tokens` and `<side>_loss_weights`, `[batch, length]`.
      rng: dropout key.
      train: whether dropout is on.

    Returns:
      Sums with `loss` (cross-entropy + z-loss + auxiliary losses), `weight` (target tokens), and
      the metrics `cross_entropy` (nats a token, unsmoothed), `accuracy` and `z_loss`.
    """
    return self.sums(apply(params, batch, rng=rng, train=train), batch)

  def sums(self, output: Output, batch: Batch) -> Sums:
    """See `loss`, of what the model gave."""
    targets = jnp.asarray(batch[f"{self.side}_target_tokens"])
    weights = jnp.asarray(batch[f"{self.side}_loss_weights"], jnp.float32)
    return token_sums(output, targets, weights, self.z_loss, self.label_smoothing)


def token_sums(
  output: Output, targets: Array, weights: Array, z_loss: float, label_smoothing: float
) -> Sums:
  """The sums of a token prediction.

  Args:
    output: the model's, logits `[batch, length, vocab]`.
    targets: `[batch, length]` ids.
    weights: `[batch, length]` float32; 0 where nothing is predicted.
    z_loss, label_smoothing: see `TokenObjective`.
  """
  nll, regulariser = cross_entropy(output.logits, targets, z_loss, label_smoothing)
  count = jnp.sum(weights)
  loss = jnp.sum((nll + regulariser) * weights)
  # An auxiliary loss is a mean over tokens: as a sum it counts once for each of them.
  for value in output.losses.values():
    loss = loss + value * count
  # The target is the argmax when nothing exceeds it: the maximum is at hand from the softmax.
  at_target = jnp.take_along_axis(output.logits, targets[..., None], axis=-1)[..., 0]
  right = jnp.where(at_target >= jnp.max(output.logits, axis=-1), weights, 0.0)
  plain = jax.nn.logsumexp(output.logits, axis=-1) - at_target if label_smoothing else nll
  metrics = {
    "cross_entropy": (jnp.sum(plain * weights), count),
    "accuracy": (jnp.sum(right), count),
    "z_loss": (jnp.sum(regulariser * weights), count),
  }
  told = {**output.losses, **output.metrics}
  metrics |= {name: (value * count, count) for name, value in told.items()}
  return Sums(loss, count, jax.lax.stop_gradient(metrics))
