"""The outbox and the endpoints that subscribe to it.

``emit`` runs in the unit that makes the change, so an event exists exactly if its change does, and so do the first
attempts to tell of it (``store.deliveries``). One writer at a time: events become visible in the order of ``seq``.
"""

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from outlay.core.audit import ENGINE, TOLD, Entry, is_told
from outlay.core.errors import InvariantBroken, NotFound
from outlay.core.event import EVENT_KINDS, EVERY_KIND, iso, plain
from outlay.core.ids import DELIVERY, EVENT, WEBHOOK, new_id
from outlay.core.seams import MINUTE, Entropy, Instant
from outlay.store import audit, paging
from outlay.store.database import Unit
from outlay.store.prepared import Prepared
from outlay.store.schema import delivery, event, webhook

ENABLED, DISABLED = "Enabled", "Disabled"
PENDING, FAILED = "pending", "failed"
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
_ADD_EVENT = Prepared(sa.insert(event))
_ADD_DELIVERY = Prepared(sa.insert(delivery))
_FAILS = (
    sa.update(webhook)
    .where(webhook.c.id.in_(sa.bindparam("ids", expanding=True)), webhook.c.failing_since.is_(None))
    .values(failing_since=sa.bindparam("since"))
)
_WORKS = (
    sa.update(webhook)
    .where(webhook.c.id.in_(sa.bindparam("ids", expanding=True)), webhook.c.failing_since.is_not(None))
    .values(failing_since=None)
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
    secret: str = field(repr=False)  #: ``whsec_`` + base64; shown once, in the answer that made it
    old_secret: str | None = field(repr=False, default=None)  #: the one before it, which signs too ...
    old_secret_until: Instant | None = None  #: ... until then
    failing_since: Instant | None = None  #: the first attempt that failed since one was taken; None: none did
    disabled_reason: str | None = None  #: why it was switched off by itself
    created_at: Instant
    updated_at: Instant

    def secrets(self, now: Instant) -> tuple[str, ...]:
        """Return the secrets that sign at ``now``, the newest first."""
        is_over = self.old_secret is None or self.old_secret_until is None or self.old_secret_until <= now
        return (self.secret,) if is_over else (self.secret, str(self.old_secret))

    def wants(self, kind: str) -> bool:
        """Tell whether it subscribes to events of a kind."""
        return kind in self.events or EVERY_KIND in self.events

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
        if self.failing_since is not None:
            document["failingSince"] = iso(self.failing_since)
        if self.disabled_reason is not None:
            document["disabledReason"] = self.disabled_reason
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


def emit_many(
    unit: Unit, raised: Sequence[Raised], *, now: Instant, entropy: Entropy, are_new: bool = False
) -> list[str]:
    """Record many things that happened in one unit, in this order, as ``emit`` does one; return the events' ids.

    ``are_new`` says that this unit made everything they are about: then there are no earlier events to go on from.

    Raises:
        InvariantBroken: as for ``emit``; nothing is recorded then.
    """
    if not raised:
        return []
    for each in raised:
        if each.kind not in EVENT_KINDS:
            raise InvariantBroken(f"{each.kind} is not an event we offer: add it to EVENT_KINDS")
    last: dict[str, int] = {}
    if not are_new:
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
            attempt_row(entropy, webhook_id=row.id, event_id=event_id, kind=each.kind, attempt=1, due=now, first=now)
            for row in subscribers
            if each.kind in row.events or EVERY_KIND in row.events
        ]
    _ADD_EVENT.run(unit, rows)
    _ADD_DELIVERY.run(unit, attempts)
    told = [
        Entry(
            ENGINE, f"{TOLD}{row['kind']}", row["subject"], after={"event": row["id"], "sequence": row["subject_seq"]}
        )
        for row in rows
        if is_told(row["kind"], row["data"])
    ]
    audit.add_many(unit, told, now=now)
    return [row["id"] for row in rows]


def attempt_row(
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
    """Return the row of an attempt that is to be made when it is ``due``."""
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
        "secret": _new_secret(entropy),
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
    rows, more = paging.page(unit, query, order=webhook.c.created_at, key=webhook.c.id, limit=limit, token=token)
    return [_webhook(row) for row in rows], more


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

    A person who sets the status takes over from what switched it off by itself.

    Raises:
        NotFound: there is no such endpoint.
    """
    changes: dict[str, Any] = {"url": url, "status": status, "description": description}
    changes = {name: value for name, value in changes.items() if value is not None}
    if events is not None:
        changes["events"] = list(events)
    if status is not None:
        changes |= {"failing_since": None, "disabled_reason": None}
    present = sa.update(webhook).where(webhook.c.id == webhook_id, webhook.c.deleted_at.is_(None))
    if unit.execute(present.values(**changes, updated_at=now)).rowcount == 0:
        raise NotFound(f"no webhook {webhook_id}")
    return get(unit, webhook_id)


def rotate_secret(unit: Unit, webhook_id: str, *, overlap_minutes: int, now: Instant, entropy: Entropy) -> Webhook:
    """Give an endpoint a new secret; the one it had signs too until the overlap is over, one before that no more.

    Raises:
        NotFound: there is no such endpoint.
    """
    was = get(unit, webhook_id)
    until = now + overlap_minutes * MINUTE
    old = {"old_secret": was.secret, "old_secret_until": until} if overlap_minutes else {}
    values = {"old_secret": None, "old_secret_until": None, **old, "secret": _new_secret(entropy), "updated_at": now}
    unit.execute(sa.update(webhook).where(webhook.c.id == webhook_id).values(values))
    return get(unit, webhook_id)


def note_outcomes(unit: Unit, *, working: Collection[str], failing: Collection[str], since: Instant) -> None:
    """Keep since when endpoints have failed: one of whose attempts was taken does not, ``failing`` ones do.

    Args:
        unit: the unit to do it in.
        working: ids of endpoints that took an attempt.
        failing: ids of endpoints whose last attempt failed.
        since: when it was made.
    """
    if working:
        unit.execute(_WORKS, {"ids": sorted(working)})
    if failing:
        unit.execute(_FAILS, {"ids": sorted(failing), "since": since})


def disable_failing(unit: Unit, among: Collection[str], *, since: Instant, now: Instant, entropy: Entropy) -> list[str]:
    """Switch off those that have only failed since an instant or longer, and tell the others; return their ids.

    What is planned for one waits until a person enables it again.
    """
    tired = sa.select(webhook).where(
        webhook.c.id.in_(sorted(among)),
        webhook.c.status == ENABLED,
        webhook.c.deleted_at.is_(None),
        webhook.c.failing_since <= since,
    )
    rows = unit.execute(tired.order_by(webhook.c.id)).all() if among else []
    for row in rows:
        reason = f"every attempt has failed since {iso(row.failing_since)}"
        mine = sa.update(webhook).where(webhook.c.id == row.id)
        unit.execute(mine.values(status=DISABLED, disabled_reason=reason, updated_at=now))
    told = [get(unit, row.id) for row in rows]
    raised = [
        Raised(
            kind="webhook.disabled", subject=each.id, data={"webhook": each.document(), "reason": each.disabled_reason}
        )
        for each in told
    ]
    emit_many(unit, raised, now=now, entropy=entropy)
    return [each.id for each in told]


def switched_off(unit: Unit) -> list[Webhook]:
    """Return the endpoints that were switched off by themselves and that nobody has enabled since."""
    query = sa.select(webhook).where(webhook.c.disabled_reason.is_not(None), webhook.c.deleted_at.is_(None))
    return [_webhook(row) for row in unit.execute(query.order_by(webhook.c.id))]


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
        old_secret=row.old_secret,
        old_secret_until=row.old_secret_until,
        failing_since=row.failing_since,
        disabled_reason=row.disabled_reason,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _new_secret(entropy: Entropy) -> str:
    return SECRET_PREFIX + base64.b64encode(entropy.token(32)).decode("ascii")
