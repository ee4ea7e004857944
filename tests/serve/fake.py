"""A predictor whose answers anyone can count, and a server around it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from potstill.data.tokens import EncodedTexts, Kept, TextTokenizer
from potstill.data.windows import UNCUT, Windows, cut_windows
from potstill.decisions import Decisions, ThresholdRule
from potstill.errors import DataError
from potstill.records import Predictions, ProblemType, Text
from potstill.runtime.tokenised import Tokenised
from potstill.serve.bundles import Bundles, NamedFolder
from potstill.serve.predictor import ServedPredictor
from potstill.serve.server import Server, bind
from potstill.serve.service import Service
from potstill.serve.settings import Limits, Settings

SINGLE, MULTI, SCORE = "single_label_classification", "multi_label_classification", "regression"
WORDS = ("good", "bad", "dull", "film", "the", "a", "was")
LABELS = ("good", "bad", "dull")
MAX_LENGTH = 12


def word_tokenizer() -> TextTokenizer:
    """Lower-cased words of WORDS, and letters for every other word; [CLS] and [SEP] around."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    pieces = dict.fromkeys([*special, *WORDS, *letters, *(f"##{letter}" for letter in letters)])
    backend = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return TextTokenizer.from_backend(backend, max_length=MAX_LENGTH)


def decisions_of(
    label_names: tuple[str, ...], kind: ProblemType, temperature: float, thresholds: dict[str, float] | None
) -> Decisions:
    """Decisions as a run keeps them."""
    rule = ThresholdRule() if thresholds is None else ThresholdRule("f1")
    return Decisions(label_names, kind, temperature, thresholds, rule, True, "selection", 10, "0" * 64)


@dataclass
class FakePredictor:
    """Logits that are counts: of a label how often its name stands in the text, of a regression how often "good" does.

    ``calls`` are the texts of each call, spelt from their tokens, and ``alone`` whether it was to have all cores.
    ``too_many`` holds what went on at once where that was more than ``streams``, or one that was alone. Calls wait for
    ``gate``. A text with "poison" is failed on, "numberless" has no finite logit, and a pair is refused where
    ``takes_pairs`` is False.
    """

    label_names: tuple[str, ...] = LABELS
    problem_type: ProblemType = SINGLE
    max_length: int = MAX_LENGTH
    windows: Windows | None = None
    decisions: Decisions | None = None
    arithmetic: str = "fp32"
    streams: int = 1
    takes_pairs: bool = True
    seconds: float = 0.0
    tokenizer: TextTokenizer = field(default_factory=word_tokenizer)
    gate: threading.Event = field(default_factory=threading.Event)
    calls: list[list[Text]] = field(default_factory=list)
    alone: list[bool] = field(default_factory=list)
    under_way: list[bool] = field(default_factory=list)
    too_many: list[list[bool]] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        self.gate.set()

    def prepare(self) -> None:
        """There is nothing to make."""

    def tokenise(self, texts: Sequence[Text], keep: Kept) -> Tokenised:
        """The rows of tokens, or of windows."""
        if not self.takes_pairs and any(isinstance(text, tuple) for text in texts):
            raise DataError("input 0 is a pair", found=repr(texts[0]))
        if self.windows is None:
            (rows,) = self.tokenizer.encode_chunks(texts, self.max_length, keep)
            return Tokenised(rows, None, rows.n_tokens, rows.truncated)
        (whole,) = self.tokenizer.encode_chunks(texts, UNCUT)
        cut = cut_windows(whole, self.tokenizer, self.max_length, self.windows.overlap)
        return Tokenised(cut.rows, cut.owners, cut.n_tokens, whole.truncated)

    def classify(self, rows: Tokenised, *, alone: bool) -> Predictions:
        """Counts of words; of a text in windows those of the first."""
        texts = [self._spelt(rows.between(number, number + 1).rows) for number in range(len(rows))]
        self.calls.append(texts)
        self.alone.append(alone)
        self.under_way.append(alone)
        try:
            if len(self.under_way) > (1 if any(self.under_way) else self.streams):
                self.too_many.append(list(self.under_way))
            self.gate.wait(20)
            time.sleep(self.seconds)
        finally:
            self.under_way.remove(alone)
        if any("poison" in words(text) for text in texts):
            raise RuntimeError(f"cannot stand {texts}")
        logits = np.array([self._logits(text) for text in texts], dtype=np.float32).reshape(-1, len(self.label_names))
        predictions = Predictions(
            ids=np.arange(len(texts)).astype(str),
            logits=logits,
            label_names=self.label_names,
            problem_type=self.problem_type,
            n_tokens=rows.n_tokens,
            truncated=rows.truncated,
            elapsed_s=0.001,
        )
        return predictions if self.decisions is None else self.decisions.apply(predictions)

    def close(self) -> None:
        """Remember it."""
        self.closed = True

    def _spelt(self, rows: EncodedTexts) -> Text:
        """The first row as a text, or as a pair where it has token types of both."""
        ids = rows.row(0)
        types = np.zeros(len(ids)) if rows.token_types is None else rows.token_types[: len(ids)]
        parts = [" ".join(map(self._piece, ids[types == part])).replace(" ##", "").strip() for part in (0, 1)]
        return (parts[0], parts[1]) if 1 in types else parts[0]

    def _piece(self, token: int) -> str:
        tokenizer = self.tokenizer
        return "" if token in (tokenizer.cls_id, tokenizer.sep_id) else str(tokenizer.backend.id_to_token(int(token)))

    def _logits(self, text: Text) -> list[float]:
        read = words(text)
        looked_for = ("good",) if self.problem_type == SCORE else self.label_names
        return [float("nan") if "numberless" in read else float(read.count(label)) for label in looked_for]


def words(text: Text) -> list[str]:
    """The words of a text or of both of a pair."""
    return (text if isinstance(text, str) else " ".join(text)).lower().split()


@dataclass
class Running:
    """A server on a port of its own, a client for it, and ways to do what signals do."""

    server: Server
    client: httpx.Client
    port: int
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread

    @property
    def service(self) -> Service:
        """The server's state."""
        return self.server.service

    def leave(self) -> None:
        """What SIGTERM does."""
        self.loop.call_soon_threadsafe(self.server.leave)

    def reload(self) -> None:
        """What SIGHUP does."""
        self.loop.call_soon_threadsafe(self.server.reload)

    def metric(self, name: str, **labels: str) -> float:
        """A number of /metrics; 0 where it is not there."""
        stated = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith(f"{name}{{{stated}}} "):
                return float(line.rpartition(" ")[2])
        return 0.0


def until(holds: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait until something holds."""
    ends = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > ends:
            raise TimeoutError("it did not come to hold")
        time.sleep(0.005)


@contextlib.contextmanager
def running(
    predictors: dict[str, Any],
    folder: Path,
    *,
    open_predictor: Callable[[Path], ServedPredictor] | None = None,
    limits: Limits | None = None,
    **settings: Any,
) -> Iterator[Running]:
    """A server of ``predictors`` by name, each in a folder of its name below ``folder``; warming up is forgotten."""
    named = [NamedFolder(name, folder / name) for name in predictors]
    for bundle in named:
        bundle.folder.mkdir(parents=True, exist_ok=True)
    opened = open_predictor or (lambda place: predictors[place.name])
    service = Service(Bundles(named, opened), Settings(limits=limits or Limits(), drain_s=10, **settings))
    for predictor in filter(None, predictors.values()):
        predictor.calls.clear()
    with bind("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        server, loops = Server(service), []

        async def serve() -> None:
            loops.append(asyncio.get_running_loop())
            await server.serve([listening])

        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        until(lambda: server.started)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            yield Running(server, client, port, loops[0], thread)
        server.should_exit = True
        thread.join(15)
        assert not thread.is_alive()
