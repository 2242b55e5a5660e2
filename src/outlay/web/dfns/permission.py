"""Permissions and assignments."""

from typing import Any

from litestar import Controller, delete, get, post, put

from outlay.actions import permissions as actions
from outlay.actions import present, present_changes
from outlay.core.errors import InvalidInput, NotFound
from outlay.store import permissions
from outlay.web.body import Label, StrictRequest
from outlay.web.dfns.identity import Body
from outlay.web.gate import Gate, page_arguments


class CreatePermission(Body):
    """A named set of operations."""

    name: Label
    operations: list[str]


class UpdatePermission(Body):
    """What may change of a permission."""

    name: Label | None = None
    operations: list[str] | None = None


class ArchivePermission(Body):
    """Only ``true`` is offered: archived permissions stay archived."""

    isArchived: bool


class CreateAssignment(Body):
    """Who is given the permission."""

    identityId: str


class PermissionController(Controller):
    """``/permissions``."""

    path = "/permissions"
    tags = ("Permissions",)

    @get(summary="List permissions")
    async def list_(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return one page of permissions."""
        page = page_arguments(request)

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            rows, token = permissions.list_page(unit, **page)
            return present.page([present.permission(row) for row in rows], token)

        return await gate.read(request, "Permissions:Read", read)

    @post(status_code=200, summary="Create a permission")
    async def create(self, request: StrictRequest, data: CreatePermission, gate: Gate) -> dict[str, Any]:
        """Create a named set of operations."""
        return await gate.write(
            request,
            "Permissions:Create",
            lambda act: actions.create(act, name=data.name, operations=data.operations),
        )

    @get("/{permission_id:str}", summary="Read a permission")
    async def read(self, request: StrictRequest, permission_id: str, gate: Gate) -> dict[str, Any]:
        """Return one permission."""

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            row = permissions.find(unit, permission_id)
            if row is None:
                raise NotFound("no such permission")
            return {**present.permission(row), **present_changes.pending(unit, permission_id)}

        return await gate.read(request, "Permissions:Read", read)

    @put("/{permission_id:str}", summary="Change a permission")
    async def update(
        self, request: StrictRequest, permission_id: str, data: UpdatePermission, gate: Gate
    ) -> dict[str, Any]:
        """Rename a permission or replace its operations."""
        return await gate.write(
            request,
            "Permissions:Update",
            lambda act: actions.update(act, permission_id, name=data.name, operations=data.operations),
        )

    @put("/{permission_id:str}/archive", summary="Archive a permission")
    async def archive(
        self, request: StrictRequest, permission_id: str, data: ArchivePermission, gate: Gate
    ) -> dict[str, Any]:
        """Take a permission out of use."""
        if not data.isArchived:
            raise InvalidInput("an archived permission stays archived: create another", field="isArchived")
        return await gate.write(request, "Permissions:Delete", lambda act: actions.archive(act, permission_id))

    @delete("/{permission_id:str}", status_code=200, summary="Delete a permission")
    async def remove(self, request: StrictRequest, permission_id: str, gate: Gate) -> dict[str, Any]:
        """Take a permission out of use."""
        await request.expect_empty()
        return await gate.write(request, "Permissions:Delete", lambda act: actions.archive(act, permission_id))

    @get("/{permission_id:str}/assignments", summary="List assignments")
    async def assignments(self, request: StrictRequest, permission_id: str, gate: Gate) -> dict[str, Any]:
        """Return who holds a permission."""
        page = page_arguments(request)

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            if permissions.find(unit, permission_id) is None:
                raise NotFound("no such permission")
            rows, token = permissions.assignments(unit, permission_id, **page)
            return present.page(
                [{**present.assignment(row), **present_changes.pending_revocation(unit, row)} for row in rows], token
            )

        return await gate.read(request, "Permissions:Assignments:Read", read)

    @post("/{permission_id:str}/assignments", status_code=200, summary="Assign a permission")
    async def assign(
        self, request: StrictRequest, permission_id: str, data: CreateAssignment, gate: Gate
    ) -> dict[str, Any]:
        """Give a permission to a person or service account."""
        return await gate.write(
            request,
            "Permissions:Assign",
            lambda act: actions.assign(act, permission_id, identity_id=data.identityId),
        )

    @delete("/{permission_id:str}/assignments/{assignment_id:str}", status_code=200, summary="Revoke a permission")
    async def revoke(
        self, request: StrictRequest, permission_id: str, assignment_id: str, gate: Gate
    ) -> dict[str, Any]:
        """Take a permission away again."""
        await request.expect_empty()
        return await gate.write(
            request, "Permissions:Revoke", lambda act: actions.revoke(act, permission_id, assignment_id)
        )
