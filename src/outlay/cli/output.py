"""What commands print: facts, tables, one JSON document, errors; the exit codes; questions and the wait for an answer.

Text is made of strings here, so that a command says what it prints in one place and ``--json`` is the same answer as it
came. Nothing is ever cut: where a table is wider than the terminal, each row is printed as lines of its own.
"""

import json
import os
import shutil
import sys
import textwrap
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Annotated, Any, Final

from cyclopts import Parameter

from outlay.core.errors import (
    ActionSignatureInvalid,
    InvalidInput,
    OutcomeUnknown,
    OutlayError,
    Refused,
)
from outlay.core.message import one_line
from outlay.core.money import format_units

DONE, REFUSED, USAGE, NOT_PERMITTED, NOT_FOUND, UNKNOWN, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
EXIT_CODES: Final[Mapping[int, str]] = {
    DONE: "done; also: a change that now waits for people",
    REFUSED: "refused, by the server or by the command itself: what was looked at is not as it should be",
    USAGE: "wrong usage: nothing was asked of anybody",
    NOT_PERMITTED: "not logged in, or not permitted",
    NOT_FOUND: "there is no such thing, or none that you may see",
    UNKNOWN: "no answer that says what became of it: look, then ask again; it is neither done nor failed",
    INTERRUPTED: "interrupted",
}
"""What a command ends with. ``docs/reference/cli.md`` says it too."""

SHOWN_AFTER_S = 1.0
_COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}
_NOT_NOW = (429, 502, 503, 504)
_BY_STATUS = {401: NOT_PERMITTED, 403: NOT_PERMITTED, 404: NOT_FOUND, **dict.fromkeys(_NOT_NOW, UNKNOWN)}


class WrongUsage(InvalidInput):
    """What was given on the command line does not go together; nothing was asked of anybody."""

    code = "wrong_usage"


class NotConfirmed(Refused):
    """Whoever was asked did not say yes."""

    code = "not_confirmed"


def exit_code(error: OutlayError) -> int:
    """Return what a command that ended with ``error`` exits with: by its HTTP status, whoever raised it."""
    return USAGE if isinstance(error, WrongUsage) else _BY_STATUS.get(error.status, REFUSED)


def hint(error: OutlayError) -> str | None:
    """Return what to do about an error, on one line; None where its message says it."""
    told = error.details.get("hint")
    if told is not None:
        return str(told)
    if isinstance(error, OutcomeUnknown):
        return "Nobody knows whether it happened: look before you repeat it. The same external id never pays twice."
    if error.status == 401:
        return "Log in: outlay login --help"
    if isinstance(error, ActionSignatureInvalid):
        return "Sign with the key of your credential: outlay login --help"
    if error.status == 403:
        return "Somebody who may has to permit it: outlay permissions --help"
    if error.status in _NOT_NOW:
        return "Nothing has happened: ask again in a moment."
    return None


def report(error: OutlayError, *, as_json: bool) -> None:
    """Print an error to stderr: what it is, and what to do; as JSON where JSON was asked for."""
    if as_json:
        told = {"code": error.code, "message": error.message, "exitCode": exit_code(error), **error.details}
        if hint(error) is not None:
            told["hint"] = hint(error)
        sys.stderr.write(json.dumps({"error": told}, default=str) + "\n")
        return
    where = f"{error.field}: " if error.field else ""
    sys.stderr.write(f"{paint('error', 'red', sys.stderr)} {where}{one_line(error.message)}\n")
    todo = hint(error)
    if todo is not None:
        sys.stderr.write(f"{paint('→', 'dim', sys.stderr)} {one_line(todo)}\n")


def has_colours(stream: IO[str]) -> bool:
    """Tell whether a stream is a terminal that may be coloured."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def paint(text: str, colour: str, stream: IO[str] | None = None) -> str:
    """Return a text in a colour (red, green, yellow, bold, dim), where the stream (else stdout) takes colours."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if has_colours(stream or sys.stdout) else text


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Return one line for each name and value; None is left out. Values are whole, whatever the terminal's width."""
    shown = [(name, one_line(value)) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    return "".join(f"{name:<{width}}  {value}".rstrip() + "\n" for name, value in shown)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Collection[str] = (),
    nothing: str = "none",
    width: int | None = None,
) -> str:
    """Return rows under their columns; where they do not fit beside each other, each row as facts.

    Args:
        columns: what stands above; a column in which no row has anything is left out.
        rows: as many values each; None is empty.
        right: columns of numbers.
        nothing: what is said if there is no row.
        width: columns of the terminal; else those of the terminal that stdout is, 80 where it is none.
    """
    shown = [["" if value is None else one_line(value) for value in row] for row in rows]
    if not shown:
        return nothing + "\n"
    kept = [index for index in range(len(columns)) if any(row[index] for row in shown)]
    widths = {index: max(len(columns[index]), *(len(row[index]) for row in shown)) for index in kept}
    if sum(widths.values()) + 2 * (len(kept) - 1) > (width or terminal_width()):
        blocks = [facts((columns[index], row[index] or None) for index in kept) for row in shown]
        return "\n".join(blocks)

    def line(cells: Sequence[str]) -> str:
        aligned = [
            cells[index].rjust(widths[index]) if columns[index] in right else cells[index].ljust(widths[index])
            for index in kept
        ]
        return "  ".join(aligned).rstrip()

    heading = paint(line(columns), "bold")
    return "\n".join([heading, *(line(row) for row in shown)]) + "\n"


def wrapped(lines: Iterable[str]) -> str:
    """Return lines of prose, folded between words where they are read at a terminal; no word is ever cut."""
    kept = [one_line(line) for line in lines]
    if sys.stdout.isatty():
        folded = [
            textwrap.wrap(
                line,
                terminal_width(),
                subsequent_indent=" " * (len(line) - len(line.lstrip()) + 4),
                break_long_words=False,
                break_on_hyphens=False,
            )
            or [""]
            for line in kept
        ]
        kept = [part for parts in folded for part in parts]
    return "".join(f"{line}\n" for line in kept)


def terminal_width() -> int:
    """Return how many columns stdout has; 80 where it is no terminal and COLUMNS does not say."""
    return shutil.get_terminal_size().columns


def when(instant: str | None) -> str | None:
    """Return an instant of the API as people read it, in UTC, to the second."""
    if instant is None:
        return None
    date, _, time = instant.partition("T")
    return f"{date} {time[:8]} UTC" if time else instant


def units(amount: str | int, decimals: int | None, symbol: str | None = None) -> str:
    """Return base units as people write them, with the symbol: ``1,250.5 USDC``."""
    if decimals is None:
        return f"{int(amount):,} base units"
    return f"{format_units(int(amount), decimals)} {symbol or ''}".rstrip()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Output:
    """How a command tells its result."""

    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON, and nothing else.")] = False

    def tell(self, document: object, text: str | Callable[[], str]) -> None:
        """Print the result of a command, once: the document with ``--json``, else the text."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
        else:
            sys.stdout.write(text if isinstance(text, str) else text())

    def tell_each(self, document: object, text: str) -> None:
        """Print one of many results as it comes: a line of JSON with ``--json``."""
        sys.stdout.write(json.dumps(document) + "\n" if self.as_json else text)
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Say something beside the result, on stderr; nothing with ``--json``."""
        if not self.as_json:
            sys.stderr.write(text)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Go on only if somebody at a terminal types yes, or ``--yes`` was given.

        Raises:
            WrongUsage: nobody can be asked. NotConfirmed: it was not yes.
        """
        if yes:
            return
        if not sys.stdin.isatty() or self.as_json:
            raise WrongUsage("nobody can be asked here: give --yes if you are sure", field="yes")
        sys.stderr.write(f"{question} Type yes: ")
        sys.stderr.flush()
        if sys.stdin.readline().strip() != "yes":
            raise NotConfirmed("not confirmed: nothing was done")

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Say on a terminal what is waited for, once it has taken a second."""
        if self.as_json or not sys.stderr.isatty():
            yield
            return
        ended = threading.Event()
        shown = threading.Thread(target=_show, args=(what, ended), daemon=True)
        shown.start()
        try:
            yield
        finally:
            ended.set()
            shown.join()

    @contextmanager
    def progress(self, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show on a terminal how far something is; yields a function that is told how many more are done."""
        if self.as_json or not sys.stderr.isatty():
            yield lambda _more: None
            return
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as shown:
            task = shown.add_task(what, total=total)
            yield lambda more: shown.advance(task, more)


def _show(what: str, ended: threading.Event) -> None:
    if ended.wait(SHOWN_AFTER_S):
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        ended.wait()


PRINTED: Final = Output()
"""What a command prints unless it is told otherwise."""

Yes = Annotated[bool, Parameter(name="--yes", negative=(), help="Do not ask.")]


def said(answer: Mapping[str, Any], done: str) -> str:
    """Return what came of a signed change: ``done``, or that people have to agree first, and how they do."""
    waits = waits_for(answer)
    if waits is None:
        return done if done.endswith("\n") else done + "\n"
    return f"waits for approval {waits}; nothing has changed yet\nNext: outlay approvals show {waits}\n"


def waits_for(answer: Mapping[str, Any]) -> str | None:
    """Return the approval a change waits for; None: it is made."""
    is_change = "operationKind" in answer and answer.get("status") == "Pending"
    return str(answer.get("approvalId", answer.get("id"))) if is_change else None
