"""How likely a model finds given targets."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mtm.types import Apply, Batch, Params


def score(apply: Apply, params: Params, batch: Batch) -> jax.Array:
  """The log-likelihood of each example's targets.

  Args:
    apply: the model's.
    params: its parameters.
    batch: what the model reads, with `decoder_target_tokens` and `decoder_loss_weights`
      `[batch, length]`.

  Returns:
    float32 `[batch]`: log-probabilities in nats, times weights, summed over targets.
  """
  log_probs = jax.nn.log_softmax(apply(params, batch).logits, axis=-1)
  targets = jnp.asarray(batch["decoder_target_tokens"])[..., None]
  at_target = jnp.take_along_axis(log_probs, targets, axis=-1)[..., 0]
  return jnp.sum(at_target * jnp.asarray(batch["decoder_loss_weights"], jnp.float32), axis=-1)
