"""Small models for tests of decoding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mtm.families.llama import llama
from mtm.families.t5 import t5
from mtm.types import Output

EOS = 1


class Trigram:
  """A `Model` by table: the logits depend on position, last token and the token before it.

  The cache holds the tokens, so that it is wrong wherever hypotheses are not reordered. `params` is
  the table, `[positions, vocab, vocab, vocab]`.
  """

  def apply(self, params, batch, rng=None, train=False, cache=None):
    table, tokens = params, batch["decoder_input_tokens"]
    rows = jnp.arange(tokens.shape[0])[:, None]
    if cache is None:
      places = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
      history = tokens
    else:
      places = batch["decoder_positions"]
      history = cache["tokens"].at[rows, places].set(tokens, mode="drop")
      cache = {"tokens": history}
    before = jnp.where(places > 0, history[rows, jnp.maximum(places - 1, 0)], 0)
    return Output(table[places, before, tokens], jnp.zeros((*tokens.shape, 1)), cache)

  def empty_cache(self, batch_size, length, source_length=0):
    return {"tokens": jnp.zeros((batch_size, length), jnp.int32)}

  def prepare(self, params):
    return params


def trigram(positions, vocab, seed=0, spread=2.0):
  """A table, and `log_probs(prefix) → [vocab]` in numpy for prefixes `0, t1, t2, ...`."""
  table = np.random.default_rng(seed).normal(0, spread, (positions, vocab, vocab, vocab))
  table = table.astype(np.float32)

  def log_probs(prefix):
    before = prefix[-2] if len(prefix) > 1 else 0
    logits = table[len(prefix) - 1, before, prefix[-1]].astype(np.float64)
    return logits - np.log(np.sum(np.exp(logits)))

  return table, log_probs


@functools.cache
def decoder():
  """A tiny decoder and parameters that make it prefer something."""
  model = llama(2, 16, 4, 24, 13, kv_heads=2)
  return model, sharpened(model)


@functools.cache
def encoder_decoder():
  """A tiny T5 and its parameters."""
  model = t5(2, 16, 2, 8, 24, 13, dropout=0.0)
  return model, sharpened(model)


def sharpened(model):
  """Fresh parameters, scaled up: ties between tokens are then far beyond rounding."""
  batch = {name: np.zeros((1, 4), np.int32) for name in model.inputs}
  return jax.tree.map(lambda p: p * 2.5, jax.jit(model.init)(jax.random.key(1), batch))


def prompts(rows, pad_to):
  """Right-padded prompts as a batch; `rows` are lists without the begin id."""
  tokens = np.zeros((len(rows), pad_to), np.int32)
  segments = np.zeros((len(rows), pad_to), np.int32)
  for i, row in enumerate(rows):
    tokens[i, 1 : 1 + len(row)] = row
    segments[i, : 1 + len(row)] = 1
  return {"decoder_input_tokens": tokens, "decoder_segment_ids": segments}


def sources(rows, pad_to):
  """Right-padded encoder inputs."""
  tokens = np.zeros((len(rows), pad_to), np.int32)
  for i, row in enumerate(rows):
    tokens[i, : len(row)] = row
  return {"encoder_input_tokens": tokens}


def likeliest(model, params, ids, count, end=EOS):
  """The `count` likeliest tokens after a prompt, one run of the decoder each; `end` ends them."""
  line, said = np.zeros((1, -(-(1 + len(ids) + count) // 16) * 16), np.int32), []
  line[0, 1 : 1 + len(ids)] = ids
  apply = jax.jit(model.apply)
  for newest in range(len(ids), len(ids) + count):
    token = int(np.argmax(apply(params, {"decoder_input_tokens": line}).logits[0, newest]))
    if token == end:
      break
    said.append(token)
    line[0, newest + 1] = token
  return said
