"""Events: what Outlay tells programs, the envelope it travels in, and when a lost one is sent again.

Receivers check a signature over the raw bytes, over ``json.dumps`` of what they parsed, or over
``JSON.stringify`` of it. So a body is compact ASCII JSON, and ``plain`` keeps out numbers that Python and
JavaScript print differently. (Text outside ASCII is escaped: only the first two agree on it.)
"""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from outlay.core.errors import InvalidInput, InvariantBroken
from outlay.core.seams import SECOND, Instant

EVENT_KINDS: Mapping[str, str] = {
    "policy.triggered": "A policy's rule matched an activity; one event for each policy that did.",
    "policy.approval.pending": "An activity waits for people to approve or deny it.",
    "policy.approval.resolved": "An approval ended: approved, denied or expired.",
    "change.requested": "A change of settings waits for approval; names every admin, who has to know of it.",
    "change.resolved": "A change that waited for approval was applied, rejected, or failed.",
    "wallet.created": "A wallet was created.",
    "wallet.tags.modified": "The tags of a wallet changed.",
    "wallet.transfer.requested": "A transfer was recorded.",
    "wallet.transfer.broadcasted": "A transfer's transaction was sent to the network.",
    "wallet.transfer.confirmed": "A transfer is paid: final, with exactly the effect that was asked for.",
    "wallet.transfer.failed": "A transfer ended without paying, after it was allowed.",
    "wallet.transfer.rejected": "A transfer was refused by a policy or a person.",
    "wallet.transaction.requested": "Somebody asked for a transfer that was sent to be canceled or sped up.",
    "wallet.transaction.broadcasted": "The transaction of a cancellation or a speed-up was sent to the network.",
    "wallet.transaction.confirmed": "A cancellation or a speed-up took the transfer's place, finally.",
    "wallet.transaction.failed": "A cancellation or a speed-up came too late: another transaction was mined.",
    "payout.delayed": "A payout stays in a stage three times as long as it should; once a stage.",
    "payout.reorged": "The block of a payout is gone: the same bytes are sent again.",
    "payout.effect_mismatch": "A payout is final with another effect than was asked for: a person has to look.",
    "wallet.frozen": "A wallet was stopped: it pays nothing until a person has looked.",
    "wallet.unfrozen": "A person let a wallet go that was stopped.",
    "wallet.stuck": "A wallet's oldest transaction is not mined, or one before it is missing; once, until it moves.",
    "price.stale": "A price cannot be used: no live price came, or one far from the fixed one; once, until it is good.",
    "audit.broken": "The audit log is not what was written: nothing is paid until a person has looked.",
    "reconciliation.difference": "Ledger, chain and journal do not say the same about a wallet.",
    "webhook.disabled": "An endpoint took nothing for days and was switched off; told to the others.",
    "wallet.balance.low": "A wallet under a mandate fell below its minimum; once, until it has recovered.",
    "refill.proposed": "A wallet needs money from a treasury that is not ours: somebody has to send it.",
    "mandate.run.missed": "A recurring payout that was due could not be asked for in time; nobody does so any more.",
    "wallet.blockchainevent.detected": "Coins entered a wallet, or left it, at a final height.",
}
"""Every kind we emit and offer for subscription, with one line for the documentation."""

EVERY_KIND = "*"
"""Subscribes to all kinds, also to those of later versions."""

PING_KIND = "webhook.ping"
"""The kind of the made-up event a ping sends; it cannot be subscribed to and is not stored."""

NO_ANSWER = "0"
"""The status of an attempt that got no HTTP answer."""

RETRY_SCHEDULE_S: Sequence[int] = (60, 720, 7200, 86400)
"""When a failed delivery is tried again, in seconds from its first attempt."""

_EXACT = 2**53 - 1
_AS_IT_IS = (str, bool)
_EPOCH = datetime.fromtimestamp(0, UTC)


def check_subscription(kinds: Iterable[object], *, field: str = "events") -> list[str]:
    """Return ``kinds`` without repetitions, in the order given.

    Raises:
        InvalidInput: nothing is named, or something that is never sent.
    """
    chosen: list[str] = []
    for kind in kinds:
        if not isinstance(kind, str) or (kind != EVERY_KIND and kind not in EVENT_KINDS):
            offered = ", ".join((EVERY_KIND, *EVENT_KINDS))
            raise InvalidInput(f"no event {str(kind)[:64]!r} is ever sent: choose from {offered}", field=field)
        if kind not in chosen:
            chosen.append(kind)
    if not chosen:
        raise InvalidInput('name at least one event kind, or "*" for all', field=field)
    return chosen


def iso(instant: Instant) -> str:
    """Return ``instant`` as the contract writes dates: ISO 8601, UTC, milliseconds (rounded down), ``Z``."""
    seconds, micros = divmod(instant, SECOND)
    return f"{_second(seconds)}.{micros // 1000:03d}Z"


@functools.lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    # Most dates of one answer lie within the same few seconds.
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def read_iso(text: str, *, field: str) -> Instant:
    """Return the instant of a date with its zone, as ``iso`` writes it or with other fractions.

    Raises:
        InvalidInput: it is no such date.
    """
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        date = None
    if date is None or date.tzinfo is None or len(text) > 40 or date.year < 1971:
        raise InvalidInput("is a date and time with its zone, e.g. 2030-01-31T12:00:00Z", field=field)
    return round((date - _EPOCH) / timedelta(microseconds=1))


def plain(value: Any) -> Any:
    """Return ``value`` as JSON that reads the same to every receiver: 1.0 becomes 1, tuples become lists.

    Raises:
        InvariantBroken: a value that is not JSON, a key that is not text, or an integer that JavaScript would
            round (send amounts as strings of digits).
    """
    if value is None or isinstance(value, _AS_IT_IS):
        return value
    if isinstance(value, int):
        if abs(value) > _EXACT:
            raise InvariantBroken("an integer in an event is beyond 2^53 - 1: receivers would round it")
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise InvariantBroken("a number in an event is not finite")
        return int(value) if value.is_integer() and abs(value) <= _EXACT else float(value)
    if type(value) is dict or isinstance(value, Mapping):  # to ask whether it is a mapping costs more than the rest
        whole: dict[str, Any] = {}
        for key, member in value.items():
            if not isinstance(key, str):
                raise InvariantBroken("a key in an event is not text")
            # Most members are text: asked here, it costs no call.
            whole[key] = member if type(member) is str else plain(member)
        return whole
    if isinstance(value, list | tuple):
        return [plain(member) for member in value]
    raise InvariantBroken(f"a {type(value).__name__} in an event is not JSON")


def envelope(
    *,
    delivery_id: str,
    kind: str,
    raised_at: Instant,
    data: Mapping[str, Any],
    sent_at: Instant,
    attempt: int,
    retry_of: str | None = None,
    subject: str | None = None,
    sequence: int | None = None,
) -> dict[str, Any]:
    """Return the body of one attempt.

    Args:
        delivery_id: ``whe-…``, new for each attempt.
        kind: one of ``EVENT_KINDS``, or ``PING_KIND``.
        raised_at: when the event happened.
        data: its snapshot, the same in every attempt.
        sent_at: when this attempt is sent; the body carries whole seconds.
        attempt: 1 for the first.
        retry_of: the attempt before this one; present from the second on.
        subject: id of what the event is about; None for what is made up.
        sequence: the event's number among those of its subject, 1 for the first. These two are ours, beside the
            contract's members, so that a receiver can refuse to move back.
    """
    body: dict[str, Any] = {
        "id": delivery_id,
        "kind": kind,
        "date": iso(raised_at),
        "data": data,
        "timestampSent": sent_at // SECOND,
        "deliveryAttempt": attempt,
    }
    if retry_of is not None:
        body["retryOf"] = retry_of
    if subject is not None and sequence is not None:
        body["subject"], body["sequence"] = subject, sequence
    return body


def encode_stored(
    *,
    delivery_id: str,
    kind: str,
    raised_at: Instant,
    data: str,
    sent_at: Instant,
    attempt: int,
    retry_of: str | None,
    subject: str,
    sequence: int,
) -> bytes:
    """Return what ``encode`` makes of an ``envelope``, with ``data`` as the compact ASCII JSON it is stored as.

    It is neither read nor written again: most of a body is ``data``, and many attempts carry the same.
    """
    retry = "" if retry_of is None else f',"retryOf":{json.dumps(retry_of)}'
    return (
        f'{{"id":"{delivery_id}","kind":"{kind}","date":"{iso(raised_at)}","data":{data},'
        f'"timestampSent":{sent_at // SECOND},"deliveryAttempt":{attempt}{retry},'
        f'"subject":{json.dumps(subject)},"sequence":{sequence}}}'
    ).encode("ascii")


def encode(body: Mapping[str, Any]) -> bytes:
    """Return ``body`` as the compact ASCII JSON that is signed and sent."""
    return json.dumps(plain(body), separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def retry_at(schedule_s: Sequence[int], *, attempt: int, first: Instant, sent: Instant) -> Instant | None:
    """Return when to try again after ``attempt`` failed, or None when it was the last.

    Offsets count from the first attempt. One that has already passed (the endpoint was disabled, or we were
    down) is not made up for in a burst: it comes the first offset after this attempt.

    Args:
        schedule_s: offsets in seconds, ascending.
        attempt: the attempt that failed, 1 for the first.
        first: when the first attempt was sent.
        sent: when this attempt was sent.
    """
    if attempt > len(schedule_s):
        return None
    planned = first + schedule_s[attempt - 1] * SECOND
    return planned if planned > sent else sent + schedule_s[0] * SECOND
