"""What ``potstill attend`` may be asked: which models, which texts, and how much of them is shown."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from potstill.errors import UsageError
from potstill.records import Text

MOST_SHOWN = 20
"""Texts in the viewer, or windows of texts."""

SAMPLE = 500
"""Texts that are measured where neither texts nor a number are given."""

RANGES = {"sample": (1, 20_000), "reach": (0, 64), "show": (1, MOST_SHOWN), "tokens": (16, 512)}


@dataclass(frozen=True)
class AttentionRequest:
    """What to look at.

    run: a fine-tuned run, or another classifier's folder. before: the encoder beside it, None for the one that the run
    was fine-tuned from; alone: none at all. texts: shown, and measured where ``sample`` is None. task, split: where a
    sample is drawn from, None for the run's task and the split it reports on. sample: rows to measure, drawn with
    ``seed``, stratified. reach: how far a token is local. show: how many texts of the sample are shown where none are
    given; tokens: of each, so many are shown. layer, head: what the page opens with: the head that changed most where
    both are None, the mean of all heads of a layer that is named alone.
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
    reach: int = 2
    show: int = 5
    tokens: int = 64
    layer: int | None = None
    head: int | None = None
    data_dir: Path | None = None

    def check(self) -> None:
        """Raise UsageError for a number out of its range, or for wishes that contradict one another."""
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise UsageError(f"{name} is out of range", found=value, allowed=f"{least} to {most}")
        if len(self.texts) > MOST_SHOWN:
            raise UsageError("too many texts to show", found=len(self.texts), allowed=f"1 to {MOST_SHOWN}")
        for text in self.texts:
            _require_characters(text)
        if self.alone and self.before is not None:
            raise UsageError("an encoder to compare with was given, and that there is none", do="leave one of them out")
        if not self.draws and (self.task or self.split):
            raise UsageError(
                "texts were given, and also where to draw texts from",
                found=self.task or self.split,
                do="say with --sample how many to measure beside those shown, or leave one of them out",
            )

    @property
    def draws(self) -> bool:
        """Whether a sample of a task is drawn."""
        return not self.texts or self.sample is not None

    @property
    def command(self) -> str:
        """The command that makes the page again, without the folders of this machine.

        Empty for what no command can say: single texts and pairs together.
        """
        singles = [text for text in self.texts if isinstance(text, str)]
        if singles and len(singles) < len(self.texts):
            return ""
        words = ["potstill", "attend", _public(self.run), "--out", _public(self.out)]
        for text in self.texts:
            first, *second = (text,) if isinstance(text, str) else text
            words += ["--text", first, *(part for other in second for part in ("--second", other))]
        words += ["--alone"] if self.alone else []
        return shlex.join([*words, *(part for flag in self._flags() for part in flag)])

    def _flags(self) -> list[tuple[str, str]]:
        given: dict[str, object] = {"before": self.before and _public(Path(self.before))}
        if self.draws:
            given |= {"task": self.task, "split": self.split, "sample": self.sample or SAMPLE, "seed": self.seed}
            given |= {} if self.texts else {"show": self.show}
        given |= {"layer": self.layer, "head": self.head, "reach": self.reach, "tokens": self.tokens}
        return [(f"--{name}", str(value)) for name, value in given.items() if value is not None]


def _require_characters(text: Text) -> None:
    for part in (text,) if isinstance(text, str) else text:
        try:
            part.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UsageError(
                "a text holds a lone surrogate, which is no character",
                found=part[max(error.start - 20, 0) : error.end + 20],
                do="read the text as what it was written in, for example UTF-8",
            ) from error


def pair_up(texts: Sequence[Text], seconds: Sequence[str]) -> tuple[Text, ...]:
    """``texts``, each with its second text where there are ``seconds``; UsageError where they are not as many."""
    if not seconds:
        return tuple(texts)
    if len(texts) != len(seconds) or not all(isinstance(text, str) for text in texts):
        raise UsageError(
            "every text of a pair needs its other one", found=f"{len(texts)} texts and {len(seconds)} second texts"
        )
    return tuple((str(first), second) for first, second in zip(texts, seconds, strict=True))


def _public(path: Path) -> str:
    return path.name if path.is_absolute() else str(path)
