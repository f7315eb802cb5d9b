"""A new variant edits no existing file: here a pattern comes as one file, from elsewhere.

It is found, named, composed, passes its seam's contract, runs in a model and is picked in gin.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mtm.config import config
from mtm.discovery import modules
from mtm.families.llama import llama
from mtm.parts import patterns
from mtm.parts.kernels.reference import Reference
from tests.contracts import test_kernels, test_patterns
from tests.contracts.discovered import batch_for, parameters

STRIDED = '''"""Keys at a multiple of `stride` before the query."""

from __future__ import annotations

import dataclasses

from mtm.parts.patterns._algebra import Pattern
from mtm.parts.patterns.causal import Causal


@dataclasses.dataclass(frozen=True)
class StridedOfATest(Pattern):
  """A query sees every `stride`-th key."""

  stride: int

  def mask(self, q, k):
    return (q - k) % self.stride == 0


EXAMPLES = [StridedOfATest(4), Causal() & StridedOfATest(3)]
'''

GIN = """
from __gin__ import dynamic_registration
from mtm.families import llama
from mtm.parts.patterns import strided_of_a_test as strided

MODEL = @llama.llama()
llama.llama:
  layers = 1
  embed = 16
  heads = 2
  mlp = 24
  vocab = 40
  pattern = @strided.StridedOfATest()
strided.StridedOfATest.stride = 2
"""


@pytest.fixture
def strided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
  """The file, in a directory that the package looks into as if it were its own."""
  (tmp_path / "strided_of_a_test.py").write_text(STRIDED)
  monkeypatch.setattr(patterns, "__path__", [*patterns.__path__, str(tmp_path)])
  yield patterns.StridedOfATest
  sys.modules.pop("mtm.parts.patterns.strided_of_a_test", None)
  patterns.__dict__.pop("strided_of_a_test", None)


def test_a_new_pattern_is_found_and_named(strided: Any) -> None:
  assert "mtm.parts.patterns.strided_of_a_test" in [m.__name__ for m in modules(patterns.__name__)]
  assert patterns.StridedOfATest(2) == strided(2)


def test_a_new_pattern_meets_its_contract(strided: Any) -> None:
  module = sys.modules[strided.__module__]
  for pattern in module.EXAMPLES:
    test_patterns.test_block_map_covers_the_mask(pattern)
    test_patterns.test_mask_shows_whatever_labels_can_show(pattern)
    test_patterns.test_mask_is_the_same_in_numpy_and_jax(pattern)
    test_kernels.test_kernel_is_plain_softmax_for_every_pattern(Reference(), pattern)


def test_a_new_pattern_runs_in_a_family(strided: Any) -> None:
  causal = patterns.Causal()
  model = llama(1, 16, 2, 24, 40, pattern=causal & strided(2))
  batch = batch_for(model)
  params = parameters(model.init, batch)
  changed = {**batch, "decoder_input_tokens": batch["decoder_input_tokens"].copy()}
  changed["decoder_input_tokens"][:, 0] = 3
  a, b = (jax.jit(model.apply)(params, x).logits for x in (batch, changed))
  differs = np.abs(a - b).max((0, 2)) > 0
  np.testing.assert_array_equal(differs, np.arange(8) % 2 == 0)


def test_a_new_pattern_is_picked_in_gin(strided: Any, tmp_path: Path) -> None:
  file = tmp_path / "strided.gin"
  file.write_text(GIN)
  model = config.load(None, [str(file)]).value("MODEL")
  (block,) = model.module.decoder.stack.period
  assert block.mixer.pattern == strided(2)
