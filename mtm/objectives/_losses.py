"""Softmax cross-entropy whose backward pass writes one array of the logits' size."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def cross_entropy(
  logits: jax.Array, targets: jax.Array, z_loss: float = 0.0, label_smoothing: float = 0.0
) -> tuple[jax.Array, jax.Array]:
  """Cross-entropy of each token, and the z-loss beside it.

  With label smoothing ε over V tokens the target distribution is 1 − ε at the target and
  ε / (V − 1) elsewhere, and its entropy is subtracted, so that a perfect prediction gives 0 (as
  T5X does).

  Args:
    logits: `[..., vocab]` float32.
    targets: `[...]` ids in `[0, vocab)`.
    z_loss: weight of log²(Z) (2204.02311, §5).
    label_smoothing: ε.

  Returns:
    cross-entropy `[...]` in nats, and z_loss · log²(Z) `[...]`.
  """
  return _forward(logits, targets, z_loss, label_smoothing)[0]


def _confidence(vocab: int, label_smoothing: float) -> tuple[float, float]:
  return 1.0 - label_smoothing, label_smoothing / (vocab - 1)


def _forward(logits: jax.Array, targets: jax.Array, z_loss: float, label_smoothing: float):
  high, low = _confidence(logits.shape[-1], label_smoothing)
  log_z = jax.nn.logsumexp(logits, axis=-1)
  at_target = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  nll = log_z - (high - low) * at_target
  if label_smoothing:
    entropy = jax.scipy.special.entr(high) + (logits.shape[-1] - 1) * jax.scipy.special.entr(low)
    nll = nll - low * jnp.sum(logits, axis=-1) - entropy
  return (nll, z_loss * jnp.square(log_z)), (logits, targets, log_z)


def _backward(z_loss: float, label_smoothing: float, saved, g):
  logits, targets, log_z = saved
  g_nll, g_z = g
  high, low = _confidence(logits.shape[-1], label_smoothing)
  slope = g_nll + g_z * (2 * z_loss) * log_z  # of log Z
  softmax = jnp.exp(logits - log_z[..., None])
  # A comparison with an iota fuses into the same loop; a scatter would be a second pass.
  ids = jax.lax.broadcasted_iota(targets.dtype, logits.shape, logits.ndim - 1)
  wanted = jnp.where(ids == targets[..., None], high, low)
  return slope[..., None] * softmax - g_nll[..., None] * wanted, None


cross_entropy.defvjp(_forward, _backward)
