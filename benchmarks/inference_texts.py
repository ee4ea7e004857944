"""Texts that ``inference.py`` measures with, tunes with and warms up on; none is met twice by a model that was opened.

The processes of the arms read them from files, so that their memory is their own, without the data's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from potstill.runs import write_json

KINDS = {"bulk": 256, "one": 200}
"""Kinds of work and how many texts a slice has."""

N_SLICES, WARM_UP_SHARE = 3, 4
"""Slices of ``bulk``; texts that warm up are one for every four of a slice, in either kind."""


class Portions(NamedTuple):
    """Texts of one distribution: some that an arm warms up on, and slices that are timed."""

    warm_up: list[str]
    slices: list[list[str]]

    def every(self, nth: int) -> Portions:
        """Every nth text of each portion."""
        return Portions(self.warm_up[::nth], [texts[::nth] for texts in self.slices])

    @property
    def texts(self) -> list[str]:
        """Those that are timed, one slice after another."""
        return [text for texts in self.slices for text in texts]


def draw_portions(data_dir: Path, kind: str, n_texts: int) -> dict[str, Portions]:
    """Portions to measure with, whose slices have so many texts, and others to tune with, half as large."""
    n_warm_up, n_slices = -(-n_texts // WARM_UP_SHARE), N_SLICES if kind == "bulk" else 1
    n_needed = n_slices * n_texts + n_warm_up
    if kind == "bulk":
        pools = [texts_of(data_dir, split, n_needed) for split in ("test", "train")]
    else:
        texts = _single_texts(data_dir, 2 * n_needed)
        pools = [texts[::2], texts[1::2]]
    measured, tuning = (_portions(pool, n_slices, n_warm_up) for pool in pools)
    return {"measured": measured, "tuning": tuning.every(2)}


def _portions(texts: Sequence[str], n_slices: int, n_warm_up: int) -> Portions:
    """The texts dealt out, so that each portion has some of every region."""
    warming = set(np.linspace(0, len(texts) - 1, n_warm_up).round().astype(int).tolist())
    rest = [text for number, text in enumerate(texts) if number not in warming]
    n_each = len(rest) // n_slices
    return Portions(
        [texts[number] for number in sorted(warming)], [rest[i::n_slices][:n_each] for i in range(n_slices)]
    )


def texts_of(data_dir: Path, split: str, n_texts: int) -> list[str]:
    """Texts of DBpedia, evenly spaced."""
    return [str(text) for text in _texts_of_task("dbpedia_14", data_dir, split, n_texts)]


def _single_texts(data_dir: Path, n_texts: int) -> list[str]:
    """Both sentences of a pair of STS-B as one text, evenly spaced."""
    return [" ".join(pair) for pair in _texts_of_task("stsb", data_dir, "train", n_texts)]


def _texts_of_task(name: str, data_dir: Path, split: str, n_texts: int) -> Sequence[str | tuple[str, ...]]:
    from potstill.data.catalogue import get_task
    from potstill.data.tasks import load_task

    rows = load_task(get_task(name), data_dir=data_dir).split(split)
    if n_texts > len(rows):
        raise SystemExit(f"{name} has {len(rows)} texts in split {split}, and {n_texts} are needed: lower --texts")
    return list(rows.select(np.linspace(0, len(rows) - 1, n_texts).round().astype(int)).texts)


def keep_portions(work: Path, kind: str, portions: dict[str, Portions]) -> None:
    """Write them for the processes of the arms."""
    write_json(_file(work, kind), {purpose: dealt._asdict() for purpose, dealt in portions.items()})


def kept_portions(work: Path, kind: str, purpose: str) -> Portions:
    """The portions to measure with, or those of ``tuning``."""
    return Portions(**json.loads(_file(work, kind).read_text(encoding="utf-8"))[purpose])


def _file(work: Path, kind: str) -> Path:
    return work / f"texts-{kind}.json"
