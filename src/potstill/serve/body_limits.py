"""Bodies that are too long, too slow or too many at a time, refused before they are in memory."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from potstill.serve.refusals import RefusedError
from potstill.serve.replies import refusal_reply


class BodyLimits:
    """Refuses a body whose stated length is above ``most_bytes`` unread, and stops reading one that turns out longer.

    A body that is not there after ``deadline_s`` seconds ends with 408, so that slow clients do not hold memory. Of all
    requests together at most ``open_bytes`` are held, from a body's first byte to its answer; what would be more ends
    with 429, and one body alone is always taken.
    """

    def __init__(self, app: ASGIApp, most_bytes: int, open_bytes: int, deadline_s: float) -> None:
        self.app, self.most_bytes, self.open_bytes, self.deadline_s = app, most_bytes, open_bytes, deadline_s
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a body that is watched, or answer 413."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif _stated_length(scope) > self.most_bytes:
            # The connection ends with this answer: what the client still sends is not read.
            await refusal_reply(self._too_long(), {"Connection": "close"})(scope, receive, send)
        else:
            body = _Body()
            try:
                await self.app(scope, self._watched(receive, body), send)
            finally:
                self._held -= body.n_bytes

    def _watched(self, receive: Receive, body: _Body) -> Receive:
        ends, complete = time.perf_counter() + self.deadline_s, False

        async def watched() -> Message:
            nonlocal complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout(max(ends - time.perf_counter(), 0)):
                    message = await receive()
            except TimeoutError:
                what = f"the body did not arrive within {self.deadline_s:g} seconds"
                raise HTTPException(408, what, {"Connection": "close"}) from None
            more = len(message.get("body", b""))
            body.n_bytes += more
            self._held += more
            complete = not message.get("more_body", False)
            if body.n_bytes > self.most_bytes:
                raise HTTPException(413, str(self._too_long()), {"Connection": "close"})
            if body.n_bytes < self._held > self.open_bytes:
                what = "the server is overloaded: the bodies of other requests fill its memory"
                raise HTTPException(429, what, {"Connection": "close"})
            return message

        return watched

    def _too_long(self) -> RefusedError:
        what, allowed = "the body is too long", f"at most {self.most_bytes} bytes"
        return RefusedError(413, what, allowed=allowed, do="send fewer texts at a time", counted_as="validation")


@dataclass
class _Body:
    """How much of one body was read."""

    n_bytes: int = 0


def _stated_length(scope: Scope) -> int:
    stated = Headers(scope=scope).get("content-length", "0")
    return int(stated) if stated.isdecimal() else 0
