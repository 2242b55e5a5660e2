"""The processes of a deployment, one by one."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from outlay.layout import Layout
from tests.world import until


class Part:
    """One process of ``outlay``; its output goes to a file."""

    def __init__(self, log: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Start it."""
        self._log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
            )

    @property
    def log(self) -> str:
        """What it printed."""
        return self._log.read_text(errors="replace")

    def wait_for(self, text: str, *, timeout_s: float = 60) -> None:
        """Wait until it has printed a text."""

        def printed() -> bool:
            assert text in self.log or self.process.poll() is None, f"it ended: {self.log}"
            return text in self.log

        until(printed, f"{text!r} in {self._log}", timeout_s=timeout_s)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def part(folder: Path, name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Part]:
    """Run ``python -m outlay ARGUMENTS`` until the block ends, which kills it."""
    running = Part(folder / f"{name}.log", "outlay", *arguments, environment=environment)
    try:
        yield running
    finally:
        running.kill()


def outlay(*arguments: str) -> str:
    """Run a command to its end and return what it printed."""
    ran = subprocess.run([sys.executable, "-m", "outlay", *arguments], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def journal_rows(directory: Path, sql: str, *values: Any) -> list[Any]:
    """Return what a query finds in a signer's journal, without taking part in anything."""
    path = Layout(directory).journal
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(sql, values).fetchall()


def signatures(directory: Path, wallet_id: str | None = None) -> int:
    """Return how many signatures there are, of a wallet or of all."""
    sql = "SELECT count(*) FROM entry WHERE kind = 'attempt' AND coalesce(wallet_id = ?, 1)"
    return int(journal_rows(directory, sql, wallet_id)[0][0])


def said(log: str, event: str) -> list[Any]:
    """Return the lines of a log that tell of an event."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("event") == event]


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and was not waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
