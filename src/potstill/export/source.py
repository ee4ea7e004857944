"""A run as an export sees it: its model, its training texts, and what a bundle says of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedModel

from potstill.bundle import TOKENIZER, Bundle, Graph, Reading, Vocabulary, made_by
from potstill.data.tasks import TaskData
from potstill.data.tokens import TextTokenizer
from potstill.data.windows import UNCUT, Windows, cut_windows, single_texts
from potstill.decisions import read_decisions, sha256_of
from potstill.evaluate.held_out import SELECTION
from potstill.export.calibration import Batch, calibration_batches
from potstill.export.gate import evenly_spaced
from potstill.export.graph import keep_embeddings
from potstill.export.vocabulary import trim_vocabulary, used_ids
from potstill.models.long_texts import windows_of
from potstill.models.teacher import open_classifier
from potstill.runs import RunFolder, fingerprint


@dataclass(frozen=True)
class Source:
    """A run, opened: its folder, the rows of its task, its model, and how that reads texts."""

    folder: RunFolder
    data: TaskData
    model: PreTrainedModel
    tokenizer: TextTokenizer
    tokenizer_json: str
    windows: Windows | None
    vocabulary: Vocabulary | None = None

    @classmethod
    def open(cls, folder: RunFolder, data: TaskData) -> Source:
        """Open the model of a run whose rows are ``data``."""
        model = open_classifier(folder.path)
        content = (folder.path / TOKENIZER).read_text(encoding="utf-8")
        return cls(folder, data, model, TextTokenizer.open(folder.path), content, windows_of(model))

    def trimmed(self) -> Source:
        """The same with the pieces that training texts use; the model is the same one, its embeddings cut down."""
        texts = self.tokenizer.encode_chunks(self.data.split("train").texts, self._read_whole)
        trimmed = trim_vocabulary(self.tokenizer_json, used_ids(texts, self.tokenizer.vocab_size))
        n_before = keep_embeddings(self.model, trimmed.kept)
        tokenizer = TextTokenizer.from_backend(
            Tokenizer.from_str(trimmed.content),
            max_length=self.tokenizer.max_length,
            special_tokens=_special_tokens(self.tokenizer),
        )
        vocabulary = Vocabulary(len(trimmed.kept), n_before)
        return replace(self, tokenizer=tokenizer, tokenizer_json=trimmed.content, vocabulary=vocabulary)

    @property
    def _read_whole(self) -> int:
        return self.max_length if self.windows is None else UNCUT

    @property
    def max_length(self) -> int:
        """In tokens, of a text or of a window."""
        length: int = self.folder.manifest["max_length"]
        return length

    def calibration(self, n_texts: int) -> list[Batch]:
        """Training texts, evenly spaced; of long ones in windows no more rows than texts."""
        train = self.data.split("train")
        texts = train.select(evenly_spaced(len(train), n_texts)).texts
        if self.windows is None:
            rows = self.tokenizer.encode(texts, self.max_length)
        else:
            whole = self.tokenizer.encode(single_texts(texts), UNCUT)
            rows = cut_windows(whole, self.tokenizer, self.max_length, self.windows.overlap).rows
        return calibration_batches(rows, self.tokenizer.pad_id, n_texts)

    def described(self, graph: Graph, partial: Path) -> Bundle:
        """What a bundle of the files in ``partial`` says, its gate still empty."""
        task, config = self.data.task, self.model.config
        return Bundle(
            name=task.name,
            problem_type=config.problem_type,
            label_names=tuple(config.id2label[number] for number in range(config.num_labels)),
            reading=Reading(task.text_columns or ("text",), task.join, task.cleaning, self.max_length, self.windows),
            graph=graph,
            vocabulary=self.vocabulary,
            special_tokens=_special_tokens(self.tokenizer),
            pad_id=self.tokenizer.pad_id,
            decisions=read_decisions(self.folder.path),
            gate={},
            forced=False,
            origin=_origin(self.folder),
            files={name: sha256_of(partial / name) for name in (graph.file, TOKENIZER)},
            made_by=made_by(),
        )


def _special_tokens(tokenizer: TextTokenizer) -> dict[str, str]:
    ids = {
        "cls": tokenizer.cls_id,
        "sep": tokenizer.sep_id,
        "pad": tokenizer.pad_id,
        "mask": tokenizer.mask_id,
        "unk": tokenizer.unk_id,
    }
    return {role: str(tokenizer.backend.id_to_token(number)) for role, number in ids.items()}


def _origin(folder: RunFolder) -> dict[str, str]:
    """Where it came from, in fingerprints; no path and no name of a machine."""
    return {
        "run": folder.manifest["fingerprint"],
        "weights": fingerprint([sha256_of(file) for file in sorted(folder.path.glob("*.safetensors"))]),
        "data": folder.manifest["data"]["fingerprint"],
        "predictions": folder.predictions_fingerprint(SELECTION),
    }
