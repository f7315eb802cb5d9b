"""Two processes that talk over the network train as one process does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e import host

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_two_hosts_have_the_losses_of_one():
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{probe.getsockname()[1]}"
  flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=4")
  hosts = [
    subprocess.Popen(
      [sys.executable, "-m", "tests.e2e.host", address, str(index)],
      cwd=ROOT, env={**os.environ, "XLA_FLAGS": flags}, stdout=subprocess.PIPE, text=True,
    )
    for index in range(2)
  ]  # fmt: skip
  try:
    told = [process.communicate(timeout=240)[0] for process in hosts][0]
    assert [process.returncode for process in hosts] == [0, 0]
  finally:
    for process in hosts:
      process.kill()
  # float32 sums over devices in another order.
  assert json.loads(told.splitlines()[-1]) == pytest.approx(host.losses(), rel=1e-5)
