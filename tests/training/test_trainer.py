"""The one training loop against a loop written by hand, against itself interrupted, and against what goes wrong."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    get_scheduler,
)

from potstill.distil.objective import DistillationObjective
from potstill.errors import DivergedError, StorageError
from potstill.training.checkpoints import latest_checkpoint

RIG = Path(__file__).with_name("rig.py")


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def scripted(values: list[float]) -> Callable[[nn.Module], dict[str, float]]:
    """A validation that says ``values`` one after the other."""
    remaining = iter(values)
    return lambda model: {"score": next(remaining)}


def sum_of_weights(model: nn.Module) -> dict[str, float]:
    """A validation whose answer depends on the weights alone, and jumps about."""
    total = sum(float(parameter.detach().double().sum()) for parameter in model.parameters())
    return {"score": math.sin(100 * total)}


# -- the arithmetic -------------------------------------------------------------------------------------------------


def test_training_equals_a_loop_written_by_hand(rig: Any, tmp_path: Path):
    # oracle: torch's AdamW, clipping and transformers' linear schedule around the mean loss of each whole batch
    trained, _ = rig.train(tmp_path, rows=rig.Rows(fixed=True), model=rig.tiny_distilbert(0.0))
    model, rows = rig.tiny_distilbert(0.0).train(), rig.Rows(fixed=True)
    norms = {
        parameter for module in model.modules() if isinstance(module, nn.LayerNorm) for parameter in module.parameters()
    }
    spared = [p for n, p in model.named_parameters() if p in norms or n.endswith("bias")]
    decayed = [p for n, p in model.named_parameters() if p not in norms and not n.endswith("bias")]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": spared, "weight_decay": 0.0}], lr=1e-2, eps=1e-3
    )
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=3, num_training_steps=12)
    for epoch in range(2):
        rows.plan.set_epoch(epoch)
        for (key,) in rows.plan:
            batch = {name: torch.from_numpy(array) for name, array in rows[key].items()}
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
            size = logits[batch["attention_mask"].bool()].square().mean()
            (loss + 0.01 * size).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    assert rig.farthest(trained, rig.weights_of(model)) < 1e-5


def test_eight_accumulated_batches_of_one_equal_one_batch_of_eight(rig: Any, tmp_path: Path):
    # oracle: the other arrangement; the rows hold 0 to 4 masked tokens, and the last step of an epoch 6 rows
    together, whole = rig.train(
        tmp_path / "1x8", rows=rig.Rows(fixed=True, batch_size=8), model=rig.tiny_distilbert(0.0), batch_size=8
    )
    apart, parts = rig.train(
        tmp_path / "8x1", rows=rig.Rows(fixed=True, batch_size=1), model=rig.tiny_distilbert(0.0), batch_size=1,
        accumulation=8,
    )  # fmt: skip
    assert (whole.steps, parts.steps) == (6, 6)
    assert whole.tokens == parts.tokens
    assert rig.farthest(together, apart) < 1e-5
    for one, other in zip(rig.untimed(whole.history), rig.untimed(parts.history), strict=True):
        # 8 of 22 batches are a little more of an epoch than 1 of 3
        assert one == pytest.approx({**other, "epoch": one["epoch"]}, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "steps", "epochs"),
    [
        ({"epochs": 1.5}, 9, 1.5),
        ({"epochs": 2, "accumulation": 4}, 4, 2.0),
        ({"epochs": 9, "max_steps": 3}, 3, 0.5),
        ({"epochs": 0}, 0, 0.0),
    ],
)
def test_steps_are_those_of_the_settings(rig: Any, tmp_path: Path, changes: dict[str, Any], steps: int, epochs: float):
    # oracle: 22 rows in batches of 4 are 6 batches an epoch, and the last group of an epoch may be smaller
    _, result = rig.train(tmp_path, **changes)
    assert (result.steps, result.epochs) == (steps, epochs)


def test_no_epochs_leave_the_model_as_it_is(rig: Any, tmp_path: Path):
    weights, result = rig.train(tmp_path, epochs=0, validate=sum_of_weights)
    assert rig.differing(weights, rig.weights_of(rig.tiny_distilbert())) == []
    assert result.history == []


def test_each_epoch_sees_each_row_once_in_an_order_of_its_own(rig: Any, tmp_path: Path):
    rows = rig.Rows()
    rig.train(tmp_path, rows=rows)
    epochs = [[row for epoch, _, batch in rows.seen if epoch == number for row in batch] for number in (0, 1)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(rig.N_ROWS))] * 2
    assert epochs[0] != epochs[1]


CLASSIFIERS = {
    "bert": (BertForSequenceClassification, BertConfig, {"hidden_size": 32, "num_hidden_layers": 2}),
    "roberta": (RobertaForSequenceClassification, RobertaConfig, {"hidden_size": 32, "num_hidden_layers": 2}),
    "electra": (ElectraForSequenceClassification, ElectraConfig, {"hidden_size": 32, "num_hidden_layers": 2}),
    "distilbert": (DistilBertForSequenceClassification, DistilBertConfig, {"dim": 32, "n_layers": 2}),
}


class NoGradient:
    """An objective that is 0 whatever the weights are: all that moves them is their decay."""

    weights: Mapping[str, float] = {"nothing": 1.0}
    modules = None

    def counts(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        return {"nothing": 1.0}

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"nothing": sum((parameter * 0.0).sum() for parameter in model.parameters())}  # type: ignore[dict-item]


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_weight_decay_is_not_on_norms_and_biases(rig: Any, tmp_path: Path, family: str):
    # oracle: without a gradient AdamW multiplies what decays by 1 - rate · decay, and leaves the rest alone
    build, configure, shape = CLASSIFIERS[family]
    model = build(configure(vocab_size=rig.VOCABULARY, num_attention_heads=2, max_position_embeddings=20, **shape))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand_like(parameter) + 0.1)
    before = rig.weights_of(model)
    after, _ = rig.train(
        tmp_path, model=model, objective=NoGradient(), max_steps=1, schedule="constant", warmup=0.0,
        learning_rate=0.1, weight_decay=0.5,
    )  # fmt: skip
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    for name, _ in model.named_parameters():
        spared = name.endswith("bias") or name.rpartition(".")[0] in norms
        assert torch.allclose(after[name], before[name] * (1.0 if spared else 0.95)), name
    assert norms


def test_a_term_of_weight_zero_equals_an_absent_one(rig: Any, tmp_path: Path):
    absent = {"kl": 1.0, "mlm": 0.5}
    zero = {**absent, "cosine": 0.0, "logit_mse": 0.0, "hidden_mse": 0.0}
    without, with_zero = (
        rig.train(tmp_path / name, objective=DistillationObjective(rig.tiny_bert(32), weights), epochs=1)
        for name, weights in (("absent", absent), ("zero", zero))
    )
    assert rig.differing(without[0], with_zero[0]) == []
    assert rig.untimed(without[1].history) == rig.untimed(with_zero[1].history)


def test_bf16_after_fp32_in_one_process_keeps_float32_weights(rig: Any, tmp_path: Path):
    exact, _ = rig.train(tmp_path / "fp32", precision="fp32", max_steps=2)
    rounded, _ = rig.train(tmp_path / "bf16", precision="bf16", max_steps=2)
    assert {tensor.dtype for tensor in rounded.values()} == {torch.float32}
    assert 0 < rig.farthest(exact, rounded) < 0.05


# -- the history ----------------------------------------------------------------------------------------------------


def test_history_tells_the_loss_its_terms_the_rate_and_the_time(rig: Any, tmp_path: Path):
    _, result = rig.train(tmp_path, validate=sum_of_weights, evaluate_steps=5)
    trained = [record for record in result.history if "loss" in record]
    validated = [record for record in result.history if "eval_score" in record]
    assert [record["step"] for record in trained] == list(range(1, 13))
    assert [record["step"] for record in validated] == [5, 10, 12]
    for record in trained:
        assert {"loss_mlm", "loss_size", "tokens_per_s", "elapsed_s", "learning_rate", "epoch"} <= record.keys()
        assert record["loss"] == pytest.approx(record["loss_mlm"] + 0.01 * record["loss_size"])
    times = [record["elapsed_s"] for record in result.history]
    assert times == sorted(times)
    assert times[-1] <= result.elapsed_s


def test_the_first_loss_is_that_of_the_untrained_model(rig: Any, tmp_path: Path):
    # oracle: the terms of the first batch, computed here
    _, result = rig.train(tmp_path, model=rig.tiny_distilbert(0.0), max_steps=1)
    rows, objective = rig.Rows(), rig.TwoTerms()
    (key,) = next(iter(rows.plan))
    batch = {name: torch.from_numpy(array) for name, array in rows[key].items()}
    sums, counts = objective(rig.tiny_distilbert(0.0), batch), objective.counts(batch)
    for name, total in sums.items():
        assert result.history[0][f"loss_{name}"] == pytest.approx(total.item() / counts[name], rel=1e-5)


@pytest.mark.slow
def test_records_of_many_steps_hold_the_mean_of_their_steps(rig: Any, tmp_path: Path):
    # oracle: the same training recorded at every step; above 79 steps every second one is recorded
    _, sparse = rig.train(tmp_path, model=rig.tiny_distilbert(0.0), max_steps=81)
    _, dense = rig.train(tmp_path / "dense", model=rig.tiny_distilbert(0.0), max_steps=81, checkpoint_steps=1000)
    assert [record["step"] for record in sparse.history] == [*range(2, 82, 2), 81]
    assert rig.untimed(sparse.history) == rig.untimed(dense.history)
    assert all(math.isfinite(record["loss"]) for record in sparse.history)


def test_tokens_are_those_attended_to(rig: Any, tmp_path: Path):
    _, result = rig.train(tmp_path, epochs=2)
    assert result.tokens == 2 * sum(len(row) for row in rig.Rows().rows)
    assert result.history[-1]["tokens"] == result.tokens


def test_the_rate_of_tokens_leaves_validation_out(rig: Any, tmp_path: Path):
    def slow(model: nn.Module) -> dict[str, float]:
        time.sleep(0.3)
        return {"score": 0.0}

    _, result = rig.train(tmp_path, validate=slow, evaluate_steps=1, max_steps=4)
    tokens = [record["tokens"] for record in result.history if "loss" in record]
    rates = [record["tokens_per_s"] for record in result.history if "loss" in record]
    training_s = sum((now - before) / rate for before, now, rate in zip([0, *tokens], tokens, rates, strict=False))
    assert training_s <= result.elapsed_s - 4 * 0.3


# -- validation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("max_steps", "evaluated"), [(6, [4, 6]), (8, [4, 8]), (3, [3])])
def test_the_last_step_is_always_evaluated_and_once(rig: Any, tmp_path: Path, max_steps: int, evaluated: list[int]):
    _, result = rig.train(tmp_path, validate=sum_of_weights, evaluate_steps=4, max_steps=max_steps)
    assert [record["step"] for record in result.history if "eval_score" in record] == evaluated


def test_every_epoch_is_evaluated_when_nothing_is_said(rig: Any, tmp_path: Path):
    _, result = rig.train(tmp_path, validate=sum_of_weights, epochs=2.5)
    assert [record["step"] for record in result.history if "eval_score" in record] == [6, 12, 15]


def test_validation_sees_evaluation_mode_and_training_goes_on_in_its_own(rig: Any, tmp_path: Path):
    modes = []

    def look(model: nn.Module) -> dict[str, float]:
        modes.append(model.training)
        return {"score": 0.0}

    looked_at, _ = rig.train(tmp_path / "looked at", validate=look, evaluate_steps=1)
    left_alone, _ = rig.train(tmp_path / "left alone")
    assert set(modes) == {False}
    assert rig.differing(looked_at, left_alone) == []


@pytest.mark.parametrize(("greater", "best"), [(True, 2), (False, 4)])
def test_keep_best_restores_the_best_weights(rig: Any, tmp_path: Path, greater: bool, best: int):
    # oracle: the weights as validation saw them; the score ties at its best, which the earlier step wins
    scores, seen = [math.nan, 3.0, 2.0, 1.0, 3.0, 1.0], []

    def validate(model: nn.Module) -> dict[str, float]:
        seen.append(rig.weights_of(model))
        return {"score": scores[len(seen) - 1]}

    weights, result = rig.train(
        tmp_path, validate=validate, evaluate_steps=1, max_steps=6, keep="best", metric="score",
        greater_is_better=greater,
    )  # fmt: skip
    assert result.best == {"step": best, "epoch": pytest.approx(best / 6), "value": scores[best - 1]}
    assert rig.differing(weights, seen[best - 1]) == []
    assert rig.differing(weights, seen[-1]) != []


def test_keep_last_keeps_the_last_weights(rig: Any, tmp_path: Path):
    seen = []

    def validate(model: nn.Module) -> dict[str, float]:
        seen.append(rig.weights_of(model))
        return {"score": -len(seen)}

    weights, result = rig.train(tmp_path, validate=validate, evaluate_steps=1, max_steps=4, metric="score")
    assert result.best is None
    assert rig.differing(weights, seen[-1]) == []


def test_training_stops_when_patience_is_at_its_end(rig: Any, tmp_path: Path):
    # oracle: by hand, the best of 1 2 1 1.5 2 is at step 2, and three validations after it bring nothing better
    validate = scripted([1.0, 2.0, 1.0, 1.5, 2.0, 9.0])
    _, result = rig.train(
        tmp_path, validate=validate, evaluate_steps=1, patience=3, metric="score", keep="best", max_steps=12
    )
    assert (result.steps, result.stopped_early) == (5, True)
    assert result.best is not None
    assert result.best["step"] == 2


# -- interruptions --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(rig: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], Any]:
    """Two epochs of six steps with dropout 0.1 and masks drawn anew, never interrupted."""
    return rig.train(tmp_path_factory.mktemp("uninterrupted"))


@pytest.mark.parametrize(
    ("batches", "checkpoint_steps", "resumed_from"),
    [(3, 4, 0), (4, 1, 3), (6, 1, 6), (8, 1, 7), (10, 6, 6), (11, 4, 8)],
    ids=["before any", "in epoch 1", "at its end", "after its end", "long after its end", "in epoch 2"],
)
def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    rig: Any, tmp_path: Path, uninterrupted: tuple[dict[str, Tensor], Any], batches: int, checkpoint_steps: int,
    resumed_from: int,
):  # fmt: skip
    # oracle: the weights, bit by bit, and the history of the uninterrupted; a batch is fetched ahead within an epoch
    whole, expected = uninterrupted
    with pytest.raises(rig.Interrupted):
        rig.train(tmp_path, rows=rig.InterruptedRows(batches), checkpoint_steps=checkpoint_steps)
    rows = rig.Rows()
    weights, result = rig.train(tmp_path, rows=rows, checkpoint_steps=checkpoint_steps)
    assert len(rows.seen) == 12 - resumed_from
    assert rig.differing(weights, whole) == []
    assert rig.untimed(result.history) == rig.untimed(expected.history)
    assert result.tokens == expected.tokens


@pytest.mark.slow
def test_an_interruption_between_two_records_leaves_no_mark_in_the_history(rig: Any, tmp_path: Path):
    # of 80 steps every second one is recorded, and the checkpoint is of the third
    _, expected = rig.train(tmp_path / "whole", max_steps=80)
    with pytest.raises(rig.Interrupted):
        rig.train(tmp_path / "parts", rows=rig.InterruptedRows(4), max_steps=80, checkpoint_steps=3)
    _, result = rig.train(tmp_path / "parts", max_steps=80)
    for record, other in zip(rig.untimed(expected.history), rig.untimed(result.history), strict=True):
        assert record == pytest.approx(other, rel=1e-12)
    assert result.tokens == expected.tokens


def test_a_training_interrupted_again_and_again_ends_as_an_uninterrupted_one(rig: Any, tmp_path: Path):
    changes = {"accumulation": 2, "epochs": 3, "evaluate_steps": 2, "keep": "best", "metric": "score", "max_steps": 8}
    whole, expected = rig.train(tmp_path / "whole", validate=sum_of_weights, **changes)
    attempts = 0
    while attempts < 9:
        attempts += 1
        try:
            weights, result = rig.train(
                tmp_path / "parts", rows=rig.InterruptedRows(5), validate=sum_of_weights, checkpoint_steps=1, **changes
            )
            break
        except rig.Interrupted:
            continue
    assert attempts == 4
    assert rig.differing(weights, whole) == []
    assert rig.untimed(result.history) == rig.untimed(expected.history)
    assert result.best == expected.best


def test_an_interruption_during_validation_changes_nothing(rig: Any, tmp_path: Path):
    changes = {"evaluate_steps": 2, "keep": "best", "metric": "score", "checkpoint_steps": 2}
    whole, expected = rig.train(tmp_path / "whole", validate=sum_of_weights, **changes)
    calls = 0

    def interrupted(model: nn.Module) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise rig.Interrupted
        return sum_of_weights(model)

    with pytest.raises(rig.Interrupted):
        rig.train(tmp_path / "parts", validate=interrupted, **changes)
    weights, result = rig.train(tmp_path / "parts", validate=sum_of_weights, **changes)
    assert rig.differing(weights, whole) == []
    assert (result.best, rig.untimed(result.history)) == (expected.best, rig.untimed(expected.history))


def test_patience_counts_on_after_an_interruption(rig: Any, tmp_path: Path):
    scores = [2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    changes = {"evaluate_steps": 1, "patience": 4, "metric": "score", "checkpoint_steps": 1}
    with pytest.raises(rig.Interrupted):
        rig.train(tmp_path, rows=rig.InterruptedRows(3), validate=scripted(scores), **changes)
    _, result = rig.train(tmp_path, validate=scripted(scores[3:]), **changes)
    assert (result.steps, result.stopped_early) == (5, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_steps": 8, "schedule": "constant"},
        {"max_steps": 12, "schedule": "constant"},
        {"max_steps": 12, "patience": 2, "metric": "falling", "evaluate_steps": 1},
    ],
    ids=["in an epoch", "at an epoch's end", "by patience"],
)
def test_a_kill_between_the_last_step_and_the_end_trains_no_step_more(
    rig: Any, tmp_path: Path, changes: dict[str, Any]
):
    def falling(model: nn.Module) -> dict[str, float]:
        return {"falling": 0.0}

    weights, result = rig.train(tmp_path, validate=falling, checkpoint_steps=1, **changes)
    (tmp_path / "finished.json").unlink()
    (tmp_path / "finished.safetensors").unlink()
    again, repeated = rig.train(tmp_path, validate=falling, checkpoint_steps=1, **changes)
    assert (repeated.steps, repeated.stopped_early) == (result.steps, result.stopped_early)
    assert rig.differing(again, weights) == []
    assert rig.untimed(repeated.history) == rig.untimed(result.history)


def test_a_half_written_checkpoint_is_passed_over(
    rig: Any, tmp_path: Path, uninterrupted: tuple[dict[str, Tensor], Any]
):
    with pytest.raises(rig.Interrupted):
        rig.train(tmp_path, rows=rig.InterruptedRows(9), checkpoint_steps=4)
    newest = tmp_path / "checkpoint-8"
    (newest / "trainer_state.json").unlink()
    (newest / "optimizer.pt").write_bytes(b"torn")
    rows = rig.Rows()
    weights, _ = rig.train(tmp_path, rows=rows, checkpoint_steps=4)
    assert len(rows.seen) == 8
    assert rig.differing(weights, uninterrupted[0]) == []


def test_a_finished_training_is_not_done_again(rig: Any, tmp_path: Path, uninterrupted: tuple[dict[str, Tensor], Any]):
    first, result = rig.train(tmp_path, validate=sum_of_weights, keep="best", metric="score", evaluate_steps=2)
    again, found = rig.train(tmp_path, rows=rig.InterruptedRows(0), keep="best", metric="score")
    assert found == result
    assert rig.differing(again, first) == []


def test_time_is_counted_over_an_interruption(rig: Any, tmp_path: Path):
    with pytest.raises(rig.Interrupted):
        rig.train(tmp_path, rows=_TardyRows(rig, 0.2), checkpoint_steps=1)
    _, result = rig.train(tmp_path)
    times = [record["elapsed_s"] for record in result.history]
    assert times == sorted(times)
    assert result.history[1]["step"] == 2
    assert 0.4 <= result.history[1]["elapsed_s"] <= result.elapsed_s < 30
    assert len(result.history) == 12


def _TardyRows(rig: Any, delay_s: float) -> Any:  # noqa: N802 - a class made of another module's
    class Tardy(rig.InterruptedRows):
        def __getitem__(self, key: Any) -> Any:
            time.sleep(delay_s)
            return super().__getitem__(key)

    return Tardy(2)


def test_checkpoints_are_made_by_the_clock(rig: Any, tmp_path: Path):
    with pytest.raises(rig.Interrupted):
        rig.train(tmp_path / "often", rows=rig.InterruptedRows(5), checkpoint_s=1e-6)
    with pytest.raises(rig.Interrupted):
        rig.train(tmp_path / "seldom", rows=rig.InterruptedRows(5), checkpoint_s=1e6)
    assert sorted(path.name for path in (tmp_path / "often").iterdir()) == ["checkpoint-3", "checkpoint-4"]
    assert list((tmp_path / "seldom").iterdir()) == []


def test_projections_of_the_objective_are_trained_and_kept_in_checkpoints(rig: Any, tmp_path: Path):
    def objective() -> DistillationObjective:
        return DistillationObjective(
            rig.tiny_bert(16), {"mlm": 1.0, "hidden_mse": 1.0}, layer_pairs=[(0, 0), (2, 3)], student_width=32
        )

    def projections(of: DistillationObjective) -> dict[str, Tensor]:
        assert of.modules is not None
        return rig.weights_of(of.modules)

    whole, parts, resumed = objective(), objective(), objective()
    untrained = projections(whole)
    rig.train(tmp_path / "whole", objective=whole)
    with pytest.raises(rig.Interrupted):
        rig.train(tmp_path / "parts", objective=parts, rows=rig.InterruptedRows(5), checkpoint_steps=2)
    kept = load_file(tmp_path / "parts" / "checkpoint-4" / "model.safetensors")
    rig.train(tmp_path / "parts", objective=resumed)
    assert set(rig.differing(untrained, projections(whole))) == set(untrained)
    assert {f"loss_modules.{name}" for name in untrained} <= kept.keys()
    assert not any(name.startswith(("objective", "teacher")) for name in kept)
    assert rig.differing(projections(resumed), projections(whole)) == []


# -- what goes wrong ------------------------------------------------------------------------------------------------


class Spoilt:
    """An objective whose loss, or only whose gradient, stops being a number at a step counted from 1."""

    modules = None

    def __init__(self, inner: Any, step: int, *, gradient_only: bool) -> None:
        self.weights, self.counts = inner.weights, inner.counts
        self._inner, self._step, self._gradient_only, self._calls = inner, step, gradient_only, 0

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self._calls += 1
        terms = self._inner(model, batch)
        if self._calls < self._step:
            return terms
        spoilt = (terms["mlm"] * 0.0).sqrt() if self._gradient_only else terms["mlm"] * math.nan
        return {**terms, "mlm": terms["mlm"] + spoilt}


@pytest.mark.parametrize("gradient_only", [False, True], ids=["loss", "gradient"])
def test_a_loss_that_is_not_a_number_stops_and_keeps_the_last_good_checkpoint(
    rig: Any, tmp_path: Path, gradient_only: bool
):
    objective = Spoilt(rig.TwoTerms(), 6, gradient_only=gradient_only)
    with pytest.raises(DivergedError, match=r"became (nan|inf) at step 6 of 12") as told:
        rig.train(tmp_path, objective=objective, checkpoint_steps=1)
    kept = latest_checkpoint(tmp_path)
    assert kept == tmp_path / "checkpoint-5"
    assert str(kept) in str(told.value)
    assert all(torch.isfinite(tensor).all() for tensor in load_file(kept / "model.safetensors").values())
    assert not (tmp_path / "finished.json").exists()


def test_divergence_before_any_checkpoint_does_not_claim_one(rig: Any, tmp_path: Path):
    with pytest.raises(DivergedError, match=r"at step 1 of 12; there was no checkpoint"):
        rig.train(tmp_path, objective=Spoilt(rig.TwoTerms(), 1, gradient_only=False))


@pytest.mark.parametrize(
    ("changes", "resumed_from"),
    [
        ({"checkpoint_steps": 2}, 4),
        ({"keep": "best", "metric": "score", "evaluate_steps": 3}, 4),
        ({}, 4),
    ],
    ids=["a checkpoint", "the best weights", "the last weights"],
)
def test_a_full_disk_spoils_nothing_and_training_goes_on_when_there_is_room(
    rig: Any, tmp_path: Path, changes: dict[str, Any], resumed_from: int
):
    # oracle: the files of before, and the weights of a training that never met a full disk
    whole, expected = rig.train(tmp_path / "whole", validate=sum_of_weights, **changes)
    parts = tmp_path / "parts"
    with pytest.raises(rig.Interrupted):
        rig.train(parts, rows=rig.InterruptedRows(5), validate=sum_of_weights, **{**changes, "checkpoint_steps": 2})
    before = files_in(parts)
    with rig.full_disk(), pytest.raises(StorageError, match="could not be written"):
        rig.train(parts, validate=sum_of_weights, **changes)
    assert files_in(parts) == before
    assert latest_checkpoint(parts) == parts / f"checkpoint-{resumed_from}"
    rows = rig.Rows()
    weights, result = rig.train(parts, rows=rows, validate=sum_of_weights, **changes)
    assert len(rows.seen) == 12 - resumed_from
    assert rig.differing(weights, whole) == []
    assert (result.best, rig.untimed(result.history)) == (expected.best, rig.untimed(expected.history))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard writes in a thread
def test_a_disk_too_full_for_the_log_is_told_as_such(rig: Any, tmp_path: Path):
    with rig.full_disk(100), pytest.raises(StorageError, match="no space left"):
        rig.train(tmp_path / "work", log_folder=tmp_path / "logs", report_to=("tensorboard",), epochs=9)


def test_a_validation_loss_that_is_not_a_number_stops_too(rig: Any, tmp_path: Path):
    # the update of the last step is seen by no later loss
    def validate(model: nn.Module) -> dict[str, float]:
        return {"loss": math.nan}

    with pytest.raises(DivergedError, match=r"the validation loss became nan at step 12 of 12"):
        rig.train(tmp_path, validate=validate, evaluate_steps=12, keep="best", metric="loss")
    assert files_in(tmp_path) == {}


def test_tensorboard_is_told_what_the_history_tells(rig: Any, tmp_path: Path):
    # oracle: TensorBoard's own reader
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, result = rig.train(tmp_path / "work", log_folder=tmp_path / "logs", report_to=("tensorboard",), epochs=1)
    log = EventAccumulator(str(tmp_path / "logs"))
    log.Reload()
    for name in ("loss", "loss_mlm"):
        told = [(event.step, event.value) for event in log.Scalars(f"train/{name}")]
        assert told == [(record["step"], pytest.approx(record[name], rel=1e-6)) for record in result.history]


def test_a_full_disk_at_the_first_save_leaves_nothing(rig: Any, tmp_path: Path):
    with rig.full_disk(1000), pytest.raises(StorageError):
        rig.train(tmp_path, checkpoint_steps=2)
    assert files_in(tmp_path) == {}


# -- processes of their own -----------------------------------------------------------------------------------------


def program(*arguments: str | Path, processes: int = 1) -> list[str]:
    alone = [sys.executable, str(RIG)]
    together = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
        str(RIG),
    ]
    return [*(alone if processes == 1 else together), *map(str, arguments)]


def run(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "work").mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("at_step", [4, 6])
def test_a_killed_process_is_taken_up_where_it_was(
    rig: Any, tmp_path: Path, uninterrupted: tuple[dict[str, Tensor], Any], at_step: int
):
    tmp_path.mkdir(exist_ok=True)
    command = program(tmp_path, "slow=1", "dropout=0.1", "checkpoint_steps=1")
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (tmp_path / "work" / f"checkpoint-{at_step}" / "trainer_state.json").exists():
        assert process.poll() is None, process.stderr.read().decode()[-3000:] if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "work" / "finished.json").exists()
    run(program(tmp_path, "dropout=0.1", "checkpoint_steps=1"), tmp_path)
    found = load_file(tmp_path / "weights.safetensors")
    assert [name for name in found if not torch.equal(found[name], uninterrupted[0][name])] == []


@pytest.mark.slow
def test_two_processes_interrupted_in_the_second_epoch_equal_one_that_accumulates(rig: Any, tmp_path: Path):
    # oracle: the single process; 24 rows are 6 batches, 3 for each process, so that no batch is dealt out twice
    same = ("n_rows=24", "checkpoint_steps=1")
    run(program(tmp_path / "one", *same, "accumulation=2"), tmp_path / "one")
    with pytest.raises(AssertionError, match="Interrupted"):
        run(program(tmp_path / "two", *same, "batches=5", processes=2), tmp_path / "two")
    assert latest_checkpoint(tmp_path / "two" / "work") == tmp_path / "two" / "work" / "checkpoint-4"
    run(program(tmp_path / "two", *same, processes=2), tmp_path / "two")
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    assert rig.farthest(one, two) < 1e-5
    records = [json.loads((tmp_path / name / "work" / "finished.json").read_text("utf-8")) for name in ("one", "two")]
    assert records[0]["tokens"] == records[1]["tokens"]
    for single, shared in zip(*(rig.untimed(record["history"]) for record in records), strict=True):
        assert single == pytest.approx(shared, rel=1e-4)


def test_a_resumed_training_goes_on_in_the_arithmetic_it_began_with(
    rig: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # oracle: the training that was not interrupted; meanwhile the machine came to gain from bf16
    whole, _ = rig.train(tmp_path / "whole")
    with pytest.raises(rig.Interrupted):
        rig.train(tmp_path / "parts", rows=rig.InterruptedRows(7), checkpoint_steps=3)
    monkeypatch.setattr("potstill.training.settings.cpu_gains_from_bf16", lambda: True)
    resumed, result = rig.train(tmp_path / "parts", checkpoint_steps=3)
    assert rig.differing(whole, resumed) == []
    assert result.throughput["precision"] == "fp32"


@pytest.mark.parametrize("accumulation", [1, 4])
def test_padding_and_what_was_avoided_are_those_of_the_batches(rig: Any, tmp_path: Path, accumulation: int):
    # oracle: counted from the batches that training met, however they were grouped into steps
    rows = rig.Rows()
    _, result = rig.train(tmp_path, rows=rows, accumulation=accumulation, epochs=1.0)
    lengths = [[len(rows.rows[row]) for row in batch] for _, _, batch in rows.seen]
    positions = sum(max(batch) * len(batch) for batch in lengths)
    assert result.throughput["padding"] == pytest.approx(1 - sum(map(sum, lengths)) / positions)
    unsorted = max(map(len, rows.rows)) * len(rows.rows)
    assert result.throughput["padding_avoided"] == pytest.approx(1 - positions / unsorted)
