"""Receive events: check who sent them, refuse what came before, never move back.

``verify`` checks one delivery. An ``Inbox`` also remembers: within ``with inbox.receive(headers, body) as event`` an
event is new, and newer than what was taken of its subject; it counts as taken when the block ends without an error.
Standard library and cryptography only.
"""

import base64
import binascii
import contextlib
import hmac
import json
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from outlay.core.errors import InvalidInput, OutlayError

TOLERANCE_S = 300.0
"""How far the time of a delivery may be from the receiver's."""
CLAIM_S = 60.0
"""After how long an event that a process took up and never ended may be taken up again."""
KEEP_S = 40 * 86_400.0
"""How long ``SqliteSeen`` remembers what was taken; what is newest of a subject it remembers for ever."""
MOST = 100_000
"""Events that ``MemorySeen`` remembers."""

SNAPSHOTS = ("wallet.transfer.", "payout.", "policy.approval.", "change.")
"""How kinds begin whose events show how something stands: an older one is worth nothing beside a newer one. The
others tell of something that happened, each for itself, in whatever order they come."""

_DFNS, _ID, _TIME, _STANDARD = (
    "x-dfns-webhook-signature",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
)
_HEADER_MAX, _SIGNATURES_MAX = 4096, 16

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


class WebhookRefused(OutlayError):
    """A delivery was not taken; ``status`` is what to answer it with."""

    code = "webhook_refused"
    status = 400


class SignatureWrong(WebhookRefused):
    """It was not made with a secret or key of ours, or not lately."""

    code = "webhook_signature_wrong"
    status = 401


class AlreadySeen(WebhookRefused):
    """Its event was taken before: there is nothing to do."""

    code = "webhook_already_seen"
    status = 200


class MovesBack(WebhookRefused):
    """A newer event of its subject was taken: there is nothing to do."""

    code = "webhook_moves_back"
    status = 200


class InProgress(WebhookRefused):
    """Its event, or one of the same subject, is being handled, or no more can be remembered: let it come again."""

    code = "webhook_in_progress"
    status = 503


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event whose signature was right."""

    webhook_id: str | None  #: ``evt-…``, the same in every attempt; None where only the contract's header came
    delivery_id: str  #: ``whe-…``, this attempt
    kind: str
    date: str
    data: Mapping[str, Any] = field(repr=False)
    subject: str | None  #: id of what it is about
    sequence: int | None  #: its number among the events of its subject
    attempt: int
    sent_at: int  #: Unix seconds

    @property
    def keys(self) -> tuple[str, ...]:
        """What tells this event from others: whichever of them comes again, it is the same."""
        named = [f"attempt/{self.delivery_id}"]
        if self.webhook_id is not None:
            named.append(f"event/{self.webhook_id}")
        if self.subject is not None and self.sequence is not None:
            named.append(f"place/{self.sequence}/{self.subject}")
        return tuple(named)

    @property
    def place(self) -> tuple[str, int] | None:
        """Subject and sequence of what shows how something stands; None of what only tells that it happened."""
        if self.subject is None or self.sequence is None or not self.kind.startswith(SNAPSHOTS):
            return None
        return self.subject, self.sequence


def verify(
    headers: Headers,
    body: bytes,
    *,
    secrets: str | Sequence[str] = (),
    public_key: str = "",
    tolerance_s: float = TOLERANCE_S,
    now: float | None = None,
) -> Event:
    """Return the event of a delivery whose signature is right.

    Args:
        headers: of the request, names in any case.
        body: of the request, the bytes as they came.
        secrets: ``whsec_…``, all that may sign now: while they change over, the old one and the new one; or
        public_key: ``whpk_…``, as ``GET /v1/webhook-key`` answers it: then only the ``v1a`` signature counts, and a
            secret that was stolen forges nothing.
        tolerance_s: how far the time of the delivery may be from ``now``, seconds.
        now: Unix seconds; this computer's time unless given.

    Raises:
        SignatureWrong: it is not from there, or was changed, or is old. WebhookRefused: the body is no event.
        InvalidInput: neither secrets nor a key, both, or one that is malformed.
    """
    now = time.time() if now is None else now
    webhook_id = check_signature(
        headers, body, secrets=secrets, public_key=public_key, tolerance_s=tolerance_s, now=now
    )
    event = _read(body, webhook_id)
    # The contract's signature covers no header: what it says of the time is in the body.
    if webhook_id is None and abs(now - event.sent_at) > tolerance_s:
        raise SignatureWrong("the delivery was sent too long ago, or this computer's clock is wrong")
    return event


def check_signature(
    headers: Headers,
    body: bytes,
    *,
    secrets: str | Sequence[str] = (),
    public_key: str = "",
    tolerance_s: float = TOLERANCE_S,
    now: float | None = None,
) -> str | None:
    """Check the signature of a delivery, whatever its body holds; arguments and errors are those of ``verify``.

    Returns:
        The ``webhook-id`` that was signed with the body, or None if only the contract's header came: that one covers
        the body alone, so the time is still to be checked.
    """
    known = (secrets,) if isinstance(secrets, str) else tuple(secrets)
    if bool(known) == bool(public_key):
        raise InvalidInput("give the secrets of the webhook, or the public key", field="secrets")
    values = _values(headers)
    if _STANDARD not in values and not public_key and _DFNS in values:
        wanted = [b"sha256=" + hmac.digest(each.encode(), body, "sha256").hex().encode() for each in known]
        if not any(hmac.compare_digest(each, values[_DFNS].encode()) for each in wanted):
            raise _wrong()
        return None
    content = _content(values, body, tolerance_s=tolerance_s, now=time.time() if now is None else now)
    given = [each.partition(",") for each in values[_STANDARD].split(" ")[:_SIGNATURES_MAX]]
    if public_key:
        is_right = _is_signed(content, [text for version, _, text in given if version == "v1a"], public_key)
    else:
        wanted = [base64.b64encode(hmac.digest(_key(each), content, "sha256")) for each in known]
        hashes = [text.encode() for version, _, text in given if version == "v1"]
        is_right = any(hmac.compare_digest(one, other) for one in wanted for other in hashes)
    if not is_right:
        raise _wrong()
    return values[_ID]


class Seen(Protocol):
    """Remembers what was taken. One for all processes that take deliveries of the same endpoint."""

    def claim(self, event: Event, now: float) -> None:
        """Begin to take an event.

        Raises:
            AlreadySeen, MovesBack, InProgress: it shall not be taken.
        """
        ...

    def keep(self, event: Event, now: float) -> None:
        """Remember that an event which was claimed has been taken."""
        ...

    def release(self, event: Event) -> None:
        """Forget that an event was claimed: it was not taken."""
        ...


class MemorySeen:
    """Remembers in this process, until it ends: what comes again after a restart is not known.

    Begin a new one when the sender's database was restored or made anew: its sequences begin again.
    """

    def __init__(self, most: int = MOST, *, at_least_s: float = 2 * TOLERANCE_S) -> None:
        """Remember up to ``most`` events; none is forgotten before ``at_least_s`` seconds: rather no more are taken.

        Signatures are good for twice the tolerance of ``verify``: what was forgotten earlier could be played again.
        """
        self._most, self._at_least_s = most, at_least_s
        self._claimed: dict[str, float] = {}
        self._taken: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self._names: dict[str, tuple[str, ...]] = {}
        self._newest: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def claim(self, event: Event, now: float) -> None:
        """Begin to take an event. Raises as ``Seen.claim``."""
        with self._lock:
            if any(key in self._names for key in event.keys):
                raise AlreadySeen("the event was taken before")
            claims = _claims(event)
            if any(now - self._claimed.get(key, -CLAIM_S) < CLAIM_S for key in claims):
                raise InProgress("the event is being handled")
            if event.place is not None and self._newest.get(event.place[0], -1) >= event.place[1]:
                raise MovesBack("a newer event of this subject was taken")
            self._make_room(now)
            self._claimed.update(dict.fromkeys(claims, now))

    def keep(self, event: Event, now: float) -> None:
        """Remember that an event has been taken."""
        with self._lock:
            self._forget(event)
            self._taken[event.keys] = now
            self._names.update(dict.fromkeys(event.keys, event.keys))
            if event.place is not None:
                subject, sequence = event.place
                self._newest[subject] = max(sequence, self._newest.get(subject, -1))
                self._newest.move_to_end(subject)
                if len(self._newest) > self._most:
                    self._newest.popitem(last=False)

    def release(self, event: Event) -> None:
        """Forget that an event was claimed."""
        with self._lock:
            self._forget(event)

    def _forget(self, event: Event) -> None:
        for key in _claims(event):
            self._claimed.pop(key, None)

    def _make_room(self, now: float) -> None:
        while len(self._taken) >= self._most:
            keys, at = next(iter(self._taken.items()))
            if now - at < self._at_least_s:
                raise InProgress("too many events to remember")
            del self._taken[keys]
            for key in keys:
                del self._names[key]
        if len(self._claimed) >= 4 * self._most:
            raise InProgress("too many events are being handled")


class SqliteSeen:
    """Remembers in a SQLite file, which several processes of one computer may share.

    Begin a new file when the sender's database was restored or made anew: its sequences begin again, and what is new
    there would be taken for old.
    """

    def __init__(self, path: Path | str) -> None:
        """Open or make the file."""
        self._lock = threading.Lock()
        self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute("PRAGMA synchronous=FULL")
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS seen"
            " (key TEXT PRIMARY KEY, at REAL NOT NULL, is_taken INTEGER NOT NULL) WITHOUT ROWID"
        )
        self._file.execute("CREATE INDEX IF NOT EXISTS seen_by_time ON seen (at)")
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS newest (subject TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID"
        )

    def claim(self, event: Event, now: float) -> None:
        """Begin to take an event. Raises as ``Seen.claim``."""
        claims = _claims(event)
        with self._unit() as file:
            for key in claims:
                row = file.execute("SELECT at, is_taken FROM seen WHERE key = ?", (key,)).fetchone()
                if row is not None and row[1]:
                    raise AlreadySeen("the event was taken before")
                if row is not None and now - row[0] < CLAIM_S:
                    raise InProgress("the event is being handled")
            if event.place is not None:
                row = file.execute("SELECT sequence FROM newest WHERE subject = ?", event.place[:1]).fetchone()
                if row is not None and row[0] >= event.place[1]:
                    raise MovesBack("a newer event of this subject was taken")
            file.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, 0)", [(key, now) for key in claims])

    def keep(self, event: Event, now: float) -> None:
        """Remember that an event has been taken; forget what was taken long ago."""
        with self._unit() as file:
            file.execute("DELETE FROM seen WHERE at < ?", (now - KEEP_S,))
            file.executemany("DELETE FROM seen WHERE key = ?", [(key,) for key in _claims(event)])
            file.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, 1)", [(key, now) for key in event.keys])
            if event.place is not None:
                file.execute(
                    "INSERT INTO newest VALUES (?, ?)"
                    " ON CONFLICT (subject) DO UPDATE SET sequence = max(sequence, excluded.sequence)",
                    event.place,
                )

    def release(self, event: Event) -> None:
        """Forget that an event was claimed."""
        with self._unit() as file:
            keys = [(key,) for key in _claims(event)]
            file.executemany("DELETE FROM seen WHERE key = ? AND is_taken = 0", keys)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @contextlib.contextmanager
    def _unit(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield self._file
            except BaseException:
                self._file.execute("ROLLBACK")
                raise
            self._file.execute("COMMIT")


class Inbox:
    """Takes the deliveries of one endpoint."""

    def __init__(
        self,
        *,
        secrets: str | Sequence[str] = (),
        public_key: str = "",
        seen: Seen | None = None,
        tolerance_s: float = TOLERANCE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take what ``verify`` does with these arguments.

        Args:
            secrets: as ``verify`` takes them.
            public_key: as ``verify`` takes it.
            seen: where what was taken is remembered; in memory unless given.
            tolerance_s: as ``verify`` takes it.
            clock: returns Unix seconds.
        """
        self._how: dict[str, Any] = {"secrets": secrets, "public_key": public_key, "tolerance_s": tolerance_s}
        self._seen: Seen = MemorySeen(at_least_s=2 * tolerance_s) if seen is None else seen
        self._clock = clock

    @contextlib.contextmanager
    def receive(self, headers: Headers, body: bytes) -> Iterator[Event]:
        """Yield the event of a delivery that is to be taken; when the block fails, it may come again.

        Raises:
            WebhookRefused: it is not to be taken. Answer with the error's ``status``.
        """
        event = verify(headers, body, now=self._clock(), **self._how)
        self._seen.claim(event, self._clock())
        try:
            yield event
        except BaseException:
            self._seen.release(event)
            raise
        self._seen.keep(event, self._clock())


def _claims(event: Event) -> tuple[str, ...]:
    """Return what no other may handle meanwhile: the event, and what it shows the state of."""
    return event.keys if event.place is None else (*event.keys, f"subject/{event.place[0]}")


def _values(headers: Headers) -> dict[str, str]:
    """Return the headers that matter, by their names in lower case.

    Raises:
        SignatureWrong: one comes twice, or is no plain text: readers would differ in what they see.
    """
    found: dict[str, str] = {}
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        known = name.lower()
        if known not in (_DFNS, _ID, _TIME, _STANDARD):
            continue
        if known in found or not value.isascii() or not value.isprintable() or len(value) > _HEADER_MAX:
            raise _wrong()
        found[known] = value
    return found


def _content(values: Mapping[str, str], body: bytes, *, tolerance_s: float, now: float) -> bytes:
    """Return what ``v1`` and ``v1a`` cover. Raises SignatureWrong: a header is missing or malformed, or it is old."""
    webhook_id, sent = values.get(_ID, ""), values.get(_TIME, "")
    # A full stop within the id would let another split of id and time have the same signature.
    if not webhook_id or "." in webhook_id or not values.get(_STANDARD):
        raise _wrong()
    if not sent.isdecimal() or len(sent) > 12 or sent != str(int(sent)):
        raise _wrong()
    if abs(now - int(sent)) > tolerance_s:
        raise SignatureWrong("the delivery was sent too long ago, or this computer's clock is wrong")
    return f"{webhook_id}.{sent}.".encode() + body


def _is_signed(content: bytes, signatures: Sequence[str], public_key: str) -> bool:
    key = Ed25519PublicKey.from_public_bytes(_decoded(public_key, "whpk_", 32, field="public_key"))
    for text in signatures:
        try:
            key.verify(base64.b64decode(text, validate=True), content)
        except (InvalidSignature, binascii.Error, ValueError):
            continue
        return True
    return False


def _key(secret: str) -> bytes:
    return _decoded(secret, "whsec_", None, field="secrets")


def _decoded(text: str, prefix: str, size: int | None, *, field: str) -> bytes:
    try:
        value = base64.b64decode(text.removeprefix(prefix), validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if not text.startswith(prefix) or not value or (size is not None and len(value) != size):
        raise InvalidInput(f"is {prefix} and base64", field=field)
    return value


def _read(body: bytes, webhook_id: str | None) -> Event:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    told = told if isinstance(told, dict) else {}
    shape = {"id": str, "kind": str, "date": str, "data": dict, "deliveryAttempt": int, "timestampSent": int}
    subject, sequence = told.get("subject"), told.get("sequence")
    if any(type(told.get(name)) is not kind for name, kind in shape.items()):
        raise WebhookRefused("the body is no event")
    if (type(subject), type(sequence)) not in ((str, int), (type(None), type(None))):
        raise WebhookRefused("the body is no event")
    return Event(
        webhook_id=webhook_id,
        delivery_id=told["id"],
        kind=told["kind"],
        date=told["date"],
        data=told["data"],
        subject=subject,
        sequence=sequence,
        attempt=told["deliveryAttempt"],
        sent_at=told["timestampSent"],
    )


def _wrong() -> SignatureWrong:
    return SignatureWrong("the signature does not fit the delivery")
