"""What can be said against a grid before anything trains: shapes, settings, tasks, and rows that would differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from potstill.errors import PotstillError, RecipeError
from potstill.grid.plan import GridPlan, GridStage
from potstill.recipe.schema import CorpusSection, DistilJob, FinetuneJob, PretrainJob, TaskSection


def check_plan(plan: GridPlan) -> None:
    """Raise what a stage would stop at, naming the arm, or that arms would be measured on different rows.

    No weights are read for it; stages that differ in their seed alone are checked once.
    """
    opened, checked = _Opened(), set()
    for stage in plan.stages.values():
        alike = stage.key.rpartition("/seed-")[0] or stage.key
        if alike not in checked:
            checked.add(alike)
            _check_stage(stage, opened)
    _check_rows(plan)


class _Opened:
    """What many stages read, opened once."""

    def __init__(self) -> None:
        self._models: dict[str, tuple[Any, Any]] = {}
        self._corpora: set[str] = set()

    def model(self, name: str) -> tuple[Any, Any]:
        """A model of this shape with random weights, and its tokenizer."""
        from potstill.models.teacher import load_tokenizer, resolve_model, text_tokenizer, untrained_masked_lm

        if name not in self._models:
            source = resolve_model(name)
            model = untrained_masked_lm(source)
            self._models[name] = model, text_tokenizer(load_tokenizer(source), model)
        return self._models[name]

    def read(self, section: CorpusSection, data_dir: Path | None) -> None:
        """Meet what is wrong with a corpus."""
        from potstill.data.corpora import load_corpus

        if (asked := section.model_dump_json()) not in self._corpora:
            load_corpus(**section.reading(), data_dir=data_dir)
            self._corpora.add(asked)


def _check_stage(stage: GridStage, opened: _Opened) -> None:
    try:
        _meet(stage, opened)
    except PotstillError as refused:
        raise type(refused)(
            f"{stage.arms[0]}: {refused.what}", found=refused.found, allowed=refused.allowed, do=refused.do
        ) from refused


def _meet(stage: GridStage, opened: _Opened) -> None:
    """Enter the room of a stage as far as its settings, its input and the shape of its model go."""
    from potstill.distil import stage as distil_stage
    from potstill.finetune import stage as finetune_stage
    from potstill.pretrain import stage as pretrain_stage

    job, teacher, given = stage.stage.job, stage.recipe.teacher.model, stage.recipe.student.model
    of_given = isinstance(job, FinetuneJob) and job.model == given
    model, texts = opened.model(given if given and of_given else teacher)
    if isinstance(job, PretrainJob):
        pretrain_stage.check(job)
        opened.read(job.corpus, job.data_dir)
    elif isinstance(job, DistilJob):
        distil_stage.check(job, model)
        opened.read(job.corpus, job.data_dir)
    elif isinstance(job, FinetuneJob):
        finetune_stage.check(job, model, texts)


def _check_rows(plan: GridPlan) -> None:
    """Arms may differ in what they learn from, where that is declared, and never in what they are measured on."""
    for task, arms in plan.runs.items():
        sections = {arm: _task_of(plan.stages[next(iter(runs.values()))]) for arm, runs in arms.items()}
        if len({section.model_dump_json() for section in sections.values()}) > 1:
            _require_same_rows(task, sections, plan)


def _task_of(stage: GridStage) -> TaskSection:
    job = stage.stage.job
    assert isinstance(job, FinetuneJob)
    return job.task


def _require_same_rows(task: str, sections: dict[str, TaskSection], plan: GridPlan) -> None:
    from potstill.evaluate.stage import load_task_section

    data_dir = plan.grid.arms[0].recipe.data_dir
    by_section = {section.model_dump_json(): arm for arm, section in reversed(sections.items())}
    first_arm, first = next(iter(sections.items()))
    data = load_task_section(first, data_dir)
    reported = data.split(data.task.report_split)
    for arm in by_section.values():
        other = load_task_section(sections[arm], data_dir).split(data.task.report_split)
        if not np.array_equal(reported.ids, other.ids):
            raise RecipeError(
                f"{first_arm} and {arm} would be measured on different rows of {task}",
                found=f"{len(reported):,} and {len(other):,} rows of {data.task.report_split}",
                do=f"keep the limit and the cleaning of {data.task.report_split} the same for all arms",
            )
