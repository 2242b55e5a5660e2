"""Permissions (named sets of operations) and who holds them."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from outlay.store.database import Unit
from outlay.store.paging import page
from outlay.store.schema import assignment, permission

_HELD_BY = (
    sa.select(
        assignment.c.id.label("assignment_id"),
        permission.c.id.label("permission_id"),
        permission.c.name,
        permission.c.operations,
    )
    .join_from(assignment, permission, assignment.c.permission_id == permission.c.id)
    .where(assignment.c.identity_id == sa.bindparam("identity_id"), permission.c.is_archived.is_(False))
    .order_by(assignment.c.created_at)
)


def add(unit: Unit, **values: Any) -> None:
    """Insert a permission."""
    unit.execute(sa.insert(permission).values(**values))


def find(unit: Unit, permission_id: str) -> sa.Row[Any] | None:
    """Return the permission, or None."""
    return unit.execute(sa.select(permission).where(permission.c.id == permission_id)).one_or_none()


def find_by_name(unit: Unit, name: str) -> sa.Row[Any] | None:
    """Return the permission that is in use under ``name``, or None."""
    return unit.execute(
        sa.select(permission).where(permission.c.name == name, permission.c.is_archived.is_(False))
    ).first()


def update(unit: Unit, permission_id: str, **values: Any) -> None:
    """Change columns of a permission."""
    unit.execute(sa.update(permission).where(permission.c.id == permission_id).values(**values))


def list_page(unit: Unit, *, limit: int | None, token: str | None) -> tuple[Sequence[sa.Row[Any]], str | None]:
    """Return one page of permissions."""
    return page(
        unit,
        sa.select(permission).where(permission.c.is_archived.is_(False)),
        order=permission.c.created_at,
        key=permission.c.id,
        limit=limit,
        token=token,
    )


def assign(unit: Unit, **values: Any) -> None:
    """Insert an assignment."""
    unit.execute(sa.insert(assignment).values(**values))


def find_assignment(unit: Unit, assignment_id: str) -> sa.Row[Any] | None:
    """Return the assignment, or None."""
    return unit.execute(sa.select(assignment).where(assignment.c.id == assignment_id)).one_or_none()


def find_assignment_of(unit: Unit, permission_id: str, identity_id: str) -> sa.Row[Any] | None:
    """Return the assignment of this permission to this identity, or None."""
    return unit.execute(
        sa.select(assignment).where(
            assignment.c.permission_id == permission_id, assignment.c.identity_id == identity_id
        )
    ).one_or_none()


def assignments(
    unit: Unit, permission_id: str, *, limit: int | None, token: str | None
) -> tuple[Sequence[sa.Row[Any]], str | None]:
    """Return one page of the assignments of a permission."""
    return page(
        unit,
        sa.select(assignment).where(assignment.c.permission_id == permission_id),
        order=assignment.c.created_at,
        key=assignment.c.id,
        limit=limit,
        token=token,
    )


def holders(unit: Unit, permission_id: str) -> Sequence[str]:
    """Return the ids of everybody who holds a permission."""
    return (
        unit.execute(sa.select(assignment.c.identity_id).where(assignment.c.permission_id == permission_id))
        .scalars()
        .all()
    )


def revoke(unit: Unit, assignment_id: str) -> None:
    """Delete an assignment."""
    unit.execute(sa.delete(assignment).where(assignment.c.id == assignment_id))


def held_by(unit: Unit, identity_id: str) -> Sequence[Any]:
    """Return (assignment_id, permission_id, name, operations) of every live permission of an identity."""
    return unit.execute(_HELD_BY, {"identity_id": identity_id}).all()


def operations_of(unit: Unit, identity_id: str) -> frozenset[str]:
    """Return every operation an identity may call."""
    return frozenset(operation for row in held_by(unit, identity_id) for operation in row.operations)


def operations_in(unit: Unit, permission_id: str) -> frozenset[str]:
    """Return the operations of a permission; none once it is archived."""
    row = find(unit, permission_id)
    return frozenset() if row is None or row.is_archived else frozenset(row.operations)
