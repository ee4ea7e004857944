"""Whether what makes training faster leaves the quality as it was: one recipe with and without each acceleration.

    python benchmarks/quality.py --data-dir DATA [--task sst2] [--texts 4000] [--layers 3] [--seeds 5]

Fine-tunes the first layers of the small teacher that comes with ``potstill[demo]`` on a task, once per seed and arm:

- ``plain``: batches in random order, torch's own dropout and attention, float32;
- ``sorted``: rows of like length share batches;
- ``tokens``: batches of as many tokens as those have on average (``batch_tokens``);
- ``packed``: texts end to end (``packing``);
- ``bf16``: ``sorted`` in bf16, on machines where ``precision: auto`` takes it;
- ``potstill``: what recipes do unasked.

The arms take turns, one seed after the other; a seed decides the head's weights and the order of the rows. Measured:
the task's metric on its selection split, and texts per second of training. Printed, and kept in ``docs/measured``: the
medians over the seeds, and how far each arm's metric lies from that of ``plain``, paired by seed, with its interval.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from potstill.data.batches import BatchPlan
from potstill.data.catalogue import get_task
from potstill.data.tasks import TaskData, load_task
from potstill.data.tokens import EncodedTexts, TextTokenizer
from potstill.data.training_batches import LabelledTexts
from potstill.evaluate.metrics import compute_metrics
from potstill.finetune.objective import ClassificationObjective
from potstill.finetune.stage import switch_to_packing
from potstill.models.teacher import load_classifier, load_tokenizer, resolve_model, text_tokenizer
from potstill.runtime.torch_predictor import TorchPredictor
from potstill.training.arithmetic import cpu_gains_from_bf16
from potstill.training.settings import TrainingSettings
from potstill.training.trainer import fit
from turns import store, table, take_turns

ARMS = {
    "plain": "random order, torch's dropout and attention, float32",
    "sorted": "plain, but rows of like length share a batch",
    "tokens": "sorted, by a number of tokens instead of rows",
    "packed": "sorted, texts end to end instead of padded",
    "bf16": "sorted, in bf16",
    "potstill": "as recipes do it unasked",
}
PEERS = ("plain",)
TEACHER, MAX_LENGTH, BATCH_SIZE, EPOCHS = "minilm-l6", 128, 32, 3


def main() -> None:
    """Every arm for every seed; with ``--arm``, one, printed as JSON."""
    arguments = parsed()
    if arguments.arm:
        print(json.dumps(measure(arguments)))
        return
    arms = {arm: described for arm, described in ARMS.items() if arm != "bf16" or cpu_gains_from_bf16()}
    repeats = []
    for seed in range(arguments.seeds):
        options = [f"--data-dir={arguments.data_dir}", f"--task={arguments.task}", f"--texts={arguments.texts}"]
        options += [f"--layers={arguments.layers}", f"--seed={seed}"]
        repeats += take_turns(__file__, list(arms), options, 1, first=seed)
    metric = get_task(arguments.task).metric
    title = (
        f"Quality with and without what makes training faster: {arguments.task}, {arguments.texts:,} texts, "
        f"{arguments.layers} layers of {TEACHER}, {EPOCHS} epochs; a repeat is a seed"
    )
    name = f"quality-{arguments.task}"
    kept = store(name, title=title, arms=arms, repeats=repeats, rate="texts_per_s", peers=PEERS, quality=metric)
    print(table(kept))


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--texts", type=int, default=4000)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Train once as the arm says; the task's metric on the selection split, and texts per second of training."""
    data = load_task(get_task(arguments.task), data_dir=arguments.data_dir, seed=0, limits={"train": arguments.texts})
    model, texts = model_and_tokenizer(data, arguments)
    encoded = texts.encode(data.split("train").texts, MAX_LENGTH)
    batches = batches_of(arguments.arm, encoded, data.split("train").targets, texts.pad_id, arguments.seed)
    if arguments.arm == "packed":
        switch_to_packing(model)
    objective = ClassificationObjective(data.task.problem_type)
    with tempfile.TemporaryDirectory() as work:
        result = fit(model, objective, batches, settings_of(arguments.arm, arguments.seed), work=Path(work))
    return {
        data.task.metric: quality(model, texts, data),
        "texts_per_s": EPOCHS * len(encoded) / result.elapsed_s,
        "steps": result.steps,
    }


def model_and_tokenizer(data: TaskData, arguments: argparse.Namespace) -> tuple[Any, TextTokenizer]:
    """The teacher's first layers under a new head, and its tokenizer."""
    source = resolve_model(TEACHER)
    model = load_classifier(
        source, label_names=data.task.label_names, problem_type=data.task.problem_type, seed=arguments.seed
    )
    model.base_model.encoder.layer = model.base_model.encoder.layer[: arguments.layers]
    model.config.num_hidden_layers = arguments.layers
    return model, text_tokenizer(load_tokenizer(source), model)


def batches_of(arm: str, encoded: EncodedTexts, targets: Any, pad_id: int, seed: int) -> LabelledTexts:
    """The training batches of an arm."""
    tokens = max(int(encoded.lengths.mean() * BATCH_SIZE), MAX_LENGTH) if arm == "tokens" else None
    batches = LabelledTexts(
        encoded, targets, pad_id, batch_size=BATCH_SIZE, seed=seed, packed=arm == "packed", batch_tokens=tokens
    )
    if arm == "plain":
        batches.plan = BatchPlan(encoded.lengths, BATCH_SIZE, seed, window=1)
    return batches


def settings_of(arm: str, seed: int) -> TrainingSettings:
    """The same rates for all arms."""
    return TrainingSettings(
        learning_rate=5e-5,
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        seed=seed,
        warmup=0.1,
        weight_decay=0.01,
        precision={"potstill": "auto", "bf16": "bf16"}.get(arm, "fp32"),
        kernels="auto" if arm == "potstill" else "torch",
        report_to=(),
    )


def quality(model: Any, texts: TextTokenizer, data: TaskData) -> float:
    """The task's metric on the selection split, with every row padded as prediction pads."""
    split, task = data.split("selection"), data.task
    predicted = TorchPredictor(model, texts, task.label_names, task.problem_type, MAX_LENGTH, 64).predict(split.texts)
    return float(compute_metrics(predicted.with_targets(split.targets, split.ids), [task.metric])[task.metric])


if __name__ == "__main__":
    main()
