"""``outlay wallets``: hot wallets, what they hold, who they belong to, and whether the books are right."""

from collections.abc import Mapping
from typing import Any

from cyclopts import App

from outlay.cli.output import DONE, REFUSED, facts, said, table, units, when
from outlay.cli.profile import FROM_PROFILE, Caller, path_of
from outlay.core.address import checksum
from outlay.core.message import one_line

wallets = App(name="wallets")

_SAID = {
    "equal": "",
    "settling": "payouts are being settled: compare again in a while",
    "arriving": "more than is posted: the next comparison posts it",
    "surplus": "MORE ON THE CHAIN",
    "missing": "MISSING ON THE CHAIN",
    "unread": "the chain does not answer about it",
}


@wallets.command(name="list")
def list_wallets(*, limit: int = 100, caller: Caller = FROM_PROFILE) -> None:
    """List wallets.

    Parameters
    ----------
    limit
        how many at most.
    """
    found = list(caller.items("/wallets", limit=limit))
    columns = ("wallet", "name", "network", "address", "status", "tags")
    rows = (
        (
            each["id"],
            each.get("name"),
            each["network"],
            checksum(each["address"]),
            _standing(each),
            ", ".join(each["tags"]),
        )
        for each in found
    )
    caller.tell({"items": found}, lambda: table(columns, rows, nothing="no wallets"))


def _standing(wallet: Mapping[str, Any]) -> str:
    if "frozenReason" in wallet:
        return "frozen"
    return "draining" if "drainedReason" in wallet else str(wallet["status"])


@wallets.command
def show(wallet: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Print a wallet and what the chain says it holds now.

    Parameters
    ----------
    wallet
        id of the wallet.
    """
    found = caller.read(path_of("wallets", wallet))
    held = caller.read(path_of("wallets", wallet, "assets"))["assets"]
    pairs = [
        ("wallet", found["id"]),
        ("name", found.get("name")),
        ("network", found["network"]),
        ("address", checksum(found["address"])),
        ("status", _standing(found)),
        ("frozen", found.get("frozenReason")),
        ("drained", found.get("drainedReason")),
        ("tags", ", ".join(found["tags"]) or None),
        ("externalId", found.get("externalId")),
        ("created", when(found["dateCreated"])),
    ]
    pairs += [("holds", units(each["balance"], each.get("decimals"), each.get("symbol"))) for each in held]
    then = f"Next: outlay unfreeze --wallet {found['id']} --reason TEXT\n" if "frozenReason" in found else ""
    caller.tell({**found, "assets": held}, lambda: facts(pairs) + then)


@wallets.command
def create(
    *,
    network: str,
    name: str | None = None,
    tag: list[str] | None = None,
    external_id: str | None = None,
    caller: Caller = FROM_PROFILE,
) -> None:
    """Create a hot wallet; the signer makes its key.

    Parameters
    ----------
    network
        name of a network in the settings.
    name
        what people call it.
    tag
        a tag; once for each. Policies and pools go by tags.
    external_id
        your own id of it.
    """
    given = {"network": network, "name": name, "tags": tag, "externalId": external_id}
    made = caller.write("POST", "/wallets", {key: value for key, value in given.items() if value is not None})
    caller.tell(
        made,
        lambda: said(
            made, f"{made['id']} on {network}\naddress {checksum(made['address'])}" if "address" in made else ""
        ),
    )


@wallets.command
def tag(wallet: str, tag: list[str], /, *, caller: Caller = FROM_PROFILE) -> None:
    """Put tags on a wallet.

    Parameters
    ----------
    wallet
        id of the wallet.
    tag
        one or more tags.
    """
    made = caller.write("PUT", path_of("wallets", wallet, "tags"), {"tags": tag})
    caller.tell(made, said(made, f"{wallet} carries {', '.join(tag)}"))


@wallets.command
def untag(wallet: str, tag: list[str], /, *, caller: Caller = FROM_PROFILE) -> None:
    """Take tags off a wallet; policies that go by them no longer hold for it.

    Parameters
    ----------
    wallet
        id of the wallet.
    tag
        one or more tags.
    """
    made = caller.write("DELETE", path_of("wallets", wallet, "tags"), {"tags": tag})
    caller.tell(made, said(made, f"{wallet} no longer carries {', '.join(tag)}"))


@wallets.command
def drain(wallet: str, /, *, reason: str, caller: Caller = FROM_PROFILE) -> None:
    """Give a wallet no new work; what has a nonce goes on, what names a pool goes to other wallets.

    Parameters
    ----------
    wallet
        id of the wallet.
    reason
        shown to everybody who finds a payout waiting.
    """
    made = caller.write("POST", path_of("v1", "wallets", wallet, "drain"), {"reason": reason})
    caller.tell(made, said(made, f"{wallet} gets no new work\nNext: outlay wallets resume {wallet}"))


@wallets.command
def resume(wallet: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Give a drained wallet work again.

    Parameters
    ----------
    wallet
        id of the wallet.
    """
    made = caller.write("POST", path_of("v1", "wallets", wallet, "resume"))
    caller.tell(made, said(made, f"{wallet} works again"))


@wallets.command
def unfreeze(wallet: str, /, *, reason: str, caller: Caller = FROM_PROFILE) -> None:
    """Let a wallet pay again that the server froze. Freezes of the signer too: outlay unfreeze --wallet.

    Parameters
    ----------
    wallet
        id of the wallet.
    reason
        what you found; it is signed and recorded.
    """
    made = caller.write("PUT", path_of("v1", "wallets", wallet, "unfreeze"), {"reason": reason})
    caller.tell(made, said(made, f"{wallet} may pay again"))


@wallets.command
def reconcile(*, caller: Caller = FROM_PROFILE) -> int:
    """Compare what the ledger, the signer's journal and the chain say about each wallet; exits 1 if they differ."""
    found = caller.read("/v1/reconciliation")
    differing = sum(bool(each["findings"]) for each in found["wallets"])
    verdict = "ledger, journal and chain agree" if found["agrees"] else f"{differing} DIFFER"
    caller.tell(
        found,
        lambda: (
            "".join(_compared(each) + "\n" for each in found["wallets"])
            + f"{len(found['wallets'])} wallets: {verdict}\n"
        ),
    )
    return DONE if found["agrees"] else REFUSED


def _compared(each: Mapping[str, Any]) -> str:
    nonces = each["nonces"]
    by_state = ", ".join(f"{count} {state}" for state, count in sorted(each["open"].items()))
    heading = facts(
        [
            ("wallet", f"{each['walletId']} on {each['network']}"),
            ("address", each["address"]),
            ("final block", each["height"]),
            ("frozen", each["frozenReason"]),
            ("nonces", f"ledger {nonces['settled']} settled, {nonces['lane']} given; journal {nonces['journal']}"),
            ("", f"chain {nonces['chainFinal']} final, {nonces['chainNewest']} newest"),
            ("open", by_state or None),
        ]
    )
    columns = ("", "ledger", "chain", "signed here", "in the journal", " ")
    names = ("ledger", "chain", "signedHere", "signedJournal")
    rows = [
        (
            line["symbol"],
            *("?" if line[name] is None else units(line[name], line["decimals"]) for name in names),
            _SAID[line["verdict"]],
        )
        for line in each["assets"]
    ]
    findings = "".join(f"DIFFERS {one_line(finding)}\n" for finding in each["findings"])
    return heading + table(columns, rows, right=set(columns[1:5]), nothing="no assets") + findings
