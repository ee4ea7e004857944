"""A task of one's own: files and columns in, a ``Task`` out, with whatever had to be inferred said in its notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from potstill.data.catalogue import Join, Task
from potstill.data.cleaning import check_steps
from potstill.data.labels import Columns, infer_label_names, infer_problem_type
from potstill.data.sources import data_in, only_one, open_source, passed_over, read_columns, require_columns
from potstill.errors import DataError
from potstill.records import PROBLEM_TYPES, ProblemType

if TYPE_CHECKING:
    from datasets import Dataset

METRICS: Mapping[ProblemType, tuple[str, ...]] = {
    "single_label_classification": ("accuracy", "f1_macro", "matthews_corrcoef"),
    "multi_label_classification": ("f1_micro", "f1_macro", "jaccard_samples", "hamming_loss"),
    "regression": ("pearsonr", "spearmanr", "mean_squared_error"),
}
"""What is shown for a task that names no metric; the first is the primary one."""

KNOWN_SPLITS = ("train", "validation", "test")


def custom_task(
    name: str,
    files: Mapping[str, str | Path] | str | Path,
    text_columns: str | Sequence[str] = "text",
    label_columns: str | Sequence[str] = "label",
    problem_type: ProblemType | None = None,
    label_names: Sequence[str] | None = None,
    metric: str | None = None,
    *,
    join: Join = "pair",
    cleaning: Sequence[str] = (),
) -> Task:
    """A task over the user's own ``files``: split → file, or one source that is split 80/10/10 when it is loaded.

    A folder with ``train`` and other known splits in it is taken as those splits. What is left out is inferred from the
    training split: the problem type from the look of the labels, the label names as those that occur, sorted.
    The figures that count are those of ``test``, or of ``validation`` where that is the only other split.
    Raises DataError for missing files, wrong columns, and labels of contradictory kinds.
    """
    sources, sources_said = _sources_by_split(files)
    texts, labels = _as_tuple(text_columns), _as_tuple(label_columns)
    if len(texts) > 2 or not texts or not labels:
        raise DataError("a task has one or two text columns and at least one label column", found=[*texts, *labels])
    check_steps(cleaning)
    here = Path(sources["train"]).expanduser().exists()
    dataset = open_source(sources["train"], split=None if here else "train")
    require_columns(dataset, (*texts, *labels), sources["train"])
    columns = read_columns(dataset, labels)
    resolved, said = _resolve_problem_type(problem_type, columns, label_names)
    names, names_said = _resolve_label_names(label_names, dataset, columns, resolved, sources["train"])
    metrics = METRICS[resolved]
    return Task(
        name=name,
        problem_type=resolved,
        text_columns=texts,
        label_columns=labels,
        label_names=names,
        metric=metric or metrics[0],
        metrics=metrics if metric is None else (metric, *(other for other in metrics if other != metric)),
        report_split="validation" if "validation" in sources and "test" not in sources else "test",
        sources=sources,
        join=join,
        cleaning=tuple(cleaning),
        notes=(*sources_said, *said, *names_said),
    )


def _as_tuple(columns: str | Sequence[str]) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else tuple(columns)


def _sources_by_split(files: Mapping[str, str | Path] | str | Path) -> tuple[dict[str, str], list[str]]:
    """The source of each split, and what there is to say about what was not taken."""
    if isinstance(files, Mapping):
        sources = {split: str(path) for split, path in files.items()}
        if "train" not in sources:
            raise DataError(
                "a task needs a split called train", found=sorted(sources), do="name the training file train"
            )
        return sources, []
    folder = Path(files).expanduser()
    splits = _splits_of_folder(folder)
    if not splits:
        return {"train": str(files)}, []
    return {split: str(place) for split, place in splits.items()}, passed_over(folder, list(splits.values()))


def _splits_of_folder(folder: Path) -> dict[str, Path]:
    """The file or subfolder of each split; nothing where none is called train.

    Raises DataError for data of no known split, which nobody would miss until the figures look odd, and for a split
    that is there twice.
    """
    found = data_in(folder) if folder.is_dir() else {}
    if "train" not in found:
        return {}
    unknown = [places[0].name for split, places in found.items() if split not in KNOWN_SPLITS]
    if unknown:
        raise DataError(
            f"{folder} holds data beside its splits",
            found=", ".join(unknown),
            allowed=KNOWN_SPLITS,
            do="rename it, move it away, or name the files of the splits one by one",
        )
    return {split: only_one(found[split], f"the split {split} of {folder}") for split in KNOWN_SPLITS if split in found}


def _resolve_problem_type(
    problem_type: ProblemType | None, columns: Columns, label_names: Sequence[str] | None
) -> tuple[ProblemType, list[str]]:
    if problem_type is not None:
        if problem_type not in PROBLEM_TYPES:
            raise DataError("unknown problem type", found=problem_type, allowed=PROBLEM_TYPES)
        return problem_type, []
    if label_names is not None and len(columns) == 1 and label_names != ("score",):
        inferred, reason = infer_problem_type(columns)
        if inferred == "regression":
            inferred, reason = "single_label_classification", "labels are named"
    else:
        inferred, reason = infer_problem_type(columns)
    return inferred, [f"problem type {inferred} inferred: {reason}"]


def _resolve_label_names(
    label_names: Sequence[str] | None, dataset: Dataset, columns: Columns, problem_type: ProblemType, source: str
) -> tuple[tuple[str, ...], list[str]]:
    if label_names is not None:
        names = tuple(label_names)
        if len(set(names)) != len(names):
            raise DataError("a label name is given twice", found=[name for name in names if names.count(name) > 1])
        if len(columns) > 1 and len(names) != len(columns):
            raise DataError("there must be one label name per label column", found=len(names), allowed=len(columns))
        return names, []
    declared = getattr(dataset.features[next(iter(columns))], "names", None)
    if declared and len(columns) == 1 and problem_type == "single_label_classification":
        return tuple(declared), []
    names = infer_label_names(columns, problem_type, source)
    if problem_type == "regression":
        return names, []
    shown = ", ".join([*names[:8], *(["…"] if len(names) > 8 else [])])
    return names, [f"{len(names)} label names taken from {Path(source).name}: {shown}"]
