"""``outlay payouts``: ask for one, look at them, hurry one, take one back, end one that had another effect."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from outlay.cli.output import WrongUsage, Yes, facts, table, units, when
from outlay.cli.profile import FROM_PROFILE, Caller, Opaque, path_of
from outlay.core.address import checksum, parse_address
from outlay.core.asset import NATIVE
from outlay.core.errors import NotPermitted, OutlayError, PreconditionFailed
from outlay.core.money import AMOUNT_MAX, format_dollars, parse_amount, parse_decimal
from outlay.core.transfer import ENDS, State

payouts = App(name="payouts")

EARLY = frozenset({State.HELD, State.READY})
"""States in which a payout is taken back at once: nothing was signed."""

_NOT_YOURS = "An approver denies it instead: outlay approvals deny {} --reason TEXT"


@payouts.command(name="list")
def list_payouts(
    *,
    state: State | None = None,
    wallet: str | None = None,
    pool: str | None = None,
    batch: str | None = None,
    recipient: str | None = None,
    asset: str | None = None,
    initiator: str | None = None,
    external_id: Opaque | None = None,
    since: str | None = None,
    until: str | None = None,
    late: Annotated[bool, Parameter(negative=())] = False,
    limit: int = 50,
    caller: Caller = FROM_PROFILE,
) -> None:
    """List payouts, the newest first.

    Parameters
    ----------
    state
        only those that stand there.
    wallet
        id of the wallet that pays.
    pool
        id of the pool that pays.
    batch
        id of the batch they came with.
    recipient
        address that is paid.
    asset
        native, or the token's contract.
    initiator
        id of who asked.
    external_id
        the id that was given with the request.
    since
        requested then or later, as 2026-01-31T00:00:00Z.
    until
        requested before.
    late
        only those that are late in the state they are in.
    limit
        how many at most.
    """
    found = list(
        caller.items(
            "/v1/payouts",
            limit=limit,
            state=state,
            walletId=wallet,
            poolId=pool,
            batchId=batch,
            recipient=recipient,
            asset=asset,
            initiatorId=initiator,
            externalId=external_id,
            since=since,
            until=until,
            delayed="true" if late else None,
        )
    )
    columns = ("payout", "state", "amount", "recipient", "externalId", "requested")
    caller.tell(
        {"items": found},
        lambda: table(columns, (_row(each) for each in found), right={"amount"}, nothing="no payouts"),
    )


def _row(paid: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        paid["id"],
        paid["state"] + (" (late)" if "delayedSince" in paid else ""),
        _amount(paid),
        checksum(paid["recipient"]),
        paid.get("externalId"),
        when(paid["dateRequested"]),
    )


@payouts.command
def show(payout: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Print a payout: where it stands, what to do, and every transaction that was signed for it.

    Parameters
    ----------
    payout
        id of the payout.
    """
    paid = caller.read(path_of("v1", "payouts", payout))
    sent = caller.read(_transfer(paid))
    caller.tell({**paid, "details": sent.get("details", {})}, lambda: told(paid, sent))


@payouts.command
def create(
    *,
    recipient: str,
    asset: str,
    amount: str | None = None,
    base_units: str | None = None,
    wallet: str | None = None,
    pool: str | None = None,
    external_id: Opaque | None = None,
    memo: str | None = None,
    priority: Literal["Slow", "Standard", "Fast"] | None = None,
    yes: Yes = False,
    caller: Caller = FROM_PROFILE,
) -> None:
    """Ask for one payout, after showing it; the same external id never pays twice.

    Parameters
    ----------
    recipient
        address to pay.
    asset
        symbol of a listed asset, native, or a token's contract.
    amount
        as people write it, e.g. 12.50.
    base_units
        instead of --amount: in the asset's smallest unit.
    wallet
        id of the wallet that pays; or
    pool
        a pool, one of whose wallets pays.
    external_id
        your own id of this payout. Without it one is made up; then a repeated command pays again.
    memo
        what people should read beside it.
    priority
        which goes first when a wallet is busy.
    """
    from outlay.client import new_external_id

    if (wallet is None) == (pool is None):
        raise WrongUsage("name the wallet that pays, or the pool", field="wallet")
    if (amount is None) == (base_units is None):
        raise WrongUsage("give --amount, or --base-units", field="amount")
    caller.expect_key()
    to = checksum(parse_address(recipient, field="recipient"))
    network = caller.read(path_of("wallets", wallet) if wallet else path_of("v1", "pools", str(pool)))["network"]
    about = listed(caller.read("/v1/config")["moneySettings"], network, asset)
    exact = parse_amount(base_units, field="base-units") if base_units else in_base_units(str(amount), about, asset)
    external_id = external_id or new_external_id()
    caller.note(
        facts(
            [
                ("pay", units(exact, about.get("decimals"), about.get("symbol", asset))),
                ("which is", f"{exact:,} base units of {about.get('contract') or asset}"),
                ("to", to),
                ("on", network),
                ("from", f"wallet {wallet}" if wallet else f"pool {pool}"),
                ("externalId", external_id),
                ("memo", memo),
            ]
        )
    )
    caller.confirm("Ask for this payout?", yes=yes)
    made = caller.ask(
        lambda client: client.pay(
            asset=about.get("contract", asset),
            recipient=to,
            amount=str(exact),
            external_id=external_id,
            wallet_id=wallet,
            pool_id=pool,
            memo=memo,
            priority=priority,
        )
    )
    caller.tell(made, lambda: "\n" + told(made, {}))


def listed(settings: Mapping[str, Any], network: str, asset: str) -> dict[str, Any]:
    """Return symbol, decimals and contract of an asset; empty if the settings do not list it."""
    coin = settings["networks"].get(network, {}).get("native", {})
    if asset in (NATIVE, coin.get("symbol")):
        return {**coin, "contract": NATIVE}
    named = [
        each
        for each in settings["assets"]
        if each["network"] == network and asset.lower() in (each["contract"], each["symbol"].lower())
    ]
    return named[0] if len(named) == 1 else {}


def in_base_units(text: str, about: Mapping[str, Any], asset: str) -> int:
    """Return an amount as people write it in base units, exactly.

    Raises:
        InvalidInput: it is no such number. WrongUsage: nobody knows the asset's decimals, or they are too few.
    """
    if "decimals" not in about:
        raise WrongUsage(f"{asset} is not in the settings, so its decimals are not known: give --base-units")
    scaled = parse_decimal(text, field="amount").as_tuple()
    places = int(about["decimals"]) + int(scaled.exponent)
    if places < 0:
        raise WrongUsage(f"{about['symbol']} has {about['decimals']} decimals", field="amount")
    exact: int = int("".join(map(str, scaled.digits))) * 10**places
    if exact > AMOUNT_MAX:
        raise WrongUsage("is more than there can be", field="amount")
    return exact


@payouts.command
def cancel(payout: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Take a payout back: at once where nothing was signed, else by an empty transaction in its place.

    At most one of both transactions is ever mined, and the chain decides which: look at the payout again before you
    pay anew.

    Parameters
    ----------
    payout
        id of the payout.
    """
    paid = caller.read(path_of("v1", "payouts", payout))
    if paid["state"] in ENDS:
        raise PreconditionFailed(f"it is over: {paid['state']}", hint=f"See why: outlay explain {paid['id']}")
    if paid["state"] in EARLY:
        try:
            made = caller.write("POST", path_of("v1", "payouts", payout, "cancel"))
        except OutlayError as error:
            if error.status != NotPermitted.status or "approvalId" not in paid:
                raise
            raise NotPermitted(error.message, hint=_NOT_YOURS.format(paid["approvalId"])) from error
        caller.tell(made, lambda: f"{made['id']}: {made['state']}; nothing was signed, and nothing will be\n")
        return
    _replace(caller, "cancel", paid, "an empty transaction in its place")


@payouts.command(name="speed-up")
def speed_up(payout: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Offer higher fees, within the payout's fee cap, for one that was sent and is in no block yet.

    Parameters
    ----------
    payout
        id of the payout.
    """
    _replace(caller, "speed-up", caller.read(path_of("v1", "payouts", payout)), "the payout again, with higher fees")


def _replace(caller: Caller, verb: str, paid: Mapping[str, Any], what: str) -> None:
    made = caller.write("POST", f"{_transfer(paid)}/{verb}")
    sent = caller.read(_transfer(paid))
    then = "" if verb == "speed-up" else "Do not pay anew before it has ended: the chain takes one of both.\n"
    caller.tell(made, lambda: f"{made['id']}: {what}, {made['status']}\n{then}\n{told(paid, sent)}")


@payouts.command
def resolve(payout: str, /, *, outcome: Literal["paid", "failed"], reason: str, caller: Caller = FROM_PROFILE) -> None:
    """End a payout that is final with another effect than was asked for (flag effect_mismatch). Nothing leaves.

    Parameters
    ----------
    payout
        id of the payout.
    outcome
        paid: the recipient has what is owed. failed: it has not, and whoever asked may ask again.
    reason
        what you found; it is kept.
    """
    made = caller.write("POST", path_of("v1", "payouts", payout, "resolve"), {"outcome": outcome, "reason": reason})
    caller.tell(made, lambda: f"{made['id']}: {made['state']}. {made['reason']}\n")


def _transfer(paid: Mapping[str, Any]) -> str:
    return path_of("wallets", paid["walletId"], "transfers", paid["id"])


def told(paid: Mapping[str, Any], sent: Mapping[str, Any]) -> str:
    """Return a payout in the words of the terminal.

    Args:
        paid: the payout.
        sent: the same as the contract's transfer, which tells what was signed; may be empty.
    """
    details = sent.get("details", {})
    pairs = [
        ("payout", paid["id"]),
        ("state", paid["state"]),
        ("reason", paid.get("reason")),
        ("waits because", paid.get("waitingReason")),
        ("late since", when(paid.get("delayedSince"))),
        ("look at it", paid.get("flag")),
        ("pays", _amount(paid)),
        ("to", checksum(paid["recipient"])),
        ("on", paid["network"]),
        ("from", f"wallet {paid['walletId']}" + (f", of pool {paid['poolId']}" if "poolId" in paid else "")),
        ("worth", f"USD {format_dollars(paid['valueUsd'])} when requested" if "valueUsd" in paid else None),
        ("externalId", paid.get("externalId")),
        ("memo", paid.get("memo") or None),
        ("requested", f"{when(paid['dateRequested'])} by {paid['initiatorId']}"),
        ("approval", paid.get("approvalId")),
        ("batch", paid.get("batchId")),
        ("fee", f"{units(paid['fee'], 18)} of the network's coin" if "fee" in paid else None),
        ("transaction", paid.get("txHash")),
        ("nonce", details.get("nonce")),
    ]
    attempts = enumerate(details.get("attempts", []), start=1)
    pairs += [(f"attempt {number}", _attempt(each)) for number, each in attempts]
    return facts(pairs) + _next(paid)


def _next(paid: Mapping[str, Any]) -> str:
    """Return what can be done about a payout as it stands; nothing where there is nothing to do."""
    if paid["state"] == State.HELD and "approvalId" in paid:
        return f"Next: outlay approvals show {paid['approvalId']}\n"
    if paid["state"] in (State.REJECTED, State.FAILED, State.EXPIRED) or "waitingReason" in paid:
        return f"Why: outlay explain {paid['id']}\n"
    return ""


def _amount(paid: Mapping[str, Any]) -> str:
    shown = units(paid["amount"], paid.get("decimals"), paid.get("symbol"))
    return shown if "decimals" in paid else f"{shown} of {paid['asset']}"


def _attempt(attempt: Mapping[str, Any]) -> str:
    what = "pays" if attempt["purpose"] == "payout" else "pays nothing"
    if "gasPrice" in attempt:
        fees = f"{_gwei(attempt['gasPrice'])} a gas"
    else:
        fees = f"at most {_gwei(attempt['maxFeePerGas'])} a gas, tip {_gwei(attempt['maxPriorityFeePerGas'])}"
    sent = f"sent {when(attempt['dateBroadcasted'])}" if "dateBroadcasted" in attempt else "not sent yet"
    return f"{what}, {fees}, {sent}, {attempt.get('txHash', 'not signed yet')}"


def _gwei(amount: str) -> str:
    return f"{units(amount, 9)} gwei"
