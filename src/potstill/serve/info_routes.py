"""The routes that tell: what is served, whether it is well, and what happened so far."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from potstill.serve.answers import decided_by
from potstill.serve.bundles import ServedBundle
from potstill.serve.metrics import CONTENT_TYPE
from potstill.serve.refusals import RefusedError, leaving
from potstill.serve.schemas import REFUSALS, BundleInfo, BundleList, Classifier, Info, ModelType
from potstill.serve.service import Service

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""What the other server calls the arithmetic that a bundle has; others are called alike."""


def info_routes(service: Service) -> APIRouter:
    """The routes of one server."""
    routes = APIRouter()
    keyed: dict[int | str, dict[str, Any]] = {401: REFUSALS[401]}
    named = {**keyed, 404: REFUSALS[404]}

    @routes.get("/info", tags=["text-embeddings-inference"], responses=keyed)
    async def info() -> Info:
        """The first bundle."""
        return _info(service, service.bundles.named(None))

    @routes.get("/models/{name}/info", tags=["text-embeddings-inference"], responses=named)
    async def info_of(name: str) -> Info:
        """The bundle that is named."""
        return _info(service, service.bundles.named(name))

    @routes.get("/v1/bundles", tags=["potstill"], responses=keyed)
    async def bundles() -> BundleList:
        """Every bundle with its labels, temperature and thresholds, the default first."""
        limits = service.settings.limits
        return BundleList(
            bundles=[_bundle(bundle) for bundle in service.bundles],
            limits={
                "body_bytes": limits.body_bytes,
                "texts": limits.texts,
                "characters": limits.characters,
                "deadline_s": limits.deadline_s,
            },
        )

    @routes.head("/health", include_in_schema=False)
    @routes.get("/health", tags=["text-embeddings-inference"], response_class=Response, responses={503: REFUSALS[503]})
    async def health() -> Response:
        """200 without a body while requests are taken and computed; HEAD is answered too."""
        if service.is_leaving:
            raise leaving()
        if not service.is_well:
            raise RefusedError(503, "unhealthy: nothing computes what is asked", counted_as="unhealthy")
        return Response()

    @routes.get("/metrics", tags=["text-embeddings-inference"], response_class=PlainTextResponse, responses=keyed)
    async def metrics() -> Response:
        """Counters and histograms in Prometheus' text format."""
        return Response(service.metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

    return routes


def _info(service: Service, bundle: ServedBundle) -> Info:
    predictor, limits = bundle.worker.predictor, service.settings.limits
    labels = {str(number): label for number, label in enumerate(predictor.label_names)}
    return Info(
        model_id=bundle.name,
        model_sha=bundle.sha256,
        model_dtype=DTYPES.get(predictor.arithmetic, predictor.arithmetic),
        served_model_name=bundle.name,
        model_type=ModelType(
            classifier=Classifier(id2label=labels, label2id={label: int(number) for number, label in labels.items()})
        ),
        max_concurrent_requests=limits.queued_texts,
        max_input_length=predictor.max_length,
        max_batch_tokens=limits.batch_tokens,
        max_batch_requests=None,
        max_client_batch_size=limits.texts,
        auto_truncate=service.settings.auto_truncate,
        tokenization_workers=service.settings.tokenisation_threads,
        version=version("potstill"),
        sha=None,
        docker_label=None,
    )


def _bundle(bundle: ServedBundle) -> BundleInfo:
    predictor = bundle.worker.predictor
    temperature, thresholds = decided_by(predictor)
    return BundleInfo(
        name=bundle.name,
        sha256=bundle.sha256,
        problem_type=predictor.problem_type,
        labels=list(predictor.label_names),
        temperature=temperature,
        thresholds=thresholds,
        max_length=predictor.max_length,
        arithmetic=predictor.arithmetic,
        long_texts="cut" if predictor.windows is None else "windows",
    )
