"""`mtm serve`: a model behind OpenAI's HTTP API, and a page to talk to it."""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Sequence
from typing import Any

from mtm.errors import UserError
from mtm.programs import served, setup

LOCAL = ("localhost", "127.0.0.1", "::1")  # the names of this machine to itself


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser("mtm serve", description=__doc__, allow_abbrev=False)
  parser.add_argument("checkpoint", help="whatever mtm.load takes: a MODEL_DIR, a HuggingFace one")
  parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in")
  parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
  parser.add_argument("--slots", type=int, default=8, help="texts generated together")
  parser.add_argument("--max_length", type=int, help="longest text, prompt and answer together")
  parser.add_argument("--most_waiting", type=int, default=64, help="requests that may wait")
  parser.add_argument("--name", help="what requests call the model; else the directory's name")
  parser.add_argument("--dtype", help="compute dtype, such as bfloat16; else the checkpoint's")
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """The command line; serves until it is interrupted."""
  known = _parser().parse_args(argv)
  try:
    import uvicorn

    from mtm.serving.http import app
  except ModuleNotFoundError:
    raise UserError('mtm serve needs FastAPI and uvicorn: pip install "mtm[serve]"') from None
  setup.start()
  changes: dict[str, Any] = {} if known.dtype is None else {"dtype": known.dtype}
  with _listen(known.host, known.port) as listening:
    service = served.service(
      known.checkpoint, known.slots, known.max_length, known.most_waiting, known.name, **changes
    )
    try:
      service.warm()
      host, port = listening.getsockname()[:2]
      url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
      print(f"{service.name}: talk to it at {url}, a client at {url}/v1; Ctrl-C ends", flush=True)
      names = LOCAL if known.host in LOCAL else None
      config = uvicorn.Config(app(service, names), log_level="warning", timeout_graceful_shutdown=2)
      uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
      pass
    finally:
      service.scheduler.close()
  return 0


def _listen(host: str, port: int) -> socket.socket:
  """A socket on this port, before anything is loaded. Raises UserError where it is taken."""
  try:
    return socket.create_server(
      (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=256
    )
  except (OSError, OverflowError) as error:
    raise UserError(
      f"cannot listen on {host}:{port} ({getattr(error, 'strerror', None) or error}): choose"
      " another --port, or 0 for any that is free"
    ) from error


if __name__ == "__main__":
  from mtm import cli

  sys.exit(cli.main(["serve", *sys.argv[1:]]))
