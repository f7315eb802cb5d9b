"""Content-based mixers where attention stands in a model: they learn, and decode where they can."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtm.config import config
from mtm.errors import UserError
from mtm.objectives.causal_lm import CausalLM
from mtm.objectives.mlm import MaskedLM
from mtm.parts.heads import TiedHead
from mtm.parts.linear import Embed, normal
from mtm.parts.mixers.linear import LinearAttention
from mtm.parts.mixers.linformer import Linformer
from mtm.parts.mixers.performer import RandomFeatures
from mtm.parts.mixers.routing import Routing
from mtm.parts.mlp import Mlp
from mtm.parts.norm import LayerNorm
from mtm.parts.positions.learned import Learned
from mtm.parts.stack import Block, Stack
from mtm.parts.transformer import Decoder, Encoder, Model, Tower
from mtm.training import state as states
from mtm.training.precision import NoScale
from mtm.training.step import train_step

B, L, D, H, K, VOCAB = 4, 12, 16, 2, 8, 12


def model(mixer: nn.Module, kind: Any, side: str, layers: int = 2) -> Model:
  """A layer or two around a mixer."""
  stack = Stack((Block(mixer, Mlp(32), LayerNorm),), layers)
  tower = Tower(stack, position=Learned(L, D), final_norm=LayerNorm)
  module = kind(Embed(VOCAB, D, weight_init=normal(0.1)), tower, TiedHead())
  return Model(module, (f"{side}_input_tokens",), VOCAB, L)


def batch(side: str, given: int) -> dict[str, np.ndarray]:
  """Two documents a row, and padding; a target is the token that stands at `given`'s place."""
  ids = np.random.default_rng(0).integers(2, VOCAB, (B, L)).astype(np.int32)
  segments = np.repeat([[1] * 5 + [2] * 6 + [0]], B, 0).astype(np.int32)
  ids = np.where(segments > 0, ids, 0)
  targets = np.roll(ids, given, axis=1)
  same = (segments == np.roll(segments, given, axis=1)) & (segments > 0)
  return {
    f"{side}_input_tokens": ids,
    f"{side}_target_tokens": targets,
    f"{side}_loss_weights": same.astype(np.int32),
    f"{side}_positions": np.repeat([[*range(5), *range(6), 0]], B, 0).astype(np.int32),
    f"{side}_segment_ids": segments,
  }


FAVOR = RandomFeatures(16)
CAUSAL = {
  "linear": LinearAttention(H, K, chunk=4),
  "performer": LinearAttention(H, K, feature_map=FAVOR, chunk=4),
  "routing": Routing(H, K, 2, 8),
}
BIDIRECTIONAL = {
  "linear": LinearAttention(H, K, causal=False, chunk=4),
  "routing": Routing(H, K, 2, 8, causal=False),
  "linformer": Linformer(H, K, length=L, rank=6),
}
CASES = [
  *(pytest.param(m, Decoder, "decoder", CausalLM(), 1, id=f"causal-{n}")
    for n, m in CAUSAL.items()),
  *(pytest.param(m, Encoder, "encoder", MaskedLM(), -1, id=f"bi-{n}")
    for n, m in BIDIRECTIONAL.items()),
]  # fmt: skip


@pytest.mark.parametrize(("mixer", "kind", "side", "objective", "given"), CASES)
def test_a_model_learns(mixer: Any, kind: Any, side: str, objective: Any, given: int) -> None:
  """The token before, or after: no token says it of itself, so that the mixer has to bring it."""
  tiny, data = model(mixer, kind, side), batch(side, given)
  optimizer = optax.adam(0.02)
  params = tiny.init(jax.random.key(0), data)
  state = states.create(params, optimizer, 0, {"loss_scale": NoScale()})
  step = jax.jit(train_step(tiny.apply, objective, optimizer))
  losses = []
  with jax.numpy_dtype_promotion("standard"):  # optax's
    for _ in range(60):
      state, sums = step(state, data)
      losses.append({name: float(np.sum(value)) for name, value in sums.means().items()})
  first, last = losses[0]["cross_entropy"], losses[-1]["cross_entropy"]
  assert np.isfinite(last)
  assert last < 0.5 * first, (first, last)
  if isinstance(mixer, Routing):
    (name,) = (name for name in losses[0] if name.endswith("clustering"))
    assert losses[-1][name] < losses[0][name]


def test_a_model_decodes_token_by_token_what_it_says_at_once() -> None:
  tiny = model(CAUSAL["performer"], Decoder, "decoder")
  ids = jnp.asarray(np.random.default_rng(1).integers(2, VOCAB, (B, L)), jnp.int32)
  params = tiny.init(jax.random.key(0), {"decoder_input_tokens": ids})
  whole = jax.jit(tiny.apply)(params, {"decoder_input_tokens": ids}).logits
  cache, step = tiny.empty_cache(B, L), jax.jit(tiny.apply)
  for start, end in ((0, 5), (5, 6), (6, 7), (7, L)):
    part = {
      "decoder_input_tokens": ids[:, start:end],
      "decoder_positions": jnp.tile(jnp.arange(start, end)[None], (B, 1)),
      "decoder_cache_start": jnp.int32(start),
      "decoder_cache_positions": jnp.arange(L)[None],
    }
    out = step(params, part, cache=cache)
    cache = out.cache
    np.testing.assert_allclose(out.logits, whole[:, start:end], rtol=1e-4, atol=1e-4)


def test_a_model_of_routing_does_not_decode() -> None:
  tiny = model(CAUSAL["routing"], Decoder, "decoder", 1)
  ids = jnp.ones((B, 1), jnp.int32)
  params = jax.eval_shape(lambda: tiny.init(jax.random.key(0), {"decoder_input_tokens": ids}))
  places = {
    "decoder_positions": jnp.zeros((B, 1), jnp.int32),
    "decoder_cache_start": jnp.int32(0),
    "decoder_cache_positions": jnp.arange(L)[None],
  }
  with pytest.raises(UserError, match="Routing has no cache"):
    jax.eval_shape(
      lambda p: tiny.apply(
        p, {"decoder_input_tokens": ids, **places}, cache=tiny.empty_cache(B, L)
      ),
      params,
    )


@pytest.mark.parametrize("name", list(BIDIRECTIONAL))
def test_a_decoder_takes_no_mixer_that_looks_ahead(name: str) -> None:
  mixer = BIDIRECTIONAL[name]
  with pytest.raises(UserError, match=f"{type(mixer).__name__} with causal = False"):
    model(mixer, Decoder, "decoder")


def test_the_page_of_mixers_builds_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
  page = (Path(__file__).parents[3] / "docs" / "mixers.md").read_text()
  (python,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
  gin = page.split("```")[-2]
  (tmp_path / "mine.py").write_text(python)
  (tmp_path / "mine.gin").write_text(gin)
  monkeypatch.syspath_prepend(tmp_path)
  found = config.load(None, [str(tmp_path / "mine.gin")]).value("MODEL")
  (block,) = found.module.decoder.stack.period
  assert block.mixer.feature_map == RandomFeatures(128)
  ids = np.ones((1, 4), np.int32)
  shapes = jax.eval_shape(lambda: found.init(jax.random.key(0), {"decoder_input_tokens": ids}))
  assert shapes["tokens"]["embedding"].shape == (512, 256)
