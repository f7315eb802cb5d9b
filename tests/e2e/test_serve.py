"""`mtm serve` and `mtm chat` as people start them."""

from __future__ import annotations

import concurrent.futures
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import openai
import pytest

import mtm
from mtm import serve
from mtm.errors import UserError
from tests.programs.test_served import directory, one_device

ENV = {**os.environ, "XLA_FLAGS": ""}  # one device


def test_a_taken_port_is_told_before_anything_is_loaded() -> None:
  with serve._listen("127.0.0.1", 0) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(UserError, match=rf"cannot listen on 127.0.0.1:{port} \(.*--port"):
      serve.main(["nowhere", "--port", str(port)])
  with pytest.raises(UserError, match="nowhere"):
    serve.main(["nowhere", "--port", "0"])


@pytest.mark.slow
def test_a_server_answers_many_as_generate_does_and_ends_cleanly(tmp_path: Path) -> None:
  folder = directory("llama", tmp_path / "tiny")
  command = [sys.executable, "-m", "mtm.serve", str(folder), "--port=0", "--slots=3"]
  texts = [" ".join(f"w{7 + (n * k) % 30}" for k in range(1, 2 + n)) for n in range(7)]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENV) as server:
    assert server.stdout is not None
    line = server.stdout.readline()
    (url,) = re.findall(r"http://\S+/v1", line)
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:

      def ask(text: str) -> str:
        stream = client.completions.create(
          model="tiny", prompt=text, max_tokens=9, temperature=0, stream=True
        )
        return "".join(chunk.choices[0].text for chunk in stream)

      with concurrent.futures.ThreadPoolExecutor(7) as pool:
        found = list(pool.map(ask, texts))
    server.send_signal(signal.SIGINT)
    assert server.wait(30) == 0 and server.stdout.read() == ""
  assert found == mtm.load(folder, one_device()).generate(texts, 9)
  told = subprocess.run(
    [sys.executable, "-m", "mtm.chat", str(folder), "--raw", "--temperature=0", "--max_tokens=9"],
    input=texts[3], capture_output=True, text=True, env=ENV, check=True,
  )  # fmt: skip
  assert told.stdout == found[3] + "\n"
