"""Rules of the source broken on purpose, one at a time, to see that a test notices.

A mutant is applied to a copy of ``src`` that stands before the real one on the path of a pytest process. It counts as
caught only if a test fails that passes on an unchanged copy; what no longer imports has tested nothing.
"""

import json
import os
import queue
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "outlay"

TOGETHER = 20
"""Tests that are tried in one run on what is not broken."""

_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - .*)?$", re.MULTILINE)
_BROKE = re.compile(r"^ERROR (\S+)(?: - (.*))?$", re.MULTILINE)
_PASSED, _TESTS_FAILED = 0, 1
"""Exit codes of pytest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One rule, broken."""

    name: str  #: what is broken
    file: str  #: below ``src/outlay``
    edits: tuple[tuple[str, str], ...]  #: what is there, exactly once, and what is written instead
    tests: tuple[str, ...]  #: files or node ids, relative to the repository: one of them has to fail

    @property
    def path(self) -> Path:
        """The file in this repository."""
        return PACKAGE / self.file

    def applied(self, text: str) -> str:
        """Return the text of the file with the rule broken.

        Raises:
            ValueError: a text to replace does not occur exactly once, or what results is not Python.
        """
        for old, new in self.edits:
            if text.count(old) != 1:
                raise ValueError(f"{self.name}: {old!r} occurs {text.count(old)} times in {self.file}")
            text = text.replace(old, new)
        compile(text, self.file, "exec")
        return text


def broken(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    """Return a mutant of one edit."""
    return Mutant(name=name, file=file, edits=((old, new),), tests=tests)


CANARY = Mutant(
    name="canary: the copy is what runs",
    file="core/money.py",
    edits=(('    if text == "0":\n', '    if text != "0":\n'),),
    tests=("tests/unit/test_core_money.py::test_an_amount_reads_back_exactly",),
)
"""Must be caught before anything a run says is believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a mutant."""

    mutant: Mutant
    caught_by: str | None  #: node id of the first test that failed; None: it survived
    problem: str = ""  #: why nothing is known: the run did not get that far


class Copy:
    """A copy of the source, to be broken and mended again, and a process that runs tests on it."""

    def __init__(self, folder: Path) -> None:
        """Copy the source into an empty ``folder`` and start the process."""
        source = folder / "src"
        shutil.copytree(PACKAGE, source / "outlay", ignore=shutil.ignore_patterns("__pycache__"))
        self._package = source / "outlay"
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.worker", str(source)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(source), str(ROOT)])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the process."""
        assert self._worker.stdin is not None and self._worker.stdout is not None
        self._worker.stdin.close()
        self._worker.wait()
        self._worker.stdout.close()

    @contextmanager
    def broken(self, mutant: Mutant) -> Iterator[None]:
        """Break a rule until the block ends.

        Raises:
            ValueError: as ``Mutant.applied``.
        """
        path = self._package / mutant.file
        text = path.read_text()
        self._write(path, mutant.applied(text))
        try:
            yield
        finally:
            self._write(path, text)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        # Bytecode is bound to the second in which its file was written, and to its size: both may be the same.
        for stale in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            stale.unlink()

    def run(self, tests: Sequence[str], *, without: Collection[str] = ()) -> tuple[str | None, str]:
        """Run tests until one fails; return which, if any, and what went wrong otherwise.

        Args:
            tests: files and node ids.
            without: node ids that are left out.
        """
        failed, problem = self._run(["-x", *(f"--deselect={each}" for each in sorted(without)), *tests])
        return (failed[0] if failed else None), problem

    def failing(self, tests: Sequence[str]) -> list[str]:
        """Return which of these tests fail.

        Raises:
            RuntimeError: they cannot be run.
        """
        failed, problem = self._run(tests)
        if problem:
            raise RuntimeError(problem)
        return failed

    def _run(self, arguments: Sequence[str]) -> tuple[list[str], str]:
        # The same random inputs each time: whether a mutant is caught must not be a matter of luck.
        options = ["-q", "--hypothesis-seed=1", "--tb=no", "-rfE", "-W", "ignore"]
        assert self._worker.stdin is not None and self._worker.stdout is not None
        print(json.dumps([*options, *arguments]), file=self._worker.stdin, flush=True)
        answer = self._worker.stdout.readline()
        if not answer:
            raise RuntimeError("the process that runs the tests has ended")
        code, output = json.loads(answer)
        failed = _FAILED.findall(output)
        if code == _PASSED or (code == _TESTS_FAILED and failed):
            return failed, ""
        broke = _BROKE.search(output)
        return [], f"pytest ended with {code}: {broke.group(0) if broke else output.strip()[-300:]}"

    def judge(self, mutant: Mutant, *, unsound: Collection[str] = ()) -> Verdict:
        """Tell whether a mutant is caught.

        Args:
            mutant: what to break.
            unsound: node ids of tests that fail without it: they prove nothing.
        """
        try:
            with self.broken(mutant):
                test, problem = self.run(mutant.tests, without=unsound)
        except ValueError as error:
            return Verdict(mutant=mutant, caught_by=None, problem=str(error))
        return Verdict(mutant=mutant, caught_by=test, problem=problem)


def try_all(
    mutants: Sequence[Mutant], folder: Path, *, workers: int, tell: Callable[[Verdict], None] = lambda verdict: None
) -> list[Verdict]:
    """Judge the canary, then every mutant; return the verdicts in order.

    Args:
        mutants: what to try.
        folder: an empty directory for the copies.
        workers: how many processes to run at once.
        tell: called with each verdict as it comes.

    Raises:
        RuntimeError: the canary survived, so the copies are not what runs.
    """
    idle: queue.SimpleQueue[Copy] = queue.SimpleQueue()
    unsound: set[str] = set()
    with ExitStack() as closing, ThreadPoolExecutor(workers) as pool:
        for number in range(workers):
            copy = Copy(folder / str(number))
            closing.callback(copy.close)
            idle.put(copy)

        def with_copy(function: Callable[[Copy], T]) -> T:
            mine = idle.get()
            try:
                return function(mine)
            finally:
                idle.put(mine)

        def attempt(mutant: Mutant) -> Verdict:
            verdict = with_copy(lambda mine: mine.judge(mutant, unsound=unsound))
            tell(verdict)
            return verdict

        def failing(tests: Collection[str]) -> set[str]:
            asked = sorted(set(tests) - unsound)
            parts = [asked[start : start + TOGETHER] for start in range(0, len(asked), TOGETHER)]
            return {
                each
                for found in pool.map(lambda part: with_copy(lambda mine: mine.failing(part)), parts)
                for each in found
            }

        canary = attempt(CANARY)
        if canary.caught_by is None:
            raise RuntimeError(f"the canary survived: the copies are not what runs. {canary.problem}")
        verdicts = list(pool.map(attempt, mutants))
        # A test that fails without any mutant has noticed nothing: what it seemed to catch is tried again without it.
        while found := failing([each.caught_by for each in verdicts if each.caught_by]):
            unsound |= found
            verdicts = [attempt(each.mutant) if each.caught_by in found else each for each in verdicts]
    return verdicts
