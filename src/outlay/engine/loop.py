"""Loops round steps: run while there is work, pause when there is none, back off when something is wrong."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from outlay.core.errors import Unavailable

log = structlog.get_logger()

BACK_OFF_S = 1.0
BACK_OFF_MAX_S = 5.0
"""A step that failed is tried again after so long at most: a database that was away is back at work as soon."""


STUCK_S = 600.0
"""A step that has not come to its end for so long is stuck: no wait of ours is as long."""

WOKEN_PAUSE_S = 0.005
"""How long a loop that is woken waits for more of what woke it."""


@dataclass(slots=True)
class Pulse:
    """Shows whether a loop turns."""

    name: str
    began: float = 0.0  #: of the step that runs or ran last, by the event loop's clock
    failed: Callable[[str], None] | None = None  #: is told the name when a step failed

    def beat(self) -> None:
        """Note that a step begins."""
        self.began = asyncio.get_running_loop().time()

    def fail(self) -> None:
        """Note that a step failed."""
        if self.failed is not None:
            self.failed(self.name)


async def run_forever(
    name: str,
    step: Callable[[], Awaitable[bool]],
    *,
    pause_s: float,
    wake: asyncio.Event | None = None,
    pulse: Pulse | None = None,
) -> None:
    """Run ``step`` for ever, pausing ``pause_s`` seconds after one that found nothing to do, or until ``wake`` is set.

    Everything works without being woken, only later.
    """
    wait_s = BACK_OFF_S
    pulse = pulse or Pulse(name)
    while True:
        try:
            pulse.beat()
            worked = await step()
            wait_s = BACK_OFF_S
            if worked or wake is None:
                await asyncio.sleep(0 if worked else pause_s)
            else:
                await _wait(wake, pause_s)
        except Unavailable as error:
            log.warning("step_waits", step=name, code=error.code, message=error.message)
            pulse.fail()
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, BACK_OFF_MAX_S)
        except Exception as error:
            # The loop is the last line: what one wallet does wrong must not stop the others for good.
            log.error("step_failed", step=name, exc_info=error)
            pulse.fail()
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

    def __init__(
        self, failed: Callable[[str], None] | None = None, *, started: Callable[[str], None] | None = None
    ) -> None:
        """Start nothing yet; ``started`` is told the name of each loop, ``failed`` that of each step that failed."""
        self._failed, self._started = failed, started
        self._pulses: list[Pulse] = []
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
            if self._started is not None:
                self._started(name)
            pulse = Pulse(name, asyncio.get_running_loop().time(), self._failed)
            self._pulses.append(pulse)
            looping = run_forever(name, step, pause_s=pause_s, wake=wake, pulse=pulse)
            self._tasks.append(asyncio.create_task(looping, name=name))

    def stuck(self) -> list[str]:
        """Return the names of loops that have ended, or whose step does not come to an end."""
        now = asyncio.get_running_loop().time()
        return [
            pulse.name
            for pulse, task in zip(self._pulses, self._tasks, strict=True)
            if task.done() or now - pulse.began > STUCK_S
        ]

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
        self._pulses.clear()
        self._wakes.clear()
