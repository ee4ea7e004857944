"""Those who do the stages: how many there are, and how one that dies is noticed."""

from __future__ import annotations

import os

import pytest

from potstill.grid import crew
from potstill.grid.crew import Processes


def test_no_more_threads_are_used_than_were_given(monkeypatch):
    given = len(os.sched_getaffinity(0))
    for asked, expected in (("1", 1), (str(given + 5), given), ("", given), ("many", given)):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert crew.cores() == expected


@pytest.mark.parametrize(
    ("n_arms", "n_cores", "gib", "expected"), [(12, 8, 64, 8), (3, 8, 64, 3), (12, 8, 10, 2), (12, 2, 1, 1)]
)
def test_jobs_are_as_many_as_arms_cores_and_memory_allow(monkeypatch, n_arms, n_cores, gib, expected):
    # by hand: the smallest of arms, cores, and 4 GiB for each
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(crew, "cores", lambda: n_cores)
    monkeypatch.setattr(os, "sysconf", lambda name: 4096 if name == "SC_PAGE_SIZE" else gib * 1024**3 // 4096)
    assert crew.default_jobs(n_arms) == expected


def test_there_is_one_job_where_there_is_a_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert crew.default_jobs(12) == 1


@pytest.mark.slow
def test_a_process_that_dies_is_told_with_its_last_words(planned):
    # the folder holds no grid, so the process ends before it has done anything
    plan = planned(grid={"student.layers": [1, 2]})
    workers = Processes(plan, 2)
    first, second = list(plan.stages)[:2]
    try:
        workers.begin(first)
        workers.begin(second)
        outcomes = [workers.wait(), workers.wait()]
    finally:
        workers.close()
    assert {outcome.key for outcome in outcomes} == {first, second}
    for outcome in outcomes:
        assert "its process ended with code 1; its last line in logs/worker-" in outcome.error
        assert "there is no grid" in outcome.error
