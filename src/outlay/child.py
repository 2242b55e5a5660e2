"""The signer as a child process of ``outlay serve``: started with it, ended with it, started again if it dies."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Final

import structlog

from outlay.system import CRASH_VARIABLE

log = structlog.get_logger()

READY_MAX_S: Final = 15.0
"""How long the server waits for its signer when it starts; opening a keystore takes about a second."""

BACK_OFF_S: Final = 0.1
BACK_OFF_MAX_S: Final = 10.0
_STEADY_S: Final = 30.0
"""After so long a life, the next start is tried without much waiting again."""

_END_MAX_S: Final = 10.0


class SignerChild:
    """Keeps one signer process alive."""

    def __init__(self, directory: Path) -> None:
        """Describe it; ``start`` runs it."""
        self._directory = directory
        self._task: asyncio.Task[None] | None = None
        self._process: Process | None = None
        self._tried = asyncio.Event()  # it is ready, or has ended without ever being

    @property
    def pid(self) -> int | None:
        """The process id, or None while there is none."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start it, and wait for it a while: a server without its signer reads and admits, and signs later."""
        self._task = asyncio.create_task(self._keep(), name="signer")
        try:
            await asyncio.wait_for(self._tried.wait(), READY_MAX_S)
        except TimeoutError:
            log.error("signer_not_ready", waited_s=READY_MAX_S)

    async def stop(self) -> None:
        """End it and wait until it has ended."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _keep(self) -> None:
        environment = dict(os.environ)
        wait_s = BACK_OFF_S
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            code = await self._run_once(environment)
            self._tried.set()
            log.error("signer_ended", code=code)
            # What the crash suite armed kills once.
            environment.pop(CRASH_VARIABLE, None)
            if loop.time() - began > _STEADY_S:
                wait_s = BACK_OFF_S
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, BACK_OFF_MAX_S)

    async def _run_once(self, environment: dict[str, str]) -> int:
        """Run the process once and return how it ended; minus a signal's number."""
        command = (sys.executable, "-m", "outlay.signing", "--dir", str(self._directory), "--parent", str(os.getpid()))
        # In a session of its own: Ctrl-C ends the server, which ends its signer once nothing needs it any more.
        process = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=PIPE, env=environment, start_new_session=True
        )
        self._process = process
        try:
            assert process.stdout is not None
            if await process.stdout.readline():
                self._tried.set()
                log.info("signer_started", pid=process.pid)
            return await process.wait()
        finally:
            self._process = None
            if process.returncode is None:
                await _end(process)


async def _end(process: Process) -> None:
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _END_MAX_S)
    except TimeoutError:
        process.kill()
        await process.wait()
