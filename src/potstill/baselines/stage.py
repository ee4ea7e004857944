"""Task → BiLSTM, and task → TF-IDF under a linear model: recipe in, run folder out."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from typing import TYPE_CHECKING, Any

from potstill.data.tasks import TaskData
from potstill.data.tokens import TextTokenizer
from potstill.evaluate.metrics import Metric, find_metric
from potstill.evaluate.stage import load_task_section, predict_split, store_predictions
from potstill.finetune.class_weights import label_weights, weights_by_name
from potstill.recipe.baseline_jobs import BilstmJob, TfidfJob
from potstill.runs import RunFolder, fingerprint

if TYPE_CHECKING:
    import numpy as np

    from potstill.baselines.bilstm import FreshBilstm
    from potstill.baselines.tfidf import Chosen, Search


def run(job: BilstmJob | TfidfJob) -> RunFolder:
    """Do what ``job`` says; a finished run is returned, and a BiLSTM whose training was interrupted goes on.

    A BiLSTM is trained as fine-tuning trains an encoder. Whatever can be refused is refused before the folder is
    touched.
    """
    if isinstance(job, TfidfJob):
        return _run_tfidf(job)
    from potstill.finetune import stage as finetune_stage

    return finetune_stage.run(job, _fresh(job))


def check(job: BilstmJob | TfidfJob, texts: TextTokenizer) -> None:
    """Raise what ``run`` would refuse, as far as task, settings and a file of vectors tell.

    ``texts`` is the teacher's tokenizer: it puts as much around a text as one of words does.
    """
    if isinstance(job, BilstmJob):
        from potstill.finetune import stage as finetune_stage

        finetune_stage.check_task(job, texts)
        _fresh(job).check()
    else:
        data = load_task_section(job.task, job.data_dir)
        _metric(job, data)
        _weights(job, data)


def _fresh(job: BilstmJob) -> FreshBilstm:
    from potstill.baselines.bilstm import FreshBilstm

    section = job.finetune
    return FreshBilstm(
        teacher=job.model,
        **job.bilstm.model_dump(),
        classifier_dropout=job.bilstm.dropout if section.dropout is None else section.dropout,
        max_length=section.max_length if section.long_texts == "cut" else None,
        seed=job.seed,
    )


def _run_tfidf(job: TfidfJob) -> RunFolder:
    """Without torch."""
    from potstill.baselines.tfidf import fit_chosen
    from potstill.models.linear import save_linear
    from potstill.runtime.linear_predictor import LinearPredictor

    data = load_task_section(job.task, job.data_dir)
    task, metric = data.task, _metric(job, data)
    work_id = fingerprint("tfidf", job.substance(), data.fingerprint)
    if finished := RunFolder.finished(job.out, work_id):
        return finished
    chosen = fit_chosen(data, _search(job, data), metric)
    begun = RunFolder.begin(job.out, stage="tfidf", recipe=job.model_dump(mode="json"), fingerprint=work_id)
    if begun.state == "finished":  # by another process, while this one fitted
        return begun
    with closing(begun) as folder:
        save_linear(chosen.model, folder.path, folder.work)
        predictor = LinearPredictor(chosen.model)
        for name in dict.fromkeys(("selection", task.report_split)):
            predictions = predict_split(predictor, data.splits[name])
            store_predictions(folder.path, name, predictions, (metric.name, *task.metrics))
        folder.finish(**_facts(job, data, metric.name, chosen))
    return folder


def _metric(job: TfidfJob, data: TaskData) -> Metric:
    return find_metric(job.metric or data.task.metric, data.task.problem_type, len(data.task.label_names))


def _weights(job: TfidfJob, data: TaskData) -> np.ndarray | None:
    """What each label counts in the fit, as in fine-tuning; RecipeError for labels that the task does not have."""
    task = data.task
    return label_weights(job.class_weights, data.splits["train"].targets, task.label_names, task.problem_type)


def _search(job: TfidfJob, data: TaskData) -> Search:
    from potstill.baselines.tfidf import Search
    from potstill.models.linear import Features

    section = job.tfidf
    return Search(
        Features(section.ngrams, section.min_count, section.max_features, section.sublinear),
        sorted(section.penalties, reverse=True),
        _weights(job, data),
        section.max_iterations,
    )


def _facts(job: TfidfJob, data: TaskData, metric: str, chosen: Chosen) -> dict[str, Any]:
    """What the manifest tells of a finished run, under the names that fine-tuning uses."""
    return {
        "base_model": None,
        "teacher": None,
        "task": job.task.model_dump(mode="json"),
        "seed": job.seed,
        "data": {
            "fingerprint": data.fingerprint,
            "notes": list(data.notes),
            "counts": {split: dataclasses.asdict(counts) for split, counts in data.counts.items()},
        },
        "notes": [*chosen.notes, "nothing is drawn: every seed gives the same model"],
        "label_names": list(data.task.label_names),
        "problem_type": data.task.problem_type,
        "metric": metric,
        "class_weights": weights_by_name(_weights(job, data), data.task.label_names),
        "report_split": data.task.report_split,
        "max_length": None,
        "training_s": chosen.training_s,
        "tried": list(chosen.tried),
        "best": None,
        "stopped_early": False,
        "parameters": chosen.model.n_parameters,
        "opens_with": "potstill",
    }
