"""Samples of a training run: the model's own words after each prompt, in a file a step."""

from __future__ import annotations

import types

import jax
import pytest

from mtm.data.vocabulary import Numbers
from mtm.decoding.greedy import Greedy
from mtm.programs import loading
from mtm.programs.generation import Hypothesis
from mtm.programs.sampling import Sample
from mtm.sharding.mesh import mesh
from mtm.sharding.plan import Plan
from mtm.training import loop
from mtm.training.loop import Run
from tests.decoding.models import EOS, decoder, likeliest
from tests.training import tiny

PROMPTS = ["5 3 ", "4 ", "9 9 2 "]


@pytest.fixture
def home(tmp_path):
  Numbers(13, EOS).save(tmp_path / loading.VOCABULARY)
  return tmp_path


def run_at(step, home, plan=None, **fields):
  model, params = decoder()
  trainer = types.SimpleNamespace(model=model, plan=plan or tiny.one_device())
  state = types.SimpleNamespace(params=params)
  fields = {"note": lambda text: None, **fields}
  return Run(trainer, None, state, step, 12, model_dir=home, **fields)


class Echo:
  """A generator that answers every prompt with its number, and notes what it was given."""

  def __init__(self, reads_encoder=False):
    self.reads_encoder, self.given = reads_encoder, []

  def __call__(self, params, prompts):
    for number, ids in prompts:
      self.given.append(ids)
      yield [Hypothesis([number + 2], 0.0), Hypothesis([12], -1.0)]


@pytest.mark.parametrize("devices", [1, 8])
def test_every_prompt_is_followed_by_the_models_likeliest_words(home, devices):
  """On eight devices the three prompts are padded to a row for each."""
  notes = []
  plan = Plan(mesh(devices=jax.devices()[:devices]))
  Sample(PROMPTS, policy=Greedy(), max_length=4)(run_at(12, home, plan, note=notes.append))
  said = [likeliest(*decoder(), [int(i) for i in text.split()], 4) for text in PROMPTS]
  expected = [text + " ".join(map(str, ids)) for text, ids in zip(PROMPTS, said, strict=True)]
  parts = "".join(f"--- {n}\n{text}\n\n" for n, text in enumerate(expected, 1))
  assert (home / "samples" / "12.txt").read_text() == parts[:-1]
  assert notes == [f"step 12: samples\n{parts.rstrip()}"]


def test_a_decoder_goes_on_and_an_encoder_reads_the_end(home):
  for encoder, end in ((False, []), (True, [EOS])):
    echo = Echo(encoder)
    Sample(PROMPTS, _generator=echo)(run_at(12, home))
    assert echo.given == [[5, 3, *end], [4, *end], [9, 9, 2, *end]]
  text = (home / "samples" / "12.txt").read_text()
  assert text == "--- 1\n5 3 2\n\n--- 2\n4 3\n\n--- 3\n9 9 2 4\n"


@pytest.mark.parametrize(("period", "expected"), [(5, {5, 10, 12}), (0, {12})])
def test_samples_are_drawn_every_period_and_at_the_end(home, period, expected):
  sample = Sample(PROMPTS, period, _generator=Echo())
  for step in range(13):
    sample(run_at(step, home))
  assert {int(path.stem) for path in (home / "samples").iterdir()} == expected


def test_an_interrupted_run_draws_none_and_one_without_data_left_does(home):
  sample = Sample(PROMPTS, 5, _generator=Echo())
  sample(run_at(7, home, stop="SIGTERM"))
  assert not (home / "samples").exists()
  sample(run_at(7, home, stop=loop.ENDED))
  assert (home / "samples" / "7.txt").exists()


def test_the_newest_step_is_read_first_and_the_time_is_told(home):
  read = []
  run = run_at(12, home, pending=lambda: read.append(12), note=lambda text: read.append("sampled"))
  Sample(PROMPTS, _generator=Echo())(run)
  assert read == [12, "sampled"] and run.clock.actions.keys() == {"samples"}
