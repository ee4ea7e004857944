"""Opening teachers, classifiers and tokenizers by name, folder or alias; safetensors only, checked tensor by tensor."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from potstill.data.tokens import TextTokenizer
from potstill.errors import ModelError
from potstill.models.aliases import ALIASES, installed_folder
from potstill.models.bilstm import BilstmConfig
from potstill.models.checkpoints import (
    accepted_by,
    draw_tensors,
    head_tensor_names,
    listed,
    open_checkpoint,
    require_tensors,
)
from potstill.models.linear import is_linear
from potstill.models.pooled_classifier import HeadShape, PooledConfig, PooledForSequenceClassification
from potstill.records import PROBLEM_TYPES, ProblemType

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
_DROPOUT_FIELDS = ("classifier_dropout", "seq_classif_dropout", "cls_dropout", "classifier_dropout_prob")
_PROBE = "It's a Café, naïve!  Zürich 北京 <b>x_1</b> 3.14"


@dataclass(frozen=True)
class LoadedMaskedLM:
    """A masked-language model; ``head_is_new`` when the checkpoint was an encoder and the head was drawn afresh."""

    model: PreTrainedModel
    head_is_new: bool
    source: str


def resolve_model(name: str | Path) -> str:
    """Where transformers shall open ``name``: the folder of an alias, a local folder, or the name on the hub unchanged.

    Raises ``ModelError`` for a folder without ``config.json`` or without safetensors (pickles are refused with how to
    convert them), for a single file, and for what is written like a path and does not exist.
    """
    text = str(name)
    if text in ALIASES:
        return _checked_folder(installed_folder(text))
    path = Path(text).expanduser()
    if path.is_dir():
        return _checked_folder(path)
    if path.is_file():
        if path.suffix in _PICKLES:
            raise _pickle_error([path])
        raise ModelError("a model is a folder, not a file", found=text, do="give the folder that holds config.json")
    if isinstance(name, Path) or path.is_absolute() or text.startswith((".", "~")) or text.count("/") > 1:
        raise ModelError("there is no such model folder", found=text, do="check the path")
    return text


def load_tokenizer(name: str | Path) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a model; ``ModelError`` if there is none, an empty one, or only one written in Python."""
    source = resolve_model(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise ModelError(f"{source} has no tokenizer that opens: {error}", do="add its tokenizer.json") from error
    # Without tokenizer files the library opens an empty tokenizer of the family, and every word becomes unknown.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ModelError(f"{source} has no tokenizer: no vocabulary was found", do="add its tokenizer.json")
    if not tokenizer.is_fast:
        raise ModelError(f"the tokenizer of {source} has no fast version", do="convert it to a tokenizer.json")
    return tokenizer


def text_tokenizer(tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> TextTokenizer:
    """``tokenizer`` as the data room knows it; its longest input is what both it and ``model`` take.

    Raises ``ModelError`` where it has an id that ``model`` has no embedding for, or lacks a special token.
    """
    check_vocabulary_fits(model, tokenizer)
    spellings = {role: getattr(tokenizer, f"{role}_token") for role in ("cls", "sep", "pad", "mask", "unk")}
    longest = min(tokenizer.model_max_length, longest_input(model))
    return TextTokenizer.from_backend(tokenizer.backend_tokenizer, max_length=longest, special_tokens=spellings)


def load_masked_lm(name: str | Path, *, seed: int = 0) -> LoadedMaskedLM:
    """The masked-language model of a checkpoint, in float32 and evaluation mode.

    An encoder saved without its head gets a fresh one, drawn with ``seed`` and tied to the embeddings. Any other
    missing tensor is a ``ModelError``, half a head included.
    """
    source = resolve_model(name)
    opened = open_checkpoint(AutoModelForMaskedLM, source)
    model = opened.model
    if getattr(model.config, "is_decoder", False):
        raise ModelError(f"{source} is configured as a decoder (is_decoder), which does not read both ways")
    require_tensors(opened, source, missing=opened.base + opened.pooler)
    head_is_new = bool(opened.head)
    if head_is_new:
        whole_head = _untied(model, head_tensor_names(model))
        if set(opened.head) != whole_head:
            require_tensors(opened, source, missing=opened.head)
        draw_tensors(model, whole_head, seed)
        model.tie_weights()
    return LoadedMaskedLM(model.eval(), head_is_new, source)


def untrained_masked_lm(name: str | Path) -> PreTrainedModel:
    """A masked-language model of the shape of a checkpoint, its weights drawn and not read: for what the shape decides.

    The global generator is put back. Raises ``ModelError`` for a configuration that is of no such model.
    """
    source = resolve_model(name)
    with torch.random.fork_rng(devices=[]):
        try:
            return AutoModelForMaskedLM.from_config(open_config(source), dtype=torch.float32).eval()
        except ValueError as error:
            raise ModelError(f"{source} cannot be a masked-language model: {error}") from error


def load_encoder(name: str | Path, *, seed: int = 0) -> PreTrainedModel:
    """The encoder alone, in float32 and evaluation mode; a pooler that the checkpoint lacks is drawn with ``seed``."""
    source = resolve_model(name)
    if isinstance(open_config(source), PooledConfig):
        return open_classifier(source).base_model
    opened = open_checkpoint(AutoModel, source)
    require_tensors(opened, source, missing=opened.base + opened.head)
    draw_tensors(opened.model, opened.pooler, seed)
    return opened.model.eval()


def load_classifier(
    name: str | Path,
    *,
    label_names: Sequence[str],
    problem_type: ProblemType,
    seed: int,
    dropout: float | None = None,
    head: HeadShape | None = None,
) -> PreTrainedModel:
    """A classifier over ``label_names`` on the encoder of a checkpoint, in evaluation mode.

    A checkpoint that already classifies into exactly these labels keeps its head; otherwise the head (and a pooler the
    checkpoint lacks) is drawn with ``seed``, the same for the same seed. Every other tensor must come from the
    checkpoint, or ``ModelError`` names it. ``dropout`` in [0, 1) replaces the probability before the classifier.
    ``head`` None is the head that comes with the checkpoint, or transformers' own; one of another shape is drawn.
    """
    source = resolve_model(name)
    found = open_config(source)
    if head is not None and not (isinstance(found, PooledConfig) and found.has_head(head)):
        return _with_new_head(source, head, classifier_config(found, label_names, problem_type), seed, dropout)
    config = classifier_config(found, label_names, problem_type, dropout)
    keeps_head = _labels_of(found) == tuple(label_names)
    opened = open_checkpoint(AutoModelForSequenceClassification, source, config=config)
    require_tensors(opened, source, missing=opened.base)
    whole_head = set(head_tensor_names(opened.model))
    if keeps_head:
        require_tensors(opened, source, missing=opened.head + opened.pooler)
    else:
        draw_tensors(opened.model, whole_head | set(opened.pooler), seed)
    return opened.model.eval()


def _with_new_head(source: str, head: HeadShape, labelled: Any, seed: int, dropout: float | None) -> PreTrainedModel:
    """The encoder of ``source`` under a head of ours, drawn with ``seed``; labels are those of ``labelled``.

    Raises ``ModelError`` for a BiLSTM.
    """
    if isinstance(labelled, BilstmConfig):
        raise ModelError("a BiLSTM keeps its own head, on what its attention gathers", found=head.kind, allowed="own")
    encoder = load_encoder(source, seed=seed)
    labels = {name: getattr(labelled, name) for name in ("id2label", "label2id", "problem_type")}
    with torch.random.fork_rng(devices=[]):
        model = PooledForSequenceClassification(PooledConfig.around(encoder.config, head, dropout, **labels))
    tensors = {name: tensor for name, tensor in encoder.state_dict().items() if not name.startswith("pooler.")}
    model.encoder.load_state_dict(tensors, strict=True)
    draw_tensors(model, head_tensor_names(model), seed)
    return model.eval()


def open_classifier(folder: str | Path) -> PreTrainedModel:
    """A finished classifier, exactly as stored; ``ModelError`` for another head or a tensor that is not in the file."""
    source = resolve_model(folder)
    config = open_config(source)
    if not _is_classifier(config) or config.problem_type not in PROBLEM_TYPES:
        raise ModelError(
            f"{source} is not a finished classifier",
            found=f"architectures {config.architectures}, problem_type {config.problem_type!r}",
            allowed="a …ForSequenceClassification with a problem_type",
            do="fine-tune it first, for example with `potstill finetune`",
        )
    opened = open_checkpoint(AutoModelForSequenceClassification, source)
    require_tensors(opened, source, missing=opened.base + opened.pooler + opened.head)
    return opened.model.eval()


def accepted_inputs(model: PreTrainedModel) -> frozenset[str]:
    """Which of a batch's tensors ``model`` takes; token types only where it has more than one type to tell apart."""
    inputs = accepted_by(model) & accepted_by(model.base_model) & set(_INPUTS)
    return inputs - {"token_type_ids"} if getattr(model.config, "type_vocab_size", 2) < 2 else inputs


def select_inputs(model: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of ``batch`` that ``model`` takes, so that teacher and student each get their own full inputs."""
    accepted = accepted_inputs(model)
    return {name: tensor for name, tensor in batch.items() if name in accepted}


def longest_input(model: PreTrainedModel) -> int:
    """The most tokens one input may have: the positions, less those that RoBERTa's family spends on padding."""
    positions: int = model.config.max_position_embeddings
    return positions - first_position(model)


def first_position(model: PreTrainedModel) -> int:
    """The position of a text's first token: 0, but one past the padding's in RoBERTa's family."""
    embeddings = getattr(model.base_model.embeddings, "position_embeddings", None)
    padding_idx: int | None = getattr(embeddings, "padding_idx", None)
    return 0 if padding_idx is None else padding_idx + 1


def check_same_vocabulary(
    teacher_tokenizer: PreTrainedTokenizerFast | TextTokenizer,
    student_tokenizer: PreTrainedTokenizerFast | TextTokenizer,
) -> None:
    """Raise ``ModelError`` unless both give a text the same ids: logits over two vocabularies do not compare."""
    teacher, student = _backend(teacher_tokenizer), _backend(student_tokenizer)
    teacher_vocabulary, student_vocabulary = teacher.get_vocab(), student.get_vocab()
    if teacher_vocabulary != student_vocabulary:
        differing = set(teacher_vocabulary.items()) ^ set(student_vocabulary.items())
        raise ModelError(
            "teacher and student have different vocabularies "
            f"({len(teacher_vocabulary)} and {len(student_vocabulary)} tokens)",
            found=listed({token for token, _ in differing}),
            do="distil with the teacher's own tokenizer",
        )
    if _tokens(teacher) != _tokens(student):
        raise ModelError(
            "teacher and student share a vocabulary but cut texts differently (case, accents or special tokens)",
            found=_PROBE,
            do="distil with the teacher's own tokenizer",
        )


def check_vocabulary_fits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast | TextTokenizer) -> None:
    """Raise ``ModelError`` if the tokenizer has an id that the model has no embedding for."""
    highest = max(_backend(tokenizer).get_vocab().values())
    if highest >= model.config.vocab_size:
        raise ModelError(
            "the tokenizer has more ids than the model has embeddings",
            found=highest,
            allowed=f"0 to {model.config.vocab_size - 1}",
            do="use the tokenizer the model was trained with",
        )


def _backend(tokenizer: PreTrainedTokenizerFast | TextTokenizer) -> Tokenizer:
    return tokenizer.backend if isinstance(tokenizer, TextTokenizer) else tokenizer.backend_tokenizer


def _tokens(backend: Tokenizer) -> list[str]:
    """The probe's tokens, without the padding that a tokenizer's settings may ask for."""
    encoding = backend.encode(_PROBE)
    return [token for token, attended in zip(encoding.tokens, encoding.attention_mask, strict=True) if attended]


def _checked_folder(folder: Path) -> str:
    if not (folder / "config.json").is_file():
        raise ModelError("the model folder has no config.json", found=str(folder), do="give a folder that has one")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(path for path in folder.iterdir() if path.suffix in _PICKLES)
        if pickles:
            raise _pickle_error(pickles)
        raise ModelError("the model folder has no weights", found=str(folder), allowed="model.safetensors")
    return str(folder)


def _pickle_error(pickles: Sequence[Path]) -> ModelError:
    return ModelError(
        "the checkpoint is a pickle, which can run code when it is opened, and is refused",
        found=", ".join(path.name for path in pickles),
        allowed="model.safetensors",
        do="if you trust its source, convert it once: AutoModelForMaskedLM.from_pretrained(old).save_pretrained(new)",
    )


def open_config(source: str) -> Any:
    """The configuration of a model folder or hub name; raises ``ModelError`` where it cannot be opened."""
    if is_linear(source):
        raise ModelError(f"{source} is a linear model over TF-IDF, with no encoder in it", do="give an encoder")
    try:
        return AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise ModelError(f"the configuration of {source} cannot be opened: {error}") from error


def _is_classifier(config: Any) -> bool:
    return any(name.endswith("ForSequenceClassification") for name in config.architectures or ())


def _labels_of(config: Any) -> tuple[str, ...] | None:
    """The label names of a finished classifier, None of anything else."""
    return tuple(config.id2label[i] for i in range(len(config.id2label))) if _is_classifier(config) else None


def classifier_config(
    encoder_config: Any, label_names: Sequence[str], problem_type: ProblemType, dropout: float | None = None
) -> Any:
    """The configuration of a classifier over ``label_names`` on an encoder, which is left as it is.

    Raises ``ModelError`` for labels that cannot be told apart or counted, and for a ``dropout`` that the family lacks.
    """
    if problem_type == "regression" and len(label_names) != 1:
        raise ModelError("a regression has exactly one output", found=list(label_names))
    if len(set(label_names)) != len(label_names) or not label_names:
        raise ModelError("every label needs a name of its own", found=list(label_names))
    config = copy.deepcopy(encoder_config)
    config.id2label = dict(enumerate(label_names))
    config.label2id = {label: index for index, label in enumerate(label_names)}
    config.problem_type = problem_type
    if dropout is not None:
        field = next((field for field in _DROPOUT_FIELDS if hasattr(config, field)), None)
        if field is None:
            raise ModelError(f"{config.model_type} has no dropout of its own before the classifier", found=dropout)
        setattr(config, field, dropout)
    return config


def _untied(model: PreTrainedModel, names: Sequence[str]) -> set[str]:
    return set(names) - set(getattr(model, "all_tied_weights_keys", {}))
