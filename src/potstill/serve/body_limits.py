"""Bodies that are too long or too slow, refused before they are in memory."""

from __future__ import annotations

import asyncio
import time

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from potstill.serve.refusals import RefusedError
from potstill.serve.replies import refusal_reply


class BodyLimits:
    """Refuses a body whose stated length is above ``most_bytes`` unread, and stops reading one that turns out longer.

    A body that is not there after ``deadline_s`` seconds ends with 408, so that slow clients do not hold memory.
    """

    def __init__(self, app: ASGIApp, most_bytes: int, deadline_s: float) -> None:
        self.app, self.most_bytes, self.deadline_s = app, most_bytes, deadline_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a body that is watched, or answer 413."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif _stated_length(scope) > self.most_bytes:
            # The connection ends with this answer: what the client still sends is not read.
            await refusal_reply(self._too_long(), {"Connection": "close"})(scope, receive, send)
        else:
            await self.app(scope, self._watched(receive), send)

    def _watched(self, receive: Receive) -> Receive:
        ends = time.perf_counter() + self.deadline_s
        n_bytes, complete = 0, False

        async def watched() -> Message:
            nonlocal n_bytes, complete
            if complete:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(ends - time.perf_counter(), 0))
            except TimeoutError:
                what = f"the body did not arrive within {self.deadline_s:g} seconds"
                raise HTTPException(408, what, {"Connection": "close"}) from None
            n_bytes += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if n_bytes > self.most_bytes:
                raise HTTPException(413, str(self._too_long()), {"Connection": "close"})
            return message

        return watched

    def _too_long(self) -> RefusedError:
        what, allowed = "the body is too long", f"at most {self.most_bytes} bytes"
        return RefusedError(413, what, allowed=allowed, do="send fewer texts at a time", counted_as="validation")


def _stated_length(scope: Scope) -> int:
    stated = Headers(scope=scope).get("content-length", "0")
    return int(stated) if stated.isdecimal() else 0
