"""``outlay pools``: wallets that pay together."""

from collections.abc import Mapping
from typing import Any

from cyclopts import App

from outlay.cli.output import facts, said, table
from outlay.cli.profile import FROM_PROFILE, Caller, path_of

pools = App(name="pools")


@pools.command(name="list")
def list_pools(*, limit: int = 100, caller: Caller = FROM_PROFILE) -> None:
    """List pools, archived ones too.

    Parameters
    ----------
    limit
        how many at most.
    """
    found = list(caller.items("/v1/pools", limit=limit))
    columns = ("pool", "name", "network", "tag", "status")
    rows = ((each["id"], each["name"], each["network"], each["tag"], each["status"]) for each in found)
    caller.tell({"items": found}, lambda: table(columns, rows, nothing="no pools"))


@pools.command
def show(pool: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Print a pool, what waits in it, and of each wallet what it can take and why it gets nothing.

    Parameters
    ----------
    pool
        id of the pool.
    """
    found = caller.read(path_of("v1", "pools", pool))
    caller.tell(found, lambda: _told(found))


def _told(pool: Mapping[str, Any]) -> str:
    queue = pool["queue"]
    heading = facts(
        [
            ("pool", f"{pool['id']} {pool['name']}, {pool['status']}"),
            ("wallets", f"of {pool['network']} with the tag {pool['tag']}"),
            ("waiting", f"{queue['waiting']}, of them {queue['unpayable']} that no wallet can pay now"),
            ("oldest", _seconds(queue.get("oldestSeconds"))),
        ]
    )
    columns = ("wallet", "work", "pending", "sent", "oldest", "fees for", "reason")
    rows = (
        (
            each["walletId"],
            "yes" if each["takesWork"] else "no",
            each["pending"],
            f"{each['inFlight']}{' (stuck)' if each['isStuck'] else ''}",
            _seconds(each.get("oldestSeconds")),
            f"{each['feeHeadroom']} payouts" if "feeHeadroom" in each else None,
            each.get("reason"),
        )
        for each in pool["wallets"]
    )
    return heading + "\n" + table(columns, rows, right={"pending", "oldest"}, nothing="no wallets")


def _seconds(number: int | None) -> str | None:
    return None if number is None else f"{number} s"


@pools.command
def create(*, name: str, network: str, tag: str, caller: Caller = FROM_PROFILE) -> None:
    """Make one payer of all wallets of a network that carry a tag.

    Parameters
    ----------
    name
        what people call it.
    network
        name of a network in the settings.
    tag
        the tag of its wallets.
    """
    made = caller.write("POST", "/v1/pools", {"name": name, "network": network, "tag": tag})
    caller.tell(made, lambda: said(made, f"created {made['id']}"))


@pools.command
def archive(pool: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Let a pool take nothing new; what it was asked to pay is paid.

    Parameters
    ----------
    pool
        id of the pool.
    """
    made = caller.write("POST", path_of("v1", "pools", pool, "archive"))
    caller.tell(made, said(made, f"{pool} is archived"))
