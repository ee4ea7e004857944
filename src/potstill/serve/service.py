"""What every route shares: the bundles, the limits, the metrics, and the one way a request is answered."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.requests import Request

from potstill.serve.bundles import Bundles
from potstill.serve.classify import Answer, Asked, ClientGoneError, classify
from potstill.serve.metrics import Metrics
from potstill.serve.refusals import leaving
from potstill.serve.reload import watch
from potstill.serve.request_log import told_of
from potstill.serve.settings import Settings

INLINE_SCORES = 2000
"""Up to so many scores an answer is written in the event loop, which takes some milliseconds."""
Reply = TypeVar("Reply")


class Service:
    """A server's state, from its start to its end."""

    def __init__(self, bundles: Bundles, settings: Settings) -> None:
        self.bundles, self.settings = bundles, settings
        self.metrics = Metrics()
        self._left: float | None = None
        self._threads = ThreadPoolExecutor(settings.tokenisation_threads, thread_name_prefix="tokenisation")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The time in which requests are answered; at its end those accepted are answered still."""
        self.bundles.start(self.metrics, self.settings.limits)
        every_s = self.settings.watch_every_s
        watching = None if every_s is None else asyncio.create_task(watch(self.bundles, every_s))
        try:
            yield
        finally:
            self.leave()
            if watching is not None:
                watching.cancel()
            await self.bundles.finish()
            self._threads.shutdown(wait=False)

    def leave(self) -> None:
        """Take nothing new from now on: a request whose head came before is answered, wherever its body is."""
        self._left = time.perf_counter() if self._left is None else self._left

    @property
    def is_leaving(self) -> bool:
        """Whether nothing new is taken."""
        return self._left is not None

    @property
    def is_well(self) -> bool:
        """Whether requests are taken and something computes them."""
        return not self.is_leaving and all(bundle.worker.is_well for bundle in self.bundles)

    async def answer(self, name: str | None, asked: Asked, request: Request) -> tuple[str, Answer]:
        """The bundle's name and what it says; RefusedError or ClientGoneError where there is no answer."""
        told = told_of(request)
        if self._left is not None and told.came > self._left:
            raise leaving()
        bundle = self.bundles.named(name)
        told.bundle, told.n_texts = bundle.name, len(asked.texts)
        try:
            answer = await classify(bundle, asked, request, self.settings.limits, self._threads, told.came)
        except ClientGoneError:
            told.refused = "dropped"
            raise
        told.n_tokens, told.times = int(answer.predictions.n_tokens.sum()), answer.times
        return bundle.name, answer

    async def written(self, answer: Answer, write: Callable[[], Reply]) -> Reply:
        """What ``write`` makes of an answer; of a large one beside the event loop, where nobody else waits for it."""
        if answer.predictions.logits.size <= INLINE_SCORES:
            return write()
        return await asyncio.get_running_loop().run_in_executor(self._threads, write)
