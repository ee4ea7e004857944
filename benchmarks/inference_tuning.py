"""The setting in which each peer of ``inference.py`` is fastest, found once and kept beside the classifier's form."""

from __future__ import annotations

import gc
import itertools
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from inference_peers import CORES, FORMS, OPENERS, Classify, Setting
from potstill.runs import read_json, write_json

BATCHES, BATCHES_OF_TRANSFORMERS = (1, 2, 4, 8, 16, 32, 64), (1, 4, 8, 16, 32)
FINALISTS = 3
"""So many of the fastest are tried with more jobs and other bindings, too."""

TUNED = {"bulk": tuple(OPENERS), "one": tuple(FORMS)}
"""Peers that are tuned for each kind of work."""


def candidates(arm: str, kind: str) -> list[Setting]:
    """What is tried first."""
    forms = FORMS.get(arm, ("",))
    if kind == "one":
        return [Setting(form, alone=True) for form in forms]
    if arm not in FORMS:
        return [Setting(batch=batch) for batch in BATCHES_OF_TRANSFORMERS]
    tried = itertools.product(forms, (1, CORES), BATCHES)
    return [Setting(form, batch=batch, streams=streams, jobs=streams) for form, streams, batch in tried]


def refinements(arm: str, setting: Setting) -> list[Setting]:
    """The same with one job more under way, and in OpenVINO with threads that are not bound to cores."""
    jobs = (setting.jobs, setting.jobs + 1) if arm in FORMS and not setting.alone else (setting.jobs,)
    bindings = (True, False) if arm == "openvino" else (True,)
    tried = [replace(setting, jobs=n, pinned=pinned) for n, pinned in itertools.product(jobs, bindings)]
    return [refined for refined in tried if refined != setting]


def tune(work: Path, arm: str, kind: str, rate: Callable[[Classify], float]) -> None:
    """Find the fastest setting by ``rate``, in texts a second, and keep it with all that were tried."""
    rates: dict[Setting, float] = {}

    def try_all(settings: list[Setting]) -> None:
        for setting in settings:
            gc.collect()  # what the last one ran with
            rates[setting] = rate(OPENERS[arm](work, setting))
            print(f"{arm}, {setting.told}: {rates[setting]:.1f} texts a second", file=sys.stderr, flush=True)

    first = candidates(arm, kind)
    try_all(first)
    for setting in _fastest(rates)[:FINALISTS]:
        try_all(refinements(arm, setting))
    tried = [{**asdict(setting), "texts_per_s": rates[setting]} for setting in rates]
    write_json(
        _file(work, arm, kind), {"candidates": _plain(first), "best": asdict(_fastest(rates)[0]), "tried": tried}
    )


def _fastest(rates: dict[Setting, float]) -> list[Setting]:
    return sorted(rates, key=lambda setting: -rates[setting])


def is_tuned(work: Path, arm: str, kind: str) -> bool:
    """Whether it was tuned before, among the same candidates; with its form of the classifier the setting goes too."""
    found = read_json(_file(work, arm, kind))
    return found is not None and found["candidates"] == _plain(candidates(arm, kind))


def setting_of(work: Path, arm: str, kind: str) -> Setting:
    """What ``tune`` found."""
    return Setting(**json.loads(_file(work, arm, kind).read_text(encoding="utf-8"))["best"])


def _plain(settings: list[Setting]) -> list[dict[str, Any]]:
    return [asdict(setting) for setting in settings]


def _file(work: Path, arm: str, kind: str) -> Path:
    artefact = arm if arm in FORMS else "transformers"
    return work / artefact / f"{arm}-{kind}.setting.json"
