"""How likely a model finds several continuations of one prompt, which it reads once.

The prompt fills the cache as in `mtm.decoding.loop`, the cache is repeated for the lines that
follow, and each line goes through the model in one pass. Beside an encoder the inputs are the
prompt: the encoder runs once for all lines.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mtm.decoding.greedy import first_largest
from mtm.decoding.loop import _Cached
from mtm.types import BEYOND, Batch, Model, Params


def judge(
  model: Model,
  params: Params,
  batch: Batch,
  lines: jax.Array,
  lengths: jax.Array,
  asked: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """The log-probabilities of tokens that may follow prompts. Pure, and to be jitted.

  Args:
    model: gives `apply` and `empty_cache`.
    params: its parameters.
    batch: the prompts, as `mtm.decoding.loop.generate` takes them.
    lines: int32 `[batch, width, fed]`, tokens that follow the prompt and are read; `fed` may be 0.
    lengths: int32 `[batch, width]`, how many of a line's tokens are no padding.
    asked: int32 `[batch, count, 3]`, each a line's number, how many of its tokens were read, and
      the token of the next place whose probability is asked.

  Returns:
    float32 `[batch, count]` log-probabilities in nats, and bool `[batch, count]`: whether no other
    token is likelier; of equally likely tokens the one with the lowest id counts as that.
  """
  size, width, fed = lines.shape
  engine = _Cached(model, params, batch, width, fed + 1)
  cache, last = engine.start()
  tokens = jnp.concatenate([last[:, None], lines.reshape(size * width, fed)], axis=1)
  steps, end = jnp.arange(fed + 1)[None], lengths.reshape(-1, 1)
  place = jnp.repeat(engine.lengths - 1, width)[:, None] + steps
  place = jnp.where(steps <= end, place, BEYOND)
  before = jnp.repeat(engine.positions(engine.lengths - 1)[:, : engine.fed], width, axis=0)
  fed_batch = {
    **{name: jnp.repeat(x, width, axis=0) for name, x in engine.domain.items()},
    "decoder_input_tokens": tokens,
    "decoder_positions": place,
    "decoder_cache_start": jnp.int32(engine.fed),
    "decoder_cache_positions": jnp.concatenate([before, place], axis=1),
  }
  logits = model.apply(engine.params, fed_batch, cache=cache).logits
  flat = logits.reshape(size, width * (fed + 1), -1)
  rows, where = jnp.arange(size)[:, None], asked[..., 0] * (fed + 1) + asked[..., 1]
  norm = jax.nn.logsumexp(flat, axis=-1)
  log_probs = flat[rows, where, asked[..., 2]] - norm[rows, where]
  return log_probs, first_largest(flat)[rows, where] == asked[..., 2]
