"""What trains when and how fast: rates worked by hand, weights that stay bit by bit, and trainings that were killed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_model
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    AlbertConfig,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    PreTrainedModel,
    RobertaConfig,
    get_scheduler,
)
from transformers import AutoModelForSequenceClassification as Classifier

from potstill.errors import ModelError, RecipeError
from potstill.training import trainer
from potstill.training.checkpoints import kept_epochs
from potstill.training.parameters import (
    ParameterPlan,
    Rates,
    Unfreezing,
    parts_of,
    plan_parameters,
    rate_lines,
    warm_up_late_groups,
)

N_STEPS = 12
WIDE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
SIZES = {"vocab_size": 60, "max_position_embeddings": 20}


def plan_of(
    model: PreTrainedModel, strategy: Any = "full", rates: Mapping[str, float] | None = None, **unfreezing: Any
) -> ParameterPlan:
    settings = Rates(**{"learning_rate": 1e-2, **(rates or {})})
    return plan_parameters(model, settings, Unfreezing(strategy, **unfreezing), N_STEPS)


def planned(strategy: Any = "full", **choices: Any) -> Callable[[PreTrainedModel], ParameterPlan]:
    return lambda model: plan_of(model, strategy, **choices)


def names_by_part(model: nn.Module) -> dict[str, set[str]]:
    """Names in the state of the rig's DistilBERT, 2 layers, by part; its decoder shares the embeddings' weights."""
    parts: dict[str, set[str]] = {"embeddings": set(), "layer 0": set(), "layer 1": set(), "head": set()}
    for name in model.state_dict():
        layer = name.removeprefix("distilbert.transformer.layer.")[0]
        in_layer = name.startswith("distilbert.transformer.layer.")
        in_embeddings = name.startswith("distilbert.embeddings.") or name == "vocab_projector.weight"
        parts[f"layer {layer}" if in_layer else "embeddings" if in_embeddings else "head"].add(name)
    return parts


# -- rates ------------------------------------------------------------------------------------------------------------


def test_rates_of_six_layers_fall_by_the_factor_from_the_head_down():
    # oracle: worked by hand, 1e-4 halved seven times
    rates = Rates(1e-4, decay=0.5).by_depth(6)
    by_hand = [7.8125e-7, 1.5625e-6, 3.125e-6, 6.25e-6, 1.25e-5, 2.5e-5, 5e-5, 1e-4]
    assert rates == pytest.approx(by_hand, rel=1e-12)


def test_a_factor_of_one_leaves_the_learning_rate_as_it_is():
    assert Rates(3e-5).by_depth(12) == [3e-5] * 14


@pytest.mark.parametrize(
    ("n_layers", "expected"),
    [
        (6, [1e-6, 2e-6, 2e-6, 2e-6, 1e-5, 1e-5, 1e-5, 5e-5]),
        (5, [1e-6, 2e-6, 2e-6, 1e-5, 1e-5, 1e-5, 5e-5]),
        (1, [1e-6, 1e-5, 5e-5]),
    ],
)
def test_rates_given_by_depth_are_taken(n_layers: int, expected: list[float]):
    assert Rates(1.0, embeddings=1e-6, early=2e-6, late=1e-5, head=5e-5).by_depth(n_layers) == expected


def test_a_rate_that_is_given_replaces_what_would_follow_and_no_other():
    # oracle: worked by hand
    assert Rates(1e-2, decay=0.1, head=3.0).by_depth(2) == pytest.approx([1e-5, 1e-4, 1e-3, 3.0])


# -- when -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unfreezing", "expected"),
    [
        (Unfreezing(), [0, 0, 0, 0, 0, 0]),
        (Unfreezing("freeze"), [None, None, None, None, None, 0]),
        (Unfreezing("hybrid", head_share=0.3), [30, 30, 30, 30, 30, 0]),
        (Unfreezing("gradual", unfreeze_share=0.5), [50, 40, 30, 20, 10, 0]),
        (Unfreezing(freeze_layers=2), [None, None, None, 0, 0, 0]),
        (Unfreezing(freeze_layers=2, freeze_embeddings=False), [0, None, None, 0, 0, 0]),
        (Unfreezing(freeze_embeddings=True), [None, 0, 0, 0, 0, 0]),
        (Unfreezing(freeze_layers=4), [None, None, None, None, None, 0]),
        (Unfreezing("hybrid", freeze_layers=1), [None, None, 25, 25, 25, 0]),
        (Unfreezing("gradual", unfreeze_share=0.9, freeze_layers=1), [None, None, 90, 60, 30, 0]),
    ],
)
def test_each_part_starts_when_it_is_its_turn(unfreezing: Unfreezing, expected: list[int | None]):
    # oracle: worked by hand for 4 layers and 100 steps
    assert unfreezing.starts(4, 100) == expected


def test_an_epoch_for_each_part_is_a_share():
    # oracle: Howard & Ruder's order, one part more an epoch: 5 epochs of 20 steps, head, 3 layers and embeddings
    assert Unfreezing("gradual", unfreeze_share=4 / 5).starts(3, 100) == [80, 60, 40, 20, 0]


def test_more_frozen_layers_than_there_are_are_refused():
    with pytest.raises(ModelError, match=r"freeze_layers is more than the model has; found 5; allowed: 0 to 4"):
        Unfreezing(freeze_layers=5).starts(4, 100)


def test_several_processes_cannot_change_what_trains(rig: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert plan_of(rig.tiny_distilbert(), "freeze").starts == {0}
    with pytest.raises(RecipeError, match="several processes cannot change what trains"):
        plan_of(rig.tiny_distilbert(), "hybrid")


# -- parts ------------------------------------------------------------------------------------------------------------

FAMILIES = {
    "bert": BertConfig(**SIZES, **WIDE),
    "roberta": RobertaConfig(**SIZES, **WIDE),
    "electra": ElectraConfig(**SIZES, **WIDE, embedding_size=8),
    "distilbert": DistilBertConfig(**SIZES, dim=16, n_layers=3, n_heads=2, hidden_dim=32),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_is_in_one_part(family: str):
    # oracle: the number of each part's parameters, counted on transformers' own modules
    model = Classifier.from_config(FAMILIES[family])
    parts = parts_of(model)
    assert list(parts) == ["embeddings", "layer 0", "layer 1", "layer 2", "head"]
    everything = [id(parameter) for part in parts.values() for parameter in part]
    assert sorted(everything) == sorted(id(parameter) for parameter in model.parameters())
    stack = model.base_model.transformer if family == "distilbert" else model.base_model.encoder
    for index, layer in enumerate(stack.layer):
        assert {id(p) for p in parts[f"layer {index}"]} == {id(p) for p in layer.parameters()}
    apart = [model.base_model.embeddings] + ([model.base_model.embeddings_project] if family == "electra" else [])
    assert {id(p) for p in parts["embeddings"]} == {id(p) for module in apart for p in module.parameters()}


def test_a_pooler_belongs_to_the_head():
    model = Classifier.from_config(FAMILIES["bert"])
    pooler = {id(parameter) for parameter in model.bert.pooler.parameters()}
    assert pooler <= {id(parameter) for parameter in parts_of(model)["head"]}


def test_a_model_of_one_layer_used_many_times_has_two_parts():
    model = Classifier.from_config(AlbertConfig(**SIZES, **{**WIDE, "num_hidden_layers": 4}, embedding_size=8))
    plan = plan_of(model, rates={"decay": 0.5})
    assert [(part.name, part.learning_rate) for part in plan.parts] == [("encoder", 0.005), ("head", 0.01)]
    with pytest.raises(ModelError, match="allowed: 0 to 0"):
        plan_of(model, freeze_layers=1)


def test_the_table_holds_plain_rows_and_its_words_put_like_neighbours_together():
    # oracle: written by hand; the layers are equal, and have as many parameters as torch counts
    model = Classifier.from_config(FAMILIES["distilbert"])
    plan = plan_of(model, "hybrid", {"late": 2e-5, "head": 1e-3}, freeze_layers=1)
    counts = [sum(parameter.numel() for parameter in part) for part in parts_of(model).values()]
    assert plan.rows() == [
        {"part": "embeddings", "parameters": counts[0], "learning_rate": None, "from_step": None},
        {"part": "layer 0", "parameters": counts[1], "learning_rate": None, "from_step": None},
        {"part": "layer 1", "parameters": counts[2], "learning_rate": 2e-5, "from_step": 3},
        {"part": "layer 2", "parameters": counts[3], "learning_rate": 2e-5, "from_step": 3},
        {"part": "head", "parameters": counts[4], "learning_rate": 1e-3, "from_step": 0},
    ]
    assert list(rate_lines(plan.rows())) == [
        f"head ({counts[4]:,} parameters): peak learning rate 0.001",
        f"layer 2 to layer 1 ({2 * counts[2]:,} parameters): peak learning rate 2e-05 from step 3",
        f"layer 0 to embeddings ({counts[0] + counts[1]:,} parameters): frozen",
    ]


# -- training ---------------------------------------------------------------------------------------------------------


def test_full_at_one_rate_equals_training_without_a_plan(rig: Any, tmp_path: Path):
    # oracle: the training that knows no plan, bit by bit
    plain, expected = rig.train(tmp_path / "plain")
    weights, result = rig.train(tmp_path / "planned", plan=planned())
    assert rig.differing(weights, plain) == []
    assert rig.untimed(result.history) == rig.untimed(expected.history)


class NoGradient:
    """An objective that is 0 whatever the weights are: all that moves them is their decay."""

    weights: Mapping[str, float] = {"nothing": 1.0}
    modules = None

    def counts(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        return {"nothing": 1.0}

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"nothing": sum((parameter * 0.0).sum() for parameter in model.parameters())}  # type: ignore[dict-item]


def test_each_part_moves_at_its_own_rate_and_decay_spares_norms_and_biases(rig: Any, tmp_path: Path):
    # oracle: without a gradient AdamW multiplies what decays by 1 - rate · decay
    model = rig.tiny_distilbert()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand_like(parameter) + 0.1)
    before, parts = rig.weights_of(model), names_by_part(model)
    after, _ = rig.train(
        tmp_path, model=model, objective=NoGradient(), max_steps=1, schedule="constant", warmup=0.0, weight_decay=0.5,
        plan=planned(rates={"learning_rate": 0.4, "decay": 0.5}),
    )  # fmt: skip
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    for part, rate in {"embeddings": 0.05, "layer 0": 0.1, "layer 1": 0.2, "head": 0.4}.items():
        for name in parts[part]:
            spared = name.endswith("bias") or name.rpartition(".")[0] in norms
            assert torch.allclose(after[name], before[name] * (1.0 if spared else 1 - rate * 0.5)), name


@pytest.mark.parametrize(
    ("choices", "still"),
    [
        ({"strategy": "freeze"}, {"embeddings", "layer 0", "layer 1"}),
        ({"freeze_layers": 1}, {"embeddings", "layer 0"}),
        ({"freeze_layers": 1, "freeze_embeddings": False}, {"layer 0"}),
        ({"freeze_embeddings": True}, {"embeddings"}),
        ({"strategy": "gradual", "freeze_layers": 1}, {"embeddings", "layer 0"}),
    ],
    ids=str,
)
def test_what_is_frozen_stays_bit_by_bit_and_the_rest_moves(
    rig: Any, tmp_path: Path, choices: dict[str, Any], still: set[str]
):
    model = rig.tiny_distilbert()
    before, parts = rig.weights_of(model), names_by_part(model)
    after, _ = rig.train(tmp_path, model=model, plan=planned(**choices))
    moved = set(rig.differing(after, before))
    for part, names in parts.items():
        # the bias of attention's keys has a gradient of rounding alone
        assert moved & names == set() if part in still else names - moved <= {n for n in names if "k_lin.bias" in n}
    assert all(parameter.requires_grad for parameter in model.parameters()), "the model is left as it was found"


@pytest.mark.parametrize(
    ("strategy", "starts"),
    [
        ("hybrid", {"embeddings": 3, "layer 0": 3, "layer 1": 3, "head": 0}),
        ("gradual", {"embeddings": 6, "layer 0": 4, "layer 1": 2, "head": 0}),
    ],
)
def test_a_part_moves_from_its_step_on_and_not_before(rig: Any, tmp_path: Path, strategy: str, starts: dict[str, int]):
    # oracle: the weights after every step; the first step of a warm-up has the rate 0
    model = rig.tiny_distilbert()
    seen, parts = [rig.weights_of(model)], names_by_part(model)

    def look(module: nn.Module) -> dict[str, float]:
        seen.append(rig.weights_of(module))
        return {"score": 0.0}

    rig.train(tmp_path, model=model, validate=look, evaluate_steps=1, plan=planned(strategy), warmup=0.0)
    for step in range(N_STEPS - 1):  # the last step of a linear schedule is nearly none
        moved = set(rig.differing(seen[step + 1], seen[step]))
        assert {part for part, names in parts.items() if moved & names} == {p for p in starts if starts[p] <= step}


@pytest.fixture(scope="module")
def uninterrupted(rig: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Tensor], Any]]:
    """Weights and history of each strategy whose plan changes, never interrupted."""
    return {
        strategy: rig.train(tmp_path_factory.mktemp(strategy), plan=planned(strategy, rates={"decay": 0.5}))
        for strategy in ("hybrid", "gradual")
    }


@pytest.mark.parametrize(
    ("strategy", "batches"),
    [
        ("hybrid", 4),
        ("gradual", 5),
        *(pytest.param("hybrid", batches, marks=pytest.mark.slow) for batches in (3, 5, 8)),
        *(pytest.param("gradual", batches, marks=pytest.mark.slow) for batches in (3, 4, 6, 8)),
    ],
)
def test_a_plan_that_changes_is_followed_over_an_interruption(
    rig: Any, tmp_path: Path, uninterrupted: Any, strategy: str, batches: int
):
    """Interrupted before, at and after the steps (3; 2, 4 and 6) at which more begins to train."""
    # oracle: the weights, bit by bit, and the history of the training that was not interrupted
    whole, expected = uninterrupted[strategy]
    choices = {"plan": planned(strategy, rates={"decay": 0.5}), "checkpoint_steps": 1}
    with pytest.raises(rig.Interrupted):
        rig.train(tmp_path, rows=rig.InterruptedRows(batches), **choices)
    weights, result = rig.train(tmp_path, **choices)
    assert rig.differing(weights, whole) == []
    assert rig.untimed(result.history) == rig.untimed(expected.history)


def test_the_backward_pass_ends_at_the_lowest_part_that_trains(rig: Any, tmp_path: Path):
    # oracle: autograd's own mark on what each layer was given and gave
    model, marks = rig.tiny_distilbert(), []

    def mark(module: nn.Module, inputs: Any, output: Any) -> None:
        state = output if isinstance(output, Tensor) else output[0]
        marks.append(state.requires_grad)

    for module in (model.distilbert.embeddings, *model.distilbert.transformer.layer):
        module.register_forward_hook(mark)
    rig.train(tmp_path, model=model, plan=planned("gradual"))
    by_step = [tuple(marks[3 * step : 3 * step + 3]) for step in range(N_STEPS)]
    one_more = [(False, False, False), (False, False, True), (False, True, True)]
    assert by_step == [*(state for state in one_more for _ in range(2)), *[(True, True, True)] * 6]


def test_operations_are_those_of_what_trains(rig: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # oracle: of 12 steps on batches of one size, 3 of hybrid are those of freeze, and 9 those of full
    measure, counted = trainer.measured_throughput, []

    @functools.wraps(measure)
    def look(**figures: Any) -> Any:
        counted.append(figures["flops"])
        return measure(**figures)

    monkeypatch.setattr(trainer, "measured_throughput", look)
    for strategy in ("freeze", "hybrid", "full"):
        rows = rig.Rows(n_rows=24)
        rows.rows = [row[:5] for row in rows.rows]
        rig.train(tmp_path / strategy, rows=rows, plan=planned(strategy))
    freeze, hybrid, full = counted
    assert hybrid == pytest.approx(0.25 * freeze + 0.75 * full, rel=1e-6)
    assert freeze < 0.75 * full


def test_a_late_group_is_warmed_up_when_it_joins():
    # oracle: worked by hand, a fall from 1 to 0 in 10 steps after a rise in 2; the second group rises from step 4 on
    groups: Any = [{"params": [nn.Parameter(torch.ones(1))], "start": start} for start in (0, 4)]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    schedule: LambdaLR = get_scheduler("linear", optimizer, num_warmup_steps=2, num_training_steps=12)
    warm_up_late_groups(schedule, 2)
    rates = []
    for _ in range(8):
        rates.append(schedule.get_last_lr())
        optimizer.step()
        schedule.step()
    early, late = zip(*rates, strict=True)
    assert early == pytest.approx([0.0, 0.5, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5])
    assert late[4:] == pytest.approx([0.0, 0.35, 0.6, 0.5])


def test_patience_counts_once_everything_trains(rig: Any, tmp_path: Path):
    # oracle: by hand, the head trains alone in 3 steps; the validations of steps 4 and 5 are the first that count
    scores = iter([1.0] * N_STEPS)
    choices = {"evaluate_steps": 1, "patience": 2, "metric": "score", "keep": "best"}
    _, result = rig.train(
        tmp_path, plan=planned("hybrid"), validate=lambda model: {"score": next(scores)}, **choices
    )  # fmt: skip
    assert (result.steps, result.stopped_early) == (5, True)


def test_a_plan_that_leaves_parameters_out_is_an_error(rig: Any, tmp_path: Path):
    objective = rig.TwoTerms(nn.ModuleDict({"projection": nn.Linear(2, 2)}))
    with pytest.raises(ValueError, match=r"says nothing of loss_modules\.projection\.weight"):
        rig.train(tmp_path, objective=objective, plan=planned())


def test_the_weights_of_every_epoch_are_kept_over_an_interruption(rig: Any, tmp_path: Path):
    # oracle: the weights as validation saw them
    seen: dict[int, dict[str, Tensor]] = {}

    def look(model: nn.Module) -> dict[str, float]:
        seen[len(seen)] = rig.weights_of(model)
        return {"score": 0.0}

    choices = {"validate": look, "keep_epochs": True, "checkpoint_steps": 1, "epochs": 3}
    with pytest.raises(rig.Interrupted):
        rig.train(tmp_path, rows=rig.InterruptedRows(14), **choices)
    rig.train(tmp_path, **choices)
    files = kept_epochs(tmp_path)
    assert list(files) == [6, 12, 18]
    for number, file in enumerate(files.values()):
        model = rig.tiny_distilbert()
        load_model(model, str(file), strict=True)
        assert rig.differing(rig.weights_of(model), seen[number]) == []
