"""Approvals and the decisions of people."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from outlay.store.database import Unit
from outlay.store.paging import page
from outlay.store.schema import approval, change_request, decision, transfer, user
from outlay.store.schema_submissions import submission

ASKED_MAX = 10_000
"""Approvals that wait among which those that ask one person are looked for."""

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


def asking(unit: Unit, user_id: str, *, now: int, limit: int) -> Sequence[sa.Row[Any]]:
    """Return what ``board_page`` gives as ``MINE``, the first to run out first."""
    # Among so many, so that a flood costs no more.
    some = sa.select(approval.c.id).where(approval.c.status == "Pending").limit(ASKED_MAX).subquery()
    query = (
        sa.select(approval)
        .where(approval.c.id.in_(sa.select(some.c.id)), _waits_for(user_id, now), ~_of_whole_file())
        .order_by(approval.c.expires_at.is_(None), approval.c.expires_at, approval.c.created_at, approval.c.id)
    )
    return unit.execute(query.limit(limit)).all()


MINE, OTHERS, DECIDED = "mine", "others", "decided"
"""What waits for one person, what waits for others only, and what is decided."""


def board_page(
    unit: Unit, *, part: str, user_id: str, now: int, limit: int | None, token: str | None
) -> tuple[Sequence[sa.Row[Any]], str | None]:
    """Return one page of ``MINE``, ``OTHERS`` or ``DECIDED``, without what is decided about with a whole file."""
    query = sa.select(approval).where(~_of_whole_file())
    if part == DECIDED:
        query = query.where(approval.c.status != "Pending")
    else:
        mine = _waits_for(user_id, now)
        query = query.where(approval.c.status == "Pending", mine if part == MINE else ~mine)
    return page(unit, query, order=approval.c.created_at, key=approval.c.id, limit=limit, token=token)


def _waits_for(user_id: str, now: int) -> sa.ColumnElement[bool]:
    """Tell whether an approval asks a user who has not decided: about other groups than are asked now is no decision.

    Whether the user's vote would count is not looked at.
    """
    groups = sa.type_coerce(approval.c.groups, sa.Text)
    answered = sa.exists().where(
        decision.c.approval_id == approval.c.id,
        decision.c.user_id == user_id,
        decision.c.groups_digest == approval.c.groups_digest,
    )
    return sa.and_(
        _asks(user_id),
        ~answered,
        sa.or_(approval.c.initiator_id != user_id, groups.contains('"initiatorCanApprove":true')),
        sa.or_(approval.c.expires_at.is_(None), approval.c.expires_at > now),
    )


def _of_whole_file() -> sa.ColumnElement[bool]:
    """Tell whether an approval is decided about with the whole file its payout came in."""
    groups = sa.type_coerce(approval.c.groups, sa.Text)
    in_file = sa.exists().where(transfer.c.id == approval.c.transfer_id, submission.c.id == transfer.c.batch_id)
    # As many groups say that one decision may do as there are groups.
    is_whole = _times(groups, '"per":"batch"') == _times(groups, '"policyId":')
    return sa.and_(in_file, is_whole)


def _times(text: sa.ColumnElement[str], part: str) -> sa.ColumnElement[int]:
    """Tell how often a text holds a part."""
    return (sa.func.length(text) - sa.func.length(sa.func.replace(text, part, ""))) // sa.literal(len(part))


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
