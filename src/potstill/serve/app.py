"""The server as an ASGI application: routes, limits in front of them, and every failure as a body that clients know."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from potstill.serve.body_limits import BodyLimits
from potstill.serve.classify import ClientGoneError
from potstill.serve.info_routes import info_routes
from potstill.serve.inputs import EMPTY, WRONG
from potstill.serve.keys import KeyGate
from potstill.serve.page_routes import page_routes
from potstill.serve.predict_routes import predict_routes
from potstill.serve.refusals import STATUSES, RefusedError
from potstill.serve.replies import refusal_reply
from potstill.serve.request_log import RequestLog, told_of
from potstill.serve.service import Service

UNREADABLE = "the body cannot be read as JSON in UTF-8, or is nested too deep"
CLIENT_GONE = 499
"""The status that nobody reads, as proxies number it."""


def build_app(service: Service) -> FastAPI:
    """The application of one server. Documentation pages are left out: they would load scripts from elsewhere."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="potstill",
        summary="Text classification",
        version=version("potstill"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(predict_routes(service))
    app.include_router(info_routes(service))
    app.include_router(page_routes())
    _put_in_front(app, service)
    _answer_failures(app)
    return app


def _put_in_front(app: FastAPI, service: Service) -> None:
    """What every request passes, the last added first."""
    settings = service.settings
    limits = settings.limits
    app.add_middleware(
        BodyLimits, most_bytes=limits.body_bytes, open_bytes=limits.open_bytes, deadline_s=limits.deadline_s
    )
    if settings.keys is not None:
        app.add_middleware(KeyGate, keys=settings.keys)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
    app.add_middleware(SafeHeaders)
    app.add_middleware(RequestLog, metrics=service.metrics)


class SafeHeaders:
    """Headers of every answer: taken for what it says, kept by no cache unless it says so, told to no referrer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self.app(scope, receive, with_headers)


def _answer_failures(app: FastAPI) -> None:
    """Every failure in the one form of body; what was unexpected is told without its words."""

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        told = told_of(request)
        told.refused, told.error = error.counted_as, error.__cause__
        return refusal_reply(error)

    @app.exception_handler(RequestValidationError)
    async def misread(request: Request, error: RequestValidationError) -> Response:
        return await refused(request, _as_refusal(error.errors()))

    @app.exception_handler(HTTPException)
    async def misdirected(request: Request, error: HTTPException) -> Response:
        status = 422 if error.status_code == 400 else error.status_code
        what = UNREADABLE if error.status_code == 400 else _misdirected(request, error)
        kind = STATUSES.get(status, "validation")
        reason = "unknown_route" if status in (404, 405) else kind
        told_of(request).refused = reason
        return refusal_reply(RefusedError(status, what, kind=kind, counted_as=reason), error.headers)

    @app.exception_handler(ClientGoneError)
    async def unheard(request: Request, error: ClientGoneError) -> Response:
        return Response(status_code=CLIENT_GONE)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        told = told_of(request)
        told.refused, told.error = "internal", error
        return refusal_reply(RefusedError(500, f"the server failed ({type(error).__name__})", counted_as="internal"))


def _misdirected(request: Request, error: HTTPException) -> str:
    sentences = {404: "there is nothing at this address", 405: f"{request.method} is not what this address takes"}
    return sentences.get(error.status_code, str(error.detail))


def _as_refusal(errors: Any) -> RefusedError:
    """The first complaint of pydantic's, where it is and what it says; never the value, which can be a text."""
    first = errors[0]
    if first["type"] == EMPTY:
        return RefusedError(400, first["msg"], counted_as="validation")
    if first["type"] == "json_invalid":
        return RefusedError(422, UNREADABLE, counted_as="validation")
    if first["type"] == WRONG:
        return RefusedError(422, first["msg"], counted_as="validation")
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    what = f"{where}: {first['msg']}" if where else "the body is not a JSON object of type application/json"
    return RefusedError(422, what, counted_as="validation")
