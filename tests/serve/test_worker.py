"""A worker's end: it waits for what is under way, and keeps nothing. Oracle: properties."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from potstill.serve.settings import Limits
from potstill.serve.worker import Worker


class NoCounts:
    """Told of everything, and keeps nothing."""

    def count_batch(self, n_texts: int, n_tokens: int, n_waiting: int) -> None: ...

    def count_waiting(self, n_waiting: int) -> None: ...


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("streams", [1, 2])
def test_a_replaced_predictor_is_let_go_of_at_once(fake, streams, no_collector):
    # a reload holds hundreds of megabytes twice; the garbage collector would come for them minutes later
    predictor = fake.FakePredictor(streams=streams)
    seen = weakref.ref(predictor)

    async def live(worker: Worker) -> None:
        with worker.held():
            jobs = [worker.batcher.submit(worker.predictor.tokenise(["good", "bad"], "start")) for _ in range(4)]
            for job in jobs[:3]:
                assert len(await job.answer) == 2
            worker.batcher.drop(jobs[3])
        await worker.finish()

    only_reference = [predictor]
    del predictor

    async def run() -> None:
        await live(Worker(only_reference.pop(), NoCounts(), Limits()))

    asyncio.run(run())
    assert seen() is None


def test_the_predictor_is_closed_after_the_batches_that_nobody_waits_for(fake):
    predictor = fake.FakePredictor(streams=2)

    async def run() -> None:
        worker = Worker(predictor, NoCounts(), Limits())
        predictor.gate.clear()
        with worker.held():
            left = worker.batcher.submit(predictor.tokenise(["good", "bad"], "start"))
            for _ in range(1000):
                if len(predictor.under_way) == 2:
                    break
                await asyncio.sleep(0.01)
            assert len(predictor.under_way) == 2
            worker.batcher.drop(left)
        ending = asyncio.ensure_future(worker.finish())
        await asyncio.sleep(0.1)
        assert not predictor.closed
        predictor.gate.set()
        await asyncio.wait_for(ending, 20)
        assert predictor.closed
        assert not predictor.under_way

    asyncio.run(run())
