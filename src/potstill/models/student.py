"""Building a student from a teacher: its shape, which tensor comes from where, and the proof that it did."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from transformers import DistilBertConfig, DistilBertForMaskedLM, PreTrainedModel

from potstill.errors import ModelError
from potstill.models.checkpoints import head_tensor_names
from potstill.models.layer_choice import choose_layers
from potstill.models.origins import RANDOM, Cut, HeadCut, Origin, require_origins, verify_origins

Initialise = Literal["copy", "truncate", "random"]
Architecture = Literal["auto", "distilbert", "teacher"]

DISTILBERT_EPS = 1e-12
"""The epsilon of every LayerNorm in DistilBERT; its configuration cannot say another."""

_LAYER_NAMES = {
    "attention.q_lin": "attention.self.query",
    "attention.k_lin": "attention.self.key",
    "attention.v_lin": "attention.self.value",
    "attention.out_lin": "attention.output.dense",
    "sa_layer_norm": "attention.output.LayerNorm",
    "ffn.lin1": "intermediate.dense",
    "ffn.lin2": "output.dense",
    "output_layer_norm": "output.LayerNorm",
}
_OTHER_NAMES = {
    "distilbert.embeddings.word_embeddings": "bert.embeddings.word_embeddings",
    "distilbert.embeddings.position_embeddings": "bert.embeddings.position_embeddings",
    "distilbert.embeddings.LayerNorm": "bert.embeddings.LayerNorm",
    "vocab_transform": "cls.predictions.transform.dense",
    "vocab_layer_norm": "cls.predictions.transform.LayerNorm",
    "vocab_projector": "cls.predictions.decoder",
}
_TRUNCATABLE = ("bert", "distilbert", "roberta", "xlm-roberta", "camembert", "electra")
_HEAD_ROWS = re.compile(r"\.(query|key|value|q_lin|k_lin|v_lin)\.(weight|bias)$")
_HEAD_COLUMNS = re.compile(r"\.attention\.(output\.dense|out_lin)\.weight$")


@dataclass(frozen=True)
class Shape:
    """The size of an encoder: layers, width, attention heads, and width inside the feed-forward part."""

    n_layers: int
    hidden_size: int
    n_heads: int
    intermediate_size: int


@dataclass(frozen=True)
class Student:
    """A masked-language model made from a teacher.

    origins: for every tensor of ``model.state_dict()`` its origin in words (see ``origins.Origin``), or ``"random"``.
    layers: the teacher's layers the student started from, counted from 0; None when drawn at random.
    notes: what whoever reads the result should know about the architecture that was taken.
    """

    model: PreTrainedModel
    origins: dict[str, str]
    layers: tuple[int, ...] | None
    notes: tuple[str, ...] = ()


def initialise_student(
    teacher: PreTrainedModel,
    *,
    n_layers: int,
    layer_choice: str | Sequence[int] = "paper",
    hidden_size: int | None = None,
    n_heads: int | None = None,
    intermediate_size: int | None = None,
    initialise: Initialise = "copy",
    copy_mlm_transform: bool = True,
    architecture: Architecture = "auto",
    seed: int = 0,
) -> Student:
    """A student of ``teacher`` (a masked-language model) with fewer layers, or narrower, in float32.

    BERT and DistilBERT teachers give a DistilBERT, which has no token types (type 0 is added to the positions) and no
    pooler; other families give their own class. A student of full depth computes exactly its teacher. That could not
    hold for a BERT whose LayerNorm epsilon is not DistilBERT's, so such a BERT gives a BERT and ``notes`` says so;
    ``architecture`` asks for one or the other outright.

    ``initialise``: "copy" takes the teacher's tensors whole (same width, heads and feed-forward size only), "truncate"
    their leading rows and columns (head by head in attention where heads allow it), "random" none. Without
    ``copy_mlm_transform`` the layers between encoder and vocabulary projection are drawn, as in the 2019 source.
    Every tensor has an origin that was checked bit by bit after copying, or ``ModelError`` names it.
    """
    _check_word("initialise", initialise, get_args(Initialise))
    _check_word("architecture", architecture, get_args(Architecture))
    teacher_shape = shape_of(teacher)
    layers = choose_layers(teacher_shape.n_layers, n_layers, layer_choice)
    shape = Shape(
        n_layers,
        hidden_size or teacher_shape.hidden_size,
        n_heads or teacher_shape.n_heads,
        intermediate_size or teacher_shape.intermediate_size,
    )
    _check_shape(shape, teacher_shape, initialise, teacher.config.model_type)
    as_distilbert, notes = _architecture(teacher, architecture)
    config = _distilbert_config(teacher.config, shape) if as_distilbert else _own_config(teacher.config, shape, layers)
    student = _build(DistilBertForMaskedLM if as_distilbert else type(teacher), config, seed)
    if initialise == "random":
        return Student(student, dict.fromkeys(student.state_dict(), RANDOM), None, notes)
    source_of = _bert_source(layers) if as_distilbert else _own_source(teacher, layers)
    drawn = set() if copy_mlm_transform else _transform_names(student)
    origins = _copy(student, teacher, source_of, (shape, teacher_shape), drawn)
    verify_origins(student, teacher, origins)
    return Student(student, origins, layers, notes)


def shape_of(model: PreTrainedModel) -> Shape:
    """The size of ``model``'s encoder, whatever its family calls the fields."""
    config = model.config
    return Shape(config.num_hidden_layers, config.hidden_size, config.num_attention_heads, _feed_forward_of(config))


def layer_path(model: PreTrainedModel) -> str:
    """Where the list of layers lies in ``model``, for example ``"roberta.encoder.layer"``.

    Raises ``ModelError`` for families that share one layer among many (ALBERT), where there is nothing to choose.
    """
    found = find_layers(model)
    if found is not None:
        return found
    raise ModelError(
        f"{type(model).__name__} has no list of its {model.config.num_hidden_layers} layers to choose from",
        do="take a teacher that has its own parameters in every layer",
    )


def find_layers(model: PreTrainedModel) -> str | None:
    """As ``layer_path``, and None where there is no such list."""
    lists = ((name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList))
    return next((name for name, module in lists if len(module) == model.config.num_hidden_layers), None)


def _feed_forward_of(config: Any) -> int:
    return int(config.hidden_dim if config.model_type == "distilbert" else config.intermediate_size)


def _check_word(what: str, word: str, allowed: tuple[str, ...]) -> None:
    if word not in allowed:
        raise ModelError(f"there is no such way to say {what}", found=word, allowed=allowed)


def _check_shape(shape: Shape, teacher_shape: Shape, initialise: Initialise, family: str) -> None:
    if shape.hidden_size % shape.n_heads:
        raise ModelError(
            "the student's width is not a multiple of its heads",
            found=f"width {shape.hidden_size}, {shape.n_heads} heads",
            do="change hidden_size or n_heads",
        )
    sizes = [(shape.hidden_size, teacher_shape.hidden_size), (shape.intermediate_size, teacher_shape.intermediate_size)]
    if initialise == "copy" and (shape.n_heads != teacher_shape.n_heads or any(own != other for own, other in sizes)):
        raise ModelError(
            "a student of another width, other heads or another feed-forward size cannot copy its teacher's tensors",
            found=f"{shape} from {teacher_shape}",
            allowed='initialise="truncate" or initialise="random"',
        )
    if initialise == "truncate" and any(own > other for own, other in sizes):
        raise ModelError(
            "a student wider than its teacher cannot be cut out of it",
            found=f"{shape} from {teacher_shape}",
            allowed='a smaller student, or initialise="random"',
        )
    if initialise == "truncate" and family not in _TRUNCATABLE:
        raise ModelError(
            'initialise="truncate" does not know how this family lays out its attention heads',
            found=family,
            allowed=_TRUNCATABLE,
            do='use initialise="random", or keep the teacher\'s width and copy',
        )


def _architecture(teacher: PreTrainedModel, wanted: Architecture) -> tuple[bool, tuple[str, ...]]:
    """Whether a DistilBERT is built out of a BERT, and what there is to say about it."""
    config = teacher.config
    if config.model_type != "bert":
        if wanted == "distilbert" and config.model_type != "distilbert":
            raise ModelError("only BERT and DistilBERT teachers give a DistilBERT", found=config.model_type)
        return False, ()
    if wanted == "teacher":
        return False, ()
    if config.layer_norm_eps == DISTILBERT_EPS:
        return True, ()
    reason = (
        f"the teacher's LayerNorm epsilon is {config.layer_norm_eps:g} and DistilBERT's is fixed at {DISTILBERT_EPS:g}"
    )
    if wanted == "distilbert":
        raise ModelError(
            f"a DistilBERT would not compute what this teacher computes: {reason}", do='use architecture="teacher"'
        )
    return False, (f"The student is a BERT with fewer layers and keeps token types, because {reason}.",)


def _distilbert_config(teacher_config: Any, shape: Shape) -> DistilBertConfig:
    return DistilBertConfig(
        vocab_size=teacher_config.vocab_size,
        max_position_embeddings=teacher_config.max_position_embeddings,
        sinusoidal_pos_embds=False,
        n_layers=shape.n_layers,
        n_heads=shape.n_heads,
        dim=shape.hidden_size,
        hidden_dim=shape.intermediate_size,
        dropout=teacher_config.hidden_dropout_prob,
        attention_dropout=teacher_config.attention_probs_dropout_prob,
        activation=teacher_config.hidden_act,
        initializer_range=teacher_config.initializer_range,
        pad_token_id=teacher_config.pad_token_id,
        tie_word_embeddings=teacher_config.tie_word_embeddings,
    )


def _own_config(teacher_config: Any, shape: Shape, layers: tuple[int, ...]) -> Any:
    config = copy.deepcopy(teacher_config)
    kinds = getattr(config, "layer_types", None)
    config.num_hidden_layers = shape.n_layers
    config.hidden_size = shape.hidden_size
    config.num_attention_heads = shape.n_heads
    setattr(config, "hidden_dim" if config.model_type == "distilbert" else "intermediate_size", shape.intermediate_size)
    if kinds is not None:
        config.layer_types = [kinds[layer] for layer in layers]
    return config


def _build(model_class: Any, config: Any, seed: int) -> PreTrainedModel:
    """A model with its library's own random weights, drawn with ``seed``; the global generator is put back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return model_class(config).eval()


def _bert_source(layers: tuple[int, ...]) -> Callable[[str], Origin]:
    """From a DistilBERT tensor's name to its origin in a BERT."""

    def source_of(name: str) -> Origin:
        module, _, kind = name.rpartition(".")
        layer = re.fullmatch(r"distilbert\.transformer\.layer\.(\d+)\.(.+)", module)
        if layer:
            return Origin(f"bert.encoder.layer.{layers[int(layer[1])]}.{_LAYER_NAMES[layer[2]]}.{kind}")
        source = f"{_OTHER_NAMES[module]}.{kind}"
        folded = "bert.embeddings.token_type_embeddings.weight" if module.endswith("position_embeddings") else None
        return Origin(source, folded)

    return source_of


def _own_source(teacher: PreTrainedModel, layers: tuple[int, ...]) -> Callable[[str], Origin]:
    """From a tensor's name to its origin in a teacher of the same class: the same name, with the layer exchanged."""
    path = layer_path(teacher)
    numbered = re.compile(rf"{re.escape(path)}\.(\d+)\.(.+)")

    def source_of(name: str) -> Origin:
        layer = numbered.fullmatch(name)
        return Origin(f"{path}.{layers[int(layer[1])]}.{layer[2]}" if layer else name)

    return source_of


def _copy(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    source_of: Callable[[str], Origin],
    shapes: tuple[Shape, Shape],
    drawn: set[str],
) -> dict[str, str]:
    """Fill ``student`` in place and return the origins; ``drawn`` are the tensors that stay random."""
    student_tensors, teacher_tensors = student.state_dict(), teacher.state_dict()
    origins: dict[str, str] = dict.fromkeys(drawn, RANDOM)
    planned = {name: source_of(name) for name in student_tensors if name not in drawn}
    found = {name: origin for name, origin in planned.items() if origin.source in teacher_tensors}
    require_origins(student_tensors, {**origins, **dict.fromkeys(found, "")})
    with torch.no_grad():
        for name, whole in found.items():
            cuts = _cuts(whole.source, teacher_tensors[whole.source], student_tensors[name], shapes)
            origin = Origin(whole.source, whole.added, cuts)
            student_tensors[name].copy_(origin.compute(teacher_tensors))
            origins[name] = str(origin)
    return {name: origins[name] for name in student_tensors}


def _cuts(source: str, whole: Tensor, wanted: Tensor, shapes: tuple[Shape, Shape]) -> tuple[Cut, ...]:
    """How each axis of a teacher's tensor is shortened to the student's size; empty when it is taken whole."""
    student_shape, teacher_shape = shapes
    cuts: list[Cut] = list(wanted.shape)
    axis = 0 if _HEAD_ROWS.search(source) else 1 if _HEAD_COLUMNS.search(source) else None
    head_cut = HeadCut(*_heads(student_shape), *_heads(teacher_shape))
    heads_differ = _heads(student_shape) != _heads(teacher_shape)
    if axis is not None and heads_differ:
        cuts[axis] = head_cut
    whole_taken = wanted.shape == whole.shape and not (axis is not None and heads_differ)
    return () if whole_taken else tuple(cuts)


def _heads(shape: Shape) -> tuple[int, int]:
    return shape.n_heads, shape.hidden_size // shape.n_heads


def _transform_names(student: PreTrainedModel) -> set[str]:
    """The head's tensors that are not the projection onto the vocabulary."""
    projection = {id(parameter) for parameter in student.get_output_embeddings().parameters()}
    return {name for name in head_tensor_names(student) if id(student.get_parameter(name)) not in projection}
