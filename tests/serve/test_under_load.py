"""More than the server can do, clients that leave, and its end. Oracle: which texts the predictor was called with."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from potstill.serve.settings import Limits


def ask(running: Any, *texts: str) -> httpx.Response:
    with httpx.Client(base_url=str(running.client.base_url), timeout=20) as client:
        return client.post("/predict", json={"inputs": [[text] for text in texts], "raw_scores": True})


def computed(predictor: Any) -> list[str]:
    return [text for call in predictor.calls for text in call]


@pytest.fixture
def crowd() -> Any:
    with ThreadPoolExecutor(32) as threads:
        yield threads


def test_a_full_queue_answers_429_and_goes_on(fake, predictor, tmp_path, crowd):
    with fake.running({"words": predictor}, tmp_path, limits=Limits(queued_texts=4)) as running:
        predictor.gate.clear()
        first = crowd.submit(ask, running, "good")
        fake.until(lambda: "good" in computed(predictor))
        waiting = crowd.submit(ask, running, "bad", "bad", "bad")
        fake.until(lambda: running.metric("te_queue_size", model="words") == 3)
        refused = ask(running, "dull", "dull")
        assert (refused.status_code, refused.json()["error_type"]) == (429, "overloaded")
        assert refused.headers["Retry-After"] == "1"
        assert running.client.get("/health").status_code == 200
        predictor.gate.set()
        assert [first.result().status_code, waiting.result().status_code] == [200, 200]
        assert "dull" not in computed(predictor)
        assert running.metric("te_request_failure", err="overloaded", model="words") == 1


def test_a_request_past_its_deadline_is_answered_and_not_computed(fake, predictor, tmp_path, crowd):
    with fake.running({"words": predictor}, tmp_path, limits=Limits(deadline_s=0.4)) as running:
        predictor.gate.clear()
        first = crowd.submit(ask, running, "good")
        fake.until(lambda: "good" in computed(predictor))
        late = ask(running, "dull")
        assert (late.status_code, late.json()["error_type"]) == (504, "overloaded")
        assert first.result().status_code == 504, "so is one whose texts are being computed"
        predictor.gate.set()
        assert ask(running, "bad").status_code == 200
        assert "dull" not in computed(predictor)
        assert running.metric("te_request_failure", err="deadline", model="words") == 2


def hang_up_after_asking(running: Any, text: str) -> socket.socket:
    body = b'{"inputs": "%s"}' % text.encode()
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    client = socket.create_connection(("127.0.0.1", running.port), timeout=10)
    client.sendall(head + body)
    return client


def test_what_a_client_that_hung_up_had_waiting_is_not_computed(fake, served, predictor, crowd):
    predictor.gate.clear()
    first = crowd.submit(ask, served, "good")
    fake.until(lambda: "good" in computed(predictor))
    gone = hang_up_after_asking(served, "dull")
    fake.until(lambda: served.metric("te_queue_size", model="words") == 1)
    gone.close()
    fake.until(lambda: served.metric("te_queue_size", model="words") == 0)
    predictor.gate.set()
    assert first.result().status_code == 200
    assert ask(served, "bad").status_code == 200
    assert "dull" not in computed(predictor)
    assert served.metric("te_request_failure", err="dropped", model="words") == 1


def test_a_client_that_hangs_up_while_it_is_computed_disturbs_nobody(fake, served, predictor, crowd):
    predictor.gate.clear()
    gone = hang_up_after_asking(served, "dull")
    fake.until(lambda: "dull" in computed(predictor))
    gone.close()
    waiting = crowd.submit(ask, served, "good")
    predictor.gate.set()
    assert waiting.result().json() == [
        [{"label": "good", "score": 1}, {"label": "bad", "score": 0}, {"label": "dull", "score": 0}]
    ]


def test_a_client_that_hangs_up_in_its_body_disturbs_nobody(served):
    for sent in (b"POST /predict HTTP/1.1\r\n", b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"):
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as client:
            client.sendall(sent)
    assert ask(served, "good").status_code == 200


@pytest.mark.slow
def test_many_clients_at_once_each_get_their_own_answer(served, predictor, crowd):
    # oracle: the words each sent
    predictor.seconds = 0.005
    texts = [("good " * (n % 4) + "bad " * (n % 3)).strip() or "film" for n in range(200)]
    answers = list(crowd.map(lambda text: ask(served, text).json(), texts))
    for text, answer in zip(texts, answers, strict=True):
        logits = {score["label"]: score["score"] for score in answer[0]}
        assert logits == {label: text.split().count(label) for label in ("good", "bad", "dull")}
    assert max(map(len, predictor.calls)) > 1, "they were computed together"


def test_one_text_does_not_wait_for_all_of_another_request(fake, predictor, tmp_path, crowd):
    with fake.running({"words": predictor}, tmp_path, limits=Limits(batch_tokens=30)) as running:
        predictor.gate.clear()
        bulk = crowd.submit(ask, running, *["bad"] * 100)
        fake.until(lambda: "bad" in computed(predictor))
        single = crowd.submit(ask, running, "good")
        fake.until(lambda: running.metric("te_queue_size", model="words") == 93)
        predictor.gate.set()
        assert single.result().status_code == bulk.result().status_code == 200
        (turn,) = (number for number, call in enumerate(predictor.calls) if "good" in call)
        assert turn <= 3 < len(predictor.calls) - 5


def test_the_end_answers_what_was_accepted_and_refuses_what_is_new(fake, served, predictor, crowd):
    predictor.gate.clear()
    running, waiting = crowd.submit(ask, served, "good"), None
    fake.until(lambda: "good" in computed(predictor))
    waiting = crowd.submit(ask, served, "bad")
    fake.until(lambda: served.metric("te_queue_size", model="words") == 1)
    served.leave()
    fake.until(lambda: not reachable(served.port))
    time.sleep(0.05)
    predictor.gate.set()
    assert [running.result().status_code, waiting.result().status_code] == [200, 200]
    served.thread.join(10)
    assert not served.thread.is_alive()


def test_a_request_whose_body_comes_after_the_signal_is_answered(fake, served):
    # its head was there before; a balancer has sent it and asks nobody else
    body = b'{"inputs": "good"}'
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as client:
        client.sendall(head + body[:5])
        time.sleep(0.2)
        served.leave()
        fake.until(lambda: not reachable(served.port))
        client.sendall(body[5:])
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_long_texts_are_tokenised_while_others_are_answered(fake, tmp_path, crowd):
    class Slow(fake.FakePredictor):
        def tokenise(self, texts: Any, keep: Any) -> Any:
            if len(texts[0]) > 2000:
                begun.set()
                assert go_on.wait(10)
            return super().tokenise(texts, keep)

    begun, go_on = threading.Event(), threading.Event()
    with fake.running({"words": Slow()}, tmp_path) as running:
        long = crowd.submit(running.client.post, "/predict", json={"inputs": "film " * 500, "truncate": True})
        assert begun.wait(10)
        assert ask(running, "good").status_code == 200
        go_on.set()
        assert long.result().status_code == 200


def test_large_answers_are_those_of_their_texts_alone(fake, tmp_path):
    # 150 texts of 20 labels are written beside the event loop, one text in it
    labels = tuple(f"label{n}" for n in range(20))
    with fake.running({"words": fake.FakePredictor(labels)}, tmp_path) as running:
        texts = ["good " * (n % 3) + f"label{n % 20}" for n in range(150)]
        for path, of in (("/predict", lambda text: [text]), ("/", str)):
            body = {"inputs": [of(text) for text in texts], "truncate": True}
            together = running.client.post(path, json=body).json()
            alone = running.client.post(path, json={"inputs": of(texts[7]), "truncate": True}).json()
            assert (len(together), together[7]) == (150, alone)


def reachable(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
    except OSError:
        return False


def test_a_server_that_leaves_says_so_on_connections_it_still_has(served):
    # the state between the signal and the closing of the socket, in which a request can still arrive
    served.service.leave()
    for answer in (served.client.get("/health"), served.client.post("/predict", json={"inputs": "good"})):
        assert (answer.status_code, answer.json()["error_type"]) == (503, "unhealthy")
    assert served.client.get("/").status_code == 200


def test_a_queue_whose_worker_died_is_unhealthy(fake, served):
    worker = served.service.bundles.named(None).worker
    stopped = threading.Event()
    served.loop.call_soon_threadsafe(lambda: (worker._batching[0].cancel(), stopped.set()))
    stopped.wait(5)
    fake.until(lambda: served.client.get("/health").status_code == 503)
