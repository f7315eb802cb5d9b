import functools

import jax
import numpy as np
import scipy.special

from mtm.decoding.score import score
from tests.decoding.models import decoder


def test_score_is_the_weighted_log_likelihood_of_the_targets():
  model, params = decoder()
  rng = np.random.default_rng(0)
  targets = rng.integers(1, 13, (3, 6)).astype(np.int32)
  inputs = np.concatenate([np.zeros((3, 1), np.int32), targets[:, :-1]], axis=1)
  weights = rng.integers(0, 2, (3, 6)).astype(np.int32)
  batch = {
    "decoder_input_tokens": inputs,
    "decoder_target_tokens": targets,
    "decoder_loss_weights": weights,
  }
  logits = np.asarray(jax.jit(model.apply)(params, batch).logits, np.float64)
  log_probs = scipy.special.log_softmax(logits, axis=-1)
  expected = [
    sum(log_probs[b, i, targets[b, i]] * weights[b, i] for i in range(6)) for b in range(3)
  ]
  got = jax.jit(functools.partial(score, model.apply))(params, batch)
  assert got.dtype == np.float32
  np.testing.assert_allclose(got, expected, rtol=1e-5)
