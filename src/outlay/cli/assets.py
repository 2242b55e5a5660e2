"""``outlay assets``: what can be paid."""

from cyclopts import App

from outlay.cli.output import said, table
from outlay.cli.profile import FROM_PROFILE, Caller

assets = App(name="assets")


@assets.command(name="list")
def list_assets(*, caller: Caller = FROM_PROFILE) -> None:
    """List what can be paid: each network's coin, and the tokens in the settings."""
    settings = caller.read("/v1/config")["moneySettings"]
    coins = [
        {"network": name, "asset": "native", **network["native"]} for name, network in settings["networks"].items()
    ]
    tokens = [
        {name: each[name] for name in ("network", "symbol", "decimals")} | {"asset": each["contract"]}
        for each in settings["assets"]
    ]
    found = sorted(coins + tokens, key=lambda each: (each["network"], each["symbol"]))
    columns = ("network", "symbol", "decimals", "asset")
    caller.tell(
        {"items": found},
        lambda: table(columns, ([each[name] for name in columns] for each in found), right={"decimals"}),
    )


@assets.command
def unfreeze(*, network: str, asset: str, reason: str, caller: Caller = FROM_PROFILE) -> None:
    """Let a frozen asset be paid again, after you have looked at why it was stopped.

    Parameters
    ----------
    network
        name of its network.
    asset
        the token's contract in lower case.
    reason
        what you found; it is signed and recorded.
    """
    body = {"network": network, "asset": asset, "reason": reason}
    made = caller.write("PUT", "/v1/assets/unfreeze", body)
    caller.tell(made, said(made, f"{asset} on {network} may be paid again"))
