"""One opened predictor at work: its thread, its queue, and an end that leaves no request behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np

from potstill.errors import DataError, ModelError
from potstill.records import Predictions, Text
from potstill.serve.batching import BatchCounts, Batcher
from potstill.serve.predictor import ServedPredictor
from potstill.serve.settings import Limits


class Engine:
    """Computes predictions on a thread of its own. Made inside a running event loop.

    A request holds the engine from its first look at it to its answer, so that an engine whose bundle was replaced ends
    when the last of its requests is answered.
    """

    def __init__(self, predictor: ServedPredictor, counts: BatchCounts, limits: Limits) -> None:
        self.predictor = predictor
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self.batcher = Batcher(
            partial(predict_checked, predictor),
            self._thread,
            counts,
            batch_tokens=limits.batch_tokens,
            queued_texts=limits.queued_texts,
        )
        self._worker = asyncio.get_running_loop().create_task(self.batcher.run())
        self._n_requests = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_well(self) -> bool:
        """Whether what computes is still there."""
        return not self._worker.done()

    @contextmanager
    def held(self) -> Iterator[Engine]:
        """The engine, which does not end meanwhile."""
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
        self._worker.cancel()
        await asyncio.wait({self._worker})
        self._thread.shutdown(wait=False)


def predict_checked(predictor: ServedPredictor, texts: Sequence[Text]) -> Predictions:
    """What the predictor says; ModelError where that is not one row of numbers per text."""
    predictions = predictor.predict(texts)
    if len(predictions) != len(texts):
        raise ModelError("the model lost rows", found=len(predictions), allowed=len(texts))
    if not np.isfinite(predictions.logits).all():
        raise ModelError("the model gave logits that are no numbers")
    return predictions


WARM_UP = "a text to begin with"
"""What a predictor is run on before it answers anyone: the first run of a graph allocates, and can fail."""


def warm_up(predictor: ServedPredictor) -> ServedPredictor:
    """The predictor after its first run, on a pair where it takes only those; what is wrong with it is raised here."""
    try:
        predict_checked(predictor, [WARM_UP])
    except DataError:
        predict_checked(predictor, [(WARM_UP, WARM_UP)])
    return predictor
