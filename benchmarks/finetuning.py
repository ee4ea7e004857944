"""Fine-tuning by potstill beside transformers' Trainer: as published works use it, and at its best.

    python benchmarks/finetuning.py --data-dir DATA [--task dbpedia_14] [--shape 6x768] [--max-length 512] [--repeats 5]

The arms train a DistilBERT of random weights on the same texts of a real task:

- ``papers``: every text padded to ``--max-length``, rows in random order, float32;
- ``best``: padded to the longest of the batch, rows grouped by length within windows of 50 batches, as Trainer groups
  them in a training of any length (in one of few batches it would not), bf16 where ``precision: auto`` takes it here;
- ``potstill-torch``: potstill with ``kernels: torch``, that is without its own dropout and attention;
- ``potstill``: ``potstill.training.trainer.fit`` as the recipes use it.

The arms take turns (``turns.py``). Measured: texts and tokens per second over the training call, rows and tokenizer
ready before it, and the largest resident memory of the process. They are printed and kept in ``docs/measured``.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import DataCollatorWithPadding, DistilBertConfig, DistilBertForSequenceClassification
from transformers.trainer_pt_utils import get_length_grouped_indices

from potstill.data.catalogue import get_task
from potstill.data.tasks import load_task
from potstill.data.tokens import EncodedTexts
from potstill.data.training_batches import LabelledTexts
from potstill.finetune.objective import ClassificationObjective
from potstill.models.teacher import load_tokenizer, resolve_model, text_tokenizer
from potstill.training.settings import TrainingSettings
from potstill.training.trainer import fit
from turns import store, table, take_turns

ARMS = {
    "papers": "transformers' Trainer, every text padded to the maximum, rows in random order, float32",
    "best": "transformers' Trainer, padded to the longest of the batch, grouped by length, bf16 where it gains",
    "potstill-torch": "potstill with torch's dropout and attention",
    "potstill": "potstill as recipes use it",
}
PEERS = ("papers", "best")
SHAPES = {"6x768": (6, 768), "6x384": (6, 384)}
TEACHER = "minilm-l6"
RATES: dict[str, Any] = {"learning_rate": 2e-5, "weight_decay": 0.01}


def main() -> None:
    """Measure every arm in turn and print the table; with ``--arm``, measure one and print it as JSON."""
    arguments = parsed()
    if arguments.arm:
        print(json.dumps(measure(arguments)))
        return
    options = [
        f"--{name.replace('_', '-')}={value}"
        for name, value in vars(arguments).items()
        if name not in ("arm", "repeats", "name")
    ]
    title = f"Fine-tuning on {arguments.task}, {arguments.shape}, at most {arguments.max_length} tokens"
    repeats = take_turns(__file__, list(ARMS), options, arguments.repeats)
    print(table(store(arguments.name, title=title, rate="texts_per_s", peers=PEERS, arms=ARMS, repeats=repeats)))


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--task", default="dbpedia_14")
    parser.add_argument("--shape", choices=SHAPES, default="6x768")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--texts", type=int, default=640, help="texts an arm trains on; papers takes two batches")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--name", default="finetuning", help="of the file in docs/measured")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Texts and tokens per second of one training, and the process's largest resident memory."""
    encoded, targets, pad_id = rows(arguments)
    torch.manual_seed(0)
    layers, width = SHAPES[arguments.shape]
    config = DistilBertConfig(
        n_layers=layers, dim=width, hidden_dim=4 * width, num_labels=int(targets.max()) + 1, pad_token_id=pad_id
    )
    model = DistilBertForSequenceClassification(config)
    with tempfile.TemporaryDirectory() as work:
        prepare = with_potstill if arguments.arm.startswith("potstill") else with_transformers
        train = prepare(model, encoded, targets, pad_id, arguments, Path(work))
        started = time.perf_counter()
        train()
        elapsed_s = time.perf_counter() - started
    return {
        "texts_per_s": len(encoded) / elapsed_s,
        "tokens_per_s": len(encoded.input_ids) / elapsed_s,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def rows(arguments: argparse.Namespace) -> tuple[EncodedTexts, Any, int]:
    """The texts as token ids, their targets, the padding's id; two batches for the arm whose rate no text changes."""
    n_texts = 2 * arguments.batch_size if arguments.arm == "papers" else arguments.texts
    task = load_task(get_task(arguments.task), data_dir=arguments.data_dir, seed=0, limits={"train": n_texts})
    split = task.split("train")
    source = resolve_model(TEACHER)
    texts = text_tokenizer(load_tokenizer(source), transformers.AutoModel.from_pretrained(source))
    return texts.encode(split.texts, arguments.max_length), split.targets, texts.pad_id


def with_potstill(
    model: Any, encoded: EncodedTexts, targets: Any, pad_id: int, arguments: argparse.Namespace, work: Path
) -> Callable[[], Any]:
    """One epoch by potstill's trainer, ready to go."""
    settings = TrainingSettings(
        **RATES,
        batch_size=arguments.batch_size,
        epochs=1,
        seed=0,
        report_to=(),
        kernels="torch" if arguments.arm == "potstill-torch" else "auto",
    )
    batches = LabelledTexts(encoded, targets, pad_id, batch_size=arguments.batch_size, seed=0)
    objective = ClassificationObjective("single_label_classification")
    return lambda: fit(model, objective, batches, settings, work=work)


def with_transformers(
    model: Any, encoded: EncodedTexts, targets: Any, pad_id: int, arguments: argparse.Namespace, work: Path
) -> Callable[[], Any]:
    """One epoch by transformers' Trainer, ready to go."""
    papers = arguments.arm == "papers"
    bf16 = not papers and TrainingSettings(**RATES, batch_size=1, epochs=1, seed=0).resolved_precision == "bf16"
    padding: dict[str, Any] = {"padding": "max_length", "max_length": arguments.max_length} if papers else {}
    settings = transformers.TrainingArguments(
        **RATES,
        output_dir=str(work),
        per_device_train_batch_size=arguments.batch_size,
        num_train_epochs=1,
        bf16=bf16,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    dataset = [{"input_ids": encoded.row(i).tolist(), "labels": int(targets[i])} for i in range(len(encoded))]
    collate = DataCollatorWithPadding(load_tokenizer(resolve_model(TEACHER)), **padding)
    trainer = (transformers.Trainer if papers else Grouping)(
        model, settings, train_dataset=dataset, data_collator=collate
    )  # type: ignore[arg-type]
    return trainer.train


class Grouping(transformers.Trainer):
    """Trainer grouping rows by length within windows of 50 batches, however few there are."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        lengths = [len(row["input_ids"]) for row in self.train_dataset]  # type: ignore[union-attr]
        order = get_length_grouped_indices(lengths, self.args.train_batch_size, mega_batch_mult=50)
        return order


if __name__ == "__main__":
    main()
