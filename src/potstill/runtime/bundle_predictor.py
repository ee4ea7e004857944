"""A bundle behind the ``Predictor`` protocol: numpy, tokenizers and an inference engine; no torch, no transformers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
from tokenizers import Tokenizer

from potstill.bundle import TOKENIZER, Bundle, read_bundle
from potstill.data.batches import pad_rows
from potstill.data.tokens import EncodedTexts, Kept, TextTokenizer
from potstill.data.windows import UNCUT, cut_windows, pool_windows
from potstill.errors import BundleError, DataError, ModelError, UsageError
from potstill.records import Predictions, ProblemType, Text, is_unicode
from potstill.runtime.engine import Engine, OpenedGraph, ThreadPlan, for_many_batches, for_one_batch, open_graph
from potstill.runtime.lookahead import ahead
from potstill.runtime.row_texts import TextReader
from potstill.runtime.schedule import BATCH_TOKENS, Schedule, schedule_one_stream, schedule_rows
from potstill.runtime.tokenised import Tokenised

_TOKENISED_AHEAD = 1024
"""From so many texts on, tokenisation runs in a thread of its own; below, it is done before the thread would start."""


class BundlePredictor:
    """Classifies texts with a bundle; results come in the order of the texts, whatever order they were run in.

    Texts are tokenised a bounded number at a time and run in batches of near length: few texts by all cores, one batch
    after the other, many on a core each. It may be called from several threads.
    """

    def __init__(
        self,
        bundle: Bundle,
        tokenizer: TextTokenizer,
        graph: OpenedGraph,
        *,
        threads: int | None = None,
        streams: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
        cleaned: bool = False,
    ) -> None:
        """Take a bundle, its tokenizer and its graph, of which engines are compiled when they are first needed.

        ``threads`` is how many cores may be used, None for all; ``streams`` is how many batches are run side by side
        where there are many, None for as many as threads. With ``cleaned``, texts are taken as they come; without, they
        first go through the bundle's cleaning steps, as the training texts did.
        """
        if batch_tokens < 1:
            raise UsageError("a batch holds at least one token", found=batch_tokens)
        self.bundle = bundle
        # Types that the graph does not read are not made.
        types = tokenizer.uses_token_types and "token_type_ids" in bundle.graph.inputs
        self.tokenizer = replace(tokenizer, uses_token_types=types)
        self.label_names = bundle.label_names
        self.problem_type: ProblemType = bundle.problem_type
        self.max_length = bundle.reading.max_length
        self._budget = max(batch_tokens, self.max_length)
        self._cleaning = TextReader(bundle.reading) if bundle.reading.cleaning and not cleaned else None
        self._graph = graph
        self._alone_plan, self._many_plan = for_one_batch(threads), _plan_of_many(threads, streams)
        self._engines: dict[ThreadPlan, Engine] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._compiling, self._starting = threading.Lock(), threading.Lock()
        self._check_outputs()

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        threads: int | None = None,
        streams: int | None = None,
        engine: str | None = None,
        batch_tokens: int = BATCH_TOKENS,
        cleaned: bool = False,
    ) -> BundlePredictor:
        """Open a bundle, every file of it checked; ``engine`` is ``openvino``, ``onnxruntime`` or the one installed.

        ``cleaned`` says that texts will have been through the bundle's cleaning steps before.

        Raises BundleError for whatever is wrong with the folder, UsageError where there is no such engine.
        """
        bundle = read_bundle(folder)
        tokenizer = open_tokenizer(Path(folder), bundle)
        graph = open_graph(Path(folder) / bundle.graph.file, bundle.graph, for_one_batch(threads), engine)
        return cls(
            bundle, tokenizer, graph, threads=threads, streams=streams, batch_tokens=batch_tokens, cleaned=cleaned
        )

    @property
    def engine(self) -> str:
        """The name of the inference engine."""
        return self._graph.name

    @property
    def streams(self) -> int:
        """How many batches are run side by side where there are many."""
        return self._many_plan.streams

    @property
    def setting(self) -> tuple[str, int, int, int, tuple[int, ...]]:
        """What decides the last digits of a logit beside bundle and texts: engine, streams, their threads, budget, and
        the widths of texts alone."""
        plan = self._many_plan
        return self.engine, plan.streams, plan.threads, self._budget, self._graph.single_widths

    def predict(self, texts: Sequence[Text]) -> Predictions:
        """Predictions for ``texts`` in their order, ``ids`` counting from 0; the time includes tokenisation.

        Temperature and thresholds of the bundle are obeyed. Raises DataError for what is no text, for a pair where the
        bundle takes single texts, and the other way round, and for a text of which cleaning leaves nothing; BundleError
        where the engine that such texts need cannot be compiled.
        """
        started = time.perf_counter()
        parts = self.tokenise(texts if self._cleaning is None else self._cleaned(texts, self._cleaning))
        done = [self._classified(part) for part in (ahead(parts) if len(texts) >= _TOKENISED_AHEAD else parts)]
        return self._predictions(done, time.perf_counter() - started)

    def tokenise(self, texts: Iterable[Text], keep: Kept = "start") -> Iterator[Tokenised]:
        """The texts as rows of tokens, a bounded number at a time, in their order; in windows, or cut so as to ``keep``
        their start or their end. Texts are taken as they come. From several threads at once.
        """
        checked, windows = checked_texts(texts, pairs=self.bundle.reading.takes_pairs), self.bundle.reading.windows
        if windows is None:
            for rows in self.tokenizer.encode_chunks(checked, self.max_length, keep):
                yield Tokenised(rows, None, rows.n_tokens, rows.truncated)
            return
        for whole in self.tokenizer.encode_chunks(checked, UNCUT):
            cut = cut_windows(whole, self.tokenizer, self.max_length, windows.overlap)
            yield Tokenised(cut.rows, cut.owners, cut.n_tokens, whole.truncated)

    def classify(self, part: Tokenised, *, alone: bool = True) -> Predictions:
        """Predictions for texts that ``tokenise`` made rows of; the time is that of the engine alone.

        ``alone``: all cores are for these texts. Otherwise they stay on one stream, and as many calls as there are
        ``streams`` share the cores.
        """
        started = time.perf_counter()
        done = self._classified(part, alone=alone)
        return self._predictions([done], time.perf_counter() - started)

    def compile_all(self) -> None:
        """Compile every engine that texts can need, so that none waits for one; BundleError where that cannot be."""
        widths = [width for width in self._graph.single_widths if width <= self.max_length]
        for plan in (*(replace(self._alone_plan, width=width) for width in widths), self._alone_plan, self._many_plan):
            self._engine(plan)

    def close(self) -> None:
        """Let go of the threads that run batches; the predictor can go on and starts others."""
        with self._starting:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

    def __enter__(self) -> BundlePredictor:
        """Itself, closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _cleaned(self, texts: Iterable[Text], reader: TextReader) -> Iterator[Text]:
        """The texts after the bundle's cleaning steps; DataError for what is no text, and where none is left."""
        for number, text in enumerate(checked_texts(texts, pairs=self.bundle.reading.takes_pairs)):
            try:
                yield reader.read((text,) if isinstance(text, str) else text)
            except ValueError as error:
                raise DataError(f"row {number}: {error}", found=repr(text)[:80], do="leave that row out") from error

    def _classified(self, part: Tokenised, *, alone: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Logits, tokens before any was cut, and of which texts some were."""
        logits, windows = self._logits(part.rows, alone=alone), self.bundle.reading.windows
        if part.owners is not None and windows is not None:
            logits = pool_windows(logits, part.owners, windows.pooling)
        return logits, part.n_tokens, part.truncated

    def _logits(self, rows: EncodedTexts, *, alone: bool) -> np.ndarray:
        """``(n_rows, k)`` float32."""
        logits = np.empty((len(rows), len(self.label_names)), dtype=np.float32)
        if alone:
            schedule = schedule_rows(
                rows.lengths, self._budget, self.streams, self.max_length, self._graph.single_widths
            )
            engine = self._engine(self._plan_of(schedule))
        else:
            schedule = schedule_one_stream(rows.lengths, self._budget, self.max_length)
            engine = self._engine(self._many_plan)

        def run(batch: np.ndarray, width: int) -> np.ndarray:
            padded = pad_rows(rows, batch, self.tokenizer.pad_id, width)
            return engine.run({name: padded[name] for name in self.bundle.graph.inputs})

        run_all: Callable[..., Iterable[np.ndarray]] = self._threads().map if schedule.side_by_side else map
        for batch, found in zip(schedule.batches, run_all(run, schedule.batches, schedule.widths), strict=True):
            logits[batch] = found
        return logits

    def _plan_of(self, schedule: Schedule) -> ThreadPlan:
        if schedule.side_by_side:
            return self._many_plan
        return replace(self._alone_plan, width=schedule.widths[0]) if schedule.fixed else self._alone_plan

    def _engine(self, plan: ThreadPlan) -> Engine:
        if plan not in self._engines:
            with self._compiling:
                if plan not in self._engines:
                    self._engines[plan] = self._graph.compile(plan)
        return self._engines[plan]

    def _threads(self) -> ThreadPoolExecutor:
        """The threads that batches run in side by side."""
        with self._starting:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._many_plan.streams, thread_name_prefix="potstill-batch")
            return self._pool

    def _predictions(self, parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], elapsed_s: float) -> Predictions:
        if len(parts) == 1:
            logits, n_tokens, truncated = parts[0]
        else:
            none = np.empty((0, len(self.label_names)), np.float32), np.empty(0), np.empty(0)
            logits, n_tokens, truncated = (np.concatenate(column) for column in zip(none, *parts, strict=True))
        predictions = Predictions(
            ids=np.arange(len(logits)).astype(str),
            logits=logits,
            label_names=self.label_names,
            problem_type=self.problem_type,
            n_tokens=n_tokens.astype(np.int32),
            truncated=truncated.astype(bool),
            elapsed_s=elapsed_s,
        )
        return predictions if self.bundle.decisions is None else self.bundle.decisions.apply(predictions)

    def _check_outputs(self) -> None:
        n_outputs = self._graph.n_outputs
        if n_outputs is not None and n_outputs != len(self.label_names):
            raise BundleError(
                f"the graph of the bundle {self.bundle.name} has {n_outputs} outputs, and the bundle another number of "
                "labels",
                found=len(self.label_names),
                do="export it again",
            )


def _plan_of_many(threads: int | None, streams: int | None) -> ThreadPlan:
    plan = for_many_batches(threads)
    if streams is None:
        return plan
    if not 1 <= streams <= plan.streams:
        raise UsageError("there cannot be so many streams", found=streams, allowed=f"1 to {plan.streams}, the threads")
    return ThreadPlan(streams, plan.streams // streams)


def checked_texts(texts: Iterable[Text], *, pairs: bool) -> Iterator[Text]:
    """The texts as they are; DataError at the first that is not what the bundle takes, or is no Unicode."""
    if isinstance(texts, str):
        raise DataError("one text is not a list of texts", found=texts[:80], do="put it into a list")
    for number, text in enumerate(texts):
        parts = (text,) if isinstance(text, str) else text
        if not isinstance(parts, tuple) or not all(isinstance(part, str) for part in parts):
            raise DataError(f"row {number} is not text", found=repr(text)[:80], allowed=_allowed(pairs))
        if len(parts) != 1 + pairs:
            raise DataError(f"row {number} is {_kind(len(parts))}", allowed=_allowed(pairs))
        for part in parts:
            if not is_unicode(part):
                raise DataError(f"row {number} holds half of a surrogate pair, which is no character")
        yield text


def _kind(n_texts: int) -> str:
    return {1: "a single text", 2: "a pair of texts"}.get(n_texts, f"{n_texts} texts")


def _allowed(pairs: bool) -> str:
    return "this bundle takes pairs of texts" if pairs else "this bundle takes single texts"


def open_tokenizer(folder: Path, bundle: Bundle) -> TextTokenizer:
    """The tokenizer of a bundle; BundleError where the file is none or pads with another token."""
    path = folder / TOKENIZER
    try:
        backend = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the one type that tokenizers raises
        raise BundleError(f"{path} is not a tokenizer: {error}", do="export it again") from error
    try:
        tokenizer = TextTokenizer.from_own_backend(
            backend, max_length=bundle.reading.max_length, special_tokens=dict(bundle.special_tokens)
        )
    except ModelError as error:
        raise BundleError(f"{path} does not fit its bundle: {error}", do="export it again") from error
    if tokenizer.pad_id != bundle.pad_id:
        raise BundleError(
            f"{path} pads with another token than its bundle", found=tokenizer.pad_id, allowed=bundle.pad_id
        )
    return tokenizer
