"""Who shares a batch. Oracles: schedules worked out by hand, and properties of every one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.runtime.schedule import (
    ALL_CORES_GAIN,
    EXACT,
    RUN_TOKENS,
    Schedule,
    schedule_one_stream,
    schedule_rows,
)

LENGTHS = st.lists(st.integers(1, 512), max_size=200).map(np.array)
LONGEST = 512


def scheduled(lengths: list[int], tokens: int = 1024, streams: int = 2) -> list[list[int]]:
    """The lengths in each batch."""
    plan = schedule_rows(np.array(lengths), tokens, streams, LONGEST)
    return [[lengths[row] for row in batch] for batch in plan.batches]


def done_after(plan: Schedule, lengths: np.ndarray, streams: int) -> float:
    """When the last batch is done, in positions of one core, padding to round widths left out."""
    costs = [len(batch) * int(lengths[batch].max()) + RUN_TOKENS for batch in plan.batches]
    if not plan.side_by_side:
        return sum(costs) / (1 + (streams - 1) * ALL_CORES_GAIN)
    busy = [0] * streams
    for cost in costs:
        busy[busy.index(min(busy))] += cost
    return max(busy)


def test_one_text_gets_all_cores():
    plan = schedule_rows(np.array([28]), 1024, 2, LONGEST)
    assert ([batch.tolist() for batch in plan.batches], plan.widths, plan.side_by_side) == ([[0]], [28], False)


def test_no_texts_are_no_batches():
    assert schedule_rows(np.array([], dtype=np.int64), 1024, 2, LONGEST) == Schedule([], [], False)


def test_few_texts_run_with_those_of_near_length():
    # beside 140, 130 costs 10 positions of padding and 60 would cost 80; a run of its own costs 32
    assert scheduled([130, 480, 60, 140], streams=1) == [[480], [140, 130], [60]]


def test_equal_texts_are_shared_out_among_the_cores():
    # 512 positions on each of two cores are done before 1,024 on both, which reach 1.8 times one
    assert scheduled([64] * 16) == [[64] * 8] * 2
    assert scheduled([64] * 16, streams=4) == [[64] * 4] * 4


def test_batches_of_many_texts_are_as_full_as_their_longest_allows():
    batches = scheduled([*range(1, 513)] * 2, tokens=1024)
    widths = [-(-batch[0] // 4) * 4 for batch in batches[:-1]]
    assert [len(batch) for batch in batches[:-1]] == [1024 // width for width in widths]


@given(LENGTHS, st.sampled_from([512, 700, 1024, 4096]), st.integers(1, 5))
def test_each_text_is_in_one_batch_that_holds_it(lengths, tokens, streams):
    plan = schedule_rows(lengths, tokens, streams, LONGEST)
    assert sorted(row for batch in plan.batches for row in batch) == [*range(len(lengths))]
    longest = [int(lengths[batch].max()) for batch in plan.batches]
    assert longest == sorted(longest, reverse=True)
    for batch, width in zip(plan.batches, plan.widths, strict=True):
        assert int(lengths[batch].max()) <= width <= LONGEST
        assert len(batch) * int(lengths[batch].max()) <= tokens


@given(LENGTHS.filter(len), st.sampled_from([512, 1024]), st.integers(1, 4))
def test_no_simple_way_is_done_earlier(lengths, tokens, streams):
    plan = schedule_rows(lengths, tokens, streams, LONGEST)
    one_by_one = Schedule([np.array([row]) for row in range(len(lengths))], [], False)
    all_padded = Schedule([np.arange(len(lengths))], [], False)
    done = done_after(plan, lengths, streams)
    assert done <= done_after(one_by_one, lengths, streams) * 1.05
    if len(lengths) * lengths.max() <= tokens:
        assert done <= done_after(all_padded, lengths, streams)


@given(LENGTHS, st.randoms())
def test_lengths_alone_decide(lengths, random):
    mixed = lengths.tolist()
    random.shuffle(mixed)
    plans = [schedule_rows(np.array(given), 1024, 2, LONGEST) for given in (lengths, mixed)]
    assert plans[0].widths == plans[1].widths
    assert [len(batch) for batch in plans[0].batches] == [len(batch) for batch in plans[1].batches]


@pytest.mark.parametrize("n_texts", [(1, 40), (400, 600)], ids=["a server's", "a file's"])
def test_an_engine_meets_a_bounded_number_of_shapes(n_texts):
    # each round width with every number of texts that fits, each text alone, and one number for each fourth width
    random, shapes = np.random.default_rng(0), set()
    for _ in range(400):
        lengths = np.clip(random.lognormal(4, 1, random.integers(*n_texts)), 3, LONGEST).astype(int)
        plan = schedule_rows(lengths, 1024, 2, LONGEST)
        shapes |= {(len(batch), width) for batch, width in zip(plan.batches, plan.widths, strict=True)}
    steps = [
        (width, 8 if width <= 64 else 16 if width <= 256 else 32)
        for width in (*range(8, 65, 8), *range(80, 257, 16), *range(288, 513, 32))
    ]
    round_ones = sum(1024 // (width - step + 1) for width, step in steps)
    assert len(shapes) <= min(round_ones + EXACT + LONGEST // 4, 600)


def test_a_text_that_no_batch_holds_is_refused():
    with pytest.raises(ValueError, match="a row of 513 tokens in a batch of 512"):
        schedule_rows(np.array([513, 2]), 512, 2, LONGEST)


def test_a_row_alone_gets_the_next_width_that_an_engine_has_for_it():
    def width(length, max_length=LONGEST):
        return schedule_rows(np.array([length]), 1024, 2, max_length, (24, 48)).widths

    assert [width(n) for n in (3, 24, 25, 48, 49, 70)] == [[24], [24], [48], [48], [56], [80]]
    assert width(26, max_length=40) == [32]  # no row may be wider
    assert width(33, max_length=40) == [40]
    assert [width(n) for n in (255, 257, 511)] == [[256], [288], [512]]
    assert [schedule_rows(np.array([n]), 1024, 2, LONGEST, (24, 48)).fixed for n in (24, 48, 49)] == [True, True, False]


def test_a_row_in_company_has_none_of_these_widths():
    plan = schedule_rows(np.array([17, 480]), 1024, 1, LONGEST, (20, 48))
    assert (plan.widths, plan.fixed) == ([480, 24], False)


@given(LENGTHS, st.sampled_from([512, 1024]))
def test_on_one_stream_each_text_is_in_one_batch_with_near_ones(lengths, tokens):
    plan = schedule_one_stream(lengths, tokens, LONGEST)
    assert sorted(row for batch in plan.batches for row in batch) == [*range(len(lengths))]
    for batch, width in zip(plan.batches, plan.widths, strict=True):
        longest = int(lengths[batch].max())
        assert longest - int(lengths[batch].min()) <= RUN_TOKENS
        assert longest <= width <= LONGEST
        assert len(batch) * longest <= tokens
    assert not plan.side_by_side


def test_on_one_stream_texts_get_the_widths_of_few():
    plan = schedule_one_stream(np.array([28, 130, 60]), 1024, LONGEST)
    assert ([batch.tolist() for batch in plan.batches], plan.widths) == ([[1], [2, 0]], [144, 64])
    with pytest.raises(ValueError, match="a row of 513 tokens in a batch of 512"):
        schedule_one_stream(np.array([513, 2]), 512, LONGEST)
