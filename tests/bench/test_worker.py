"""Measuring one predictor. Oracle: a clock that is moved by the predictor."""

from __future__ import annotations

import json

import pytest
import torch

from potstill.bench.worker import _trained_on_pairs, open_subject, single_ms, texts_per_s


class Clock:
    """Moves only when it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class SlowPredictor:
    """Takes a stated time for a call and for each text, on a clock."""

    def __init__(self, clock, first_call_s=0.0, call_s=0.25, text_s=0.0625):
        self.clock, self.first_call_s, self.call_s, self.text_s = clock, first_call_s, call_s, text_s
        self.seen: list[int] = []

    def predict(self, texts):
        self.clock.now += (self.call_s if self.seen else self.first_call_s + self.call_s) + self.text_s * len(texts)
        self.seen.append(len(texts))


def test_single_texts_are_timed_one_by_one_after_a_warm_up():
    clock = Clock()
    predictor = SlowPredictor(clock, first_call_s=100)
    found = single_ms(predictor, "a text", 5.0, clock)
    assert found == pytest.approx([312.5] * 16)  # of 0.3125 s, sixteen are the first that reach five seconds
    assert predictor.seen == [1] * 18


def test_ten_calls_are_made_at_least():
    clock = Clock()
    assert len(single_ms(SlowPredictor(clock), "a text", 0.0, clock)) == 10


def test_throughput_counts_every_text_of_every_call():
    clock = Clock()
    predictor = SlowPredictor(clock, first_call_s=100)
    rate = texts_per_s(predictor, ["a"] * 10, 4, 0.0, clock)
    assert predictor.seen == [4, 4, 2] * 2
    assert rate == pytest.approx(10 / (3 * 0.25 + 10 * 0.0625))


@pytest.mark.parametrize(("task", "pairs"), [("pairs", True), ("reviews", False)])
def test_a_run_is_measured_on_what_it_was_trained_on(classifiers, task, pairs):
    _, kind, found = open_subject(classifiers[task], torch.get_num_threads(), None)
    assert (kind, found) == ("run, TorchPredictor", pairs)


@pytest.mark.parametrize(("task", "pairs"), [("mrpc", True), ("cola", False)])
def test_a_run_on_a_known_task_takes_what_the_catalogue_says(tmp_path, task, pairs):
    assert not _trained_on_pairs(tmp_path), "of a folder that says nothing"
    said = {"name": task, "files": None, "text_columns": None, "join": "pair"}
    manifest = {"potstill": "0", "stage": "finetune", "status": "finished", "fingerprint": "0", "task": said}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert _trained_on_pairs(tmp_path) is pairs
