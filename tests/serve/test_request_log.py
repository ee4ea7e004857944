"""Lines of the log: what they tell, and what they never hold."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from potstill.errors import ModelError
from potstill.serve.keys import Keys
from potstill.serve.request_log import JsonLines, log_as_json

KEY = "a-key-that-nobody-may-see"
SECRET = "poison diary"


@pytest.fixture
def lines(request: Any) -> Any:
    """What is logged meanwhile, as JSON."""
    stream = io.StringIO()
    loggers = [logging.getLogger(name) for name in ("potstill.serve", "uvicorn", "asyncio")]
    before = [(logger, logger.handlers, logger.propagate, logger.level) for logger in loggers]
    log_as_json(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    for logger, handlers, propagate, level in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_a_request_is_a_line_that_holds_neither_text_nor_key_nor_path(lines, fake, predictor, tmp_path):
    admitted = {"Authorization": f"Bearer {KEY}"}
    with fake.running({"words": predictor}, tmp_path, keys=Keys([KEY])) as running:
        running.client.post("/predict", json={"inputs": [["good diary"], ["film"]]}, headers=admitted)
        running.client.post("/predict", json={"inputs": SECRET, "truncate": True}, headers=admitted)
        running.client.post("/models/my-diary/predict", json={"inputs": "x"}, headers=admitted)
        running.client.get("/diary?diary=diary", headers=admitted)
        running.client.get("/info", headers={"Authorization": "Bearer diary"})
        running.client.post("/predict", json={"inputs": {"diary": 1}}, headers=admitted)
    requests = [line for line in lines() if line["event"] == "request"]
    assert [line["status"] for line in requests] == [200, 424, 404, 404, 401, 422]
    assert not [word for word in ("diary", KEY) if word in json.dumps(lines())]
    first, failed = requests[:2]
    assert (first["route"], first["bundle"], first["texts"], first["tokens"]) == ("/predict", "words", 2, 11)
    assert first["ms"] >= first["inference_ms"] >= 0
    assert (failed["level"], failed["refused"], failed["error"]["type"]) == ("error", "inference", "RuntimeError")
    assert any("fake.py" in place for place in failed["error"]["at"])
    assert requests[3]["route"] is None


def test_start_and_end_are_told(lines, fake, predictor, tmp_path):
    with fake.running({"words": predictor}, tmp_path) as running:
        running.leave()
        running.thread.join(10)
    serving, leaving = (line for line in lines() if line["event"].startswith(("serving", "leaving")))
    assert serving["bundles"] == ["words"]
    assert serving["addresses"] == [f"127.0.0.1:{running.port}"]
    assert leaving["level"] == "info"


def test_a_line_is_one_line_of_json_whatever_is_in_it():
    record = logging.makeLogRecord({"msg": "two\nlines", "levelname": "INFO", "bundle": "ü\n"})
    line = JsonLines().format(record)
    assert "\n" not in line
    told = json.loads(line)
    assert (told["event"], told["bundle"], told["level"]) == ("two\nlines", "ü\n", "info")
    assert told["time"].endswith("Z")


def test_only_errors_of_ones_own_are_repeated_in_words():
    for error, says in ((ModelError("model.onnx is missing"), "model.onnx is missing."), (ValueError("diary"), None)):
        record = logging.makeLogRecord({"msg": "x", "levelname": "ERROR", "exc_info": (type(error), error, None)})
        assert json.loads(JsonLines().format(record))["error"].get("says") == says
