"""The run folder: taken, resumed, finished and found again, never another's; and files that are whole or not there."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from potstill import runs
from potstill.errors import DataError, OtherRunError, RunFolderError, StorageError
from potstill.records import PROBLEM_TYPES, Predictions
from potstill.runs import (
    RunFolder,
    fingerprint,
    is_run,
    model_fingerprint,
    read_json,
    read_predictions,
    set_aside,
    storage_errors,
    write_json,
    write_jsonl,
    write_predictions,
    write_text,
)

RECIPE = {"seed": 1, "task": {"name": "cola"}}


def begin(path: Path, of: str = "aaa", **others: Any) -> RunFolder:
    return RunFolder.begin(path, **{"stage": "finetune", "recipe": RECIPE, "fingerprint": of, **others})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow beyond 100 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# -- begin, resume, finish ------------------------------------------------------------------------------------------


def test_a_new_run_is_taken_resumed_finished_and_found(tmp_path: Path):
    run = begin(tmp_path / "deep" / "run")
    assert (run.state, run.work.is_dir()) == ("new", True)
    assert yaml.safe_load((run.path / "recipe.yaml").read_text()) == RECIPE
    run.write_manifest(note="half way")
    started = run.manifest["started"]
    run.close()
    assert RunFolder.finished(run.path, "aaa") is None

    again = begin(run.path)
    assert (again.state, again.manifest["started"], again.manifest["note"]) == ("resumed", started, "half way")
    again.finish(seed=1)
    assert not again.work.exists()

    found = RunFolder.finished(run.path, "aaa")
    assert found is not None
    assert (found.state, found.manifest["seed"], found.manifest["status"]) == ("finished", 1, "finished")
    assert begin(run.path).state == "finished"
    assert RunFolder.finished(run.path, "bbb") is None
    assert RunFolder.open(run.path).manifest == read_json(run.path / "manifest.json")


def test_what_a_process_killed_at_the_very_end_left_is_taken_away(tmp_path: Path):
    run = begin(tmp_path / "run")
    run.finish(seed=1)
    (run.work / "finetune").mkdir(parents=True)
    assert RunFolder.finished(run.path, "aaa") is not None
    assert not run.work.exists()


def test_the_manifest_tells_what_made_the_run(tmp_path: Path):
    # oracle: the versions that the packages say of themselves
    manifest = begin(tmp_path).manifest
    assert (manifest["stage"], manifest["fingerprint"]) == ("finetune", "aaa")
    assert manifest["versions"]["numpy"] == np.__version__
    assert manifest["versions"]["python"] == sys.version.split()[0]


@pytest.mark.parametrize("finished", [True, False])
def test_another_run_is_never_overwritten(tmp_path: Path, finished: bool):
    run = begin(tmp_path)
    run.finish() if finished else run.close()
    before = contents(tmp_path)
    with pytest.raises(OtherRunError, match=r"holds another run: its stage is 'finetune'.*choose another --out"):
        begin(tmp_path, of="bbb")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("manifest", [None, "{}", "[]", "no json", '{"status": "finished"}', b"\xff\xfe"])
def test_a_folder_that_is_not_ours_is_left_as_it_is(tmp_path: Path, manifest: str | bytes | None):
    (tmp_path / "thesis.tex").write_text("years of work")
    if manifest is not None:
        (tmp_path / "manifest.json").write_bytes(manifest if isinstance(manifest, bytes) else manifest.encode())
    before = contents(tmp_path)
    with pytest.raises(RunFolderError, match=r"was not made by potstill; found .*; choose an empty or new folder"):
        begin(tmp_path)
    assert contents(tmp_path) == before
    assert not is_run(tmp_path)


def test_a_file_is_not_a_folder(tmp_path: Path):
    (tmp_path / "run").write_text("text")
    with pytest.raises(RunFolderError, match="is a file"):
        begin(tmp_path / "run")
    with pytest.raises(StorageError, match="cannot be written"):
        begin(tmp_path / "run" / "below")
    assert (tmp_path / "run").read_text() == "text"


def test_an_empty_folder_and_one_left_before_its_manifest_can_be_taken(tmp_path: Path):
    (tmp_path / ".work").mkdir()
    assert begin(tmp_path).state == "new"


@pytest.mark.parametrize(("prepare", "said"), [(False, "is not a run folder"), (True, "is not finished")])
def test_only_finished_runs_open(tmp_path: Path, prepare: bool, said: str):
    if prepare:
        begin(tmp_path).close()
    with pytest.raises(RunFolderError, match=said):
        RunFolder.open(tmp_path)


def test_a_run_has_one_process_at_a_time(tmp_path: Path):
    run = begin(tmp_path)
    for busy in (lambda: begin(tmp_path), lambda: set_aside(tmp_path)):
        with pytest.raises(RunFolderError, match="another process is working on"):
            busy()
    run.close()
    again = begin(tmp_path)
    assert again.state == "resumed"
    again.close()


@pytest.fixture
def another_comes_first(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let another process begin a run, and finish it or not, after this one has looked and before it has the lock."""

    def arrange(path: Path, of: str, finishes: bool) -> None:
        take_lock = runs.take_lock

        def late(*arguments: Any) -> Any:
            monkeypatch.setattr(runs, "take_lock", take_lock)
            other = begin(path, of=of)
            other.finish(made_by="the other") if finishes else other.close()
            return take_lock(*arguments)

        monkeypatch.setattr(runs, "take_lock", late)

    return arrange


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_run_that_another_process_just_finished_is_not_begun_again(
    tmp_path: Path, another_comes_first: Any, interrupted: bool
):
    path = tmp_path / "run"
    if interrupted:
        begin(path).close()
    another_comes_first(path, of="aaa", finishes=True)
    run = begin(path)
    assert (run.state, run.manifest["made_by"]) == ("finished", "the other")
    assert not run.work.exists()
    assert RunFolder.open(path).manifest == run.manifest


def test_a_run_that_another_process_just_left_unfinished_is_resumed(tmp_path: Path, another_comes_first: Any):
    another_comes_first(tmp_path / "run", of="aaa", finishes=False)
    run = begin(tmp_path / "run")
    assert run.state == "resumed"
    run.close()


@pytest.mark.parametrize("finishes", [False, True])
def test_a_folder_that_another_work_just_took_is_left_as_it_is(
    tmp_path: Path, another_comes_first: Any, finishes: bool
):
    another_comes_first(tmp_path / "run", of="bbb", finishes=finishes)
    with pytest.raises(OtherRunError, match="holds another run"):
        begin(tmp_path / "run")
    assert read_json(tmp_path / "run" / "manifest.json")["fingerprint"] == "bbb"
    assert (tmp_path / "run" / ".work").exists() is not finishes


def test_a_killed_process_holds_no_run(tmp_path: Path):
    program = (
        "import sys, time; from pathlib import Path; from potstill.runs import RunFolder\n"
        "run = RunFolder.begin(Path(sys.argv[1]), stage='finetune', recipe={}, fingerprint='aaa')\n"
        "print('taken', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"taken\n"
    with pytest.raises(RunFolderError, match="another process"):
        begin(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert begin(tmp_path).state == "resumed"


def test_a_full_disk_leaves_a_folder_that_can_be_begun(tmp_path: Path):
    with full_disk(), pytest.raises(StorageError, match="no space left"):
        begin(tmp_path / "run")
    assert contents(tmp_path / "run") == {".work/lock": b""}
    assert begin(tmp_path / "run").state == "new"


def test_a_run_that_could_not_be_marked_finished_is_not(tmp_path: Path):
    run = begin(tmp_path)
    before = contents(tmp_path)
    with full_disk(), pytest.raises(StorageError):
        run.finish(seed=1)
    assert (run.manifest["status"], run.state) == ("running", "new")
    assert contents(tmp_path) == before
    run.finish(seed=1)
    assert RunFolder.open(tmp_path).manifest["seed"] == 1


# -- setting aside --------------------------------------------------------------------------------------------------


def test_setting_aside_deletes_nothing(tmp_path: Path):
    # oracle: the bytes of every file, before and after
    path, kept = tmp_path / "seed-1", []
    for number in (1, 2, 3):
        run = begin(path, of=str(number))
        (path / "model.safetensors").write_bytes(bytes([number]))
        run.finish() if number % 2 else run.close()
        before = contents(path)
        kept.append((set_aside(path), before))
        assert not path.exists()
    assert [folder.name for folder, _ in kept] == ["seed-1.previous-1", "seed-1.previous-2", "seed-1.previous-3"]
    for folder, before in kept:
        assert contents(folder) == before


# -- fingerprints ---------------------------------------------------------------------------------------------------

KEYS = st.text(max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False, width=16) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def same(first: Any, second: Any) -> bool:
    """Equality by kind and content, the order of keys aside; Python's own takes 1, 1.0 and True for equal."""
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(same(*pair) for pair in zip(first, second, strict=True))
    return str(first) == str(second)  # tells 0.0 from -0.0


@settings(deadline=None)
@given(first=VALUES, second=VALUES)
def test_fingerprints_are_equal_if_and_only_if_contents_are(first: Any, second: Any):
    assert (fingerprint(first) == fingerprint(second)) == same(first, second)
    assert fingerprint(first) == fingerprint(json.loads(json.dumps(first)))


@settings(deadline=None)
@given(content=st.dictionaries(KEYS, VALUES, min_size=2, max_size=4))
def test_the_order_of_keys_does_not_count_and_that_of_parts_does(content: dict[str, Any]):
    assert fingerprint(content) == fingerprint(dict(reversed(content.items())))
    assert fingerprint(content, 1) != fingerprint(1, content)


def test_long_arrays_differ_by_any_element():
    # written as text, numpy leaves out the middle of a long array
    first = np.zeros(5000)
    second = first.copy()
    second[2500] = 1.0
    assert fingerprint(first) != fingerprint(second)
    with pytest.raises(TypeError, match="no JSON form"):
        fingerprint({1, 2})


def model_folder(path: Path, **changes: str) -> Path:
    path.mkdir()
    files = {"config.json": "{}", "model.safetensors": "weights", "tokenizer.json": "words", **changes}
    for name, text in files.items():
        if text:
            (path / name).write_text(text)
    return path


def test_a_model_is_its_weights_configuration_and_tokenizer(tmp_path: Path):
    first = model_fingerprint(model_folder(tmp_path / "first"))
    assert model_fingerprint(model_folder(tmp_path / "moved", **{"README.md": "new"})) == first
    changed = [
        model_fingerprint(model_folder(tmp_path / name, **{name: "other"}))
        for name in ("config.json", "model.safetensors", "tokenizer.json")
    ]
    assert len({first, *changed}) == 4


def test_a_model_with_a_vocabulary_alone_is_known_by_it(tmp_path: Path):
    folders = [model_folder(tmp_path / words, **{"tokenizer.json": "", "vocab.txt": words}) for words in ("a", "b")]
    assert len({model_fingerprint(folder) for folder in folders}) == 2


def test_a_finished_run_is_known_by_its_fingerprint_and_a_hub_model_by_its_name(tmp_path: Path):
    begin(tmp_path, of="abc").finish()
    assert model_fingerprint(tmp_path) == "abc"
    assert model_fingerprint("bert-base-uncased") == "bert-base-uncased"


# -- files ----------------------------------------------------------------------------------------------------------


def test_a_failed_write_keeps_the_file_there_was(tmp_path: Path):
    file = tmp_path / "metrics.json"
    write_json(file, {"a": 1})
    writes = (
        lambda: write_text(file, "x" * 1000),
        lambda: write_json(file, ["x" * 1000]),
        lambda: write_jsonl(file, [{"a": "x" * 1000}]),
        lambda: write_predictions(file, some_predictions()),
    )
    for write in writes:
        with full_disk(), pytest.raises(StorageError, match=r"no space left while writing .*metrics\.json"):
            write()
        assert contents(tmp_path) == {"metrics.json": b'{\n  "a": 1\n}\n'}


def test_an_interrupted_write_keeps_the_file_there_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "notes.txt"
    write_text(file, "old")

    def stop(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            write_text(file, "new")
    assert contents(tmp_path) == {"notes.txt": b"old"}


def test_json_takes_what_numpy_and_paths_are(tmp_path: Path):
    write_json(tmp_path / "a.json", {"n": np.float32(0.5), "rows": np.arange(2), "at": Path("a/b"), "é": "ü"})
    assert read_json(tmp_path / "a.json") == {"n": 0.5, "rows": [0, 1], "at": "a/b", "é": "ü"}
    assert "ü" in (tmp_path / "a.json").read_text("utf-8")
    assert read_json(tmp_path / "absent.json") is None


def test_history_is_read_as_it_was_written(tmp_path: Path):
    run = begin(tmp_path)
    assert run.history() == []
    records = [{"step": 1, "loss": 0.1 + 0.2}, {"step": 2, "loss": 1e-9}]
    write_jsonl(tmp_path / "history.jsonl", records)
    assert run.history() == records


@pytest.mark.parametrize(
    ("code", "said"),
    [("ENOSPC", "no space left"), ("EDQUOT", "no space left"), ("EROFS", "cannot be written"), ("EACCES", "cannot be")],
)
def test_what_the_system_says_of_the_disk_becomes_a_storage_error(tmp_path: Path, code: str, said: str):
    import errno

    with pytest.raises(StorageError, match=said), storage_errors(tmp_path):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))


def test_what_is_not_of_the_disk_stays_what_it_is(tmp_path: Path):
    with pytest.raises(FileNotFoundError), storage_errors(tmp_path):
        (tmp_path / "absent").read_text()


# -- predictions ----------------------------------------------------------------------------------------------------

FINITE = st.floats(-(2.0**100), 2.0**100, width=32)
TARGETS = {
    "single_label_classification": lambda n, k: hnp.arrays(np.int64, n, elements=st.integers(0, k - 1)),
    "multi_label_classification": lambda n, k: hnp.arrays(np.int8, (n, k), elements=st.integers(0, 1)),
    "regression": lambda n, k: hnp.arrays(np.float32, n, elements=FINITE),
}


@st.composite
def any_predictions(draw: st.DrawFn) -> Predictions:
    problem_type = draw(st.sampled_from(PROBLEM_TYPES))
    n, k = draw(st.integers(0, 6)), 1 if problem_type == "regression" else draw(st.integers(1, 4))
    names = st.lists(st.text(min_size=1, max_size=5), min_size=k, max_size=k, unique=True)
    ids = st.lists(st.from_regex(r"\w{1,8}-[0-9]{6}", fullmatch=True), min_size=n, max_size=n)
    thresholds = hnp.arrays(np.float32, k, elements=st.floats(0, 1, width=32))
    return Predictions(
        ids=np.array(draw(ids), dtype=str),
        logits=draw(hnp.arrays(np.float32, (n, k), elements=FINITE)),
        label_names=tuple(draw(names)),
        problem_type=problem_type,
        n_tokens=draw(hnp.arrays(np.int32, n, elements=st.integers(0, 2**31 - 1))),
        truncated=draw(hnp.arrays(np.bool_, n)),
        elapsed_s=draw(st.floats(0, 1e6)),
        targets=draw(st.none() | TARGETS[problem_type](n, k)),
        thresholds=draw(st.none() | thresholds) if problem_type == "multi_label_classification" else None,
    )


def some_predictions() -> Predictions:
    n = 30
    return Predictions(
        ids=np.array([f"row-{i}" for i in range(n)]), logits=np.zeros((n, 2), dtype=np.float32), label_names=("a", "b"),
        problem_type="single_label_classification", n_tokens=np.zeros(n, dtype=np.int32),
        truncated=np.zeros(n, dtype=bool), elapsed_s=0.5,
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(predictions=any_predictions())
def test_predictions_are_read_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, predictions: Predictions):
    # oracle: the record itself, field by field, values and types; its decisions are the run's and not written
    path = tmp_path_factory.mktemp("predictions") / "new folder" / "test.parquet"
    write_predictions(path, predictions)
    found, predictions = read_predictions(path), predictions.undecided()
    for name in ("ids", "logits", "n_tokens", "truncated", "targets", "thresholds", "predicted", "probabilities"):
        written, read = getattr(predictions, name), getattr(found, name)
        if written is None:
            assert read is None
            continue
        assert read.dtype.kind == written.dtype.kind
        assert name == "ids" or read.dtype == written.dtype
        np.testing.assert_array_equal(read, written)
        assert read.shape == written.shape
    for name in ("label_names", "problem_type", "elapsed_s"):
        assert getattr(found, name) == getattr(predictions, name)
    assert [file.name for file in path.parent.iterdir()] == ["test.parquet"]


def test_a_run_tells_its_recipe_and_its_metrics(tmp_path: Path):
    run = begin(tmp_path)
    assert (run.recipe(), run.metrics()) == (RECIPE, {})
    write_json(tmp_path / "metrics.json", {"test": {"accuracy": 0.5}})
    assert run.metrics() == {"test": {"accuracy": 0.5}}


def test_a_run_tells_which_predictions_it_has(tmp_path: Path):
    run = begin(tmp_path)
    with pytest.raises(RunFolderError, match="allowed: none"):
        run.predictions("test")
    write_predictions(tmp_path / "predictions" / "selection.parquet", some_predictions())
    assert len(run.predictions("selection")) == 30
    with pytest.raises(RunFolderError, match="no predictions of split 'test'; allowed: selection; evaluate it first"):
        run.predictions("test")


def test_what_are_not_predictions_is_refused(tmp_path: Path):
    (tmp_path / "text.parquet").write_text("not parquet at all")
    with pytest.raises(DataError, match="is not a parquet file"):
        read_predictions(tmp_path / "text.parquet")
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="is not a predictions file"):
        read_predictions(tmp_path / "other.parquet")
    write_predictions(tmp_path / "newer.parquet", some_predictions())
    table = pq.read_table(tmp_path / "newer.parquet")
    shared = json.loads(table.schema.metadata[b"potstill"]) | {"problem_type": "ranking"}
    pq.write_table(table.replace_schema_metadata({"potstill": json.dumps(shared)}), tmp_path / "newer.parquet")
    with pytest.raises(DataError, match="unknown problem type; found 'ranking'"):
        read_predictions(tmp_path / "newer.parquet")


def test_bytes_on_disk_are_those_of_the_weights(tmp_path: Path):
    folder = model_folder(tmp_path / "model", **{"model-00002.safetensors": "more"})
    assert runs.parameters_on_disk(folder) == len("weights") + len("more")
