"""``outlay audit``: take the audit log along, check it where no server is, let a server go on whose log is broken."""

import csv
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO
from urllib.parse import urlencode

from cyclopts import App, Parameter

from outlay.cli.output import DONE, REFUSED, facts, when
from outlay.cli.profile import FROM_PROFILE, Caller
from outlay.core.spreadsheet import harmless

audit = App(name="audit")

PAGE = 500
COLUMNS = ("seq", "date", "actor", "action", "subject", "before", "after", "evidence", "request", "hash")


@audit.command
def export(
    *,
    out: Path,
    first: int = 1,
    as_: Annotated[Literal["jsonl", "csv"], Parameter(name="--format")] = "jsonl",
    caller: Caller = FROM_PROFILE,
) -> None:
    """Write the audit log to a new file of mode 0600; the log itself says who did, and when.

    Parameters
    ----------
    out
        the file; it must not be there yet.
    first
        number of the first entry.
    as_
        jsonl is what outlay audit verify checks; csv is for reading in a spreadsheet.
    """
    begun = caller.write("POST", "/v1/audit/exports", {"first": first})
    with (
        os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", newline="") as file,
        caller.progress("exporting", total=max(0, begun["last"] - begun["first"] + 1)) as done,
    ):
        entries = _counted(_entries(caller, begun), done)
        if as_ == "csv":
            write_csv(entries, file)
        else:
            write_lines(entries, begun, file)
    text = f"entries {begun['first']} to {begun['last']}, newest hash {begun['hash']}\n"
    caller.tell({"file": str(out), **{name: begun[name] for name in ("first", "last", "hash")}}, text)


def _counted(entries: Iterator[dict[str, Any]], done: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    for each in entries:
        yield each
        done(1)


def _entries(caller: Caller, begun: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the entries of an export in order, a page at a time."""
    following: int | None = begun["first"]
    while following is not None:
        query = urlencode({"order": "oldest", "first": following, "last": begun["last"], "limit": PAGE})
        page = caller.read(f"/v1/audit?{query}")
        yield from page["items"]
        following = int(page["nextPageToken"]) if "nextPageToken" in page else None


def write_lines(entries: Iterator[dict[str, Any]], begun: Mapping[str, Any], file: TextIO) -> None:
    """Write an export that was begun as the lines that are checked offline."""
    from outlay.core.audit import entry_text, small_json
    from outlay.evidence.audit_log import end_line, entry_line, header_line

    header = header_line(
        org=begun["orgId"], root=begun["root"], segment=begun["segment"], first=begun["first"], prev=begun["prev"]
    )
    file.write(header.decode("ascii"))
    for each in entries:
        text = entry_text(
            before=small_json(each["before"]),
            after=small_json(each["after"]),
            **{name: each[name] for name in ("seq", "at", "actor", "action", "subject", "evidence", "request")},
        )
        file.write(entry_line(text, each["hash"]).decode("ascii"))
    file.write(end_line(begun["last"], begun["hash"]).decode("ascii"))


def write_csv(entries: Iterator[dict[str, Any]], file: TextIO) -> None:
    """Write entries as lines of a spreadsheet, none of whose cells it takes for a formula."""
    from outlay.core.audit import small_json

    writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for each in entries:
        plain = {**each, "before": small_json(each["before"]), "after": small_json(each["after"])}
        writer.writerow([harmless(plain[name]) for name in COLUMNS])


@audit.command
def verify(
    file: Path, /, *, root: str | None = None, anchor: Path | None = None, key: str | None = None, first: int = 1
) -> int:
    """Check an exported log offline; exits 0 if it is whole, 1 if not, 3 if it says itself that something is missing.

    Parameters
    ----------
    file
        what outlay audit export wrote as jsonl.
    root
        the organization's root fingerprint, as outlay init printed it; not from the same source as the file.
    anchor
        the anchor file, from the other place it was kept in; without it nothing shows that the log was not made anew.
    key
        the public key that signs anchors, whpk_...; not from the same source as the file.
    first
        number of the first entry in the file.
    """
    from outlay.evidence.audit_log import check

    wanted = None if root is None else root.strip().lower()
    return check(file, root=wanted, anchor=anchor, key=key, first=first)


@audit.command
def verifier() -> None:
    """Print a program that checks exported logs where only Python and the package cryptography are installed."""
    from outlay.cli.single_file import LOG, build_verifier

    sys.stdout.write(build_verifier(LOG))


@audit.command
def state(*, caller: Caller = FROM_PROFILE) -> int:
    """Print how long the log is, and how far it was checked and anchored; exits 1 if it is broken."""
    found = caller.read("/v1/audit/state")
    whole = when(found.get("dateVerified")) or "not yet"
    pairs = [
        ("entries", f"{found['entries']}, newest hash {found['hash']}"),
        ("checked", f"whole {whole}, new entries up to {found['verifiedSeq']}"),
        ("anchored", f"{when(found.get('dateAnchored')) or 'never'}, up to {found['anchoredSeq']}"),
        ("BROKEN", found["broken"]),
    ]
    caller.tell(found, lambda: facts(pairs))
    return DONE if found["broken"] is None else REFUSED


@audit.command(name="continue")
def go_on(*, reason: str, caller: Caller = FROM_PROFILE) -> None:
    """Let a server admit payouts again although its log is broken; the log says for ever that you did.

    Parameters
    ----------
    reason
        what you found; it is signed.
    """
    answer = caller.write("POST", "/v1/audit/continue", {"reason": reason})
    caller.tell(answer, f"goes on although: {answer['problem']}\n")
