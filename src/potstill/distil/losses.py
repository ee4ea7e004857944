"""The losses of distillation: pure functions on tensors, each with its conventions stated.

What all of them share: a row is one unit (a token or an example); the result is the *sum* over the rows, a scalar
float32 (who calls divides by the number of units); rows to leave out, padding above all, are left out by the caller
before the call, so there is no mask here to be computed and forgotten; arithmetic is float32 whatever comes in.
The teacher's side is expected without gradient; none is cut off here.

Where the logits are those of a vocabulary, ``models.vocabulary_losses`` computes the same in less time and memory; what
is right is defined here.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from potstill.models.logit_terms import Direction


def kl_divergence(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, direction: Direction = "forward"
) -> Tensor:
    """``T² · Σ_rows KL(softmax(teacher/T) ‖ softmax(student/T))`` in nats.

    Both logits are ``(n, classes)``. ``reverse`` exchanges the two distributions: KL(student ‖ teacher), which seeks
    one mode of the teacher where ``forward`` covers them all. The factor T² keeps the size of the gradient
    independent of T; gradients equal those of the soft cross-entropy, from which forward KL differs by the teacher's
    entropy. Finite for every logit a float16 can hold. Source: Hinton et al. 2015, §2 and §2.1.
    """
    student = torch.log_softmax(student_logits.float() / temperature, dim=-1)
    teacher = torch.log_softmax(teacher_logits.float() / temperature, dim=-1)
    reference, approximation = (teacher, student) if direction == "forward" else (student, teacher)
    return temperature**2 * F.kl_div(approximation, reference, reduction="sum", log_target=True)


def binary_kl_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """``T² · Σ_rows Σ_labels KL(Bernoulli(σ(teacher/T)) ‖ Bernoulli(σ(student/T)))`` in nats.

    Both logits are ``(n, labels)``, each label a yes or no of its own; the sum over labels is not averaged. Finite for
    every logit a float16 can hold. The multi-label form of Hinton et al. 2015, §2: one two-class softmax per label.
    """
    student, teacher = student_logits.float() / temperature, teacher_logits.float() / temperature
    yes = F.kl_div(F.logsigmoid(student), F.logsigmoid(teacher), reduction="sum", log_target=True)
    no = F.kl_div(F.logsigmoid(-student), F.logsigmoid(-teacher), reduction="sum", log_target=True)
    return temperature**2 * (yes + no)


def masked_lm_cross_entropy(logits: Tensor, token_ids: Tensor) -> Tensor:
    """``−Σ_rows log softmax(logits)[token]`` in nats: the masked-language-model loss, no temperature.

    ``logits`` ``(n, vocabulary)`` stand at the masked positions and nowhere else; ``token_ids`` ``(n,)`` int64 are the
    tokens that stood there before. No rows give 0. Source: Devlin et al. 2019, §3.1, task 1.
    """
    return F.cross_entropy(logits.float(), token_ids, reduction="sum")


def cosine_distance(student_hidden: Tensor, teacher_hidden: Tensor) -> Tensor:
    """``Σ_rows (1 − cos(student, teacher))`` over two ``(n, width)`` states of equal width; each row in [0, 2].

    Direction only: the length of a state does not count. Source: Sanh et al. 2019 (DistilBERT), §2, L_cos.
    """
    return (1.0 - F.cosine_similarity(student_hidden.float(), teacher_hidden.float(), dim=-1)).sum()


def squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """``Σ_rows mean_columns (student − teacher)²`` over two ``(n, columns)``; no temperature.

    Serves three terms, told apart by what the columns are: logits over the vocabulary (Ba & Caruana 2014, eq. 1, there
    summed over columns and halved), hidden states over the width, projected where widths differ (TinyBERT, Jiao et al.
    2020, eq. 8), and the one output of a regression.
    """
    return (student.float() - teacher.float()).square().mean(dim=-1).sum()


class TopK(NamedTuple):
    """A softened distribution by its k likeliest classes, which is what can be kept of one on disk.

    indices: ``(n, k)`` int64, likeliest first. log_probabilities: ``(n, k)`` float32, of softmax(logits/T). log_tail:
    ``(n,)`` float32, the log of the probability that all other classes have together; −∞ where k are all of them.
    """

    indices: Tensor
    log_probabilities: Tensor
    log_tail: Tensor


def top_k_log_probabilities(logits: Tensor, k: int, temperature: float = 1.0) -> TopK:
    """The k likeliest of ``(n, classes)`` logits at temperature T; k above the number of classes takes them all."""
    log_probabilities = torch.log_softmax(logits.float() / temperature, dim=-1)
    top = log_probabilities.topk(min(k, logits.shape[-1]), dim=-1)
    return TopK(top.indices, top.values, _log_of_the_others(log_probabilities, top.indices))


def top_k_kl_divergence(
    student_logits: Tensor, indices: Tensor, log_probabilities: Tensor, log_tail: Tensor, temperature: float = 1.0
) -> Tensor:
    """``T² · Σ_rows KL(teacher ‖ student)`` in nats over k + 1 outcomes: the k classes kept, and "any other".

    ``student_logits`` are ``(n, classes)``, the other three what ``TopK`` says of the teacher at the same temperature.
    Merging outcomes only loses information: this is a lower bound of ``kl_divergence`` over all classes (the
    data-processing inequality; Cover & Thomas 2006, §2.8 and §4.4). It equals it where k covers the classes, and where
    student and teacher share out the rest in the same way. The student is told how much the rest is worth, not how it
    is shared out. What rounding on disk took from the teacher's mass is given back: its k + 1 probabilities are scaled
    to add up to 1.
    """
    student = torch.log_softmax(student_logits.float() / temperature, dim=-1)
    approximation, reference = student.gather(-1, indices), log_probabilities.float()
    if indices.shape[-1] < student.shape[-1]:
        others = _log_of_the_others(student, indices)
        approximation = torch.cat([approximation, others.unsqueeze(-1)], dim=-1)
        reference = torch.cat([reference, log_tail.float().unsqueeze(-1)], dim=-1)
    reference = torch.log_softmax(reference, dim=-1)
    return temperature**2 * F.kl_div(approximation, reference, reduction="sum", log_target=True)


def _log_of_the_others(log_probabilities: Tensor, indices: Tensor) -> Tensor:
    """``(n,)``: the log of what the classes not in ``indices`` have together, added up and not subtracted from 1."""
    return log_probabilities.scatter(-1, indices, float("-inf")).logsumexp(dim=-1)
