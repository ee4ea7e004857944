"""The routes that classify: text-embeddings-inference's, Hugging Face's, and potstill's own."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from potstill.data.tokens import Kept
from potstill.serve.answers import classified, compute_headers, ranked, scores_of
from potstill.serve.classify import Answer, Asked
from potstill.serve.schemas import (
    REFUSALS,
    Classified,
    ClassifyRequest,
    InferenceRequest,
    PredictRequest,
    Score,
    Scores,
)
from potstill.serve.service import Service


def predict_routes(service: Service) -> APIRouter:
    """The routes of one server. A bundle that is not named is the first."""
    routes = APIRouter(responses=REFUSALS)

    @routes.post("/predict", tags=["text-embeddings-inference"], response_model=Scores)
    async def predict(body: PredictRequest, request: Request) -> JSONResponse:
        """Probabilities of every label, likeliest first: one list for a text or a pair, a list of lists for a batch."""
        return await _predict(service, None, body, request)

    @routes.post("/models/{name}/predict", tags=["text-embeddings-inference"], response_model=Scores)
    async def predict_with(name: str, body: PredictRequest, request: Request) -> JSONResponse:
        """``/predict`` of the bundle that is named."""
        return await _predict(service, name, body, request)

    @routes.post("/", tags=["Hugging Face inference"], response_model=Scores)
    async def infer(body: InferenceRequest, request: Request) -> JSONResponse:
        """Probabilities in Hugging Face's form: one list for a text, a list of lists for a list of texts."""
        return await _infer(service, None, body, request)

    @routes.post("/models/{name}", tags=["Hugging Face inference"], response_model=Scores)
    async def infer_with(name: str, body: InferenceRequest, request: Request) -> JSONResponse:
        """Hugging Face's form of the bundle that is named."""
        return await _infer(service, name, body, request)

    @routes.post("/pipeline/text-classification", tags=["Hugging Face inference"], response_model=list[list[Score]])
    async def infer_nested(body: InferenceRequest, request: Request) -> JSONResponse:
        """Probabilities as Hugging Face's own clients read them: a list of lists for a text too."""
        return await _infer(service, None, body, request, nested=True)

    @routes.post(
        "/models/{name}/pipeline/text-classification",
        tags=["Hugging Face inference"],
        response_model=list[list[Score]],
    )
    async def infer_nested_with(name: str, body: InferenceRequest, request: Request) -> JSONResponse:
        """The same of the bundle that is named."""
        return await _infer(service, name, body, request, nested=True)

    @routes.post("/v1/classify", tags=["potstill"], response_model=Classified)
    async def classify(body: ClassifyRequest, request: Request) -> JSONResponse:
        """What was decided of each text, by which thresholds, of how many tokens, and where the time went."""
        asked = Asked(body.inputs.texts, body.inputs.is_batch, body.truncate, _kept(body.truncation_direction))
        name, answer = await service.answer(body.bundle, asked, request)
        return await service.written(answer, lambda: JSONResponse(classified(name, answer)))

    return routes


async def _predict(service: Service, name: str | None, body: PredictRequest, request: Request) -> JSONResponse:
    truncate = service.settings.auto_truncate if body.truncate is None else body.truncate
    asked = Asked(body.inputs.texts, body.inputs.is_batch, truncate, _kept(body.truncation_direction))
    _, answer = await service.answer(name, asked, request)
    characters = sum(len(text) if isinstance(text, str) else sum(map(len, text)) for text in body.inputs.texts)
    headers = compute_headers(answer, characters)

    def write() -> JSONResponse:
        scores = scores_of(answer.predictions, "none" if body.raw_scores else None)
        return _scores_reply(ranked(answer.predictions.label_names, scores), body.inputs.is_batch, headers)

    return await service.written(answer, write)


async def _infer(
    service: Service, name: str | None, body: InferenceRequest, request: Request, *, nested: bool = False
) -> JSONResponse:
    _, answer = await service.answer(name, Asked(body.inputs.texts, body.inputs.is_batch, True), request)
    return await service.written(
        answer, lambda: _scores_reply(_asked_scores(answer, body), nested or body.inputs.is_batch)
    )


def _asked_scores(answer: Answer, body: InferenceRequest) -> list[list[dict[str, Any]]]:
    names, parameters = answer.predictions.label_names, body.parameters
    if parameters is None:
        return ranked(names, scores_of(answer.predictions, None))
    return ranked(names, scores_of(answer.predictions, parameters.function_to_apply), parameters.top_k)


def _kept(truncation_direction: str) -> Kept:
    return "end" if truncation_direction in ("left", "Left") else "start"


def _scores_reply(
    content: list[list[dict[str, Any]]], nested: bool, headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse(content if nested else content[0], headers=headers)
