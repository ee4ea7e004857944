"""Which of the teacher's layers the student starts from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from potstill.errors import ModelError


def _paper(n_teacher: int, n_student: int) -> tuple[int, ...]:
    """Evenly spaced from the first layer to the last, halves rounded down: 0, 2, 4, 7, 9, 11 for 12 → 6."""
    if n_student == 1:
        return (0,)
    steps = n_student - 1
    # ceil(i·(N−1)/(S−1) − 1/2) in whole numbers, so that no float decides a tie.
    return tuple(-((steps - 2 * i * (n_teacher - 1)) // (2 * steps)) for i in range(n_student))


def _spread(n_teacher: int, n_student: int) -> tuple[int, ...]:
    """The last layer of each of ``n_student`` equal blocks: 2, 5, 8, 11 for 12 → 4 (TinyBERT's uniform mapping)."""
    return tuple((i + 1) * n_teacher // n_student - 1 for i in range(n_student))


LAYER_CHOICES: dict[str, Callable[[int, int], tuple[int, ...]]] = {
    "paper": _paper,
    "even": lambda n_teacher, n_student: tuple(range(0, 2 * n_student, 2)),
    "odd": lambda n_teacher, n_student: tuple(range(1, 2 * n_student, 2)),
    "first": lambda n_teacher, n_student: tuple(range(n_student)),
    "last": lambda n_teacher, n_student: tuple(range(n_teacher - n_student, n_teacher)),
    "spread": _spread,
}
"""The named choices, each from (teacher's layers, student's layers) to the teacher's layers taken, counted from 0."""


def choose_layers(n_teacher: int, n_student: int, choice: str | Sequence[int] = "paper") -> tuple[int, ...]:
    """The teacher's layers, counted from 0 and increasing, that become the student's layers 0, 1, ….

    ``choice`` is a name of ``LAYER_CHOICES`` or the layers themselves. Raises ``ModelError`` when the student is deeper
    than its teacher, when the name is unknown, or when a layer does not exist, repeats or goes backwards.
    """
    if not 1 <= n_student <= n_teacher:
        raise ModelError(
            "the student cannot have this many layers",
            found=n_student,
            allowed=f"1 to {n_teacher}, the layers of its teacher",
            do="ask for fewer layers or take a deeper teacher",
        )
    layers = _named(n_teacher, n_student, choice) if isinstance(choice, str) else tuple(choice)
    _check(layers, n_teacher, n_student, choice)
    return layers


def _named(n_teacher: int, n_student: int, name: str) -> tuple[int, ...]:
    if name not in LAYER_CHOICES:
        raise ModelError(
            "no layer choice has this name",
            found=name,
            allowed=tuple(LAYER_CHOICES),
            do="or list the teacher's layers, counted from 0",
        )
    return LAYER_CHOICES[name](n_teacher, n_student)


def _check(layers: tuple[int, ...], n_teacher: int, n_student: int, choice: str | Sequence[int]) -> None:
    if len(layers) != n_student:
        raise ModelError(
            f"the list of the teacher's layers does not have the student's length of {n_student}",
            found=list(layers),
            do="list one teacher layer per student layer",
        )
    outside = [layer for layer in layers if not 0 <= layer < n_teacher]
    if outside:
        raise ModelError(
            f"the layer choice {choice!r} asks for teacher layers that do not exist",
            found=outside,
            allowed=f"0 to {n_teacher - 1}",
            do='take fewer layers or the choice "paper", which fits any depth',
        )
    if any(later <= earlier for earlier, later in pairwise(layers)):
        raise ModelError(
            "the teacher's layers must be listed in increasing order, each once",
            found=list(layers),
            do="sort the list and remove what repeats",
        )
