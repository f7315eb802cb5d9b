"""Switch: its published sizes, what of a config it refuses, and that evaluation drops nobody."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mtm import config
from mtm.errors import UserError
from mtm.families._published import Config, complete
from mtm.families.switch import HF, switch
from mtm.interop import hf
from mtm.interop._base import shapes
from tests.contracts.discovered import batch_for, parameters
from tests.families import recorded


def count(file: str) -> int:
  """How many parameters the model of a gin file has."""
  model = config.load(None, [f"families/{file}.gin"], ()).value("MODEL")
  return sum(map(math.prod, shapes(model).values()))


@pytest.mark.parametrize(
  ("name", "billions"),  # table 9 of the paper, and 395 for the XXL that was released
  [("base_128", 7.4), ("large_128", 26.3), ("xxl_128", 395), ("c_2048", 1571)],
)
def test_a_published_size_has_the_parameters_that_are_told_of_it(
  name: str, billions: float
) -> None:
  assert count(f"switch/{name}") == pytest.approx(billions * 1e9, rel=0.01)


@pytest.mark.parametrize(
  ("setting", "value"),
  [
    ("router_dtype", "bfloat16"), ("num_selected_experts", 2), ("is_gated_act", True),
    ("router_type", "expert_choice"), ("dense_act_fn", "gated-gelu"),
  ],
)  # fmt: skip
def test_a_router_that_is_another_is_refused_by_name(setting: str, value: Any) -> None:
  with pytest.raises(UserError, match=f"{setting} = {value!r}, which mtm cannot honour"):
    HF.arguments(Config({"vocab_size": 40, setting: value}))


def test_a_silent_config_is_what_their_class_makes_of_it() -> None:
  told = HF.arguments(Config({"vocab_size": 40}))
  assert (told["layers"], told["step"], told["decoder_step"], told["places"]) == (12, 4, 4, 64)
  assert (told["embed"], told["heads"], told["mlp"], told["experts"]) == (768, 12, 2048, 8)


def small() -> dict[str, Any]:
  return {
    "layers": 4, "embed": 16, "heads": 4, "head_dim": 8, "mlp": 24, "vocab": 40, "experts": 4
  }  # fmt: skip


def test_places_that_are_not_counted_are_written_as_many() -> None:
  a = complete(switch, {**small(), "places": None})
  written = HF.config(a)
  assert written["expert_capacity"] > 10**9
  assert HF.arguments(Config(written))["places"] is None
  with pytest.raises(UserError, match="has no gated experts"):
    HF.config({**a, "gated": True})


def test_experts_are_read_a_tensor_at_a_time(tmp_path: Path) -> None:
  """What the largest checkpoints need: no layer's experts are in memory twice."""
  foreign = hf.FORMAT.open(recorded.directory("switch", tmp_path / "theirs"))
  (one,) = [
    r for r in foreign.rows if r.ours[0] == "encoder/stack/period_1/channel/expert/wo/kernel"
  ]
  assert one.at((1, 2)) == ("encoder.block.3.layer.1.mlp.experts.expert_2.wo.weight",)
  params = foreign.params(foreign.model(), lambda path, values: values)
  bank = params["encoder"]["stack"]["period_1"]["channel"]["expert"]["wo"]["kernel"]
  np.testing.assert_array_equal(bank[1, 2].T, foreign.source.get(*one.at((1, 2))))


def test_training_drops_for_want_of_places_and_evaluation_does_not() -> None:
  model = switch(2, 8, 2, 4, 8, 40, 4, decoder_layers=1, decoder_step=0, capacity=0.1, dropout=0.0)
  batch = batch_for(model, length=24)
  params = parameters(model.init, batch)

  @functools.partial(jax.jit, static_argnames="train")
  def dropped(train: bool) -> Any:
    metrics = model.apply(params, batch, train=train).metrics
    return metrics["encoder/block_1/channel/dropped"]

  assert dropped(train=False) == 0.0 and dropped(train=True) > 0.2
