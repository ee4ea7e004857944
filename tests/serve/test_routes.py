"""What clients of text-embeddings-inference and of Hugging Face's inference send and get.

Oracles: those servers' published bodies, and scipy's softmax of the words the fake counts.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from scipy.special import expit, softmax

SINGLE, MULTI, SCORE = "single_label_classification", "multi_label_classification", "regression"
GOOD_FILM = softmax([1.0, 0.0, 0.0])


def scores(*probabilities: float, labels: tuple[str, ...] = ("good", "bad", "dull")) -> list[dict[str, Any]]:
    return [
        {"label": label, "score": pytest.approx(value, abs=1e-6)}
        for label, value in zip(labels, probabilities, strict=True)
    ]


def post(served: Any, path: str, **body: Any) -> Any:
    answer = served.client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_text_gets_one_list_likeliest_first(served):
    assert post(served, "/predict", inputs="the good film") == scores(*GOOD_FILM)
    assert post(served, "/predict", inputs=["the good film"]) == scores(*GOOD_FILM)


def test_a_flat_list_of_two_is_one_pair(served, predictor):
    assert post(served, "/predict", inputs=["good", "film"]) == scores(*GOOD_FILM)
    assert predictor.calls[-1] == [("good", "film")]


def test_a_batch_comes_back_nested_once_in_its_order(served):
    bad = scores(*softmax([2.0, 0.0, 0.0]), labels=("bad", "good", "dull"))
    assert post(served, "/predict", inputs=[["a bad bad film"], ["good", "film"]]) == [bad, scores(*GOOD_FILM)]


def test_raw_scores_are_logits(served):
    assert post(served, "/predict", inputs="good good bad", raw_scores=True) == scores(2, 1, 0)


def test_what_this_server_does_not_know_is_passed_over(served):
    assert post(served, "/predict", inputs="good film", normalize=True, prompt_name=None) == scores(*GOOD_FILM)


def test_long_texts_are_refused_unless_they_may_be_cut(served):
    long = "film " * 20 + "good"
    refused = served.client.post("/predict", json={"inputs": long})
    # text-embeddings-inference's source answers every validation of its own with 413
    assert (refused.status_code, refused.json()["error_type"]) == (413, "validation")
    assert "23 tokens" in refused.json()["error"]
    assert post(served, "/predict", inputs=long, truncate=True, raw_scores=True)[0]["score"] == 0
    kept = post(served, "/predict", inputs=long, truncate=True, truncation_direction="Left", raw_scores=True)
    assert kept[0] == {"label": "good", "score": 1}


def test_the_server_can_cut_where_nothing_is_said(fake, predictor, tmp_path):
    with fake.running({"words": predictor}, tmp_path, auto_truncate=True) as running:
        long = {"inputs": "film " * 20}
        assert running.client.post("/predict", json=long).status_code == 200
        assert running.client.post("/predict", json={**long, "truncate": False}).status_code == 413
        assert running.client.get("/info").json()["auto_truncate"] is True


def test_an_answer_tells_what_it_cost(served):
    headers = served.client.post("/predict", json={"inputs": [["good"], ["the film", "bad"]]}).headers
    assert headers["x-compute-characters"] == str(len("good") + len("the film") + len("bad"))
    assert headers["x-compute-tokens"] == str(3 + 6)
    assert headers["x-compute-type"] == "cpu"
    assert all(headers[f"x-{part}-time"].isdecimal() for part in ("compute", "total", "queue", "inference"))


@pytest.mark.parametrize("path", ["/", "/models/words"])
def test_hugging_face_gets_its_shapes(served, path):
    assert post(served, path, inputs="the good film") == scores(*GOOD_FILM)
    assert post(served, path, inputs="good", parameters={"top_k": 1}) == scores(GOOD_FILM[0], labels=("good",))
    assert post(served, path, inputs=["good", "good"]) == [scores(*GOOD_FILM)] * 2
    assert post(served, path, inputs={"text": "good", "text_pair": "a"}, options={"wait_for_model": True}) == scores(
        *GOOD_FILM
    )
    sigmoid = post(served, path, inputs="good", parameters={"function_to_apply": "sigmoid"})
    assert sigmoid == scores(expit(1), 0.5, 0.5)
    assert post(served, path, inputs="good good", parameters={"function_to_apply": "none"}) == scores(2, 0, 0)
    assert post(served, path, inputs="film " * 50)


def test_hugging_faces_own_client_reads_the_answer(served, monkeypatch):
    # oracle: huggingface_hub's client, which takes the first of a list of lists
    import huggingface_hub as hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # it would not even ask this machine
    address = str(served.client.base_url).rstrip("/")
    for path in ("/pipeline/text-classification", "/models/words/pipeline/text-classification"):
        assert post(served, path, inputs="good") == [scores(*GOOD_FILM)]
        assert post(served, path, inputs=["good", "good"]) == [scores(*GOOD_FILM)] * 2
        client = hub.InferenceClient(model=address + path, token="a-token-that-nobody-asks-for")
        said = client.text_classification("the good film")
        assert [(element.label, element.score) for element in said] == [
            (score["label"], score["score"]) for score in scores(*GOOD_FILM)
        ]
        (best,) = client.text_classification("good", top_k=1, function_to_apply="sigmoid")
        assert best.score == pytest.approx(expit(1), abs=1e-6)


def test_every_problem_type_gets_its_activation_decisions_and_thresholds(fake, tmp_path):
    labels = ("good", "bad")
    predictors = {
        "two": fake.FakePredictor(labels, SINGLE, decisions=fake.decisions_of(labels, SINGLE, 2.0, {"bad": 0.2})),
        "many": fake.FakePredictor(
            labels, MULTI, decisions=fake.decisions_of(labels, MULTI, 1.0, {"good": 0.9, "bad": 0.4})
        ),
        "value": fake.FakePredictor(("stars",), SCORE),
    }
    with fake.running(predictors, tmp_path) as running:
        two = post(running, "/v1/classify", inputs=["good"], bundle="two")
        assert (two["temperature"], two["thresholds"]) == (2.0, {"bad": 0.2})
        assert two["results"][0]["probabilities"]["good"] == pytest.approx(softmax([0.5, 0])[0], abs=1e-6)
        assert two["results"][0]["labels"] == ["bad"], "0.378 is above the threshold"
        many = post(running, "/v1/classify", inputs=["good good good", "film"], bundle="many")
        assert [result["labels"] for result in many["results"]] == [["good", "bad"], ["bad"]]
        assert post(running, "/models/many/predict", inputs="good")[0]["score"] == pytest.approx(expit(1), abs=1e-6)
        value = post(running, "/v1/classify", inputs="good good", bundle="value")
        assert (value["results"][0]["value"], value["results"][0]["labels"]) == (2.0, [])
        assert post(running, "/models/value/predict", inputs="good good") == [{"label": "stars", "score": 2.0}]
        assert post(running, "/predict", inputs="good")[0]["score"] == pytest.approx(softmax([0.5, 0])[0], abs=1e-6)


def test_the_own_answer_counts_tokens_and_says_what_was_cut(served):
    told = post(served, "/v1/classify", inputs=["good film", "film " * 20])
    assert [(result["tokens"], result["truncated"]) for result in told["results"]] == [(4, False), (22, True)]
    times = told["milliseconds"]
    assert times["total"] >= max(times["tokenisation"], times["queue"], times["inference"]) >= 0
    assert all(math.isfinite(value) for value in times.values())
    assert served.client.post("/v1/classify", json={"inputs": "film " * 20, "truncate": False}).status_code == 413


def test_info_has_the_other_servers_fields(served):
    info = served.client.get("/info").json()
    assert info == served.client.get("/models/words/info").json()
    classifier = {"id2label": {"0": "good", "1": "bad", "2": "dull"}, "label2id": {"good": 0, "bad": 1, "dull": 2}}
    expected = {
        "model_id": "words",
        "model_sha": None,
        "model_type": {"classifier": classifier},
        "model_dtype": "float32",
        "max_input_length": 12,
        "max_client_batch_size": 256,
        "max_batch_tokens": 1024,
        "auto_truncate": False,
    }
    assert {name: info[name] for name in expected} == expected
    assert set(info) >= {"served_model_name", "model_dtype", "max_concurrent_requests", "max_batch_requests"}
    assert set(info) >= {"tokenization_workers", "version", "sha", "docker_label"}


def test_bundles_are_listed_with_what_decides(fake, tmp_path):
    labels = ("good", "bad")
    second = fake.FakePredictor(labels, MULTI, windows=fake.Windows(2))
    with fake.running({"first": fake.FakePredictor(), "second": second}, tmp_path) as running:
        told = running.client.get("/v1/bundles").json()
    assert [bundle["name"] for bundle in told["bundles"]] == ["first", "second"]
    assert told["bundles"][1] == {
        "name": "second",
        "sha256": None,
        "problem_type": MULTI,
        "labels": ["good", "bad"],
        "temperature": 1.0,
        "thresholds": {"good": 0.5, "bad": 0.5},
        "max_length": 12,
        "arithmetic": "fp32",
        "long_texts": "windows",
    }
    assert told["limits"]["texts"] == 256


def test_health_is_a_status_and_nothing_else(served):
    answer = served.client.get("/health")
    assert (answer.status_code, answer.content) == (200, b"")


def test_metrics_have_the_other_servers_names(served):
    post(served, "/predict", inputs="good film")
    post(served, "/predict", inputs=[["good"], ["bad"]])
    served.client.post("/predict", json={"inputs": []})
    text = served.client.get("/metrics")
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE te_predict_count counter\n" in text.text
    assert served.metric("te_request_count", method="single", model="words") == 1
    assert served.metric("te_request_count", method="batch", model="words") == 1
    assert served.metric("te_predict_count", model="words") == 3
    assert served.metric("te_predict_success", model="words") == 3
    assert served.metric("te_request_failure", err="validation", model="") == 1
    assert served.metric("te_queue_size", model="words") == 0
    for part in ("", "_tokenization", "_queue", "_inference"):
        assert served.metric(f"te_predict{part}_duration_count", model="words") == 2
    assert served.metric("te_request_input_length_sum", model="words") == 4 + 3 + 3
    assert served.metric("te_batch_next_tokens_sum", model="words") == 4 + 3 + 3


def test_an_answer_carries_the_requests_id_or_one_of_its_own(served):
    named = served.client.get("/health", headers={"X-Request-Id": "shop-42"})
    assert named.headers["X-Request-Id"] == "shop-42"
    unnamed = served.client.get("/health", headers={"X-Request-Id": "no good\tone"})
    assert unnamed.headers["X-Request-Id"] != "no good\tone"


def test_other_origins_may_ask_only_where_they_are_named(fake, predictor, served, tmp_path):
    asks = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in served.client.get("/info", headers=asks).headers
    assert served.client.options("/predict", headers=asks).status_code == 405
    named = {"cors_origins": ("https://shop.example",)}
    with fake.running({"other": predictor}, tmp_path, **named) as running:
        allowed = running.client.options("/predict", headers=asks).headers
        assert allowed["access-control-allow-origin"] == "https://shop.example"
        stranger = running.client.get("/info", headers={"Origin": "https://else.example"})
        assert "access-control-allow-origin" not in stranger.headers
