"""Actions: each is due when it says, and what it tells is what was done."""

from __future__ import annotations

import dataclasses
import math
import types

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from mtm.objectives.causal_lm import CausalLM
from mtm.training import actions, checkpoint, loop
from mtm.training.actions import Evaluate, Log, Save
from mtm.training.checkpoint import Checkpoints
from mtm.training.loop import Clock, Run
from mtm.training.metrics import MetricsWriter, read
from mtm.training.state import create
from mtm.types import Sums
from tests.training import tiny


def run_at(step, total=12, **fields):
  """A run whose trainer and data a test does not need."""
  return Run(None, None, None, step, total, **fields)


@pytest.fixture
def writer(tmp_path):
  with MetricsWriter(tmp_path, tensorboard=False) as made:
    yield made


@pytest.mark.parametrize(
  ("period", "expected"), [(5, [5, 10, 12]), (1, list(range(1, 13))), (0, [12]), (99, [12])]
)
def test_due_are_the_multiples_of_the_period_and_the_end(period, expected):
  assert [s for s in range(1, 13) if actions.due(run_at(s), period)] == expected


def test_the_end_of_the_data_is_an_end_and_an_interruption_is_not():
  assert actions.due(run_at(7, stop=loop.ENDED), 5)
  assert not actions.due(run_at(7, stop="SIGTERM"), 5)


class Late:
  """A number that a device will know at a certain time; to read it is to wait."""

  def __init__(self, device, value):
    self.device, self.value, self.at = device, value, device.free

  def __array__(self, dtype=None, copy=None):
    self.device.now = max(self.device.now, self.at)
    return np.asarray(self.value, dtype)


class Device:
  """A trainer, its data and its time: steps of `TOOK` seconds of work each, one after another."""

  TOOK, TOKENS = 2.0, 4.0

  def __init__(self):
    self.now = self.free = 0.0
    self.plan = types.SimpleNamespace(put_batch=lambda batch: batch)

  def __iter__(self):
    return self

  def __next__(self):
    return {}

  def train_step(self, state, batch):
    self.free = max(self.now, self.free) + self.TOOK
    return state + 1, Sums(np.float32(1), Late(self, self.TOKENS), {})

  def perf_counter(self):
    return self.now


class TestLog:
  def test_every_line_has_the_pace_of_the_device_whatever_happens_between_steps(
    self, writer, monkeypatch
  ):
    device, total = Device(), 9
    monkeypatch.setattr(loop, "time", device)
    run = Run(device, device, 0, 0, total)
    run.observers.append(Log(run, writer, lambda *_: None, 1, lambda: (6e9, 1e12)))

    def evaluate(run):
      if run.step in (4, 7):
        run.sync()
        with run.clock.measure("evaluation"):
          device.now += 100.0

    loop.train(run, [evaluate])
    rows = read(writer.path.parent)
    assert [row["step"] for row in rows] == list(range(1, total + 1))
    # The first step compiles, and when the second is read the next one is not yet over.
    for row in rows[2:]:
      assert row["steps_per_second"] == 1 / device.TOOK
      assert row["tokens_per_second"] == device.TOKENS / device.TOOK
      assert row["mfu"] == 6e9 / device.TOOK / 1e12
      assert row["waiting"] == 0.0
    assert run.clock.actions == {"evaluation": 200.0}

  def test_rates_are_means_over_the_steps_that_are_over(self):
    clock = Clock(waited=0.5, busy=2.0, compiled=9.0, steps=4, tokens=50.0, read=5)
    shown = []
    log = Log(
      run_at(5, clock=clock), None, lambda step, m: shown.append(m), 1, lambda: (8.0, 100.0)
    )
    log(5, {"loss": 1.0})
    rates = {"steps_per_second": 1.5, "tokens_per_second": 15.0, "waiting": 0.25, "mfu": 0.12}
    assert shown == [{"loss": 1.0, **{name: pytest.approx(x) for name, x in rates.items()}}]

  def test_work_is_counted_once_and_after_the_first_step_was_told(self):
    told = []

    def work():
      told.append("counted")
      return 8.0, 100.0

    clock = Clock(busy=4.0, steps=2, tokens=1.0, read=1)
    run = run_at(5, clock=Clock())
    log = Log(run, None, lambda step, m: told.append(step), 1, work)
    log(5, {})
    run.clock = clock
    log(6, {})
    assert told == [5, "counted", 6]

  @pytest.mark.parametrize(("flops", "peak"), [(None, 100.0), (8.0, None)])
  def test_utilisation_is_left_out_where_it_is_unknown(self, flops, peak):
    shown = []
    run = run_at(5, clock=Clock(busy=2.0, steps=4, tokens=50.0, read=5))
    Log(run, None, lambda step, m: shown.append(m), 1, lambda: (flops, peak))(5, {})
    assert shown[0].keys() == {"steps_per_second", "tokens_per_second", "waiting"}

  def test_a_line_is_written_every_period_and_at_the_end_and_the_bar_sees_every_step(self, writer):
    run, shown = run_at(0, total=7, tokens_before=100.0), []
    log = Log(run, writer, lambda step, metrics: shown.append((step, metrics["loss"])), 3)
    for step in range(1, 8):
      run.clock.tokens += 10.0
      log(step, {"step": step, "loss": step / 2})
    assert shown == [(step, step / 2) for step in range(1, 8)]
    assert read(writer.path.parent) == [
      {"step": step, "split": "train", "loss": step / 2, "tokens": 100.0 + 10 * step}
      for step in (3, 6, 7)
    ]


class HeldOut:
  """Held-out batches, and how many bytes each id stands for."""

  def __init__(self, batches, table):
    self.given, self.table, self.shards = batches, table, []

  def batches(self, objective, shard=(0, 1)):
    self.shards.append(shard)
    return iter(self.given)

  def token_bytes(self):
    return self.table


def counted(targets, weights):
  return {
    "decoder_target_tokens": np.asarray([targets]), "decoder_loss_weights": np.asarray([weights])
  }  # fmt: skip


# Six target tokens of 2 + 3 + 5 and 5 + 5 + 2 = 22 bytes; what has no weight does not count.
SIX = [counted([1, 2, 3, 0], [1, 1, 1, 0]), counted([3, 3, 1, 2], [1, 1, 1, 0])]
TABLE = np.asarray([0, 2, 3, 5], np.int32)


class Fixed:
  """An evaluator with one answer, which reads all batches."""

  objective = CausalLM()

  def __init__(self, **values):
    self.values = values

  def evaluate(self, params, batches):
    assert len(list(batches)) == 2
    return dict(self.values)


def evaluated(step, total=12, **fields):
  """A run whose evaluation costs nothing."""
  run = run_at(step, total, **fields)
  run.trainer = types.SimpleNamespace(evaluator=Fixed(loss=2.5, cross_entropy=2.0, accuracy=0.25))
  run.state = types.SimpleNamespace(params={})
  return run


class TestEvaluate:
  def test_it_writes_a_line_of_its_split_with_bits_a_byte(self, writer):
    notes = []
    run = evaluated(6, tokens_before=70.0, note=notes.append)
    Evaluate(HeldOut(SIX, TABLE), 3, "validation", writer)(run)
    bits = 2.0 * 6 / math.log(2) / 22
    assert read(writer.path.parent) == [
      {
        "step": 6, "split": "validation", "loss": 2.5, "cross_entropy": 2.0, "accuracy": 0.25,
        "bits_per_byte": pytest.approx(bits, rel=1e-12), "tokens": 70.0,
      }
    ]  # fmt: skip
    assert notes == [f"step 6: validation loss 2.500, bits/byte {bits:.3f}, accuracy 0.250"]
    assert run.clock.actions.keys() == {"evaluation"}

  def test_it_runs_every_period_and_at_the_end_but_not_before_the_first_step(self, writer):
    evaluate = Evaluate(HeldOut(SIX, TABLE), 5, "test", writer)
    for step in range(13):
      evaluate(evaluated(step, note=lambda text: None))
    evaluate(evaluated(0, total=0))
    assert [row["step"] for row in read(writer.path.parent)] == [5, 10, 12]

  def test_an_interrupted_run_does_not_wait_for_it(self, writer):
    Evaluate(HeldOut(SIX, TABLE), 5, "test", writer)(evaluated(7, stop="SIGINT"))
    assert read(writer.path.parent) == []

  def test_the_newest_step_is_read_first(self, writer):
    run = evaluated(5, note=lambda text: None)
    run.pending = lambda: writer.write(5, "train", {"loss": 1.0})
    Evaluate(HeldOut(SIX, TABLE), 5, "test", writer)(run)
    assert [row["split"] for row in read(writer.path.parent)] == ["train", "test"]

  def test_hosts_without_a_writer_measure_too(self):
    data, notes = HeldOut(SIX, TABLE), []
    Evaluate(data, 5, "test", None)(evaluated(5, note=notes.append))
    assert data.shards == [(0, 1)] and len(notes) == 1


class TestMeasure:
  def test_bits_a_byte_are_the_models_own_log_probabilities(self):
    """Not the loss: z-loss is no bit of the text."""
    trainer = tiny.trainer(objective=CausalLM(z_loss=0.1))
    params = trainer.create().params
    batches = [tiny.batch("gpt2", seed=seed) for seed in range(2)]
    table = np.random.default_rng(0).integers(1, 9, tiny.VOCAB)
    nats = size = 0.0
    for batch in batches:
      logits = np.asarray(trainer.model.apply(params, batch).logits, np.float64)
      targets = batch["decoder_target_tokens"][..., None]
      told = np.take_along_axis(scipy.special.log_softmax(logits, axis=-1), targets, -1)[..., 0]
      nats -= np.sum(told * batch["decoder_loss_weights"])
      size += np.sum(table[targets[..., 0]] * batch["decoder_loss_weights"])
    values = actions.measure(trainer.evaluator, params, HeldOut(batches, table))
    # Float32 sums of a hundred terms.
    assert values["bits_per_byte"] == pytest.approx(nats / np.log(2) / size, rel=1e-5)
    assert values["loss"] > values["cross_entropy"] * 1.1

  @pytest.mark.parametrize("table", [None, np.zeros(4, np.int32)], ids=["unknown", "no bytes"])
  def test_without_bytes_there_are_no_bits_a_byte(self, table):
    values = actions.measure(Fixed(cross_entropy=2.0), {}, HeldOut(SIX, table))
    assert values == {"cross_entropy": 2.0}


@pytest.mark.parametrize(
  ("values", "text"),
  [
    (
      {"accuracy": 0.5, "bits_per_byte": 1.23456, "loss": 2, "z_loss": 9},
      "loss 2.000, bits/byte 1.235, accuracy 0.500",
    ),
    ({"loss": 0.25}, "loss 0.250"),
    ({"f1": 0.25}, ""),
  ],
)
def test_described_are_the_figures_that_people_look_at(values, text):
  assert actions.described(values) == text


class Noted:
  """Checkpoints that only note what is asked of them; one may be there already."""

  def __init__(self, newest=None):
    self.newest, self.log = newest, []

  def latest(self):
    return self.newest

  def save(self, state, record):
    self.newest = state
    self.log.append((state, record))

  def wait(self):
    self.log.append("waited")


def saveable(step, **fields):
  run = run_at(step, **fields)
  run.state, run.batches = step, types.SimpleNamespace(state=lambda: {"position": 10 * step})
  return run


def steps(log):
  return [entry[0] for entry in log if entry != "waited"]


class TestSave:
  def test_it_saves_every_period_and_at_the_end_and_waits_only_then(self):
    checkpoints = Noted()
    save = Save(checkpoints, 5, lambda run: {"tokens": run.step})
    for step in range(13):
      save(saveable(step))
    assert steps(checkpoints.log) == [5, 10, 12]
    assert checkpoints.log[0] == (5, {"tokens": 5, "data": {"position": 50}})
    assert checkpoints.log.index("waited") == 3 and checkpoints.log.count("waited") == 1

  @pytest.mark.parametrize("reason", ["SIGTERM", loop.ENDED])
  def test_a_run_that_stops_is_saved_whole_before_it_ends(self, reason):
    checkpoints = Noted()
    Save(checkpoints, 5, lambda run: {})(saveable(7, stop=reason))
    assert checkpoints.log == [(7, {"data": {"position": 70}}), "waited"]

  def test_nothing_is_saved_before_the_first_step(self):
    checkpoints = Noted()
    Save(checkpoints, 5, lambda run: {})(saveable(0, stop="SIGTERM"))
    assert checkpoints.log == []

  def test_the_newest_step_is_read_first_so_that_the_record_counts_its_tokens(self):
    checkpoints, run = Noted(), saveable(5)

    def pending():
      run.clock.tokens += 8.0

    run.pending = pending
    Save(checkpoints, 5, lambda run: {"tokens": run.tokens})(run)
    assert checkpoints.log[0][1]["tokens"] == 8.0

  def test_a_step_that_is_there_is_not_saved_again(self, tmp_path):
    checkpoints, run = Checkpoints(tmp_path), saveable(3)
    state = create({"w": jnp.arange(4.0)}, optax.sgd(1.0), 0, {})
    run.state = dataclasses.replace(state, step=jnp.int32(3))
    asked = iter([{"asked": "first"}, {"asked": "again"}])
    save = Save(checkpoints, 1, lambda run: next(asked))
    save(run)
    run.stop = "SIGTERM"  # after this step was saved
    save(run)
    checkpoints.close()
    assert checkpoint.record(tmp_path) == {"asked": "first", "data": {"position": 30}}
    assert next(asked) == {"asked": "again"}
