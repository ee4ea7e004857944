"""The verb ``explore``: what is to be studied, read and counted, and written as a page and as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from potstill.analyse.data.rows import Rows, rows_of_corpus, rows_of_task
from potstill.analyse.data.study import study_rows
from potstill.analyse.data.tokenizer_files import open_tokenizer
from potstill.data.corpora import BUILT_IN, KNOWN, resident_texts
from potstill.data.sources import unread_note
from potstill.data.tasks import load_task
from potstill.evaluate.stage import DATA_SEED, task_of
from potstill.machine import versions
from potstill.recipe.explore import ExploreJob
from potstill.report.data.page import PAGE, write_explore_page
from potstill.report.data.sentences import length_reason, verdict, warnings
from potstill.runs import require_unused, write_json

FINDINGS = "explore.json"
Tell = Callable[[str], None]


def explore(job: ExploreJob, tell: Tell = lambda message: None) -> dict[str, Any]:
    """Study what ``job`` names, write ``explore.html`` and ``explore.json`` into its folder, and return the findings.

    They are the fields of ``analyse.study.Study`` as plain values, with ``verdict``, ``warnings`` and the reason for
    the proposed length in words, and ``page``, the path of the page. Raises UsageError and its kind for what cannot
    be read before anything is written.
    """
    require_unused(job.out, ours=FINDINGS)
    tokenizer = None if job.tokenizer is None else open_tokenizer(job.tokenizer)
    started = time.monotonic()
    tell("opening the data")
    study = study_rows(
        _rows(job), tokenizer, tokenizer_name=Path(job.tokenizer or "").name, batch_size=job.batch_size, tell=tell
    )
    made = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - started, 1),
        "versions": versions(),
    }
    job.out.mkdir(parents=True, exist_ok=True)
    said = {"verdict": verdict(study), "warnings": warnings(study), "length_reason": length_reason(study)}
    findings = {**asdict(study), **said, "made": made}
    write_json(job.out / FINDINGS, findings)  # first: by this file the folder is known to be ours
    write_explore_page(study, job.out / PAGE, made=made)
    return {**json.loads(json.dumps(findings)), "page": str(job.out / PAGE)}


def _rows(job: ExploreJob) -> Rows:
    if job.task is not None:
        data = load_task(
            task_of(job.task),
            data_dir=job.data_dir,
            seed=DATA_SEED,
            limits=job.task.limits,
            max_text_characters=sys.maxsize,
            keep_empty=True,
        )
        return rows_of_task(data)
    assert job.corpus is not None
    texts = resident_texts(job.corpus, job.corpus_column, job.data_dir)
    notes = [] if job.corpus in (BUILT_IN, *KNOWN) else unread_note(job.corpus)
    return rows_of_corpus(Path(job.corpus).name, texts, notes)
