"""The alarm: silent for a balanced router, told once for one that collapses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mtm.families.switch_decoder import switch_decoder
from mtm.objectives.causal_lm import CausalLM
from mtm.training.collapse import FILE, Collapse, Watch, layers
from mtm.training.metrics import plain
from mtm.training.optimizers.adamw import adamw
from mtm.training.trainer import Trainer
from tests.training import tiny


def metrics(entropy: list[float], dropped: list[float], dead: list[float]) -> dict[str, Any]:
  place = "decoder/block_1/channel"
  return {
    "loss": 2.0,
    f"{place}/load_entropy": np.float32(entropy) if len(entropy) > 1 else entropy[0],
    f"{place}/dropped": np.float32(dropped) if len(dropped) > 1 else dropped[0],
    f"{place}/dead": np.float32(dead) if len(dead) > 1 else dead[0],
  }


GOOD = metrics([0.95, 0.9], [0.05, 0.0], [0.0, 0.0])
BAD = metrics([0.95, 0.2], [0.05, 0.7], [0.0, 0.75])


def told(every: list[dict[str, Any]], limits: Collapse, home: Path | None = None) -> list[str]:
  notes: list[str] = []
  watch = Watch(limits, notes.append, home)
  for step, one in enumerate(every, 1):
    watch(step, one)
  return notes


def test_a_balanced_run_raises_nothing() -> None:
  assert told([GOOD] * 200, Collapse()) == []


def test_a_model_without_experts_raises_nothing() -> None:
  assert told([{"loss": 2.0, "accuracy": 0.5}] * 50, Collapse(grace=0, patience=1)) == []


def test_a_collapsed_layer_is_told_once_and_by_name(tmp_path: Path) -> None:
  notes = told([BAD] * 200, Collapse(patience=5, grace=10), tmp_path)
  assert len(notes) == 1
  assert "step 15: the experts of decoder/block_1, repetition 1 collapse" in notes[0]
  assert "load entropy 0.20" in notes[0] and "70% of its tokens dropped" in notes[0]
  (line,) = (tmp_path / FILE).read_text().splitlines()
  row = json.loads(line)
  assert row["step"] == 15 and row["dead"] == 0.75


def test_a_short_dip_is_no_collapse() -> None:
  assert told([GOOD, BAD, BAD, GOOD] * 30, Collapse(patience=3, grace=0)) == []


def test_a_layer_that_recovered_is_watched_anew() -> None:
  assert len(told(([BAD] * 5 + [GOOD] * 5) * 2, Collapse(patience=3, grace=0))) == 2


@pytest.mark.parametrize(
  ("limits", "word"),
  [
    (Collapse(entropy=0.5, dropped=1.0, dead=1.0), "entropy"),
    (Collapse(entropy=0.0, dropped=0.5, dead=1.0), "dropped"),
    (Collapse(entropy=0.0, dropped=1.0, dead=0.5), "dead"),
  ],
)
def test_each_limit_alone_suffices(limits: Collapse, word: str) -> None:
  assert word in str(limits.wrong({"load_entropy": 0.2, "dropped": 0.7, "dead": 0.75}))


def test_a_stack_of_one_repetition_tells_numbers_instead_of_arrays() -> None:
  ((name, figures),) = layers(metrics([0.3], [0.1], [0.2]))
  assert name == "decoder/block_1, repetition 0"
  assert figures == {"load_entropy": 0.3, "dropped": 0.1, "dead": 0.2}


@pytest.mark.parametrize(("balance", "collapses"), [(-1.0, True), (0.1, False)])
def test_a_model_built_to_collapse_raises_it_and_a_balanced_one_does_not(
  balance: float, collapses: bool
) -> None:
  """A balance loss of the wrong sign rewards one expert for having all."""
  model = switch_decoder(
    1,
    tiny.EMBED,
    tiny.HEADS,
    16,
    tiny.VOCAB,
    4,
    step=1,
    balance=balance,
    scan=False,
    group=tiny.ROWS * tiny.LENGTH,
  )
  batch = tiny.batch("llama")
  run = Trainer(model, CausalLM(), adamw(0.03), tiny.one_device(), tiny.shapes(batch))
  notes: list[str] = []
  watch = Watch(Collapse(entropy=0.3, dropped=1.0, dead=0.7, patience=5, grace=5), notes.append)
  state, put = run.create(), run.plan.put_batch(batch)
  for step in range(1, 41):
    state, sums = run.train_step(state, put)
    watch(step, {name: plain(value) for name, value in jax.device_get(sums.means()).items()})
  assert len(notes) == collapses
