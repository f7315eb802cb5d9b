"""Headless Chromium, driven by its DevTools protocol over a pair of pipes."""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import time
from pathlib import Path
from typing import Any

FOUND = (
  shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FLAGS = (
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
  "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
  """One page. `with Browser(profile) as page: ...` ends it."""

  def __init__(self, profile: Path, size: tuple[int, int] = (1200, 800)) -> None:
    assert FOUND is not None
    (command, self._write), (self._read, answer) = os.pipe(), os.pipe()
    # Chromium reads from 3 and writes to 4. Spawned and not forked, of which JAX warns.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (command, answer)]
    files = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    files += [(os.POSIX_SPAWN_DUP2, fd, to) for fd, to in zip(high, (3, 4), strict=True)]
    window = f"--window-size={size[0]},{size[1]}"
    line = [FOUND, *FLAGS, window, f"--user-data-dir={profile}", "about:blank"]
    self._process = os.posix_spawn(FOUND, line, dict(os.environ), file_actions=files)
    for fd in (command, answer, *high):
      os.close(fd)
    self._numbers, self._held, self._session = itertools.count(1), b"", None
    self.events: list[dict[str, Any]] = []
    target = self.call("Target.createTarget", url="about:blank")["targetId"]
    session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    self._session = session
    for domain in ("Page", "Runtime", "Log", "Network"):
      self.call(f"{domain}.enable")

  def __enter__(self) -> Browser:
    return self

  def __exit__(self, *error: object) -> None:
    os.kill(self._process, signal.SIGTERM)
    os.waitpid(self._process, 0)
    os.close(self._write)
    os.close(self._read)

  def call(self, method: str, **params: Any) -> dict[str, Any]:
    """Calls a method of the protocol; what happens meanwhile goes to `events`."""
    number = next(self._numbers)
    told = {"id": number, "method": method, "params": params}
    told |= {} if self._session is None else {"sessionId": self._session}
    os.write(self._write, json.dumps(told).encode() + b"\0")
    while True:
      message = self._message(60)
      if message.get("id") == number:
        assert "error" not in message, message
        return message["result"]
      self.events.append(message)

  def _message(self, seconds: float) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while b"\0" not in self._held:
      ready, _, _ = select.select([self._read], [], [], max(end - time.monotonic(), 0))
      assert ready, "Chromium says nothing"
      self._held += os.read(self._read, 1 << 20)
    first, _, self._held = self._held.partition(b"\0")
    return json.loads(first)

  def run(self, script: str) -> Any:
    """What a script of the page gives, promises awaited."""
    told = self.call(
      "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
    )
    assert "exceptionDetails" not in told, told
    return told["result"].get("value")

  def until(self, script: str, seconds: float = 60) -> Any:
    """Waits until a script gives something true, and returns it."""
    end = time.monotonic() + seconds
    while not (value := self.run(script)):
      assert time.monotonic() < end, f"never true: {script}"
      time.sleep(0.05)
    return value

  def press(self, text: str, enter: bool = True) -> None:
    """Types into what has the focus."""
    self.call("Input.insertText", text=text)
    if enter:
      for kind in ("keyDown", "keyUp"):
        code = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        self.call("Input.dispatchKeyEvent", type=kind, **code)

  def picture(self, path: Path) -> None:
    """Writes what is seen as a PNG."""
    path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
