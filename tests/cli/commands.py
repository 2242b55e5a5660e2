"""Running commands in this process, as a person at a terminal or a script would, and what came of it."""

import contextlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from outlay.cli.commands import app
from outlay.cli.run import run
from tests.door import Door, Who

PUBLIC_URL = "http://localhost:8000"
"""What the server of ``tests.door`` calls itself."""


@dataclass(frozen=True)
class Ran:
    """What a command printed and exited with."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Return what ``--json`` printed: exactly one document."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """Return the error that ``--json`` printed."""
        return json.loads(self.err)["error"]

    def ok(self) -> str:
        """Return what was printed by a command that did it."""
        assert self.code == 0, self.out + self.err
        return self.out


class Terminal(io.StringIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        """Say that it is a terminal."""
        return True


def outlay(profile: Path | None, *words: str, typed: str | None = None, columns: int = 80) -> Ran:
    """Run a command.

    Args:
        profile: where the profile is, or is written; None: nowhere.
        words: the command.
        typed: what somebody at a terminal types; None: there is nobody.
        columns: width of the terminal.
    """
    out, err = io.StringIO(), io.StringIO()
    surroundings = {"OUTLAY_PROFILE": str(profile or "/nonexistent/profile.toml"), "COLUMNS": str(columns)}
    with (
        mock.patch.dict(os.environ, surroundings),
        mock.patch("sys.stdin", io.StringIO() if typed is None else Terminal(typed)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = run(app, words)
    return Ran(code, out.getvalue(), err.getvalue())


def url_of(door: Door) -> str:
    """Return the address of a server."""
    return f"http://127.0.0.1:{door.port}"


def profile_of(door: Door, who: Who, folder: Path) -> Path:
    """Return a profile of somebody: logged in by hand, as a service account is."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "key.pem").write_text(who.private)
    (folder / "token").write_text(who.token)
    path = folder / "profile.toml"
    told = ("--url", url_of(door), "--token-file", str(folder / "token"), "--key-file", str(folder / "key.pem"))
    outlay(path, "login", *told, f"--credential={who.credential_id}", "--public-url", PUBLIC_URL).ok()
    return path


@contextlib.contextmanager
def environment(**named: str) -> Iterator[None]:
    """Set variables of the environment."""
    with mock.patch.dict(os.environ, named):
        yield
