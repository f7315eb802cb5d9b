"""Gin text of a call gives the call back."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import pytest

from mtm import config
from mtm.errors import UserError
from mtm.families.bert import bert
from mtm.families.t5 import t5
from mtm.families.xlnet import xlnet
from mtm.parts.activations import quick_gelu
from mtm.parts.patterns.causal import Causal


@pytest.mark.parametrize(
  ("build", "arguments"),
  [
    (bert, dict(layers=1, embed=8, heads=2, vocab=11, activation=quick_gelu, dropout=0.0)),
    (t5, dict(layers=1, embed=8, heads=2, head_dim=4, mlp=8, vocab=11, activation=jax.nn.relu,
              gated=False, tied=True)),
    (xlnet, dict(layers=1, embed=8, heads=2, vocab=11, pattern=Causal())),
  ],
)  # fmt: skip
def test_the_model_comes_back(build: Any, arguments: dict[str, Any], tmp_path: Path) -> None:
  file = tmp_path / "model.gin"
  file.write_text(config.call("MODEL", build, arguments))
  loaded = config.load(None, [str(file)], [])
  assert loaded.parts("MODEL") == (build, arguments)
  assert loaded.value("MODEL").vocab_size == 11


def test_defaults_are_left_out() -> None:
  fields = {"layers": 1, "embed": 8, "heads": 2, "vocab": 11, "dropout": 0.1, "remat": None}
  text = config.call("MODEL", bert, fields)
  assert "dropout" not in text and "remat" not in text and "bert.bert.heads = 2" in text


def test_what_gin_cannot_write_is_told() -> None:
  nameless = functools.partial(jax.nn.gelu, approximate=False)
  with pytest.raises(UserError, match="bert.activation = .* cannot be written as gin"):
    config.call("MODEL", bert, {"activation": nameless})


def test_a_macro_that_is_no_call_has_no_parts(tmp_path: Path) -> None:
  (tmp_path / "a.gin").write_text("MODEL = 3\n")
  assert config.load(None, [str(tmp_path / "a.gin")], []).parts("MODEL") is None
