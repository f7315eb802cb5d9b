"""Mamba: its sizes, its residual sum and what it refuses; logits are in test_recorded.py."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtm.decoding.greedy import Greedy
from mtm.decoding.loop import generate
from mtm.errors import UserError
from mtm.families import mamba as module
from mtm.families._published import Config, complete
from mtm.families.mamba import mamba
from mtm.types import Model
from tests.contracts.discovered import batch_for, parameters


@pytest.mark.parametrize(
  ("model", "wanted"),
  [
    # Counted by transformers 5.24's MambaForCausalLM with the sizes of state-spaces/mamba-130m,
    # -370m, -790m, -1.4b and -2.8b, whose 50277 ids are padded to a multiple of 8.
    (mamba(24, 768, 50280), 129_135_360),
    (mamba(48, 1024, 50280), 371_516_416),
    (mamba(48, 1536, 50280), 793_204_224),
    (mamba(48, 2048, 50280), 1_372_178_432),
    (mamba(64, 2560, 50280), 2_768_345_600),
  ],
)
def test_parameter_count_is_the_published_one(model: Model, wanted: int) -> None:
  batch = {"decoder_input_tokens": np.zeros((1, 2), np.int32)}
  shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
  assert sum(x.size for x in jax.tree.leaves(shapes)) == wanted


def test_packed_documents_are_what_they_are_alone() -> None:
  model = mamba(2, 16, 40)
  batch = batch_for(model, rows=1, length=10)
  params = parameters(model.init, batch)
  tokens = batch["decoder_input_tokens"]
  packed = {
    "decoder_input_tokens": tokens,
    "decoder_segment_ids": np.array([[1, 1, 1, 1, 2, 2, 2, 0, 0, 0]]),
    "decoder_positions": np.array([[0, 1, 2, 3, 0, 1, 2, 0, 0, 0]]),
  }
  whole = jax.jit(model.apply)(params, packed).logits
  for start, end in ((0, 4), (4, 7)):
    alone = jax.jit(model.apply)(params, {"decoder_input_tokens": tokens[:, start:end]}).logits
    np.testing.assert_allclose(whole[:, start:end], alone, rtol=1e-5, atol=1e-5)


def test_padded_prompts_go_on_as_they_do_alone() -> None:
  model = mamba(2, 16, 40)
  batch = batch_for(model, rows=3, length=7)
  params = parameters(model.init, batch)
  tokens, lengths = batch["decoder_input_tokens"], (7, 1, 4)
  mask = (np.arange(7)[None] < np.array(lengths)[:, None]).astype(np.int32)
  padded = {"decoder_input_tokens": tokens * mask, "decoder_segment_ids": mask}

  def continued(batch: Any, use_cache: bool = True) -> np.ndarray:
    out = generate(
      model, params, batch, policy=Greedy(), max_length=5, eos_id=-1, use_cache=use_cache
    )
    return np.asarray(out.tokens)[:, 0]

  together = continued(padded)
  np.testing.assert_array_equal(together, continued(padded, use_cache=False))
  for row, length in enumerate(lengths):
    alone = continued({"decoder_input_tokens": tokens[row : row + 1, :length]})
    np.testing.assert_array_equal(together[row : row + 1], alone)


def test_the_residual_sum_is_float32_in_half_precision() -> None:
  """Terms too small for bfloat16 beside the embeddings are kept, where they are asked to be."""
  away = {}
  plain = mamba(8, 16, 40)
  batch = batch_for(plain)
  params = parameters(plain.init, batch)
  params["tokens"]["embedding"] *= 100
  exact = jax.jit(plain.apply)(params, batch)
  for wide in (True, False):
    model = mamba(8, 16, 40, wide_residual=wide, dtype="bfloat16")
    found = jax.jit(model.apply)(params, batch)
    assert found.hidden.dtype == jnp.bfloat16
    away[wide] = float(np.abs(found.hidden.astype(np.float32) - exact.hidden).mean())
  assert away[True] < away[False]


# The smallest published sizes, in the settings of `transformers` and of the original library.
CONFIG = {
  "architectures": ["MambaForCausalLM"], "model_type": "mamba", "bos_token_id": 0,
  "eos_token_id": 0, "pad_token_id": 0, "conv_kernel": 4, "d_inner": 1536, "d_model": 768,
  "expand": 2, "fused_add_norm": True, "hidden_act": "silu", "hidden_size": 768,
  "initializer_range": 0.1, "intermediate_size": 1536, "layer_norm_epsilon": 1e-05, "n_layer": 24,
  "num_hidden_layers": 24, "pad_vocab_size_multiple": 8, "rescale_prenorm_residual": False,
  "residual_in_fp32": True, "rms_norm": True, "ssm_cfg": {}, "state_size": 16,
  "time_step_floor": 0.0001, "time_step_init_scheme": "random", "time_step_max": 0.1,
  "time_step_min": 0.001, "time_step_rank": 48, "time_step_scale": 1.0, "torch_dtype": "float32",
  "transformers_version": "4.39.0.dev0", "use_bias": False, "use_cache": True,
  "use_conv_bias": True, "vocab_size": 50280,
}  # fmt: skip


def arguments(values: dict[str, Any]) -> dict[str, Any]:
  config = Config(values)
  found = module.HF.arguments(config)
  config.finish()
  return found


def test_a_config_with_the_original_librarys_settings_is_read() -> None:
  found = arguments(CONFIG)
  assert found == arguments({**CONFIG, "time_step_rank": "auto"})
  assert (found["layers"], found["embed"], found["rank"]) == (24, 768, 48)
  again = module.HF.config(complete(mamba, found))
  assert arguments(again) == found


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("hidden_act", "gelu"),
    ("intermediate_size", 1000),
    ("d_inner", 1000),
    ("d_model", 1000),
    ("n_layer", 12),
    ("rms_norm", False),
    ("ssm_cfg", {"layer": "Mamba2"}),
    ("use_mamba_kernels", True),
  ],
)
def test_what_it_cannot_honour_is_refused_by_name(name: str, value: Any) -> None:
  with pytest.raises(UserError, match=name):
    arguments({**CONFIG, name: value})
