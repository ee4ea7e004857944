"""Fine-tuning steps on padded and on packed batches of the same texts: what ``finetune.packing`` gains.

    python benchmarks/packed_attention.py [--device cuda] [--batch-size 32] [--batches 20] [--repeats 5]

Texts have random tokens and lengths drawn from a log-normal with median 132 and 95% below 220, as the token counts of
DBpedia-14 are, cut at 512. The padded batches are those of training: rows of like length.
Both layouts take turns within each repeat, on one model, so that whatever else the machine does hits both alike; a turn
is all the batches, after one that is not timed. Prints the share of padding, and for each shape and layout the medians
over the repeats of tokens (padding not counted) and of texts per second.

Before that, the loss and the gradients of one batch are compared between the layouts, without dropout; the script ends
with an error where they differ by more than rounding. On a GPU the arithmetic is bf16, and without dropout packed
attention is one kernel; with ``--attention-dropout 0`` it is that in the timed steps too.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, DistilBertConfig

from potstill.data.batches import padding_share
from potstill.data.tokens import EncodedTexts
from potstill.data.training_batches import LabelledTexts
from potstill.finetune.objective import ClassificationObjective
from potstill.models.packed_attention import run_packed

Batch = dict[str, Tensor]

SHAPES = {
    "6×768": {"dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072},
    "6×384": {"dim": 384, "n_layers": 6, "n_heads": 12, "hidden_dim": 1536},
}
LAYOUTS = ("padded", "packed")
MEDIAN, PERCENTILE_95, LONGEST, VOCABULARY, N_LABELS = 132, 220, 512, 30522, 14
SIGMA = math.log(PERCENTILE_95 / MEDIAN) / 1.645
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""How far rounding may take the mean loss, and the gradient relative to its norm."""


class Steps:
    """Fine-tuning steps of a DistilBERT of some shape with random weights, on batches of either layout."""

    def __init__(self, sizes: dict[str, int], attention_dropout: float, device: torch.device) -> None:
        torch.manual_seed(0)
        config = DistilBertConfig(**sizes, attention_dropout=attention_dropout, num_labels=N_LABELS)
        self.model = AutoModelForSequenceClassification.from_config(config).to(device)
        run_packed(self.model)
        self.objective = ClassificationObjective("single_label_classification")
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        self.device, self.dtype = device, precision(device)

    def loss(self, batch: Batch) -> Tensor:
        """The mean loss of a batch."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            return self.objective(self.model, batch)["hard"] / len(batch["labels"])

    def differences(self, padded: Batch, packed: Batch) -> tuple[float, float]:
        """How far the losses are apart, and the gradients relative to their norm; without dropout."""
        self.model.eval()
        losses = [self.loss(batch) for batch in (padded, packed)]
        one, other = (torch.cat([g.flatten() for g in self._gradients(loss)]) for loss in losses)
        return abs(float((losses[0] - losses[1]).detach())), float((one - other).norm() / one.norm())

    def _gradients(self, loss: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss, list(self.model.parameters()))

    def seconds(self, batches: list[Batch]) -> float:
        """The time of one step on each batch, after one on the first that is not timed."""
        self.model.train()
        self._step(batches[0])
        started = self._now()
        for batch in batches:
            self._step(batch)
        return self._now() - started

    def _step(self, batch: Batch) -> None:
        self.loss(batch).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def main() -> int:
    """Check, measure and print; 1 where packed and padded differ by more than rounding."""
    arguments = parse()
    device = torch.device(arguments.device)
    encoded, targets = draw_texts(arguments.batch_size * arguments.batches)
    layouts = {
        name: LabelledTexts(encoded, targets, 0, batch_size=arguments.batch_size, seed=1, packed=name == "packed")
        for name in LAYOUTS
    }
    share = padding_share(encoded.lengths, layouts["padded"].plan)
    print(f"{device}, {precision(device)}, {torch.get_num_threads()} threads; padded, {share:.1%} of it is padding")
    batches = {name: on_device(layout, device) for name, layout in layouts.items()}
    for shape, sizes in SHAPES.items():
        steps = Steps(sizes, arguments.attention_dropout, device)
        apart = steps.differences(*(batches[name][0] for name in LAYOUTS))
        print(f"{shape}: between the layouts, losses differ by {apart[0]:.1e} and gradients by {apart[1]:.1e}")
        if not max(apart) <= TOLERANCE[steps.dtype]:
            print(f"{shape}: that is more than the {TOLERANCE[steps.dtype]} allowed", file=sys.stderr)
            return 1
        seconds = take_turns(steps, batches, arguments.repeats)
        for name in LAYOUTS:
            rates = (f"{amount / seconds[name]:,.0f} {unit}/s" for amount, unit in amounts(encoded))
            print(f"{shape} {name}: {', '.join(rates)}")
        print(f"{shape}: packed is {seconds['padded'] / seconds['packed']:.2f} times as fast")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--attention-dropout", type=float, default=0.1)
    return parser.parse_args()


def precision(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def draw_texts(n_texts: int) -> tuple[EncodedTexts, np.ndarray]:
    """Texts of random tokens and random labels, the same in every call."""
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(math.log(MEDIAN), SIGMA, n_texts).clip(4, LONGEST).astype(np.int32)
    ids = rng.integers(1000, VOCABULARY, lengths.sum()).astype(np.int32)
    offsets = np.r_[0, np.cumsum(lengths)].astype(np.int64)
    return EncodedTexts(ids, offsets, None, lengths, lengths < 0), rng.integers(0, N_LABELS, n_texts)


def on_device(layout: LabelledTexts, device: torch.device) -> list[Batch]:
    return [{name: torch.from_numpy(array).to(device) for name, array in layout[key].items()} for (key,) in layout.plan]


def take_turns(steps: Steps, batches: dict[str, list[Batch]], repeats: int) -> dict[str, float]:
    """The median over the repeats of the seconds that each layout took for all its batches."""
    measured: dict[str, list[float]] = {name: [] for name in LAYOUTS}
    for _ in range(repeats):
        for name in LAYOUTS:
            measured[name].append(steps.seconds(batches[name]))
    return {name: statistics.median(times) for name, times in measured.items()}


def amounts(encoded: EncodedTexts) -> tuple[tuple[int, str], ...]:
    return (len(encoded.input_ids), "tokens"), (len(encoded), "texts")


if __name__ == "__main__":
    sys.exit(main())
