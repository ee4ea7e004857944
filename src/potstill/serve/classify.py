"""One request's way through the server: tokenised off the event loop, a place in the queue, an answer in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive

from potstill.data.tokens import Kept
from potstill.records import Predictions, Text
from potstill.serve.batching import Job
from potstill.serve.bundles import ServedBundle
from potstill.serve.metrics import Times
from potstill.serve.refusals import RefusedError, too_late
from potstill.serve.settings import Limits
from potstill.serve.tokenised_texts import tokenise_texts

Result = TypeVar("Result")


@dataclass(frozen=True)
class Answer:
    """What was said of the texts of one request, and where the seconds went."""

    predictions: Predictions
    times: Times


class ClientGoneError(Exception):
    """The client hung up; nobody reads an answer."""


@dataclass(frozen=True)
class Asked:
    """What a request wants: texts, and how those are cut that are too long."""

    texts: Sequence[Text]
    is_batch: bool
    truncate: bool
    keep: Kept = "start"


INLINE_CHARACTERS = 2000
"""Up to so many a request is tokenised in the event loop: two changes of thread take longer where cores are busy."""


async def classify(
    bundle: ServedBundle, asked: Asked, request: Request, limits: Limits, threads: Executor, arrived: float
) -> Answer:
    """Predictions for a request that ``arrived``, by ``time.perf_counter``, and has so long until its deadline.

    Raises RefusedError where there is no answer, ClientGoneError where nobody waits for one.
    """
    came, ends = time.perf_counter(), arrived + limits.deadline_s
    bundle.metrics.count_request(len(asked.texts), is_batch=asked.is_batch)
    check_size(asked.texts, limits)
    gone = asyncio.ensure_future(_hung_up(request.receive))
    try:
        with bundle.worker.held() as worker:
            tokenise = partial(tokenise_texts, asked.texts, worker.predictor, truncate=asked.truncate, keep=asked.keep)
            if sum(map(_characters, asked.texts)) <= INLINE_CHARACTERS:
                texts = tokenise()
            else:
                under_way = asyncio.get_running_loop().run_in_executor(threads, tokenise)
                texts = await _first(under_way, gone, ends, limits.deadline_s)
            bundle.metrics.count_lengths(texts.n_tokens.tolist())
            tokenised_s = time.perf_counter() - came
            job = worker.batcher.submit(texts)
            try:
                predictions = await _first(job.answer, gone, ends, limits.deadline_s)
            finally:
                worker.batcher.drop(job)
    finally:
        gone.cancel()
    times = _times(job, came, tokenised_s)
    bundle.metrics.count_answer(len(asked.texts), times, is_batch=asked.is_batch)
    return Answer(predictions, times)


def check_size(texts: Sequence[Text], limits: Limits) -> None:
    """RefusedError (413) for more texts, or a longer one, than the server takes."""
    if len(texts) > limits.texts:
        raise RefusedError(
            413,
            "one request holds too many texts",
            found=len(texts),
            allowed=f"at most {limits.texts}",
            do="send them in several requests",
            counted_as="batch_size",
        )
    for row, text in enumerate(texts):
        length = _characters(text)
        if length > limits.characters:
            what = f"input {row} is too long: {length} characters"
            allowed = f"at most {limits.characters}"
            raise RefusedError(413, what, allowed=allowed, counted_as="validation")


async def _first(wanted: asyncio.Future[Result], gone: asyncio.Future[None], ends: float, deadline_s: float) -> Result:
    """The result, unless the client hangs up or the deadline passes first."""
    both: set[asyncio.Future[Any]] = {wanted, gone}
    left_s = max(ends - time.perf_counter(), 0)
    done, _ = await asyncio.wait(both, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
    if wanted in done:
        return wanted.result()
    wanted.cancel()
    if gone in done:
        raise ClientGoneError
    raise too_late(deadline_s)


def _characters(text: Text) -> int:
    return len(text) if isinstance(text, str) else len(text[0]) + len(text[1])


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _times(job: Job, came: float, tokenised_s: float) -> Times:
    first_taken = job.came if job.first_taken is None else job.first_taken
    return Times(
        total_s=time.perf_counter() - came,
        tokenisation_s=tokenised_s,
        queue_s=first_taken - job.came,
        inference_s=0.0 if job.ended is None else job.ended - first_taken,
    )
