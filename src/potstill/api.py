"""The verbs as functions, with the arguments of the command line. Paths and values in, runs and figures out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from json import dumps
from pathlib import Path
from typing import Any, Literal

from potstill import decide, pipeline
from potstill.errors import RecipeError
from potstill.recipe.baseline_jobs import BilstmJob, TfidfJob
from potstill.recipe.decisions import DecisionsSection
from potstill.recipe.files import apply_overrides, load_recipe, shipped_recipe, with_preset
from potstill.recipe.schema import DistilJob, FinetuneJob, PretrainJob
from potstill.recipe.sections import build
from potstill.records import Text
from potstill.runs import RunFolder

Columns = str | Sequence[str] | None
Files = str | Path | Mapping[str, str | Path] | None


def pretrain(
    model: str | Path,
    out: str | Path,
    *,
    corpus: str | Path = "docstrings",
    epochs: float | None = None,
    from_scratch: bool = False,
    seed: int = 1,
    data_dir: str | Path | None = None,
    set: Sequence[str] = (),
) -> RunFolder:
    """Train a masked-language model: a head for an encoder that has none, and then everything.

    ``set`` holds overrides of any other field, such as ``"pretrain.head_steps=100"``. The same call resumes an
    interrupted run and returns a finished one. Raises UsageError and its kind before anything is written.
    """
    fields = {
        "out": out,
        "seed": seed,
        "data_dir": data_dir,
        "model": str(model),
        "corpus.source": str(corpus),
        "pretrain.epochs": epochs,
        "pretrain.from_scratch": from_scratch,
    }
    return pipeline.pretrain(build(PretrainJob, apply_overrides(_nested(fields), set), where="pretrain"))


def distil(
    teacher: str | Path,
    out: str | Path,
    *,
    corpus: str | Path = "docstrings",
    layers: int | None = None,
    layer_choice: str | Sequence[int] | None = None,
    epochs: float | None = None,
    preset: str = "default",
    seed: int = 1,
    data_dir: str | Path | None = None,
    set: Sequence[str] = (),
) -> RunFolder:
    """Distil a teacher into a smaller student on unlabelled text, by the triple loss.

    ``set`` holds overrides of any other field, such as ``"distil.temperature=4"``; ``preset`` is ``default`` or
    ``original``, the 2019 settings. Resuming and errors are as in ``pretrain``.
    """
    fields = {
        "out": out,
        "seed": seed,
        "data_dir": data_dir,
        "teacher.model": str(teacher),
        "corpus.source": str(corpus),
        "student.layers": layers,
        "student.layer_choice": layer_choice,
        "distil.epochs": epochs,
    }
    content = with_preset(apply_overrides(_nested(fields), set), preset)
    return pipeline.distil(build(DistilJob, content, where="distil"))


def finetune(
    model: str | Path,
    task: str,
    out: str | Path,
    *,
    file: Files = None,
    text_column: Columns = None,
    label_column: Columns = None,
    teacher: str | Path | None = None,
    epochs: float | None = None,
    max_length: int | None = None,
    learning_rate: float | None = None,
    seed: int = 1,
    data_dir: str | Path | None = None,
    set: Sequence[str] = (),
) -> RunFolder:
    """Fine-tune an encoder on a task, store its predictions and measure it.

    ``task`` is a known one, or a name of your own together with ``file`` (one file, or files by split) and its columns.
    ``teacher`` is a run on the same task whose outputs are learnt as well. Resuming and errors are as in ``pretrain``.
    """
    fields = {
        "out": out,
        "seed": seed,
        "data_dir": data_dir,
        "model": str(model),
        "teacher": None if teacher is None else str(teacher),
        "task.name": task,
        "task.files": _file_names(file),
        "task.text_columns": _listed(text_column),
        "task.label_columns": _listed(label_column),
        "finetune.epochs": epochs,
        "finetune.max_length": max_length,
        "finetune.learning_rate": learning_rate,
    }
    return pipeline.finetune(build(FinetuneJob, apply_overrides(_nested(fields), set), where="finetune"))


def baseline(
    kind: Literal["bilstm", "tfidf"],
    task: str,
    out: str | Path,
    *,
    model: str | Path | None = None,
    file: Files = None,
    text_column: Columns = None,
    label_column: Columns = None,
    teacher: str | Path | None = None,
    seed: int = 1,
    data_dir: str | Path | None = None,
    set: Sequence[str] = (),
) -> RunFolder:
    """Train a model that is no transformer on a task alone: a BiLSTM with attention, or TF-IDF under a linear model.

    ``model`` gives a BiLSTM its tokens or embeddings where ``set`` says ``"bilstm.tokens=teacher"`` or
    ``"bilstm.embeddings=teacher"``, and ``teacher`` is a run on the same task whose outputs it learns as well; the
    linear model has neither. Task, files and columns are as in ``finetune``, resuming and errors as in ``pretrain``.
    """
    jobs: dict[str, type[BilstmJob | TfidfJob]] = {"bilstm": BilstmJob, "tfidf": TfidfJob}
    if kind not in jobs:
        raise RecipeError("there is no such baseline", found=kind, allowed=tuple(jobs))
    fields = {
        "out": out,
        "seed": seed,
        "data_dir": data_dir,
        "model": None if model is None else str(model),
        "teacher": None if teacher is None else str(teacher),
        "task.name": task,
        "task.files": _file_names(file),
        "task.text_columns": _listed(text_column),
        "task.label_columns": _listed(label_column),
    }
    return pipeline.finetune(build(jobs[kind], apply_overrides(_nested(fields), set), where=f"baseline {kind}"))


def evaluate(
    run: str | Path, *, split: str | None = None, data_dir: str | Path | None = None, batch_size: int = 64
) -> dict[str, float]:
    """Predict a split with a fine-tuned run, store the predictions, and return the metrics computed from them.

    ``split`` None is the split that the task reports on.
    """
    return pipeline.evaluate(run, split=split, data_dir=_path(data_dir), batch_size=batch_size)


def compare(
    runs: Sequence[str | Path],
    *,
    metric: str | None = None,
    resamples: int = 1000,
    speed: bool = True,
    data_dir: str | Path | None = None,
) -> dict[str, Any]:
    """Runs, or folders of ``seed-…`` runs, held against the first: figures, tests, costs, and a ``verdict``."""
    paths = [Path(run) for run in runs]
    return pipeline.compare(paths, metric=metric, resamples=resamples, speed=speed, data_dir=_path(data_dir))


def calibrate(
    run: str | Path,
    *,
    thresholds: str = "none",
    temperature: bool = True,
    beta: float | None = None,
    at_least: float | None = None,
    false_positive_cost: float | None = None,
    false_negative_cost: float | None = None,
) -> dict[str, Any]:
    """Fit a temperature and thresholds on a run's selection split and keep them with it, for every predictor to obey.

    ``thresholds`` is ``none``, ``g_mean``, ``f1``, ``f_beta`` (with ``beta``), ``precision`` or ``recall`` (with
    ``at_least``) or ``cost`` (with both costs). Returns the ``decisions`` and their ``effect`` on the reported split.
    Asked for neither, the run goes back to the likeliest label, and to 0.5 of each of many.
    """
    fields = {
        "thresholds": thresholds,
        "temperature": temperature,
        "beta": beta,
        "at_least": at_least,
        "false_positive_cost": false_positive_cost,
        "false_negative_cost": false_negative_cost,
    }
    return decide.calibrate(Path(run), build(DecisionsSection, _nested(fields), where="calibrate"))


def failures(
    run: str | Path,
    *,
    teacher: str | Path | None = None,
    split: str | None = None,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
) -> dict[str, Any]:
    """Study the failures of a fine-tuned run on its stored predictions, beside those of ``teacher``; write the page.

    Returns the page's path, the summary, and every wrong row. The page goes to ``out``, or into the run, whose report
    then has it as a section. ``split`` None is the split that the task reports on.
    """
    from potstill.report.failures.stage import write_failures

    return write_failures(Path(run), teacher=_path(teacher), split=split, out=_path(out), data_dir=_path(data_dir))


def attend(
    run: str | Path,
    out: str | Path,
    *,
    text: str | Sequence[Text] = (),
    second: str | Sequence[str] = (),
    before: str | Path | None = None,
    alone: bool = False,
    task: str | None = None,
    split: str | None = None,
    sample: int | None = None,
    seed: int = 1,
    reach: int = 2,
    show: int = 5,
    tokens: int = 64,
    layer: int | None = None,
    head: int | None = None,
    data_dir: str | Path | None = None,
) -> dict[str, Any]:
    """Look at what a fine-tuned run attends to, beside the encoder ``before``; write page and figures into ``out``.

    ``text`` holds texts to show, ``second`` the second text of each where the model reads pairs; they are measured too
    unless ``sample`` asks for texts of a task. Without them 500 texts of the run's task are measured and some shown.
    ``before`` None is the encoder that the run was fine-tuned from. Returns what ``attention.json`` holds.
    """
    from potstill.report.attention import stage
    from potstill.report.attention.request import AttentionRequest, pair_up

    request = AttentionRequest(
        run=Path(run),
        out=Path(out),
        before=None if before is None else str(before),
        alone=alone,
        texts=pair_up(_several(text), _several(second)),
        task=task,
        split=split,
        sample=sample,
        seed=seed,
        reach=reach,
        show=show,
        tokens=tokens,
        layer=layer,
        head=head,
        data_dir=_path(data_dir),
    )
    return stage.attend(request)


def report(folder: str | Path) -> Path:
    """Write the page and the model cards of an experiment or a run again, and return the page's path."""
    return pipeline.report(Path(folder))


def explore(
    out: str | Path,
    *,
    task: str | None = None,
    file: Files = None,
    text_column: Columns = None,
    label_column: Columns = None,
    corpus: str | Path | None = None,
    tokenizer: str | Path | None = "minilm-l6",
    data_dir: str | Path | None = None,
    set: Sequence[str] = (),
    tell: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Study a task, files of your own or a corpus, and write ``explore.html`` and ``explore.json`` into ``out``.

    Returns the findings. ``task`` and the columns are those of ``finetune``; for a ``corpus`` there is one text column.
    ``tokenizer`` None leaves tokens out. ``tell`` is given progress. Raises UsageError and its kind before anything is
    written.
    """
    from potstill import exploration
    from potstill.recipe.explore import ExploreJob

    columns = _listed(text_column)
    fields = {
        "out": out,
        "data_dir": data_dir,
        "corpus": None if corpus is None else str(corpus),
        "corpus_column": columns[0] if corpus is not None and columns else None,
        "task.name": task or ("files" if file is not None else None),
        "task.files": _file_names(file),
        "task.text_columns": columns if corpus is None else None,
        "task.label_columns": _listed(label_column),
    }
    named = {**_nested(fields), "tokenizer": None if tokenizer is None else str(tokenizer)}
    return exploration.explore(build(ExploreJob, apply_overrides(named, set), where="explore"), tell)


def run(
    recipe: str | Path, *, data_dir: str | Path | None = None, out: str | Path | None = None, set: Sequence[str] = ()
) -> dict[str, Any]:
    """Run every stage of a recipe, a file or the name of one that comes with potstill; returns page and comparisons."""
    given = {"data_dir": data_dir, "out": out}
    # Quoted, because an override is read as YAML and a folder called 2024 is no number.
    quoted = [f"{name}={dumps(str(path))}" for name, path in given.items() if path is not None]
    resolved = load_recipe(shipped_recipe(str(recipe)), [*set, *quoted])
    pipeline.run_recipe(resolved, tell=partial(print, file=sys.stderr))
    return pipeline.results(resolved.folder)


def ablate(
    grid: str | Path,
    *,
    data_dir: str | Path | None = None,
    out: str | Path | None = None,
    jobs: int | None = None,
    most: int | None = None,
) -> dict[str, Any]:
    """Run every arm of a grid, a file or the name of one that comes with potstill, and study what came.

    ``jobs`` stages run at a time, by default as many as cores and memory allow; more than ``most`` trainings (100) are
    refused. Returns what ``ablation.json`` holds. Raises TrainingError, all else done and written, where arms failed.
    """
    from potstill.grid.stage import command_of, open_grid, run_grid

    plan = open_grid(grid, data_dir=_path(data_dir), out=_path(out))
    tell = partial(print, file=sys.stderr)
    done = run_grid(plan, jobs=jobs, most=most, command=command_of(grid, plan.grid), tell=tell)
    done.require_all()
    return {**done.results, "page": str(done.page)}


def _nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The dotted fields that were given, as a nested mapping."""
    nested: dict[str, Any] = {}
    for name, value in fields.items():
        if value is None:
            continue
        *path, last = name.split(".")
        inner = nested
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return nested


def _several(texts: str | Sequence[Any]) -> Sequence[Any]:
    return (texts,) if isinstance(texts, str) else texts


def _listed(columns: Columns) -> list[str] | None:
    if not columns:
        return None
    return [columns] if isinstance(columns, str) else list(columns)


def _file_names(files: Files) -> str | dict[str, str] | None:
    if isinstance(files, Mapping):
        return {split: str(path) for split, path in files.items()}
    return None if files is None else str(files)


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)
