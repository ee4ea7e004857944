"""One line of JSON for each request and each event of the server, which never holds a text, a key or an address."""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
import time
import traceback
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TextIO

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from potstill.errors import PotstillError
from potstill.serve.metrics import Metrics, Times
from potstill.serve.refusals import STATUSES

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEY = "potstill.told"
_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "color_message", "taskName"}
log = logging.getLogger(__name__)


@dataclass
class Told:
    """What is learnt of a request on its way, for its line in the log and for the metrics.

    came: seconds of ``time.perf_counter``, when its head was there.
    """

    came: float = field(default_factory=time.perf_counter)
    bundle: str = ""
    n_texts: int = 0
    n_tokens: int = 0
    times: Times | None = None
    refused: str | None = None
    error: BaseException | None = None


def told_of(request: HTTPConnection) -> Told:
    """What is being learnt of a request; fill it in."""
    told: Told = request.scope[_KEY]
    return told


class RequestLog:
    """Writes a line for each request, counts the failed ones, and gives each an id that its answer carries."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and tell of it once it is answered."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        told, status = Told(), 500
        scope[_KEY] = told
        request_id = _request_id(Headers(scope=scope))

        async def with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, with_id)
        finally:
            self._tell(scope, told, status, request_id)

    def _tell(self, scope: Scope, told: Told, status: int, request_id: str) -> None:
        if told.refused is None and status >= 400:
            told.refused = STATUSES.get(status, "backend")
        if told.refused is not None:
            self.metrics.count_failure(told.bundle, told.refused)
        if log.isEnabledFor(logging.INFO):
            log.log(_level(status), "request", extra=_line(scope, told, status, request_id))


def _line(scope: Scope, told: Told, status: int, request_id: str) -> dict[str, Any]:
    # The route and not the path, in which a client can write anything.
    route = getattr(scope.get("route"), "path", None)
    line: dict[str, Any] = {"id": request_id, "method": scope["method"], "route": route, "status": status}
    line["ms"] = round(1000 * (time.perf_counter() - told.came), 3)
    if told.bundle:
        line |= {"bundle": told.bundle, "texts": told.n_texts, "tokens": told.n_tokens}
    if told.times is not None:
        for name in ("tokenisation_s", "queue_s", "inference_s"):
            line[f"{name[:-2]}_ms"] = round(1000 * getattr(told.times, name), 3)
    if told.refused is not None:
        line["refused"] = told.refused
    if told.error is not None:
        line["error"] = _described(told.error, told.error.__traceback__, says=False)
    return line


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def _level(status: int) -> int:
    return logging.ERROR if status in (424, 500) else logging.WARNING if status in (429, 503, 504) else logging.INFO


class JsonLines(logging.Formatter):
    """A record as one line of JSON: time, level, event, and what was told with it."""

    def format(self, record: logging.LogRecord) -> str:
        """One line without a line break."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {"time": f"{moment}.{record.msecs:03.0f}Z", "level": record.levelname.lower()}
        line["event"] = record.getMessage()
        line |= {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = _described(
                record.exc_info[1], record.exc_info[2], says=isinstance(record.exc_info[1], PotstillError)
            )
        return json.dumps(line, ensure_ascii=False, default=str)


def _described(error: BaseException, trace: TracebackType | None, *, says: bool) -> dict[str, Any]:
    """What an error was and where; its words only where no text of a request can be among them."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]
    return {"type": type(error).__name__, **({"says": str(error)} if says else {}), "at": frames}


def log_as_json(stream: TextIO | None = None) -> None:
    """Let potstill's server, uvicorn and asyncio write lines of JSON to ``stream``, standard error when absent."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonLines())
    for name, level in (("potstill.serve", logging.INFO), ("uvicorn", logging.WARNING), ("asyncio", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
