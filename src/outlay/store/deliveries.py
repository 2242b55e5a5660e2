"""Attempts to tell endpoints of events, and sending again what they missed.

A row is one attempt: ``pending`` until it was made, then ``delivered`` or ``failed``. A failed one either has a next
attempt (a row of its own) or is *parked*: it stays, says why, and ``replay`` sends its event again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa

from outlay.core.errors import NotFound, PreconditionFailed
from outlay.core.event import iso, retry_at
from outlay.core.seams import SECOND, Entropy, Instant
from outlay.store import paging
from outlay.store.database import Unit
from outlay.store.prepared import Prepared
from outlay.store.schema import delivery, event, webhook
from outlay.store.webhooks import ENABLED, FAILED, PAGE, PENDING, Webhook, attempt_row, find, get

DELIVERED = "delivered"

_OF_ID = sa.update(delivery).where(delivery.c.id == sa.bindparam("of_id"))
_DELIVER = Prepared(_OF_ID.where(delivery.c.state == PENDING).values(state=DELIVERED))
_FAIL = Prepared(_OF_ID.values(state=FAILED))
_ADD = Prepared(sa.insert(delivery))
_STILL_PENDING = sa.select(delivery.c.id).where(
    delivery.c.id.in_(sa.bindparam("ids", expanding=True)), delivery.c.state == PENDING
)
_HURRY = (
    sa.update(delivery)
    .where(delivery.c.id == sa.bindparam("of_id"), delivery.c.due_at > sa.bindparam("now"))
    .values(due_at=sa.bindparam("now"))
)
_first_due = (
    # One look into the index for each endpoint. Whether any exists PostgreSQL may find out by reading all that waits.
    sa.select(delivery.c.due_at)
    .where(delivery.c.state == PENDING, delivery.c.webhook_id == webhook.c.id)
    .order_by(delivery.c.due_at)
    .limit(1)
    .scalar_subquery()
)
_WAITING = (
    sa.select(webhook.c.id)
    .where(webhook.c.status == ENABLED, webhook.c.deleted_at.is_(None), _first_due <= sa.bindparam("now"))
    .order_by(webhook.c.id)
)
_next = (
    # Those of one instant come in the order in which they were stored, as the index has them: to ask for it would sort
    # all that waits, which after an outage is much.
    sa.select(delivery)
    .where(
        delivery.c.state == PENDING,
        delivery.c.webhook_id == sa.bindparam("webhook_id"),
        delivery.c.due_at <= sa.bindparam("now"),
    )
    .order_by(delivery.c.due_at)
    .limit(sa.bindparam("limit"))
    .subquery("next")
)
_DUE = (
    sa.select(
        _next.c.id,
        _next.c.webhook_id,
        _next.c.event_id,
        _next.c.kind,
        _next.c.attempt,
        _next.c.retry_of,
        _next.c.first_due_at,
        event.c.at,
        # As it is stored: it goes into the body unread.
        sa.type_coerce(event.c.data, sa.Text),
        event.c.subject,
        event.c.subject_seq,
    )
    .join(event, event.c.id == _next.c.event_id)
    .order_by(_next.c.due_at, event.c.seq)
)
_ATTEMPTS = (
    sa.select(delivery.c.id, delivery.c.event_id, delivery.c.attempt, delivery.c.state, delivery.c.first_due_at)
    .where(
        delivery.c.webhook_id == sa.bindparam("webhook_id"),
        delivery.c.event_id.in_(sa.bindparam("event_ids", expanding=True)),
    )
    .order_by(delivery.c.attempt)
)
_newer = delivery.alias("newer")
_GIVEN_UP = (
    # Written out, not bound: SQLite takes a partial index only for what it can read.
    delivery.c.state == sa.literal_column(f"'{FAILED}'"),
    delivery.c.next_attempt_at.is_(None),
    ~sa.exists().where(
        _newer.c.webhook_id == delivery.c.webhook_id,
        _newer.c.event_id == delivery.c.event_id,
        _newer.c.attempt > delivery.c.attempt,
    ),
)
"""What makes an attempt a parked one."""


_OF_EVENTS = (
    sa.select(delivery)
    .where(
        delivery.c.webhook_id.in_(sa.select(webhook.c.id)),
        delivery.c.event_id.in_(sa.bindparam("event_ids", expanding=True)),
    )
    .order_by(delivery.c.webhook_id, delivery.c.attempt)
)


class Due(NamedTuple):
    """An attempt that is to be made."""

    id: str
    webhook_id: str
    event_id: str
    kind: str
    attempt: int
    retry_of: str | None
    first_due_at: Instant
    raised_at: Instant
    data: str  #: the JSON text, as it is stored
    subject: str
    sequence: int  #: of the event among those of its subject


class Failure(NamedTuple):
    """An attempt that was made in vain."""

    attempt: Due
    sent_at: Instant
    status: str  #: of the HTTP answer, or "0" if there was none
    error: str  #: what went wrong, for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One attempt to tell one endpoint about one event."""

    id: str  #: ``whe-…``, new for each attempt
    webhook_id: str
    event_id: str  #: ``evt-…``, the same in every attempt
    kind: str
    attempt: int  #: 1-based
    retry_of: str | None
    state: str  #: ``pending``, ``delivered`` or ``failed``
    due_at: Instant
    first_due_at: Instant  #: the schedule's offsets count from here
    sent_at: Instant | None
    status: str | None  #: HTTP status of the answer; "0" when there was none
    error: str | None
    next_attempt_at: Instant | None
    raised_at: Instant
    data: Mapping[str, Any] = field(repr=False)

    @property
    def parked(self) -> bool:
        """Tell whether this attempt failed and no other is planned."""
        return self.state == FAILED and self.next_attempt_at is None

    def document(self) -> dict[str, Any]:
        """Return the contract's stored webhook event; a failed one without ``nextAttemptDate`` is parked."""
        document: dict[str, Any] = {
            "id": self.id,
            "kind": self.kind,
            "date": iso(self.raised_at),
            "data": self.data,
            "status": self.status or "",
            "timestampSent": (self.sent_at or 0) // SECOND,
            "deliveryAttempt": self.attempt,
            "deliveryFailed": self.state == FAILED,
        }
        if self.retry_of is not None:
            document["retryOf"] = self.retry_of
        if self.error is not None:
            document["error"] = self.error
        if self.next_attempt_at is not None:
            document["nextAttemptDate"] = iso(self.next_attempt_at)
        return document


def newest_of(unit: Unit, event_ids: Sequence[str]) -> dict[str, list[Any]]:
    """Return the newest attempt to tell each endpoint of these events, by event."""
    found: dict[str, dict[str, Any]] = {}
    for row in unit.execute(_OF_EVENTS, {"event_ids": list(event_ids)}) if event_ids else ():
        found.setdefault(row.event_id, {})[row.webhook_id] = row
    return {event_id: list(each.values()) for event_id, each in found.items()}


def list_events(
    unit: Unit,
    webhook_id: str,
    *,
    kind: str | None = None,
    delivery_failed: bool | None = None,
    limit: int = PAGE,
    token: str | None = None,
) -> tuple[list[Delivery], str | None]:
    """Return up to ``limit`` attempts that were made, newest first, and the token of the next page.

    Raises:
        NotFound: there is no such endpoint.  InvalidInput: ``token`` is not one that an earlier page gave.
    """
    get(unit, webhook_id)
    query = _deliveries().where(delivery.c.webhook_id == webhook_id, delivery.c.sent_at.is_not(None))
    if kind is not None:
        query = query.where(delivery.c.kind == kind)
    if delivery_failed is not None:
        query = query.where(delivery.c.state == (FAILED if delivery_failed else DELIVERED))
    rows, more = paging.page(unit, query, order=delivery.c.sent_at, key=delivery.c.id, limit=limit, token=token)
    return [_delivery(row) for row in rows], more


def get_event(unit: Unit, webhook_id: str, delivery_id: str) -> Delivery:
    """Return one attempt that was made (``whe-…``).

    Raises:
        NotFound: there is no such endpoint, or no such attempt of it.
    """
    get(unit, webhook_id)
    query = _deliveries().where(delivery.c.id == delivery_id, delivery.c.webhook_id == webhook_id)
    row = unit.execute(query.where(delivery.c.sent_at.is_not(None))).first()
    if row is None:
        raise NotFound(f"no event {delivery_id} of webhook {webhook_id}")
    return _delivery(row)


def waiting(unit: Unit, *, now: Instant) -> list[str]:
    """Return the ids of the enabled endpoints that have an attempt due."""
    return list(unit.execute(_WAITING, {"now": now}).scalars())


def due(unit: Unit, webhook_id: str, *, now: Instant, limit: int) -> tuple[Webhook | None, list[Due]]:
    """Return the endpoint, if it is enabled, and up to ``limit`` of its due attempts, oldest first."""
    target = find(unit, webhook_id)
    if target is None or target.status != ENABLED:
        return None, []
    rows = unit.execute(_DUE, {"webhook_id": webhook_id, "now": now, "limit": limit})
    return target, [Due(*row) for row in rows]


def mark_delivered(unit: Unit, taken: Sequence[tuple[str, Instant, str]]) -> None:
    """Record which attempts were taken: id, instant and HTTP status. One whose outcome is known already stays."""
    rows = [{"of_id": row_id, "sent_at": sent_at, "status": status} for row_id, sent_at, status in taken]
    _DELIVER.run(unit, rows)


def mark_failed(
    unit: Unit, failures: Sequence[Failure], *, schedule_s: Sequence[int], entropy: Entropy
) -> list[Failure]:
    """Record which attempts failed, and plan the next ones, or park the events whose schedule is exhausted.

    The schedule counts from when the first attempt was really sent, not from when it could have been.
    Nothing is planned for an attempt whose outcome was recorded before; the others are returned.

    Args:
        unit: the unit to do it in.
        failures: each attempt once.
        schedule_s: offsets of the retries from the first attempt, in seconds.
        entropy: for the next attempts' ids.
    """
    if not failures:
        return []
    pending = set(unit.execute(_STILL_PENDING, {"ids": [each.attempt.id for each in failures]}).scalars())
    fresh = [each for each in failures if each.attempt.id in pending]
    outcomes: list[dict[str, Any]] = []
    planned: list[dict[str, Any]] = []
    for attempt, sent_at, status, error in fresh:
        first = sent_at if attempt.attempt == 1 else attempt.first_due_at
        next_at = retry_at(schedule_s, attempt=attempt.attempt, first=first, sent=sent_at)
        outcomes.append(
            {"of_id": attempt.id, "sent_at": sent_at, "status": status, "error": error, "next_attempt_at": next_at}
        )
        if next_at is not None:
            again = attempt_row(
                entropy,
                webhook_id=attempt.webhook_id,
                event_id=attempt.event_id,
                kind=attempt.kind,
                attempt=attempt.attempt + 1,
                due=next_at,
                first=first,
                retry_of=attempt.id,
            )
            planned.append(again)
    _FAIL.run(unit, outcomes)
    _ADD.run(unit, planned)
    return fresh


def parked(unit: Unit, *, limit: int = PAGE) -> list[Delivery]:
    """Return up to ``limit`` attempts of live endpoints after which we gave up, newest first.

    One that was replayed since is not among them: its next attempt speaks for it.
    """
    live = delivery.c.webhook_id.in_(sa.select(webhook.c.id).where(webhook.c.deleted_at.is_(None)))
    query = _deliveries().where(live, *_GIVEN_UP)
    rows = unit.execute(query.order_by(delivery.c.sent_at.desc(), delivery.c.id.desc()).limit(limit))
    return [_delivery(row) for row in rows]


def parked_events(
    unit: Unit, webhook_id: str, *, limit: int, among: Sequence[str] | None = None
) -> list[tuple[str, str]]:
    """Return id and kind of up to ``limit`` events that one endpoint was told of in vain, the oldest first.

    There may be very many, and all are looked at: call it in a read, unless ``among`` names the few that matter.
    """
    query = sa.select(delivery.c.event_id, delivery.c.kind).join(event, event.c.id == delivery.c.event_id)
    query = query.where(delivery.c.webhook_id == webhook_id, *_GIVEN_UP)
    if among is not None:
        query = query.where(delivery.c.event_id.in_(among))
    return [(row.event_id, row.kind) for row in unit.execute(query.order_by(event.c.seq).limit(limit))]


def replay(unit: Unit, target: Webhook, events: Sequence[tuple[str, str]], *, now: Instant, entropy: Entropy) -> int:
    """Tell an endpoint of events again, now, whatever became of them; return how many it will be told of.

    An attempt that is planned already is made now instead of another. So doing this twice sends once, unless it was
    sent in between.

    Args:
        unit: the unit to do it in.
        target: whom to tell.
        events: ids and kinds, in the order in which they shall be sent; those it does not subscribe to are left out.
        now: when they are due.
        entropy: for the attempts' ids.

    Raises:
        PreconditionFailed: the endpoint is disabled.
    """
    if target.status != ENABLED:
        raise PreconditionFailed("the webhook is disabled: enable it first")
    wanted = {event_id: kind for event_id, kind in events if target.wants(kind)}
    last: dict[str, Any] = {}
    if wanted:
        for row in unit.execute(_ATTEMPTS, {"webhook_id": target.id, "event_ids": list(wanted)}):
            last[row.event_id] = row
    hurried = [{"of_id": row.id, "now": now} for row in last.values() if row.state == PENDING]
    made = [
        attempt_row(
            entropy,
            webhook_id=target.id,
            event_id=event_id,
            kind=kind,
            attempt=last[event_id].attempt + 1 if event_id in last else 1,
            due=now,
            first=last[event_id].first_due_at if event_id in last else now,
            retry_of=last[event_id].id if event_id in last else None,
        )
        for event_id, kind in wanted.items()
        if event_id not in last or last[event_id].state != PENDING
    ]
    if hurried:
        unit.execute(_HURRY, hurried)
    if made:
        unit.execute(sa.insert(delivery), made)
    return len(wanted)


def _deliveries() -> sa.Select[Any]:
    return sa.select(delivery, event.c.at.label("raised_at"), event.c.data).join(
        event, event.c.id == delivery.c.event_id
    )


def _delivery(row: Any) -> Delivery:
    return Delivery(
        id=row.id,
        webhook_id=row.webhook_id,
        event_id=row.event_id,
        kind=row.kind,
        attempt=row.attempt,
        retry_of=row.retry_of,
        state=row.state,
        due_at=row.due_at,
        first_due_at=row.first_due_at,
        sent_at=row.sent_at,
        status=row.status,
        error=row.error,
        next_attempt_at=row.next_attempt_at,
        raised_at=row.raised_at,
        data=row.data,
    )
