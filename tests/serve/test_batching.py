"""The queue: turns, budgets, room, and what becomes of texts nobody waits for. Oracle: batches worked out by hand."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.tokens import EncodedTexts
from potstill.records import Predictions
from potstill.runtime.schedule import RUN_TOKENS, schedule_one_stream
from potstill.runtime.tokenised import Tokenised
from potstill.serve.batching import LOOKED_AT, Batcher, Job, round_number, take_batch
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
    predictor: Any, act: Callable[[Batcher, Counts], Awaitable[None]], *, batch_tokens: int = 60, queued_texts: int = 8
) -> None:
    """Run ``act`` beside a working batcher."""

    async def run() -> None:
        counts = Counts()
        with ThreadPoolExecutor(predictor.streams) as threads:
            batcher = Batcher(
                partial(classify_checked, predictor),
                threads,
                counts,
                streams=predictor.streams,
                batch_tokens=batch_tokens,
                queued_texts=queued_texts,
            )
            streams = [asyncio.create_task(batcher.run()) for _ in range(predictor.streams)]
            try:
                await asyncio.wait_for(act(batcher, counts), 20)
                assert not predictor.too_many
            finally:
                predictor.gate.set()
                for stream in streams:
                    stream.cancel()

    asyncio.run(run())


async def until(holds: Callable[[], Any]) -> None:
    """Wait until something holds; ``with_batcher`` does not wait for ever."""
    while not holds():
        await asyncio.sleep(0.005)


def windowed(*texts: tuple[int, ...]) -> Tokenised:
    """Texts that are read in windows of so many tokens each."""
    rows = blank(*(length for windows in texts for length in windows)).rows
    owners = np.repeat(np.arange(len(texts)), [*map(len, texts)])
    n_tokens = np.array([sum(windows) for windows in texts], dtype=np.int32)
    return Tokenised(rows, owners, n_tokens, np.zeros(len(texts), dtype=bool))


def batches_of(*jobs: tuple[int, ...] | Tokenised, budget: int, most: int = 99) -> list[dict[int, list[int]]]:
    """The texts of each job in every batch of jobs with texts of these costs."""

    async def take() -> list[dict[int, list[int]]]:
        loop, made = asyncio.get_running_loop(), []
        for texts in jobs:
            made.append(Job(texts if isinstance(texts, Tokenised) else blank(*texts), loop.create_future()))
        waiting, found = deque(made), []
        while waiting:
            shares, _ = take_batch(waiting, budget, most)
            found.append({made.index(share.job): list(share.numbers) for share in shares})
        return found

    return asyncio.run(take())


def test_jobs_of_one_length_take_turns_text_by_text():
    assert batches_of((5, 5, 5, 5), (5,), budget=20) == [{0: [0, 1, 2], 1: [0]}, {0: [3]}]


def test_no_batch_has_more_texts_than_it_may():
    assert batches_of((5, 5, 5, 5), (5,), budget=20, most=2) == [{0: [0], 1: [0]}, {0: [1, 2]}, {0: [3]}]


def test_a_batch_holds_a_round_number_of_texts():
    numbers = [round_number(n) for n in range(1, 18)]
    assert numbers == [1, 2, 3, 4, 4, 6, 6, 8, 8, 8, 8, 12, 12, 12, 12, 16, 16]
    assert batches_of((5,) * 7, budget=99) == [{0: [0, 1, 2, 3, 4, 5]}, {0: [6]}]


def test_the_nearest_in_length_share_a_batch():
    # beside 50, padding 18 costs 32 positions, as much as a run of its own; padding 17 costs more, and so does 18 by 82
    assert batches_of((50,), (17,), (18,), (49,), budget=999) == [{0: [0], 2: [0], 3: [0]}, {1: [0]}]
    assert batches_of((50,), (82,), (18,), (83,), budget=999) == [{0: [0], 1: [0]}, {2: [0]}, {3: [0]}]
    # what is too near the budget begins the next batch; what is too far from it does not keep others out
    assert batches_of((50,), (82,), (49,), (50,), budget=160) == [{0: [0], 2: [0], 3: [0]}, {1: [0]}]
    assert batches_of((50,), (18,), (60,), (49,), budget=180) == [{0: [0], 2: [0], 3: [0]}, {1: [0]}]


def test_padding_counts_and_what_would_exceed_the_budget_waits():
    assert batches_of((10,), (11,), (10,), budget=32) == [{0: [0], 2: [0]}, {1: [0]}]
    assert batches_of((10,), (11,), (10,), budget=33) == [{0: [0], 1: [0], 2: [0]}]


def test_a_text_above_the_budget_is_alone():
    assert batches_of((50,), (50,), budget=20) == [{0: [0]}, {1: [0]}]


def test_the_first_job_goes_to_the_end_so_that_nobody_waits_for_ever():
    assert batches_of((60, 60, 60), (60,), budget=100) == [{0: [0]}, {1: [0]}, {0: [1]}, {0: [2]}]


def test_a_text_in_windows_costs_all_of_them():
    assert batches_of(windowed((64, 64, 30), (158,), (60,)), budget=316) == [{0: [0, 1]}, {0: [2]}]
    assert batches_of(windowed((64, 64, 30), (158,), (60,)), budget=315) == [{0: [0]}, {0: [1]}, {0: [2]}]


COSTS = st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=6), min_size=1, max_size=6)


@given(COSTS, st.integers(1, 1000), st.integers(1, 40))
def test_every_text_is_in_one_batch_of_no_more_than_the_budget(costs: list[list[int]], budget: int, most: int):
    batches = batches_of(*map(tuple, costs), budget=budget, most=most)
    for batch in batches:
        taken = [costs[job][number] for job, numbers in batch.items() for number in numbers]
        assert len(taken) * max(taken) <= budget or len(taken) == 1
        assert len(taken) == round_number(len(taken)) <= most
        assert max(taken) - min(taken) <= RUN_TOKENS
        if max(taken) <= budget:
            assert len(schedule_one_stream(np.array(taken), budget, max(taken)).batches) == 1, "one run"
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
            got, alone = await job.answer, predictor.classify(rows_of(predictor, *those), alone=True)
            assert got.logits.tolist() == alone.logits.tolist()
            assert got.n_tokens.tolist() == alone.n_tokens.tolist()
            assert got.ids.tolist() == alone.ids.tolist()
        assert counts.batches == [(4, 3 + 3 + 3 + 4), (2, 4 + 4), (1, 5)], "half of what waits, the nearest in length"

    with_batcher(predictor, act)


def test_texts_that_came_meanwhile_are_computed_together(predictor):
    async def act(batcher: Batcher, counts: Counts) -> None:
        predictor.gate.clear()
        first = batcher.submit(rows_of(predictor, "good"))
        await asyncio.sleep(0.05)
        others = [batcher.submit(rows_of(predictor, f"bad {n}")) for n in range(3)]
        predictor.gate.set()
        await asyncio.gather(first.answer, *(job.answer for job in others))
        assert counts.batches == [(1, 3), (2, 8), (1, 4)]

    with_batcher(predictor, act)


def test_one_text_has_all_cores_only_where_all_are_idle(predictor):
    predictor.streams = 2

    async def act(batcher: Batcher, counts: Counts) -> None:
        predictor.gate.clear()
        jobs = [batcher.submit(rows_of(predictor, "good"))]
        await until(lambda: predictor.calls)
        jobs.append(batcher.submit(rows_of(predictor, "bad")))
        jobs.append(batcher.submit(rows_of(predictor, "dull")))
        await asyncio.sleep(0.1)
        assert predictor.calls == [["good"]], "nothing begins beside it"
        predictor.gate.set()
        await asyncio.gather(*(job.answer for job in jobs))
        assert sorted(predictor.calls) == [["bad"], ["dull"], ["good"]]
        assert predictor.alone == [True, False, False]

    with_batcher(predictor, act)


def test_an_answer_waits_for_no_other_stream(predictor):
    predictor.streams = 2
    slow = threading.Event()
    classify = predictor.classify

    def held(rows: Tokenised, *, alone: bool) -> Predictions:
        found: Predictions = classify(rows, alone=alone)
        if predictor.label_names[int(found.logits.argmax())] == "dull":
            slow.wait(20)
        return found

    predictor.classify = held

    async def act(batcher: Batcher, counts: Counts) -> None:
        both = batcher.submit(rows_of(predictor, "dull", "good"))
        others = [batcher.submit(rows_of(predictor, text)) for text in ("bad", "good", "bad bad")]
        await asyncio.gather(*(job.answer for job in others))
        assert not both.answer.done()
        slow.set()
        assert (await both.answer).logits.tolist() == [[0, 0, 1], [1, 0, 0]]

    with_batcher(predictor, act, batch_tokens=3)


def test_a_batch_is_half_of_a_stream_s_share_of_what_waits(predictor):
    predictor.streams = 2

    async def act(batcher: Batcher, counts: Counts) -> None:
        await batcher.submit(rows_of(predictor, *["good"] * 14)).answer
        # a fourth of 14, 10, 7, 5, 3, 2 and 1, rounded up
        assert [n_texts for n_texts, _ in counts.batches] == [4, 3, 2, 2, 1, 1, 1]

    with_batcher(predictor, act)


def test_a_job_with_parts_on_both_streams_can_be_dropped(predictor):
    predictor.streams = 2

    async def act(batcher: Batcher, counts: Counts) -> None:
        predictor.gate.clear()
        left = batcher.submit(rows_of(predictor, *["good"] * 8))
        await until(lambda: len(predictor.calls) == 2)
        assert batcher.n_waiting == 8 - 2 - 2
        stays = batcher.submit(rows_of(predictor, "bad"))
        batcher.drop(left)
        assert batcher.n_waiting == 1
        predictor.gate.set()
        assert (await stays.answer).logits.tolist() == [[0, 1, 0]]
        assert predictor.calls[2:] == [["bad"]], "what was left is not computed"
        assert batcher.n_waiting == counts.waiting[-1] == 0

    with_batcher(predictor, act)


def test_a_deep_queue_is_looked_at_only_in_part():
    jobs = [(5,)] * LOOKED_AT + [(5, 5)]
    batches = batches_of(*jobs, budget=10**6, most=10**6)
    assert [sum(map(len, batch.values())) for batch in batches] == [512, 2]
    assert batches[1] == {LOOKED_AT: [0, 1]}


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


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("wrong", ["poison", "numberless"])
def test_a_text_that_fails_fails_only_its_own_request(predictor, wrong, streams):
    predictor.streams = streams

    async def act(batcher: Batcher, counts: Counts) -> None:
        predictor.gate.clear()
        running = batcher.submit(rows_of(predictor, "good"))
        await asyncio.sleep(0.05)
        jobs = [
            batcher.submit(rows_of(predictor, text)) for text in ("bad", wrong, "dull", "good", "bad", "dull", "the")
        ]
        predictor.gate.set()
        done = await asyncio.gather(running.answer, *(job.answer for job in jobs), return_exceptions=True)
        names = [type(result).__name__ for result in done]
        assert names == ["Predictions"] * 2 + ["RefusedError"] + ["Predictions"] * 5
        assert max(n_texts for n_texts, _ in counts.batches) > 1, "one that fails shared a batch"
        assert (done[2].status, done[2].kind) == (424, "backend")
        assert wrong not in str(done[2])

    with_batcher(predictor, act)
