"""Work done ahead in a thread, a bounded number of items: tokenisation while the engine runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

Item = TypeVar("Item")
_END = object()


def ahead(items: Iterable[Item], depth: int = 2) -> Iterator[Item]:
    """The same items in their order, up to ``depth`` of them made ahead in a thread.

    What ``items`` raises is raised here, after all that came before it. Whoever stops early waits for the item that is
    being made.
    """
    iterator = iter(items)
    pool = ThreadPoolExecutor(1, thread_name_prefix="potstill-ahead")
    try:
        waiting: deque[Any] = deque(pool.submit(next, iterator, _END) for _ in range(depth))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(pool.submit(next, iterator, _END))
            yield cast(Item, item)
    finally:
        pool.shutdown(cancel_futures=True)
