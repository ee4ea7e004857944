"""potstill turns a large BERT-class text encoder into a small, fast one, proves what it kept, and ships it.

The verbs of the command line are functions here: ``explore``, ``pretrain``, ``distil``, ``finetune``, ``baseline``,
``evaluate``, ``compare``, ``calibrate``, ``failures``, ``attend``, ``ablate``, ``report``, ``run``, ``export``,
``predict`` and ``bench``; ``open_bundle`` gives a predictor. They are loaded when first asked for.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from potstill.api import (
        ablate,
        attend,
        baseline,
        calibrate,
        compare,
        distil,
        evaluate,
        explore,
        failures,
        finetune,
        pretrain,
        report,
        run,
    )
    from potstill.shipping import bench, export, open_bundle, predict

_SHIPPING = ("bench", "export", "open_bundle", "predict")
"""What are loaded without the others: where bundles are only used, no library of training is installed."""

__all__ = [
    "ablate",
    "attend",
    "baseline",
    "bench",
    "calibrate",
    "compare",
    "distil",
    "evaluate",
    "explore",
    "export",
    "failures",
    "finetune",
    "open_bundle",
    "predict",
    "pretrain",
    "report",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"potstill has no {name!r}; it has {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module("potstill.shipping" if name in _SHIPPING else "potstill.api"), name)


class _Verbs(ModuleType):
    """This package, in which ``distil`` stays the verb: Python would put the room of that name there once it opens."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Verbs
