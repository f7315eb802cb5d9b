"""Shards of the data: the same batches for any number of hosts, each of which reads its own."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mtm.data import pool
from mtm.data.pipeline import Dataset
from mtm.errors import UserError
from mtm.objectives.causal_lm import CausalLM
from mtm.objectives.span_corruption import SpanCorruption
from tests.data.test_pipeline import SPANS, assert_same, read

pytestmark = pytest.mark.usefixtures("tasks")


@pytest.fixture(autouse=True)
def small_pool(monkeypatch: pytest.MonkeyPatch) -> None:
  """As in `test_pipeline`."""
  monkeypatch.setattr(pool, "MOST", 128)


class Gathering:
  """Hosts in turn: what each said last, as a state needs it from all."""

  def __init__(self) -> None:
    self.told: dict[int, Any] = {}

  def of(self, host: int) -> Any:
    def gather(mine: Any) -> Any:
      self.told[host] = mine
      return list(self.told.values())

    return gather


@pytest.mark.parametrize(
  ("hosts", "fields"),
  [(2, {}), (3, {}), (4, {}), (2, {"use_cached": False, "shuffle": False})],
  ids=["2", "3", "4", "without a cache"],
)
def test_shards_give_every_number_of_hosts_the_same_batches_and_each_reads_its_own(
  three, hosts, fields
):
  data = Dataset(three, {"targets": 24}, batch_size=12, shards=6, **fields)
  alone = data.batches(CausalLM(), prefetch=0)
  whole = read(alone, 3)
  gathering = Gathering()
  streams = [
    data.batches(CausalLM(), (i, hosts), prefetch=0, gather=gathering.of(i)) for i in range(hosts)
  ]
  parts = [read(stream, 3) for stream in streams]
  joined = [{k: np.concatenate([p[i][k] for p in parts]) for k in whole[i]} for i in range(3)]
  assert_same(joined, whole)
  for stream in streams:
    stream.state()
  assert streams[0].state() == alone.state()
  if data.shards % hosts:
    return  # two hosts read the same shard
  # A shard's examples are no other's, and a host counts those of its shards.
  drawn = [sum(task["examples"] for task in one.proportions().values()) for one in streams]
  assert sum(drawn) == sum(task["examples"] for task in alone.proportions().values())
  assert max(drawn) < sum(drawn)


def test_the_state_of_shards_goes_on_with_another_number_of_hosts(three):
  data = Dataset(three, SPANS, batch_size=8, shards=4)
  alone = data.batches(SpanCorruption(), prefetch=0)
  read(alone, 2)
  state = json.loads(json.dumps(alone.state()))
  wanted = read(alone, 2)
  parts = []
  for host in (0, 1):
    stream = data.batches(SpanCorruption(), (host, 2), prefetch=0)
    stream.restore(state)
    parts.append(read(stream, 2))
  assert_same([{k: np.concatenate([p[i][k] for p in parts]) for k in wanted[i]} for i in (0, 1)],
              wanted)  # fmt: skip
  del state["shards"]["1"]
  with pytest.raises(UserError, match="damaged: it lacks shard 1"):
    data.batches(SpanCorruption(), (0, 2)).restore(state)


def test_the_state_of_other_shards_is_refused_and_so_are_shards_of_finite_data(three):
  def of(shards: int, **fields: Any) -> Any:
    return Dataset(three, SPANS, batch_size=8, shards=shards, **fields).batches(SpanCorruption())

  with pytest.raises(UserError, match="shards was 4 and is now None"):
    of(1).restore(of(4).state())
  with pytest.raises(UserError, match="with num_epochs = 1 take 1"):
    of(2, num_epochs=1)
  with pytest.raises(UserError, match="shards = 3 of the data do not divide batch_size = 8; take"):
    of(3)
