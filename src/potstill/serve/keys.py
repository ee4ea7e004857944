"""API keys: read once, kept as digests, compared in constant time, never shown."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from potstill.errors import UsageError
from potstill.serve.refusals import RefusedError
from potstill.serve.replies import refusal_reply

VARIABLE = "POTSTILL_API_KEYS"
SHORTEST = 16
OPEN_PATHS = ("/health", "/")
"""What is answered without a key: whether the server is well, and the page, which holds nothing of anyone."""
OPEN_FOLDER = "/page/"


class Keys:
    """The keys that are admitted, as digests: what is not kept cannot be logged."""

    def __init__(self, keys: Iterable[str]) -> None:
        """Raises UsageError for no key at all and for keys that can be guessed."""
        self._digests = tuple(_digest(key) for key in _long_enough(keys))
        if not self._digests:
            raise UsageError("there is no API key where keys were asked for", do="write one key per line")

    def __repr__(self) -> str:
        return f"Keys({len(self._digests)})"

    def admits(self, given: str) -> bool:
        """Whether ``given`` is one of the keys. Every key is compared, whichever fits, in a time that tells nothing."""
        digest = _digest(given)
        return bool(sum([hmac.compare_digest(digest, known) for known in self._digests]))


def read_keys(file: Path | None) -> Keys | None:
    """The keys of a file, one per line (``#`` begins a comment), or of $POTSTILL_API_KEYS, by commas; else None."""
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the API keys in {file} cannot be read", found=type(error).__name__) from error
        return Keys(line.partition("#")[0] for line in lines)
    named = os.environ.get(VARIABLE)
    return None if named is None else Keys(named.split(","))


class KeyGate:
    """Refuses requests without a key, but for OPEN_PATHS and the page's files, before anything of them is read."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self.app, self.keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] != "http" or _is_open(scope) or self.keys.admits(_bearer(Headers(scope=scope))):
            await self.app(scope, receive, send)
            return
        what = "this server asks for an API key"
        refused = RefusedError(401, what, do="send the header Authorization: Bearer KEY", counted_as="unauthorized")
        await refusal_reply(refused, {"WWW-Authenticate": "Bearer"})(scope, receive, send)


def _is_open(scope: Scope) -> bool:
    return scope["method"] in ("GET", "HEAD") and (scope["path"] in OPEN_PATHS or scope["path"].startswith(OPEN_FOLDER))


def _bearer(headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _long_enough(keys: Iterable[str]) -> Iterable[str]:
    for number, key in enumerate(filter(None, (key.strip() for key in keys)), 1):
        if len(key) < SHORTEST:
            raise UsageError(
                f"API key {number} is too short",
                found=f"{len(key)} characters",
                allowed=f"{SHORTEST} or more",
                do='make one with: python -c "import secrets; print(secrets.token_urlsafe(32))"',
            )
        yield key


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
