"""English sentences out of docstrings: code, tables, doctests, parameter lists, headings and markup left behind."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator

MINIMUM_WORDS = 6
"""English words that a paragraph must hold."""

_UNDERLINE = re.compile(r"\s*([=\-~^#*\"'`+])\1{2,}\s*")
_RULE = re.compile(r"\s*[=+|-]{2}[=+|:\s-]*")
_FENCE = re.compile(r"\s*(?:```|~~~)")
_ANY_UNDERLINE = re.compile(r"^\s*([=\-~^#*\"'`+])\1{2,}\s*$", re.MULTILINE)
_PROMPTS = (">>>", "In [", "Out[", "... ", "$ ")
_DOCTEST = re.compile(r"\s*(?:>>>|\.\.\. |In \[|Out\[|\$ )")
_HEADING = re.compile(r"\s*[*_`]*([A-Z][A-Za-z]*(?: [A-Za-z]+){0,2})[*_`]* *::?[*_`]*")
_DIRECTIVE = re.compile(r"\s*\.\. *([\w:-]+?) *::")
_BULLET = re.compile(r"\s*(?:[-*+•]|\(?(?:\d{1,2}|[a-z])[.)])\s+")
_LEADING_LABEL = re.compile(r"\s*(?:[@#]|\.\.\s|<|%|\[\d+\])")
_FIELD = re.compile(r"\s*[:@]\w+[^:`]*:(?:\s+(.*)|$)")
_ENTRY = re.compile(r"\s*[\w.`*, /\[\]-]{1,60}?\s*(?:\([^()]*(?:\([^()]*\)[^()]*)*\))?[`*]*\s*:(?:\s+(.*)|$)")

_DESCRIBED = re.compile(
    r"(?:(?:keyword |other )?(?:parameters|args|arguments)|kwargs|params|(?:class )?attributes|properties|returns?"
    r"|yields?|raises?|warns|receives|inputs|outputs):?",
    re.IGNORECASE,
)
"""Sections that list names with types, which go, and a description of each, which stays."""

_LISTS = re.compile(
    r"(?:methods|input|output|shapes?|options|see also|references?|citations?|usage|signature|variables):?",
    re.IGNORECASE,
)
"""Sections that list names, shapes or works and do not talk."""

_EXAMPLES = re.compile(r"(?:(?:usage )?examples?|example usage):?", re.IGNORECASE)
"""Sections that are code when set off by indentation; between doctests, under a line of dashes, they do talk."""

_ADMONITIONS = frozenset({"note", "warning", "tip", "important", "caution", "attention", "hint", "danger"})
"""Directives whose content is prose; what is indented under any other is not."""

_ROLE = re.compile(r":(?:[\w+.-]+:)*([\w+-]+):`([^`]*)`")
_LITERAL = re.compile(r"(`+)(.+?)\1_{0,2}")
_TARGET = re.compile(r"(.*\S)\s*<[^<>]*>")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_CITATION = re.compile(r"(\b(?:[Ss]ee|in|by|from|of|and|to))?(?:\s*\[#?\w{1,20}\]_|\s*\[\d+\])")
_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,2})([^*\s](?:[^*]*[^*\s])?)\1(?![\w*])")
_BRACKETED_NAME = re.compile(r"\[~?([A-Za-z_][\w.]*)\]")
_STRAIGHT = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "\u00a0": " ", "–": "-", "—": "-"})
_UNREADABLE = "\x00"

_ENDED = re.compile(r"[.!?](?:[\"')\]*_`]|\s|$)")
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\.\.)[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|cf|vs|al|Figs?|Eqs?|Secs?|Refs?|No|Dr|Mr|St|resp|approx|[A-Z]))\.$")
_SENTENCE = re.compile(r"[\"'(]*[A-Z][A-Za-z0-9 ,;:.!?'\"()/%&+_\[\]-]*[.!?][\"')]*")
_SUSPECT = re.compile(
    r"\.\.|::|__|https?:|www\.|sphx_glr|\(\s*\)\.|[A-Za-z]\[|\S\(\w+,"
    r"|\b(?:TODO|FIXME|XXX|Copyright|Licensed?)\b"
)
_WORD = re.compile(r"(?<![\w.'-])(?:[A-Z]?[a-z]+|[A-Z]{2,5}|[AI])(?:['-][A-Za-z]?[a-z]*)*(?![\w'(-]|\.\w)")
_FUNCTION_WORD = re.compile(
    r"\b(?:an?|the|th[io]se?|that|its?|is|are|was|were|be|been|has|have|had|do|does|can|could|may|might|must|should|will"
    r"|would|not?|of|in|on|at|to|for|from|by|with|as|into|than|if|when|while|where|which|who|whose|and|or|but|then|each"
    r"|any|all|some|only|also|there|your?|we|our|they|their)\b",
    re.IGNORECASE,
)


def paragraphs(docstring: str) -> Iterator[str]:
    """The paragraphs of prose in a docstring, each of whole sentences in plain text with single spaces."""
    for block in _blocks(_talking_lines(docstring)):
        text = " ".join(map(str.strip, block))
        if not _ENDED.search(text):
            continue
        sentences = [(sentence, count) for sentence in _sentences(_plain(text)) if (count := _count_words(sentence))]
        if sum(count for _, count in sentences) >= MINIMUM_WORDS:
            yield " ".join(sentence for sentence, _ in sentences)


def _talking_lines(docstring: str) -> Iterable[str]:
    """The docstring's lines with all that does not talk left blank; most docstrings need few of the passes."""
    clean = inspect.cleandoc(docstring)
    lines: Iterable[str] = clean.splitlines()
    if "\n" not in clean:
        return lines
    if "```" in clean or "~~~" in clean:
        lines = _without_fences(lines)
    if any(prompt in clean for prompt in _PROMPTS):
        lines = _without_doctests(lines)
    if _ANY_UNDERLINE.search(clean):
        lines = _without_sections(lines)
    if ":" in clean:
        lines = _without_indented(_without_names(lines))
    return lines


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _without_fences(lines: Iterable[str]) -> Iterator[str]:
    """Blank the code between two Markdown fences; a fence never closed takes the rest along."""
    inside = False
    for line in lines:
        fence = bool(_FENCE.match(line))
        yield "" if inside or fence else line
        inside ^= fence and line.count("```") < 2


def _without_doctests(lines: Iterable[str]) -> Iterator[str]:
    """Blank interpreter sessions, from the prompt to the next blank line."""
    inside = False
    for line in lines:
        inside = bool(line.strip()) and (inside or bool(_DOCTEST.match(line)))
        yield "" if inside else line


def _without_sections(lines: Iterable[str]) -> Iterator[str]:
    """Blank underlined headings, the sections that only list, and the lines "name : type" of those that describe."""
    kept = list(lines)
    underlines = [_UNDERLINE.fullmatch(line) is not None for line in [*kept, ""]]
    listing = describing = False
    for i, line in enumerate(kept):
        heads = underlines[i + 1] and line.strip()
        if heads:
            listing, describing = (bool(kind.fullmatch(line.strip())) for kind in (_LISTS, _DESCRIBED))
        underline = underlines[i] and i > 0 and kept[i - 1].strip()
        yield "" if heads or underline or listing or (describing and not line[:1].isspace()) else line


def _without_names(lines: Iterable[str]) -> Iterator[str]:
    """Turn the entries "name (type): description" under a heading such as "Args:", and fields, into items of a list."""
    margin = level = None
    for line in lines:
        if margin is not None and line.strip() and _indent(line) <= margin:
            margin = level = None
        heading = _HEADING.fullmatch(line) if margin is None and ":" in line else None
        if heading is not None and _DESCRIBED.fullmatch(heading[1]):
            margin = _indent(line)
            yield ""
            continue
        if margin is not None and level is None and line.strip():
            level = _indent(line)
        entry = _FIELD.match(line) or (_ENTRY.match(line) if line.strip() and level == _indent(line) else None)
        if entry is None:
            yield line
        else:
            yield f"{' ' * _indent(line)}* {entry[1]}" if entry[1] else ""


def _without_indented(lines: Iterable[str]) -> Iterator[str]:
    """Blank what is indented under "::", a directive that holds no prose, or the heading of a list; and their lines."""
    margin: int | None = None
    for line in lines:
        if line.strip() and margin is not None and _indent(line) <= margin:
            margin = None
        if margin is not None or not line.strip():
            yield ""
            continue
        heading, directive = _HEADING.fullmatch(line) if ":" in line else None, _DIRECTIVE.match(line)
        listing = heading is not None and (_LISTS.fullmatch(heading[1]) or _EXAMPLES.fullmatch(heading[1]))
        talking = directive is not None and directive[1] in _ADMONITIONS
        if listing or line.rstrip().endswith("::") or (line.lstrip().startswith(".. ") and not talking):
            margin = _indent(line)
        yield _DIRECTIVE.sub("", line) if talking else "" if listing or directive or heading else line


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    """Runs of lines that may be prose: a paragraph or an item of a list each; tables and fields left out."""
    block: list[str] = []
    hanging = False
    for line in [*lines, ""]:
        bullet = _BULLET.match(line)
        moved = bool(block) and _indent(line) != _indent(block[-1]) and not (hanging and len(block) == 1)
        if not line.strip() or bullet or moved:
            if block and not _is_tabular(block):
                yield block
            block, hanging = [], bool(bullet)
        if line.strip():
            block.append(" " * (bullet.end() if bullet else 0) + line[bullet.end() :] if bullet else line)


def _is_tabular(block: list[str]) -> bool:
    return _LEADING_LABEL.match(block[0]) is not None or any(
        line.count("|") > 1 or _RULE.fullmatch(line) for line in block
    )


def _plain(text: str) -> str:
    """The text without reStructuredText or Markdown markup; formulas become a character that no sentence may hold."""
    if not text.isascii():
        text = text.translate(_STRAIGHT)
    if "`" in text:
        text = _LITERAL.sub(lambda found: _named(found[2]), _ROLE.sub(_role_text, text))
    if "[" in text:
        text = _BRACKETED_NAME.sub(r"\1", _CITATION.sub(_cited_text, _LINK.sub(r"\1", text)))
    if "*" in text:
        text = _EMPHASIS.sub(r"\2", text)
    return " ".join(text.split())


def _role_text(found: re.Match[str]) -> str:
    return _UNREADABLE if found[1] == "math" else _named(found[2])


def _cited_text(found: re.Match[str]) -> str:
    """Nothing, but where the citation is a word of the sentence ("as shown in [1]"), which is then no use."""
    return _UNREADABLE if found[1] else ""


def _named(content: str) -> str:
    """What a reference shows: its title if it has one, the last part of a path if it is shortened by a tilde."""
    titled = _TARGET.fullmatch(content)
    shown = (titled[1] if titled else content).strip().lstrip("!")
    return shown.rpartition(".")[2].lstrip("~") if shown.startswith("~") else shown


def _sentences(text: str) -> Iterator[str]:
    """A plain paragraph cut after each full stop that ends a sentence."""
    pieces: list[str] = []
    start = 0
    for gap in _SENTENCE_END.finditer(text):
        if not _ABBREVIATION.search(text, start, gap.start()):
            pieces.append(text[start : gap.end()].strip())
            start = gap.end()
    yield from (*pieces, text[start:])


def _count_words(piece: str) -> int:
    """The number of English words if the piece is an English sentence and holds no code, else 0."""
    if not _SENTENCE.fullmatch(piece) or _SUSPECT.search(piece):
        return 0
    if piece.count("(") != piece.count(")") or piece.count('"') % 2 or piece.count("[") != piece.count("]"):
        return 0
    n_words = len(_WORD.findall(piece))
    return n_words if n_words >= max(4, 0.7 * len(piece.split())) and _FUNCTION_WORD.search(piece) else 0
