"""A bounded queue in front of one predictor: texts of many requests are computed together, by a budget of tokens.

Nothing waits for company: as soon as the predictor is free it gets what is there, so batches grow with the load and by
themselves. Requests take turns text by text, so that one text does not wait until another request's hundreds are done.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from potstill.records import Predictions
from potstill.runtime.tokenised import Tokenised, join_tokenised
from potstill.serve.refusals import inference_failed, overloaded


class BatchCounts(Protocol):
    """What is told of the queue and of each batch; the metrics count it."""

    def count_batch(self, n_texts: int, n_tokens: int, n_waiting: int) -> None:
        """A batch of so many texts and tokens begins, and so many texts still wait."""
        ...

    def count_waiting(self, n_waiting: int) -> None:
        """So many texts wait."""
        ...


@dataclass(eq=False)
class Job:
    """The texts of one request on their way. Rows before ``n_taken`` are computed or being computed.

    came, first_taken: seconds of ``time.perf_counter``. inference_s: of the batches that held its texts. costs:
    ``(n,)`` int64, tokens of each text that are computed.
    """

    texts: Tokenised
    answer: asyncio.Future[Predictions]
    came: float = field(default_factory=time.perf_counter)
    first_taken: float | None = None
    inference_s: float = 0.0
    n_taken: int = 0
    parts: list[tuple[Predictions, int, int]] = field(default_factory=list)
    costs: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        """Count the tokens of each text once."""
        self.costs = self.texts.costs

    @property
    def n_waiting(self) -> int:
        """Texts not yet taken."""
        return len(self.texts) - self.n_taken

    def take_part(self, predictions: Predictions, start: int, stop: int) -> None:
        """Rows of a batch that are this job's next; the last of them completes the answer."""
        self.parts.append((predictions, start, stop))
        if sum(end - begin for _, begin, end in self.parts) == len(self.texts) and not self.answer.done():
            self.answer.set_result(join_parts(self.parts))

    def fail(self, error: BaseException) -> None:
        """End without an answer."""
        if not self.answer.done():
            self.answer.set_exception(error)
            # Looked at here, so that asyncio does not print it where the client has left.
            self.answer.exception()


@dataclass(frozen=True)
class Share:
    """The rows of one job in a batch: from ``start`` up to ``stop`` of the job's texts."""

    job: Job
    start: int
    stop: int

    @property
    def texts(self) -> Tokenised:
        """The texts themselves."""
        return self.job.texts.between(self.start, self.stop)


class Batcher:
    """Computes the texts of jobs with ``classify``, on a ``thread``, in batches of at most ``batch_tokens``."""

    def __init__(
        self,
        classify: Callable[[Tokenised], Predictions],
        thread: Executor,
        counts: BatchCounts,
        *,
        batch_tokens: int,
        queued_texts: int,
    ) -> None:
        self._classify, self._thread, self._counts = classify, thread, counts
        self._batch_tokens, self._queued_texts = batch_tokens, queued_texts
        self._jobs: deque[Job] = deque()
        self._n_waiting = 0
        self._wake = asyncio.Event()

    @property
    def n_waiting(self) -> int:
        """Texts that wait for their turn."""
        return self._n_waiting

    def submit(self, texts: Tokenised) -> Job:
        """Put texts into the queue; RefusedError (429) where it has no room. An empty queue takes every request."""
        if self._n_waiting and self._n_waiting + len(texts) > self._queued_texts:
            raise overloaded(self._n_waiting, self._queued_texts)
        job = Job(texts, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._changed(len(texts))
        self._wake.set()
        return job

    def drop(self, job: Job) -> None:
        """Forget a job: what of it has not begun will not be computed. Nothing happens to one that is answered."""
        job.answer.cancel()
        if job.n_waiting:
            self._jobs.remove(job)
            self._changed(-job.n_waiting)
            job.n_taken = len(job.texts)

    async def run(self) -> None:
        """Compute batches until cancelled."""
        while True:
            while not self._jobs:
                self._wake.clear()
                await self._wake.wait()
            shares, n_tokens = take_batch(self._jobs, self._batch_tokens)
            n_texts = sum(share.stop - share.start for share in shares)
            self._changed(-n_texts)
            self._counts.count_batch(n_texts, n_tokens, self._n_waiting)
            await self._compute(shares)

    async def _compute(self, shares: Sequence[Share]) -> None:
        """Run one batch. Where it fails every request runs alone, so that a text fails none but its own request."""
        began = time.perf_counter()
        for share in shares:
            share.job.first_taken = share.job.first_taken or began
        computed = asyncio.get_running_loop().run_in_executor(self._thread, self._classified, shares)
        await asyncio.wait({computed})
        error = computed.exception()
        for share in shares:
            share.job.inference_s += time.perf_counter() - began
        if error is None:
            _hand_out(computed.result(), shares)
        elif len(shares) == 1:
            refused = inference_failed(error)
            refused.__cause__ = error
            shares[0].job.fail(refused)
        else:
            for share in shares:
                if not share.job.answer.done():
                    await self._compute([share])

    def _classified(self, shares: Sequence[Share]) -> Predictions:
        return self._classify(join_tokenised([share.texts for share in shares]))

    def _changed(self, by: int) -> None:
        self._n_waiting += by
        self._counts.count_waiting(self._n_waiting)


def take_batch(jobs: deque[Job], batch_tokens: int) -> tuple[list[Share], int]:
    """The next batch of at most ``batch_tokens`` tokens, or of one text, and its tokens; ``jobs`` must hold one.

    Jobs take turns, one text each, in the order they came. Those without further texts leave ``jobs``, and the one
    whose text did not fit begins the next batch.
    """
    starts: dict[Job, int] = {}
    n_tokens = 0
    while jobs:
        job = jobs[0]
        cost = int(job.costs[job.n_taken])
        if starts and n_tokens + cost > batch_tokens:
            break
        starts.setdefault(job, job.n_taken)
        n_tokens += cost
        job.n_taken += 1
        jobs.popleft()
        if job.n_waiting:
            jobs.append(job)
    return [Share(job, start, job.n_taken) for job, start in starts.items()], n_tokens


def join_parts(parts: Sequence[tuple[Predictions, int, int]]) -> Predictions:
    """Rows of several batches as one, in the order of the parts; the time is that of all batches."""
    first = parts[0][0]

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(predictions, name)[start:stop] for predictions, start, stop in parts])

    logits = joined("logits")
    return replace(
        first,
        ids=np.arange(len(logits)).astype(str),
        logits=logits,
        n_tokens=joined("n_tokens"),
        truncated=joined("truncated"),
        elapsed_s=sum(predictions.elapsed_s for predictions, _, _ in parts),
    )


def _hand_out(predictions: Predictions, shares: Sequence[Share]) -> None:
    start = 0
    for share in shares:
        stop = start + share.stop - share.start
        share.job.take_part(predictions, start, stop)
        start = stop
