"""Loops round steps: run while there is work, pause when there is none, back off when something is wrong."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

import structlog

from outlay.core.errors import Unavailable

log = structlog.get_logger()

BACK_OFF_S = 1.0
BACK_OFF_MAX_S = 5.0
"""A step that failed is tried again after so long at most: a database that was away is back at work as soon."""


WOKEN_PAUSE_S = 0.005
"""How long a loop that is woken waits for more of what woke it."""


async def run_forever(
    name: str, step: Callable[[], Awaitable[bool]], *, pause_s: float, wake: asyncio.Event | None = None
) -> None:
    """Run ``step`` for ever, pausing ``pause_s`` seconds after one that found nothing to do, or until ``wake`` is set.

    Everything works without being woken, only later.
    """
    wait_s = BACK_OFF_S
    while True:
        try:
            worked = await step()
            wait_s = BACK_OFF_S
            if worked or wake is None:
                await asyncio.sleep(0 if worked else pause_s)
            else:
                await _wait(wake, pause_s)
        except Unavailable as error:
            log.warning("step_waits", step=name, code=error.code, message=error.message)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, BACK_OFF_MAX_S)
        except Exception as error:
            # The loop is the last line: what one wallet does wrong must not stop the others for good.
            log.error("step_failed", step=name, exc_info=error)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, BACK_OFF_MAX_S)


async def _wait(wake: asyncio.Event, pause_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(pause_s):
            await wake.wait()
            await asyncio.sleep(WOKEN_PAUSE_S)
    wake.clear()


class Loops:
    """The running loops of one process."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._wakes: list[asyncio.Event] = []

    def start(
        self, steps: Sequence[tuple[str, Callable[[], Awaitable[bool]], float]], *, are_woken: bool = False
    ) -> None:
        """Start a loop for each (name, step, pause in seconds); ``wake`` ends the pauses of the ``are_woken``."""
        for name, step, pause_s in steps:
            wake = asyncio.Event() if are_woken else None
            if wake is not None:
                self._wakes.append(wake)
            self._tasks.append(asyncio.create_task(run_forever(name, step, pause_s=pause_s, wake=wake), name=name))

    def wake(self) -> None:
        """Let the loops look at the database now: another process has written something."""
        for each in self._wakes:
            each.set()

    async def stop(self) -> None:
        """Cancel every loop and wait for it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._wakes.clear()
