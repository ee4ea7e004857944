"""The server against its own OpenAPI document."""

from __future__ import annotations

from typing import Any

import pytest

from potstill.serve.settings import Limits


def test_the_document_names_every_route_with_its_bodies(served):
    document = served.client.get("/openapi.json").json()
    paths = {"/predict", "/", "/pipeline/text-classification"}
    named = {"/models/{name}" + path.rstrip("/") for path in paths}
    assert paths | named | {"/v1/classify", "/v1/bundles"} <= set(document["paths"])
    predict = document["paths"]["/predict"]["post"]
    assert set(predict["responses"]) >= {"200", "400", "413", "422", "424", "429", "504"}
    inputs = document["components"]["schemas"]["PredictRequest"]["properties"]["inputs"]
    assert [kind["type"] for kind in inputs["anyOf"]] == ["string", "array", "array"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
def test_nothing_that_schemathesis_sends_makes_the_server_fail(fake, tmp_path, mode):
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

    predictors = {"words": fake.FakePredictor()}
    with fake.running(predictors, tmp_path, limits=Limits(texts=8, characters=2000)) as running:
        address = str(running.client.base_url)
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        checks = (not_a_server_error, content_type_conformance, response_schema_conformance)
        n_cases = 0
        for result in schema.get_all_operations():
            operation: Any = result.ok()
            if mode == "NEGATIVE" and operation.method != "post":
                continue  # there is nothing about it that could be wrong

            @settings(
                max_examples=60,
                deadline=None,
                derandomize=True,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode[mode]))
            def call(case: Any) -> None:
                nonlocal n_cases
                n_cases += 1
                case.call_and_validate(base_url=address, checks=checks)

            call()
        assert n_cases > 100
        if mode == "POSITIVE":
            assert running.metric("te_request_success", method="single", model="words") > 0
