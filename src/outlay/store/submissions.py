"""Files of payouts: what was signed, their rows, and what became of each."""

import json
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from outlay.core.seams import Instant
from outlay.core.transfer import RESTORED
from outlay.store.database import Row, Unit
from outlay.store.paging import page
from outlay.store.schema import approval, decision, transfer
from outlay.store.schema_submissions import submission, submission_decision, submission_row

UPLOADING, ADMITTING, DONE, REFUSED, CANCELED = "uploading", "admitting", "done", "refused", "canceled"
STATES = (UPLOADING, ADMITTING, DONE, REFUSED, CANCELED)
OPEN = (UPLOADING, ADMITTING)
UNPRICED = ""
"""In the place of what a file is worth: of a payout in it no price was known."""

WAITING = "waiting"
"""State of a row that was not looked at yet."""

_CHUNK = 10_000
_FIND = sa.select(submission).where(submission.c.id == sa.bindparam("id"))
_NOTE = (
    sa.update(submission_row)
    .where(submission_row.c.submission_id == sa.bindparam("of"), submission_row.c.place == sa.bindparam("at"))
    .values(payout_id=sa.bindparam("paid_by"), error=sa.bindparam("why"))
)


def add(unit: Unit, **values: Any) -> None:
    """Insert a file of which no row is here yet."""
    begun = {"uploaded": 0, "frontier": [], "totals": {}, "admitted": 0, "refused": 0, "value": "0", "is_kept": True}
    unit.execute(sa.insert(submission).values(**begun, **values))


def find(unit: Unit, submission_id: str) -> Row | None:
    """Return the file, or None."""
    return unit.execute(_FIND, {"id": submission_id}).one_or_none()


def get(unit: Unit, submission_id: str) -> Row:
    """Return the file, which is there."""
    return unit.execute(_FIND, {"id": submission_id}).one()


def update(unit: Unit, submission_id: str, **values: Any) -> None:
    """Change columns of a file."""
    unit.execute(sa.update(submission).where(submission.c.id == submission_id).values(**values))


def find_same(unit: Unit, *, initiator_id: str, digest: str) -> Sequence[Row]:
    """Return the files with these rows that the same one submitted, newest first."""
    query = sa.select(submission).where(submission.c.initiator_id == initiator_id, submission.c.digest == digest)
    return unit.execute(query.order_by(submission.c.created_at.desc(), submission.c.id.desc())).all()


def is_doubted(unit: Unit, submission_id: str) -> bool:
    """Tell whether a payout of a file waits to be asked for again since an older copy was restored."""
    query = (
        sa.select(submission_row.c.place)
        .join_from(submission_row, transfer, transfer.c.id == submission_row.c.payout_id)
        .where(submission_row.c.submission_id == submission_id, transfer.c.flag == RESTORED)
    )
    return unit.execute(query.limit(1)).one_or_none() is not None


def end_open(unit: Unit, *, reason: str, now: Instant) -> None:
    """Refuse every file that has not ended: nothing more of it is asked for."""
    values = {"state": REFUSED, "reason": reason, "ended_at": now}
    unit.execute(sa.update(submission).where(submission.c.state.in_(OPEN)).values(**values))


def count_uploading(unit: Unit, initiator_id: str) -> int:
    """Return how many files of a user are not here whole."""
    query = sa.select(sa.func.count()).where(submission.c.state == UPLOADING, submission.c.initiator_id == initiator_id)
    return int(unit.execute(query).scalar_one())


def listed(unit: Unit, *, state: str | None, limit: int | None, token: str | None) -> tuple[Sequence[Row], str | None]:
    """Return one page of files, newest first."""
    query = sa.select(submission)
    if state is not None:
        query = query.where(submission.c.state == state)
    return page(unit, query, order=submission.c.created_at, key=submission.c.id, limit=limit, token=token)


# rows


def add_rows(unit: Unit, submission_id: str, *, first: int, rows: Sequence[tuple[str, bytes]]) -> None:
    """Insert rows that follow each other: the canonical text and the leaf of each."""
    if rows:
        values = [
            {"submission_id": submission_id, "place": first + at, "item": item, "leaf": leaf}
            for at, (item, leaf) in enumerate(rows)
        ]
        unit.execute(sa.insert(submission_row), values)


def rows(unit: Unit, submission_id: str, *, first: int, limit: int) -> list[Row]:
    """Return rows from a place on."""
    query = sa.select(submission_row).where(
        submission_row.c.submission_id == submission_id, submission_row.c.place >= first
    )
    return list(unit.execute(query.order_by(submission_row.c.place).limit(limit)))


def leaves(unit: Unit, submission_id: str) -> bytes:
    """Return the leaves of all rows, one after the other."""
    found = bytearray()
    for first in range(0, 1_000_000_000, _CHUNK):
        query = sa.select(submission_row.c.leaf).where(
            submission_row.c.submission_id == submission_id,
            submission_row.c.place >= first,
            submission_row.c.place < first + _CHUNK,
        )
        part = b"".join(unit.execute(query.order_by(submission_row.c.place)).scalars())
        found += part
        if len(part) < 32 * _CHUNK:
            break
    return bytes(found)


def find_twice(unit: Unit, submission_id: str) -> tuple[int, int] | None:
    """Return the places of the first two rows of a file with the same reference, or None."""
    places: dict[str, int] = {}
    for first in range(0, 1_000_000_000, _CHUNK):
        query = sa.select(submission_row.c.place, submission_row.c.item).where(
            submission_row.c.submission_id == submission_id,
            submission_row.c.place >= first,
            submission_row.c.place < first + _CHUNK,
        )
        part = unit.execute(query.order_by(submission_row.c.place)).all()
        for place, item in part:
            before = places.setdefault(json.loads(item)["externalId"], place)
            if before != place:
                return before, place
        if len(part) < _CHUNK:
            break
    return None


def note(unit: Unit, submission_id: str, outcomes: Sequence[tuple[int, str | None, Any]]) -> None:
    """Keep what became of rows: the place, the payout that it is, and why it was refused."""
    if outcomes:
        values = [
            {"of": submission_id, "at": place, "paid_by": payout, "why": error} for place, payout, error in outcomes
        ]
        unit.execute(_NOTE, values)


def outcomes(unit: Unit, submission_id: str, *, first: int, limit: int, state: str | None = None) -> list[Row]:
    """Return rows from a place on with what became of them.

    Args:
        unit: the unit.
        submission_id: of the file.
        first: place of the first one.
        limit: rows at most.
        state: ``waiting``, ``refused``, or the state of a payout; None: any.

    Returns:
        rows of ``place``, ``item``, ``payout_id``, ``error``, and of the payout ``state``, ``tx_hash``, ``reason``.
    """
    query = (
        sa.select(
            submission_row.c.place,
            submission_row.c.item,
            submission_row.c.payout_id,
            submission_row.c.error,
            transfer.c.state,
            transfer.c.tx_hash,
            transfer.c.reason,
        )
        .outerjoin_from(submission_row, transfer, transfer.c.id == submission_row.c.payout_id)
        .where(submission_row.c.submission_id == submission_id, submission_row.c.place >= first)
    )
    if state == WAITING:
        query = query.where(submission_row.c.payout_id.is_(None), submission_row.c.error.is_(None))
    elif state == REFUSED:
        query = query.where(submission_row.c.error.is_not(None))
    elif state is not None:
        query = query.where(transfer.c.state == state)
    return list(unit.execute(query.order_by(submission_row.c.place).limit(limit)))


def states(unit: Unit, submission_id: str) -> dict[str, int]:
    """Return how many payouts of a file's rows are in each state."""
    query = (
        sa.select(transfer.c.state, sa.func.count())
        .join_from(submission_row, transfer, transfer.c.id == submission_row.c.payout_id)
        .where(submission_row.c.submission_id == submission_id)
        .group_by(transfer.c.state)
        .order_by(transfer.c.state)
    )
    return {str(state): int(number) for state, number in unit.execute(query)}


def drop_rows(unit: Unit, submission_id: str, *, first: int, limit: int) -> int:
    """Drop the last rows of a file, none before a place; return how many."""
    mine = submission_row.c.submission_id == submission_id, submission_row.c.place >= first
    last = unit.execute(sa.select(sa.func.max(submission_row.c.place)).where(*mine)).scalar()
    if last is None:
        return 0
    return unit.execute(sa.delete(submission_row).where(*mine, submission_row.c.place > last - limit)).rowcount


# what is to be done


def admitting(unit: Unit) -> list[str]:
    """Return the ids of files whose rows are being admitted, in their order."""
    query = sa.select(submission.c.id).where(submission.c.state == ADMITTING)
    return list(unit.execute(query.order_by(submission.c.id)).scalars())


def abandoned(unit: Unit, *, before: Instant) -> Sequence[Row]:
    """Return files of which nothing was uploaded since."""
    query = sa.select(submission).where(submission.c.state == UPLOADING, submission.c.touched_at < before)
    return unit.execute(query.order_by(submission.c.id)).all()


def dropped(unit: Unit) -> Sequence[Row]:
    """Return files that were refused or canceled and whose rows that were not looked at are still here."""
    ended = submission.c.state.in_((REFUSED, CANCELED))
    query = sa.select(submission).where(ended, submission.c.is_kept.is_(True))
    return unit.execute(query.order_by(submission.c.id)).all()


# decisions about the whole


def add_decision(unit: Unit, **values: Any) -> None:
    """Insert a decision that was carried out for no payout yet."""
    unit.execute(sa.insert(submission_decision).values(settled=0, **values))


def unsettled(unit: Unit, submission_id: str | None = None) -> Sequence[Row]:
    """Return decisions that are to be carried out, oldest first."""
    query = sa.select(submission_decision).where(submission_decision.c.settled_at.is_(None))
    if submission_id is not None:
        query = query.where(submission_decision.c.submission_id == submission_id)
    return unit.execute(query.order_by(submission_decision.c.at, submission_decision.c.id)).all()


def update_decision(unit: Unit, decision_id: str, **values: Any) -> None:
    """Change columns of a decision."""
    unit.execute(sa.update(submission_decision).where(submission_decision.c.id == decision_id).values(**values))


def has_decided(unit: Unit, submission_id: str, *, user_id: str, groups_digest: str) -> bool:
    """Tell whether a user's decision about these groups is still being carried out."""
    return any((row.user_id, row.groups_digest) == (user_id, groups_digest) for row in unsettled(unit, submission_id))


def asked(unit: Unit, submission_id: str, *, user_id: str, now: Instant) -> Sequence[Row]:
    """Return which groups a file's payouts wait for that a user has not answered yet.

    Returns:
        rows of ``groups_digest``, ``approval_id`` (of one of them) and ``number``, the first payout's groups first.
    """
    query = (
        sa.select(
            approval.c.groups_digest,
            sa.func.min(approval.c.id).label("approval_id"),
            sa.func.count().label("number"),
            sa.func.min(transfer.c.id).label("first"),
        )
        .join_from(transfer, approval, approval.c.transfer_id == transfer.c.id)
        .where(*_open_of(submission_id, user_id=user_id, now=now))
        .group_by(approval.c.groups_digest)
    )
    return unit.execute(query.order_by(sa.text("first"))).all()


def with_waiting(unit: Unit, *, limit: int) -> Sequence[Row]:
    """Return files some of whose payouts wait for people, the newest first."""
    waits = sa.exists().where(
        transfer.c.batch_id == submission.c.id, approval.c.transfer_id == transfer.c.id, approval.c.status == "Pending"
    )
    query = sa.select(submission).where(waits, submission.c.state.not_in(OPEN))
    return unit.execute(query.order_by(submission.c.created_at.desc(), submission.c.id).limit(limit)).all()


def to_settle(
    unit: Unit, submission_id: str, *, user_id: str, groups_digest: str, first: int, now: Instant, limit: int
) -> list[tuple[int, Row]]:
    """Return approvals that a decision is to be carried out for, with the places of their rows, from a place on."""
    query = (
        sa.select(approval, submission_row.c.place)
        .join_from(submission_row, transfer, transfer.c.id == submission_row.c.payout_id)
        .join(approval, approval.c.transfer_id == transfer.c.id)
        .where(
            submission_row.c.submission_id == submission_id,
            submission_row.c.place >= first,
            approval.c.groups_digest == groups_digest,
            *_open_of(submission_id, user_id=user_id, now=now),
        )
    )
    return [(row.place, row) for row in unit.execute(query.order_by(submission_row.c.place).limit(limit))]


def _open_of(submission_id: str, *, user_id: str, now: Instant) -> Collection[Any]:
    mine = sa.exists().where(
        decision.c.approval_id == approval.c.id,
        decision.c.user_id == user_id,
        decision.c.groups_digest == approval.c.groups_digest,
    )
    return (
        transfer.c.batch_id == submission_id,
        approval.c.status == "Pending",
        approval.c.expires_at.is_(None) | (approval.c.expires_at > now),
        ~mine,
    )
