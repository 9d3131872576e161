"""Tasks that somebody owns: named, kept until done, cancelled at the end; and work that is done again and again."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from modelgates_server.errors import StoreUnavailable

log = logging.getLogger(__name__)


class Tasks:
    """Owns tasks."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start a task."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Cancel what still runs and wait for it."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def every(
    pause_s: float, work: Callable[[], Awaitable[object] | object], name: str, *, at_once: bool = False
) -> None:
    """Run `work` for ever, the first time after a pause or `at_once`; one failure does not stop the next run.

    That the store is away is told once, and is no mistake.
    """
    waiting = False
    if not at_once:
        await asyncio.sleep(pause_s)
    while True:
        try:
            result = work()
            if inspect.isawaitable(result):
                await result
            waiting = False
        except StoreUnavailable:
            if not waiting:
                log.warning("upkeep_waits_for_the_store", extra={"work": name})
            waiting = True
        except Exception:
            log.exception("upkeep_failed", extra={"work": name})
        await asyncio.sleep(pause_s)
