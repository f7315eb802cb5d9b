import types

import jax
import numpy as np
import pytest

from mtm.errors import UserError
from mtm.families.bert import bert
from mtm.families.demix import demix
from mtm.families.gpt2 import gpt2
from mtm.objectives.causal_lm import CausalLM
from mtm.programs import setup


def data(length=8, vocab=13):
  shapes = {
    name: ((2, length), np.dtype(np.int32))
    for name in ("decoder_input_tokens", "decoder_target_tokens", "decoder_loss_weights")
  }
  return types.SimpleNamespace(
    mixture_or_task_name="mine",
    shapes=lambda objective: shapes,
    vocabulary=lambda: types.SimpleNamespace(vocab_size=vocab),
  )


MODEL = gpt2(1, 8, 2, 13, max_length=8)


def test_data_that_fits_is_accepted():
  setup.check(MODEL, CausalLM(), data())


def test_a_vocabulary_larger_than_the_models_is_refused():
  with pytest.raises(UserError, match="the vocabulary of mine has 14 ids and the model 13"):
    setup.check(MODEL, CausalLM(), data(vocab=14))


def test_a_sequence_longer_than_the_model_is_refused():
  with pytest.raises(UserError, match="is 9 long and the model ends at 8"):
    setup.check(MODEL, CausalLM(), data(length=9))


def test_an_objective_for_another_kind_of_model_is_refused():
  with pytest.raises(UserError, match="makes encoder_input_tokens"):
    setup.check(bert(1, 8, 2, 13), CausalLM(), data())


def test_a_model_that_reads_domains_asks_for_their_names():
  with pytest.raises(UserError, match="reads decoder_domain.*set DOMAINS to the names"):
    setup.check(demix(1, 8, 2, 13, max_length=8), CausalLM(), data())


def test_starting_turns_the_compilation_cache_on(monkeypatch, tmp_path):
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
  monkeypatch.setenv("MTM_CACHE", str(tmp_path))
  before = jax.config.jax_compilation_cache_dir
  try:
    setup.start()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "xla")
  finally:
    jax.config.update("jax_compilation_cache_dir", before)
