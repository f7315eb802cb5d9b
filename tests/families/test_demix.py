"""DEMix: a text's domain chooses its nets, in training's form and in decoding."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import pytest

from mtm.decoding.beam import Beam
from mtm.decoding.loop import generate
from mtm.families.demix import demix
from tests.contracts.discovered import batch_for, parameters
from tests.families.test_switch import count

MODEL = demix(2, 16, 4, 40, 3, max_length=32, mlp=24, dropout=0.0)
BATCH = batch_for(MODEL, rows=2, length=5)


def test_a_domain_changes_its_own_rows_only() -> None:
  params = parameters(MODEL.init, BATCH)
  run = jax.jit(MODEL.apply)

  def logits(*domains: int) -> Any:
    labels = np.array(domains, np.int32)[:, None]
    return run(params, {**BATCH, "decoder_domain": labels}).logits

  one, other = logits(0, 1), logits(0, 2)
  np.testing.assert_array_equal(one[0], other[0])
  assert np.abs(one[1] - other[1]).max() > 1e-3


def test_generation_keeps_to_the_domain_with_and_without_a_cache() -> None:
  params = parameters(MODEL.init, BATCH)

  def run(domain: int, use_cache: bool) -> Any:
    batch = {
      "decoder_input_tokens": BATCH["decoder_input_tokens"],
      "decoder_domain": np.full((2, 5), domain, np.int32),
    }
    decode = functools.partial(
      generate, MODEL, policy=Beam(2), max_length=4, eos_id=-1, use_cache=use_cache
    )
    return np.asarray(jax.jit(decode)(params, batch).tokens)

  np.testing.assert_array_equal(run(1, True), run(1, False))
  assert (run(1, True) != run(2, True)).any()


@pytest.mark.parametrize(("name", "millions"), [("125M", 512), ("350M", 1800), ("1_3B", 7000)])
def test_a_published_size_is_near_what_the_paper_says(name: str, millions: float) -> None:
  assert count(f"demix/{name}") == pytest.approx(millions * 1e6, rel=0.05)
