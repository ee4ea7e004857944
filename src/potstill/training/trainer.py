"""The one training loop: transformers' Trainer, with the objective and the batches as arguments."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import transformers
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers.trainer_callback import ExportableState

from potstill.data.batches import BatchKey, BatchPlan
from potstill.errors import DivergedError
from potstill.models.cpu_dropout import use_bulk_dropout
from potstill.runs import read_json, storage_errors, write_json
from potstill.training.allocator import keep_freed_memory
from potstill.training.arguments import planned_steps, training_arguments
from potstill.training.arithmetic import matrix_rate
from potstill.training.checkpoints import BestWeights, keep_epoch, latest_checkpoint, saving
from potstill.training.meter import Meter
from potstill.training.objective import Objective, count_examples, count_tokens
from potstill.training.pace import Pace, Patience
from potstill.training.parameters import FollowPlan, ParameterPlan, warm_up_late_groups
from potstill.training.progress import ProgressReport
from potstill.training.result import FitResult, load_finished, store_finished
from potstill.training.settings import TrainingSettings
from potstill.training.throughput import Throughput, flop_counter, measured_throughput

WEIGHTS, PRECISION = "model.safetensors", "precision.json"
Validate = Callable[[nn.Module], Mapping[str, float]]


class TrainingBatches(Protocol):
    """Where batches come from: a plan of row numbers, and the arrays of one planned batch."""

    plan: BatchPlan

    def __getitem__(self, key: BatchKey) -> dict[str, np.ndarray]:
        """The arrays of one batch; a function of ``key`` alone, so that resuming repeats it exactly."""
        ...


def fit(
    model: nn.Module,
    objective: Objective,
    batches: TrainingBatches,
    settings: TrainingSettings,
    *,
    work: Path,
    validate: Validate | None = None,
    log_folder: Path | None = None,
    title: str = "training",
    plan: ParameterPlan | None = None,
) -> FitResult:
    """Train ``model`` in place and say how it went; goes on from the newest checkpoint in ``work`` if there is one.

    ``validate(model)`` returns metrics by name. ``plan`` says which parameters of ``model`` train when and how fast;
    without one all do, at the rate of the settings. With a fixed seed the weights are the same whether or not the
    process was killed in between. Raises DivergedError when the loss stops being a number and StorageError when a
    checkpoint cannot be written; the checkpoints before stay in ``work`` either way.
    """
    module = ObjectiveModule(model, objective)
    finished = load_finished(work, module)
    if finished is not None:
        return finished
    if planned_steps(settings, len(batches.plan)) == 0:
        return FitResult(history=[], steps=0, epochs=0.0, elapsed_s=0.0, tokens=0)
    keep_freed_memory()
    if settings.kernels == "auto" and isinstance(model, transformers.PreTrainedModel) and model.device.type == "cpu":
        use_bulk_dropout(model)
    with storage_errors(work):
        work.mkdir(parents=True, exist_ok=True)
        checkpoint = latest_checkpoint(work)
        settings = _with_precision(settings, checkpoint)
        trainer = Trainer(module, batches, settings, work, validate, log_folder, title, plan)
        with closing(trainer.progress):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        return trainer.finish()


def _with_precision(settings: TrainingSettings, checkpoint: Path | None) -> TrainingSettings:
    """The settings with ``auto`` resolved: as it was when this training began, if there is a checkpoint of it."""
    begun = read_json(checkpoint / PRECISION) if checkpoint else None
    return dataclasses.replace(settings, precision=begun or settings.resolved_precision)


class ObjectiveModule(nn.Module):
    """The model and the loss's own parameters behind one ``forward``, so that DDP and autocast see all of it."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.loss_modules = objective.modules or nn.ModuleDict()

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The sum of each term over its units."""
        return self.objective(self.model, batch)


class _Batches(Dataset[dict[str, Tensor]]):
    """Planned batches as the data loader wants them: an item is a whole batch.

    The loader hands the epoch on to its data set, however many samplers it has put around the plan.
    """

    def __init__(self, batches: TrainingBatches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches.plan)

    def __getitem__(self, key: BatchKey) -> dict[str, Tensor]:
        return {name: torch.from_numpy(array) for name, array in self._batches[key].items()}

    def set_epoch(self, epoch: int) -> None:
        """Let the plan give the batches of ``epoch``."""
        self._batches.plan.set_epoch(epoch)


def _only(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return items[0]


class Trainer(transformers.Trainer):
    """transformers.Trainer with sums and counts in place of means, exact resuming, and validation by a function."""

    optimizer: Any

    def __init__(
        self,
        module: ObjectiveModule,
        batches: TrainingBatches,
        settings: TrainingSettings,
        work: Path,
        validate: Validate | None,
        log_folder: Path | None,
        title: str,
        plan: ParameterPlan | None,
    ) -> None:
        self._settings, self._objective, self._work = settings, module.objective, work
        self._batches, self._validate, self._plan = batches, validate, plan
        self._longest = int(batches.plan.lengths.max())
        self._best = BestWeights(work, greater_is_better=settings.greater_is_better)
        self._meter, self.progress = Meter(), ProgressReport(title)
        pace = Pace(settings.checkpoint_s, self._sum_over_processes)
        follower = [] if plan is None else [FollowPlan(plan, self.progress.tell, self._meter.count_operations_anew)]
        super().__init__(
            model=module,
            args=training_arguments(settings, work, len(batches.plan), validates=validate is not None),
            train_dataset=_Batches(batches),
            eval_dataset=_Batches(batches) if validate is not None else None,
            callbacks=[self._meter, *follower, self.progress, pace, *_watchers(settings, log_folder, plan)],
        )
        self.model_accepts_loss_kwargs = True
        self.remove_callback(transformers.PrinterCallback)

    # -- parameters ---------------------------------------------------------------------------------------------------

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimiser, grouped by the plan where there is one; weight decay is never on norms and biases."""
        if self._plan is not None and self.optimizer is None:
            self._plan.apply(0)  # several processes agree on what trains when the model is wrapped
            decayed = self.get_decay_parameter_names(self.model)
            build, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = build(self._plan.groups(self.model, decayed, self.args.weight_decay), **options)
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule; what the plan lets join later is warmed up when it does."""
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        warm_up_late_groups(scheduler, self.args.get_warmup_steps(num_training_steps))
        return scheduler

    # -- batches ------------------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        """A loader whose batch sampler is the plan: skipping to a batch costs nothing, and nothing is read for it."""
        loader: DataLoader[Any] = DataLoader(
            _Batches(self._batches),
            batch_sampler=self._batches.plan,
            collate_fn=_only,
        )
        return self.accelerator.prepare(loader)

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], dict[str, float]]:
        """The batches of one optimiser step and, over all of them and all processes, the units of each term."""
        with self._meter.stopwatch.part("data"):
            batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        tokens = sum(map(count_tokens, batches))
        self._meter.positions += sum(batch["input_ids"].numel() for batch in batches)
        self._meter.positions_unsorted += self._longest * sum(map(count_examples, batches))
        counts: defaultdict[str, float] = defaultdict(float)
        for batch in batches:
            for name, count in self._objective.counts(batch).items():
                counts[name] += count
        tokens_of_all, *counts_of_all = self._sum_over_processes([tokens, *counts.values()])
        self._meter.tokens += int(tokens_of_all)
        return batches, dict(zip(counts, counts_of_all, strict=True))

    def _sum_over_processes(self, values: Sequence[float]) -> list[float]:
        if self.args.world_size == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=self.args.device)
        return self.accelerator.reduce(summed, reduction="sum").tolist()

    # -- loss ---------------------------------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The weighted sum of the terms, each divided by its units in the whole optimiser step."""
        counts: dict[str, float] = num_items_in_batch
        with self._meter.stopwatch.part("forward"):
            sums = model(inputs)
        means = {name: total / (counts[name] or 1.0) for name, total in sums.items()}
        self._meter.add({name: float(mean.detach()) for name, mean in means.items()})
        weighted = [self._objective.weights[name] * mean for name, mean in means.items()]
        # DDP averages gradients over processes; the counts already span them all.
        loss = torch.stack(weighted).sum() * self.accelerator.num_processes
        return (loss, means) if return_outputs else loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """One forward and backward pass; raises DivergedError on a loss that is not a number."""
        counting = nullcontext() if self._meter.flops_per_position else flop_counter()
        with counting as counter, self._meter.stopwatch.part("backward"):
            loss = super().training_step(model, inputs, num_items_in_batch)
        n_positions = inputs["input_ids"].numel()
        if counter is not None:
            self._meter.flops_per_position = counter.get_total_flops() / n_positions
        self._meter.flops += self._meter.flops_per_position * n_positions
        self._require_finite("loss", float(loss), self.state.global_step + 1)
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """The gradient's norm; raises DivergedError if it is not a number, before the weights and checkpoints are.

        In fp16 overflow is expected: the loss scaler finds those steps itself, and leaves them out.
        """
        norm = super()._get_grad_norm(model, grad_norm)
        if not self.args.fp16:
            self._require_finite("gradient's norm", float(norm), self.state.global_step + 1)
        return norm

    def _require_finite(self, what: str, value: float, step: int) -> None:
        if math.isfinite(value):
            return
        kept = latest_checkpoint(self._work)
        raise DivergedError(
            f"the {what} became {value} at step {step} of {self.state.max_steps}",
            do=(f"the last good checkpoint is kept in {kept}" if kept else "there was no checkpoint before it")
            + "; lower learning_rate, or check the data",
        )

    # -- validation ---------------------------------------------------------------------------------------------------

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Ask ``validate``, log what it says, and keep the weights if they are the best so far.

        Raises DivergedError where its ``loss`` is not a number: the last step's update is met by no later loss.
        """
        if self._validate is None:
            return {}
        module = self.accelerator.unwrap_model(self.model)
        was_training = module.training
        module.eval()
        with self._meter.aside("validation"):
            found = self._validate(module.model)
        module.train(was_training)
        self._require_finite("validation loss", float(found.get("loss", 0.0)), self.state.global_step)
        metrics = {f"{metric_key_prefix}_{name}": float(value) for name, value in found.items()}
        if self._settings.keep == "best" and self.is_world_process_zero():
            value = metrics[f"{metric_key_prefix}_{self._settings.metric}"]
            with self._meter.aside("checkpoints"):
                self._best.offer(module, step=self.state.global_step, epoch=float(self.state.epoch or 0), value=value)
        if self._settings.keep_epochs and self.is_world_process_zero():
            with self._meter.aside("checkpoints"):
                keep_epoch(self._work, module.model, self.state.global_step)
        self.log(dict(metrics))
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    # -- logs ---------------------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add each term's mean, the throughput and the time spent to what is logged."""
        if "loss" in logs:
            logs |= self._meter.record(self._objective.weights, self._sum_over_processes)
        logs |= {"elapsed_s": self._meter.elapsed_s, "tokens": float(self._meter.tokens)}
        super().log(logs, start_time)

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_model(self.accelerator.unwrap_model(self.model), str(folder / WEIGHTS))
        write_json(folder / PRECISION, self._settings.precision)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # What ends here is stored whole at once. A checkpoint of the last step would be trained past: the loop looks
        # whether it is to stop only after a step.
        if self.control.should_training_stop:
            return
        folder = self._work / f"checkpoint-{self.state.global_step}"
        with self._meter.aside("checkpoints"), saving(folder):
            super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_model(model or self.model, str(Path(resume_from_checkpoint) / WEIGHTS), strict=True)

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        skipped = super()._init_training_state(*args, **kwargs)
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, ExportableState):
                saved = self.state.stateful_callbacks.setdefault(type(callback).__name__, callback.state())
                for name, value in saved["attributes"].items():
                    setattr(callback, name, value)
        return skipped

    # -- the end ------------------------------------------------------------------------------------------------------

    def finish(self) -> FitResult:
        """Restore the best weights where that was asked for, keep what training left, and say what happened."""
        module = self.accelerator.unwrap_model(self.model)
        if self._plan is not None:
            self._plan.release()
        self.accelerator.wait_for_everyone()
        best = self._best.facts if self._settings.keep == "best" else None
        if best is not None:
            self._best.restore(module)
        result = self._result(best)
        if self.is_world_process_zero():
            store_finished(self._work, module, result)
        self.accelerator.wait_for_everyone()
        return result

    def _result(self, best: dict[str, Any] | None) -> FitResult:
        history = [record for record in self.state.log_history if "train_runtime" not in record]
        elapsed_s, throughput = self._meter.elapsed_s, self._throughput()
        if self.is_world_process_zero():
            self.progress.tell(throughput.sentence())
        return FitResult(
            history=[{k: float(v) for k, v in record.items() if isinstance(v, int | float)} for record in history],
            steps=self.state.global_step,
            epochs=float(self.state.epoch or 0),
            elapsed_s=elapsed_s,
            tokens=self._meter.tokens,
            best=best,
            stopped_early=self.state.global_step < self.state.max_steps,
            throughput=dataclasses.asdict(throughput),
        )

    def _throughput(self) -> Throughput:
        meter, seconds = self._meter, self._meter.seconds  # read before the machine's rate is measured
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self._settings.resolved_precision, torch.float32)
        return measured_throughput(
            tokens=meter.tokens // self.args.world_size,
            positions=meter.positions,
            positions_unsorted=meter.positions_unsorted,
            flops=meter.flops,
            rate_flops=matrix_rate(dtype, self.args.device),
            seconds=seconds,
            precision=self._settings.resolved_precision,
        )


def _watchers(
    settings: TrainingSettings, log_folder: Path | None, plan: ParameterPlan | None
) -> list[transformers.TrainerCallback]:
    watchers: list[transformers.TrainerCallback] = []
    if settings.patience is not None:
        watchers.append(Patience(settings.patience, from_step=max(plan.starts) if plan else 0))
    if log_folder is not None and "tensorboard" in settings.report_to:
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations import TensorBoardCallback

        watchers.append(TensorBoardCallback(SummaryWriter(log_dir=str(log_folder))))
    return watchers
