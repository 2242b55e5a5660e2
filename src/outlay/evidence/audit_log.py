"""The audit log away from its server: the file it is taken along in, its anchors, and the check of both.

A file is lines: a header, one entry with its hash a line, an end. Every line has one spelling only. The chain shows
that nothing between two hashes was changed; that the newest hash is the right one, an anchor shows, which was written
to another place at the time.
"""

import argparse
import base64
import binascii
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from outlay.core.audit import BROKEN, CONTINUED, LOST, NO_ENTRY, entry_hash, entry_text, small_json
from outlay.core.errors import InvalidInput
from outlay.evidence.canonical import canonical

FORMAT = "outlay.audit.v1"
ANCHOR_DOMAIN = b"outlay.audit.anchor.v1\n"
KEY_PREFIX = "whpk_"

WHOLE, NOT_WHOLE, UNREADABLE, DECLARED = 0, 1, 2, 3
"""What the check ends with. ``DECLARED``: all that is there holds together, and it says itself what is missing."""

LINE_MAX = 64 * 1024
"""Bytes of a line that are read; no entry comes near it (``store.audit.ENTRY_MAX``)."""

Lost = tuple[Mapping[str, Any], int]
"""An anchor that an entry calls lost, and the instant of that entry."""

_ENTRY = ("action", "actor", "after", "at", "before", "evidence", "request", "seq", "subject")


class LogBroken(InvalidInput):
    """A log is not what was written."""

    code = "log_broken"


# Writing


def header_line(*, org: str, root: str, segment: str, first: int, prev: str) -> bytes:
    """Return the first line of a file; ``segment`` is the hash of entry 1, ``prev`` that before entry ``first``."""
    header = {"first": first, "log": FORMAT, "org": org, "prev": prev, "root": root, "segment": segment}
    return canonical(header) + b"\n"


def entry_line(text: str, hash: str) -> bytes:
    """Return the line of an entry with this canonical text."""
    return f'{{"entry":{text},"hash":"{hash}"}}\n'.encode("ascii")


def end_line(last: int, hash: str) -> bytes:
    """Return the last line of a file."""
    return canonical({"end": last, "hash": hash}) + b"\n"


def anchor_line(anchor: Mapping[str, Any], key: Ed25519PrivateKey) -> bytes:
    """Return a signed anchor: ``at``, ``hash``, ``org``, ``root``, ``segment``, ``seq``."""
    text = canonical(dict(anchor))
    public = KEY_PREFIX + base64.b64encode(key.public_key().public_bytes_raw()).decode()
    signature = base64.b64encode(key.sign(ANCHOR_DOMAIN + text)).decode()
    return canonical({"anchor": dict(anchor), "key": public, "signature": signature}) + b"\n"


# Reading


def read_anchor(line: bytes) -> tuple[dict[str, Any], str]:
    """Return an anchor whose signature is good, and the key that signed it.

    Raises:
        LogBroken: it is none.
    """
    try:
        document = json.loads(line)
        anchor, key, signature = document["anchor"], document["key"], document["signature"]
        if canonical({"anchor": anchor, "key": key, "signature": signature}) + b"\n" != line:
            raise ValueError
        if not all(isinstance(anchor[name], str) for name in ("hash", "org", "root", "segment")):
            raise ValueError
        if not all(type(anchor[name]) is int for name in ("at", "seq")) or not key.startswith(KEY_PREFIX):
            raise ValueError
        public = Ed25519PublicKey.from_public_bytes(_decode(key.removeprefix(KEY_PREFIX)))
        public.verify(_decode(signature), ANCHOR_DOMAIN + canonical(anchor))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise LogBroken("a line of the anchor file is no anchor", field="anchor") from error
    except InvalidSignature as error:
        raise LogBroken("the signature of an anchor is not good", field="anchor") from error
    return anchor, key


def _decode(text: str) -> bytes:
    """Return the bytes of base64 in its one spelling."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError(text)
    return data


def _read_line(line: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not line.endswith(b"\n"):
        raise LogBroken(f"{what} is not a line of the log", field="file")
    return document


def read_entry(line: bytes, *, number: int) -> tuple[dict[str, Any], str, str]:
    """Return an entry, its canonical text and its hash, as they stand in a line of a file.

    Raises:
        LogBroken: the line is no entry, or spelled otherwise than it was written.
    """
    what = f"entry {number}"
    document = _read_line(line, what)
    try:
        entry, hash = document["entry"], document["hash"]
        if type(entry["seq"]) is not int or type(entry["at"]) is not int:
            raise ValueError
        given = {name: entry[name] for name in _ENTRY}
        for name in ("before", "after"):
            if given[name] is not None and not isinstance(given[name], dict):
                raise ValueError
            given[name] = small_json(given[name])
        text = entry_text(**given)
        is_so = entry_line(text, hash) == line
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LogBroken(f"{what} does not have the form of an entry", field="file") from error
    if not is_so:
        raise LogBroken(f"{what} is spelled otherwise than entries are written", field="file")
    return entry, text, hash


@dataclass(slots=True)
class Anchors:
    """The anchors of a file, in order."""

    found: list[dict[str, Any]] = field(default_factory=list)
    key: str = ""

    @classmethod
    def read(cls, lines: Iterable[bytes], *, org: str, root: str, key: str | None) -> "Anchors":
        """Read every anchor of one organization.

        Raises:
            LogBroken: one is not signed rightly, by another key than the others or than ``key``, or has another root.
        """
        anchors = cls(key=key or "")
        for number, line in enumerate(lines, start=1):
            try:
                anchor, signer = read_anchor(line)
            except LogBroken as error:
                raise LogBroken(f"line {number} of the anchors: {error.message}", field="anchor") from None
            anchors.key = anchors.key or signer
            if signer != anchors.key:
                raise LogBroken(f"line {number} of the anchors is signed by another key", field="anchor")
            if (anchor["org"], anchor["root"]) != (org, root):
                raise LogBroken(f"line {number} of the anchors is of another organization", field="anchor")
            anchors.found.append(anchor)
        return anchors


@dataclass(slots=True, kw_only=True)
class Checked:
    """What a whole log says of itself."""

    org: str
    root: str
    first: int
    last: int = 0
    head: str = NO_ENTRY
    began_at: int = 0
    ended_at: int = 0
    anchored: int | None = None  #: number of the newest entry that an anchor covers; None: no anchors were given
    key: str = ""
    declared: list[str] = field(default_factory=list)  #: what is missing, as entries of the log say

    def text(self) -> str:
        """Return this in words."""
        lines = [
            f"organization    {self.org}",
            f"root            {self.root}",
            f"entries         {self.first} to {self.last}: none is missing, changed, added or in another place",
            f"newest hash     {self.head}",
        ]
        if self.anchored is None:
            lines.append("anchors         none given: whoever can write the database could have made all of this anew")
        else:
            rest = self.last - self.anchored
            lines.append(f"anchors         agree up to entry {self.anchored}, signed by {self.key}")
            lines.append(f"after those     {rest} entries rest on the chain alone")
        lines += [f"MISSING         {each}" for each in self.declared]
        lines.append("not proved: that what was written is true, only that it was written then and is still the same")
        return "\n".join(lines) + "\n"


def verify_log(
    lines: Iterable[bytes],
    *,
    root: str | None = None,
    first: int = 1,
    anchors: Iterable[bytes] | None = None,
    key: str | None = None,
) -> Checked:
    """Check a log, reading each line once.

    Args:
        lines: of the file.
        root: the organization's root fingerprint; None: the file's own.
        first: number of the entry the file has to begin with.
        anchors: lines of the anchor file; None: there is none.
        key: what has to have signed the anchors; None: any one key.

    Raises:
        LogBroken: names the first thing that does not hold.
    """
    reading = iter(lines)
    header = _header(next(reading, b""), root=root, first=first)
    kept = None if anchors is None else Anchors.read(anchors, org=header["org"], root=header["root"], key=key)
    wanted = set() if kept is None else {each["seq"] for each in kept.found if each["segment"] == header["segment"]}
    checked = Checked(org=header["org"], root=header["root"], first=first, last=first - 1, head=header["prev"])
    seen: dict[int, str] = {}
    named: list[Lost] = []
    for line in reading:
        if line.startswith(b'{"end":'):
            _end(line, reading, checked)
            break
        entry = _follow(line, checked, header)
        if entry["seq"] in wanted:
            seen[entry["seq"]] = checked.head
        if entry["action"] in (LOST, CONTINUED, BROKEN):
            _declare(entry, checked, named)
    else:
        raise LogBroken("the file has no end: it was cut off", field="file")
    if kept is not None:
        _compare(kept, header["segment"], checked, seen, named)
    return checked


def _header(line: bytes, *, root: str | None, first: int) -> dict[str, Any]:
    header = _read_line(line, "the first line")
    names = ("org", "root", "segment", "prev")
    if header.get("log") != FORMAT or not all(isinstance(header.get(name), str) for name in names):
        raise LogBroken("the first line is not that of an audit log", field="file")
    if type(header.get("first")) is not int or header["first"] != first:
        raise LogBroken(
            f"the file begins with entry {header.get('first')}, not with {first}: name the entry it shall begin with",
            field="file",
        )
    given = {name: header[name] for name in names}
    if header_line(first=first, **given) != line:
        raise LogBroken("the first line is spelled otherwise than it is written", field="file")
    if root is not None and header["root"] != root:
        raise LogBroken(f"the file is of the organization with root {header['root']}", field="root")
    if re.fullmatch("[0-9a-f]{64}", header["prev"]) is None:
        raise LogBroken("the hash before the first entry is none", field="file")
    if first == 1 and header["prev"] != NO_ENTRY:
        raise LogBroken("something comes before entry 1", field="file")
    return header


def _follow(line: bytes, checked: Checked, header: Mapping[str, Any]) -> dict[str, Any]:
    """Check that a line is the next entry, and note it."""
    number = checked.last + 1
    entry, text, hash = read_entry(line, number=number)
    if entry["seq"] != number:
        raise LogBroken(f"entry {number} is missing: entry {entry['seq']} is in its place", field="file")
    if hash != entry_hash(checked.head, text):
        raise LogBroken(f"entry {number} is not what was written: its hash is another one", field="file")
    if entry["at"] < checked.ended_at:
        raise LogBroken(f"entry {number} is older than the one before it", field="file")
    if number == 1 and hash != header["segment"]:
        raise LogBroken("the first line names another log than the entries are of", field="file")
    about = entry["after"] or {}
    if number == 1 and (about.get("root"), about.get("org")) != (header["root"], header["org"]):
        raise LogBroken("entry 1 is of another organization than the first line", field="file")
    checked.began_at = checked.began_at or entry["at"]
    checked.last, checked.head, checked.ended_at = number, hash, entry["at"]
    return entry


def _end(line: bytes, rest: Iterator[bytes], checked: Checked) -> None:
    if line != end_line(checked.last, checked.head):
        raise LogBroken(f"the file ends after entry {checked.last}, and its last line names another end", field="file")
    if next(rest, None) is not None:
        raise LogBroken("something follows the end of the file", field="file")


def _declare(entry: Mapping[str, Any], checked: Checked, named: list[Lost]) -> None:
    after = entry["after"] or {}
    lost = after.get("lost")
    if isinstance(lost, dict):
        named.append((lost, entry["at"]))
    what = "" if not isinstance(lost, dict) else f"; the newest anchor was of entry {lost.get('seq')}"
    checked.declared.append(f"entry {entry['seq']} ({entry['action']}): {after.get('why', '')}{what}")


def excuses(lost: Mapping[str, Any], said_at: int, anchor: Mapping[str, Any]) -> bool:
    """Tell whether an entry of ``said_at`` that names ``lost`` says that an anchor's entry is gone.

    It is if that one or a later one is; but no entry says anything of anchors after itself that it does not name.
    """
    at = lost.get("at")
    is_later = type(at) is int and min(at, said_at) > anchor["at"]
    return is_later or all(lost.get(name) == anchor[name] for name in ("segment", "seq", "hash"))


def _compare(kept: Anchors, segment: str, checked: Checked, seen: Mapping[int, str], named: Sequence[Lost]) -> None:
    """Check that every anchor agrees, or is of what the log says is lost."""
    excused = -1
    for index, anchor in enumerate(kept.found):
        if any(excuses(lost, said_at, anchor) for lost, said_at in named):
            excused = index
    checked.anchored, checked.key = 0, kept.key
    for index, anchor in enumerate(kept.found):
        mine = anchor["segment"] == segment
        if mine and anchor["seq"] < checked.first:
            continue
        if mine and seen.get(anchor["seq"]) == anchor["hash"]:
            checked.anchored = max(checked.anchored, anchor["seq"])
        elif index > excused:
            raise LogBroken(_differs(anchor, checked, is_mine=mine), field="anchor")
    if not checked.anchored:
        raise LogBroken("no anchor is of any entry in the file", field="anchor")


def _differs(anchor: Mapping[str, Any], checked: Checked, *, is_mine: bool) -> str:
    if not is_mine:
        return f"entry {anchor['seq']} of another log of this organization was anchored: this one took its place"
    if anchor["seq"] > checked.last:
        return (
            f"entry {anchor['seq']} was anchored and the file ends with {checked.last}: it was cut off, or exported"
            " before that"
        )
    return f"entry {anchor['seq']} was another one when it was anchored: the log was written anew"


# The command line


def check(
    file: Path, *, root: str | None = None, anchor: Path | None = None, key: str | None = None, first: int = 1
) -> int:
    """Check the log in ``file``, print what holds or what does not, and return the exit code."""
    try:
        with file.open("rb") as lines:
            if anchor is None:
                checked = verify_log(_lines(lines), root=root, first=first)
            else:
                with anchor.open("rb") as anchors:
                    checked = verify_log(_lines(lines), root=root, first=first, anchors=_lines(anchors), key=key)
    except OSError as error:
        sys.stderr.write(f"cannot read {error.filename}: {error.strerror}\n")
        return UNREADABLE
    except LogBroken as broken:
        sys.stdout.write(f"NOT WHOLE: {broken.message}\n")
        return NOT_WHOLE
    sys.stdout.write(("WHOLE\n" if not checked.declared else "WHOLE, BUT SOMETHING IS MISSING\n") + checked.text())
    return DECLARED if checked.declared else WHOLE


def _lines(file: Any) -> Iterator[bytes]:
    """Yield lines of bounded length, so that no file takes much memory."""
    while line := file.readline(LINE_MAX):
        yield line


def main(words: Sequence[str] | None = None) -> int:
    """Run the check with these command-line words, or the process's own."""
    parser = argparse.ArgumentParser(description="Check an audit log without any server.")
    parser.add_argument("file", metavar="FILE", type=Path, help="what outlay audit export wrote")
    parser.add_argument("--root", metavar="FINGERPRINT", help="as outlay init printed it, kept apart")
    parser.add_argument("--anchor", metavar="FILE", type=Path, help="the anchor file, from its other place")
    parser.add_argument("--key", metavar="KEY", help="the key that signs anchors, whpk_..., kept apart")
    parser.add_argument("--first", metavar="N", type=int, default=1, help="number of the first entry in FILE")
    given = parser.parse_args(words)
    root = None if given.root is None else given.root.strip().lower()
    return check(given.file, root=root, anchor=given.anchor, key=given.key, first=given.first)
