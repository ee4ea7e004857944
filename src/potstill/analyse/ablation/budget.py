"""Whether the arms of an ablation were trained at equal budget: by what the runs recorded, not by what was planned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SLACK = 0.01
"""Tokens that differ by no more than this share are called equal, and the share is told: a last batch may be cut."""


@dataclass(frozen=True)
class ArmBudget:
    """What one arm was given.

    rows: split → rows; data: fingerprint of all of them; tokens and steps: of each seed's fine-tuning, in the order of
    ``seeds``; tokens_before: of each training that it starts from, by what that is (``distillation``); precision: the
    arithmetic of its trainings.
    """

    arm: str
    rows: Mapping[str, int]
    data: str
    seeds: tuple[int, ...]
    tokens: tuple[int, ...]
    steps: tuple[int, ...]
    tokens_before: Mapping[str, int]
    precision: tuple[str, ...]


@dataclass(frozen=True)
class BudgetStatement:
    """``equal``, a sentence that says it with its figures, and one more for each thing that has to be known.

    undeclared: the arms differ in what nobody declared; that is no ablation but an accident.
    """

    equal: bool
    sentence: str
    remarks: tuple[str, ...]
    undeclared: bool


def state_budget(budgets: Sequence[ArmBudget], unequal: Sequence[str]) -> BudgetStatement:
    """What the runs say of their budget; ``unequal`` are the fields that were declared to change it."""
    differences = [text for text in (_rows(budgets), _seeds(budgets), _tokens(budgets), *_before(budgets)) if text]
    remarks = [text for text in (_steps(budgets), *_without(budgets), _arithmetic(budgets)) if text]
    declared = f"as declared for {_listed(unequal)}" if unequal else "which the grid does not declare"
    if differences:
        sentence = f"The arms are not at equal budget, {declared}: {'; '.join(differences)}."
        return BudgetStatement(False, sentence, tuple(remarks), not unequal)
    if unequal:
        remarks.append(f"{_listed(unequal)} was declared to change the budget, and what the runs recorded is equal.")
    return BudgetStatement(True, _equal_sentence(budgets), tuple(remarks), False)


def _equal_sentence(budgets: Sequence[ArmBudget]) -> str:
    first = budgets[0]
    parts = [f"the same {first.rows['train']:,} training rows", f"the same {_n(len(first.seeds), 'seed')}"]
    parts.append(f"{_span([token for budget in budgets for token in budget.tokens])} tokens of fine-tuning")
    parts += [f"{_span(list(counts.values()))} tokens of {what}" for what, counts in _trainings(budgets).items()]
    return f"All {len(budgets)} arms were trained at equal budget: {_listed(parts)} each."


def _rows(budgets: Sequence[ArmBudget]) -> str:
    if len({budget.data for budget in budgets}) == 1:
        return ""
    trained = _groups(budgets, lambda budget: f"{budget.rows['train']:,}")
    if len(trained) == 1:
        return f"{next(iter(trained))} training rows each, which are not the same rows or texts"
    return f"training rows {_told(trained)}"


def _seeds(budgets: Sequence[ArmBudget]) -> str:
    groups = _groups(budgets, lambda budget: _listed([str(seed) for seed in budget.seeds]))
    return "" if len(groups) == 1 else f"seeds {_told(groups)}"


def _tokens(budgets: Sequence[ArmBudget]) -> str:
    by_seed = list(zip(*(budget.tokens for budget in budgets), strict=False))
    if all(_alike(tokens) for tokens in by_seed):
        return ""
    return f"tokens of fine-tuning {_told(_groups(budgets, lambda budget: f'{sum(budget.tokens):,}'))}"


def _before(budgets: Sequence[ArmBudget]) -> list[str]:
    """What differs in the trainings before fine-tuning, among the arms that had them."""
    told = []
    for what, counts in _trainings(budgets).items():
        if not _alike(list(counts.values())):
            groups: dict[str, list[str]] = {}
            for arm, tokens in counts.items():
                groups.setdefault(f"{tokens:,}", []).append(arm)
            told.append(f"tokens of {what} {_told(groups)}")
    return told


def _trainings(budgets: Sequence[ArmBudget]) -> dict[str, dict[str, int]]:
    """Each training before fine-tuning that any arm had: its tokens by arm."""
    found: dict[str, dict[str, int]] = {}
    for budget in budgets:
        for what, tokens in budget.tokens_before.items():
            if tokens:
                found.setdefault(what, {})[budget.arm] = tokens
    return found


def _alike(counts: Sequence[int]) -> bool:
    return not counts or max(counts) - min(counts) <= SLACK * max(counts)


def _steps(budgets: Sequence[ArmBudget]) -> str:
    steps = [count for budget in budgets for count in budget.steps]
    if _alike(steps):
        return ""
    return f"Steps of the optimiser differ, from {min(steps):,} to {max(steps):,} a fine-tuning."


def _without(budgets: Sequence[ArmBudget]) -> list[str]:
    told = []
    for what, counts in _trainings(budgets).items():
        if len(counts) < len(budgets):
            without = [budget.arm for budget in budgets if budget.arm not in counts]
            told.append(f"Without {what}: {_listed(without)}.")
    return told


def _arithmetic(budgets: Sequence[ArmBudget]) -> str:
    groups = _groups(budgets, lambda budget: _listed(budget.precision) if budget.precision else "none")
    return "" if len(groups) == 1 else f"The arithmetic of training differs: {_told(groups)}."


def _groups(budgets: Sequence[ArmBudget], value: Callable[[ArmBudget], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for budget in budgets:
        found.setdefault(value(budget), []).append(budget.arm)
    return found


def _told(groups: Mapping[str, Sequence[str]], most: int = 3) -> str:
    """``1,000 (a, b) and 10,000 (c)``; of many values the number of arms instead of their names."""
    told = []
    for value, arms in groups.items():
        told.append(f"{value} ({_listed(arms) if len(arms) <= most else f'{len(arms)} arms'})")
    return _listed(told)


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _n(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _listed(words: Sequence[Any]) -> str:
    items = [str(word) for word in words]
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
