"""The organization's row and its chain of records."""

import json
from collections.abc import Collection, Iterator
from typing import Any

import sqlalchemy as sa

from outlay.core.errors import InvariantBroken
from outlay.store.database import Unit
from outlay.store.schema import organization, record

_GET = sa.select(organization)
_RECORD = sa.select(record).where(record.c.hash == sa.bindparam("hash"))


def create(unit: Unit, *, org_id: str, root: str, genesis: str, money_settings: str, now: int) -> None:
    """Insert the one organization with its genesis record (canonical text) and the commit marker."""
    unit.execute(
        sa.insert(organization).values(
            id=org_id,
            epoch=1,
            root=root,
            head=root,
            head_seq=0,
            money_settings=money_settings,
            admitted=0,
            created_at=now,
        )
    )
    unit.execute(sa.insert(record).values(seq=0, hash=root, kind="genesis", subject=org_id, document=genesis, at=now))


def get(unit: Unit) -> sa.Row[Any]:
    """Return the organization's row."""
    row = unit.execute(_GET).one_or_none()
    if row is None:
        raise InvariantBroken("this database holds no organization: run outlay init")
    return row


def lock_shared(unit: Unit) -> sa.Row[Any]:
    """Take the first lock of every money unit: the organization's epoch, shared.

    On SQLite the writer holds the whole database already.
    """
    return get(unit)


def bump_epoch(unit: Unit) -> None:
    """Say that policies, people, tags or a freeze changed; taken exclusively by the caller's unit."""
    unit.execute(sa.update(organization).values(epoch=organization.c.epoch + 1))


def append_record(
    unit: Unit, *, seq: int, hash: str, prev: str, kind: str, subject: str, document: str, now: int
) -> None:
    """Append a record whose ``prev`` is the current head.

    Raises:
        InvariantBroken: the head is another one.
    """
    moved = unit.execute(
        sa.update(organization)
        .where(organization.c.head == prev, organization.c.head_seq == seq - 1)
        .values(head=hash, head_seq=seq, epoch=organization.c.epoch + 1)
    )
    if moved.rowcount != 1:
        raise InvariantBroken("a record does not follow the head")
    unit.execute(sa.insert(record).values(seq=seq, hash=hash, kind=kind, subject=subject, document=document, at=now))


def find_record(unit: Unit, hash: str) -> sa.Row[Any] | None:
    """Return the record with ``hash``, or None."""
    return unit.execute(_RECORD, {"hash": hash}).one_or_none()


def latest_record_at(unit: Unit) -> int:
    """Return the latest instant of any record."""
    found: int = unit.execute(sa.select(sa.func.max(record.c.at))).scalar_one()
    return found


def newest_at(unit: Unit, instant: int) -> sa.Row[Any] | None:
    """Return the newest record whose instant is not after ``instant``, or None."""
    query = sa.select(record).where(record.c.at <= instant).order_by(record.c.seq.desc()).limit(1)
    return unit.execute(query).one_or_none()


def record_after(unit: Unit, seq: int) -> sa.Row[Any] | None:
    """Return the record that followed the one numbered ``seq``, or None for the head."""
    return unit.execute(sa.select(record).where(record.c.seq == seq + 1)).one_or_none()


def was_changed(unit: Unit, since: str, kinds: Collection[str]) -> bool:
    """Tell whether a record of one of these kinds followed the one with hash ``since``."""
    seen = sa.select(record.c.seq).where(record.c.hash == since).scalar_subquery()
    later = sa.select(record.c.seq).where(record.c.seq > seen, record.c.kind.in_(kinds))
    return unit.execute(later.limit(1)).first() is not None


def read_records(unit: Unit) -> Iterator[dict[str, Any]]:
    """Yield every record's document in order."""
    for row in unit.execute(sa.select(record.c.document).order_by(record.c.seq)):
        yield json.loads(row.document)


def records_about(unit: Unit, subject: str) -> list[dict[str, Any]]:
    """Return the documents of every record about ``subject``, newest first."""
    query = sa.select(record.c.document).where(record.c.subject == subject).order_by(record.c.seq.desc())
    return [json.loads(row.document) for row in unit.execute(query)]


def record_texts(unit: Unit, *, after: int, limit: int) -> list[str]:
    """Return the canonical texts of up to ``limit`` records that follow the one numbered ``after``."""
    query = sa.select(record.c.document).where(record.c.seq > after).order_by(record.c.seq).limit(limit)
    return [row.document for row in unit.execute(query)]


def genesis(unit: Unit) -> dict[str, Any]:
    """Return the document of the first record."""
    document: dict[str, Any] = json.loads(
        unit.execute(sa.select(record.c.document).where(record.c.seq == 0)).scalar_one()
    )
    return document


def apply_money_settings(unit: Unit, digest: str) -> None:
    """Note the digest of the money settings that were signed."""
    unit.execute(sa.update(organization).values(money_settings=digest))
