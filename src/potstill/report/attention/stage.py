"""A fine-tuned run and texts in; attention page and numbers out."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from potstill.analyse.attention.change import AttentionChange, summarise
from potstill.analyse.attention.distance import collect
from potstill.analyse.attention.integrated_gradients import GET_CAPTUM, has_captum
from potstill.analyse.attention.observed_models import ExplainedText, ObservedModels
from potstill.data.splits import stratified_sample
from potstill.data.tasks import Split
from potstill.data.tokens import EncodedTexts
from potstill.errors import ModelError, RunFolderError, UsageError
from potstill.evaluate.stage import load_task_section
from potstill.machine import versions
from potstill.recipe import TaskSection
from potstill.records import ProblemType, Text
from potstill.report.attention.page import (
    AttentionEvidence,
    ShownAttribution,
    ShownText,
    verdict_of,
    write_attention_page,
)
from potstill.report.attention.sentences import attribution_sentence
from potstill.report.sentences import percent
from potstill.runs import RunFolder, require_unused, storage_errors, write_json
from potstill.runtime.torch_predictor import TorchPredictor
from potstill.training.settings import training_device

PAGE, NUMBERS = "attention.html", "attention.json"
MOST_SHOWN = 20
"""Texts in the viewer."""

TITLE_LETTERS = 70
"""A text is called by so much of its beginning."""

SAMPLE = 500
"""Texts that are measured where neither texts nor a number are given."""


@dataclass(frozen=True)
class AttentionRequest:
    """What to look at.

    run: a fine-tuned run. before: the encoder beside it, None for the one it was fine-tuned from; alone: none at all.
    texts: shown, and measured where ``sample`` is None. task, split: where a sample is drawn from, None for the run's
    task and the split it reports on. sample: rows to measure, drawn with ``seed``, stratified. window: how far a token
    is local. show: how many texts of the sample are shown where none are given; tokens: of each, so many are shown.
    layer, head: what the page opens with, the head that changed most where both are None.
    """

    run: Path
    out: Path
    before: str | None = None
    alone: bool = False
    texts: Sequence[Text] = ()
    task: str | None = None
    split: str | None = None
    sample: int | None = None
    seed: int = 1
    window: int = 2
    show: int = 5
    tokens: int = 64
    layer: int | None = None
    head: int | None = None
    data_dir: Path | None = None

    def check(self) -> None:
        """Raise UsageError for a number out of its range, or for wishes that contradict one another."""
        ranges = {"sample": (1, 20_000), "window": (0, 64), "show": (1, MOST_SHOWN), "tokens": (16, 512)}
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise UsageError(f"{name} is out of range", found=value, allowed=f"{least} to {most}")
        if len(self.texts) > MOST_SHOWN:
            raise UsageError("too many texts to show", found=len(self.texts), allowed=f"1 to {MOST_SHOWN}")
        if self.alone and self.before is not None:
            raise UsageError("an encoder to compare with was given, and that there is none", do="leave one of them out")

    @property
    def draws(self) -> bool:
        """Whether a sample of the task is drawn."""
        return not self.texts or self.sample is not None


@dataclass(frozen=True)
class _Texts:
    """What is measured and what is shown, with the truth where it is known; ``name`` says what was measured."""

    name: str
    measured: Sequence[Text]
    shown: Sequence[Text]
    truths: Sequence[str | None]


def attend(request: AttentionRequest) -> dict[str, Any]:
    """Read attention, measure it, and write ``attention.html`` and ``attention.json``; returns what the latter holds.

    Raises UsageError and its kind before anything is written. Memory is that of one text's maps and of some kilobytes
    for each text of the sample.
    """
    request.check()
    run = _open_run(request.run)
    require_unused(request.out, ours=NUMBERS)
    models, names = _open_models(request, run)
    texts = _choose_texts(request, run)
    encoded = models.encode(texts.measured)
    measured = collect(models.measure(encoded, request.window))
    change = summarise(measured, window=request.window, seed=request.seed)
    facts = _facts(texts, models.predictor)
    explained = models.explain(texts.shown, [fact["target"] for fact in facts], request.tokens)
    evidence = AttentionEvidence(
        title=f"Attention of {names['after']}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        names=_titles(names),
        change=change,
        sample=texts.name,
        by=_what_moved(request, names),
        texts=[_shown(number, fact, text) for number, (fact, text) in enumerate(zip(facts, explained, strict=True), 1)],
        head=_first_head(request, change),
        notes=[*_truncation(encoded, models.predictor), *_cut(explained)],
        no_attribution="" if has_captum() else f"Integrated gradients are left out: captum is missing. {GET_CAPTUM}",
        command=_command(request),
        versions=versions(),
    )
    return _write(request, evidence, [_numbers(fact, text) for fact, text in zip(facts, explained, strict=True)])


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


def _open_run(path: Path) -> RunFolder:
    run = RunFolder.open(path)
    if run.manifest["stage"] != "finetune":
        raise RunFolderError(
            f"{path} is a {run.manifest['stage']} run; attention is looked at in a fine-tuned classifier",
            do="fine-tune it first: potstill finetune --model … --task …",
        )
    return run


def _open_models(request: AttentionRequest, run: RunFolder) -> tuple[ObservedModels, dict[str, str]]:
    """The models, and what each is called."""
    source = None if request.alone else request.before or str(run.manifest["base_model"])
    device, max_length = str(training_device()), run.manifest["max_length"]
    try:
        models = ObservedModels.open(run.path, before=source, max_length=max_length, device=device)
    except ModelError as error:
        if source is None:
            raise
        raise ModelError(
            f"{request.run} and {source} cannot be looked at side by side: {error}",
            do="name another encoder with --before, or look at the run --alone",
        ) from error
    _require_head(request, *models.shape)
    own = {"after": _name_of(run.path)}
    return models, own if source is None else {"before": _name_of(Path(source)), **own}


def _name_of(path: Path) -> str:
    """What a model is called; a run of one seed after its arm too."""
    return "/".join(path.parts[-2:]) if path.name.startswith("seed-") else path.name


def _require_head(request: AttentionRequest, n_layers: int, n_heads: int) -> None:
    for name, value, n in (("layer", request.layer, n_layers), ("head", request.head, n_heads)):
        if value is not None and not 0 <= value < n:
            raise UsageError(f"the model has no such {name}", found=value, allowed=f"0 to {n - 1}")


def _titles(names: Mapping[str, str]) -> dict[str, str]:
    """What the page calls each model."""
    return dict(names) if len(names) == 1 else {role: f"{role}: {name}" for role, name in names.items()}


def _command(request: AttentionRequest) -> str:
    """The command that makes the page again, without the folders of this machine."""
    words = ["potstill", "attend", _public(request.run), "--out", request.out.name]
    words += [word for text in request.texts if isinstance(text, str) for word in ("--text", text)]
    words += ["--alone"] if request.alone else []
    given = {"before": request.before and _public(Path(request.before)), "task": request.task, "split": request.split}
    if request.draws:
        given |= {"sample": request.sample or SAMPLE, "seed": request.seed}
        given |= {} if request.texts else {"show": request.show}
    given |= {"layer": request.layer, "head": request.head, "window": request.window, "tokens": request.tokens}
    words += [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
    return shlex.join(words)


def _public(path: Path) -> str:
    return path.name if path.is_absolute() else str(path)


def _what_moved(request: AttentionRequest, names: Mapping[str, str]) -> str:
    if request.before is not None:
        return f"going from {names['before']} to {names['after']}"
    return "fine-tuning"


def _first_head(request: AttentionRequest, change: AttentionChange) -> tuple[int, int | None]:
    if request.layer is None and request.head is None:
        return change.ranked_heads()[0]
    return request.layer or 0, request.head


def _choose_texts(request: AttentionRequest, run: RunFolder) -> _Texts:
    if not request.draws:
        return _Texts("those given", request.texts, request.texts, [None] * len(request.texts))
    section = TaskSection(name=request.task) if request.task else TaskSection.model_validate(run.manifest["task"])
    where = request.data_dir or run.recipe().get("data_dir")
    data = load_task_section(section, None if where is None else Path(where))
    name, kind = request.split or data.task.report_split, data.task.problem_type
    sample = _sampled(data.split(name), request.sample or SAMPLE, request.seed, kind)
    title = f"{data.task.name}, split {name}"
    if request.texts:
        return _Texts(title, sample.texts, request.texts, [None] * len(request.texts))
    shown = _sampled(sample, request.show, request.seed, kind)
    truths = [_named(target, data.task.label_names, kind) for target in shown.targets]
    return _Texts(title, sample.texts, shown.texts, truths)


def _sampled(split: Split, n_rows: int, seed: int, kind: ProblemType) -> Split:
    return split.select(stratified_sample(split.targets, n_rows, seed, kind))


def _named(target: Any, label_names: Sequence[str], kind: ProblemType) -> str:
    """A target or a decision in words."""
    if kind == "regression":
        return f"{float(target):.3g}"
    if kind == "multi_label_classification":
        return ", ".join(name for name, carried in zip(label_names, target, strict=True) if carried) or "none"
    return label_names[int(target)]


def _facts(texts: _Texts, predictor: TorchPredictor) -> list[dict[str, Any]]:
    """What is known of each shown text; ``target`` is the output that it is explained by, the likeliest."""
    predictions, facts = predictor.predict(texts.shown), []
    for row, (text, truth) in enumerate(zip(texts.shown, texts.truths, strict=True)):
        target = int(predictions.logits[row].argmax())
        has_probability = predictions.problem_type != "regression"
        facts.append(
            {
                "text": text,
                "truth": truth,
                "predicted": _named(predictions.predicted[row], predictions.label_names, predictions.problem_type),
                "target": target,
                "likeliest": predictions.label_names[target],
                "probability": float(predictions.probabilities[row, target]) if has_probability else None,
                "n_tokens": int(predictions.n_tokens[row]),
                "truncated": bool(predictions.n_tokens[row] > predictor.max_length),
            }
        )
    return facts


def _numbers(fact: Mapping[str, Any], explained: ExplainedText) -> dict[str, Any]:
    """All of one text's figures but its maps, as plain JSON values."""
    found = explained.attribution
    return {
        **fact,
        "tokens": explained.tokens,
        "received": {
            model: np.round(rows.astype(np.float64), 5).tolist() for model, rows in explained.received.items()
        },
        "attribution": None
        if found is None
        else {
            "values": np.round(found.values, 6).tolist(),
            "output": found.output,
            "baseline": found.baseline,
            "delta": found.delta,
            "error": found.error,
            "complete": found.is_complete,
            "n_steps": found.n_steps,
            "rank_agreement": explained.agreement,
        },
    }


def _shown(number: int, fact: Mapping[str, Any], explained: ExplainedText) -> ShownText:
    text = fact["text"] if isinstance(fact["text"], str) else " / ".join(fact["text"])
    beginning = " ".join(text.split())
    beginning = beginning if len(beginning) <= TITLE_LETTERS else f"{beginning[:TITLE_LETTERS]}…"
    return ShownText(f"{number}. {beginning}", _said(fact, explained), explained.attention, _bars(fact, explained))


def _said(fact: Mapping[str, Any], explained: ExplainedText) -> list[str]:
    """What stands beside a text: what it is, what the model says, and what of it is not shown."""
    sure = "" if fact["probability"] is None else f" ({fact['likeliest']}: {percent(fact['probability'])})"
    told = [f"Predicted: {fact['predicted']}{sure}." + (f" True: {fact['truth']}." if fact["truth"] else "")]
    length = f"{fact['n_tokens']:,} tokens"
    if fact["truncated"]:
        told.append(f"{length}; attention is that of the first {len(explained.tokens):,}.")
    if hidden := explained.attention.n_hidden:
        told.append(f"{hidden:,} tokens in the middle stand together as one: what they receive is added up.")
    return told


def _bars(fact: Mapping[str, Any], explained: ExplainedText) -> ShownAttribution | None:
    found = explained.attribution
    if found is None:
        return None
    sentence = attribution_sentence(found, fact["likeliest"], explained.agreement)
    return ShownAttribution(explained.attention.gather(found.values), fact["likeliest"], sentence)


def _truncation(encoded: EncodedTexts, predictor: TorchPredictor) -> list[str]:
    """How many texts were longer than what was looked at, and that predictions rest on more where they do."""
    cut, longest = int(encoded.truncated.sum()), predictor.max_length
    if not cut:
        return [f"No text is longer than the {longest} tokens that the model was fine-tuned on."]
    told = f"{cut:,} of {len(encoded):,} texts are longer than {longest} tokens; attention is that of the beginning."
    if predictor.windows is None:
        return [told]
    return [told, "Their predictions are pooled over several windows, integrated gradients are those of the first."]


def _cut(explained: Sequence[ExplainedText]) -> list[str]:
    """How many of the shown texts are not shown whole."""
    cut = [text for text in explained if text.attention.n_hidden]
    if not cut:
        return []
    most = len(cut[0].attention.tokens) - 1
    return [
        f"{len(cut)} of {len(explained)} texts shown have more than {most} tokens: the first {most - 1} and the last "
        "stand alone, those between as one. The models read them whole."
    ]
