"""``outlay permissions``: who may do what."""

from cyclopts import App

from outlay.cli.output import facts, said, table
from outlay.cli.profile import FROM_PROFILE, Caller, path_of
from outlay.core.errors import NotFound

permissions = App(name="permissions")


@permissions.command(name="list")
def list_permissions(*, limit: int = 100, caller: Caller = FROM_PROFILE) -> None:
    """List permissions.

    Parameters
    ----------
    limit
        how many at most.
    """
    found = list(caller.items("/permissions", limit=limit))
    columns = ("permission", "name", "operations", "")
    rows = (
        (each["id"], each["name"], len(each["operations"]), "archived" if each.get("isArchived") else None)
        for each in found
    )
    caller.tell({"items": found}, lambda: table(columns, rows, right={"operations"}, nothing="no permissions"))


@permissions.command
def show(permission: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Print a permission: what it lets do, and who has it.

    Parameters
    ----------
    permission
        id of the permission.
    """
    found = caller.read(path_of("permissions", permission))
    held = list(caller.items(path_of("permissions", permission, "assignments")))
    pairs = [("permission", found["id"]), ("name", found["name"])]
    pairs += [("lets", each) for each in found["operations"]]
    pairs += [("given to", f"{each['identityId']} by assignment {each['id']}") for each in held]
    caller.tell({**found, "assignments": held}, lambda: facts(pairs))


@permissions.command
def create(*, name: str, operation: list[str], caller: Caller = FROM_PROFILE) -> None:
    """Create a named set of operations.

    Parameters
    ----------
    name
        what people call it.
    operation
        e.g. Wallets:Transfers:Create; once for each.
    """
    made = caller.write("POST", "/permissions", {"name": name, "operations": operation})
    caller.tell(made, lambda: said(made, f"created {made['id']}"))


@permissions.command
def update(
    permission: str,
    /,
    *,
    name: str | None = None,
    operation: list[str] | None = None,
    caller: Caller = FROM_PROFILE,
) -> None:
    """Rename a permission, or replace all its operations.

    Parameters
    ----------
    permission
        id of the permission.
    name
        what people call it from now on.
    operation
        e.g. Wallets:Transfers:Create; once for each, and no others.
    """
    given = {"name": name, "operations": operation}
    body = {key: value for key, value in given.items() if value is not None}
    made = caller.write("PUT", path_of("permissions", permission), body)
    caller.tell(made, lambda: said(made, f"changed {permission}"))


@permissions.command
def archive(permission: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Take a permission out of use: nobody has it any more.

    Parameters
    ----------
    permission
        id of the permission.
    """
    made = caller.write("PUT", path_of("permissions", permission, "archive"), {"isArchived": True})
    caller.tell(made, said(made, f"{permission} is archived"))


@permissions.command
def assign(permission: str, identity: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Give a permission to a person or service account.

    Parameters
    ----------
    permission
        id of the permission.
    identity
        id of the person or service account.
    """
    made = caller.write("POST", path_of("permissions", permission, "assignments"), {"identityId": identity})
    caller.tell(made, lambda: said(made, f"{identity} has it, by assignment {made['id']}"))


@permissions.command
def revoke(permission: str, identity: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Take a permission away again.

    Parameters
    ----------
    permission
        id of the permission.
    identity
        id of the person or service account.
    """
    caller.expect_key()
    held = caller.items(path_of("permissions", permission, "assignments"))
    found = [each["id"] for each in held if identity in (each["identityId"], each["id"])]
    if not found:
        raise NotFound(f"{identity} does not have it", hint=f"See who has: outlay permissions show {permission}")
    made = caller.write("DELETE", path_of("permissions", permission, "assignments", found[0]))
    caller.tell(made, said(made, f"{identity} no longer has it"))
