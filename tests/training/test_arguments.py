"""The settings in transformers' words: counts of steps, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import RecipeError
from potstill.training.arguments import planned_passes, planned_steps, training_arguments


@settings(deadline=None)
@given(
    n_batches=st.integers(1, 60), accumulation=st.integers(1, 9), processes=st.integers(1, 5), epochs=st.integers(0, 4)
)
def test_steps_are_groups_of_batches_counted_one_by_one(
    rig: Any, n_batches: int, accumulation: int, processes: int, epochs: int
):
    # oracle: dealing the batches out, one to each process in turn, and grouping those of the fullest hand
    hand = range(0, n_batches, processes)
    groups = len({place // accumulation for place, _ in enumerate(hand)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", str(processes))
        assert planned_steps(rig.settings(epochs=epochs, accumulation=accumulation), n_batches) == epochs * groups
        assert planned_steps(rig.settings(epochs=epochs, max_steps=7), n_batches) == 7


@pytest.mark.parametrize(
    ("changes", "passes"),
    [({"epochs": 2.5}, 2.6), ({"epochs": 0}, 0), ({"max_steps": 15}, 3), ({"max_steps": 2, "accumulation": 3}, 1)],
)
def test_passes_are_steps_over_those_of_an_epoch(rig: Any, changes: dict[str, Any], passes: float):
    # five batches are five steps, or two of three batches at most; half of five steps is three
    assert planned_passes(rig.settings(**changes), 5) == pytest.approx(passes)


def test_settings_are_told_to_transformers(rig: Any, tmp_path: Path):
    settings = rig.settings(
        warmup=0.25, schedule="constant", weight_decay=0.3, betas=(0.8, 0.7), epsilon=1e-5, clip_norm=2.0,
        evaluate_steps=4, accumulation=2, learning_rate=0.5, max_steps=10,
    )  # fmt: skip
    said = training_arguments(settings, tmp_path, 6, validates=True)
    expected = {
        "max_steps": 10, "warmup_steps": 3, "lr_scheduler_type": "constant_with_warmup", "weight_decay": 0.3,
        "adam_beta1": 0.8, "adam_beta2": 0.7, "adam_epsilon": 1e-5, "max_grad_norm": 2.0, "eval_steps": 4,
        "gradient_accumulation_steps": 2, "learning_rate": 0.5, "seed": 3, "save_strategy": "no",
    }  # fmt: skip
    assert {name: getattr(said, name) for name in expected} == expected


def test_at_most_one_gpu_serves_a_process(rig: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import transformers

    monkeypatch.setattr(transformers.TrainingArguments, "n_gpu", property(lambda self: 4))
    assert training_arguments(rig.settings(), tmp_path, 6, validates=False)._n_gpu == 1


@pytest.mark.parametrize("name", ["tensorbord", "wandb-that-is-not-there"])
def test_a_tracker_that_is_not_installed_is_refused(rig: Any, tmp_path: Path, name: str):
    with pytest.raises(RecipeError, match=f"not installed; found '{name}'; allowed: .*tensorboard"):
        training_arguments(rig.settings(report_to=("tensorboard", name)), tmp_path, 6, validates=False)


@pytest.mark.parametrize("named", [(), ("none",), ("tensorboard",)])
def test_trackers_besides_tensorboard_are_none_unless_named(rig: Any, tmp_path: Path, named: tuple[str, ...]):
    assert training_arguments(rig.settings(report_to=named), tmp_path, 6, validates=False).report_to == []
