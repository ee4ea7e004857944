"""What a server allows and where it listens: plain values, checked by the command line that sets them."""

from __future__ import annotations

from dataclasses import dataclass, field

from potstill.runtime.schedule import BATCH_TOKENS
from potstill.serve.keys import Keys

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Hosts that only this machine reaches."""


@dataclass(frozen=True)
class Limits:
    """What one request may ask for, and how much may wait.

    body_bytes: of a body; a longer one is refused before it is read. open_bytes: of the bodies of all requests that are
    not yet answered. texts: in one request. characters: of one text, both texts of a pair together. batch_tokens: of a
    batch padded to its longest text, so roughly for how long a core serves nobody else; a longer text has one of its
    own. queued_texts: that wait for their turn, over all requests of one bundle. deadline_s: seconds from a request's
    arrival to its answer. head_s: seconds for a request's first lines.
    """

    body_bytes: int = 2_000_000
    texts: int = 256
    characters: int = 200_000
    batch_tokens: int = BATCH_TOKENS
    queued_texts: int = 2048
    deadline_s: float = 30.0
    open_bytes: int = 64_000_000
    head_s: float = 10.0


@dataclass(frozen=True)
class Settings:
    """How a server behaves.

    auto_truncate: what a request without ``truncate`` gets on ``/predict``. tokenisation_threads: beside
    the event loop. drain_s: how long a shutdown waits for what was accepted. watch_every_s: seconds between looks at
    ``bundle.json``, whose change reloads its bundle; None looks never. cors_origins: other origins whose pages may ask;
    none when empty.
    """

    limits: Limits = field(default_factory=Limits)
    keys: Keys | None = None
    auto_truncate: bool = False
    tokenisation_threads: int = 2
    drain_s: int = 30
    watch_every_s: float | None = None
    cors_origins: tuple[str, ...] = ()
