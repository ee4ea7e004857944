"""Every error potstill raises on purpose, drawn once, each with the exit code the command line returns.

PotstillError            1  the work failed
├── UsageError           2  the request cannot be carried out as written
│   ├── RecipeError      2  a recipe, an override or a flag
│   ├── DataError        2  a file, a row, a label
│   ├── ModelError       2  a teacher, a student shape, a checkpoint
│   ├── BundleError      2  a bundle that is not whole, or not of a known form
│   └── RunFolderError   2  an output folder that cannot be used
│       └── OtherRunError  2  it holds a run of another recipe
├── TrainingError        1  training could not go on
│   └── DivergedError    1  the loss stopped being a number
├── StorageError         1  the disk did not take what was written
├── RequestError         1  the server refused a request
└── CheckError           3  a check was not met
"""

from __future__ import annotations


class PotstillError(Exception):
    """The root of the tree; catching it catches everything potstill raises on purpose.

    ``what`` says what was wrong, ``found`` the value met, ``allowed`` what would have been accepted and ``do`` the next
    step. They are kept as attributes and read together as one line.
    """

    exit_code = 1

    def __init__(self, what: str, *, found: object = None, allowed: object = None, do: str | None = None) -> None:
        self.what, self.found, self.allowed, self.do = what, found, allowed, do
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        parts = [self.what]
        if self.found is not None:
            parts.append(f"found {self.found!r}" if isinstance(self.found, str) else f"found {self.found}")
        if self.allowed is not None:
            parts.append(f"allowed: {_listed(self.allowed)}")
        if self.do is not None:
            parts.append(self.do)
        # What libraries say can run over several lines; a message of ours is one.
        sentence = " ".join("; ".join(part.rstrip(".") for part in parts).split())
        return sentence if sentence.endswith("?") else f"{sentence}."


def _listed(allowed: object) -> str:
    if isinstance(allowed, list | tuple | set | frozenset):
        return ", ".join(str(item) for item in allowed)
    return str(allowed)


class UsageError(PotstillError):
    """The request cannot be carried out as written; nothing was started."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe, an override or a flag says something that is not allowed."""


class DataError(UsageError):
    """A file, a row or a label is not what the task expects."""


class ModelError(UsageError):
    """A teacher, a student shape or a checkpoint cannot be used."""


class BundleError(UsageError):
    """A bundle is not whole, not as it was written, or of a form that this version does not know."""


class RunFolderError(UsageError):
    """An output folder holds something else, or an input folder is not a finished run."""


class OtherRunError(RunFolderError):
    """An output folder holds a run of another recipe or other input."""


class TrainingError(PotstillError):
    """Training started and could not go on."""


class DivergedError(TrainingError):
    """The loss became infinite or not a number; the last good checkpoint is kept."""


class StorageError(PotstillError):
    """The disk did not take what was written; what was there before is untouched."""


class CheckError(PotstillError):
    """A check ran and was not met."""

    exit_code = 3


class RequestError(PotstillError):
    """The server refused one request; it goes on with the others."""
