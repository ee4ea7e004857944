"""What each field of an ablation is worth: main effects over matched arms, interactions, shares of the variance.

Levels of a field are compared over arms that agree in every other field and have all of the levels, so that nothing
else differs: in a full grid those are all arms.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from potstill.analyse.ablation.standings import Scores, adjust
from potstill.evaluate.significance import Interval, PairedChange

Settings = Sequence[Mapping[str, Any]]
"""Field → value, for each arm in the order of the scores."""


@dataclass(frozen=True)
class LevelEffect:
    """A value of a field: the mean over the matched arms that have it, and the change from the reference value."""

    level: Any
    mean: Interval
    change: PairedChange | None
    p_adjusted: float | None


@dataclass(frozen=True)
class FieldEffect:
    """A field's values. ``reference``: the baseline's value, or else the first; n_sets: matched sets of arms."""

    field: str
    reference: Any
    levels: tuple[LevelEffect, ...]
    n_sets: int

    @property
    def span(self) -> float:
        """The distance between the largest and the smallest mean that there is, in the metric's unit."""
        values = [level.mean.value for level in self.levels if not math.isnan(level.mean.value)]
        return max(values) - min(values) if values else 0.0


@dataclass(frozen=True)
class Contrast:
    """A difference of differences: what ``level`` changes under ``other_level``, less what it does by itself."""

    level: Any
    other_level: Any
    change: PairedChange
    p_adjusted: float | None


@dataclass(frozen=True)
class Interaction:
    """Two fields of which every pair of values was run alike. ``cells``: mean of each pair, ``(n_levels, n_others)``.

    references: the values by themselves, from which contrasts are taken; contrasts: the strongest first.
    """

    fields: tuple[str, str]
    levels: tuple[tuple[Any, ...], tuple[Any, ...]]
    references: tuple[Any, Any]
    cells: tuple[tuple[float, ...], ...]
    contrasts: tuple[Contrast, ...]
    n_sets: int


@dataclass(frozen=True)
class VarianceShares:
    """Shares of the variance between the arms' means in a full grid: of fields, of pairs, and of what is left.

    chance: the share that seeds alone would be expected to make if all arms were equal; None for one seed.
    """

    fields: Mapping[str, float]
    pairs: Mapping[tuple[str, str], float]
    rest: float
    chance: float | None


def main_effects(
    scores: Scores, settings: Settings, fields: Sequence[str], reference: Mapping[str, Any]
) -> list[FieldEffect]:
    """The effect of every field that some matched arms differ in; p-values corrected for the values of all fields.

    ``reference``: the values that others are held against, those of the baseline.
    """
    drafts = [found for field in fields if (found := _main_effect(scores, settings, field, reference)) is not None]
    corrected = iter(adjust([level.change for effect in drafts for level in effect.levels]))
    return [
        replace(effect, levels=tuple(replace(level, p_adjusted=next(corrected)) for level in effect.levels))
        for effect in drafts
    ]


def _main_effect(scores: Scores, settings: Settings, field: str, reference: Mapping[str, Any]) -> FieldEffect | None:
    sets = _sets(settings, (field,))
    chosen = max((tuple(found) for found in sets), key=lambda keys: (len(keys), _n_with(sets, keys)), default=())
    if len(chosen) < 2:
        return None
    matched = [found for found in sets if set(found) >= set(chosen)]
    arms = {key: [found[key] for found in matched] for key in chosen}
    values = {key: settings[numbers[0]][field] for key, numbers in arms.items()}
    ordered = sorted(chosen, key=lambda key: _order(values[key]))
    own = _key(reference, (field,))
    base = own if own in arms else ordered[0]
    levels = [
        LevelEffect(
            values[key],
            scores.interval(arms[key]),
            None if key == base else scores.change(arms[key], arms[base]),
            None,
        )
        for key in ordered
    ]
    return FieldEffect(field, values[base], tuple(levels), len(matched))


def _n_with(sets: Sequence[Mapping[str, int]], keys: Sequence[str]) -> int:
    return sum(set(found) >= set(keys) for found in sets)


def _sets(settings: Settings, fields: Sequence[str]) -> list[dict[str, int]]:
    """Arms that agree in all but ``fields``: for each such set, the arm's number by its values of ``fields``."""
    found: dict[str, dict[str, int]] = {}
    for number, values in enumerate(settings):
        others = _key(values, [field for field in values if field not in fields])
        found.setdefault(others, {})[_key(values, fields)] = number
    return list(found.values())


def _key(values: Mapping[str, Any], fields: Sequence[str]) -> str:
    return json.dumps([values[field] for field in fields], sort_keys=True)


def _order(value: Any) -> tuple[int, float, str]:
    """Nothing, then numbers by size, then words; what has no order of its own as it is written."""
    if value is None:
        return 0, 0.0, ""
    if isinstance(value, int | float):
        return 1, float(value), ""
    return 2, 0.0, json.dumps(value)


def interactions(
    scores: Scores, settings: Settings, fields: Sequence[str], reference: Mapping[str, Any]
) -> list[Interaction]:
    """Every pair of fields of which all pairs of values were run, at some values of the other fields at least.

    A pair with an arm without a value is left out: what it would be beside that is not known.
    p-values are corrected for all contrasts of all pairs.
    """
    pairs = itertools.combinations(fields, 2)
    drafts = [found for pair in pairs if (found := _interaction(scores, settings, pair, reference)) is not None]
    corrected = iter(adjust([contrast.change for draft in drafts for contrast in draft.contrasts]))
    adjusted = []
    for draft in drafts:
        contrasts = [replace(contrast, p_adjusted=next(corrected)) for contrast in draft.contrasts]
        contrasts.sort(key=lambda one: -abs(one.change.difference.value))
        adjusted.append(replace(draft, contrasts=tuple(contrasts)))
    return adjusted


def _interaction(
    scores: Scores, settings: Settings, pair: tuple[str, str], reference: Mapping[str, Any]
) -> Interaction | None:
    ours, theirs = (_levels(settings, field) for field in pair)
    keys = [[json.dumps([a, b], sort_keys=True) for b in theirs] for a in ours]
    full = [found for found in _sets(settings, pair) if all(key in found for row in keys for key in row)]
    if not full or len(ours) < 2 or len(theirs) < 2:
        return None
    cells = [[[found[key] for found in full] for key in row] for row in keys]
    if np.isnan(scores.means[np.array(cells)]).any():
        return None
    at, by = _place(ours, reference[pair[0]]), _place(theirs, reference[pair[1]])
    contrasts = [
        Contrast(
            ours[i], theirs[j], _double_change(scores, cells[i][j], cells[at][j], cells[i][by], cells[at][by]), None
        )
        for i in range(len(ours))
        for j in range(len(theirs))
        if i != at and j != by
    ]
    means = tuple(tuple(float(scores.means[cell].mean()) for cell in row) for row in cells)
    return Interaction(pair, (tuple(ours), tuple(theirs)), (ours[at], theirs[by]), means, tuple(contrasts), len(full))


def _levels(settings: Settings, field: str) -> list[Any]:
    """The field's values over all arms, in order."""
    values = {json.dumps(arm[field], sort_keys=True): arm[field] for arm in settings}
    return sorted(values.values(), key=_order)


def _place(levels: Sequence[Any], value: Any) -> int:
    return levels.index(value) if value in levels else 0


def _double_change(
    scores: Scores, both: Sequence[int], second: Sequence[int], first: Sequence[int], neither: Sequence[int]
) -> PairedChange:
    """(both − second) − (first − neither), each a mean over as many arms: twice the change between two means of all."""
    change = scores.change([*both, *neither], [*first, *second])
    half = change.difference
    doubled = replace(half, value=2 * half.value, low=2 * half.low, high=2 * half.high)
    return PairedChange(doubled, None, change.p_value)


def variance_shares(scores: Scores, settings: Settings, fields: Sequence[str]) -> VarianceShares | None:
    """Sums of squares of a full grid of ``fields`` (each combination once), as shares of their total.

    The arms of ``scores`` are those of the grid. None where a combination is missing or doubled, and where all arms
    have one mean. Fisher's decomposition of a balanced design; what more than two fields make together is the rest.
    """
    levels = [_levels(settings, field) for field in fields]
    keys = [tuple(_place(level, arm[field]) for level, field in zip(levels, fields, strict=True)) for arm in settings]
    shape = tuple(map(len, levels))
    if len(set(keys)) != len(keys) or len(keys) != int(np.prod(shape)) or len(fields) < 2:
        return None
    table = np.empty(shape)
    table[tuple(np.array(keys).T)] = scores.means
    centred = table - table.mean()
    total = float((centred**2).sum())
    if not total > 0:
        return None
    main = [_margin(centred, (axis,)) for axis in range(len(fields))]
    of_fields = {
        field: float((part**2).sum()) / total for field, part in zip(fields, _spread(main, shape), strict=True)
    }
    of_pairs = {}
    for one, other in itertools.combinations(range(len(fields)), 2):
        part = _margin(centred, (one, other)) - main[one] - main[other]
        of_pairs[fields[one], fields[other]] = float((np.broadcast_to(part, shape) ** 2).sum()) / total
    rest = max(0.0, 1.0 - sum(of_fields.values()) - sum(of_pairs.values()))
    return VarianceShares(of_fields, of_pairs, rest, _chance(scores, total))


def _margin(table: np.ndarray, kept: tuple[int, ...]) -> np.ndarray:
    """The means over all axes but those kept, with the table's number of axes."""
    return table.mean(axis=tuple(axis for axis in range(table.ndim) if axis not in kept), keepdims=True)


def _spread(parts: Sequence[np.ndarray], shape: tuple[int, ...]) -> list[np.ndarray]:
    return [np.broadcast_to(part, shape) for part in parts]


def _chance(scores: Scores, total: float) -> float | None:
    if scores.n_seeds < 2:
        return None
    of_a_mean = float(scores.per_seed.var(axis=1, ddof=1).mean()) / scores.n_seeds
    return of_a_mean * (len(scores.arms) - 1) / total
