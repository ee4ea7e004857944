"""Connections that ask in time: uvicorn by itself waits for ever for the first lines of a request."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def connections(head_s: float) -> type[H11Protocol]:
    """uvicorn's protocol, which closes a connection whose request has no complete head after ``head_s`` seconds.

    h11 and not the faster httptools: it also bounds how long a head may be.
    """

    class Connection(H11Protocol):
        """One connection."""

        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            self._giving_up: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            """Begin to wait for the first request."""
            super().connection_made(transport)
            self._await_head()

        def data_received(self, data: bytes) -> None:
            """Wait on where the head is not complete yet, and no longer where it is."""
            super().data_received(data)
            if self.cycle is None or self.cycle.response_complete:
                self._await_head()
            else:
                self._stop_waiting()

        def connection_lost(self, exc: Exception | None) -> None:
            """Stop waiting."""
            super().connection_lost(exc)
            self._stop_waiting()

        def _await_head(self) -> None:
            if self._giving_up is None:
                self._giving_up = self.loop.call_later(head_s, self._give_up)

        def _stop_waiting(self) -> None:
            if self._giving_up is not None:
                self._giving_up.cancel()
                self._giving_up = None

        def _give_up(self) -> None:
            if not self.transport.is_closing():
                self.conn.send(h11.ConnectionClosed())
                self.transport.close()

    return Connection
