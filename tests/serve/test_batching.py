"""The queue: turns, budgets, room, and what becomes of texts nobody waits for. Oracle: batches worked out by hand."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.tokens import EncodedTexts
from potstill.runtime.tokenised import Tokenised
from potstill.serve.batching import Batcher, Job, take_batch
from potstill.serve.refusals import RefusedError
from potstill.serve.worker import classify_checked


class Counts:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []
        self.waiting: list[int] = []

    def count_batch(self, n_texts: int, n_tokens: int, n_waiting: int) -> None:
        self.batches.append((n_texts, n_tokens))

    def count_waiting(self, n_waiting: int) -> None:
        self.waiting.append(n_waiting)


def rows_of(predictor: Any, *texts: str) -> Tokenised:
    """The texts as the predictor's tokens: a word each, and two around them."""
    return predictor.tokenise(texts, "start")


def blank(*costs: int) -> Tokenised:
    """Texts of so many tokens each, of which nothing else is known."""
    n_tokens, none_cut = np.array(costs, dtype=np.int32), np.zeros(len(costs), dtype=bool)
    offsets = np.r_[0, np.cumsum(costs)].astype(np.int64)
    rows = EncodedTexts(np.zeros(sum(costs), dtype=np.int32), offsets, None, n_tokens, none_cut)
    return Tokenised(rows, None, n_tokens, none_cut)


def with_batcher(
    predictor: Any, act: Callable[[Batcher, Counts], Awaitable[None]], *, batch_tokens: int = 20, queued_texts: int = 8
) -> None:
    """Run ``act`` beside a working batcher."""

    async def run() -> None:
        counts = Counts()
        with ThreadPoolExecutor(1) as thread:
            batcher = Batcher(
                lambda rows: classify_checked(predictor, rows),
                thread,
                counts,
                batch_tokens=batch_tokens,
                queued_texts=queued_texts,
            )
            worker = asyncio.create_task(batcher.run())
            try:
                await asyncio.wait_for(act(batcher, counts), 20)
            finally:
                predictor.gate.set()
                worker.cancel()

    asyncio.run(run())


def windowed(*texts: tuple[int, ...]) -> Tokenised:
    """Texts that are read in windows of so many tokens each."""
    rows = blank(*(length for windows in texts for length in windows)).rows
    owners = np.repeat(np.arange(len(texts)), [*map(len, texts)])
    n_tokens = np.array([sum(windows) for windows in texts], dtype=np.int32)
    return Tokenised(rows, owners, n_tokens, np.zeros(len(texts), dtype=bool))


def batches_of(*jobs: tuple[int, ...] | Tokenised, budget: int) -> list[dict[int, list[int]]]:
    """The texts of each job in every batch of jobs with texts of these costs."""

    async def take() -> list[dict[int, list[int]]]:
        loop, made = asyncio.get_running_loop(), []
        for texts in jobs:
            made.append(Job(texts if isinstance(texts, Tokenised) else blank(*texts), loop.create_future()))
        waiting, found = deque(made), []
        while waiting:
            shares, _ = take_batch(waiting, budget)
            found.append({made.index(share.job): list(share.numbers) for share in shares})
        return found

    return asyncio.run(take())


def test_jobs_take_turns_text_by_text():
    assert batches_of((5, 5, 5, 5), (5,), budget=20) == [{0: [0, 1, 2], 1: [0]}, {0: [3]}]


def test_a_text_that_does_not_fit_begins_a_later_batch():
    assert batches_of((15,), (10,), (1,), budget=20) == [{0: [0]}, {1: [0], 2: [0]}]
    assert batches_of((10,), (11,), (10,), budget=20) == [{0: [0]}, {1: [0]}, {2: [0]}], "nobody overtakes"


def test_a_text_above_the_budget_is_alone():
    assert batches_of((50,), (1,), budget=20) == [{0: [0]}, {1: [0]}]


def test_the_first_job_goes_to_the_end_so_that_nobody_waits_for_ever():
    assert batches_of((60, 60, 60), (60,), budget=100) == [{0: [0]}, {1: [0]}, {0: [1]}, {0: [2]}]


def test_a_text_in_windows_costs_all_of_them():
    assert batches_of(windowed((64, 64, 30), (60,), (60,)), budget=218) == [{0: [0, 1]}, {0: [2]}]


COSTS = st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=6), min_size=1, max_size=6)


@given(COSTS, st.integers(1, 1000))
def test_every_text_is_in_one_batch_of_no_more_than_the_budget(costs: list[list[int]], budget: int):
    batches = batches_of(*map(tuple, costs), budget=budget)
    for batch in batches:
        taken = [costs[job][number] for job, numbers in batch.items() for number in numbers]
        assert sum(taken) <= budget or len(taken) == 1
    found = sorted((job, number) for batch in batches for job, numbers in batch.items() for number in numbers)
    assert found == [(job, number) for job, those in enumerate(costs) for number in range(len(those))]


@given(COSTS)
def test_a_text_begins_a_batch_after_at_most_one_for_each_job_before_it(costs: list[list[int]]):
    batches = batches_of(*map(tuple, costs), budget=1000)
    for job in range(len(costs)):
        assert any(0 in batch.get(job, []) for batch in batches[: job + 1])


def test_each_job_gets_its_own_rows_in_order(predictor):
    # oracle: the predictor alone
    async def act(batcher: Batcher, counts: Counts) -> None:
        texts = [("good", "bad dull", "good good bad", "the"), ("bad bad",), ("dull", "good dull")]
        jobs = [batcher.submit(rows_of(predictor, *those)) for those in texts]
        for job, those in zip(jobs, texts, strict=True):
            got, alone = await job.answer, predictor.classify(rows_of(predictor, *those))
            assert got.logits.tolist() == alone.logits.tolist()
            assert got.n_tokens.tolist() == alone.n_tokens.tolist()
            assert got.ids.tolist() == alone.ids.tolist()
        assert counts.batches == [(5, 3 + 4 + 3 + 4 + 4), (2, 5 + 3)]

    with_batcher(predictor, act)


def test_texts_that_came_meanwhile_are_computed_together(predictor):
    async def act(batcher: Batcher, counts: Counts) -> None:
        predictor.gate.clear()
        first = batcher.submit(rows_of(predictor, "good"))
        await asyncio.sleep(0.05)
        others = [batcher.submit(rows_of(predictor, f"bad {n}")) for n in range(3)]
        predictor.gate.set()
        await asyncio.gather(first.answer, *(job.answer for job in others))
        assert counts.batches == [(1, 3), (3, 12)]

    with_batcher(predictor, act)


def test_a_full_queue_refuses_and_an_empty_one_takes_everything(predictor):
    async def act(batcher: Batcher, counts: Counts) -> None:
        predictor.gate.clear()
        running = batcher.submit(rows_of(predictor, "good"))
        await asyncio.sleep(0.05)
        large = batcher.submit(predictor.tokenise([*["bad"] * 20], "start"))
        with pytest.raises(RefusedError) as refused:
            batcher.submit(rows_of(predictor, "dull"))
        assert (refused.value.status, refused.value.kind) == (429, "overloaded")
        predictor.gate.set()
        await asyncio.gather(running.answer, large.answer)
        assert batcher.n_waiting == counts.waiting[-1] == 0

    with_batcher(predictor, act)


def test_what_nobody_waits_for_is_not_computed_and_makes_room(predictor):
    async def act(batcher: Batcher, counts: Counts) -> None:
        predictor.gate.clear()
        running = batcher.submit(rows_of(predictor, "good"))
        await asyncio.sleep(0.05)
        left = batcher.submit(predictor.tokenise([*["bad"] * 8], "start"))
        batcher.drop(left)
        batcher.drop(left)
        stayed = batcher.submit(predictor.tokenise([*["dull"] * 8], "start"))
        predictor.gate.set()
        await asyncio.gather(running.answer, stayed.answer)
        assert "bad" not in [text for call in predictor.calls for text in call]

    with_batcher(predictor, act)


def test_a_job_dropped_while_it_is_computed_disturbs_nobody(predictor):
    async def act(batcher: Batcher, counts: Counts) -> None:
        predictor.gate.clear()
        left, stays = batcher.submit(rows_of(predictor, "bad", "bad")), batcher.submit(rows_of(predictor, "good"))
        await asyncio.sleep(0.05)
        batcher.drop(left)
        predictor.gate.set()
        assert (await stays.answer).logits.tolist() == [[1, 0, 0]]

    with_batcher(predictor, act)


@pytest.mark.parametrize("wrong", ["poison", "numberless"])
def test_a_text_that_fails_fails_only_its_own_request(predictor, wrong):
    async def act(batcher: Batcher, counts: Counts) -> None:
        predictor.gate.clear()
        running = batcher.submit(rows_of(predictor, "good"))
        await asyncio.sleep(0.05)
        jobs = [batcher.submit(rows_of(predictor, text)) for text in ("bad", wrong, "dull")]
        predictor.gate.set()
        done = await asyncio.gather(running.answer, *(job.answer for job in jobs), return_exceptions=True)
        assert [type(result).__name__ for result in done] == [
            "Predictions", "Predictions", "RefusedError", "Predictions",
        ]  # fmt: skip
        assert (done[2].status, done[2].kind) == (424, "backend")
        assert wrong not in str(done[2])

    with_batcher(predictor, act)
