"""Which parameters train, from which step on and how fast, by their depth in the model.

What trains is a function of the step alone, so that a training that was killed goes on as one that was not.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from potstill.errors import ModelError, RecipeError
from potstill.models.checkpoints import encoder_prefix
from potstill.models.student import find_layers

Strategy = Literal["full", "freeze", "hybrid", "gradual"]


@dataclass(frozen=True)
class Rates:
    """Peak learning rates by depth.

    The head has ``learning_rate`` and each part below it ``decay`` times that of the part above: the layers from the
    top, then the embeddings. A rate given here replaces that; ``early`` is of the lower half of the layers (rounded
    down), ``late`` of the others.
    """

    learning_rate: float
    decay: float = 1.0
    embeddings: float | None = None
    early: float | None = None
    late: float | None = None
    head: float | None = None

    def by_depth(self, n_layers: int) -> list[float]:
        """The rates of embeddings, layers from the lowest, and head: ``n_layers + 2`` of them."""
        half = n_layers // 2
        given = [self.embeddings, *[self.early] * half, *[self.late] * (n_layers - half), self.head]
        follows = [self.learning_rate * self.decay ** (n_layers + 1 - depth) for depth in range(n_layers + 2)]
        return [rate if own is None else own for own, rate in zip(given, follows, strict=True)]


@dataclass(frozen=True)
class Unfreezing:
    """From which step each part trains.

    ``full``: all from the first. ``freeze``: the head alone. ``hybrid``: the head, and the others once ``head_share``
    of the steps are done. ``gradual``: the head, then one part more at even intervals from the top layer down to the
    embeddings, the last at ``unfreeze_share`` of the steps (Howard & Ruder 2018, §3.3, where the interval is an epoch).
    The lowest ``freeze_layers`` never train, nor do the embeddings where ``freeze_embeddings`` says so, or says nothing
    and there are such layers: without them the backward pass ends at the lowest layer that trains.
    """

    strategy: Strategy = "full"
    head_share: float = 0.25
    unfreeze_share: float = 0.5
    freeze_layers: int = 0
    freeze_embeddings: bool | None = None

    def starts(self, n_layers: int, n_steps: int) -> list[int | None]:
        """The first step, counted from 0, of embeddings, layers from the lowest, and head; None for what never trains.

        Raises ``ModelError`` where more layers are frozen than there are.
        """
        if self.freeze_layers > n_layers:
            raise ModelError(
                "freeze_layers is more than the model has", found=self.freeze_layers, allowed=f"0 to {n_layers}"
            )
        embeddings_train = not (self.freeze_layers if self.freeze_embeddings is None else self.freeze_embeddings)
        joining = [*range(n_layers, self.freeze_layers, -1), *([0] if embeddings_train else [])]
        starts: list[int | None] = [None] * (n_layers + 1) + [0]
        for number, depth in enumerate(joining, start=1):
            starts[depth] = self._start(number / len(joining), n_steps)
        return starts

    def _start(self, share_joined: float, n_steps: int) -> int | None:
        """Of the part with which ``share_joined`` of those below the head train."""
        match self.strategy:
            case "full":
                return 0
            case "freeze":
                return None
            case "hybrid":
                return round(self.head_share * n_steps)
            case "gradual":
                return round(self.unfreeze_share * share_joined * n_steps)


@dataclass(frozen=True)
class Part:
    """One depth of a model; ``start`` is the step from which it trains, None for never."""

    name: str
    parameters: Sequence[nn.Parameter]
    learning_rate: float
    start: int | None

    @property
    def n_parameters(self) -> int:
        """Numbers in the part."""
        return sum(parameter.numel() for parameter in self.parameters)


@dataclass(frozen=True)
class ParameterPlan:
    """The parts of a model from the lowest to the head, and when and how fast each trains."""

    parts: Sequence[Part]

    @property
    def starts(self) -> set[int]:
        """The steps from which more trains than before."""
        return {part.start for part in self.parts if part.start is not None}

    def apply(self, step: int) -> None:
        """Let those parameters have gradients that train in ``step``, counted from 0."""
        for part in self.parts:
            for parameter in part.parameters:
                parameter.requires_grad_(part.start is not None and step >= part.start)

    def release(self) -> None:
        """Let all parameters have gradients again."""
        for part in self.parts:
            for parameter in part.parameters:
                parameter.requires_grad_(True)

    def groups(self, module: nn.Module, decayed: Collection[str], weight_decay: float) -> list[dict[str, Any]]:
        """Groups for an optimiser, the head's first: of each part that ever trains those that decay, and the others.

        ``decayed`` are names in ``module``, whose parameters are those of the plan; ValueError where it has more.
        """
        names = {parameter: name for name, parameter in module.named_parameters()}
        planned = {parameter for part in self.parts for parameter in part.parameters}
        if strangers := [name for parameter, name in names.items() if parameter not in planned]:
            raise ValueError(f"the plan says nothing of {', '.join(strangers)}")
        return [
            {"params": chosen, "lr": part.learning_rate, "weight_decay": decay, "start": part.start}
            for part in reversed(self.parts)
            if part.start is not None
            for decay, decays in ((weight_decay, True), (0.0, False))
            if (chosen := [parameter for parameter in part.parameters if (names[parameter] in decayed) == decays])
        ]

    def rows(self) -> list[dict[str, Any]]:
        """The table of rates as plain values, lowest part first; ``from_step`` None is never, as is its rate."""
        return [
            {
                "part": part.name,
                "parameters": part.n_parameters,
                "learning_rate": None if part.start is None else part.learning_rate,
                "from_step": part.start,
            }
            for part in self.parts
        ]


def plan_parameters(model: PreTrainedModel, rates: Rates, unfreezing: Unfreezing, n_steps: int) -> ParameterPlan:
    """When and how fast each part of ``model`` trains in ``n_steps`` steps.

    A pooler belongs to the head, and what the encoder has besides layers to the embeddings. A model that shares one
    layer among many has two parts, ``encoder`` and ``head``. Raises as ``starts`` does, and ``RecipeError`` for several
    processes where what trains is to change: they agree on that once, at the start.
    """
    named = parts_of(model)
    n_layers = len(named) - 2
    settings = zip(rates.by_depth(n_layers), unfreezing.starts(n_layers, n_steps), strict=True)
    plan = ParameterPlan([Part(*own, *set_) for own, set_ in zip(named.items(), settings, strict=True)])
    if len(plan.starts) > 1 and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError(
            "several processes cannot change what trains on the way", found=unfreezing.strategy, allowed="full, freeze"
        )
    return plan


def parts_of(model: PreTrainedModel) -> dict[str, list[nn.Parameter]]:
    """The parameters of ``model`` by part: ``embeddings``, ``layer 0`` and so on, ``head``."""
    layers = find_layers(model)
    n_layers = model.config.num_hidden_layers if layers else 0
    lowest = "embeddings" if layers else "encoder"
    parts: dict[str, list[nn.Parameter]] = {lowest: [], **{f"layer {i}": [] for i in range(n_layers)}, "head": []}
    prefix = encoder_prefix(model)
    for name, parameter in model.named_parameters():
        layer = re.match(rf"{re.escape(layers)}\.(\d+)\.", name) if layers else None
        in_head = not name.startswith(prefix) or name.removeprefix(prefix).startswith("pooler.")
        parts[f"layer {layer[1]}" if layer else "head" if in_head else lowest].append(parameter)
    return parts


def rate_lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The rows of a plan in words, the head first; neighbours that train alike share a line."""

    def alike(row: dict[str, Any]) -> tuple[Any, Any]:
        return row["learning_rate"], row["from_step"]

    for (rate, start), same in itertools.groupby(reversed(rows), key=alike):
        names = [(row["part"], row["parameters"]) for row in same]
        where = names[0][0] if len(names) == 1 else f"{names[0][0]} to {names[-1][0]}"
        when = "frozen" if start is None else f"peak learning rate {rate:.3g}"
        since = f" from step {start:,}" if start else ""
        yield f"{where} ({sum(count for _, count in names):,} parameters): {when}{since}"


def warm_up_late_groups(scheduler: LambdaLR, warmup_steps: int) -> None:
    """Let the schedule of each group of a plan that joins late begin with a warm-up of its own.

    The curve is one for the whole training; what joins later meets it where it is, after that warm-up.
    """
    starts = [group.get("start", 0) for group in scheduler.optimizer.param_groups]
    scheduler.lr_lambdas = [
        _warmed_from(start, schedule, warmup_steps) if start else schedule
        for start, schedule in zip(starts, scheduler.lr_lambdas, strict=True)
    ]


def _warmed_from(start: int, schedule: Callable[[int], float], warmup_steps: int) -> Callable[[int], float]:
    def warmed(step: int) -> float:
        since = step - start
        return schedule(step) * (1.0 if since >= warmup_steps else max(0.0, since / max(1, warmup_steps)))

    return warmed


class FollowPlan(TrainerCallback):
    """Before each step, lets those parameters have gradients that the plan says.

    ``tell`` is told the table of rates, and ``changed`` is called when more trains than before.
    """

    def __init__(self, plan: ParameterPlan, tell: Callable[[str], None], changed: Callable[[], None]) -> None:
        self._plan, self._tell, self._changed = plan, tell, changed

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell what trains when and how fast."""
        if state.is_world_process_zero:
            for line in rate_lines(self._plan.rows()):
                self._tell(line)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Apply the plan of the step that begins."""
        self._plan.apply(state.global_step)
        if state.global_step in self._plan.starts:
            self._changed()
