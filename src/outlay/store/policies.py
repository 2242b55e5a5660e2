"""Policies: one row a lineage, the version counts its edits."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from outlay.store.database import Unit
from outlay.store.paging import page
from outlay.store.schema import policy


def add(unit: Unit, **values: Any) -> None:
    """Insert a policy."""
    unit.execute(sa.insert(policy).values(**values))


def find(unit: Unit, policy_id: str) -> sa.Row[Any] | None:
    """Return the policy, archived ones included, or None."""
    return unit.execute(sa.select(policy).where(policy.c.id == policy_id)).one_or_none()


def update(unit: Unit, policy_id: str, **values: Any) -> None:
    """Change columns of a policy."""
    unit.execute(sa.update(policy).where(policy.c.id == policy_id).values(**values))


def active(unit: Unit) -> Sequence[sa.Row[Any]]:
    """Return every active policy."""
    return unit.execute(sa.select(policy).where(policy.c.status == "Active").order_by(policy.c.id)).all()


def list_page(
    unit: Unit, *, status: str | None, limit: int | None, token: str | None
) -> tuple[Sequence[sa.Row[Any]], str | None]:
    """Return one page of policies."""
    query = sa.select(policy)
    if status is not None:
        query = query.where(policy.c.status == status)
    return page(unit, query, order=policy.c.created_at, key=policy.c.id, limit=limit, token=token)
