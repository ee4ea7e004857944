"""Bundles and runs side by side. Oracles: numbers worked by hand, and the files on disk."""

from __future__ import annotations

import json

import pytest

from potstill.bench.study import BenchSettings, bench, subject_figures
from potstill.errors import PotstillError, UsageError

SHORT = BenchSettings(
    lengths=(8, 16), texts_a_call=(1, 8), distributions=("sentences",), threads=(1,), repeats=1, seconds=0.0
)


def repeat(ms, rate, cold=1.0, peak=100.0):
    return {
        "kind": "bundle",
        "cold_start_s": cold,
        "peak_mib": peak,
        "latency": [{"tokens": 8, "ms": ms}],
        "throughput": [{"lengths": "sentences", "texts_a_call": 8, "texts_per_s": rate}],
    }


def test_repeats_are_put_together(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"x" * 30)
    (tmp_path / "bundle.json").write_bytes(b"x" * 12)
    repeats = [
        repeat([1.0, 2.0, 3.0], 100.0, 1.0, 50.0),
        repeat([3.0, 4.0, 5.0], 300.0, 3.0, 70.0),
        repeat([3.0] * 3, 200.0, 2.0, 60.0),
    ]
    found = subject_figures("mine", tmp_path, 2, repeats, price=0.36)
    assert (found["bytes"], found["cold_start_s"], found["peak_mib"]) == (42, 2.0, 70.0)
    (latency,) = found["latency"]
    assert (latency["calls"], latency["p50_ms"], latency["medians_ms"]) == (9, 3.0, [2.0, 4.0])
    (throughput,) = found["throughput"]
    assert (throughput["texts_per_s"], throughput["range"]) == (200.0, [100.0, 300.0])
    # a million texts take 5,000 seconds on two cores: 10,000 core-seconds at 0.36 an hour
    assert throughput["cost_per_million"] == pytest.approx(1.0)


@pytest.mark.slow
def test_a_bundle_is_measured(bundles):
    folder = bundles["pairs"]
    measured = bench([folder], SHORT)
    (subject,) = measured["subjects"]
    assert subject["kind"] == "bundle, fp32, openvino"
    assert subject["bytes"] == sum(file.stat().st_size for file in folder.iterdir())
    assert [point["tokens"] for point in subject["latency"]] == pytest.approx([8, 16], abs=2)
    assert all(point["p99_ms"] >= point["p95_ms"] >= point["p50_ms"] > 0 for point in subject["latency"])
    assert [point["texts_a_call"] for point in subject["throughput"]] == [1, 8]
    assert subject["throughput"][0]["cost_per_million"] is None
    assert 0 < subject["cold_start_s"] < 60
    json.dumps(measured)


@pytest.mark.slow
def test_a_run_stands_beside_its_bundle(bundles, classifiers, potstill, tmp_path):
    flags = ["--length", 8, "--texts-a-call", 4, "--threads", 1, "--repeats", 1, "--seconds", 0]
    called = potstill("bench", bundles["reviews"], classifiers["reviews"], *flags, "--out", tmp_path / "bench")
    assert called.code == 0, called.err
    kinds = [subject["kind"] for subject in json.loads((tmp_path / "bench" / "bench.json").read_text())["subjects"]]
    assert kinds == ["bundle, fp32, openvino", "run, TorchPredictor"]
    assert {file.name for file in (tmp_path / "bench").iterdir()} == {
        "bench.json", "latency.svg", "throughput-sentences.svg", "throughput-paragraphs.svg", "throughput-pages.svg",
    }  # fmt: skip


def test_what_cannot_be_measured_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(UsageError, match="nothing to measure"):
        bench([])
    with pytest.raises(UsageError, match="no such folder"):
        bench([tmp_path / "nothing"])
    with pytest.raises(UsageError, match="named twice"):
        bench([tmp_path, tmp_path])
    with pytest.raises(UsageError, match="distribution"):
        bench([tmp_path], BenchSettings(distributions=("novels",)))
    with pytest.raises(UsageError, match="numbers from 1"):
        bench([tmp_path], BenchSettings(lengths=(0,)))


@pytest.mark.slow
def test_a_process_that_fails_says_why(tmp_path):
    with pytest.raises(PotstillError, match="could not be measured"):
        bench([tmp_path], SHORT)
