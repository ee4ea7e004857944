"""What Prometheus is told, under the names that text-embeddings-inference has for it.

Times are in seconds. ``model`` is the bundle's name; the other server has one model and no such label.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
DURATIONS = tuple(1e-4 * 2**n for n in range(20))
SIZES = tuple(float(2**n) for n in range(14))
TOKENS = tuple(float(2**n) for n in range(21))

# The client library writes "_total" behind every counter; text-embeddings-inference does not.
_TOTAL = re.compile(rb"^((?:# (?:HELP|TYPE) )?te_\w+)_total(?=[ {])", re.MULTILINE)


@dataclass(frozen=True)
class Times:
    """Seconds of one request: all of it, tokenisation, until its first batch, from then to the end of its last."""

    total_s: float
    tokenisation_s: float
    queue_s: float
    inference_s: float


class Metrics:
    """The counters and histograms of one server, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = self._counter("te_request_count", "Requests for predictions", "method")
        self.successes = self._counter("te_request_success", "Requests answered with predictions", "method")
        self.failures = self._counter("te_request_failure", "Requests refused or failed, by reason", "err")
        self.texts = self._counter("te_predict_count", "Texts that were to be classified")
        self.classified = self._counter("te_predict_success", "Texts classified")
        self.reloads = self._counter("potstill_reloads", "Attempts to open a bundle anew", "result")
        self.queue = Gauge("te_queue_size", "Texts that wait", ["model"], registry=self.registry)
        self.total = self._histogram("te_predict_duration", "From arrival to answer", DURATIONS)
        self.tokenisation = self._histogram("te_predict_tokenization_duration", "From texts to tokens", DURATIONS)
        self.waiting = self._histogram("te_predict_queue_duration", "Waiting for the first batch", DURATIONS)
        self.inference = self._histogram(
            "te_predict_inference_duration", "From the first batch to the last one's end", DURATIONS
        )
        self.lengths = self._histogram("te_request_input_length", "Tokens of a text", SIZES)
        self.batch_sizes = self._histogram("te_batch_next_size", "Texts of a batch", SIZES)
        self.batch_tokens = self._histogram("te_batch_next_tokens", "Tokens of a batch", TOKENS)

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        return _TOTAL.sub(rb"\1", generate_latest(self.registry))

    def of(self, model: str) -> BundleMetrics:
        """The metrics of one bundle."""
        return BundleMetrics(self, model)

    def count_failure(self, model: str, reason: str) -> None:
        """A request that was not answered with predictions; ``model`` is empty where it named none."""
        self.failures.labels(model, reason).inc()

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(name, says, ["model", *labels], registry=self.registry)

    def _histogram(self, name: str, says: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, says, ["model"], buckets=buckets, registry=self.registry)


class BundleMetrics:
    """What one bundle's queue and requests add to the metrics."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._metrics, self.model = metrics, model
        self._queue = metrics.queue.labels(model)
        self._batch_sizes, self._batch_tokens = metrics.batch_sizes.labels(model), metrics.batch_tokens.labels(model)
        self._lengths = metrics.lengths.labels(model)

    def count_batch(self, n_texts: int, n_tokens: int, n_waiting: int) -> None:
        """A batch of so many texts and tokens begins, and so many texts still wait."""
        self._batch_sizes.observe(n_texts)
        self._batch_tokens.observe(n_tokens)
        self._queue.set(n_waiting)

    def count_waiting(self, n_waiting: int) -> None:
        """So many texts wait."""
        self._queue.set(n_waiting)

    def count_request(self, n_texts: int, *, is_batch: bool) -> None:
        """A request that was understood."""
        self._metrics.requests.labels(self.model, _method(is_batch)).inc()
        self._metrics.texts.labels(self.model).inc(n_texts)

    def count_lengths(self, n_tokens: list[int]) -> None:
        """Texts of so many tokens."""
        for length in n_tokens:
            self._lengths.observe(length)

    def count_answer(self, n_texts: int, times: Times, *, is_batch: bool) -> None:
        """A request that was answered, and where its time went."""
        self._metrics.successes.labels(self.model, _method(is_batch)).inc()
        self._metrics.classified.labels(self.model).inc(n_texts)
        self._metrics.total.labels(self.model).observe(times.total_s)
        self._metrics.tokenisation.labels(self.model).observe(times.tokenisation_s)
        self._metrics.waiting.labels(self.model).observe(times.queue_s)
        self._metrics.inference.labels(self.model).observe(times.inference_s)

    def count_reload(self, result: str) -> None:
        """An attempt to open the bundle anew: ``opened`` or ``failed``."""
        self._metrics.reloads.labels(self.model, result).inc()


def _method(is_batch: bool) -> str:
    return "batch" if is_batch else "single"
