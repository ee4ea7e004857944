"""Bundles by name, and bundles replaced while they are asked."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from potstill.errors import ModelError, UsageError
from potstill.serve.bundles import Bundles, NamedFolder, named_folders
from potstill.serve.reload import stamp_of


def test_a_folder_has_a_name_or_its_own(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    named = named_folders([str(tmp_path / "one"), f"second={tmp_path / 'two'}"])
    assert [(bundle.name, bundle.folder.name) for bundle in named] == [("one", "one"), ("second", "two")]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["a={there}", "a={there}"], "the same name"),
        (["a b={there}"], "cannot be called this"),
        (["../x={there}"], "cannot be called this"),
        (["={there}"], "cannot be called this"),
        (["a={there}/missing"], "no such bundle folder"),
    ],
)
def test_names_that_cannot_be_asked_for_are_refused(given, says, tmp_path):
    with pytest.raises(UsageError, match=says):
        named_folders([argument.format(there=tmp_path) for argument in given])


def test_a_bundle_that_does_not_open_stops_the_server_before_it_begins(tmp_path):
    def refuse(folder: Path) -> Any:
        raise ModelError(f"{folder.name} is broken")

    with pytest.raises(ModelError, match="words is broken"):
        Bundles([NamedFolder("words", tmp_path / "words")], refuse)
    with pytest.raises(UsageError, match="no bundle"):
        Bundles([], refuse)


def test_a_bundle_that_cannot_predict_stops_the_server_before_it_begins(fake, tmp_path):
    class Numberless(fake.FakePredictor):
        def _logits(self, text: Any) -> list[float]:
            return [float("nan")] * len(self.label_names)

    with pytest.raises(ModelError, match="no numbers"):
        Bundles([NamedFolder("words", tmp_path)], lambda _: Numberless())


def test_what_texts_will_need_is_made_before_a_bundle_answers(fake, tmp_path):
    class Unprepared(fake.FakePredictor):
        def prepare(self) -> None:
            raise ModelError("no engine can be compiled")

    with pytest.raises(ModelError, match="no engine"):
        Bundles([NamedFolder("words", tmp_path)], lambda _: Unprepared())


def test_a_bundle_of_pairs_opens(fake, tmp_path):
    class Pairs(fake.FakePredictor):
        def tokenise(self, texts: Any, keep: Any) -> Any:
            if any(isinstance(text, str) for text in texts):
                raise fake.DataError("input 0 is a single text")
            return super().tokenise(texts, keep)

    with fake.running({"pairs": Pairs()}, tmp_path) as running:
        assert running.client.post("/predict", json={"inputs": ["good", "good"]}).json()[0]["label"] == "good"
        refused = running.client.post("/predict", json={"inputs": "good"})
        assert (refused.status_code, refused.json()["error_type"]) == (422, "validation")
        assert "single text" in refused.json()["error"]


class Shelf:
    """Folders whose ``bundle.json`` says which labels a predictor has; one that says ``broken`` does not open."""

    def __init__(self, fake: Any, root: Path) -> None:
        self.fake, self.folder = fake, root / "words"
        self.opened: list[Any] = []
        self.folder.mkdir()
        self.write(["good", "bad"])

    def write(self, labels: list[str]) -> None:
        fresh = self.folder / "bundle.json.new"
        fresh.write_text(json.dumps(labels))
        fresh.replace(self.folder / "bundle.json")

    def open(self, folder: Path) -> Any:
        labels = json.loads((folder / "bundle.json").read_text())
        if labels == "broken":
            raise ModelError("the bundle is broken")
        self.opened.append(self.fake.FakePredictor(tuple(labels), seconds=0.002))
        return self.opened[-1]


@pytest.fixture
def shelf(fake: Any, tmp_path: Path) -> Shelf:
    return Shelf(fake, tmp_path)


def labels_of(running: Any) -> list[str]:
    return sorted(score["label"] for score in running.client.post("/predict", json={"inputs": "good"}).json())


def test_a_reloaded_bundle_answers_and_says_so(fake, shelf, tmp_path):
    with fake.running({"words": None}, tmp_path, open_predictor=shelf.open) as running:
        before = running.client.get("/info").json()["model_sha"]
        shelf.write(["good", "dull"])
        running.reload()
        fake.until(lambda: labels_of(running) == ["dull", "good"])
        assert running.client.get("/info").json()["model_sha"] != before
        assert running.metric("potstill_reloads_total", model="words", result="opened") == 1


def test_signals_that_come_faster_than_a_bundle_opens_are_one(fake, shelf, tmp_path):
    # oracle: one reload is under way, and one more sees what changed meanwhile; twenty would hold the cores for minutes
    def slow(folder: Path) -> Any:
        if shelf.opened:
            under_way.set()
            assert go_on.wait(10)
        return shelf.open(folder)

    under_way, go_on = threading.Event(), threading.Event()
    with fake.running({"words": None}, tmp_path, open_predictor=slow) as running:
        running.reload()
        assert under_way.wait(10)
        for _ in range(20):
            running.reload()
        shelf.write(["good", "dull"])
        running.reload()
        running.client.get("/health")
        go_on.set()
        fake.until(lambda: labels_of(running) == ["dull", "good"])
        fake.until(lambda: running.metric("potstill_reloads_total", model="words", result="opened") == 2)
        assert len(shelf.opened) == 3


def test_a_bundle_that_is_replaced_is_closed_while_others_are_answered(fake, shelf, tmp_path):
    class Clinging(fake.FakePredictor):
        def close(self) -> None:
            assert go_on.wait(10)
            super().close()

    go_on, first = threading.Event(), Clinging()
    given = iter([first])
    with fake.running(
        {"words": None}, tmp_path, open_predictor=lambda folder: next(given, None) or shelf.open(folder)
    ) as running:
        running.reload()
        fake.until(lambda: running.metric("potstill_reloads_total", model="words", result="opened") == 1)
        assert running.client.post("/predict", json={"inputs": "good"}).status_code == 200
        assert not first.closed
        go_on.set()
        fake.until(lambda: first.closed)


def test_a_bundle_that_does_not_open_leaves_the_old_one_at_work(fake, shelf, tmp_path):
    with fake.running({"words": None}, tmp_path, open_predictor=shelf.open) as running:
        (shelf.folder / "bundle.json").write_text('"broken"')
        running.reload()
        fake.until(lambda: running.metric("potstill_reloads_total", model="words", result="failed") == 1)
        assert labels_of(running) == ["bad", "good"]
        assert running.client.get("/health").status_code == 200


def test_a_request_is_answered_by_the_bundle_that_accepted_it(fake, shelf, tmp_path):
    with fake.running({"words": None}, tmp_path, open_predictor=shelf.open) as running:
        old = shelf.opened[0]
        old.gate.clear()
        got: list[Any] = []
        asking = threading.Thread(target=lambda: got.append(labels_of(running)))
        asking.start()
        fake.until(lambda: ["good"] in old.calls)
        shelf.write(["dull", "bad"])
        running.reload()
        fake.until(lambda: running.metric("potstill_reloads_total", model="words", result="opened") == 1)
        assert labels_of_other(running) == ["bad", "dull"]
        assert got == []
        old.gate.set()
        asking.join(10)
        assert got == [["bad", "good"]]
        fake.until(lambda: old.closed)


def labels_of_other(running: Any) -> list[str]:
    with httpx.Client(base_url=str(running.client.base_url)) as other:
        return sorted(score["label"] for score in other.post("/predict", json={"inputs": "good"}).json())


def test_no_request_is_lost_while_bundles_are_replaced(fake, shelf, tmp_path):
    # oracle: every request has one of the two answers, and all were counted
    with fake.running({"words": None}, tmp_path, open_predictor=shelf.open) as running:
        statuses: list[int] = []
        stop = threading.Event()

        def ask() -> None:
            with httpx.Client(base_url=str(running.client.base_url), timeout=20) as client:
                while not stop.is_set():
                    statuses.append(client.post("/predict", json={"inputs": [["good"], ["bad film"]]}).status_code)

        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        for round_ in range(6):
            shelf.write(["good", f"label-{round_}"])
            running.reload()
            fake.until(lambda done=round_ + 2: len(shelf.opened) == done)
            answered = len(statuses)
            fake.until(lambda least=answered + 5: len(statuses) > least)
        stop.set()
        for client in clients:
            client.join(20)
        assert len(statuses) > 20
        assert set(statuses) == {200}
        assert running.metric("te_request_success", method="batch", model="words") == len(statuses)


def test_a_change_on_disk_is_noticed_where_it_is_watched_for(fake, shelf, tmp_path):
    with fake.running({"words": None}, tmp_path, open_predictor=shelf.open, watch_every_s=0.1) as running:
        shelf.write(["good", "dull"])
        fake.until(lambda: labels_of(running) == ["dull", "good"])
        (shelf.folder / "bundle.json").write_text('"broken"')
        fake.until(lambda: running.metric("potstill_reloads_total", model="words", result="failed") == 1)
        assert labels_of(running) == ["dull", "good"]
        shelf.write(["bad", "dull"])
        fake.until(lambda: labels_of(running) == ["bad", "dull"])


def test_a_description_that_is_not_there_has_no_stamp(tmp_path):
    assert stamp_of(tmp_path) is None
