"""Requests that are not answered as asked: the status and the ``error_type`` each kind is told with.

The body is text-embeddings-inference's: ``{"error": "…", "error_type": "…"}``, with its five types,
``unhealthy``, which its source has too, and ``unauthorized``, for which it has no body.
"""

from __future__ import annotations

from typing import Literal

from potstill.errors import DataError, RequestError

Kind = Literal["empty", "validation", "tokenizer", "backend", "overloaded", "unhealthy", "unauthorized"]
"""What ``error_type`` can be."""

STATUSES: dict[int, Kind] = {
    400: "empty",
    401: "unauthorized",
    404: "validation",
    405: "validation",
    408: "validation",
    413: "validation",
    422: "validation",
    424: "backend",
    429: "overloaded",
    500: "backend",
    503: "unhealthy",
    504: "overloaded",
}
"""The type of each status the server answers with; 422 is ``tokenizer`` where the tokenizer failed."""


class RefusedError(RequestError):
    """A request that is refused: ``status`` and ``kind`` go into the answer, ``counted_as`` into the metrics."""

    def __init__(
        self,
        status: int,
        what: str,
        *,
        counted_as: str,
        kind: Kind | None = None,
        found: object = None,
        allowed: object = None,
        do: str | None = None,
    ) -> None:
        super().__init__(what, found=found, allowed=allowed, do=do)
        self.status = status
        self.kind: Kind = STATUSES[status] if kind is None else kind
        self.counted_as = counted_as


def overloaded(waiting: int, most: int) -> RefusedError:
    """The queue has no room for the request; the client is to try again later."""
    return RefusedError(
        429,
        f"the server is overloaded: {waiting} texts wait, and its queue has no room for these",
        allowed=f"{most} texts",
        do="try again in a moment",
        counted_as="overloaded",
    )


def too_late(deadline_s: float) -> RefusedError:
    """The request was not answered within its time."""
    return RefusedError(
        504,
        f"no answer within {deadline_s:g} seconds; the texts were dropped",
        do="send fewer texts at a time, or try again when less is asked of the server",
        counted_as="deadline",
    )


def leaving() -> RefusedError:
    """The server is shutting down: it answers what it accepted and takes nothing new."""
    return RefusedError(503, "the server is shutting down", do="ask another one", counted_as="shutdown")


def not_taken(error: DataError) -> RefusedError:
    """The bundle does not take such texts; what it says of them quotes none."""
    return RefusedError(422, error.what, allowed=error.allowed, counted_as="validation")


def inference_failed(error: BaseException) -> RefusedError:
    """The texts could not be classified. What the failure said is not repeated: it may quote somebody else's text."""
    return RefusedError(424, f"inference failed ({type(error).__name__})", counted_as="inference")


def tokenisation_failed(error: BaseException) -> RefusedError:
    """The tokenizer failed on the texts."""
    what = f"the texts could not be tokenised ({type(error).__name__})"
    return RefusedError(422, what, kind="tokenizer", counted_as="tokenization")
