"""What every page shares: one file with its styles, figures and script inside, which asks nothing of any network."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

TEMPLATES = Path(__file__).parent / "templates"


def fill_page(
    template: str, *, title: str, styles: Sequence[str] = (), scripts: Sequence[str] = (), **content: Any
) -> str:
    """A self-contained page of a template that extends the shell, as HTML text.

    ``styles`` and ``scripts`` name files beside the template, which follow those that every page has.
    """
    inside = {"styles": _inline("page.css", *styles), "script": _inline("page.js", *scripts)}
    return environment().get_template(template).render(title=title, **inside, **content)


def embed_json(content: Any) -> Markup:
    """``content`` as compact JSON that cannot end the ``<script type="application/json">`` it stands in."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate({ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}))


def environment(*, autoescape: bool = True) -> Environment:
    """Jinja2 over this room's templates; a name the template does not know is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["breakable"] = _breakable
    return made


def _breakable(text: str) -> Markup:
    """``text``, escaped, that a browser may break behind each comma."""
    return Markup("<wbr>").join(escape(part) for part in _PARTS.split(text))


_PARTS = re.compile(r"(?<=,)(?=\S)")


def _inline(*names: str) -> Markup:
    return Markup("".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names))
