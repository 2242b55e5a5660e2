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
STORM = "approvals"
"""Kind of a message that tells of all approvals that one caller's payouts wait for; it is about the caller."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done for a channel; messages by number."""

    moot: Sequence[int]  #: ask for decisions that nobody needs any more
    parts: Sequence[Sequence[int]]  #: those that go into one new envelope each
    numbers: Sequence[int]  #: of envelopes, new ones too, that are to be sent


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


def last_told(unit: Unit, kind: str, abouts: Sequence[str]) -> Mapping[str, Instant]:
    """Return when a message of a kind was written last about each of these; those without one are not in it."""
    about = notify_message.c.about
    query = sa.select(about, sa.func.max(notify_message.c.at).label("at"))
    query = query.where(about.in_(abouts), notify_message.c.kind == kind).group_by(about)
    return {row.about: row.at for row in unit.execute(query)} if abouts else {}


def without_waiting(unit: Unit, drafts: Sequence[Draft]) -> list[Draft]:
    """Return the drafts but those about which a message waits for the same place already."""
    columns = notify_message.c.channel, notify_message.c.place, notify_message.c.kind, notify_message.c.about
    abouts = sorted({each.about for each in drafts})
    query = sa.select(*columns).where(notify_message.c.about.in_(abouts), notify_message.c.state == WAITING)
    waiting = {tuple(row) for row in unit.execute(query)} if abouts else set()
    return [each for each in drafts if (each.channel, each.place, each.kind, each.about) not in waiting]


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


def plan(unit: Unit, channel: str, *, now: Instant, per_minute_max: int, limit: int) -> Plan:
    """Return what is to be done for a channel; the message texts are not read.

    A place gets ``per_minute_max`` envelopes in a minute: what does not fit goes as one, or waits until one does. A
    place that has no room left costs a count, whatever waits for it.

    Args:
        unit: only read from.
        channel: ``mail`` or ``chat``.
        now: the current instant.
        per_minute_max: see above.
        limit: most envelopes that are to be sent.
    """
    moot: list[int] = []
    parts: list[list[int]] = []
    for place in _places(unit, channel, now):
        room = per_minute_max - _recent(unit, channel, place, now)
        if room <= 0:
            continue
        mine = notify_message.c.place == place, notify_message.c.envelope.is_(None)
        query = _due(channel, now, notify_message.c.seq, _DECIDED).where(*mine).order_by(notify_message.c.seq)
        found = unit.execute(query.limit(TOGETHER_MAX)).all()
        moot += [row.seq for row in found if row.decided]
        loose = [row.seq for row in found if not row.decided]
        parts += [[seq] for seq in loose] if len(loose) <= room else [loose]
        if len(parts) >= limit or len(moot) >= TOGETHER_MAX:
            break  # the rest in the next step
    of = notify_message.c.envelope
    ready = _due(channel, now, of).where(of.is_not(None)).group_by(of).order_by(of).limit(limit)
    numbers = [int(each) for each in unit.execute(ready).scalars()]
    again = _due(channel, now, notify_message.c.seq).where(of.in_(numbers), _DECIDED.element)
    moot += unit.execute(again).scalars() if numbers else []
    return Plan(moot=moot, parts=parts[:limit], numbers=[*numbers, *(part[0] for part in parts)][:limit])


def pack(unit: Unit, plan: Plan, *, now: Instant) -> None:
    """Put messages into envelopes, in which they stay, and drop those that nobody needs any more."""
    for at in range(0, len(plan.moot), TOGETHER_MAX):
        gone = notify_message.c.seq.in_(plan.moot[at : at + TOGETHER_MAX])
        unit.execute(sa.update(notify_message).where(gone).values(state=MOOT, ended_at=now))
    for part in plan.parts:
        unit.execute(sa.update(notify_message).where(notify_message.c.seq.in_(part)).values(envelope=part[0]))


def envelopes(unit: Unit, channel: str, numbers: Sequence[int], *, now: Instant) -> list[Envelope]:
    """Return those of these envelopes that are to be sent now, oldest first."""
    found: dict[int, list[Row]] = {}
    query = _due(channel, now, notify_message).where(notify_message.c.envelope.in_(numbers))
    for row in unit.execute(query.order_by(notify_message.c.seq)):
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


_DECIDED = sa.case(
    (
        notify_message.c.kind == APPROVAL,
        ~sa.exists().where(approval.c.id == notify_message.c.about, approval.c.status == "Pending"),
    ),
    (
        notify_message.c.kind == STORM,
        ~sa.exists().where(approval.c.initiator_id == notify_message.c.about, approval.c.status == "Pending"),
    ),
    else_=sa.false(),
).label("decided")


def _due(channel: str, now: Instant, *columns: Any) -> sa.Select[Any]:
    mine = notify_message.c.channel == channel, notify_message.c.state == WAITING
    return sa.select(*columns).where(*mine, notify_message.c.due_at <= now)


def _places(unit: Unit, channel: str, now: Instant) -> Sequence[str]:
    """Return the places for which messages wait that are in no envelope, the longest waiting first."""
    query = _due(channel, now, notify_message.c.place).where(notify_message.c.envelope.is_(None))
    query = query.group_by(notify_message.c.place).order_by(sa.func.min(notify_message.c.seq))
    return unit.execute(query).scalars().all()


def _recent(unit: Unit, channel: str, place: str, now: Instant) -> int:
    """Return how many envelopes went to a place in the last minute, or wait to be sent again."""
    here = notify_message.c.channel == channel, notify_message.c.place == place
    query = sa.select(sa.func.count(notify_message.c.envelope.distinct())).where(*here)
    sent = notify_message.c.state == SENT, notify_message.c.ended_at > now - MINUTE
    wait = notify_message.c.state == WAITING, notify_message.c.ended_at.is_(None)
    return sum(int(unit.execute(query.where(*each)).scalar_one()) for each in (sent, wait))


def mark(unit: Unit, outcomes: Mapping[int, str | None], *, now: Instant) -> list[int]:
    """Note what became of envelopes, by number: None if it was taken, else what went wrong.

    Returns:
        The numbers of those that are given up.
    """
    given_up = []
    for number, error in outcomes.items():
        where = sa.select(notify_message.c.channel, notify_message.c.place).where(notify_message.c.seq == number)
        channel, place = unit.execute(where).one()
        here = notify_message.c.channel == channel, notify_message.c.place == place, notify_message.c.ended_at.is_(None)
        mine = *here, notify_message.c.envelope == number, notify_message.c.state == WAITING
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
