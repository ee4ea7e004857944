"""One classifier in every form that ``inference.py`` measures: transformers', those of the engines, and bundles.

Beside each form lies what it was made of. Where that is no longer so it is made anew.
"""

from __future__ import annotations

import hashlib
import inspect
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

import inference_forms
from inference_forms import Samples, for_onnxruntime, for_openvino, samples
from inference_peers import CORES, FORMS, facts_file
from inference_texts import texts_of
from potstill.bundle import MODEL, TOKENIZER, Bundle, Reading, made_by, write_bundle
from potstill.data.tokens import TextTokenizer
from potstill.evaluate.stage import open_runs
from potstill.export.calibration import calibration_batches
from potstill.export.gate import evenly_spaced
from potstill.export.graph import write_graph
from potstill.export.quantise import written_graphs
from potstill.export.stage import CALIBRATION_TEXTS, export_run
from potstill.models.long_texts import windows_of
from potstill.models.teacher import load_tokenizer, open_classifier, resolve_model
from potstill.runs import read_json, write_json

MAX_LENGTH, N_LABELS = 512, 2
TOKENIZER_OF = "minilm-l6"
PACKAGES = ("torch", "transformers", "onnxruntime", "openvino", "nncf")


@dataclass(frozen=True)
class Classifier:
    """What all forms are made of.

    name: which one it is. max_length: in tokens. texts: what int8 is fitted on. save: writes transformers' form into a
    folder. bundle: writes a bundle into a folder, in an arithmetic.
    """

    name: str
    max_length: int
    texts: Sequence[str]
    save: Callable[[Path], None]
    bundle: Callable[[Path, str], Any]

    def facts(self, form: str) -> dict[str, Any]:
        """What has to be the same for a form to be the one that would be made now."""
        return {
            "classifier": self.name,
            "max_length": self.max_length,
            "texts": _sha256(text.encode() for text in self.texts),
            "code": _sha256(source.read_bytes() for source in _sources(form)),
            "versions": dict(_versions()),
        }


def _sources(form: str) -> list[Path]:
    """The code that decides what a form is like."""
    if form.startswith("bundle"):
        return sorted(Path(inspect.getfile(export_run)).parent.glob("*.py"))
    return [Path(inference_forms.__file__)] if form in FORMS else []


def _sha256(parts: Iterator[bytes]) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            yield package, version(package)


def make_artefacts(work: Path, run: Path | None, data_dir: Path, artefacts: set[str]) -> None:
    """These forms into ``work``, left as they are where they are there already; of ``run``, or of drawn weights."""
    torch.set_num_threads(CORES)
    source = work / "transformers"
    classifier = drawn_classifier(source, data_dir) if run is None else finished_classifier(run, data_dir)

    def fitted_on() -> Samples:
        return samples(source, classifier.texts, classifier.max_length)

    make: dict[str, Callable[[Path], Any]] = {
        "transformers": classifier.save,
        "bert-base": lambda out: _save(BertForSequenceClassification, BertConfig, out),
        "bundle-fp32": lambda out: classifier.bundle(out, "fp32"),
        "bundle-int8": lambda out: classifier.bundle(out, "int8"),
        "onnxruntime": lambda out: for_onnxruntime(source, out, fitted_on()),
        "openvino": lambda out: for_openvino(source, out, fitted_on()),
    }
    for form in [form for form in make if form in {"transformers", *artefacts}]:
        _once(work / form, classifier.facts(form), make[form])


def _once(out: Path, facts: dict[str, Any], make: Callable[[Path], Any]) -> None:
    """Have in ``out`` what ``make`` makes of ``facts``; what was made here of others goes."""
    stamp = facts_file(out)
    if out.exists():
        found = read_json(stamp)
        if found == facts:
            return
        if found is None:
            raise SystemExit(f"{out} was not made by this script: choose another --work, or remove that folder")
        differing = ", ".join(name for name in facts if found.get(name) != facts[name])
        print(f"{out} is made anew: other {differing}", file=sys.stderr, flush=True)
        shutil.rmtree(out)
    partial = out.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    make(partial)
    write_json(stamp, facts)
    partial.rename(out)


def drawn_classifier(source: Path, data_dir: Path) -> Classifier:
    """A DistilBERT of drawn weights; its bundles have no gate, as there are no predictions to hold them against."""
    texts = texts_of(data_dir, "train", CALIBRATION_TEXTS)
    return Classifier(
        name="drawn weights",
        max_length=MAX_LENGTH,
        texts=texts,
        save=lambda out: _save(DistilBertForSequenceClassification, DistilBertConfig, out),
        bundle=lambda out, arithmetic: make_bundle(source, out, arithmetic, texts),
    )


def finished_classifier(run: Path, data_dir: Path) -> Classifier:
    """That of a run; its bundles are those that ``potstill export`` makes, and int8 is fitted on its training texts."""
    (folder,), data = open_runs([run], data_dir)
    if windows_of(open_classifier(run)) is not None:
        raise SystemExit(f"{run} reads texts in windows, which the peers do not: measure a run that does not")
    train = data.split("train")
    texts = list(train.select(evenly_spaced(len(train), CALIBRATION_TEXTS)).texts)
    if not all(isinstance(text, str) for text in texts):
        raise SystemExit(f"{run} classifies pairs of texts: measure a run that takes single ones")
    return Classifier(
        name=folder.manifest["fingerprint"],
        max_length=folder.manifest["max_length"],
        texts=[str(text) for text in texts],
        save=lambda out: _save_run(run, out),
        bundle=lambda out, arithmetic: export_run(run, out, arithmetic=arithmetic, data_dir=data_dir),
    )


def _save_run(run: Path, out: Path) -> None:
    open_classifier(run).save_pretrained(out)
    AutoTokenizer.from_pretrained(run).save_pretrained(out)


def _save(model: Any, config: Any, out: Path, **shape: int) -> None:
    """A classifier of drawn weights, in the size its configuration has of itself but for ``shape``."""
    tokenizer = load_tokenizer(resolve_model(TOKENIZER_OF))
    torch.manual_seed(0)
    labels = {number: f"label-{number}" for number in range(N_LABELS)}
    model(
        config(
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            id2label=labels,
            label2id={name: number for number, name in labels.items()},
            problem_type="single_label_classification",
            **shape,
        )
    ).save_pretrained(out)
    tokenizer.save_pretrained(out)


def make_small_bundle(folder: Path, max_length: int) -> Path:
    """A bundle of two layers of drawn weights, 64 wide: for work in which the model is not what counts."""
    shape = {"dim": 64, "n_layers": 2, "n_heads": 2, "hidden_dim": 128}
    source, bundle = folder / "model", folder / "bundle"
    bundle.mkdir()
    _save(DistilBertForSequenceClassification, DistilBertConfig, source, **shape)
    make_bundle(source, bundle, "fp32", (), max_length)
    return bundle


def make_bundle(source: Path, out: Path, arithmetic: str, texts: Sequence[str], max_length: int = MAX_LENGTH) -> None:
    """A bundle without a gate, of the model in ``source``."""
    model = open_classifier(source)
    tokenizer = TextTokenizer.open(source)
    shutil.copyfile(source / TOKENIZER, out / TOKENIZER)
    whole = write_graph(model, out / MODEL)

    def fitted_on() -> Any:
        return calibration_batches(tokenizer.encode(texts, max_length), tokenizer.pad_id, CALIBRATION_TEXTS)

    graph = next(written_graphs(model, out / MODEL, whole, arithmetic, fitted_on))
    config = model.config
    bundle = Bundle(
        name="inference",
        problem_type=config.problem_type,
        label_names=tuple(config.id2label[number] for number in range(config.num_labels)),
        reading=Reading(("text",), "sep", (), max_length, None),
        graph=graph,
        special_tokens={},
        pad_id=tokenizer.pad_id,
        decisions=None,
        gate={},
        forced=True,
        origin={},
        files={name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in (MODEL, TOKENIZER)},
        made_by=made_by(),
    )
    write_bundle(out, bundle)
