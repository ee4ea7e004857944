"""What figures were measured on; oracles: the system's own answer, and limits as control groups write them."""

from __future__ import annotations

import os

import pytest

from potstill.machine import _quota, available_cores, versions


def test_cores_are_those_that_the_process_is_bound_to_at_most():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("max 100000", None), ("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("", None), ("1 0", None)],
)
def test_a_container_allows_whole_cores(tmp_path, limit, cores):
    (tmp_path / "cpu.max").write_text(limit)
    assert _quota(tmp_path / "cpu.max") == cores
    assert _quota(tmp_path / "nowhere") is None


def test_versions_name_what_decides_the_numbers():
    assert {"python", "system", "potstill", "numpy", "tokenizers"} <= versions().keys()


def test_a_system_is_known_by_its_release_and_not_by_its_build(monkeypatch):
    monkeypatch.setattr("platform.release", lambda: "6.1.0-18-cloud-amd64")
    assert " 6.1.0," in versions()["system"]
    assert "cloud" not in versions()["system"]
