"""``potstill``: the verbs in the order of the work. Errors become one line and an exit code here, and nowhere else."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Sequence

import typer

from potstill.cli import (
    ablation,
    attention,
    baselines,
    evidence,
    experiment,
    failures,
    measure,
    serve,
    ship,
    study,
    train,
)
from potstill.errors import PotstillError, StorageError, UsageError

app = typer.Typer(
    name="potstill",
    help="Turn a large BERT-class text encoder into a small, fast one, and prove what it kept.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error. Can stand anywhere."),
) -> None:
    """The options that all verbs share."""


for _family in (experiment, study, train, baselines, evidence, failures, attention, ablation, ship, measure, serve):
    _family.register(app)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 failed, 2 wrong usage or recipe, 3 a check was not met."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    if not debug:
        threading.excepthook = _say_unless_disk_is_full
    try:
        _require_utf8(given)
        app(args=[argument for argument in given if argument != "--debug"], prog_name="potstill")
    except (PotstillError, OSError, ModuleNotFoundError) as failure:
        error = _said_plainly(failure)
        if debug or error is None:
            raise
        print(f"potstill: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _said_plainly(failure: PotstillError | OSError | ModuleNotFoundError) -> PotstillError | None:
    """What went wrong as an error of ours; None of what is a mistake of the program."""
    if isinstance(failure, PotstillError):
        return failure
    return _full_disk(failure) if isinstance(failure, OSError) else _missing_extra(failure)


_EXTRAS = {
    "captum": "explain", "fastapi": "serve", "onnx": "export", "onnx_ir": "export", "onnxscript": "export",
    "openvino": "runtime", "prometheus_client": "serve", "starlette": "serve", "uvicorn": "serve",
}  # fmt: skip
_TRAINING = (
    "accelerate", "datasets", "huggingface_hub", "jinja2", "matplotlib", "pandas", "pyarrow", "pydantic", "safetensors",
    "scipy", "sklearn", "tensorboard", "torch", "transformers", "yaml",
)  # fmt: skip


def _missing_extra(failure: ModuleNotFoundError) -> UsageError | None:
    """The extra that a missing package belongs to; None of a package that comes with potstill."""
    package = str(failure.name).partition(".")[0]
    extra = "train" if package in _TRAINING else _EXTRAS.get(package)
    if extra is None:
        return None
    return UsageError(f"this needs {package}, which is not installed", do=f"pip install 'potstill[{extra}]'")


def _require_utf8(arguments: Sequence[str]) -> None:
    """Raise UsageError for bytes of the command line that are not UTF-8: no page, table or recipe could hold them.

    Python keeps such bytes as lone surrogates, which tokenizers and files refuse much later.
    """
    for number, argument in enumerate(arguments, start=1):
        try:
            argument.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UsageError(
                f"argument {number} is not UTF-8",
                found=argument[max(error.start - 20, 0) : error.end + 20],
                do="write it in UTF-8; if it is the name of a file, rename the file",
            ) from error


def _say_unless_disk_is_full(thrown: threading.ExceptHookArgs) -> None:
    """A tracker's thread that meets a full disk: the main thread meets the same and says so in a line."""
    if not (isinstance(thrown.exc_value, OSError) and _full_disk(thrown.exc_value)):
        threading.__excepthook__(thrown)


def _full_disk(failure: OSError) -> StorageError | None:
    """What a library said of a full disk when it wrote for itself, as trackers write logs; None of anything else."""
    if failure.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return None
    where = failure.filename or "a file"
    return StorageError(f"no space left while writing {where}", do="free some space and start again")
