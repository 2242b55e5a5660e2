"""Permissions and who holds them. Every change is a signed record."""

from typing import Any

from outlay.actions import present
from outlay.actions.act import Act
from outlay.actions.settle import settle_open
from outlay.core import ids
from outlay.core.errors import Conflict, InvalidInput, NotFound, PreconditionFailed
from outlay.core.operation import parse_operations
from outlay.store import permissions, users
from outlay.store.database import Row


def create(act: Act, *, name: str, operations: list[str]) -> dict[str, Any]:
    """Create a named set of operations."""
    _check_name(act, name)
    names = parse_operations(operations)
    act.caller.require_to_give(names)
    permission_id = act.new_id(ids.PERMISSION)
    act.record("permission.created", permission_id, {"name": name, "operations": names})
    permissions.add(
        act.unit,
        id=permission_id,
        name=name,
        operations=names,
        is_immutable=False,
        is_archived=False,
        created_at=act.now,
        updated_at=act.now,
    )
    act.result_id = permission_id
    return present.permission(get(act, permission_id))


def _check_name(act: Act, name: str) -> None:
    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise InvalidInput("must be 1 to 200 printable characters", field="name")
    if permissions.find_by_name(act.unit, name) is not None:
        raise Conflict("a permission with this name exists already", field="name")


def get(act: Act, permission_id: str) -> Row:
    """Return a permission that is in use.

    Raises:
        NotFound: there is none.
    """
    row = permissions.find(act.unit, permission_id)
    if row is None or row.is_archived:
        raise NotFound("no such permission")
    return row


def update(act: Act, permission_id: str, *, name: str | None, operations: list[str] | None) -> dict[str, Any]:
    """Rename a permission or replace its operations."""
    row = get(act, permission_id)
    _refuse_immutable(row)
    if name is not None and name != row.name:
        _check_name(act, name)
    names = row.operations if operations is None else parse_operations(operations)
    act.caller.require_to_give(names)
    act.record("permission.updated", permission_id, {"name": name or row.name, "operations": names})
    permissions.update(act.unit, permission_id, name=name or row.name, operations=names, updated_at=act.now)
    for holder in permissions.holders(act.unit, permission_id):
        settle_open(act.work, holder)
    act.result_id = permission_id
    return present.permission(get(act, permission_id))


def archive(act: Act, permission_id: str) -> dict[str, Any]:
    """Take a permission out of use; nobody holds it any more."""
    row = get(act, permission_id)
    _refuse_immutable(row)
    act.record("permission.archived", permission_id, {})
    permissions.update(act.unit, permission_id, is_archived=True, updated_at=act.now)
    act.result_id = permission_id
    return {**present.permission(row), "isArchived": True}


def _refuse_immutable(row: Row) -> None:
    if row.is_immutable:
        raise PreconditionFailed(f"{row.name} belongs to the system and cannot be changed")


def assign(act: Act, permission_id: str, *, identity_id: str) -> dict[str, Any]:
    """Give a permission to a person or service account."""
    act.caller.require_to_give(get(act, permission_id).operations)
    if users.find(act.unit, identity_id) is None:
        raise InvalidInput("names no user or service account", field="identityId")
    if permissions.find_assignment_of(act.unit, permission_id, identity_id) is not None:
        raise Conflict("this identity holds the permission already", field="identityId")
    assignment_id = act.new_id(ids.ASSIGNMENT)
    act.record("permission.assigned", permission_id, {"assignmentId": assignment_id, "identityId": identity_id})
    permissions.assign(
        act.unit,
        id=assignment_id,
        permission_id=permission_id,
        identity_id=identity_id,
        is_immutable=False,
        created_at=act.now,
        updated_at=act.now,
    )
    settle_open(act.work, identity_id)  # what was decided with the permission to vote counts again
    act.result_id = assignment_id
    row = permissions.find_assignment(act.unit, assignment_id)
    assert row is not None
    return present.assignment(row)


def revoke(act: Act, permission_id: str, assignment_id: str) -> dict[str, Any]:
    """Take a permission away again."""
    row = permissions.find_assignment(act.unit, assignment_id)
    if row is None or row.permission_id != permission_id:
        raise NotFound("no such assignment")
    if row.is_immutable:
        raise PreconditionFailed("the first admin's permission cannot be revoked")
    act.record("permission.revoked", permission_id, {"assignmentId": assignment_id, "identityId": row.identity_id})
    permissions.revoke(act.unit, assignment_id)
    act.result_id = assignment_id
    return present.assignment(row)
