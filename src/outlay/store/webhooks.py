"""Events and their deliveries: the outbox, the endpoints that subscribe to it, every attempt to tell them.

``emit`` runs in the unit that makes the change, so an event exists exactly if its change does. A delivery is one
attempt: ``pending`` until it was made, then ``delivered`` or ``failed``. A failed one either has a next attempt
(a row of its own) or is *parked*: it stays, says why, and ``replay`` sends it again.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from outlay.core.errors import InvalidInput, InvariantBroken, NotFound, PreconditionFailed
from outlay.core.event import EVENT_KINDS, EVERY_KIND, iso, plain, retry_at
from outlay.core.ids import DELIVERY, EVENT, WEBHOOK, new_id
from outlay.core.seams import SECOND, Entropy, Instant
from outlay.store.database import Unit
from outlay.store.schema import delivery, event, webhook

ENABLED, DISABLED = "Enabled", "Disabled"
PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"
SECRET_PREFIX = "whsec_"  # noqa: S105 - the form of a secret, not one
PAGE = 100
"""Rows of a page unless the caller asks for fewer or more."""

_FIND = sa.select(webhook).where(webhook.c.id == sa.bindparam("id"), webhook.c.deleted_at.is_(None))
_SUBSCRIBERS = sa.select(webhook.c.id, webhook.c.events).where(
    webhook.c.status == ENABLED, webhook.c.deleted_at.is_(None)
)
_LAST = (
    sa.select(event.c.subject, sa.func.max(event.c.subject_seq).label("seq"))
    .where(event.c.subject.in_(sa.bindparam("subjects", expanding=True)))
    .group_by(event.c.subject)
)
_ADD_EVENT = sa.insert(event)
_ADD_DELIVERY = sa.insert(delivery)
_DELIVER = (
    sa.update(delivery)
    .where(delivery.c.id == sa.bindparam("of_id"), delivery.c.state == PENDING)
    .values(state=DELIVERED, sent_at=sa.bindparam("sent_at"), status=sa.bindparam("status"))
)
_WAITING = (
    sa.select(webhook.c.id)
    .where(
        webhook.c.status == ENABLED,
        webhook.c.deleted_at.is_(None),
        sa.exists().where(
            delivery.c.state == PENDING,
            delivery.c.webhook_id == webhook.c.id,
            delivery.c.due_at <= sa.bindparam("now"),
        ),
    )
    .order_by(webhook.c.id)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """Something that happened, to be told."""

    kind: str  #: one of ``EVENT_KINDS``
    subject: str  #: id of what it is about
    data: Mapping[str, Any]  #: the contract's payload, as it is now


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """An endpoint that is told about events."""

    id: str
    url: str
    events: tuple[str, ...]
    status: str  #: ``Enabled`` or ``Disabled``
    description: str
    secret: str = field(repr=False)  #: ``whsec_`` + base64; shown once, in the answer to its creation
    created_at: Instant
    updated_at: Instant

    def document(self) -> dict[str, Any]:
        """Return the contract's object, without the secret."""
        document: dict[str, Any] = {
            "id": self.id,
            "url": self.url,
            "events": list(self.events),
            "status": self.status,
            "dateCreated": iso(self.created_at),
            "dateUpdated": iso(self.updated_at),
        }
        if self.description:
            document["description"] = self.description
        return document


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


def emit(unit: Unit, *, kind: str, subject: str, data: Mapping[str, Any], now: Instant, entropy: Entropy) -> str:
    """Record that something happened, in the unit that makes it happen, and queue it for its subscribers.

    Args:
        unit: the unit that changes ``subject``; it holds whatever lock orders those changes.
        kind: one of ``EVENT_KINDS``.
        subject: id of the transfer, wallet, approval ... it is about; events of one subject are numbered.
        data: the contract's payload, as it is now.
        now: when it happened.
        entropy: for the identifiers.

    Returns:
        The event's id, ``evt-…``: the ``webhook-id`` of every delivery of it.

    Raises:
        InvariantBroken: an unknown kind, or data that is not portable JSON.
    """
    return emit_many(unit, [Raised(kind=kind, subject=subject, data=data)], now=now, entropy=entropy)[0]


def emit_many(unit: Unit, raised: Sequence[Raised], *, now: Instant, entropy: Entropy) -> list[str]:
    """Record many things that happened in one unit, in this order, as ``emit`` does one; return the events' ids.

    Raises:
        InvariantBroken: as for ``emit``; nothing is recorded then.
    """
    if not raised:
        return []
    for each in raised:
        if each.kind not in EVENT_KINDS:
            raise InvariantBroken(f"{each.kind} is not an event we offer: add it to EVENT_KINDS")
    last: dict[str, int] = {}
    names = sorted({each.subject for each in raised})
    for row in unit.execute(_LAST, {"subjects": names}):
        last[row.subject] = row.seq
    subscribers = unit.execute(_SUBSCRIBERS).all()
    rows: list[dict[str, Any]] = []
    attempts: list[dict[str, Any]] = []
    for each in raised:
        event_id = new_id(EVENT, entropy)
        last[each.subject] = seq = last.get(each.subject, 0) + 1
        place = {"subject": each.subject, "subject_seq": seq}
        rows.append({"id": event_id, "kind": each.kind, **place, "data": plain(each.data), "at": now})
        attempts += [
            _attempt(entropy, webhook_id=row.id, event_id=event_id, kind=each.kind, attempt=1, due=now, first=now)
            for row in subscribers
            if each.kind in row.events or EVERY_KIND in row.events
        ]
    unit.execute(_ADD_EVENT, rows)
    if attempts:
        unit.execute(_ADD_DELIVERY, attempts)
    return [row["id"] for row in rows]


def _attempt(
    entropy: Entropy,
    *,
    webhook_id: str,
    event_id: str,
    kind: str,
    attempt: int,
    due: Instant,
    first: Instant,
    retry_of: str | None = None,
) -> dict[str, Any]:
    return {
        "id": new_id(DELIVERY, entropy),
        "webhook_id": webhook_id,
        "event_id": event_id,
        "kind": kind,
        "attempt": attempt,
        "retry_of": retry_of,
        "state": PENDING,
        "due_at": due,
        "first_due_at": first,
    }


def create(
    unit: Unit,
    *,
    url: str,
    events: Sequence[str],
    status: str = ENABLED,
    description: str = "",
    now: Instant,
    entropy: Entropy,
) -> Webhook:
    """Add an endpoint with a fresh 32-byte secret.

    The secret's whole text is the HMAC key of ``X-DFNS-WEBHOOK-SIGNATURE``; what follows ``whsec_``, decoded,
    is the key of the Standard Webhooks signature. ``url`` and ``events`` were checked before
    (``Egress.check_url``, ``check_subscription``).
    """
    values = {
        "id": new_id(WEBHOOK, entropy),
        "url": url,
        "events": list(events),
        "status": status,
        "description": description,
        "secret": SECRET_PREFIX + base64.b64encode(entropy.token(32)).decode("ascii"),
        "created_at": now,
        "updated_at": now,
    }
    unit.execute(sa.insert(webhook).values(values))
    return Webhook(**{**values, "events": tuple(events)})  # type: ignore[arg-type]


def find(unit: Unit, webhook_id: str) -> Webhook | None:
    """Return the endpoint, or None if there is none or it was deleted."""
    row = unit.execute(_FIND, {"id": webhook_id}).first()
    return None if row is None else _webhook(row)


def get(unit: Unit, webhook_id: str) -> Webhook:
    """Return the endpoint.

    Raises:
        NotFound: there is none, or it was deleted.
    """
    found = find(unit, webhook_id)
    if found is None:
        raise NotFound(f"no webhook {webhook_id}")
    return found


def page(unit: Unit, *, limit: int = PAGE, token: str | None = None) -> tuple[list[Webhook], str | None]:
    """Return up to ``limit`` endpoints, newest first, and the token of the next page.

    Raises:
        InvalidInput: ``token`` is not one that an earlier page gave.
    """
    query = sa.select(webhook).where(webhook.c.deleted_at.is_(None))
    query = _after(query, webhook.c.created_at, webhook.c.id, token)
    rows = unit.execute(query.limit(limit + 1)).all()
    more = _token(rows[limit - 1].created_at, rows[limit - 1].id) if len(rows) > limit else None
    return [_webhook(row) for row in rows[:limit]], more


def update(
    unit: Unit,
    webhook_id: str,
    *,
    url: str | None = None,
    events: Sequence[str] | None = None,
    status: str | None = None,
    description: str | None = None,
    now: Instant,
) -> Webhook:
    """Change what is given and leave the rest. Pending attempts go to the new URL; while disabled they wait.

    Raises:
        NotFound: there is no such endpoint.
    """
    changes: dict[str, Any] = {"url": url, "status": status, "description": description}
    changes = {name: value for name, value in changes.items() if value is not None}
    if events is not None:
        changes["events"] = list(events)
    present = sa.update(webhook).where(webhook.c.id == webhook_id, webhook.c.deleted_at.is_(None))
    if unit.execute(present.values(**changes, updated_at=now)).rowcount == 0:
        raise NotFound(f"no webhook {webhook_id}")
    return get(unit, webhook_id)


def delete(unit: Unit, webhook_id: str, *, now: Instant) -> None:
    """Remove an endpoint; what it was not yet told is closed as failed and says so.

    Raises:
        NotFound: there is no such endpoint.
    """
    present = sa.update(webhook).where(webhook.c.id == webhook_id, webhook.c.deleted_at.is_(None))
    if unit.execute(present.values(deleted_at=now, updated_at=now)).rowcount == 0:
        raise NotFound(f"no webhook {webhook_id}")
    mine = sa.update(delivery).where(delivery.c.webhook_id == webhook_id)
    unit.execute(mine.where(delivery.c.next_attempt_at.is_not(None)).values(next_attempt_at=None))
    unit.execute(mine.where(delivery.c.state == PENDING).values(state=FAILED, error="the webhook was deleted"))


def _webhook(row: Any) -> Webhook:
    return Webhook(
        id=row.id,
        url=row.url,
        events=tuple(row.events),
        status=row.status,
        description=row.description,
        secret=row.secret,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


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
    query = _after(query, delivery.c.sent_at, delivery.c.id, token)
    rows = unit.execute(query.limit(limit + 1)).all()
    more = _token(rows[limit - 1].sent_at, rows[limit - 1].id) if len(rows) > limit else None
    return [_delivery(row) for row in rows[:limit]], more


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


def due(unit: Unit, webhook_id: str, *, now: Instant, limit: int) -> tuple[Webhook | None, list[Delivery]]:
    """Return the endpoint, if it is enabled, and up to ``limit`` of its due attempts, oldest first."""
    target = find(unit, webhook_id)
    if target is None or target.status != ENABLED:
        return None, []
    query = _deliveries().where(
        delivery.c.state == PENDING, delivery.c.webhook_id == webhook_id, delivery.c.due_at <= now
    )
    rows = unit.execute(query.order_by(delivery.c.due_at, event.c.seq).limit(limit))
    return target, [_delivery(row) for row in rows]


def mark_delivered(unit: Unit, taken: Sequence[tuple[str, Instant, str]]) -> None:
    """Record which attempts were taken: id, instant and HTTP status. One whose outcome is known already stays."""
    if taken:
        rows = [{"of_id": row_id, "sent_at": sent_at, "status": status} for row_id, sent_at, status in taken]
        unit.execute(_DELIVER, rows)


def mark_failed(
    unit: Unit,
    attempt: Delivery,
    *,
    sent_at: Instant,
    status: str,
    error: str,
    schedule_s: Sequence[int],
    entropy: Entropy,
) -> bool:
    """Record that ``attempt`` failed and plan the next one, or park the event if the schedule is exhausted.

    The schedule counts from when the first attempt was really sent, not from when it could have been.
    Returns False, and plans nothing, if the outcome was recorded before.

    Args:
        unit: the unit to do it in.
        attempt: the attempt that was made.
        sent_at: when.
        status: the HTTP status, or "0" if there was no answer.
        error: what went wrong, for people.
        schedule_s: offsets of the retries from the first attempt, in seconds.
        entropy: for the next attempt's id.
    """
    first = sent_at if attempt.attempt == 1 else attempt.first_due_at
    next_at = retry_at(schedule_s, attempt=attempt.attempt, first=first, sent=sent_at)
    mine = sa.update(delivery).where(delivery.c.id == attempt.id, delivery.c.state == PENDING)
    outcome = {"state": FAILED, "sent_at": sent_at, "status": status, "error": error, "next_attempt_at": next_at}
    if unit.execute(mine.values(outcome)).rowcount == 0:
        return False
    if next_at is not None:
        again = _attempt(
            entropy,
            webhook_id=attempt.webhook_id,
            event_id=attempt.event_id,
            kind=attempt.kind,
            attempt=attempt.attempt + 1,
            due=next_at,
            first=first,
            retry_of=attempt.id,
        )
        unit.execute(sa.insert(delivery).values(again))
    return True


def parked(unit: Unit, *, limit: int = PAGE) -> list[Delivery]:
    """Return up to ``limit`` attempts of live endpoints after which we gave up, newest first.

    One that was replayed since is not among them: its next attempt speaks for it.
    """
    newer = delivery.alias("newer")
    superseded = sa.exists().where(
        newer.c.webhook_id == delivery.c.webhook_id,
        newer.c.event_id == delivery.c.event_id,
        newer.c.attempt > delivery.c.attempt,
    )
    query = _deliveries().where(
        delivery.c.state == FAILED,
        delivery.c.next_attempt_at.is_(None),
        delivery.c.webhook_id.in_(sa.select(webhook.c.id).where(webhook.c.deleted_at.is_(None))),
        ~superseded,
    )
    rows = unit.execute(query.order_by(delivery.c.sent_at.desc(), delivery.c.id.desc()).limit(limit))
    return [_delivery(row) for row in rows]


def replay(unit: Unit, webhook_id: str, delivery_id: str, *, now: Instant, entropy: Entropy) -> str:
    """Send the event of an earlier attempt again, now, whatever became of it; return the new attempt's id.

    If an attempt is planned already, that one is made now.

    Raises:
        NotFound: there is no such endpoint or attempt.  PreconditionFailed: the endpoint is disabled.
    """
    if get(unit, webhook_id).status != ENABLED:
        raise PreconditionFailed("the webhook is disabled: enable it first")
    earlier = sa.select(delivery.c.event_id).where(delivery.c.id == delivery_id, delivery.c.webhook_id == webhook_id)
    event_id = unit.execute(earlier).scalar_one_or_none()
    if event_id is None:
        raise NotFound(f"no event {delivery_id} of webhook {webhook_id}")
    same = (delivery.c.webhook_id == webhook_id, delivery.c.event_id == event_id)
    last = unit.execute(sa.select(delivery).where(*same).order_by(delivery.c.attempt.desc()).limit(1)).one()
    if last.state == PENDING:
        unit.execute(sa.update(delivery).where(delivery.c.id == last.id).values(due_at=min(now, last.due_at)))
        return str(last.id)
    again = _attempt(
        entropy,
        webhook_id=webhook_id,
        event_id=event_id,
        kind=last.kind,
        attempt=last.attempt + 1,
        due=now,
        first=last.first_due_at,
        retry_of=last.id,
    )
    unit.execute(sa.insert(delivery).values(again))
    return str(again["id"])


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


def _token(at: Instant, row_id: str) -> str:
    return base64.urlsafe_b64encode(f"{at}.{row_id}".encode()).decode("ascii").rstrip("=")


def _after(query: sa.Select[Any], at: Any, row_id: Any, token: str | None) -> sa.Select[Any]:
    """Order newest first and leave out what the page that gave ``token`` and those before it showed."""
    query = query.order_by(at.desc(), row_id.desc())
    if token is None:
        return query
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode("ascii")
        instant, last_id = text.split(".")
        limit = int(instant)
        if not instant.isdigit() or limit >= 2**63 or not last_id:
            raise ValueError(instant)
    except (ValueError, binascii.Error):
        raise InvalidInput("use the nextPageToken of the page before this one", field="paginationToken") from None
    return query.where(sa.or_(at < limit, sa.and_(at == limit, row_id < last_id)))
