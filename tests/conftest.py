"""What every test lives under: no network, no quarrel over threads, the research data, and the main job in small."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import importlib.util
import io
import json
import os
import random
import shutil
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# before anything imports a library that reads these
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The research data sets: $POTSTILL_DATA_DIR, or ``../shared/data`` beside the project; skips without them."""
    stated = os.environ.get("POTSTILL_DATA_DIR")
    folder = Path(stated) if stated else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the research data sets are not at {folder}; say where they are with POTSTILL_DATA_DIR")
    return folder


# -- the main job in small: a teacher, text and tasks that a stage takes a second for ----------------------------------

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
GOOD = ("good", "fine", "warm", "bright", "lovely", "kind")
BAD = ("bad", "poor", "cold", "dull", "nasty", "mean")
PLAIN = ("the", "a", "film", "book", "day", "story", "was", "seems", "and", "of", "this", "very", "one", "old", "new")
LETTERS = string.ascii_lowercase + string.digits + ".,-'"


@dataclass(frozen=True)
class Called:
    """What one command left: its exit code, and what it said on stdout and stderr."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Experiment:
    """A finished ``potstill run``: its recipe, its folder, and what it said."""

    recipe: Path
    folder: Path
    called: Called


@dataclass(frozen=True)
class TinyWorld:
    """Files to work with: teachers of 4 layers 32 wide, a corpus, and one file of rows per kind of task."""

    teacher: Path
    encoder: Path
    corpus: Path
    reviews: Path
    pairs: Path
    tags: Path
    scores: Path


MakeOnce = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeOnce]:
    """``make_once(name, make)``: the folder ``name``, filled by ``make(folder)`` once in a run of the tests.

    The first worker of pytest-xdist that asks for it makes it, one that asks meanwhile waits, and all read the same
    folder: a test that writes takes a copy, else the end of the session fails. A group of pytest-xdist (``--dist
    loadgroup``) would make it once too, but it binds every test of the folder to one worker and deals out all others
    singly, so that each worker makes the fixtures of nearly every module.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # the parent holds a folder for each worker
    read: dict[Path, str] = {}

    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder, finished = shared / name, shared / f"{name}.finished"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not finished.exists():
                shutil.rmtree(folder, ignore_errors=True)  # what a worker left that failed or was killed
                folder.mkdir()
                make(folder)
                finished.write_text(_files_in(folder), encoding="utf-8")
        read[folder] = finished.read_text(encoding="utf-8")
        return folder

    yield made
    for folder, before in read.items():
        assert _files_in(folder) == before, f"a test wrote into {folder.name}, which others read: it has to take a copy"


def _files_in(folder: Path) -> str:
    """Every file below ``folder`` with the time when it was written, a line each."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return "\n".join(f"{path.relative_to(folder)} {path.stat().st_mtime_ns}" for path in files)


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Caches of potstill and ``datasets`` in a temporary folder; the environment that tells a subprocess of them."""
    import datasets

    root = tmp_path_factory.mktemp("caches")
    environment = {"POTSTILL_CACHE": str(root / "potstill"), "HF_DATASETS_CACHE": str(root / "datasets")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", environment["HF_DATASETS_CACHE"])
        yield environment


@pytest.fixture(scope="session")
def potstill(caches: dict[str, str]) -> Callable[..., Called]:
    """Run one command of potstill in this process, as the command line would."""
    from potstill.cli.main import main

    def call(*arguments: object) -> Called:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        return Called(int(ended.value.code or 0), out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def tiny(make_once: MakeOnce) -> TinyWorld:
    """A random BERT with a WordPiece tokenizer, with and without its head, and small files of text and labels."""
    return _tiny_world(make_once("tiny", lambda root: _write_tiny_world(_tiny_world(root))))


def _tiny_world(root: Path) -> TinyWorld:
    names = ("teacher", "encoder", "corpus.txt", "reviews.csv", "pairs.csv", "tags.csv", "scores.csv")
    return TinyWorld(*(root / name for name in names))


def _write_tiny_world(world: TinyWorld) -> None:
    _save_teachers(world)
    draw = random.Random(5)
    world.corpus.write_text("\n".join(_sentence(draw, (*GOOD, *BAD, *PLAIN)) for _ in range(240)), encoding="utf-8")
    _write_csv(world.reviews, ("text", "label"), (_review(draw, row % 2) for row in range(120)))
    _write_csv(world.pairs, ("first", "second", "label"), (_pair(draw, row % 2) for row in range(120)))
    _write_csv(world.tags, ("text", "praise", "blame"), (_tagged(draw, row % 4) for row in range(120)))
    _write_csv(world.scores, ("text", "score"), (_scored(draw) for _ in range(120)))


def _save_teachers(world: TinyWorld) -> None:
    import torch
    from transformers import BertConfig, BertForMaskedLM

    tokenizer = _wordpiece()
    torch.manual_seed(3)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=64,
            initializer_range=0.2,
        )
    )
    for folder, saved in ((world.teacher, model), (world.encoder, model.bert)):
        saved.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _wordpiece() -> Any:
    """A WordPiece tokenizer of the words above, and of letters for every other word."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import BertTokenizerFast

    tokens = [*SPECIAL, *GOOD, *BAD, *PLAIN, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    ids = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    backend = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backend.decoder = decoders.WordPiece()
    return BertTokenizerFast(tokenizer_object=backend, model_max_length=64)


def _sentence(draw: random.Random, words: Sequence[str], mixed: Sequence[str] = ()) -> str:
    chosen = [*draw.choices(words, k=draw.randint(4, 14)), *mixed]
    draw.shuffle(chosen)
    return " ".join(chosen)


def _review(draw: random.Random, praised: int) -> tuple[str, str]:
    return _sentence(draw, PLAIN, draw.choices(GOOD if praised else BAD, k=3)), "good" if praised else "bad"


def _pair(draw: random.Random, agree: int) -> tuple[str, str, str]:
    first = draw.randint(0, 1)
    texts = [_sentence(draw, PLAIN, draw.choices(GOOD if side else BAD, k=2)) for side in (first, first ^ 1 ^ agree)]
    return texts[0], texts[1], "same" if agree else "other"


def _tagged(draw: random.Random, both: int) -> tuple[str, int, int]:
    praise, blame = both // 2, both % 2
    words = [*draw.choices(GOOD, k=2 * praise), *draw.choices(BAD, k=2 * blame)]
    return _sentence(draw, PLAIN, words), praise, blame


def _scored(draw: random.Random) -> tuple[str, float]:
    n_good = draw.randint(0, 4)
    words = [*draw.choices(GOOD, k=n_good), *draw.choices(BAD, k=4 - n_good)]
    return _sentence(draw, PLAIN, words), n_good / 4 + 0.125


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)


SMALL = {
    "pretrain": ("corpus.block_length=32", "pretrain.head_steps=3", "pretrain.max_steps=4", "pretrain.batch_size=8"),
    "distil": ("corpus.block_length=32", "student.layers=2", "distil.max_steps=6", "distil.batch_size=8"),
    "finetune": (
        "finetune.max_length=40",
        "finetune.epochs=2",
        "finetune.batch_size=16",
        "finetune.learning_rate=0.003",
    ),
}
"""What makes each stage take a second; the last batch of every split is a partial one."""


@pytest.fixture(scope="session")
def small() -> Callable[..., tuple[str, ...]]:
    """``--set`` flags that make a stage small, with more fields over them."""

    def flags(stage: str, *more: str) -> tuple[str, ...]:
        fields = (*SMALL[stage], *(["finetune.evaluate_batch_size=5"] if stage == "finetune" else []), *more)
        return tuple(part for field in fields for part in ("--set", field))

    return flags


@pytest.fixture(scope="session")
def encoders(potstill: Any, small: Any, tiny: TinyWorld, make_once: MakeOnce) -> dict[str, Path]:
    """The runs ``teacher``, an encoder given a head, and ``student``, two layers distilled from it. Only to be read."""

    def make(root: Path) -> None:
        flags = ("--corpus", tiny.corpus, "--out")
        made = potstill("pretrain", "--model", tiny.encoder, *flags, root / "teacher", *small("pretrain"))
        assert made.code == 0, made.err
        made = potstill("distil", "--teacher", root / "teacher", *flags, root / "student", *small("distil"))
        assert made.code == 0, made.err

    return {path.name: path for path in make_once("encoders", make).iterdir()}


@pytest.fixture(scope="session")
def task_flags(tiny: TinyWorld) -> dict[str, tuple[object, ...]]:
    """For one task of each kind (one label, pairs, many labels, scores) the flags that describe it."""
    return {
        "reviews": ("--task", "reviews", "--file", tiny.reviews),
        "pairs": ("--task", "pairs", "--file", tiny.pairs, "--text-column", "first", "--text-column", "second"),
        "tags": ("--task", "tags", "--file", tiny.tags, "--label-column", "praise", "--label-column", "blame"),
        "scores": ("--task", "scores", "--file", tiny.scores, "--label-column", "score"),
    }


@pytest.fixture(scope="session")
def classifiers(
    potstill: Any, small: Any, encoders: dict[str, Path], task_flags: Any, make_once: MakeOnce
) -> dict[str, Path]:
    """A student's run on the task of each kind, and under ``teacher-…`` the teacher's. Only to be read."""

    def make(root: Path) -> None:
        for task, flags in task_flags.items():
            for name, arm in ((task, "student"), (f"teacher-{task}", "teacher")):
                made = potstill("finetune", "--model", encoders[arm], *flags, "--out", root / name, *small("finetune"))
                assert made.code == 0, made.err

    return {path.name: path for path in make_once("classifiers", make).iterdir()}


@pytest.fixture(scope="session")
def bundles(potstill: Any, classifiers: dict[str, Path], make_once: MakeOnce) -> dict[str, Path]:
    """The student's run on the task of each kind as a bundle. Only to be read."""

    def make(root: Path) -> None:
        for task in ("reviews", "pairs", "tags", "scores"):
            made = potstill("export", classifiers[task], "--out", root / task, "--format", "fp32")
            assert made.code == 0, made.err

    return {path.name: path for path in make_once("bundles", make).iterdir()}


RECIPE = """\
name: small
seeds: [1, 2]
teacher: {{model: {tiny.encoder}}}
pretrain: {{head_steps: 3, max_steps: 4, batch_size: 8}}
corpus: {{source: {tiny.corpus}, block_length: 32}}
student: {{layers: 2}}
distil: {{max_steps: 6, batch_size: 8, evaluate_steps: 3}}
finetune: {{epochs: 2, batch_size: 16, max_length: 40, learning_rate: 0.003, evaluate_batch_size: 5}}
second_distillation: true
tasks:
  - {{name: reviews, files: {tiny.reviews}}}
  - {{name: pairs, files: {tiny.pairs}, text_columns: [first, second], seeds: [1]}}
evaluate: {{resamples: 50, speed_texts: 8, speed_repeats: 1}}
"""


@pytest.fixture(scope="session")
def experiment(potstill: Any, tiny: TinyWorld, make_once: MakeOnce) -> Experiment:
    """The whole main job in small: two tasks, five arms, two seeds on one of them. Only to be read."""

    def make(root: Path) -> None:
        (root / "recipe.yaml").write_text(RECIPE.format(tiny=tiny), encoding="utf-8")
        called = potstill("run", root / "recipe.yaml", "--out", root / "small")
        assert called.code == 0, called.err
        (root / "called.json").write_text(json.dumps(asdict(called)), encoding="utf-8")

    root = make_once("experiment", make)
    called = Called(**json.loads((root / "called.json").read_text(encoding="utf-8")))
    return Experiment(root / "recipe.yaml", root / "small", called)


# -- a browser, where there is one -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Headless Chromium through selenium, without a network.

    Where one of them is not installed its tests are skipped, or fail if POTSTILL_BROWSER is ``required``. Whatever goes
    wrong with those that are installed is a failure.
    """
    found = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in found.items() if path is None]
    missing += [] if importlib.util.find_spec("selenium") else ["selenium"]
    if missing:
        stop = pytest.fail if os.environ.get("POTSTILL_BROWSER") == "required" else pytest.skip
        stop(f"pages cannot be opened: {', '.join(missing)} not installed (CONTRIBUTING.md says how)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(found["chromium"])
    no_network = "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"  # a server of a test is on this machine
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", no_network):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(found["chromedriver"])))
    yield driver
    driver.quit()


# -- predictions without a model: rows of every kind of task, and texts of them ---------------------------------------

ROW_WORDS = ("a", "film", "day", "not", "never", "good", "won't", "story", "42", "why?", "plain", "old", "was")


def _rows(
    logits: Any,
    targets: Any,
    problem_type: Any = "single_label_classification",
    label_names: tuple[str, ...] | None = None,
    ids: Sequence[str] | None = None,
) -> Any:
    import numpy as np

    from potstill.records import Predictions

    values = np.asarray(logits, dtype=np.float32)
    n, k = values.shape
    kinds: dict[str, Any] = {"multi_label_classification": np.int8, "regression": np.float32}
    return Predictions(
        ids=np.array(ids or [f"test-{row:06d}" for row in range(n)]),
        logits=values,
        label_names=label_names or tuple(f"label-{label}" for label in range(k)),
        problem_type=problem_type,
        n_tokens=np.arange(5, n + 5, dtype=np.int32) % 40,
        truncated=np.arange(n) % 7 == 0,
        elapsed_s=1.0,
        targets=np.asarray(targets, dtype=kinds.get(problem_type, np.int64)),
    )


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., Any]:
    """Predictions of given logits and targets."""
    return _rows


@pytest.fixture(scope="session")
def random_rows() -> Callable[..., Any]:
    """Predictions that are right more often than not, of a kind of task, ``n`` rows and a seed.

    Two with one ``truth`` share their targets.
    """
    import numpy as np

    def draw(
        kind: str, n: int, seed: int, *, truth: int = 0, k: int = 3, label_names: tuple[str, ...] | None = None
    ) -> Any:
        true, noise = np.random.default_rng(truth), np.random.default_rng(1000 + seed)
        if kind == "regression":
            scores = true.normal(3, 1, n)
            return _rows(scores[:, None] + noise.normal(0, 0.5, (n, 1)), scores, kind, ("score",))
        if kind == "multi_label_classification":
            given = true.random((n, k)) < 0.3
            return _rows(2.0 * given - 1 + noise.normal(size=(n, k)), given, kind, label_names)
        labels = true.integers(0, k, n)
        return _rows(1.5 * np.eye(k)[labels] + noise.normal(size=(n, k)), labels, kind, label_names)

    return draw


@pytest.fixture(scope="session")
def shuffle_rows() -> Callable[..., Any]:
    """The same predictions with their rows in another order."""
    from dataclasses import replace

    def shuffle(predictions: Any, order: Any) -> Any:
        names = ("ids", "logits", "n_tokens", "truncated", "targets")
        return replace(predictions, **{name: getattr(predictions, name)[order] for name in names})

    return shuffle


@pytest.fixture(scope="session")
def random_texts() -> Callable[[int], list[str]]:
    """``n`` texts of 1 to 30 words, some negated, with digits or a question mark."""

    def draw(n: int) -> list[str]:
        rng = random.Random(7)
        return [" ".join(rng.choices(ROW_WORDS, k=rng.randint(1, 30))) for _ in range(n)]

    return draw
