"""Somebody who follows a tutorial: types each block into one shell at a terminal, and compares what is printed.

In a page, ``sh runnable`` is typed as it stands. ``sh runnable fails`` has to end with an error. While ``sh runnable
hand=NAME`` runs, the hand of that name does what the page tells a person to do. ``text printed`` after such a block is
what it prints: every line has to come, in that order, but for what differs from run to run (see ``same``).
"""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from outlay.cli.playground import free_port
from tests import tools
from tests.world import until

PAGES = tools.ROOT / "docs/tutorials"
PORTS = ("8000", "8545", "8099")
BLOCK_S = 120.0
_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_SHELL = """\
set -uo pipefail
while read -r -u 3 file mode; do
  if [ "$mode" = fails ]; then set +e; else set -e; fi
  . "$file"
  echo $? > "$file.code"
done
"""
_VARIES = (
    (re.compile(r"\b([a-z]{2,4})-[a-z0-9]{5}-[a-z0-9]{5}-[a-z0-9]{8,}"), r"\1-*"),
    (re.compile(r"\b0x[0-9a-fA-F]{64}\b"), "0x*"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "*"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"), "NOW"),
    (re.compile(r"(?<=code=)[\w%-]+|(?<=^code )\S+"), "*"),
    (re.compile(r"(?<=^address )0x[0-9a-fA-F]{40}$|(?<=^words )[a-z ]+$|(?<=^credential )\S+|(?<=^fee )\S+"), "*"),
    (re.compile(r"(?<=credential[ =])[\w-]{20,}|(?<=^signs with )\S+"), "*"),
    (re.compile(r"(?<=^profile )\S*/"), ""),
)

Hand = Callable[["Reader", int], None]
"""What a person does while a block runs; gets the reader, and where in what was printed the block began."""


def blocks(page: Path) -> list[tuple[list[str], str]]:
    """Return the words after the opening fence, and the text, of each block of a page."""
    return [(each["info"].split(), each["code"]) for each in _FENCE.finditer(page.read_text())]


def same(line: str) -> str:
    """Return a printed line without what differs from run to run: ids, hashes, instants, codes, widths of columns."""
    line = " ".join(line.split())
    for found, instead in _VARIES:
        line = found.sub(instead, line)
    return line


def missing(expected: str, printed: str) -> str | None:
    """Return the first expected line that was not printed after those before it; None: all were. ``...`` may be any."""
    lines = iter([same(each) for each in printed.splitlines()])
    for line in expected.splitlines():
        if line.strip() not in ("", "...") and not any(same(line) == each for each in lines):
            return line
    return None


class Reader:
    """A terminal in an empty directory that looks like a clone. ``PORTS`` of the pages stand for free ones."""

    def __init__(self, folder: Path) -> None:
        """Open the terminal; ``folder`` is empty."""
        self.folder = folder
        self._ports = {stated: str(free_port()) for stated in PORTS}
        self.url = f"http://localhost:{self._ports['8000']}"
        for name in ("examples", "tools", "build"):
            (folder / name).symlink_to(tools.ROOT / name)
        self._typed = 0
        self._keyboard, near = pty.openpty()
        source, self._lines = os.pipe()
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OUTLAY_")}
        self._shell = subprocess.Popen(
            ["bash", "-c", f"exec 3<&{source}\n{_SHELL}"],
            stdin=near,
            stdout=(self.folder / "printed").open("ab"),
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env={**environment, "PATH": path, "HOME": str(self.folder), "COLUMNS": "120"},
            pass_fds=(source,),
            start_new_session=True,
        )
        os.close(near)
        os.close(source)

    @property
    def printed(self) -> str:
        """Return all that was printed so far."""
        text = (self.folder / "printed").read_text(errors="replace").replace("\r", "")
        for stated, real in self._ports.items():
            text = text.replace(f":{real}", f":{stated}")
        return text

    def real(self, text: str) -> str:
        """Return a text with the ports that are used in the place of those on the page."""
        for stated, real in self._ports.items():
            text = text.replace(stated, real)
        return text

    def answer(self, text: str) -> None:
        """Type an answer to what a command asks; it is seen in what is printed, as on a terminal."""
        with (self.folder / "printed").open("a") as printed:
            printed.write(f"{text}\n")
        os.write(self._keyboard, f"{text}\n".encode())

    def wait_for(self, pattern: str, begin: int = 0) -> re.Match[str]:
        """Return the first match in what is printed from ``begin`` on, once it is there."""
        found: re.Match[str] = until(
            lambda: re.search(pattern, self.printed[begin:], re.MULTILINE), f"{pattern} in {self.printed[begin:]}"
        )
        return found

    def read(self, name: str, hands: Mapping[str, Hand] | None = None) -> None:
        """Follow a page from its top to its end.

        Raises:
            AssertionError: a block did not do what the page says.
        """
        typed = begin = 0
        for words, code in blocks(PAGES / name):
            if words[1:] == ["printed"]:
                lost = missing(code, self.printed[begin:])
                assert lost is None, f"{name} says {lost!r}, but: {self.printed[begin:]}"
            elif "runnable" in words:
                begin, typed = len(self.printed), typed + 1
                hand = next((word.partition("=")[2] for word in words if word.startswith("hand=")), None)
                self._type(code, begin, fails="fails" in words, hand=None if hand is None else (hands or {})[hand])
        assert typed, f"{name} has nothing to type"

    def _type(self, code: str, begin: int, *, fails: bool, hand: Hand | None) -> None:
        self._typed += 1
        file = self.folder / f"block-{self._typed}"
        file.write_text(self.real(code))
        os.write(self._lines, f"{file} {'fails' if fails else 'works'}\n".encode())
        if hand is not None:
            hand(self, begin)
        done, deadline = Path(f"{file}.code"), time.monotonic() + BLOCK_S
        while not (done.exists() and done.read_text()):
            assert self._shell.poll() is None, f"it failed:\n{code}\n{self.printed[begin:]}"
            assert time.monotonic() < deadline, f"it did not end:\n{code}\n{self.printed[begin:]}"
            time.sleep(0.05)
        assert (done.read_text() != "0\n") == fails, f"{done.read_text()} from:\n{code}\n{self.printed[begin:]}"

    def close(self) -> None:
        """End everything that was started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGTERM)
        self._shell.wait(20)
        os.close(self._lines)
        os.close(self._keyboard)
