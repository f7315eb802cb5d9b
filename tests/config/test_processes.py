"""Which process of several this is: flags that go not together are refused before JAX starts."""

import socket

import jax
import pytest

from mtm.config import processes
from mtm.config.flags import parse
from mtm.errors import UserError

THREE = ["--coordinator_address=host:1234", "--process_count=4", "--process_index=3"]


@pytest.fixture
def joined(monkeypatch):
  """What `jax.distributed.initialize` was called with."""
  calls = []
  monkeypatch.setattr(jax.distributed, "initialize", lambda *args: calls.append(args))
  monkeypatch.setattr(jax.config, "update", lambda *args: None)
  monkeypatch.setattr(processes, "_await", lambda address: None)
  return calls


def test_one_process_joins_nobody(joined):
  parse([]).processes.start()
  assert joined == []


def test_t5x_flags_are_passed_on(joined):
  parse(THREE).processes.start()
  assert joined == [("host:1234", 4, 3)]


@pytest.mark.parametrize("flag", ["--multiprocess", "--multiprocess_gpu"])
def test_a_cluster_is_asked_for_what_is_not_told(joined, flag):
  parse([flag]).processes.start()
  assert joined == [(None, None, None)]


@pytest.mark.parametrize("left_out", range(3))
def test_a_flag_that_lacks_is_named(joined, left_out):
  given = [flag for i, flag in enumerate(THREE) if i != left_out]
  with pytest.raises(UserError, match=f"need {THREE[left_out].partition('=')[0]} too"):
    parse(given).processes.start()
  assert joined == []


@pytest.mark.parametrize("index", [-1, 4])
def test_a_process_outside_the_count_is_refused(joined, index):
  with pytest.raises(UserError, match=f"--process_index={index} is none of 4"):
    parse([*THREE[:2], f"--process_index={index}"]).processes.start()


def test_a_number_that_is_none_is_refused():
  with pytest.raises(UserError, match="--process_count=two: must be a whole number"):
    parse(["--process_count=two"])


def test_processes_that_do_not_come_are_told_in_one_sentence(joined, monkeypatch):
  def fails(*args):
    raise RuntimeError("DEADLINE_EXCEEDED: Deadline\nExceeded")

  monkeypatch.setattr(jax.distributed, "initialize", fails)
  with pytest.raises(UserError, match="not found at host:1234: start all of them"):
    parse(THREE).processes.start()


def test_a_first_process_that_nobody_started_is_told(monkeypatch):
  monkeypatch.setattr(processes, "PATIENCE", 0.1)
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))  # bound, but it does not listen
    address = f"127.0.0.1:{probe.getsockname()[1]}"
    flags = [f"--coordinator_address={address}", *THREE[1:]]
    with pytest.raises(UserError, match=f"no process 0 listens at {address}"):
      parse(flags).processes.start()


def test_an_address_without_a_port_is_refused():
  with pytest.raises(UserError, match="must be HOST:PORT"):
    parse(["--coordinator_address=host", *THREE[1:]]).processes.start()
