"""The one training loop: transformers' Trainer, with the objective and the batches as arguments."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import transformers
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from potstill.data.batches import BatchKey, BatchPlan
from potstill.errors import DivergedError
from potstill.training.allocator import keep_freed_memory
from potstill.training.checkpoints import BestWeights, latest_checkpoint, saving
from potstill.training.objective import Objective
from potstill.training.progress import ProgressReport
from potstill.training.result import FitResult, load_finished, store_finished
from potstill.training.settings import TrainingSettings, resolve_precision

WEIGHTS = "model.safetensors"
Validate = Callable[[nn.Module], Mapping[str, float]]


class TrainingBatches(Protocol):
    """Where batches come from: a plan of row numbers, and the arrays of one planned batch."""

    plan: BatchPlan

    def __getitem__(self, key: BatchKey) -> dict[str, np.ndarray]:
        """The padded arrays of one batch; a function of ``key`` alone, so that resuming repeats it exactly."""
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
) -> FitResult:
    """Train ``model`` in place and say how it went; goes on from the newest checkpoint in ``work`` if there is one.

    ``validate(model)`` returns metrics by name. With a fixed seed the weights are the same whether or not the process
    was killed in between. Raises DivergedError when the loss stops being a number and StorageError when a checkpoint
    cannot be written; the checkpoints before stay in ``work`` either way.
    """
    module = ObjectiveModule(model, objective)
    finished = load_finished(work, module)
    if finished is not None:
        return finished
    work.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    trainer = Trainer(module, batches, settings, work, validate, log_folder, title)
    checkpoint = latest_checkpoint(work)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    result = trainer.result()
    store_finished(work, module, result)
    return result


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
    """Planned batches as the data loader wants them: an item is a whole batch."""

    def __init__(self, batches: TrainingBatches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches.plan)

    def __getitem__(self, key: BatchKey) -> dict[str, Tensor]:
        return {name: torch.from_numpy(array) for name, array in self._batches[key].items()}


def _only(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return items[0]


class Trainer(transformers.Trainer):
    """transformers.Trainer with sums and counts in place of means, exact resuming, and validation by a function."""

    def __init__(
        self,
        module: ObjectiveModule,
        batches: TrainingBatches,
        settings: TrainingSettings,
        work: Path,
        validate: Validate | None,
        log_folder: Path | None,
        title: str,
    ) -> None:
        self._settings, self._objective, self._work = settings, module.objective, work
        self._batches, self._validate = batches, validate
        self._best = BestWeights(work, greater_is_better=settings.greater_is_better)
        self._terms: defaultdict[str, float] = defaultdict(float)
        self._terms_steps = 0
        self._tokens = self._tokens_logged = 0
        self._started_s = self._logged_s = time.monotonic()
        self._earlier_s = 0.0
        super().__init__(
            model=module,
            args=_arguments(settings, work, len(batches.plan), validates=validate is not None),
            train_dataset=_Batches(batches),
            eval_dataset=_Batches(batches) if validate is not None else None,
            callbacks=_callbacks(settings, log_folder, title),
        )
        self.model_accepts_loss_kwargs = True
        self.remove_callback(transformers.PrinterCallback)

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
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        counts: defaultdict[str, float] = defaultdict(float)
        for batch in batches:
            self._tokens += int(batch["attention_mask"].sum())
            for name, count in self._objective.counts(batch).items():
                counts[name] += count
        if self.args.world_size > 1:
            summed = torch.tensor([counts[name] for name in sorted(counts)], device=device)
            reduced = self.accelerator.reduce(summed, reduction="sum").tolist()
            counts.update(zip(sorted(counts), reduced, strict=True))
        return batches, dict(counts)

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
        means = {name: total / max(counts[name], 1.0) for name, total in model(inputs).items()}
        for name, mean in means.items():
            self._terms[name] += float(mean.detach())
        weighted = [self._objective.weights[name] * mean for name, mean in means.items()]
        # DDP averages gradients over processes; the counts already span them all.
        loss = torch.stack(weighted).sum() * self.accelerator.num_processes
        return (loss, means) if return_outputs else loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """One forward and backward pass; raises DivergedError on a loss that is not a number."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not math.isfinite(float(loss)):
            raise DivergedError(
                f"the loss became {float(loss)} at step {self.state.global_step + 1} of {self.state.max_steps}",
                do=f"the last good checkpoint is kept in {self._work}; lower learning_rate, or check the data",
            )
        return loss / self.accelerator.num_processes

    # -- validation ---------------------------------------------------------------------------------------------------

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Ask ``validate``, log what it says, and keep the weights if they are the best so far."""
        if self._validate is None:
            return {}
        module = self.accelerator.unwrap_model(self.model)
        was_training = module.training
        module.eval()
        found = self._validate(module.model)
        module.train(was_training)
        metrics = {f"{metric_key_prefix}_{name}": float(value) for name, value in found.items()}
        if self._settings.keep == "best" and self.is_world_process_zero():
            value = metrics[f"{metric_key_prefix}_{self._settings.metric}"]
            self._best.offer(module, step=self.state.global_step, epoch=float(self.state.epoch or 0), value=value)
        self.log(dict(metrics))
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    # -- logs ---------------------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add each term's mean, the throughput and the time spent to what is logged."""
        now = time.monotonic()
        steps = self.state.global_step - self._terms_steps
        if "loss" in logs and steps > 0:
            logs |= {f"loss_{name}": total / steps for name, total in self._terms.items()}
            logs["tokens_per_s"] = (self._tokens - self._tokens_logged) / max(now - self._logged_s, 1e-9)
            self._terms.clear()
            self._terms_steps, self._tokens_logged, self._logged_s = self.state.global_step, self._tokens, now
        logs["elapsed_s"] = self._earlier_s + now - self._started_s
        logs["tokens"] = float(self._tokens)
        super().log(logs, start_time)

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_model(self.accelerator.unwrap_model(self.model), str(folder / WEIGHTS))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = self._work / f"checkpoint-{self.state.global_step}"
        with saving(folder):
            super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_model(model or self.model, str(Path(resume_from_checkpoint) / WEIGHTS), strict=True)

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        skipped = super()._init_training_state(*args, **kwargs)
        timed = [record for record in self.state.log_history if "elapsed_s" in record]
        if timed:
            self._earlier_s = float(timed[-1]["elapsed_s"])
            self._tokens = self._tokens_logged = int(timed[-1]["tokens"])
        self._terms_steps = self.state.global_step
        self._started_s = self._logged_s = time.monotonic()
        return skipped

    # -- the end ------------------------------------------------------------------------------------------------------

    def result(self) -> FitResult:
        """What happened; restores the best weights first where that was asked for."""
        best = self._best.facts if self._settings.keep == "best" else None
        if best is not None:
            self._best.restore(self.accelerator.unwrap_model(self.model))
        history = [record for record in self.state.log_history if "train_runtime" not in record]
        planned = self.state.max_steps
        return FitResult(
            history=[{k: float(v) for k, v in record.items() if isinstance(v, int | float)} for record in history],
            steps=self.state.global_step,
            epochs=float(self.state.epoch or 0),
            elapsed_s=self._earlier_s + time.monotonic() - self._started_s,
            tokens=self._tokens,
            best=best,
            stopped_early=self.state.global_step < planned,
        )


class _Pace(transformers.TrainerCallback):
    """Asks for an evaluation after the last step, and for a checkpoint whenever ``interval_s`` have passed."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._saved_s = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask when it is time."""
        if args.eval_strategy != "no" and state.global_step >= state.max_steps:
            control.should_evaluate = True
        control.should_save = control.should_save or time.monotonic() - self._saved_s >= self._interval_s

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start counting anew."""
        self._saved_s = time.monotonic()


def _callbacks(settings: TrainingSettings, log_folder: Path | None, title: str) -> list[transformers.TrainerCallback]:
    callbacks: list[transformers.TrainerCallback] = [ProgressReport(title), _Pace(settings.checkpoint_s)]
    if settings.patience is not None:
        callbacks.append(transformers.EarlyStoppingCallback(settings.patience))
    if log_folder is not None and "tensorboard" in settings.report_to:
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations import TensorBoardCallback

        callbacks.append(TensorBoardCallback(SummaryWriter(log_dir=str(log_folder))))
    return callbacks


def _arguments(
    settings: TrainingSettings, work: Path, batches_per_epoch: int, *, validates: bool
) -> transformers.TrainingArguments:
    """The settings in transformers' words."""
    precision = resolve_precision(settings.precision)
    steps_per_epoch = math.ceil(batches_per_epoch / settings.accumulation)
    total = settings.max_steps or math.ceil(settings.epochs * steps_per_epoch)
    others = [name for name in settings.report_to if name != "tensorboard"]
    return transformers.TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        max_steps=total,
        learning_rate=settings.learning_rate,
        warmup_steps=math.ceil(settings.warmup * total),
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(settings.schedule, settings.schedule),
        weight_decay=settings.weight_decay,
        adam_beta1=settings.betas[0],
        adam_beta2=settings.betas[1],
        adam_epsilon=settings.epsilon,
        max_grad_norm=settings.clip_norm,
        optim="adamw_torch_fused",
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=not torch.cuda.is_available(),
        seed=settings.seed,
        data_seed=settings.seed,
        eval_strategy="steps" if validates else "no",
        eval_steps=min(settings.evaluate_steps or steps_per_epoch, total),
        metric_for_best_model=settings.metric,
        greater_is_better=settings.greater_is_better,
        save_strategy="steps" if settings.checkpoint_steps else "no",
        save_steps=settings.checkpoint_steps or total,
        save_total_limit=2,
        logging_steps=max(1, min(50, total // 40)),
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to=others or "none",
        remove_unused_columns=False,
        dataloader_num_workers=0,
        average_tokens_across_devices=False,
    )
