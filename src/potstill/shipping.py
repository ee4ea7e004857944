"""What ships a run, as functions; ``open_bundle``, ``predict`` and ``bench`` need neither torch nor recipes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from potstill.runtime.bundle_predictor import BundlePredictor


def export(
    run: str | Path,
    out: str | Path,
    *,
    format: str = "int8",
    force: bool = False,
    data_dir: str | Path | None = None,
    gate_rows: int | None = None,
    calibration_texts: int | None = None,
    trim_vocabulary: bool = False,
    engine: str | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Write a fine-tuned run as a bundle and return what its ``bundle.json`` holds.

    The bundle's predictions of held-out rows are compared with those of the run before it gets its name: outside the
    tolerance CheckError is raised with the figures, unless ``force``. ``gate_rows`` is how many rows at most.
    ``format`` is ``int8`` (fitted on ``calibration_texts`` of the training split), ``int8-dynamic``, ``fp16`` or
    ``bf16`` (weights alone), or ``fp32``. ``data_dir`` is where the run's task is found, where that is not where the
    run found it. ``trim_vocabulary`` leaves the pieces that training texts use, and all single characters.
    """
    from potstill.export.stage import CALIBRATION_TEXTS, GATE_ROWS, export_run

    return export_run(
        run,
        out,
        arithmetic=format,
        force=force,
        data_dir=None if data_dir is None else Path(data_dir),
        gate_rows=GATE_ROWS if gate_rows is None else gate_rows,
        calibration_texts=CALIBRATION_TEXTS if calibration_texts is None else calibration_texts,
        trim=trim_vocabulary,
        engine=engine,
        tell=tell,
    )


def open_bundle(
    folder: str | Path, *, threads: int | None = None, streams: int | None = None, engine: str | None = None
) -> BundlePredictor:
    """A predictor of a bundle, every file of it checked: ``predict(texts)`` cleans, cuts and decides as the run did.

    ``threads`` is how many cores it may use, None for all; ``streams`` how many batches share them where there are
    many texts, None for one on each core; ``engine`` one of ``openvino`` and ``onnxruntime``, None for the one
    installed. Close it, or use it in a ``with``. Raises BundleError and UsageError.
    """
    from potstill.runtime.bundle_predictor import BundlePredictor

    return BundlePredictor.open(folder, threads=threads, streams=streams, engine=engine)


def predict(
    bundle: str | Path,
    files: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    text_column: str | Sequence[str] = (),
    top_k: int | None = None,
    prefix: str = "",
    format: str | None = None,
    threads: int | None = None,
    engine: str | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Rows of csv, tsv, jsonl, txt or parquet files with predictions into ``out``; how many rows, bad ones among them.

    A call that was stopped goes on where it was. ``text_column`` names the columns of text, by default those of the
    training data; ``format`` overrules what the files' names say. Raises UsageError and its kind.
    """
    from potstill.runtime.bundle_predictor import BundlePredictor
    from potstill.runtime.files import Wanted, predict_files

    paths = [Path(file) for file in ([files] if isinstance(files, str | Path) else files)]
    columns = (text_column,) if isinstance(text_column, str) else tuple(text_column)
    with BundlePredictor.open(bundle, threads=threads, engine=engine, cleaned=True) as predictor:
        wanted = Wanted(columns, top_k, prefix, format)
        return predict_files(predictor, predictor.bundle, paths, Path(out), wanted, tell=tell)


def predict_to_output(
    bundle: str | Path,
    file: Path | None,
    *,
    bad: Path | None = None,
    text_column: Sequence[str] = (),
    top_k: int | None = None,
    prefix: str = "",
    format: str | None = None,
    threads: int | None = None,
    engine: str | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Rows of one file, None for standard input, with predictions to standard output; ``bad`` gets the bad rows."""
    from potstill.data.formats import format_of
    from potstill.errors import DataError
    from potstill.runtime.bundle_predictor import BundlePredictor
    from potstill.runtime.files import Wanted, predict_stream

    kind = format or (None if file is None else format_of(file))
    if kind not in ("csv", "tsv", "jsonl", "txt"):
        raise DataError(
            "it has to be said what standard input holds"
            if kind is None
            else "these rows cannot go to standard output",
            found=kind,
            allowed="csv, tsv, jsonl, txt",
            do="name it with --format" if kind is None else "write them to a file with -o",
        )
    with (
        BundlePredictor.open(bundle, threads=threads, engine=engine, cleaned=True) as predictor,
        _input(file) as stream,
        _side_file(bad) as side,
    ):
        wanted = Wanted(tuple(text_column), top_k, prefix, kind)
        named: dict[str, Any] = {} if file is None else {"title": str(file)}
        out = sys.stdout.buffer
        return predict_stream(predictor, predictor.bundle, stream, out, kind, wanted, bad=side, tell=tell, **named)


@contextmanager
def _input(file: Path | None) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked, or of standard input; DataError where it cannot be read."""
    from potstill.data.formats import open_bytes
    from potstill.runtime.row_reader import readable

    if file is None:
        yield sys.stdin.buffer
        return
    with readable(str(file)):
        opened = open_bytes(file)
    with opened as stream:
        yield stream


@contextmanager
def _side_file(file: Path | None) -> Iterator[IO[bytes] | None]:
    """``file`` opened anew for bad rows; UsageError where it is there already."""
    from potstill.errors import UsageError
    from potstill.runs import storage_errors

    if file is None:
        yield None
        return
    try:
        with storage_errors(file):
            opened = file.open("xb")
    except FileExistsError as there:
        raise UsageError(f"{file} is there already", do="choose another --bad, or move that file away") from there
    with opened as stream:
        yield stream


def bench(
    subjects: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    lengths: Sequence[int] = (),
    texts_a_call: Sequence[int] = (),
    threads: Sequence[int] = (),
    repeats: int = 3,
    seconds: float = 1.0,
    price: float | None = None,
    engine: str | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """How fast and how large bundles and runs are, side by side; with ``out``, kept there as JSON and figures.

    Latency of single texts over ``lengths`` in tokens, texts per second over ``texts_a_call`` for sentences, paragraphs
    and pages, peak memory, cold start and bytes on disk, for each number of ``threads``; with a ``price`` of a core for
    an hour, the cost of a million texts. Raises UsageError for what cannot be measured.
    """
    from potstill.bench.study import BenchSettings, bench

    given: dict[str, Any] = {"lengths": tuple(lengths), "texts_a_call": tuple(texts_a_call), "threads": tuple(threads)}
    settings = BenchSettings(
        repeats=repeats,
        seconds=seconds,
        price=price,
        engine=engine,
        **{name: values for name, values in given.items() if values},
    )
    named = [subjects] if isinstance(subjects, str | Path) else subjects
    measured = bench([Path(subject) for subject in named], settings, tell)
    if out is not None:
        _keep(measured, Path(out), tell)
    return measured


def _keep(measured: dict[str, Any], out: Path, tell: Callable[[str], None]) -> None:
    from importlib.util import find_spec

    from potstill.runs import storage_errors, write_json

    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    write_json(out / "bench.json", measured)
    if find_spec("matplotlib") is None:
        tell("figures need matplotlib: pip install 'potstill[train]'")
        return
    from potstill.report.bench_figures import draw_latency, draw_throughput
    from potstill.report.figures import save_svg

    save_svg(draw_latency(measured), out / "latency.svg")
    for lengths in measured["settings"]["distributions"]:
        save_svg(draw_throughput(measured, lengths), out / f"throughput-{lengths}.svg")
