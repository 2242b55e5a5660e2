"""Servers that start fast: processes of their own, forked from one that has imported everything already.

Importing is most of what ``outlay serve`` does when it starts, and crash tests start it dozens of times. After the
fork it is the same program on the same files: ``outlay.cli.server.run``.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from outlay.cli import server
from outlay.cli.playground import Deployment
from tests.world import until

START_TIMEOUT_S = 60.0

_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload(["__main__", "tests.fault.warm", "outlay.web.app"])


def _serve(directory: Path, port: int, log: Path, environment: Mapping[str, str]) -> None:
    """Be the server; runs in the forked process."""
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(output, stream.fileno())
    os.environ.update(environment)
    server.run(directory, port)


class Forked:
    """A forked process with the methods of ``subprocess.Popen`` that a deployment uses."""

    def __init__(self, process: BaseProcess) -> None:
        """Wrap a started process."""
        self._process = process

    @property
    def returncode(self) -> int | None:
        """Return the exit code, minus the signal that ended it, or None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the same."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end.

        Raises:
            subprocess.TimeoutExpired: it still runs after ``timeout`` seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("serve", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal to it."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class WarmDeployment(Deployment):
    """A deployment whose server is forked."""

    def start(self, environment: Mapping[str, str] | None = None, *, wait: bool = True) -> None:
        """Start the server; see ``Deployment.start``."""
        arguments = (self.directory, self.port, self.log, dict(environment or {}))
        process = _forking.Process(target=_serve, args=arguments, daemon=True)
        process.start()
        forked: Any = Forked(process)
        self.process = forked
        if wait:
            until(self._up, f"the server (see {self.log})", timeout_s=START_TIMEOUT_S)

    def _up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the server ended with {self.process.returncode}, see {self.log}"
        return self._answers()
