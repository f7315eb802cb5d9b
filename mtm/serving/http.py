"""OpenAI's HTTP API before a `Service`, and a page to talk to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any

from mtm.errors import UserError
from mtm.serving import asked as asking
from mtm.serving.asked import Asked, Refused
from mtm.serving.scheduler import Busy, Job, Piece
from mtm.serving.service import Service
from mtm.serving.told import Answer, Chat, Completion, Form, Json, usage

PAGE = Path(__file__).with_name("page.html")
LARGEST_BODY = 4 * 2**20
# The page needs nothing from anywhere else, and may get nothing.
POLICY = (
  "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:;"
  " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
POLL = (
  0.1  # seconds between two looks whether a client that waits for a whole answer is still there
)

try:
  from fastapi import Depends, FastAPI, Request
  from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
  from starlette.concurrency import run_in_threadpool
  from starlette.exceptions import HTTPException
except ModuleNotFoundError:
  raise UserError('serving needs FastAPI: pip install "mtm[serve]"') from None


class Exchange:
  """One request while it is answered: its jobs, and what they say."""

  def __init__(self, service: Service, asked: Asked, prompts: list[list[int]], form: Form) -> None:
    """Submits the jobs.

    Raises:
      Busy: too many wait.
      UserError: a prompt and its answer are too long.
    """
    self.service, self.asked, self.prompts, self.form = service, asked, prompts, form
    self._told: asyncio.Queue[tuple[int, Piece]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def deliver(index: int, piece: Piece) -> None:
      if not loop.is_closed():
        loop.call_soon_threadsafe(self._told.put_nowait, (index, piece))

    self.jobs: list[Job] = service.jobs(asked, prompts, deliver)
    self.answers = [Answer() for _ in self.jobs]
    service.scheduler.submit(self.jobs)

  def end(self) -> None:
    """Gives the rows back; nothing happens where all is said."""
    self.service.scheduler.cancel(self.jobs)

  async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
    """Each piece with its job's number, until all jobs have ended. Raises Refused on an error."""
    left = len(self.jobs)
    while left:
      index, piece = await self._told.get()
      if piece.finish == "error":
        raise Refused(f"generating failed: {piece.error}", status=500, kind="server_error")
      self.answers[index].add(piece)
      left -= piece.finish is not None
      yield index, piece

  def usage(self) -> Json:
    """The counts of tokens so far."""
    return usage(self.prompts, sum(len(answer.pieces) for answer in self.answers))

  async def whole(self) -> Json:
    """The answer at once."""
    async for _ in self.pieces():
      pass
    choices = [self.form.whole(index, answer) for index, answer in enumerate(self.answers)]
    return {**self.form.head(False), "choices": choices, "usage": self.usage()}

  async def events(self) -> AsyncIterator[str]:
    """The answer as server-sent events, one a piece that says something."""
    head = {**self.form.head(True), **({"usage": None} if self.asked.usage else {})}
    for index in range(len(self.jobs)):
      choice = self.form.begins(index)
      if choice is not None:
        yield _event({**head, "choices": [choice]})
    try:
      async for index, piece in self.pieces():
        if piece.text or piece.finish or self.asked.top is not None:
          choice = self.form.part(index, piece, self.answers[index])
          yield _event({**head, "choices": [choice]})
    except Refused as error:
      yield _event(error.json())
      return
    if self.asked.usage:
      yield _event({**head, "choices": [], "usage": self.usage()})
    yield "data: [DONE]\n\n"


class Streamed(StreamingResponse):
  """The events of an exchange, which ends with the connection."""

  def __init__(self, exchange: Exchange) -> None:
    """See `Exchange.events`."""
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    super().__init__(exchange.events(), media_type="text/event-stream", headers=headers)
    self._exchange = exchange

  async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
    """Sends them; where the client has gone, its rows are given back at once."""
    try:
      await super().__call__(scope, receive, send)
    finally:
      self._exchange.end()


def app(service: Service, hosts: Collection[str] | None = None) -> FastAPI:
  """The application; closing the service is its owner's.

  Args:
    service: who answers.
    hosts: the names by which a request may call this machine; None: any. A web page elsewhere whose
      name is turned into this machine's address would use its own.
  """

  async def named(request: Request) -> None:
    host = request.url.hostname
    if hosts is not None and host not in hosts:
      raise Refused(
        f"this server goes by {' or '.join(sorted(hosts))} and not by {host!r}: use one of these"
        " names, or start it with --host",
        status=403,
      )

  made = FastAPI(title="mtm", docs_url=None, redoc_url=None, dependencies=[Depends(named)])
  page = PAGE.read_text(encoding="utf-8")

  async def completions(request: Request) -> Response:
    asked = asking.completion(await _body(request))
    prompts = await run_in_threadpool(service.prompts, asked)
    echoed = [
      prompt if isinstance(prompt, str) else service.decode(prompt) for prompt in asked.prompts
    ]
    form = Completion(asked, service.name, service.decode, echoed if asked.echo else ())
    return await _answer(request, Exchange(service, asked, prompts, form))

  async def chat(request: Request) -> Response:
    asked = asking.chat(await _body(request))
    prompts = await run_in_threadpool(service.prompts, asked)
    form = Chat(asked, service.name, service.decode)
    return await _answer(request, Exchange(service, asked, prompts, form))

  async def models() -> Json:
    return {"object": "list", "data": [_model(service)]}

  async def model(name: str) -> Json:
    service.prompts(Asked(model=name))
    return _model(service)

  async def health() -> Response:
    alive, (running, waiting) = service.scheduler.alive, service.scheduler.load
    engine, most = service.engine, service.scheduler.most_waiting
    told = {
      "status": "ok" if alive else "down", "model": service.name, "running": running,
      "waiting": waiting, "slots": engine.rows, "most_waiting": most, "max_length": engine.columns,
    }  # fmt: skip
    return JSONResponse(told, 200 if alive else 503)

  async def home() -> Response:
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})

  made.post("/v1/completions")(completions)
  made.post("/v1/chat/completions")(chat)
  made.get("/v1/models")(models)
  made.get("/v1/models/{name:path}")(model)
  made.get("/health")(health)
  made.get("/")(home)
  for kind, handle in _HANDLERS.items():
    made.add_exception_handler(kind, handle)
  return made


def _model(service: Service) -> Json:
  told = {"id": service.name, "object": "model", "created": service.created, "owned_by": "mtm"}
  return {**told, "max_model_len": service.engine.columns}


async def _body(request: Request) -> Any:
  """The JSON of a request. Raises Refused where it is none, or too large."""
  kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
  if kind != "application/json":  # a web page elsewhere could send any other without being asked
    raise Refused(f"the content type {kind!r} must be application/json", status=415)
  data = bytearray()
  async for part in request.stream():
    data += part
    if len(data) > LARGEST_BODY:
      raise Refused(f"the body is larger than {LARGEST_BODY} bytes: shorten it", status=413)
  try:
    return json.loads(data)
  except (ValueError, RecursionError) as error:
    raise Refused(f"the body is not JSON: {error}") from None


async def _answer(request: Request, exchange: Exchange) -> Response:
  """Streams, or waits for the whole while the client does."""
  if exchange.asked.stream:
    return Streamed(exchange)
  whole = asyncio.create_task(exchange.whole())
  try:
    while not whole.done() and not await request.is_disconnected():
      await asyncio.wait({whole}, timeout=POLL)
    if not whole.done():
      whole.cancel()
      return Response(status_code=499)  # nobody reads it
    return JSONResponse(whole.result())
  finally:
    exchange.end()


def _event(told: Json) -> str:
  return f"data: {json.dumps(told, ensure_ascii=False)}\n\n"


def _refused(request: Request, error: Any) -> Response:
  del request
  return JSONResponse(error.json(), error.status)


def _user_error(request: Request, error: Any) -> Response:
  return _refused(request, Refused(str(error)))


def _busy(request: Request, error: Any) -> Response:
  del error
  told = Refused(
    "too many requests wait already: try again later", code="rate_limit_exceeded", status=429,
    kind="rate_limit_error",
  )  # fmt: skip
  response = _refused(request, told)
  response.headers["Retry-After"] = "1"
  return response


def _of_http(request: Request, error: Any) -> Response:
  told = f"{request.method} {request.url.path}: {error.detail}"
  return _refused(request, Refused(told, status=error.status_code))


_HANDLERS: dict[type[Exception], Callable[[Request, Any], Response]] = {
  Refused: _refused,
  UserError: _user_error,
  Busy: _busy,
  HTTPException: _of_http,
}
