"""``outlay freezes`` and ``outlay unfreeze``: what is stopped, and letting it go under a person's signature."""

import time
from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import App, Parameter

from outlay.cli.output import WrongUsage, said
from outlay.cli.profile import FROM_PROFILE, Caller
from outlay.core.errors import NotFound
from outlay.core.message import one_line

freezes = App(name="freezes")

_NOTHING = "nothing is stopped\n"
HEARD_WITHIN_S = 3.0
"""How long a server may take to hear of a freeze that the signer was just told of."""


@freezes.command(name="list")
def list_freezes(*, caller: Caller = FROM_PROFILE) -> None:
    """List what is stopped, why, and how to let it go: freezes of the signer, frozen wallets, assets and networks."""
    found = caller.read("/v1/freezes")
    caller.tell(found, lambda: _listed(found) or _NOTHING)


def _listed(found: Mapping[str, Any]) -> str:
    lines = [
        (f"{each['scope']} {each['subject']}".strip(), each["reason"], f"outlay unfreeze {each['id']}")
        for each in found["freezes"]
    ]
    lines += [
        (f"wallet {each['walletId']}", each["reason"], f"outlay unfreeze --wallet {each['walletId']}")
        for each in found["wallets"]
    ]
    lines += [
        (
            f"asset {each['asset']} on {each['network']}",
            each["reason"],
            f"outlay unfreeze --network {each['network']} --asset {each['asset']}",
        )
        for each in found["assets"]
    ]
    lines += [
        (f"network {each['network']}", each["reason"], f"outlay unfreeze --network {each['network']}")
        for each in found["networks"]
    ]
    return "".join(f"{one_line(what)}\n  {one_line(reason)}\n  {how} --reason TEXT\n" for what, reason, how in lines)


def unfreeze(
    freeze: Annotated[str | None, Parameter(help="id of one freeze, as outlay freezes list shows it")] = None,
    /,
    *,
    reason: str,
    wallet: str | None = None,
    network: str | None = None,
    asset: str | None = None,
    identity: str | None = None,
    everything: Annotated[bool, Parameter(name="--all", negative=())] = False,
    caller: Caller = FROM_PROFILE,
) -> None:
    """Let go what was stopped, after you have looked at why; where a policy asks people, they have to agree first.

    Parameters
    ----------
    reason
        what you found; it is signed and recorded.
    wallet
        all that stops this wallet: freezes of the signer, and the wallet's own.
    network
        the same of a network; with --asset only of one asset there.
    asset
        native, or the contract in lower case.
    identity
        freezes of what a person or service account asked for.
    everything
        freezes of everything.
    """
    if sum((freeze is not None, wallet is not None, network is not None, identity is not None, everything)) != 1:
        raise WrongUsage("name a freeze, or give one of --wallet, --network, --identity and --all", field="freeze")
    if asset is not None and network is None:
        raise WrongUsage("goes with --network", field="asset")
    caller.expect_key()
    deadline = time.monotonic() + HEARD_WITHIN_S
    while True:
        found = caller.read("/v1/freezes")
        calls = _calls(
            found, freeze, wallet=wallet, network=network, asset=asset, identity=identity, everything=everything
        )
        if calls or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    if not calls:
        caller.note(_listed(found) or _NOTHING)
        raise NotFound("none of what is stopped is what you named")
    answers = [caller.write("PUT", path, {**body, "reason": reason}) for _, path, body in calls]
    told = [f"{what}: {said(answer, 'let go')}" for (what, _, _), answer in zip(calls, answers, strict=True)]
    caller.tell({"items": answers}, "".join(told))


def _calls(
    found: Mapping[str, Any],
    freeze: str | None,
    *,
    wallet: str | None,
    network: str | None,
    asset: str | None,
    identity: str | None,
    everything: bool,
) -> list[tuple[str, str, dict[str, str]]]:
    """Return what is let go: in words, the path and the body of each call."""
    if asset is not None and network is not None:
        return [
            (f"asset {asset} on {network}", "/v1/assets/unfreeze", {"network": network, "asset": asset})
            for each in found["assets"]
            if (each["network"], each["asset"]) == (network, asset)
        ]
    named: dict[str, str | None] = {
        "wallet": wallet,
        "network": network,
        "identity": identity,
        "all": "" if everything else None,
    }
    calls = [
        (
            f"{each['scope']} {each['subject']}".strip(),
            f"/v1/freezes/{each['id']}/lift",
            {"scope": each["scope"], "subject": each["subject"]},
        )
        for each in found["freezes"]
        if freeze == each["id"] or named[each["scope"]] == each["subject"]
    ]
    if any(each["walletId"] == wallet for each in found["wallets"]):
        calls.append((f"wallet {wallet}", f"/v1/wallets/{wallet}/unfreeze", {}))
    if network is not None and any(each["network"] == network for each in found["networks"]):
        calls.append((f"network {network}", "/v1/networks/unfreeze", {"network": network}))
    return calls
