"""Approvals and the decisions of people."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from outlay.store.database import Unit
from outlay.store.paging import page
from outlay.store.schema import approval, change_request, decision, user

_OF_MANY = sa.select(approval).where(approval.c.transfer_id.in_(sa.bindparam("ids", expanding=True)))


def add(unit: Unit, **values: Any) -> None:
    """Insert an approval."""
    unit.execute(sa.insert(approval).values(**values))


def add_many(unit: Unit, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert approvals that have the same columns."""
    if rows:
        unit.execute(sa.insert(approval), rows)


def find(unit: Unit, approval_id: str) -> sa.Row[Any] | None:
    """Return the approval, or None."""
    return unit.execute(sa.select(approval).where(approval.c.id == approval_id)).one_or_none()


def find_of(unit: Unit, transfer_id: str) -> sa.Row[Any] | None:
    """Return the approval of a transfer, or None."""
    return unit.execute(sa.select(approval).where(approval.c.transfer_id == transfer_id)).one_or_none()


def of_many(unit: Unit, transfer_ids: Sequence[str]) -> dict[str, sa.Row[Any]]:
    """Return the approvals of transfers, by transfer id; without those that have none."""
    if not transfer_ids:
        return {}
    return {row.transfer_id: row for row in unit.execute(_OF_MANY, {"ids": list(transfer_ids)})}


def update(unit: Unit, approval_id: str, **values: Any) -> None:
    """Change columns of an approval."""
    unit.execute(sa.update(approval).where(approval.c.id == approval_id).values(**values))


def pending(unit: Unit) -> Sequence[sa.Row[Any]]:
    """Return every approval that waits for people."""
    return unit.execute(sa.select(approval).where(approval.c.status == "Pending")).all()


def pending_page(unit: Unit, *, after: str, limit: int, without: Collection[str] = ()) -> Sequence[sa.Row[Any]]:
    """Return approvals that wait for people, in the order of their ids, beyond ``after``.

    Those of payouts of the users in ``without`` are left out.
    """
    query = sa.select(approval).where(approval.c.status == "Pending", approval.c.id > after)
    if without:
        query = query.where(approval.c.change_id.is_not(None) | approval.c.initiator_id.not_in(sorted(without)))
    return unit.execute(query.order_by(approval.c.id).limit(limit)).all()


def crowds(unit: Unit, *, more_than: int) -> Sequence[sa.Row[Any]]:
    """Return ``initiator_id``, ``number`` and ``newest`` (instant) of users more than so many of whose payouts wait."""
    columns = sa.func.count().label("number"), sa.func.max(approval.c.created_at).label("newest")
    return unit.execute(
        sa.select(approval.c.initiator_id, *columns)
        .where(approval.c.status == "Pending", approval.c.transfer_id.is_not(None))
        .group_by(approval.c.initiator_id)
        .having(sa.func.count() > more_than)
        .order_by(approval.c.initiator_id)
    ).all()


def crowd(unit: Unit, initiator_id: str, *, limit: int) -> tuple[Sequence[sa.Row[Any]], Sequence[sa.Row[Any]]]:
    """Return the oldest approvals that a user's payouts wait for, and one of each set of groups that is asked."""
    mine = approval.c.status == "Pending", approval.c.transfer_id.is_not(None), approval.c.initiator_id == initiator_id
    oldest = sa.select(approval).where(*mine).order_by(approval.c.created_at, approval.c.id).limit(limit)
    one = sa.select(sa.func.min(approval.c.id)).where(*mine).group_by(approval.c.groups_digest)
    return unit.execute(oldest).all(), unit.execute(sa.select(approval).where(approval.c.id.in_(one))).all()


def expired(unit: Unit, *, now: int, limit: int) -> Sequence[sa.Row[Any]]:
    """Return pending approvals whose time has run out; a change that was agreed on in time is not one of them."""
    agreed = sa.exists().where(change_request.c.id == approval.c.change_id, change_request.c.due_at.is_not(None))
    return unit.execute(
        sa.select(approval).where(approval.c.status == "Pending", approval.c.expires_at <= now, ~agreed).limit(limit)
    ).all()


def list_page(
    unit: Unit,
    *,
    status: str | None,
    initiator_id: str | None,
    approver_id: str | None,
    limit: int | None,
    token: str | None,
) -> tuple[Sequence[sa.Row[Any]], str | None]:
    """Return one page of approvals; ``approver_id`` keeps those whose groups this user is in, or decided on."""
    query = sa.select(approval)
    if status is not None:
        query = query.where(approval.c.status == status)
    if initiator_id is not None:
        query = query.where(approval.c.initiator_id == initiator_id)
    if approver_id is not None:
        decided = sa.select(decision.c.approval_id).where(decision.c.user_id == approver_id)
        query = query.where(sa.or_(_asks(approver_id), approval.c.id.in_(decided)))
    return page(unit, query, order=approval.c.created_at, key=approval.c.id, limit=limit, token=token)


def _asks(user_id: str) -> sa.ColumnElement[bool]:
    """Tell whether the groups list a user, or ask any person and this is one. Groups are compact JSON text."""
    text = sa.type_coerce(approval.c.groups, sa.Text)
    human = sa.exists().where(user.c.id == user_id, user.c.is_service_account.is_(False))
    listed = text.contains(json.dumps(user_id), autoescape=True)
    return sa.or_(listed, sa.and_(text.contains('"approvers":{},'), human))


def add_decision(unit: Unit, **values: Any) -> None:
    """Keep one person's answer."""
    unit.execute(sa.insert(decision).values(**values))


def void_decisions(unit: Unit, approval_id: str) -> None:
    """Have no decision made so far count any more, whatever groups are asked later."""
    void = sa.literal("void ") + decision.c.id
    unit.execute(sa.update(decision).where(decision.c.approval_id == approval_id).values(groups_digest=void))


def decisions(unit: Unit, approval_id: str) -> Sequence[sa.Row[Any]]:
    """Return every decision on an approval, oldest first, those on earlier groups included."""
    return unit.execute(sa.select(decision).where(decision.c.approval_id == approval_id).order_by(decision.c.at)).all()
