"""GPT-3: dense and banded layers in turn, its published sizes, and its cache."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mtm.decoding.greedy import Greedy
from mtm.decoding.loop import generate
from mtm.errors import UserError
from mtm.families.gpt2 import gpt2
from mtm.families.gpt3 import gpt3
from mtm.interop._base import shapes
from mtm.parts.sparse_cache import SparseKeyValue
from tests.contracts.discovered import batch_for, parameters

SIZES = 4, 16, 4, 40
SMALL: dict[str, Any] = {"max_length": 32, "mlp": 24, "dropout": 0.0}
GIN = Path(__file__).parents[2] / "gin" / "families" / "gpt3"


def paired(params: Any) -> Any:
  """GPT-2's parameters for pairs of layers."""
  stack = params["decoder"]["stack"]["period_0"]
  halves = {f"period_{i}": jax.tree.map(lambda x, i=i: x[i::2], stack) for i in range(2)}
  return {**params, "decoder": {**params["decoder"], "stack": halves}}


def test_it_is_gpt2_where_the_band_covers_the_row() -> None:
  plain = gpt2(*SIZES, **SMALL)
  batch = batch_for(plain)
  params = parameters(plain.init, batch)
  wanted = jax.jit(plain.apply)(params, batch).logits
  ours = jax.jit(gpt3(*SIZES, band=8, **SMALL).apply)(paired(params), batch).logits
  np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-5)
  narrow = jax.jit(gpt3(*SIZES, band=7, **SMALL).apply)(paired(params), batch).logits
  np.testing.assert_allclose(narrow[:, :7], wanted[:, :7], rtol=1e-5, atol=1e-5)
  assert np.abs(narrow[:, 7] - wanted[:, 7]).max() > 1e-4


def test_a_banded_layer_sees_nothing_beyond_its_band() -> None:
  """With the dense layer's attention silenced the token at 1 reaches 1, 2 and 3, and no other."""
  model = gpt3(2, 16, 4, 40, band=3, **SMALL)
  batch = batch_for(model)
  params = parameters(model.init, batch)
  out = params["decoder"]["stack"]["period_0"]["mixer"]["out"]
  out.update(jax.tree.map(np.zeros_like, out))
  changed = {**batch, "decoder_input_tokens": batch["decoder_input_tokens"].copy()}
  changed["decoder_input_tokens"][:, 1] = batch["decoder_input_tokens"][:, 1] % 30 + 2
  a, b = (jax.jit(model.apply)(params, x).logits for x in (batch, changed))
  moved = np.abs(a - b).max((0, 2)) > 0
  np.testing.assert_array_equal(moved, (np.arange(8) >= 1) & (np.arange(8) <= 3))


def test_generation_with_rings_is_generation_without_a_cache() -> None:
  model = gpt3(2, 16, 4, 40, band=3, **SMALL)
  tokens = np.random.default_rng(0).integers(2, 40, (2, 6)).astype(np.int32)
  real = (np.arange(6)[None] < np.array([[6], [2]])).astype(np.int32)
  batch = {"decoder_input_tokens": tokens * real, "decoder_segment_ids": real}
  params = parameters(model.init, batch)
  leaves = jax.tree.leaves(
    model.empty_cache(2, 16), is_leaf=lambda x: isinstance(x, SparseKeyValue)
  )
  assert [x.k.shape[1] for x in leaves if isinstance(x, SparseKeyValue)] == [3]
  cached, plain = (
    jax.jit(
      lambda p, c=c: generate(
        model, p, batch, policy=Greedy(), max_length=10, eos_id=-1, use_cache=c
      )
    )(params)
    for c in (True, False)
  )
  np.testing.assert_array_equal(cached.tokens, plain.tokens)
  np.testing.assert_allclose(cached.scores, plain.scores, rtol=1e-5, atol=1e-5)


def told(name: str) -> dict[str, int]:
  """The sizes in a gin file."""
  lines = [line.split(" = ") for line in (GIN / f"{name}.gin").read_text().splitlines()]
  return {x[0].strip(): int(x[1]) for x in lines if len(x) == 2 and x[1].isdigit()}


# The paper rounds; of 1.3B its own table gives another number (see the gin file).
COUNTS = {
  "125m": 0.125, "350m": 0.355, "760m": 0.760, "1b3": 1.52, "2b7": 2.65, "6b7": 6.66, "13b": 12.9,
  "175b": 174.6,
}  # fmt: skip


def test_the_gin_files_have_the_published_sizes() -> None:
  assert {path.stem for path in GIN.glob("*.gin")} == COUNTS.keys()
  for name, billions in COUNTS.items():
    count = sum(map(math.prod, shapes(gpt3(**told(name))).values()))
    assert count / 1e9 == pytest.approx(billions, rel=0.01), name


def test_wrong_layers_and_bands_are_told() -> None:
  with pytest.raises(UserError, match="layers = 3 is odd.*take 4"):
    gpt3(3, 16, 4, 40)
  with pytest.raises(UserError, match="at least 1 token"):
    gpt3(2, 16, 4, 40, band=0)
  with pytest.raises(UserError, match="does not divide"):
    gpt3(2, 16, 3, 40)
