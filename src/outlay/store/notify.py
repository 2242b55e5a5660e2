"""Messages to people: which events were looked at, what is to be told to whom, and what became of it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from outlay.core.message import Message
from outlay.core.seams import DAY, MINUTE, SECOND, Instant
from outlay.store.database import Row, Unit
from outlay.store.schema import approval, event
from outlay.store.schema_notify import notify_cursor, notify_message

MAIL, CHAT = "mail", "chat"
APPROVAL = "policy.approval.pending"
WAITING, SENT, MOOT, FAILED = "waiting", "sent", "moot", "failed"
TOGETHER_MAX = 1000
"""Most messages that go as one."""

KEEP: Instant = 30 * DAY
GIVE_UP: Instant = 3 * DAY
RETRY: Instant = 30 * SECOND
RETRY_MAX: Instant = 15 * MINUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A message that is to be told to one place."""

    channel: str  #: ``mail`` or ``chat``
    place: str  #: address; of the chat: ``chat``
    kind: str  #: of the event it is about
    about: str  #: what the event is about
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Messages that go to one place as one; its number and instant stay the same however often it is sent."""

    number: int
    at: Instant
    place: str
    messages: Sequence[Message]


def cursor(unit: Unit) -> int | None:
    """Return the number of the newest event that was looked at, or None if none ever was."""
    return unit.execute(sa.select(notify_cursor.c.seq)).scalar_one_or_none()


def newest(unit: Unit) -> int:
    """Return the number of the newest event; 0: there is none."""
    return int(unit.execute(sa.select(sa.func.max(event.c.seq))).scalar_one_or_none() or 0)


def move(unit: Unit, seq: int) -> None:
    """Note that the events up to ``seq`` were looked at."""
    if unit.execute(sa.update(notify_cursor).values(seq=seq)).rowcount == 0:
        unit.execute(sa.insert(notify_cursor).values(id=1, seq=seq))


def events(unit: Unit, *, after: int, until: int, kinds: Collection[str], limit: int) -> Sequence[Row]:
    """Return events of these kinds in their order, those numbered ``after`` + 1 to ``until``."""
    query = sa.select(event).where(event.c.seq > after, event.c.seq <= until, event.c.kind.in_(sorted(kinds)))
    return unit.execute(query.order_by(event.c.seq).limit(limit)).all()


def last_told(unit: Unit) -> Mapping[str, Instant]:
    """Return when a message about each approval that waits was written last; those without one are not in it."""
    query = (
        sa.select(notify_message.c.about, sa.func.max(notify_message.c.at).label("at"))
        .join(approval, approval.c.id == notify_message.c.about)
        .where(approval.c.status == "Pending", notify_message.c.kind == APPROVAL)
        .group_by(notify_message.c.about)
    )
    return {row.about: row.at for row in unit.execute(query)}


def add(unit: Unit, drafts: Sequence[Draft], *, now: Instant) -> None:
    """Have messages sent."""
    rows = [
        {
            "channel": each.channel,
            "place": each.place,
            "kind": each.kind,
            "about": each.about,
            "title": each.message.title,
            "text": each.message.text,
            "at": now,
            "due_at": now,
            "attempts": 0,
            "state": WAITING,
        }
        for each in drafts
    ]
    if rows:
        unit.execute(sa.insert(notify_message), rows)


def forget(unit: Unit, *, now: Instant) -> None:
    """Drop what ended long ago."""
    unit.execute(
        sa.delete(notify_message).where(notify_message.c.state != WAITING, notify_message.c.ended_at < now - KEEP)
    )


def is_due(unit: Unit, channel: str, *, now: Instant) -> bool:
    """Tell whether something is to be sent."""
    return unit.execute(_due(channel, now).limit(1)).first() is not None


def _due(channel: str, now: Instant) -> sa.Select[Any]:
    mine = notify_message.c.channel == channel, notify_message.c.state == WAITING
    return sa.select(notify_message).where(*mine, notify_message.c.due_at <= now).order_by(notify_message.c.seq)


def pack(unit: Unit, channel: str, *, now: Instant, per_minute_max: int, limit: int) -> list[Envelope]:
    """Return up to ``limit`` envelopes to send now, oldest first; what is in one stays in it.

    A place gets ``per_minute_max`` of them in a minute: what does not fit goes as one, or waits until one does.
    """
    _drop_decided(unit, channel, now)
    loose: dict[str, list[Row]] = {}
    for row in unit.execute(_due(channel, now).where(notify_message.c.envelope.is_(None))):
        loose.setdefault(row.place, []).append(row)
    for place, rows in loose.items():
        room = per_minute_max - _recent(unit, channel, place, now)
        if room <= 0:
            continue
        parts = [[row] for row in rows] if len(rows) <= room else [rows[:TOGETHER_MAX]]
        for part in parts:
            numbers = [row.seq for row in part]
            unit.execute(sa.update(notify_message).where(notify_message.c.seq.in_(numbers)).values(envelope=numbers[0]))
    found: dict[int, list[Row]] = {}
    for row in unit.execute(_due(channel, now).where(notify_message.c.envelope.is_not(None))):
        if row.envelope in found or len(found) < limit:
            found.setdefault(row.envelope, []).append(row)
    return [
        Envelope(
            number=number,
            at=rows[0].at,
            place=rows[0].place,
            messages=[Message(row.title, row.text) for row in rows],
        )
        for number, rows in found.items()
    ]


def _drop_decided(unit: Unit, channel: str, now: Instant) -> None:
    """Drop requests for decisions that nobody needs any more."""
    waits = sa.exists().where(approval.c.id == notify_message.c.about, approval.c.status == "Pending")
    mine = notify_message.c.channel == channel, notify_message.c.state == WAITING, notify_message.c.kind == APPROVAL
    unit.execute(sa.update(notify_message).where(*mine, ~waits).values(state=MOOT, ended_at=now))


def _recent(unit: Unit, channel: str, place: str, now: Instant) -> int:
    """Return how many envelopes went to a place in the last minute, or wait to be sent again."""
    counts = sa.or_(
        sa.and_(notify_message.c.state == SENT, notify_message.c.ended_at > now - MINUTE),
        sa.and_(notify_message.c.state == WAITING, notify_message.c.envelope.is_not(None)),
    )
    query = sa.select(sa.func.count(notify_message.c.envelope.distinct()))
    here = notify_message.c.channel == channel, notify_message.c.place == place
    return int(unit.execute(query.where(*here, counts)).scalar_one())


def mark(unit: Unit, outcomes: Mapping[int, str | None], *, now: Instant) -> list[int]:
    """Note what became of envelopes, by number: None if it was taken, else what went wrong.

    Returns:
        The numbers of those that are given up.
    """
    given_up = []
    for number, error in outcomes.items():
        mine = notify_message.c.envelope == number, notify_message.c.state == WAITING
        if error is None:
            unit.execute(sa.update(notify_message).where(*mine).values(state=SENT, ended_at=now, error=None))
            continue
        first = unit.execute(sa.select(notify_message).where(*mine).order_by(notify_message.c.seq)).first()
        if first is None:
            continue
        failed: dict[str, Any] = {"attempts": first.attempts + 1, "error": error}
        if now - first.at >= GIVE_UP:
            given_up.append(number)
            failed |= {"state": FAILED, "ended_at": now}
        else:
            failed["due_at"] = now + min(RETRY * 2 ** min(first.attempts, 10), RETRY_MAX)
        unit.execute(sa.update(notify_message).where(*mine).values(**failed))
    return given_up


def troubles(unit: Unit) -> tuple[int, int, str]:
    """Return how many messages wait after a failure, how many were given up, and the newest error."""
    wait = sa.select(sa.func.count()).where(notify_message.c.state == WAITING, notify_message.c.attempts > 0)
    gone = sa.select(sa.func.count()).where(notify_message.c.state == FAILED)
    newest_error = (
        sa.select(notify_message.c.error)
        .where(notify_message.c.error.is_not(None))
        .order_by(notify_message.c.seq.desc())
        .limit(1)
    )
    error = unit.execute(newest_error).scalar_one_or_none()
    return int(unit.execute(wait).scalar_one()), int(unit.execute(gone).scalar_one()), error or ""
