"""``outlay service-accounts``: programs that ask for payouts."""

from pathlib import Path
from typing import Any

from cyclopts import App

from outlay.cli.output import WrongUsage, Yes, facts, said, table
from outlay.cli.profile import FROM_PROFILE, Caller, path_of, write_private
from outlay.cli.users import told

service_accounts = App(name="service-accounts")


@service_accounts.command(name="list")
def list_accounts(*, caller: Caller = FROM_PROFILE) -> None:
    """List service accounts."""
    found = caller.read("/auth/service-accounts")["items"]
    columns = ("service account", "name", "state", "permissions")
    rows = ((_id(each), each["userInfo"]["username"], _state(each), _permissions(each)) for each in found)
    caller.tell({"items": found}, lambda: table(columns, rows, nothing="no service accounts"))


def _id(account: dict[str, Any]) -> str:
    return str(account["userInfo"]["userId"])


def _state(account: dict[str, Any]) -> str:
    return "active" if account["userInfo"]["isActive"] else "off"


def _permissions(account: dict[str, Any]) -> str:
    return ", ".join(each["permissionName"] for each in account["userInfo"]["permissionAssignments"])


@service_accounts.command
def show(account: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Print a service account: its key with the fingerprint, and what it may do.

    Parameters
    ----------
    account
        id of the service account.
    """
    found = caller.read(path_of("auth", "service-accounts", account))
    caller.tell(found, lambda: told(found["userInfo"], _state(found)))


@service_accounts.command
def create(
    *,
    name: str,
    permission: str | None = None,
    new_key: Path | None = None,
    public_key: Path | None = None,
    new_token: Path,
    days_valid: int | None = None,
    caller: Caller = FROM_PROFILE,
) -> None:
    """Create a service account; its token goes to a new file of mode 0600, and is told never again.

    Parameters
    ----------
    name
        what people call it.
    permission
        id of a permission it gets; without one it can do nothing.
    new_key
        make its key pair here: a new file of mode 0600 for the private key; or
    public_key
        PEM file of its public key, made elsewhere.
    new_token
        file for its token; it must not be there yet.
    days_valid
        how long the token is good, days.
    """
    if (new_key is None) == (public_key is None):
        raise WrongUsage("give --new-key, or --public-key", field="new-key")
    for path in (new_token, new_key):
        if path is not None and path.exists():
            raise WrongUsage(f"{path} is there already", field="new-token" if path is new_token else "new-key")
    caller.expect_key()
    from outlay.client import write_new_key

    public = public_key.read_text() if public_key is not None else write_new_key(Path(str(new_key)))
    given = {"name": name, "publicKey": public, "permissionId": permission, "daysValid": days_valid}
    made = caller.write(
        "POST", "/auth/service-accounts", {key: value for key, value in given.items() if value is not None}
    )
    token = made["accessTokens"][0]
    write_private(new_token, token["accessToken"] + "\n")
    signing = [] if new_key is None else [("its key", new_key)]
    key = new_key or "ITS-KEY.pem"
    shown = facts([("service account", _id(made)), ("credential", token["credId"]), *signing, ("its token", new_token)])
    caller.tell(
        {**made, "accessTokens": [{**token, "accessToken": None, "accessTokenFile": str(new_token)}]},
        f"{shown}Next: outlay login --profile PROFILE.toml --url {caller.identity.url} --token-file {new_token}"
        f" --key-file {key} --credential={token['credId']}\n",
    )


@service_accounts.command
def activate(account: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Switch a service account on again.

    Parameters
    ----------
    account
        id of the service account.
    """
    made = caller.write("PUT", path_of("auth", "service-accounts", account, "activate"))
    caller.tell(made, said(made, f"{account} is on"))


@service_accounts.command
def deactivate(account: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Switch a service account off at once; what it asked for goes on: outlay freeze --identity stops that.

    Parameters
    ----------
    account
        id of the service account.
    """
    made = caller.write("PUT", path_of("auth", "service-accounts", account, "deactivate"))
    caller.tell(made, said(made, f"{account} is off"))


@service_accounts.command
def remove(account: str, /, *, yes: Yes = False, caller: Caller = FROM_PROFILE) -> None:
    """Remove a service account for good.

    Parameters
    ----------
    account
        id of the service account.
    """
    caller.expect_key()
    found = caller.read(path_of("auth", "service-accounts", account))
    caller.confirm(f"Remove {found['userInfo']['username']} for good?", yes=yes)
    made = caller.write("DELETE", path_of("auth", "service-accounts", account))
    caller.tell(made, said(made, f"{found['userInfo']['username']} is removed"))
