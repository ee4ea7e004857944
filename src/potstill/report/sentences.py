"""Sentences computed from a report's numbers. None is written by hand for one result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isnan, nan
from statistics import fmean, median

from potstill.evaluate.speed import clear_ratio
from potstill.report.evidence import ArmEvidence, History, Report, TaskEvidence

SIGNIFICANT = 0.05
"""Below this p-value a difference from the teacher is called one that chance does not explain."""

RISE = 0.01
"""Validation loss that ends more than this share above its minimum is said to have risen."""


def verdict(report: Report) -> str:
    """What was kept, at what size and speed, and how sure that is: two to four sentences."""
    student = _first_student(report)
    if student is None:
        return "No student was measured yet; the figures below are the teacher's and the baselines' own."
    if all(len(task.arms) == 1 for task in report.tasks):
        return " ".join(_alone(task, task.arms[0]) for task in report.tasks)
    sentences = [_kept(report, student), _beside_baselines(report, student), _chance(report, student)]
    return " ".join(sentence for sentence in sentences if sentence)


def _alone(task: TaskEvidence, arm: ArmEvidence) -> str:
    """The figure of a model that nothing was measured beside."""
    value, interval = arm.medians.get(task.metric, nan), arm.intervals.get(task.metric)
    reached = "could not be measured by" if isnan(value) else f"reaches {value:.3f} in"
    sure = f" (95% interval {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    rows = f"{task.rows[task.split]:,} texts" if task.split in task.rows else "the texts"
    return f"“{arm.name}” {reached} {task.metric}{sure} on {rows} of {task.split}; it was compared with no other model."


def mean_retention(report: Report, arm_name: str) -> float | None:
    """Plain mean of an arm's retention over all tasks; None where one is missing, for arms must be held alike."""
    known = [arm.retention for _, arm in report.arms_named(arm_name) if arm.retention is not None]
    return fmean(known) if known and len(known) == len(report.tasks) else None


def median_over_tasks(report: Report, arm_name: str, field_name: str) -> float | None:
    """Median over the tasks of one of an arm's figures (``latency_ms``, ``n_parameters``, …), or None."""
    known = [value for _, arm in report.arms_named(arm_name) if (value := getattr(arm, field_name)) is not None]
    return median(known) if known else None


def over_all_tasks(report: Report, arm_name: str, field_name: str) -> list[float]:
    """All values on all tasks of one of an arm's fields of several values (``latency_ratios``, …)."""
    return [value for _, arm in report.arms_named(arm_name) for value in getattr(arm, field_name)]


def rising_loss(history: History) -> str | None:
    """A warning where validation loss ends above its minimum by more than 1%, else None."""
    points = [(row.get("epoch"), row["eval_loss"]) for row in history if row.get("eval_loss") is not None]
    if len(points) < 2:
        return None
    best_at, best = min(points, key=lambda point: point[1])
    last_at, last = points[-1]
    if best_at == last_at or last <= best + RISE * abs(best):
        return None
    return (
        f"Validation loss rose from {best:.3f} (epoch {best_at:g}) to {last:.3f} (epoch {last_at:g}): "
        "the later epochs fit the training texts, not the task."
    )


def truncation(task: TaskEvidence) -> str:
    """Which share of the reported texts was cut for length; arms that share it are named together."""
    by_share: dict[float, list[str]] = {}
    for arm in task.arms:
        if arm.truncated_share is not None:
            by_share.setdefault(arm.truncated_share, []).append(arm.name)
    if not by_share:
        return "It was not recorded how many texts were longer than the models take."
    if set(by_share) == {0.0}:
        return f"No text of {task.split} was longer than the models take."
    if len(by_share) == 1:
        return f"{percent(next(iter(by_share)))} of the texts of {task.split} were cut at the models' maximum length."
    shares = ", ".join(f"{percent(share)} for {_listed(names)}" for share, names in by_share.items())
    return f"Texts of {task.split} cut at the maximum length: {shares}."


def significance(arm: ArmEvidence) -> str:
    """The p-value of the difference from the teacher, as text; empty where there is none."""
    if arm.p_value is None:
        return ""
    return "p < 0.001" if arm.p_value < 0.001 else f"p = {arm.p_value:.3f}"


def percent(share: float | None) -> str:
    """``0.9735`` as ``97.3%``; an en dash for None."""
    return "–" if share is None else f"{100 * share:.1f}%"


def _kept(report: Report, student: str) -> str:
    known = [(task.name, arm.retention) for task, arm in report.arms_named(student) if arm.retention is not None]
    if not known:
        return f"{_named(student)} was measured; no share of the teacher's quality could be computed."
    mean = fmean(retention for _, retention in known)
    if len(known) == 1:
        kept = f"{_named(student)} kept {percent(mean)} of its teacher's quality on {known[0][0]}"
    else:
        worst, lowest = min(known, key=lambda pair: pair[1])
        kept = (
            f"{_named(student)} kept {percent(mean)} of its teacher's quality on average over {len(known)} tasks "
            f"(least on {worst}: {percent(lowest)})"
        )
    return kept + _smaller_and_faster(report, student) + "."


def _smaller_and_faster(report: Report, student: str) -> str:
    teacher = _name_of_role(report, "teacher")
    if teacher is None:
        return ""
    parts = []
    theirs, ours = (median_over_tasks(report, name, "n_parameters") for name in (teacher, student))
    if theirs and ours:
        change = 1 - ours / theirs
        parts.append(f"{percent(abs(change))} {'fewer' if change >= 0 else 'more'} parameters")
    if ratios := over_all_tasks(report, student, "latency_ratios"):
        parts.append(_speed(clear_ratio(ratios)))
    return f", with {_listed(parts)}" if parts else ""


def _speed(ratio: float | None) -> str:
    if ratio is None:
        return "a speed on a single text that cannot be told from the teacher's"
    return f"{ratio:.2f} times the speed on a single text"


def _beside_baselines(report: Report, student: str) -> str:
    own = mean_retention(report, student)
    baselines = [
        (name, kept)
        for name in report.arm_names
        if _role(report, name) == "baseline" and (kept := mean_retention(report, name)) is not None
    ]
    if own is None or not baselines:
        return ""
    name, best = max(baselines, key=lambda pair: pair[1])
    points = 100 * (own - best)
    if abs(points) < 0.05:
        return f"The best baseline, “{name}”, kept just as much: distillation added nothing here."
    told_apart = _told_apart(report, student, name)
    if points < 0:
        paid = "." if told_apart else ": distillation did not pay here."
        return f"The baseline “{name}” kept {-points:.1f} points more{paid}{told_apart}"
    return f"That is {points:.1f} points more than the best baseline, “{name}” ({percent(best)}).{told_apart}"


def _told_apart(report: Report, student: str, baseline: str) -> str:
    """Where chance does not explain the student's difference from a baseline; empty where that was not tested."""
    ahead: list[str] = []
    behind: list[str] = []
    tested = 0
    for task, arm in report.arms_named(student):
        p_value, other = arm.p_beside.get(baseline), task.arm(baseline)
        tested += p_value is not None
        if p_value is not None and p_value < SIGNIFICANT and other is not None:
            (ahead if (arm.retention or 0.0) > (other.retention or 0.0) else behind).append(task.name)
    if not tested:
        return ""
    if not ahead and not behind:
        return f" Chance may explain that{' on every task' if tested > 1 else ''} (p ≥ {SIGNIFICANT})."
    places = [f"ahead of it on {_listed(ahead)}"] if ahead else []
    places += [f"behind it on {_listed(behind)}"] if behind else []
    return f" The student is {_listed(places)} by more than chance explains (p < {SIGNIFICANT})."


def _chance(report: Report, student: str) -> str:
    tested = [(task.name, arm.p_value) for task, arm in report.arms_named(student) if arm.p_value is not None]
    if not tested:
        return "Whether the difference from the teacher is more than chance was not tested."
    within = [name for name, p_value in tested if p_value >= SIGNIFICANT]
    if not within:
        where = f"on each of the {len(tested)} tasks" if len(tested) > 1 else f"on {tested[0][0]}"
        return f"Chance alone does not explain the difference from the teacher {where} (p < {SIGNIFICANT})."
    return f"On {_listed(within)} the difference from the teacher may be chance (p ≥ {SIGNIFICANT})."


def _first_student(report: Report) -> str | None:
    return _name_of_role(report, "student")


def _name_of_role(report: Report, role: str) -> str | None:
    return next((name for name in report.arm_names if _role(report, name) == role), None)


def _role(report: Report, name: str) -> str:
    return report.arms_named(name)[0][1].role


def _named(student: str) -> str:
    return "The student" if student == "student" else f"The student “{student}”"


def _listed(words: Iterable[str]) -> str:
    items: Sequence[str] = list(words)
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
