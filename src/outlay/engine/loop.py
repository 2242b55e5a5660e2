"""Loops round steps: run while there is work, pause when there is none, back off when something is wrong."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from outlay.core.errors import Unavailable

log = structlog.get_logger()

BACK_OFF_S = 1.0
BACK_OFF_MAX_S = 30.0


async def run_forever(name: str, step: Callable[[], Awaitable[bool]], *, pause_s: float) -> None:
    """Run ``step`` for ever, pausing ``pause_s`` seconds after one that found nothing to do."""
    wait_s = BACK_OFF_S
    while True:
        try:
            worked = await step()
            wait_s = BACK_OFF_S
            await asyncio.sleep(0 if worked else pause_s)
        except Unavailable as error:
            log.warning("step_waits", step=name, code=error.code, message=error.message)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, BACK_OFF_MAX_S)
        except Exception as error:
            # The loop is the last line: what one wallet does wrong must not stop the others for good.
            log.error("step_failed", step=name, exc_info=error)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, BACK_OFF_MAX_S)


class Loops:
    """The running loops of one process."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, steps: Sequence[tuple[str, Callable[[], Awaitable[bool]], float]]) -> None:
        """Start a loop for each (name, step, pause in seconds)."""
        for name, step, pause_s in steps:
            self._tasks.append(asyncio.create_task(run_forever(name, step, pause_s=pause_s), name=name))

    async def stop(self) -> None:
        """Cancel every loop and wait for it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
