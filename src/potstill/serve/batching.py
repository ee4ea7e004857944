"""A bounded queue in front of one predictor: texts of many requests are computed together, by a budget of tokens.

Nothing waits for company. One text that finds everything idle gets all cores until it is done; otherwise each stream of
the predictor, a core as a rule, takes its next batch when it is done with the last, and waits for no other. A batch is
half of a stream's share of what waits ("factoring": Hummel, Schonberg and Flynn, 1992), so that it grows with the
load and leaves work for whoever is free next. Requests take turns, so that one text does not wait until another
request's hundreds are done. Only texts of near length share a batch: padded to one long text, ten short ones would take
as long as ten long ones.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Protocol

import numpy as np

from potstill.records import Predictions
from potstill.runtime.schedule import RUN_TOKENS
from potstill.runtime.tokenised import Tokenised, join_tokenised
from potstill.serve.refusals import inference_failed, overloaded


class Classify(Protocol):
    """Predictions for texts; ``alone`` says that the same predictor computes nothing else meanwhile."""

    def __call__(self, rows: Tokenised, *, alone: bool) -> Predictions:
        """One row of predictions for each text."""
        ...


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
    """The texts of one request on their way.

    came, first_taken, ended: seconds of ``time.perf_counter``: in the queue, its first batch begun, its last one done.
    waiting: texts not yet taken, in their order. costs: of each text its tokens, in windows those of all of them.
    """

    texts: Tokenised
    answer: asyncio.Future[Predictions]
    came: float = field(default_factory=time.perf_counter)
    first_taken: float | None = None
    ended: float | None = None
    parts: list[Part] = field(default_factory=list)
    waiting: list[int] = field(init=False)
    costs: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """Count the tokens of each text once."""
        self.waiting = list(range(len(self.texts)))
        self.costs = self.texts.costs.tolist()

    def take_part(self, part: Part) -> None:
        """What was said of some of the texts; the last of them completes the answer."""
        self.parts.append(part)
        self.ended = time.perf_counter()
        if sum(len(taken.texts) for taken in self.parts) == len(self.texts) and not self.answer.done():
            self.answer.set_result(join_parts(self.parts))

    def fail(self, error: BaseException) -> None:
        """End without an answer."""
        if not self.answer.done():
            self.answer.set_exception(error)
            # Looked at here, so that asyncio does not print it where the client has left.
            self.answer.exception()


@dataclass(frozen=True)
class Part:
    """What a batch said of some texts of a job: rows from ``start`` on, one for each of ``texts``, which ascend."""

    predictions: Predictions
    start: int
    texts: Sequence[int]


@dataclass(frozen=True)
class Share:
    """The texts of one job in a batch, in ascending order."""

    job: Job
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def texts(self) -> list[Tokenised]:
        """The texts themselves, those that follow one another in one piece."""
        breaks = [i for i in range(1, len(self)) if self.numbers[i] != self.numbers[i - 1] + 1]
        bounds = zip([0, *breaks], [*breaks, len(self)], strict=True)
        return [self.job.texts.between(self.numbers[i], self.numbers[j - 1] + 1) for i, j in bounds]


class Batcher:
    """Computes the texts of jobs with ``classify``, in ``streams`` of ``threads``, in batches of ``batch_tokens``."""

    def __init__(
        self,
        classify: Classify,
        threads: Executor,
        counts: BatchCounts,
        *,
        streams: int,
        batch_tokens: int,
        queued_texts: int,
    ) -> None:
        self._classify, self._threads, self._counts = classify, threads, counts
        self._streams = self._free = streams
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
        if job.waiting:
            self._jobs.remove(job)
            self._changed(-len(job.waiting))
            job.waiting = []

    async def run(self) -> None:
        """Compute batches one after another until cancelled; to be called once for each stream."""
        while True:
            while not self._jobs or not self._free:
                self._wake.clear()
                await self._wake.wait()
            await self._next_batch()

    async def _next_batch(self) -> None:
        most = -(-self._n_waiting // (2 * self._streams))
        shares, n_tokens = take_batch(self._jobs, self._batch_tokens, most)
        n_texts = sum(map(len, shares))
        alone = n_texts == 1 and self._free == self._streams and (self._n_waiting == 1 or self._streams == 1)
        streams = self._streams if alone else 1
        self._free -= streams
        try:
            self._changed(-n_texts)
            self._counts.count_batch(n_texts, n_tokens, self._n_waiting)
            await self._compute(shares, alone=alone)
        finally:
            self._free += streams
            self._wake.set()

    async def _compute(self, shares: Sequence[Share], *, alone: bool) -> None:
        """Run one batch; where it fails, each request's texts by themselves, so that they fail none but their own."""
        began = time.perf_counter()
        for share in shares:
            share.job.first_taken = share.job.first_taken or began
        computed = asyncio.get_running_loop().run_in_executor(
            self._threads, partial(self._classified, shares, alone=alone)
        )
        await asyncio.wait({computed})
        error = computed.exception()
        if error is None:
            _hand_out(computed.result(), shares)
        elif len(shares) == 1:
            refused = inference_failed(error)
            refused.__cause__ = error
            shares[0].job.fail(refused)
        else:
            for share in shares:
                if not share.job.answer.done():
                    await self._compute([share], alone=alone)

    def _classified(self, shares: Sequence[Share], *, alone: bool) -> Predictions:
        return self._classify(join_tokenised([texts for share in shares for texts in share.texts]), alone=alone)

    def _changed(self, by: int) -> None:
        self._n_waiting += by
        self._counts.count_waiting(self._n_waiting)


LOOKED_AT = 512
"""Of longer queues only so many texts are looked at for a batch: the event loop waits meanwhile."""


def take_batch(jobs: deque[Job], batch_tokens: int, most: int) -> tuple[list[Share], int]:
    """The next batch, of up to ``most`` texts, and its tokens; ``jobs`` must hold one.

    It begins with the next text of the first job, which then is the last, so that no text waits for ever. Of the next
    LOOKED_AT texts others join, the nearest in length first and of equally near ones each job's in turn, as long as
    padding any to the longest costs no more than a run of its own, up to the first that would make more than
    ``batch_tokens``, padding included; then as many stay as are a round number.
    """
    looked_at = [(job.costs[number], job, number) for job, number in islice(_in_turns(jobs), LOOKED_AT)]
    first = looked_at[0][0]
    shortest = longest = first
    texts = looked_at[:1]
    for text in sorted(looked_at[1:], key=lambda text: abs(text[0] - first)):
        lower, upper = min(shortest, text[0]), max(longest, text[0])
        if upper - lower > RUN_TOKENS:
            continue
        if len(texts) == most or (len(texts) + 1) * upper > batch_tokens:
            break
        shortest, longest = lower, upper
        texts.append(text)
    del texts[round_number(len(texts)) :]
    taken: dict[Job, list[int]] = {}
    for _, job, number in texts:
        taken.setdefault(job, []).append(number)
    _leave(jobs, taken)
    return [Share(job, sorted(numbers)) for job, numbers in taken.items()], sum(cost for cost, _, _ in texts)


def round_number(n: int) -> int:
    """The largest of 1, 2, 3, 4, 6, 8, 12, 16, 24, 32 … that is no more than ``n``, more than two thirds of it.

    An engine makes kernels for every shape that it meets, and keeps them: of few numbers of texts come few shapes.
    """
    power: int = 1 << (n.bit_length() - 1)
    return power + power // 2 if 2 * n >= 3 * power else power


def _in_turns(jobs: Iterable[Job]) -> Iterator[tuple[Job, int]]:
    """Every waiting text: the first of each job, then the second of each, and so on."""
    left = deque((job, iter(job.waiting)) for job in jobs)
    while left:
        job, numbers = left.popleft()
        for number in islice(numbers, 1):
            yield job, number
            left.append((job, numbers))


def _leave(jobs: deque[Job], taken: dict[Job, list[int]]) -> None:
    """Take the texts out of the queue, and the first job to its end."""
    for job, numbers in taken.items():
        gone = set(numbers)
        job.waiting = [number for number in job.waiting if number not in gone]
    jobs.rotate(-1)
    if not all(job.waiting for job in taken):
        staying = [job for job in jobs if job.waiting]
        jobs.clear()
        jobs.extend(staying)


def join_parts(parts: Sequence[Part]) -> Predictions:
    """The rows of several batches as one, in the order of the texts; the time is that of all batches."""
    first = parts[0].predictions
    order = np.argsort(np.concatenate([part.texts for part in parts]))

    def joined(name: str) -> np.ndarray:
        rows = [getattr(part.predictions, name)[part.start : part.start + len(part.texts)] for part in parts]
        together: np.ndarray = np.concatenate(rows)[order]
        return together

    logits = joined("logits")
    return replace(
        first,
        ids=np.arange(len(logits)).astype(str),
        logits=logits,
        n_tokens=joined("n_tokens"),
        truncated=joined("truncated"),
        elapsed_s=sum(part.predictions.elapsed_s for part in parts),
    )


def _hand_out(predictions: Predictions, shares: Sequence[Share]) -> None:
    start = 0
    for share in shares:
        share.job.take_part(Part(predictions, start, share.numbers))
        start += len(share)
