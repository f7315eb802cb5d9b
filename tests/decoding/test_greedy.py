import functools

import jax
import jax.numpy as jnp
import numpy as np

from mtm.decoding._base import View
from mtm.decoding.greedy import Greedy
from mtm.decoding.loop import generate
from tests.decoding.models import EOS, decoder, prompts


def test_every_token_is_the_argmax_of_a_full_forward_pass():
  model, params = decoder()
  decode = jax.jit(functools.partial(generate, model, policy=Greedy(), max_length=8, eos_id=EOS))
  out = decode(params, prompts([[5, 3, 7], [4]], 6))
  forward = jax.jit(lambda tokens: model.apply(params, {"decoder_input_tokens": tokens}).logits)
  for prompt, tokens, length in zip([[5, 3, 7], [4]], out.tokens, out.lengths, strict=True):
    line = [0, *prompt]
    for token in np.asarray(tokens[0, : int(length[0])]):
      padded = np.zeros((1, 14), np.int32)  # one shape: the future does not count
      padded[0, : len(line)] = line
      assert token == np.argmax(forward(padded)[0, len(line) - 1])
      line.append(int(token))


def test_of_equals_the_lowest_id_wins_as_in_argmax():
  log_probs = jnp.array([[[-3.0, -1.0, -1.0, -2.0]], [[-1.0, -1.0, -1.0, -1.0]]])
  view = View(log_probs, jnp.zeros((2, 1, 1), jnp.int32), jnp.int32(0), None, EOS)
  np.testing.assert_array_equal(Greedy().choose(view), np.argmax(log_probs, axis=-1))
