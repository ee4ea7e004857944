"""Answers that are no predictions: refusals, and what every answer carries."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse

from potstill.serve.refusals import RefusedError

RETRY_S = 1
"""After how many seconds a client whose texts found no room may try again."""


def refusal_reply(refused: RefusedError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer to a request that is refused, in text-embeddings-inference's form."""
    later = {"Retry-After": str(RETRY_S)} if refused.status in (429, 503) else {}
    content = {"error": str(refused), "error_type": refused.kind}
    return JSONResponse(content, refused.status, headers={**later, **(headers or {})})
