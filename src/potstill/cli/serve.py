"""The verb that answers over HTTP: serve."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potstill.errors import UsageError

if TYPE_CHECKING:
    from potstill.serve.predictor import ServedPredictor

EXTRA = ("fastapi", "uvicorn", "starlette", "prometheus_client")
LOOK_EVERY_S = 1.0
"""How often --watch looks at a bundle."""


def register(app: typer.Typer) -> None:
    """Put the verb of this file on the command line."""
    app.command()(serve)


def serve(
    bundles: Annotated[
        list[str], typer.Argument(metavar="BUNDLE...", help="Folders, or name=folder; the first is the default.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; other machines reach 0.0.0.0.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 8080,
    api_keys: Annotated[
        Path | None, typer.Option(help="File of API keys, one per line; $POTSTILL_API_KEYS when absent.")
    ] = None,
    watch: Annotated[
        bool, typer.Option(help="Reload a bundle when its bundle.json changes. SIGHUP does it too.")
    ] = False,
    auto_truncate: Annotated[
        bool, typer.Option(help="On /predict cut texts that are too long, where the request does not say.")
    ] = False,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="Origin whose pages may ask, such as https://example.org. Repeatable.")
    ] = None,
    batch_tokens: Annotated[int, typer.Option(min=1, help="Tokens computed together.")] = 4096,
    max_queue: Annotated[int, typer.Option(min=1, help="Texts of a bundle that may wait; beyond it 429.")] = 2048,
    max_texts: Annotated[int, typer.Option(min=1, help="Texts in one request; beyond it 413.")] = 256,
    max_characters: Annotated[int, typer.Option(min=1, help="Characters of one text; beyond it 413.")] = 200_000,
    max_body: Annotated[int, typer.Option(min=1, help="Bytes of one request's body; beyond it 413.")] = 2_000_000,
    deadline: Annotated[float, typer.Option(min=0.001, help="Seconds for one request; beyond it 504.")] = 30.0,
    drain: Annotated[int, typer.Option(min=0, help="Seconds a shutdown waits for what was accepted.")] = 30,
) -> None:
    """Serve bundles over HTTP, as text-embeddings-inference and Hugging Face's inference do, with a page at /.

    SIGTERM answers what was accepted and ends; SIGHUP opens every bundle anew without losing a request.
    """
    with needing_the_extra():
        from potstill.serve import server
        from potstill.serve.settings import Limits, Settings

    limits = Limits(max_body, max_texts, max_characters, batch_tokens, max_queue, deadline)
    settings = Settings(
        limits=limits,
        auto_truncate=auto_truncate,
        tokenisation_threads=max(2, os.cpu_count() or 2),
        drain_s=drain,
        watch_every_s=LOOK_EVERY_S if watch else None,
        cors_origins=tuple(cors_origin or ()),
    )
    server.run_server(
        bundles, open_predictor=open_predictor, settings=settings, api_keys=api_keys, host=host, port=port
    )


def open_predictor(folder: Path) -> ServedPredictor:
    """The predictor of a fine-tuned run."""
    from potstill.runtime.torch_predictor import TorchPredictor

    return TorchPredictor.open(folder)


@contextlib.contextmanager
def needing_the_extra() -> Iterator[None]:
    """Says in a line what to install where a package of the extra is missing."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in EXTRA:
            raise
        raise UsageError(
            f"serving needs the package {missing.name}", do='install it with: pip install "potstill[serve]"'
        ) from missing
