"""The settings in transformers' words."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch
import transformers

from potstill.errors import RecipeError
from potstill.training.settings import TrainingSettings, resolve_precision


def planned_steps(settings: TrainingSettings, n_batches: int) -> int:
    """Optimiser steps of the whole training, of ``n_batches`` batches an epoch."""
    return settings.max_steps or math.ceil(settings.epochs * _steps_per_epoch(settings, n_batches))


def planned_passes(settings: TrainingSettings, n_batches: int) -> float:
    """How often training meets every row, unless it stops early; 1 is one epoch."""
    return planned_steps(settings, n_batches) / _steps_per_epoch(settings, n_batches)


def _steps_per_epoch(settings: TrainingSettings, n_batches: int) -> int:
    """Every process, of which torchrun tells the number, takes its share of the batches."""
    batches = math.ceil(n_batches / int(os.environ.get("WORLD_SIZE", "1")))
    return math.ceil(batches / settings.accumulation)


def training_arguments(
    settings: TrainingSettings, work: Path, n_batches: int, *, validates: bool
) -> transformers.TrainingArguments:
    """transformers' arguments for ``settings``, all of its own habits that change the numbers or the disk turned off.

    Raises RecipeError for a tracker that is not installed.
    """
    precision, total = settings.resolved_precision, planned_steps(settings, n_batches)
    arguments = transformers.TrainingArguments(
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
        eval_steps=min(settings.evaluate_steps or _steps_per_epoch(settings, n_batches), total),
        metric_for_best_model=settings.metric,
        greater_is_better=settings.greater_is_better,
        save_strategy="steps" if settings.checkpoint_steps else "no",
        save_steps=settings.checkpoint_steps or total,
        save_total_limit=2,
        logging_steps=max(1, min(50, total // 40)),
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to=_trackers(settings) or "none",
        remove_unused_columns=False,
        dataloader_num_workers=0,
        average_tokens_across_devices=False,
    )
    # Several GPUs without torchrun: one of them is used. DataParallel could not join the sums that objectives return.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def check_settings(settings: TrainingSettings) -> None:
    """Raise RecipeError for what this machine cannot do: a tracker that is not installed, fp16 without a GPU."""
    resolve_precision(settings.precision)
    _trackers(settings)


def _trackers(settings: TrainingSettings) -> list[str]:
    """Trackers besides TensorBoard, which is told its folder elsewhere."""
    named = [name for name in settings.report_to if name not in ("tensorboard", "none")]
    installed = transformers.integrations.get_available_reporting_integrations()
    missing = [name for name in named if name not in installed]
    if missing:
        raise RecipeError(
            "report_to names a tracker that is not installed",
            found=", ".join(missing),
            allowed=sorted({*installed, "tensorboard"}),
            do="install it, or leave it out",
        )
    return named
