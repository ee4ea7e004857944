"""The page at ``/`` and its files, with headers that let it speak to its own server and nobody else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from potstill.serve.refusals import RefusedError

FOLDER = Path(__file__).parent / "page"
INDEX = "index.html"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class PageFile:
    """A file of the page in memory, and the tag by which a browser knows that it has it."""

    content: bytes
    kind: str
    tag: str


def page_routes() -> APIRouter:
    """Routes for the files that are there now; no path of a request ever reaches the disk."""
    routes = APIRouter(include_in_schema=False)
    files = {file.name: _read(file) for file in sorted(FOLDER.iterdir()) if file.suffix in KINDS}

    @routes.head("/")
    @routes.get("/")
    async def index(request: Request) -> Response:
        """The page."""
        return _reply(files[INDEX], request)

    @routes.head("/page/{name}")
    @routes.get("/page/{name}")
    async def part(name: str, request: Request) -> Response:
        """A style or a script of the page."""
        if name not in files:
            raise RefusedError(404, "the page has no such file", counted_as="unknown_route")
        return _reply(files[name], request)

    return routes


def _read(file: Path) -> PageFile:
    content = file.read_bytes()
    return PageFile(content, KINDS[file.suffix], f'"{hashlib.sha256(content).hexdigest()[:16]}"')


def _reply(file: PageFile, request: Request) -> Response:
    headers = {**HEADERS, "ETag": file.tag}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers={**headers, "Content-Type": file.kind})
