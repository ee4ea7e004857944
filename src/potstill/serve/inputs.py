"""The texts of a request, in each of the shapes that clients send them, with one sentence for what is none of them.

Read by hand and not by a union of types: pydantic would answer with a complaint for every shape it tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, LiteralString

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from potstill.records import Text

EMPTY: Final = "empty"
"""The type of the error for nothing where a text should be, which has a status of its own."""
WRONG: Final = "inputs"
"""The type of the error for what is no text, pair or batch."""


@dataclass(frozen=True)
class Inputs:
    """Texts and pairs; ``is_batch`` says whether the client sent a list of them, and so wants one back."""

    texts: tuple[Text, ...]
    is_batch: bool


def read_tei(value: Any) -> Inputs:
    """text-embeddings-inference's shapes: a text, one pair as a flat list, or a batch as a list of lists."""
    if isinstance(value, str):
        return Inputs((_text(value),), False)
    shapes = 'a text, a pair ["a", "b"], or a batch [["a"], ["b", "c"]]'
    if not isinstance(value, list):
        raise _wrong("inputs", value, shapes)
    if not value:
        raise _empty("inputs")
    if isinstance(value[0], str):
        return Inputs((_one_or_pair(value, "inputs", shapes),), False)
    rows = (_one_or_pair(row, f"input {number}", shapes) for number, row in enumerate(value))
    return Inputs(tuple(rows), True)


def read_hugging_face(value: Any) -> Inputs:
    """Hugging Face's shapes: a text, a pair ``{"text": …, "text_pair": …}``, or a list of those."""
    if isinstance(value, list):
        if not value:
            raise _empty("inputs")
        return Inputs(tuple(_text_or_mapping(row, f"input {number}") for number, row in enumerate(value)), True)
    return Inputs((_text_or_mapping(value, "inputs"),), False)


def read_own(value: Any) -> Inputs:
    """potstill's shape: a list in which each is a text or a pair ``["a", "b"]``; a text alone is a list of one."""
    if isinstance(value, str):
        return Inputs((_text(value),), False)
    shapes = 'a list of texts and pairs ["a", "b"]'
    if not isinstance(value, list):
        raise _wrong("inputs", value, shapes)
    if not value:
        raise _empty("inputs")
    return Inputs(
        tuple(
            _text(row, f"input {number}") if isinstance(row, str) else _pair(row, f"input {number}", shapes)
            for number, row in enumerate(value)
        ),
        True,
    )


def _one_or_pair(row: Any, where: str, shapes: str) -> Text:
    if isinstance(row, list) and len(row) == 1:
        return _text(row[0], where)
    return _pair(row, where, shapes)


def _pair(row: Any, where: str, shapes: str) -> Text:
    if not isinstance(row, list) or not all(isinstance(part, str) for part in row):
        raise _wrong(where, row, shapes)
    if not row:
        raise _empty(where)
    if len(row) != 2:
        raise _complaint(WRONG, f"{where} has {len(row)} parts; allowed: {shapes}")
    return _checked_pair(row[0], row[1], where)


def _text_or_mapping(row: Any, where: str) -> Text:
    if isinstance(row, str):
        return _text(row, where)
    shapes = 'a text, {"text": "a", "text_pair": "b"}, or a list of those'
    if not isinstance(row, dict) or not {"text"} <= set(row) <= {"text", "text_pair"}:
        raise _wrong(where, row, shapes)
    if not all(isinstance(part, str) for part in row.values()):
        raise _wrong(where, row, shapes)
    return _checked_pair(row["text"], row["text_pair"], where) if "text_pair" in row else _text(row["text"], where)


def _checked_pair(first: str, second: str, where: str) -> Text:
    if not first and not second:
        raise _empty(where)
    return _encodable(first, where), _encodable(second, where)


def _text(value: Any, where: str = "inputs") -> str:
    if not isinstance(value, str):
        raise _wrong(where, value, "a text")
    if not value:
        raise _empty(where)
    return _encodable(value, where)


def _encodable(text: str, where: str) -> str:
    """The text, unless it holds half of a surrogate pair, which JSON can spell and no text has."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as broken:
        sentence = f"{where} is not Unicode: half of a surrogate pair at character {broken.start}"
        raise _complaint(WRONG, sentence) from None
    return text


def _empty(where: str) -> PydanticCustomError:
    return _complaint(EMPTY, f"{where} cannot be empty")


def _wrong(where: str, value: Any, allowed: str) -> PydanticCustomError:
    """A complaint that names the kind of value and never quotes it."""
    kinds = {dict: "an object", list: "a list", bool: "true or false", type(None): "null", str: "a text"}
    found = kinds.get(type(value), "a number")
    return _complaint(WRONG, f"{where} is {found}; allowed: {allowed}")


def _complaint(kind: LiteralString, sentence: str) -> PydanticCustomError:
    # The message of this error is a template; the braces of a shape are none.
    return PydanticCustomError(kind, "{sentence}", {"sentence": sentence})


def _texts(least: int, most: int, says: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}, "minItems": least, "maxItems": most, "description": says}


_ONE: dict[str, Any] = {"type": "string", "minLength": 1, "description": "one text"}
_MAPPING: dict[str, Any] = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "text_pair": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
    "description": "one text, or a pair",
}


def _schema(*kinds: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": list(kinds)}


def _batch(*kinds: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": _schema(*kinds), "description": "a batch"}


def _told(*kinds: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({**_schema(*kinds), "examples": ["a good film"]})


TeiInputs = Annotated[
    Inputs,
    PlainValidator(read_tei),
    _told(_ONE, _texts(1, 2, "one pair"), _batch(_texts(1, 2, "a text or a pair"))),
]
HuggingFaceInputs = Annotated[Inputs, PlainValidator(read_hugging_face), _told(_ONE, _MAPPING, _batch(_ONE, _MAPPING))]
OwnInputs = Annotated[Inputs, PlainValidator(read_own), _told(_ONE, _batch(_ONE, _texts(2, 2, "a pair")))]
