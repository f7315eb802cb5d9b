"""A checkpoint goes straight to a mesh: each device, and each host, has its own part of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import loading_host

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", ["hf", "mtm"])
def test_each_device_holds_its_part_and_no_more(kind: str, tmp_path: Path) -> None:
  loading_host.made(tmp_path)
  found = loading_host.loaded(tmp_path / kind)
  assert found["share"] < 0.5  # fsdp=2, tensor=2; norms and small tables are whole everywhere


@pytest.mark.slow
def test_two_hosts_load_and_train_as_one(tmp_path: Path) -> None:
  loading_host.made(tmp_path)
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{probe.getsockname()[1]}"
  flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=4")
  command = [sys.executable, "-m", "tests.programs.loading_host", str(tmp_path), address]
  hosts = [
    subprocess.Popen(
      [*command, str(index)], cwd=ROOT, env={**os.environ, "XLA_FLAGS": flags},
      stdout=subprocess.PIPE, text=True,
    )
    for index in range(2)
  ]  # fmt: skip
  try:
    told = [process.communicate(timeout=1200)[0] for process in hosts]
    assert [process.returncode for process in hosts] == [0, 0]
  finally:
    for process in hosts:
      process.kill()
  first, second = (json.loads(text.splitlines()[-1]) for text in told)
  one = json.loads(json.dumps(loading_host.told(tmp_path)))
  for kind in loading_host.KINDS:
    # float32 sums over devices in another order.
    assert first[kind]["logits"] == pytest.approx(one[kind]["logits"], rel=1e-5), kind
    assert first[kind]["logits"] == second[kind]["logits"]
    assert first[kind]["share"] == one[kind]["share"] < 0.5
  handles = [host[loading_host.KINDS[-1]] for host in (first, second, one)]
  for told, near in (("tokens", list), ("scores", pytest.approx), ("states", pytest.approx)):
    a, b, both = (handle[told] for handle in handles)
    assert a + b == near(both), f"{told}: each host has those of its own rows"
  for kind, found in one["begun"].items():
    assert first["begun"][kind]["step"] == found["step"]
    assert first["begun"][kind]["losses"] == pytest.approx(found["losses"], rel=1e-5)
