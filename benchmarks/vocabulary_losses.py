"""Losses over a vocabulary, on whole matrices and in chunks: time of a forward and backward pass, and peak memory.

    python benchmarks/vocabulary_losses.py [--rows 600 4096] [--widths 384 768] [--chunks 256] [--repeats 7]

The terms are those of distillation, KL at temperature 2 and the cross-entropy of the masked tokens. 600 rows stand for
the masked tokens of a batch, each with a target; 4,096 for all its tokens, 15% of them with one. "whole" is autograd
through ``distil.losses``; "chunks of …" is ``models.vocabulary_losses`` with as many rows of one matrix product.

All take turns within each repeat, so that whatever else the machine does hits them alike, and freed memory is kept in
the process as in training; printed are medians, with the range in brackets. Memory (Linux only) is what a process of
its own needs at its peak beyond what stood in memory before, gradients included.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from potstill.distil.losses import kl_divergence, masked_lm_cross_entropy
from potstill.models.lazy_logits import LazyLogits
from potstill.models.vocabulary_losses import NO_TARGET, vocabulary_losses
from potstill.training.allocator import keep_freed_memory

VOCABULARY, TEMPERATURE = 30_522, 2.0
ALPHA = {"kl": 5.0, "mlm": 2.0}
ALL_MASKED = 600
"""Up to so many rows each has a target; of more, 15% have."""


@dataclass
class Lesson:
    """Random states and decoders of student and teacher, and the targets."""

    n_rows: int
    width: int

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.states = torch.randn(self.n_rows, self.width, requires_grad=True)
        self.teacher_states = torch.randn(self.n_rows, self.width)
        self.decoder, self.teacher_decoder = (nn.Linear(self.width, VOCABULARY) for _ in range(2))
        self.teacher_decoder.requires_grad_(False)
        known = torch.rand(self.n_rows) < (1.0 if self.n_rows <= ALL_MASKED else 0.15)
        self.targets = torch.where(known, torch.randint(0, VOCABULARY, (self.n_rows,)), NO_TARGET)
        self.weights = {"kl": ALPHA["kl"] / self.n_rows, "mlm": ALPHA["mlm"] / int(known.sum())}

    def whole(self) -> dict[str, Tensor]:
        """The terms from matrices of all logits."""
        student, teacher = self.decoder(self.states), self.teacher_decoder(self.teacher_states)
        known = self.targets != NO_TARGET
        at_targets = student if known.all() else student[known]
        return {
            "kl": kl_divergence(student, teacher, TEMPERATURE),
            "mlm": masked_lm_cross_entropy(at_targets, self.targets[known]),
        }

    def chunked(self, chunk_rows: int) -> dict[str, Tensor]:
        """The terms in chunks."""
        teacher = LazyLogits(self.teacher_states, self.teacher_decoder)
        return vocabulary_losses(
            LazyLogits(self.states, self.decoder), self.weights, targets=self.targets, teacher=teacher,
            temperature=TEMPERATURE, chunk_rows=chunk_rows,
        )  # fmt: skip

    def step(self, terms: Callable[[], dict[str, Tensor]]) -> float:
        """Seconds of one forward and backward pass."""
        for tensor in (self.states, *self.decoder.parameters()):
            tensor.grad = None
        started = time.perf_counter()
        torch.stack([self.weights[name] * total for name, total in terms().items()]).sum().backward()
        return time.perf_counter() - started

    def terms_of(self, way: str) -> Callable[[], dict[str, Tensor]]:
        """What computes the terms in the way that is called so."""
        return self.whole if way == "whole" else lambda: self.chunked(int(way))


def peak_mib(way: str, n_rows: int, width: int) -> float:
    """Memory that one step needs at its peak, in a fresh process."""
    command = [sys.executable, __file__, "--one-step", way, "--rows", str(n_rows), "--widths", str(width)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def one_step(way: str, n_rows: int, width: int) -> None:
    """Print by how many MiB a step raises the peak of this process."""
    small, lesson = Lesson(8, 8), Lesson(n_rows, width)
    small.step(small.terms_of(way))
    before = _peak_so_far_mib()
    lesson.step(lesson.terms_of(way))
    print(_peak_so_far_mib() - before)


def _peak_so_far_mib() -> float:
    # Not getrusage, whose figure a process inherits from the one that started it.
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else float("nan")


def compare(n_rows: int, width: int, ways: list[str], repeats: int) -> None:
    """Print a line for each way."""
    lesson = Lesson(n_rows, width)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(1 + repeats):
        for way, measured in seconds.items():
            found = lesson.step(lesson.terms_of(way))
            if repeat:
                measured.append(found)
    whole = statistics.median(seconds["whole"])
    for way, measured in seconds.items():
        median = statistics.median(measured)
        print(
            f"{n_rows:>5} rows, width {width}, {'whole' if way == 'whole' else f'chunks of {way}':<14}"
            f"{1000 * median:7.0f} ms [{1000 * min(measured):.0f}, {1000 * max(measured):.0f}], "
            f"{whole / median:.2f} times as fast, peak {peak_mib(way, n_rows, width):.0f} MiB",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[ALL_MASKED, 4096])
    parser.add_argument("--widths", type=int, nargs="+", default=[384, 768])
    parser.add_argument("--chunks", type=int, nargs="+", default=[256])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--one-step", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.one_step:
        one_step(arguments.one_step, arguments.rows[0], arguments.widths[0])
        return
    keep_freed_memory()
    for n_rows in arguments.rows:
        for width in arguments.widths:
            compare(n_rows, width, ["whole", *map(str, arguments.chunks)], arguments.repeats)


if __name__ == "__main__":
    main()
