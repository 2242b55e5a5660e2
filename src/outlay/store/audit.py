"""The audit log: entries added in the unit of what they tell, read back, and how far they were checked.

The head is the newest row: one writer works at a time, so the chain is a line, and a part that is undone takes its
entries along.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from outlay.core.audit import (
    BEGUN,
    CALL,
    CONTINUED,
    ENGINE,
    LOST,
    NO_ENTRY,
    SESSION_OPENED,
    Entry,
    entry_hash,
    entry_text,
    small_json,
)
from outlay.core.errors import InvariantBroken
from outlay.store.database import Unit
from outlay.store.prepared import Prepared
from outlay.store.schema import organization
from outlay.store.schema_audit import audit_entry, audit_state

FIRST = "the deployment began to keep it"
REBUILT = "the database was made anew out of the signer's journal"

ENTRY_MAX = 8192
"""Characters of an entry's text, well below what checks read (``evidence.audit_log.LINE_MAX``)."""

SCAN_MAX = 10_000
"""Entries that one page looks through: what is rare is found over several pages."""

_HEAD = sa.select(audit_entry.c.seq, audit_entry.c.hash, audit_entry.c.at).order_by(audit_entry.c.seq.desc()).limit(1)
_ADD = Prepared(sa.insert(audit_entry))
_AT = sa.select(audit_entry).where(audit_entry.c.seq == sa.bindparam("seq"))
_AFTER = (
    sa.select(audit_entry)
    .where(audit_entry.c.seq > sa.bindparam("seq"))
    .order_by(audit_entry.c.seq)
    .limit(sa.bindparam("most"))
)
_ORGANIZATION = sa.select(organization.c.id, organization.c.root, organization.c.head, organization.c.head_seq)
_STATE = sa.select(audit_state)
_BROKEN = sa.select(audit_state.c.broken)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How far the log was checked and anchored."""

    base_seq: int = 0
    base_hash: str = NO_ENTRY
    verified_seq: int = 0
    verified_hash: str = NO_ENTRY
    verified_at: int = 0
    anchored_seq: int = 0
    anchored_at: int = 0
    broken: str | None = None


def head(unit: Unit) -> sa.Row[Any] | None:
    """Return seq, hash and instant of the newest entry, or None before the first."""
    found: Any = unit.execute(_HEAD).one_or_none()
    return None if found is None else found


def add(unit: Unit, entry: Entry, *, now: int) -> int:
    """Add one entry and return its number."""
    return add_many(unit, [entry], now=now)


def add_many(unit: Unit, entries: Sequence[Entry], *, now: int) -> int:
    """Add entries in this order, and the one that begins the log before its first; return the newest number.

    Each carries ``now``, or the instant of the entry before it if that is later: the log never goes back in time.
    """
    if not entries:
        return 0
    newest = unit.execute(_HEAD).one_or_none()
    if newest is None and entries[0].action != BEGUN:
        entries = [_beginning(unit, FIRST), *entries]
    seq, prev, at = (0, NO_ENTRY, now) if newest is None else (newest.seq, newest.hash, max(now, newest.at))
    rows: list[dict[str, Any]] = []
    for actor, action, subject, before, after, evidence, request in entries:
        seq += 1
        values: dict[str, Any] = {
            "seq": seq,
            "at": at,
            "actor": actor,
            "action": action,
            "subject": subject,
            "before": small_json(before),
            "after": small_json(after),
            "evidence": evidence,
            "request": request,
        }
        text = entry_text(**values)
        if len(text) > ENTRY_MAX:
            text = _shorten(values)
        prev = entry_hash(prev, text)
        values["hash"] = prev
        rows.append(values)
    # What is empty in all of them is left out: each column costs time for each row.
    empty = [name for name in ("before", "after", "evidence", "request") if all(row[name] is None for row in rows)]
    for row in rows if empty else ():
        for name in empty:
            del row[name]
    _ADD.run(unit, rows)
    return seq


def _shorten(values: dict[str, Any]) -> str:
    """Put digests into the place of what is long, and return the entry's text.

    Raises:
        InvariantBroken: it is too long all the same.
    """
    for name in ("before", "after"):
        member = values[name]
        if member is not None and len(member) > ENTRY_MAX // 4:
            values[name] = small_json({"length": len(member), "sha256": sha256(member.encode("ascii")).hexdigest()})
    text = entry_text(**values)
    if len(text) > ENTRY_MAX:
        raise InvariantBroken(f"an entry of the audit log, {values['action']}, is longer than {ENTRY_MAX} characters")
    return text


def begin_again(unit: Unit, *, now: int) -> None:
    """Begin the log of a database that was made anew, if nothing is in it yet."""
    if head(unit) is None:
        add_many(unit, [_beginning(unit, REBUILT)], now=now)


def was_rebuilt(first: sa.Row[Any]) -> bool:
    """Tell whether the log began because its database was made anew, by its first entry."""
    return first.action == BEGUN and first.after is not None and json.loads(first.after)["why"] == REBUILT


def _beginning(unit: Unit, why: str) -> Entry:
    org = unit.execute(_ORGANIZATION).one_or_none()
    after: Mapping[str, Any] = {"why": why}
    if org is not None:
        after = {**after, "org": org.id, "root": org.root, "records": org.head_seq, "recordsHead": org.head}
    return Entry(ENGINE, BEGUN, "" if org is None else org.id, after=after)


def text_of(row: sa.Row[Any]) -> str:
    """Return the canonical text of an entry."""
    return entry_text(
        seq=row.seq,
        at=row.at,
        actor=row.actor,
        action=row.action,
        subject=row.subject,
        before=row.before,
        after=row.after,
        evidence=row.evidence,
        request=row.request,
    )


def find(unit: Unit, seq: int) -> sa.Row[Any] | None:
    """Return the entry with this number, or None."""
    return unit.execute(_AT, {"seq": seq}).one_or_none()


def after(unit: Unit, seq: int, *, limit: int) -> Sequence[sa.Row[Any]]:
    """Return up to ``limit`` entries that follow the one numbered ``seq``, in order."""
    return unit.execute(_AFTER, {"seq": seq, "most": limit}).all()


def check_after(unit: Unit, seq: int, prev: str, *, limit: int) -> tuple[int, str, str | None]:
    """Check up to ``limit`` entries that follow the one numbered ``seq`` with hash ``prev``.

    Returns:
        number and hash of the last one that is right, and what is wrong with the next, or None.
    """
    at = None
    for row in after(unit, seq, limit=limit):
        if row.seq != seq + 1:
            return seq, prev, f"entry {seq + 1} is missing: entry {row.seq} follows entry {seq}"
        if at is not None and row.at < at:
            return seq, prev, f"entry {row.seq} is older than the one before it"
        if entry_hash(prev, text_of(row)) != row.hash:
            return seq, prev, f"entry {row.seq} is not what was written: its hash is another one"
        seq, prev, at = row.seq, row.hash, row.at
    return seq, prev, None


def newest_of(unit: Unit, action: str) -> sa.Row[Any] | None:
    """Return the newest entry of this name, or None."""
    query = sa.select(audit_entry).where(audit_entry.c.action == action).order_by(audit_entry.c.seq.desc()).limit(1)
    return unit.execute(query).one_or_none()


def calls_after(unit: Unit, seq: int) -> tuple[int, bool]:
    """Return the newest number, and whether a call of somebody stands among the entries after ``seq``; negative: no."""
    newest = head(unit)
    if newest is None or seq < 0 or newest.seq <= seq:
        return 0 if newest is None else newest.seq, False
    since = max(seq, newest.seq - SCAN_MAX)
    query = sa.select(audit_entry.c.seq).where(audit_entry.c.seq > since, audit_entry.c.action == CALL).limit(1)
    return newest.seq, unit.execute(query).first() is not None


def last_acts(unit: Unit, actors: Collection[str]) -> dict[str, int]:
    """Return when each of these last did something, as far as the newest ``SCAN_MAX`` entries tell.

    That a token was made is none of its holder's acts.
    """
    newest = head(unit)
    if newest is None or not actors:
        return {}
    query = sa.select(audit_entry.c.actor, sa.func.max(audit_entry.c.at)).where(
        audit_entry.c.seq > newest.seq - SCAN_MAX,
        audit_entry.c.actor.in_(sorted(actors)),
        audit_entry.c.action != SESSION_OPENED,
    )
    return {str(actor): int(at) for actor, at in unit.execute(query.group_by(audit_entry.c.actor))}


def lost(unit: Unit) -> list[tuple[dict[str, Any], int]]:
    """Return the anchors that entries by a person, or by a server whose database was made anew, say are lost, and when.

    Goes over the whole table: only for a log that does not agree with an anchor.
    """
    query = sa.select(audit_entry.c.after, audit_entry.c.at).where(audit_entry.c.action.in_((CONTINUED, LOST)))
    named = [(json.loads(row.after or "{}").get("lost"), row.at) for row in unit.execute(query)]
    return [(anchor, at) for anchor, at in named if isinstance(anchor, dict)]


def first_since(unit: Unit, instant: int) -> int:
    """Return the number of the first entry not before ``instant``; one more than the newest if there is none."""
    newest = head(unit)
    low, high = 1, 1 if newest is None else newest.seq + 1
    while low < high:
        middle = (low + high) // 2
        row = find(unit, middle)
        if row is None or row.at < instant:
            low = middle + 1
        else:
            high = middle
    return low


def page(
    unit: Unit,
    *,
    first: int,
    last: int,
    limit: int,
    is_oldest_first: bool,
    actor: str | None = None,
    subject: str | None = None,
    action: str | None = None,
) -> tuple[Sequence[sa.Row[Any]], int | None]:
    """Return entries numbered ``first`` to ``last`` that match, and the number to go on with, or None at the end.

    A page may hold fewer than ``limit``, also none, although there are more: one looks through ``SCAN_MAX`` entries,
    unless a subject is given.

    Args:
        unit: the database unit.
        first: lowest number.
        last: highest number.
        limit: how many at most.
        is_oldest_first: in the order of the log; else the newest comes first.
        actor: only what this one did.
        subject: only what is about this.
        action: only entries of this name; one that ends in ``*`` stands for all that begin so.
    """
    if subject is None and last - first >= SCAN_MAX:
        low, high = (first, first + SCAN_MAX - 1) if is_oldest_first else (last - SCAN_MAX + 1, last)
    else:
        low, high = first, last
    query = sa.select(audit_entry).where(audit_entry.c.seq.between(low, high))
    if actor is not None:
        query = query.where(audit_entry.c.actor == actor)
    if subject is not None:
        query = query.where(audit_entry.c.subject == subject)
    if action is not None and action.endswith("*"):
        query = query.where(audit_entry.c.action.startswith(action[:-1], autoescape=True))
    elif action is not None:
        query = query.where(audit_entry.c.action == action)
    order = audit_entry.c.seq if is_oldest_first else audit_entry.c.seq.desc()
    rows = unit.execute(query.order_by(order).limit(limit + 1)).all()
    if len(rows) > limit:
        return rows[:limit], rows[limit].seq
    following = high + 1 if is_oldest_first else low - 1
    return rows, following if first <= following <= last else None


def state(unit: Unit) -> State:
    """Return how far the log was checked."""
    row = unit.execute(_STATE).one_or_none()
    if row is None:
        return State()
    return State(**{name: value for name, value in row._mapping.items() if name != "id"})


def set_state(unit: Unit, **values: Any) -> None:
    """Note how far the log was checked."""
    if unit.execute(sa.update(audit_state).values(**values)).rowcount == 0:
        known = State()
        whole = {name: getattr(known, name) for name in State.__dataclass_fields__}
        unit.execute(sa.insert(audit_state).values(id=1, **{**whole, **values}))


def why_broken(unit: Unit) -> str | None:
    """Return what a check found wrong with the log, or None."""
    found: str | None = unit.execute(_BROKEN).scalar_one_or_none()
    return found
