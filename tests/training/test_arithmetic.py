"""Which arithmetic a processor gains from: measured once, then remembered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from potstill.training import arithmetic
from potstill.training.arithmetic import cpu_gains_from_bf16, matrix_rate

CPU = torch.device("cpu")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[torch.dtype, float]:
    """A processor with bf16 instructions; the rates it will be measured to have."""
    rates = {torch.float32: 100.0, torch.bfloat16: 400.0}
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(arithmetic, "matrix_rate", lambda dtype, device: rates[dtype])
    return rates


@pytest.mark.parametrize(("bf16", "gains"), [(400.0, True), (150.0, True), (149.0, False), (55.0, False)])
def test_bf16_is_taken_where_it_is_half_as_fast_again(measured: dict[torch.dtype, float], bf16: float, gains: bool):
    measured[torch.bfloat16] = bf16
    assert cpu_gains_from_bf16() is gains


def test_the_answer_of_a_processor_stays_what_it_was(measured: dict[torch.dtype, float], tmp_path: Path):
    # property: a resumed run goes on in the arithmetic it began with, however noisy the machine is then
    assert cpu_gains_from_bf16()
    measured[torch.bfloat16] = 10.0
    assert cpu_gains_from_bf16()
    (kept,) = (tmp_path / "cache").iterdir()
    assert json.loads(kept.read_text())["bf16_over_float32"] == 4.0


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_cache_that_cannot_be_written_costs_a_measurement_only(
    measured: dict[torch.dtype, float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / place))
    assert cpu_gains_from_bf16()


def test_a_processor_without_the_instructions_is_not_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(arithmetic, "matrix_rate", lambda dtype, device: pytest.fail("measured"))
    assert not cpu_gains_from_bf16()


def test_measuring_a_rate_draws_nothing_from_the_global_generator():
    state = torch.get_rng_state()
    matrix_rate.cache_clear()
    assert 1e9 < matrix_rate(torch.float32, CPU) < 1e14
    assert torch.equal(torch.get_rng_state(), state)
