"""Headless Chromium, driven by its DevTools protocol over a pair of pipes."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
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

    # Chromium reads from 3 and writes to 4; a shell moves the pipes there, for Python could only
    # by forking, which JAX warns of.
    shell = f'exec "$@" 3<&{command} 4>&{answer}'
    window = f"--window-size={size[0]},{size[1]}"
    self._process = subprocess.Popen(
      ["sh", "-c", shell, "sh", FOUND, *FLAGS, window, f"--user-data-dir={profile}", "about:blank"],
      pass_fds=(command, answer), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(command)
    os.close(answer)
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
    self._process.terminate()
    self._process.wait(20)
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
