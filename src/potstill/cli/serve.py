"""The verb that answers over HTTP: serve."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from potstill.cli.ship import Engine

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
    batch_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a batch padded to its longest text.")] = 1024,
    max_queue: Annotated[int, typer.Option(min=1, help="Texts of a bundle that may wait; beyond it 429.")] = 2048,
    max_texts: Annotated[int, typer.Option(min=1, help="Texts in one request; beyond it 413.")] = 256,
    max_characters: Annotated[int, typer.Option(min=1, help="Characters of one text; beyond it 413.")] = 200_000,
    max_body: Annotated[int, typer.Option(min=1, help="Bytes of one request's body; beyond it 413.")] = 2_000_000,
    deadline: Annotated[float, typer.Option(min=0.001, help="Seconds for one request; beyond it 504.")] = 30.0,
    drain: Annotated[int, typer.Option(min=0, help="Seconds a shutdown waits for what was accepted.")] = 30,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores of each bundle; all when absent.")] = None,
    engine: Engine = None,
) -> None:
    """Serve bundles over HTTP, as text-embeddings-inference and Hugging Face's inference do, with a page at /.

    SIGTERM answers what was accepted and ends; SIGHUP opens every bundle anew without losing a request.
    """
    from potstill.machine import available_cores
    from potstill.serve import server
    from potstill.serve.opened_bundle import OpenedBundle
    from potstill.serve.settings import Limits, Settings

    settings = Settings(
        limits=Limits(max_body, max_texts, max_characters, batch_tokens, max_queue, deadline),
        auto_truncate=auto_truncate,
        tokenisation_threads=max(2, available_cores()),
        drain_s=drain,
        watch_every_s=LOOK_EVERY_S if watch else None,
        cors_origins=tuple(cors_origin or ()),
    )
    opening = partial(OpenedBundle.open, threads=threads, engine=engine, batch_tokens=batch_tokens)
    server.run_server(bundles, open_predictor=opening, settings=settings, api_keys=api_keys, host=host, port=port)
