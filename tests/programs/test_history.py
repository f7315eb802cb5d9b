"""What a run remembers over interruptions, and the card and curve that tell it."""

from __future__ import annotations

import dataclasses
import json
import types

import jax
import pytest

from mtm.programs import history
from mtm.programs.history import History, Report
from mtm.training import loop
from mtm.training.loop import Clock, Run
from mtm.training.metrics import MetricsWriter
from tests.training import tiny

BEFORE = {
  "config": "LAYERS = 1\n", "tokens": 90.0, "first_step": 4, "versions": {"python": "2.7"},
  "ledger": {"training steps": 30.0, "samples": 1.0},
}  # fmt: skip
PROPORTIONS = {"my_task": {"rate": 2.0, "realised": 1.0, "examples": 30, "tokens": 210}}


@dataclasses.dataclass(frozen=True)
class Data:
  mixture_or_task_name: str = "my_mix"
  split: str = "train"


def run_at(step, home=None, **fields):
  clock = Clock(compiled=5.0, busy=20.0, actions={"checkpoints": 2.0, "evaluation": 0.0}, tokens=10)
  stream = types.SimpleNamespace(proportions=lambda: PROPORTIONS)
  places = {} if home is None else {"model_dir": home}
  return Run(tiny.trainer(), stream, None, step, 12, clock=clock, **places, **fields)


def test_a_ledger_holds_what_took_time():
  expected = {"compilation": 5.0, "training steps": 20.0, "checkpoints": 2.0}
  assert history.ledger(run_at(3).clock) == expected
  assert history.ledger(Clock()) == {}


class TestHistory:
  def test_seconds_add_up_over_processes_however_often_they_are_asked_for(self):
    remembered = History("", BEFORE)
    expected = {"compilation": 5.0, "training steps": 50.0, "checkpoints": 2.0, "samples": 1.0}
    for _ in range(2):
      assert remembered.ledger(run_at(3)) == expected

  def test_a_record_is_plain_json_of_this_process_on_top_of_those_before(self):
    record = History("LAYERS = 2\n", BEFORE).record(run_at(3, tokens_before=90.0))
    assert json.loads(json.dumps(record)) == record
    assert (record["config"], record["tokens"], record["first_step"]) == ("LAYERS = 2\n", 100.0, 4)
    assert record["ledger"]["training steps"] == 50.0
    assert record["versions"]["jax"] == jax.__version__
    assert record["versions"]["device"] == jax.devices()[0].device_kind

  def test_a_new_run_begins_at_step_0_with_its_own_seconds(self):
    record = History("", {}).record(run_at(3))
    assert record["first_step"] == 0 and record["tokens"] == 10.0
    assert record["ledger"] == history.ledger(run_at(3).clock)

  def test_the_record_of_a_record_counts_on(self):
    """As over three processes of one MODEL_DIR."""
    record = {}
    for _ in range(3):
      record = History("", record).record(run_at(3, tokens_before=record.get("tokens", 0.0)))
    assert record["tokens"] == 30.0 and record["ledger"]["training steps"] == 60.0


def test_parameters_are_counted_as_on_paper():
  embed, mlp = tiny.EMBED, 32
  attention = 4 * (embed * embed + embed)
  channel = embed * mlp + mlp + mlp * embed + embed
  layer = attention + channel + 2 * 2 * embed
  whole = tiny.VOCAB * embed + tiny.LENGTH * embed + 2 * layer + 2 * embed
  assert history.parameter_count(run_at(3)) == whole


def test_held_out_are_the_newest_figures_of_every_split_but_train():
  rows = [
    {"step": 1, "split": "train", "loss": 9.0},
    {"step": 1, "split": "validation", "loss": 3.0, "accuracy": 0.1, "z_loss": 7.0},
    {"step": 2, "split": "squad", "f1": 0.5},
    {"step": 2, "split": "validation", "loss": 2.0, "bits_per_byte": 1.5, "tokens": 8.0},
  ]
  expected = {"validation": {"loss": 2.0, "bits_per_byte": 1.5}, "squad": {}}
  assert history.held_out(rows) == expected
  assert history.held_out([]) == {}


class TestReport:
  def test_the_card_tells_the_run_and_the_curve_lies_beside_it(self, tmp_path):
    with MetricsWriter(tmp_path, tensorboard=False) as writer:
      for step in (1, 2, 3):
        writer.write(step, "train", {"loss": 4.0 - step, "tokens": 10.0 * step})
      writer.write(3, "validation", {"loss": 1.25})
    run = run_at(12, tmp_path, tokens_before=90.0)
    Report(History("", BEFORE), Data(), 5, {"my_task": "PSF-2.0"})(run)
    card = (tmp_path / "card.md").read_text()
    for line in (
      f"# {tmp_path.name}",
      "Trained for 12 steps on 100 target tokens.",
      "| model | `Decoder` |",
      f"| parameters | {history.parameter_count(run):,} |",
      f"| objective | `{run.trainer.objective!r}` |",
      "`my_mix, split train`.",
      "| `my_task` | 2 | 100.0% | 30 | 210 | PSF-2.0 |",
      "| `validation` | loss | 1.2500 |",
      "| training steps | 50.0 s |",
    ):
      assert line in card
    assert (tmp_path / "plots" / "loss.png").read_bytes().startswith(b"\x89PNG")

  @pytest.mark.parametrize(
    ("step", "stop", "due"),
    [(5, None, True), (6, None, False), (12, None, True), (6, "SIGTERM", True),
     (6, loop.ENDED, True)],
  )  # fmt: skip
  def test_it_is_due_with_every_checkpoint_and_draws_nothing_without_metrics(
    self, tmp_path, step, stop, due
  ):
    Report(History("", {}), Data(), 5)(run_at(step, tmp_path, stop=stop))
    assert [path.name for path in tmp_path.iterdir()] == (["card.md"] if due else [])
