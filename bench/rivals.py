"""Programs of ``bench/baselines``: where their Python is, and how one is run."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from outlay.core.errors import Unavailable

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / "bench/.venv/bin/python"
"""An environment of its own (``make bench`` makes it), so that no rival's packages touch the product's."""


def python() -> str:
    """Return the rivals' Python. Raises Unavailable: it is not installed."""
    if not PYTHON.is_file():
        raise Unavailable("the rivals are not installed: run make bench/.venv/.installed")
    return str(PYTHON)


def versions(*names: str) -> dict[str, str]:
    """Return the versions of packages in the rivals' environment."""
    code = "import sys; from importlib.metadata import version; print([version(n) for n in sys.argv[1:]])"
    ran = subprocess.run([python(), "-c", code, *names], capture_output=True, text=True, check=True, timeout=30)
    return dict(zip(names, json.loads(ran.stdout.replace("'", '"')), strict=True))


class Talker:
    """A program that answers each line with a line of JSON."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Talk to a running program."""
        self._process = process

    def ask(self, line: str) -> Any:
        """Send one line and return the answer. Raises Unavailable: the program ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise Unavailable(f"a rival ended with code {self._process.wait()}")
        return json.loads(answer)


@contextlib.contextmanager
def talking(module: str) -> Iterator[Talker]:
    """Run a module of ``bench.baselines`` that talks by lines."""
    command = [python(), "-m", f"bench.baselines.{module}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield Talker(process)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.terminate()
        process.wait(timeout=15)
