"""A fine-tuned run and texts in; attention page and numbers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from potstill.analyse.attention.change import AttentionChange, summarise
from potstill.analyse.attention.distance import collect
from potstill.analyse.attention.integrated_gradients import GET_CAPTUM, captum_version, has_captum
from potstill.analyse.attention.observed_models import ObservedModels
from potstill.analyse.attention.shown import ExplainedText
from potstill.data.splits import stratified_sample
from potstill.data.tasks import Split, TaskData
from potstill.data.windows import WindowedTexts
from potstill.errors import ModelError, RunFolderError, UsageError
from potstill.evaluate.stage import load_task_section, open_runs
from potstill.machine import versions
from potstill.recipe.schema import TaskSection
from potstill.records import ProblemType, Text
from potstill.report.attention.page import AttentionEvidence, verdict_of, write_attention_page
from potstill.report.attention.request import MOST_SHOWN, SAMPLE, AttentionRequest
from potstill.report.attention.text_facts import facts_of, in_words, numbers_of, shown_text
from potstill.runs import RunFolder, is_run, require_unused, storage_errors, write_json
from potstill.runtime.torch_predictor import TorchPredictor
from potstill.training.settings import training_device

PAGE, NUMBERS = "attention.html", "attention.json"


@dataclass(frozen=True)
class _Texts:
    """What is measured and what is shown, with the truth where it is known; ``name`` says what was measured."""

    name: str
    measured: Sequence[Text]
    shown: Sequence[Text]
    truths: Sequence[str | None]


def attend(request: AttentionRequest) -> dict[str, Any]:
    """Read attention, measure it, and write ``attention.html`` and ``attention.json``; returns what the latter holds.

    Raises UsageError and its kind before anything is written. Memory is that of one text's maps, and of the measures of
    each text of the sample.
    """
    request.check()
    require_unused(request.out, ours=NUMBERS)
    run = _run_of(request.run)
    source = _encoder_before(request, run)
    models = _open_models(request, run, source)
    texts = _choose_texts(request, run)
    measured = models.predictor.encode(texts.measured)
    change = summarise(collect(models.measure(measured, request.reach)), reach=request.reach, seed=request.seed)
    facts = facts_of(models.predictor.predict(texts.shown), texts.shown, texts.truths)
    shown = models.predictor.encode(texts.shown)
    targets = [fact.target for fact in facts]
    explained = models.explain(shown, targets, most_tokens=request.tokens, most_rows=MOST_SHOWN)
    names = _names(request, source)
    evidence = AttentionEvidence(
        title=f"Attention of {names['after']}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        names=_titles(names),
        change=change,
        sample=texts.name,
        by=_what_moved(request, names),
        texts=[shown_text(facts[text.text], text, models.predictor.windows) for text in explained],
        head=_first_head(request, change),
        notes=[*_length_notes(measured, models.predictor), *_shown_notes(shown, explained), *_alone(request, source)],
        no_attribution="" if has_captum() else f"Integrated gradients are left out: captum is missing. {GET_CAPTUM}",
        command=request.command,
        versions=versions() | captum_version(),
    )
    return _write(request, evidence, [numbers_of(facts[text.text], text) for text in explained])


def _write(request: AttentionRequest, evidence: AttentionEvidence, texts: list[dict[str, Any]]) -> dict[str, Any]:
    """Write numbers and page; returns the numbers."""
    numbers = {
        "run": str(request.run),
        "page": str(request.out / PAGE),
        "models": dict(evidence.names),
        "sample": evidence.sample,
        "seed": request.seed,
        "verdict": " ".join(verdict_of(evidence)),
        **evidence.change.to_dict(),
        "texts": texts,
        "notes": [*evidence.notes, *([evidence.no_attribution] if evidence.no_attribution else [])],
        "versions": dict(evidence.versions),
    }
    with storage_errors(request.out):
        request.out.mkdir(parents=True, exist_ok=True)
    write_json(request.out / NUMBERS, numbers)
    write_attention_page(evidence, request.out / PAGE)
    return numbers


def _run_of(path: Path) -> RunFolder | None:
    """The run that wrote a model: its own folder, or the one whose epoch it is; None for any other model's folder."""
    placed = _placed(path)
    folder = placed.parents[1] if placed.parent.name == "epochs" else path
    if not is_run(folder):
        return None
    run = RunFolder.open(folder)
    if run.manifest["stage"] != "finetune":
        raise RunFolderError(
            f"{path} is a {run.manifest['stage']} run; attention is looked at in a fine-tuned transformer",
            do="name a run of: potstill finetune --model … --task …",
        )
    return run


def _encoder_before(request: AttentionRequest, run: RunFolder | None) -> str | None:
    """The encoder to look at beside: the one that is named, or the one that the run was fine-tuned from."""
    if request.alone:
        return None
    return request.before or (None if run is None else run.manifest["base_model"])


def _open_models(request: AttentionRequest, run: RunFolder | None, source: str | None) -> ObservedModels:
    max_length = None if run is None else run.manifest["max_length"]
    predictor = TorchPredictor.open(request.run, max_length=max_length, device=str(training_device()))
    models = ObservedModels.of(predictor)
    _require_head(request, *models.shape)
    if source is None:
        return models
    try:
        return models.beside(source)
    except ModelError as error:
        raise ModelError(
            f"{source} and {request.run} cannot be looked at side by side: {error.what}",
            found=error.found,
            allowed=error.allowed,
            do="name the encoder that it was fine-tuned from with --before, or look at it --alone",
        ) from error


def _require_head(request: AttentionRequest, n_layers: int, n_heads: int) -> None:
    for name, value, n in (("layer", request.layer, n_layers), ("head", request.head, n_heads)):
        if value is not None and not 0 <= value < n:
            raise UsageError(f"the model has no such {name}", found=value, allowed=f"0 to {n - 1}")


def _names(request: AttentionRequest, source: str | None) -> dict[str, str]:
    """What each model is called."""
    after = {"after": _name_of(_placed(request.run))}
    return after if source is None else {"before": _name_of(_placed(Path(source))), **after}


def _placed(path: Path) -> Path:
    """The path from the root on, where links keep their names: an arm of a grid is a link that says which arm it is."""
    return path.resolve() if path.name in ("", "..") else path.absolute()


def _name_of(path: Path) -> str:
    """Its folder's name; of one seed with its arm, of one epoch with its run, of the hub's cache the name there."""
    if path.parent.name == "epochs":
        return f"{_name_of(path.parents[1])}/{path.name}"
    if path.parent.name == "snapshots":
        return path.parents[1].name.removeprefix("models--").replace("--", "/")
    return "/".join(path.parts[-2:]) if path.name.startswith("seed-") else path.name


def _titles(names: Mapping[str, str]) -> dict[str, str]:
    """What the page calls each model."""
    return dict(names) if len(names) == 1 else {role: f"{role}: {name}" for role, name in names.items()}


def _what_moved(request: AttentionRequest, names: Mapping[str, str]) -> str:
    if request.before is not None:
        return f"going from {names['before']} to {names['after']}"
    return "fine-tuning"


def _first_head(request: AttentionRequest, change: AttentionChange) -> tuple[int, int | None]:
    if request.layer is None and request.head is None:
        return change.ranked_heads()[0]
    return request.layer or 0, request.head


def _choose_texts(request: AttentionRequest, run: RunFolder | None) -> _Texts:
    if not request.draws:
        return _Texts("those given", request.texts, request.texts, [None] * len(request.texts))
    data = _task_data(request, run)
    name, kind = request.split or data.task.report_split, data.task.problem_type
    sample = _sampled(data.split(name), request.sample or SAMPLE, request.seed, kind)
    title = f"{data.task.name}, split {name}"
    if request.texts:
        return _Texts(title, sample.texts, request.texts, [None] * len(request.texts))
    shown = _sampled(sample, request.show, request.seed, kind)
    truths = [in_words(target, data.task.label_names, kind) for target in shown.targets]
    return _Texts(title, sample.texts, shown.texts, truths)


def _task_data(request: AttentionRequest, run: RunFolder | None) -> TaskData:
    """The rows to draw from: those that the run was trained and measured on, or those of the task that is named."""
    if request.task is not None:
        where = request.data_dir or (None if run is None else run.recipe().get("data_dir"))
        return load_task_section(TaskSection(name=request.task), None if where is None else Path(where))
    if run is None:
        raise UsageError(
            f"{request.run} is no run of potstill, and does not tell which task it was fine-tuned on",
            do="give texts with --text, or name a known task with --task",
        )
    return open_runs([run.path], request.data_dir)[1]


def _sampled(split: Split, n_rows: int, seed: int, kind: ProblemType) -> Split:
    return split.select(stratified_sample(split.targets, n_rows, seed, kind))


def _length_notes(texts: WindowedTexts, predictor: TorchPredictor) -> list[str]:
    """How texts were measured that are longer than what the model reads at once."""
    longest, n_texts = predictor.max_length, len(texts.n_tokens)
    if predictor.windows is not None and texts.n_long:
        return [
            f"{texts.n_long:,} of {n_texts:,} texts are read in more than one window of {longest} tokens. Attention "
            "stays inside a window; tokens that two windows share are counted in both."
        ]
    if cut := int(texts.rows.truncated.sum()):
        return [f"{cut:,} of {n_texts:,} texts are longer than {longest} tokens; attention is that of what is read."]
    return [f"No text is longer than the {longest} tokens that the model reads."]


def _shown_notes(texts: WindowedTexts, explained: Sequence[ExplainedText]) -> list[str]:
    """What of the texts shown is left out."""
    notes, left = [], len(texts.rows) - len(explained)
    if left:
        notes.append(
            f"{left:,} of {len(texts.rows):,} windows of the texts shown are left out: those whose own output for the "
            "explained label is lowest."
        )
    if cut := [text for text in explained if text.attention.n_hidden]:
        most = len(cut[0].attention.tokens) - 1
        notes.append(
            f"{len(cut)} of {len(explained)} texts shown have more than {most} tokens: the first {most - 1} and the "
            "last stand alone, those between as one. The models read them whole."
        )
    return notes


def _alone(request: AttentionRequest, source: str | None) -> list[str]:
    if request.alone or source is not None:
        return []
    return ["The encoder that the model was fine-tuned from is not known; name it with --before to see what changed."]
