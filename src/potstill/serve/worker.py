"""One opened predictor at work: its threads, its queue, and an end that leaves no request behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np

from potstill.errors import DataError, ModelError
from potstill.records import Predictions
from potstill.runtime.tokenised import Tokenised, join_tokenised
from potstill.serve.batching import BatchCounts, Batcher
from potstill.serve.predictor import ServedPredictor
from potstill.serve.settings import Limits


class Worker:
    """Computes predictions on threads of its own. Made inside a running event loop.

    A request holds the worker from its first look at it to its answer, so that a worker whose bundle was replaced ends
    when the last of its requests is answered.
    """

    def __init__(self, predictor: ServedPredictor, counts: BatchCounts, limits: Limits) -> None:
        self.predictor = predictor
        self._threads = ThreadPoolExecutor(max_workers=predictor.streams, thread_name_prefix="inference")
        self.batcher = Batcher(
            partial(classify_checked, predictor),
            self._threads,
            counts,
            streams=predictor.streams,
            batch_tokens=limits.batch_tokens,
            queued_texts=limits.queued_texts,
        )
        start = asyncio.get_running_loop().create_task
        self._batching = [start(self.batcher.run()) for _ in range(predictor.streams)]
        self._n_requests = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_well(self) -> bool:
        """Whether what computes is still there."""
        return not any(stream.done() for stream in self._batching)

    @contextmanager
    def held(self) -> Iterator[Worker]:
        """The worker, which does not end meanwhile."""
        self._n_requests += 1
        self._idle.clear()
        try:
            yield self
        finally:
            self._n_requests -= 1
            if not self._n_requests:
                self._idle.set()

    async def finish(self) -> None:
        """End once every request that holds it is answered."""
        await self._idle.wait()
        for stream in self._batching:
            stream.cancel()
        await asyncio.wait(self._batching)
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        """Behind batches that nobody waits for any more."""
        self._threads.shutdown()
        self.predictor.close()


def classify_checked(predictor: ServedPredictor, rows: Tokenised, *, alone: bool) -> Predictions:
    """What the predictor says; ModelError where that is not one row of numbers per text."""
    predictions = predictor.classify(rows, alone=alone)
    if len(predictions) != len(rows):
        raise ModelError("the model lost rows", found=len(predictions), allowed=len(rows))
    if not np.isfinite(predictions.logits).all():
        raise ModelError("the model gave logits that are no numbers")
    return predictions


WARM_UP = "a text to begin with"
"""What a predictor is run on before it answers anyone: the first run of a graph allocates, and can fail."""

WARM_UP_TEXTS = 64
"""Of a batch that each stream begins with."""


def warm_up(predictor: ServedPredictor) -> ServedPredictor:
    """The predictor after its first runs, on pairs where it takes only those; what is wrong with it is raised here."""
    predictor.prepare()
    try:
        one = predictor.tokenise([WARM_UP], "start")
    except DataError:
        one = predictor.tokenise([(WARM_UP, WARM_UP)], "start")
    classify_checked(predictor, one, alone=True)
    many = join_tokenised([one] * WARM_UP_TEXTS)
    with ThreadPoolExecutor(predictor.streams) as streams:
        list(streams.map(partial(classify_checked, predictor, alone=False), [many] * predictor.streams))
    return predictor
