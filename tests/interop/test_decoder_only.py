"""T5X's decoder: the same logits and the same next step, there and back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import mtm
from mtm import cli
from mtm.families.t5_decoder import t5_decoder
from mtm.interop import t5x
from mtm.interop._base import Export, Foreign
from mtm.objectives.prefix_lm import PrefixLM
from mtm.programs import initial, published
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from mtm.training.optimizers.adafactor import adafactor
from mtm.training.trainer import Trainer
from tests.families import t5x_names

each = pytest.mark.parametrize("name", ["decoder_only", "decoder_only_untied"])
Arrays = dict[str, np.ndarray]


def opened(arrays: Arrays) -> Foreign:
  leaves = {k: x for k, x in arrays.items() if k.startswith(("target/", "state/"))}
  return t5x.opened(t5x.Indexed(Path("recorded"), leaves))


def params(foreign: Foreign) -> Any:
  return foreign.params(foreign.model(), lambda path, values: values)


def batch(arrays: Arrays) -> Arrays:
  return {k.removeprefix("in/"): x for k, x in arrays.items() if k.startswith("in/")}


@each
def test_logits_are_those_of_t5x_with_a_prefix_and_without(name: str) -> None:
  arrays = t5x_names.load(name)
  foreign = opened(arrays)
  assert foreign.build is t5_decoder
  inputs, real = batch(arrays), arrays["in/decoder_target_tokens"] > 0
  apply = jax.jit(foreign.model(dropout=0.0).apply)
  for logits in ("logits", "logits_causal"):
    ours = apply(params(foreign), inputs).logits
    np.testing.assert_allclose(ours[real], arrays[logits][real], rtol=1e-5, atol=1e-5)
    inputs["decoder_causal_attention"] = np.zeros_like(inputs["decoder_input_tokens"])


@each
def test_the_next_step_is_the_one_that_t5x_took(name: str) -> None:
  arrays = t5x_names.load(name)
  foreign, inputs = opened(arrays), batch(arrays)
  shapes = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in inputs.items()}
  run = Trainer(
    foreign.model(dropout=0.0), PrefixLM(), adafactor(1e-2, min_dim_size_to_factor=8),
    Plan(mesh(devices=jax.devices()[:1])), shapes, normalizer=1.0,
  )  # fmt: skip
  assert foreign.moments is not None
  fresh = run.create()
  state = dataclasses.replace(
    fresh,
    params=foreign.params(run.model, published.placed(run.abstract.params)),
    opt_state=initial.with_moments(fresh.opt_state, foreign.moments()),
  )
  state, _ = run.train_step(state, run.plan.put_batch(inputs))
  after = {k.replace("after/", "target/"): x for k, x in arrays.items() if k.startswith("after/")}
  # One step of float32, whose update is about 0.01 of a parameter.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), state.params,
               params(opened(after)))  # fmt: skip


def test_a_prompt_is_read_in_both_directions_as_t5x_does(tmp_path: Path) -> None:
  """What follows it is what is likeliest there; so it is in a checkpoint of ours."""
  arrays = t5x_names.load("decoder_only")
  foreign = opened(arrays)
  export = Export(foreign.build, foreign.arguments, params(foreign))
  t5x.FORMAT.write(tmp_path / "t5x", export)
  assert cli.main(["convert", str(tmp_path / "t5x"), str(tmp_path / "ours")]) == 0
  lengths = arrays["in/decoder_causal_attention"].sum(1) - 1  # without the 0 before it
  targets = arrays["in/decoder_target_tokens"]
  prompts = [row[:n].tolist() for row, n in zip(targets, lengths, strict=True)]
  wanted = [row[n].argmax() for row, n in zip(arrays["logits"], lengths, strict=True)]
  causal = [row[n].argmax() for row, n in zip(arrays["logits_causal"], lengths, strict=True)]
  assert wanted != causal
  handle = mtm.load(tmp_path / "ours")
  assert [found[0] for found in handle.generate(prompts, max_length=1)] == wanted
  (score,) = handle.score([prompts[0]], [[targets[0, lengths[0]]]])
  told = np.asarray(jax.nn.log_softmax(arrays["logits"][0, lengths[0]]))
  np.testing.assert_allclose(score, told[targets[0, lengths[0]]], rtol=1e-4)


@each
def test_it_goes_there_and_back_with_the_optimizer(name: str, tmp_path: Path) -> None:
  arrays = t5x_names.load(name)
  foreign = opened(arrays)
  assert foreign.moments is not None
  export = Export(foreign.build, foreign.arguments, params(foreign), moments=foreign.moments())
  t5x.FORMAT.write(tmp_path / "t5x", export)
  again = t5x.FORMAT.open(tmp_path / "t5x")
  assert again.arguments == foreign.arguments
  kept = {k: x for k, x in arrays.items() if k.startswith(("target/", "state/"))}
  assert again.source.names() == kept.keys()
  for key, values in kept.items():
    np.testing.assert_array_equal(again.source.get(key), values, err_msg=key)
    assert again.source.get(key).dtype == values.dtype
