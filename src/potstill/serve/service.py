"""What every route shares: the bundles, the limits, the metrics, and the one way a request is answered."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from starlette.requests import Request

from potstill.serve.bundles import Bundles
from potstill.serve.classify import Answer, Asked, ClientGoneError, classify
from potstill.serve.metrics import Metrics
from potstill.serve.refusals import leaving
from potstill.serve.reload import watch
from potstill.serve.request_log import told_of
from potstill.serve.settings import Settings


class Service:
    """A server's state, from its start to its end."""

    def __init__(self, bundles: Bundles, settings: Settings) -> None:
        self.bundles, self.settings = bundles, settings
        self.metrics = Metrics()
        self.is_leaving = False
        self._tokenising = ThreadPoolExecutor(settings.tokenisation_threads, thread_name_prefix="tokenisation")

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
            self._tokenising.shutdown(wait=False)

    def leave(self) -> None:
        """Take nothing new from now on."""
        self.is_leaving = True

    @property
    def is_well(self) -> bool:
        """Whether requests are taken and something computes them."""
        return not self.is_leaving and all(bundle.worker.is_well for bundle in self.bundles)

    async def answer(self, name: str | None, asked: Asked, request: Request) -> tuple[str, Answer]:
        """The bundle's name and what it says; RefusedError or ClientGoneError where there is no answer."""
        told = told_of(request)
        if self.is_leaving:
            raise leaving()
        bundle = self.bundles.named(name)
        told.bundle, told.n_texts = bundle.name, len(asked.texts)
        try:
            answer = await classify(bundle, asked, request, self.settings.limits, self._tokenising)
        except ClientGoneError:
            told.refused = "dropped"
            raise
        told.n_tokens, told.times = int(answer.predictions.n_tokens.sum()), answer.times
        return bundle.name, answer
