"""Where every tensor of a student came from: a sentence per tensor that can be stored, printed and checked again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.models.checkpoints import listed

RANDOM = "random"
_TRUNCATED = re.compile(r"truncated\((?P<source>.+)\[(?P<cuts>[^\[\]]+)\]\)")
_SUM = re.compile(r"\(?(?P<source>[^\s()]+) \+ (?P<added>[^\s()]+)\[0\]\)?")
_HEADS = re.compile(r"(\d+)x(\d+) (of|from) (\d+)x(\d+)")


@dataclass(frozen=True)
class HeadCut:
    """How an axis that lies as (heads × width of a head) is shortened.

    Head by head where the student has no more heads and none of them wider: the leading rows of each leading head.
    Otherwise the leading rows as they lie, which then belong to other heads than before.
    """

    heads: int
    width: int
    of_heads: int
    of_width: int

    @property
    def by_head(self) -> bool:
        """Whether each head of the student is cut out of one head of the teacher."""
        return self.heads <= self.of_heads and self.width <= self.of_width

    def __str__(self) -> str:
        """``6x64 of 12x64``: heads and their width in the student and in the teacher; ``from`` where not by head."""
        return f"{self.heads}x{self.width} {'of' if self.by_head else 'from'} {self.of_heads}x{self.of_width}"

    def rows(self) -> Tensor:
        """Indices ``(heads · width,)`` into the teacher's axis."""
        if not self.by_head:
            return torch.arange(self.heads * self.width)
        starts = torch.arange(self.heads) * self.of_width
        return (starts[:, None] + torch.arange(self.width)).flatten()


Cut = int | HeadCut
"""How one axis is shortened: to its leading rows, or head by head."""


@dataclass(frozen=True)
class Origin:
    """The teacher's tensor that a student's tensor was computed from; ``Origin.parse(str(origin)) == origin``.

    source: the tensor; added: a table whose row 0 is added to every row of it (token type 0 folded into the positions);
    cuts: one per axis when the tensor is truncated, else empty.
    """

    source: str
    added: str | None = None
    cuts: tuple[Cut, ...] = ()

    def __str__(self) -> str:
        """One line as run folders keep it: ``a.weight``, ``a + b[0]`` or ``truncated(a[:384, 6x64 of 12x64])``."""
        whole = self.source if self.added is None else f"{self.source} + {self.added}[0]"
        if not self.cuts:
            return whole
        cuts = ", ".join(f":{cut}" if isinstance(cut, int) else str(cut) for cut in self.cuts)
        return f"truncated({whole if self.added is None else f'({whole})'}[{cuts}])"

    @classmethod
    def parse(cls, text: str) -> Origin:
        """Read back what ``str`` wrote. Raises ``ModelError`` for anything else."""
        truncated = _TRUNCATED.fullmatch(text)
        cuts = tuple(_parse_cut(cut) for cut in truncated["cuts"].split(", ")) if truncated else ()
        whole = truncated["source"] if truncated else text
        summed = _SUM.fullmatch(whole)
        if summed:
            return cls(summed["source"], summed["added"], cuts)
        if re.fullmatch(r"[\w.]+", whole) is None:
            raise ModelError("this is not an origin of a tensor", found=text)
        return cls(whole, None, cuts)

    def compute(self, teacher_tensors: Mapping[str, Tensor]) -> Tensor:
        """The tensor this origin describes. Raises ``ModelError`` if the teacher has no tensor of the name."""
        absent = [name for name in (self.source, self.added) if name is not None and name not in teacher_tensors]
        if absent:
            raise ModelError("the teacher has no such tensor", found=listed(absent))
        value = teacher_tensors[self.source].detach()
        if self.added is not None:
            value = value + teacher_tensors[self.added].detach()[0]
        for axis, cut in enumerate(self.cuts):
            rows = torch.arange(cut) if isinstance(cut, int) else cut.rows()
            value = value.index_select(axis, rows.to(value.device))
        return value


class OriginRow(NamedTuple):
    """One line of the table of origins: how many tensors of a student's part came how from which teacher's part."""

    student: str
    teacher: str
    how: str
    n_tensors: int


def origin_table(origins: Mapping[str, str]) -> list[OriginRow]:
    """The origins by part (embeddings, layer, head), in the student's order; ``teacher`` is ``"—"`` for random."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for name, text in origins.items():
        if text == RANDOM:
            counts[_part(name), "—", RANDOM] += 1
        else:
            origin = Origin.parse(text)
            how = "truncated" if origin.cuts else "copied"
            counts[
                _part(name), _part(origin.source), how if origin.added is None else f"{how}, token type 0 added"
            ] += 1
    return [OriginRow(*key, count) for key, count in counts.items()]


def verify_origins(student: nn.Module, teacher: nn.Module, origins: Mapping[str, str]) -> int:
    """Compute every origin again and compare bit by bit; return how many tensors came from the teacher.

    Raises ``ModelError`` when a tensor has no origin, an origin names no tensor of the student or of the teacher, or a
    tensor is not what its origin says. This is what makes "nothing was copied and nobody noticed" impossible.
    """
    student_tensors, teacher_tensors = student.state_dict(), teacher.state_dict()
    require_origins(student_tensors, origins)
    strangers = set(origins) - set(student_tensors)
    if strangers:
        raise ModelError("origins are given for tensors that the student does not have", found=listed(strangers))
    parsed = {name: Origin.parse(text) for name, text in origins.items() if text != RANDOM}
    differing = [
        name for name, origin in parsed.items() if not _same(student_tensors[name], origin.compute(teacher_tensors))
    ]
    if differing:
        raise ModelError(
            "tensors of the student are not what their origins say",
            found=listed(differing),
            do="initialise the student again from this very teacher",
        )
    return len(parsed)


def require_origins(student_tensors: Mapping[str, Tensor], origins: Mapping[str, str]) -> None:
    """Raise ``ModelError`` naming the student's tensors that have no origin."""
    without = set(student_tensors) - set(origins)
    if without:
        raise ModelError(
            "tensors of the student have no origin in the teacher",
            found=listed(without),
            do='choose other layers, or initialise="random"',
        )


def _same(tensor: Tensor, expected: Tensor) -> bool:
    return tensor.shape == expected.shape and torch.equal(tensor, expected.to(tensor.device, tensor.dtype))


def _parse_cut(text: str) -> Cut:
    heads = _HEADS.fullmatch(text)
    if heads:
        return HeadCut(int(heads[1]), int(heads[2]), int(heads[4]), int(heads[5]))
    if re.fullmatch(r":\d+", text) is None:
        raise ModelError("this is not a cut of a tensor", found=text)
    return int(text[1:])


def _part(name: str) -> str:
    """The part of a model a tensor lies in: up to the layer's number, else the first one or two components."""
    layer = re.match(r"(.+?\.\d+)\.", name)
    if layer:
        return layer[1]
    components = name.split(".")
    return ".".join(components[: max(1, min(2, len(components) - 2))])
