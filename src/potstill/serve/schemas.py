"""The bodies of requests and answers, as pydantic reads them and the OpenAPI document tells them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

from potstill.records import ProblemType
from potstill.serve.inputs import HuggingFaceInputs, OwnInputs, TeiInputs
from potstill.serve.refusals import Kind


class _Tolerant(BaseModel):
    """Bodies of other servers: what they have and this one does not is passed over, as they do."""

    model_config = ConfigDict(extra="ignore", arbitrary_types_allowed=True)


class PredictRequest(_Tolerant):
    """What ``/predict`` is asked, in text-embeddings-inference's words."""

    inputs: TeiInputs
    raw_scores: StrictBool = Field(False, description="logits instead of probabilities")
    truncate: StrictBool | None = Field(
        None, description="cut texts that are too long instead of refusing them; null leaves it to the server"
    )
    truncation_direction: Literal["left", "right", "Left", "Right"] = Field(
        "right", description="where tokens are taken away"
    )


class Parameters(_Tolerant):
    """Hugging Face's parameters of a text classification."""

    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = Field(
        None, description="activation of the logits; that of the problem type when absent"
    )
    top_k: Annotated[StrictInt, Field(ge=1)] | None = Field(None, description="labels to return; all when absent")


class InferenceRequest(_Tolerant):
    """What Hugging Face's inference is asked."""

    inputs: HuggingFaceInputs
    parameters: Parameters | None = None


class ClassifyRequest(BaseModel):
    """What ``/v1/classify`` is asked; misspelt fields are refused."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    inputs: OwnInputs
    bundle: str | None = Field(None, description="the bundle's name; the first when absent", max_length=64)
    truncate: StrictBool = Field(True, description="cut texts that are too long instead of refusing them")
    truncation_direction: Literal["left", "right"] = "right"


class Score(BaseModel):
    """A label and its probability, or its logit where that was asked for; of a regression the value."""

    label: str
    score: float


Scores = list[Score] | list[list[Score]]
"""Of one text, likeliest first; of a batch, one such list each."""


class Refusal(BaseModel):
    """Why a request was not answered."""

    error: str
    error_type: Kind


class Result(BaseModel):
    """What was decided of one text.

    labels: those that are given, by the bundle's thresholds; of one label the one, of many any number, of a regression
    none. value: of a regression. tokens: of the text as it came, special tokens included. truncated: whether some of
    them were not read.
    """

    labels: list[str]
    value: float | None
    probabilities: dict[str, float]
    tokens: int
    truncated: bool


class Milliseconds(BaseModel):
    """Where the time of a request went."""

    total: float
    tokenisation: float
    queue: float
    inference: float


class Classified(BaseModel):
    """The answer of ``/v1/classify``: one result per text, in their order, and by what they were decided."""

    bundle: str
    problem_type: ProblemType
    temperature: float
    thresholds: dict[str, float] | None
    results: list[Result]
    milliseconds: Milliseconds


class Classifier(BaseModel):
    """The labels by number and the numbers by label, both as text-embeddings-inference has them."""

    id2label: dict[str, str]
    label2id: dict[str, int]


class ModelType(BaseModel):
    """What kind of model is served: always a classifier."""

    classifier: Classifier


class Info(BaseModel):
    """What is served, in text-embeddings-inference's words."""

    model_config = ConfigDict(protected_namespaces=())

    model_id: str
    model_sha: str | None
    model_dtype: str
    served_model_name: str
    model_type: ModelType
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None


class BundleInfo(BaseModel):
    """One bundle as the page needs to know it."""

    name: str
    sha256: str | None
    problem_type: ProblemType
    labels: list[str]
    temperature: float
    thresholds: dict[str, float] | None
    max_length: int
    arithmetic: str
    long_texts: Literal["cut", "windows"]


class BundleList(BaseModel):
    """All bundles, the default first, and what one request may hold."""

    bundles: list[BundleInfo]
    limits: dict[str, int | float]


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": says}
    for status, says in {
        400: "a text or the batch is empty",
        401: "no API key, where the server asks for one",
        404: "no such bundle",
        408: "the body did not arrive in time",
        413: "too long a body, too many texts, too long a text, or more tokens than the bundle reads",
        422: "not the body that is asked for, or nothing that the bundle takes",
        424: "inference failed",
        429: "overloaded: the queue is full, or too many bodies are open",
        503: "the server is shutting down",
        504: "not answered in time",
    }.items()
}
"""What every route for predictions can answer beside predictions."""
