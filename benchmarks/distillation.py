"""A distillation step by potstill beside the step of 2019 and the plain step that projects masked tokens alone.

    python benchmarks/distillation.py [--rows 8] [--length 128] [--steps 8] [--repeats 5] [--small]

Teacher of 12 layers and student of 6, 768 wide (``--small``: 6 and 3 layers, 384 wide), random weights and tokens. The
arms compute the triple loss on the same tokens and update the student:

- ``2019``: float32, logits of every token for teacher and student, KL over all attended tokens, as the description of
  the original has it: masked selections of whole matrices, torch's own losses, AdamW, clipping at 5;
- ``masked``: the same losses with KL and projection at the masked tokens alone, nothing else;
- ``textbrewer``: TextBrewer's ``GeneralDistiller`` with the same losses, KL at masked tokens, where it is installed
  (``pip install --no-deps textbrewer``); its cross-entropy stands for KL, from which it differs by a constant;
- ``potstill-attended``, ``potstill``: ``DistillationObjective`` with the parts of potstill's trainer, KL over attended
  and over masked tokens;
- ``potstill-int8``: the same with the teacher's layers in int8, whether or not its agreement would allow it;
- ``potstill-stored``: the same with the 64 likeliest tokens of the teacher's distributions and its last states read
  from disk, as ``distil.teacher_outputs`` keeps them; the teacher's one run is not timed.

The arms take turns (``turns.py``). A measurement is the median of its steps after two that are not timed, and the
largest resident memory of the process less what it held before its first step; printed, and kept in ``docs/measured``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

from potstill.distil.losses import top_k_log_probabilities
from potstill.distil.objective import DistillationObjective
from potstill.models.cpu_dropout import use_bulk_dropout
from potstill.models.int8_layers import int8_encoder
from potstill.training.allocator import keep_freed_memory
from turns import store, table, take_turns

ARMS = {
    "2019": "float32, logits and KL at every token",
    "masked": "float32, logits and KL at masked tokens alone",
    "textbrewer": "TextBrewer's GeneralDistiller, KL at masked tokens",
    "potstill-attended": "potstill, KL at every token",
    "potstill": "potstill, KL at masked tokens",
    "potstill-int8": "potstill, KL at masked tokens, the teacher in int8",
    "potstill-stored": "potstill, KL at masked tokens, the teacher's outputs read from disk",
}
VOCABULARY, MASK, MASKED, NOT_MASKED, TEMPERATURE = 30522, 103, 0.15, -100, 2.0
ALPHAS = {"kl": 5.0, "mlm": 2.0, "cosine": 1.0}
Batch = dict[str, Tensor]


def main() -> None:
    """Measure every arm in turn and print the table; with ``--arm``, measure one and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--name", default="distillation", help="of the file in docs/measured")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.arm:
        print(json.dumps(measure(arguments)))
        return
    sizes = "6 layers to 3, 384 wide" if arguments.small else "12 layers to 6, 768 wide"
    title = f"Distillation steps on {arguments.rows} rows of {arguments.length} tokens, {sizes}"
    arms = {arm: described for arm, described in ARMS.items() if arm != "textbrewer" or find_spec("textbrewer")}
    peers = [arm for arm in arms if not arm.startswith("potstill")]
    repeats = take_turns(__file__, list(arms), sys.argv[1:], arguments.repeats)
    print(table(store(arguments.name, title=title, rate="tokens_per_s", peers=peers, arms=arms, repeats=repeats)))


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds of a step, and the memory that steps needed."""
    torch.manual_seed(0)
    teacher, student = models(arguments.small)
    batch = masked_batch(arguments.rows, arguments.length)
    step = stepper(arguments.arm, teacher, student)
    with tempfile.TemporaryDirectory() as folder:
        before = peak_gib()
        said = stored_outputs(batch, Path(folder), arguments) if arguments.arm == "potstill-stored" else dict
        times = []
        for _ in range(arguments.steps + 2):
            started = time.perf_counter()
            step({**batch, **said()})
            times.append(time.perf_counter() - started)
    step_s = statistics.median(times[2:])
    return {"step_s": step_s, "tokens_per_s": batch["input_ids"].numel() / step_s, "gib": peak_gib() - before}


@torch.inference_mode()
def write_outputs(teacher: BertForMaskedLM, batch: Batch, folder: Path) -> None:
    """What ``distil.teacher_outputs`` keeps of the teacher on this batch."""
    states = teacher.bert(batch["input_ids"], batch["attention_mask"]).last_hidden_state.flatten(0, 1)
    masked = batch["labels"].flatten() != NOT_MASKED
    top = top_k_log_probabilities(teacher.cls(states[masked]), 64, TEMPERATURE)
    arrays = {
        "teacher_indices": top.indices.numpy().astype(np.uint16),
        "teacher_log_probabilities": top.log_probabilities.half().numpy(),
        "teacher_log_tail": top.log_tail.numpy(),
        "teacher_hidden": states.half().numpy(),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def stored_outputs(batch: Batch, folder: Path, arguments: argparse.Namespace) -> Callable[[], Batch]:
    """What reads the teacher's outputs on this batch, which a process of its own wrote: its memory is not counted."""
    writer = multiprocessing.get_context("spawn").Process(target=_write_apart, args=(batch, folder, arguments.small))
    writer.start()
    writer.join()
    if writer.exitcode:
        raise RuntimeError("the teacher's outputs could not be written")
    mapped = {file.stem: np.load(file, mmap_mode="r") for file in folder.glob("*.npy")}

    def read() -> Batch:
        found = {name: torch.from_numpy(np.array(array)) for name, array in mapped.items() if name != "teacher_indices"}
        return {**found, "teacher_indices": torch.from_numpy(mapped["teacher_indices"].astype(np.int64))}

    return read


def _write_apart(batch: Batch, folder: Path, small: bool) -> None:
    torch.manual_seed(0)
    write_outputs(models(small)[0], batch, folder)


def peak_gib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def models(small: bool) -> tuple[BertForMaskedLM, DistilBertForMaskedLM]:
    """Teacher, frozen and in evaluation mode, and student, in training mode."""
    layers, width = (6, 384) if small else (12, 768)
    sizes: dict[str, Any] = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
    teacher = BertForMaskedLM(BertConfig(**sizes, num_attention_heads=12)).requires_grad_(False).eval()
    config = DistilBertConfig(n_layers=layers // 2, dim=width, hidden_dim=4 * width, n_heads=12)
    return teacher, DistilBertForMaskedLM(config).train()


def masked_batch(rows: int, length: int) -> Batch:
    """Random tokens without padding, 15% of them masked."""
    ids = torch.randint(1000, VOCABULARY, (rows, length))
    masked = torch.rand(rows, length) < MASKED
    labels = torch.where(masked, ids, NOT_MASKED)
    return {"input_ids": ids.masked_fill(masked, MASK), "attention_mask": torch.ones_like(ids), "labels": labels}


def stepper(arm: str, teacher: nn.Module, student: nn.Module) -> Callable[[Batch], None]:
    """One update of the student, as a function of the batch."""
    ours = arm.startswith("potstill")
    if ours:
        keep_freed_memory()
        use_bulk_dropout(student)  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-4, eps=1e-6, fused=ours)
    if arm == "textbrewer":
        loss = textbrewer_loss(teacher, student)
    else:
        loss = potstill_loss(arm, teacher) if ours else plain_loss(arm, teacher)

    def step(batch: Batch) -> None:
        loss(student, batch).backward()
        nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def potstill_loss(arm: str, teacher: nn.Module) -> Callable[[nn.Module, Batch], Tensor]:
    """The weighted mean of potstill's terms."""
    positions = "attended" if arm == "potstill-attended" else "masked"
    if arm == "potstill-int8":
        teacher = int8_encoder(teacher)  # type: ignore[arg-type]
    objective = DistillationObjective(teacher, ALPHAS, temperature=TEMPERATURE, kl_positions=positions)  # type: ignore[arg-type]

    def loss(student: nn.Module, batch: Batch) -> Tensor:
        counts = objective.counts(batch)
        sums = objective(student, batch)
        return torch.stack([ALPHAS[name] * total / counts[name] for name, total in sums.items()]).sum()

    return loss


def plain_loss(arm: str, teacher: nn.Module) -> Callable[[nn.Module, Batch], Tensor]:
    """The triple loss in torch's own functions: over whole matrices of logits, or over their masked rows alone."""
    everywhere = arm == "2019"

    def loss(student: nn.Module, batch: Batch) -> Tensor:
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        masked = batch["labels"] != NOT_MASKED
        chosen = batch["attention_mask"].bool() if everywhere else masked
        states = student.distilbert(**inputs).last_hidden_state
        with torch.no_grad():
            taught = teacher.bert(**inputs).last_hidden_state
            taught_logits = teacher.cls(taught if everywhere else taught[chosen])
        transformed = F.gelu(student.vocab_transform(states if everywhere else states[chosen]))
        logits = student.vocab_projector(student.vocab_layer_norm(transformed))
        if everywhere:
            mlm = F.cross_entropy(logits.view(-1, VOCABULARY), batch["labels"].view(-1))
            selected = chosen.unsqueeze(-1).expand_as(logits)
            logits, taught_logits = (
                torch.masked_select(both, selected).view(-1, VOCABULARY) for both in (logits, taught_logits)
            )
        else:
            mlm = F.cross_entropy(logits, batch["labels"][masked])
        soft = F.log_softmax(logits / TEMPERATURE, dim=-1)
        kl = F.kl_div(soft, F.softmax(taught_logits / TEMPERATURE, dim=-1), reduction="batchmean") * TEMPERATURE**2
        flat, flat_taught = (hidden.reshape(-1, hidden.shape[-1]) for hidden in (states, taught))
        cosine = F.cosine_embedding_loss(flat, flat_taught, flat.new_ones(len(flat)))
        return ALPHAS["kl"] * kl + ALPHAS["mlm"] * mlm + ALPHAS["cosine"] * cosine

    return loss


def textbrewer_loss(teacher: nn.Module, student: nn.Module) -> Callable[[nn.Module, Batch], Tensor]:
    """The triple loss as TextBrewer adds it up for one batch."""
    from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig

    def seen(batch: Batch, outputs: Any) -> dict[str, Any]:
        loss = {} if outputs.loss is None else {"losses": (outputs.loss,)}
        masked = (batch["input_ids"] == MASK).long()
        return {"logits": (outputs.logits,), "logits_mask": (masked,), "hidden": outputs.hidden_states, **loss}

    match = {"layer_T": -1, "layer_S": -1, "feature": "hidden", "loss": "cos", "weight": ALPHAS["cosine"]}
    config = DistillationConfig(
        temperature=TEMPERATURE,
        kd_loss_weight=ALPHAS["kl"] * TEMPERATURE**2,
        hard_label_weight=ALPHAS["mlm"],
        intermediate_matches=[match],
    )
    with tempfile.TemporaryDirectory() as folder:
        training = TrainingConfig(log_dir=None, output_dir=folder, device="cpu")
        distiller = GeneralDistiller(training, config, teacher, student, seen, seen)

    def loss(_: nn.Module, batch: Batch) -> Tensor:
        unlabelled = {name: tensor for name, tensor in batch.items() if name != "labels"}
        both = {"teacher": unlabelled, "student": batch}
        total: Tensor = distiller.train_on_batch(both, {"output_hidden_states": True})[0]
        return total

    return loss


if __name__ == "__main__":
    main()
