"""``outlay audit``: take the audit log along, check it where no server is, let a server go on whose log is broken."""

import csv
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO
from urllib.parse import urlencode

from cyclopts import App, Parameter

from outlay.cli.payouts import KeyFile, Opaque, TokenFile, Url

audit = App(name="audit", help="The audit log, for auditors.")

PAGE = 500
COLUMNS = ("seq", "date", "actor", "action", "subject", "before", "after", "evidence", "request", "hash")
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet may take for the beginning of a formula; the last four are its wide spellings."""


@audit.command
def export(
    *,
    out: Path,
    url: Url,
    token_file: TokenFile,
    key_file: KeyFile,
    credential: Opaque,
    first: int = 1,
    as_: Annotated[Literal["jsonl", "csv"], Parameter(name="--format")] = "jsonl",
) -> None:
    """Write the audit log to a new file of mode 0600; the log itself says who did, and when.

    Parameters
    ----------
    out
        the file; it must not be there yet.
    credential
        id of your credential.
    first
        number of the first entry.
    as_
        jsonl is what `outlay audit verify` checks; csv is for reading in a spreadsheet.
    """
    from outlay.client import Client

    client = Client(
        url, token=token_file.read_text().strip(), credential_id=credential, private_key=key_file.read_text()
    )
    begun = client.write("POST", "/v1/audit/exports", {"first": first})
    entries = _entries(client, begun)
    with os.fdopen(
        os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", newline=""
    ) as file:
        if as_ == "csv":
            write_csv(entries, file)
        else:
            write_lines(entries, begun, file)
    sys.stdout.write(f"entries {begun['first']} to {begun['last']}, newest hash {begun['hash']}\n")


def _entries(client: Any, begun: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the entries of an export in order, a page at a time."""
    following: int | None = begun["first"]
    while following is not None:
        query = urlencode({"order": "oldest", "first": following, "last": begun["last"], "limit": PAGE})
        page = client.read(f"/v1/audit?{query}")
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


def harmless(value: Any) -> str:
    """Return the text of a cell; an apostrophe goes before what a spreadsheet could take for a formula.

    Blanks in front do not hide one: some programs skip them.
    """
    text = "" if value is None else str(value)
    if isinstance(value, int) or not text.lstrip(" \u00a0\ufeff\0").startswith(_FORMULAS):
        return text
    return f"'{text}"


@audit.command
def verify(
    file: Path, *, root: str | None = None, anchor: Path | None = None, key: str | None = None, first: int = 1
) -> None:
    """Check an exported log offline; exits 0 if it is whole, 1 if not, 3 if it says itself that something is missing.

    Parameters
    ----------
    file
        what ``outlay audit export`` wrote as jsonl.
    root
        the organization's root fingerprint, as ``outlay init`` printed it; not from the same source as the file.
    anchor
        the anchor file, from the other place it was kept in; without it nothing shows that the log was not made anew.
    key
        the public key that signs anchors, whpk_...; not from the same source as the file.
    first
        number of the first entry in the file.
    """
    from outlay.evidence.audit_log import check

    wanted = None if root is None else root.strip().lower()
    sys.exit(check(file, root=wanted, anchor=anchor, key=key, first=first))


@audit.command
def verifier() -> None:
    """Print a program that checks exported logs where only Python and the package cryptography are installed."""
    from outlay.cli.single_file import LOG, build_verifier

    sys.stdout.write(build_verifier(LOG))


@audit.command
def state(*, url: Url, token_file: TokenFile) -> None:
    """Print how long the log is, and how far it was checked and anchored; exits 1 if it is broken."""
    from outlay.client import call

    found = call(url, "GET", "/v1/audit/state", token=token_file.read_text().strip())
    lines = [
        f"entries   {found['entries']}, newest hash {found['hash']}",
        f"checked   whole {found.get('dateVerified', 'not yet')}, new entries up to {found['verifiedSeq']}",
        f"anchored  {found.get('dateAnchored', 'never')}, up to {found['anchoredSeq']}",
    ]
    if found["broken"] is not None:
        lines.append(f"BROKEN    {found['broken']}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(0 if found["broken"] is None else 1)


@audit.command(name="continue")
def go_on(*, reason: str, url: Url, token_file: TokenFile, key_file: KeyFile, credential: Opaque) -> None:
    """Let a server admit payouts again although its log is broken; the log says for ever that you did.

    Parameters
    ----------
    reason
        what you found; it is signed.
    credential
        id of your credential.
    """
    from outlay.client import Client

    client = Client(
        url, token=token_file.read_text().strip(), credential_id=credential, private_key=key_file.read_text()
    )
    answer = client.write("POST", "/v1/audit/continue", {"reason": reason})
    sys.stdout.write(f"goes on although: {answer['problem']}\n")
