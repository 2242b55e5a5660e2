"""Virtual time: a stock asyncio loop whose clock jumps to the next timer as soon as nothing is runnable."""

import asyncio
import contextvars
import selectors
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

_here: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("process", default=None)


class Dead(BaseException):
    """The process this code ran in is gone. Not an ``Exception``: no code may outlive it."""


TURNS_MAX = 400_000
"""Turns of the loop in one run: some thirty times as many as a long one takes."""


class Stuck(AssertionError):
    """Somebody waits for what will never happen, or goes round for ever."""


class _Jump(selectors.SelectSelector):
    """Instead of waiting, lets the time pass."""

    loop: "VirtualLoop"
    turns = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.turns += 1
        if self.turns == TURNS_MAX:
            raise Stuck("the run goes on for ever")
        if timeout is None:
            raise Stuck("nothing is runnable and no timer is set")
        if timeout > 0:
            self.loop.seconds += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop without threads, files or waiting. Tasks belong to the process that made them."""

    def __init__(self) -> None:
        self.seconds = 0.0
        jump = _Jump()
        jump.loop = self
        super().__init__(jump)
        self.set_task_factory(_make_task)

    def time(self) -> float:
        return self.seconds


def _make_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    task = asyncio.Task(coro, loop=loop, **options)
    process = _here.get()
    if process is not None:
        process.tasks[task] = None
        task.add_done_callback(process.forget)
    return task


class Process:
    """What dies together: the tasks of one worker, of the API or of the signer, and all they remember."""

    def __init__(self, name: str) -> None:
        self.name, self.alive = name, True
        self.tasks: dict[asyncio.Future[Any], None] = {}  # a dict keeps their order

    def forget(self, task: asyncio.Future[Any]) -> None:
        self.tasks.pop(task, None)
        if not task.cancelled():
            task.exception()  # a dead task's last words need not be heard

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Run what follows as this process."""
        token = _here.set(self)
        try:
            yield
        finally:
            _here.reset(token)

    def spawn(self, doing: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        with self.entered():
            return asyncio.get_running_loop().create_task(doing)

    def check(self) -> None:
        """Stop code of a dead process at its next contact with the world."""
        if not self.alive:
            raise Dead(self.name)

    def kill(self) -> None:
        self.alive = False
        for task in list(self.tasks):
            task.cancel()


def current() -> Process | None:
    """Return the process that runs."""
    return _here.get()
