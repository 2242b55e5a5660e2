"""Programs of the bench that run beside it: started on a free port, waited for, ended."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from outlay.cli.playground import free_port
from outlay.core.errors import Unavailable

ROOT = Path(__file__).resolve().parents[1]
_START_S = 30.0


@dataclass(frozen=True, slots=True)
class Running:
    """A program that listens."""

    url: str
    pid: int


@contextlib.contextmanager
def listening(
    folder: Path, module: str, *arguments: str, python: str = sys.executable, port: int = 0
) -> Iterator[Running]:
    """Run ``python -m module PORT ARGUMENTS`` until the block ends; its output goes to a file in ``folder``.

    Raises:
        Unavailable: it did not start.
    """
    port = port or free_port()
    log = folder / f"{module}-{port}.log"
    with ending([python, "-m", module, str(port), *arguments], log) as process:
        wait_for(process, port, log)
        yield Running(f"http://127.0.0.1:{port}", process.pid)


@contextlib.contextmanager
def ending(
    command: Sequence[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block ends."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=ROOT, env=environment
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until a program listens. Raises Unavailable: it does not."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise Unavailable(f"a program did not start: {log.read_text(errors='replace')[-2000:]}")
