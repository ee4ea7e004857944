"""What clients get wrong: each a status and a body of the known form, no traceback, and a server that goes on."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from potstill.serve.settings import Limits

HUGGING_FACE = ("/", "/models/words", "/pipeline/text-classification", "/models/words/pipeline/text-classification")
ROUTES = ("/predict", "/models/words/predict", *HUGGING_FACE, "/v1/classify")
JSON = {"Content-Type": "application/json"}


def refusal(answer: Any) -> tuple[int, str]:
    body = answer.json()
    assert set(body) == {"error", "error_type"}, body
    assert body["error"]
    assert "Traceback" not in body["error"]
    return answer.status_code, body["error_type"]


@pytest.fixture(scope="module")
def shared(fake: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One server and its predictor for all of these, none of which may change how it answers the next."""
    predictor = fake.FakePredictor()
    with fake.running({"words": predictor}, tmp_path_factory.mktemp("shared")) as running:
        yield running, predictor


@pytest.fixture
def predictor(shared: Any) -> Any:
    """Of the shared server, nothing asked of it yet."""
    shared[1].calls.clear()
    yield shared[1]
    shared[1].seconds = 0.0


@pytest.fixture
def served(shared: Any) -> Any:
    """The shared server."""
    return shared[0]


@pytest.fixture(autouse=True)
def _goes_on(served: Any) -> Any:
    """After each of these the server answers the next client."""
    yield
    assert served.client.post("/predict", json={"inputs": "good"}).status_code == 200
    assert served.client.get("/health").status_code == 200


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("inputs", ["", [], [""], [["", ""]]], ids=repr)
def test_nothing_to_classify(served, path, inputs):
    expected = (422, "validation") if inputs == [["", ""]] and path in HUGGING_FACE else (400, "empty")
    assert refusal(served.client.post(path, json={"inputs": inputs})) == expected


@pytest.mark.parametrize("path", ROUTES)
def test_ten_megabytes_of_text(served, path):
    answer = served.client.post(path, json={"inputs": "a" * 10_000_000})
    assert refusal(answer) == (413, "validation")


def test_ten_megabytes_in_pieces_without_a_stated_length(served, predictor):
    def pieces() -> Any:
        yield b'{"inputs": "'
        for _ in range(100):
            yield b"a" * 100_000
        yield b'"}'

    try:
        answer = served.client.post("/predict", content=pieces(), headers=JSON)
    except httpx.TransportError:
        pass  # the server closed before everything was sent
    else:
        assert refusal(answer) == (413, "validation")
    assert predictor.calls == []


def test_a_text_of_too_many_characters(served):
    assert refusal(served.client.post("/predict", json={"inputs": "a" * 200_001})) == (413, "validation")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs": "\xff\xfe"}',
        b'{"inputs": "a"',
        b"inputs=a",
        b"null",
        b"[]",
        b'"a"',
        b"",
        b"{}",
        b"\x00",
        b'{"inputs": NaN}',
        b'{"inputs": 1e999}',
        b'{"inputs": "\\ud800"}',
    ],
    ids=repr,
)
def test_bodies_that_are_none(served, path, body):
    assert refusal(served.client.post(path, content=body, headers=JSON)) == (422, "validation")


def test_a_body_that_does_not_say_that_it_is_json(served):
    for kind in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}):
        assert refusal(served.client.post("/predict", content=b'{"inputs": "a"}', headers=kind)) == (422, "validation")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("depth", [4, 900, 100_000])
def test_lists_in_lists_in_lists(served, path, depth):
    body = b'{"inputs": ' + b"[" * depth + b'"a"' + b"]" * depth + b"}"
    assert refusal(served.client.post(path, content=body, headers=JSON)) == (422, "validation")


WRONG_FIELDS = (
    ("/predict", {"raw_scores": "yes"}, "raw_scores"),
    ("/predict", {"raw_scores": 1}, "raw_scores"),
    ("/predict", {"truncate": "true"}, "truncate"),
    ("/predict", {"truncation_direction": "up"}, "truncation_direction"),
    ("/", {"parameters": {"top_k": 0}}, "parameters.top_k"),
    ("/", {"parameters": {"top_k": 2.5}}, "parameters.top_k"),
    ("/", {"parameters": {"function_to_apply": "tanh"}}, "parameters.function_to_apply"),
    ("/", {"parameters": []}, "parameters"),
    ("/v1/classify", {"truncat": True}, "truncat"),
    ("/v1/classify", {"bundle": 3}, "bundle"),
)


@pytest.mark.parametrize(("path", "field", "named"), WRONG_FIELDS, ids=lambda value: json.dumps(value))
def test_wrong_types_are_named_by_their_field(served, path, field, named):
    answer = served.client.post(path, json={"inputs": "good", **field})
    assert refusal(answer) == (422, "validation")
    assert answer.json()["error"].startswith(f"{named}: ")


def test_a_refusal_never_quotes_a_text(served):
    secret = "my diary"
    for path, inputs in (("/predict", [secret, {secret: 1}]), ("/", {secret: secret}), ("/v1/classify", [[secret]])):
        assert secret not in served.client.post(path, json={"inputs": inputs}).text


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(path=st.sampled_from(ROUTES), inputs=ANY, more=st.dictionaries(st.sampled_from(["truncate", "parameters"]), ANY))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_is_answered_or_refused(served, path, inputs, more):
    body = json.dumps({"inputs": inputs, **more}).encode()
    answer = served.client.post(path, content=body, headers=JSON)
    assert answer.status_code == 200 or refusal(answer)[0] in (400, 413, 422)


def test_unknown_bundles_and_addresses(served):
    for path in ("/models/other/predict", "/models/other"):
        answer = served.client.post(path, json={"inputs": "good"})
        assert refusal(answer) == (404, "validation")
        assert "words" in answer.json()["error"], "it says which there are"
    assert refusal(served.client.post("/v1/classify", json={"inputs": "a", "bundle": "other"})) == (404, "validation")
    assert refusal(served.client.get("/models/other/info")) == (404, "validation")
    assert refusal(served.client.get("/no/such/thing")) == (404, "validation")
    assert refusal(served.client.get("/page/../app.py")) == (404, "validation")
    assert refusal(served.client.get("/page/%2e%2e%2fapp.py")) == (404, "validation")
    assert refusal(served.client.put("/predict", json={})) == (405, "validation")


@pytest.mark.parametrize(("path", "one"), [("/predict", ["good"]), ("/", "good"), ("/v1/classify", "good")])
def test_ten_thousand_texts_in_one_request(served, predictor, path, one):
    answer = served.client.post(path, json={"inputs": [one] * 10_000})
    assert refusal(answer) == (413, "validation")
    assert "at most 256" in answer.json()["error"]
    assert predictor.calls == []


def test_inference_that_fails_is_told_without_its_words(served):
    answer = served.client.post("/predict", json={"inputs": "poison of mine", "truncate": True})
    assert refusal(answer) == (424, "backend")
    assert "RuntimeError" in answer.json()["error"]
    assert "mine" not in answer.text
    assert refusal(served.client.post("/predict", json={"inputs": "numberless"})) == (424, "backend")
    assert served.metric("te_request_failure", err="inference", model="words") == 2


def test_a_body_that_never_comes(fake, predictor, tmp_path):
    with fake.running({"late": predictor}, tmp_path, limits=Limits(deadline_s=0.3)) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as slow:
            head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
            slow.sendall(head + b'{"inputs":')
            said = slow.recv(65536)
        assert said.startswith(b"HTTP/1.1 408 ")


@pytest.fixture
def hasty(fake: Any, predictor: Any, tmp_path: Any) -> Any:
    """A server that waits a moment for the first lines of a request."""
    with fake.running({"hasty": predictor}, tmp_path, limits=Limits(head_s=0.3)) as running:
        yield running


PREDICT = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
GOOD = PREDICT + b'Content-Length: 18\r\n\r\n{"inputs": "good"}'


@pytest.mark.parametrize("sent", [b"", b"POST /pre", PREDICT], ids=["nothing", "a part of a line", "a part of a head"])
def test_a_head_that_never_comes(hasty, sent):
    for before in (b"", GOOD):
        with socket.create_connection(("127.0.0.1", hasty.port), timeout=10) as slow:
            if before:
                slow.sendall(before)
                assert answer_of(slow).startswith(b"HTTP/1.1 200 ")
            if sent or not before:
                slow.sendall(sent)
                assert slow.recv(65536) == b"", "the server hung up"


def test_whoever_has_asked_is_waited_for(hasty, predictor):
    predictor.seconds = 0.8
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=10) as patient:
        patient.sendall(GOOD)
        assert answer_of(patient).startswith(b"HTTP/1.1 200 ")


def answer_of(client: socket.socket) -> bytes:
    """Head and body of one answer."""
    said = b""
    while not said.endswith(b"]"):
        said += client.recv(65536)
    return said


def test_bodies_of_all_requests_together_are_bounded(fake, predictor, tmp_path):
    # oracle: 900 bytes are held until they are answered, and 200 more are above 1,000
    with fake.running({"words": predictor}, tmp_path, limits=Limits(open_bytes=1000)) as running:
        predictor.gate.clear()
        with ThreadPoolExecutor(1) as thread:
            held = thread.submit(running.client.post, "/predict", content=padded(900), headers=JSON)
            fake.until(lambda: predictor.calls)
            refused = httpx.post(f"http://127.0.0.1:{running.port}/predict", content=padded(200), headers=JSON)
            assert refusal(refused) == (429, "overloaded")
            assert refused.headers["Retry-After"] == "1"
            assert (
                httpx.post(f"http://127.0.0.1:{running.port}/predict", content=b"{}", headers=JSON).status_code == 422
            )
            predictor.gate.set()
            assert held.result().status_code == 200
        assert running.client.post("/predict", content=padded(2000), headers=JSON).status_code == 200, "alone"


def padded(n_bytes: int) -> bytes:
    body = b'{"inputs": "good"}'
    return body + b" " * (n_bytes - len(body))


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "more",
    [
        b'"\\ud800": 1',
        b'"bundle": "\\ud800"',
        b'"truncate": NaN',
        b'"n": ' + b"9" * 5000,
        b'"parameters": {"top_k": ' + b"9" * 40 + b"}",
        b'"inputs": "bad"',
        b'"a": ' + b"[" * 500 + b"]" * 500,
    ],
    ids=lambda more: more[:20].decode(),
)
def test_odd_fields_beside_a_text(served, path, more):
    answer = served.client.post(path, content=b'{"inputs": "good", ' + more + b"}", headers=JSON)
    assert answer.status_code == 200 or refusal(answer)[0] in (404, 422)


def test_a_bundle_is_found_by_its_encoded_name_too(served):
    assert served.client.post("/models/w%6Frds/predict", json={"inputs": "good"}).status_code == 200
    for name in ("words%2F", "wor%00ds", "%ff%fe", "%2e%2e", "words "):
        assert refusal(served.client.post(f"/models/{name}/predict", json={"inputs": "good"})) == (404, "validation")


def test_a_head_is_asked_for_where_there_is_something_to_get(served):
    for path in ("/health", "/", "/page/main.js"):
        answer = served.client.head(path)
        assert (answer.status_code, answer.content) == (200, b""), path
    assert served.client.head("/predict").status_code == 405


def test_what_is_no_http(served):
    for sent in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"POST /predict HTTP/9.9\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as stranger:
            stranger.sendall(sent)
            assert b"Traceback" not in stranger.recv(65536)
