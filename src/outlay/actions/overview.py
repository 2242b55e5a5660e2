"""What somebody who opens the dashboard has to see: what waits for them, and what is wrong.

Everything is read from one unit with statements that look at few rows, however many payouts there were.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from outlay.actions import lift, present_changes, present_payouts, refill
from outlay.actions.act import Caller
from outlay.actions.judge import people
from outlay.actions.organization import is_applied
from outlay.config import Config
from outlay.core.approval import refusal
from outlay.core.asset import Asset
from outlay.core.event import iso
from outlay.core.policy import RequestApproval
from outlay.core.price import Quote
from outlay.core.seams import MINUTE, Instant
from outlay.evidence.demand import VOTE
from outlay.store import approvals, audit, changes, delays, mandates, policies, transfers, users, webhooks
from outlay.store.database import Row, Unit
from outlay.store.figures import Figures

MINE_MAX = 200
"""Approvals that wait for one person that are looked at."""

HOURS_LEFT = 24
"""A wallet that is empty sooner at its present pace is told of."""

LAG: Instant = 10 * MINUTE
"""How long an endpoint may go without being told of an event."""

PriceOf = Callable[[Asset, Instant], Quote | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something a person has to look at."""

    what: str
    why: str = ""
    page: str = ""  #: of the dashboard, below its root
    guide: str = ""  #: page of docs that says what to do
    is_bad: bool = True  #: payouts do not go on; else they soon might not


# What waits for me


def waiting_for(unit: Unit, caller: Caller, config: Config, *, now: Instant) -> list[dict[str, Any]]:
    """Return the approvals that somebody may decide about now, the first to run out first, each with what it is about.

    Of very many those that run out first.
    """
    if VOTE not in caller.operations:
        return []
    rows = approvals.asking(unit, caller.user_id, now=now, limit=MINE_MAX)
    if not rows:
        return []
    known = people(unit)
    mine = [
        row
        for row in rows
        if refusal(row.groups, caller.user_id, "Approved", people=known, initiator_id=row.initiator_id) is None
    ]
    paid = transfers.find_many(unit, [row.transfer_id for row in mine if row.transfer_id is not None])
    return [_asked(unit, row, paid.get(row.transfer_id), config) for row in mine]


def _asked(unit: Unit, row: Row, paid: Row | None, config: Config) -> dict[str, Any]:
    asked = {
        "id": row.id,
        "dateCreated": iso(row.created_at),
        "expirationDate": None if row.expires_at is None else iso(row.expires_at),
        "initiatorId": row.initiator_id,
    }
    if paid is not None:
        return {**asked, "payout": present_payouts.payout(paid, config)}
    return {**asked, "change": present_changes.change(unit, changes.get(unit, row.change_id))}


# What is wrong


def troubles(
    unit: Unit,
    caller: Caller,
    config: Config,
    found: Figures,
    hours: Mapping[tuple[str, str], int],
    *,
    price_of: PriceOf,
    is_open: bool,
    now: Instant,
) -> list[Trouble]:
    """Return what a person has to look at, as far as the caller may see it, the worst first.

    Args:
        unit: the database unit.
        caller: who looks.
        config: of the deployment.
        found: the figures of this unit.
        hours: by wallet and asset, how long what it holds lasts.
        price_of: what gives prices.
        is_open: writes are taken.
        now: the instant.
    """
    may = caller.operations
    seen = [*_admission(unit, config, is_open=is_open)]
    if "Wallets:Read" in may:
        seen += [*_stopped(unit, config), *_stuck(unit), *_running_low(unit, config, found, hours)]
    if "Wallets:Transfers:Read" in may:
        seen += _payouts(unit, found)
    if "Webhooks:Read" in may:
        seen += _endpoints(unit, found, now)
    if "Policies:Read" in may:
        seen += [*_policies(unit), *_prices(config, price_of, now)]
    return sorted(seen, key=lambda each: not each.is_bad)


def _admission(unit: Unit, config: Config, *, is_open: bool) -> Iterator[Trouble]:
    guide = "operate/alerts/not-admitting.md"
    if not is_open:
        yield Trouble(what="The server is recovering: nothing is written until it has.", guide=guide)
    if not is_applied(unit, config):
        why = "The settings that decide about money are not the ones an admin signed. Look at them, then sign them:"
        yield Trouble(what="No payout is admitted.", why=f"{why} outlay settings apply", guide=guide)
    broken = audit.state(unit).broken
    if broken is not None:
        what = "No payout is admitted: the audit log is not what was written."
        yield Trouble(what=what, why=broken, page="audit", guide="operate/alerts/audit-broken.md")


def _stopped(unit: Unit, config: Config) -> Iterator[Trouble]:
    stopped = lift.everything_stopped(unit)
    for each in stopped["freezes"]:
        what = "everything" if each["scope"] == "all" else f"{each['scope']} {each['subject']}"
        page = f"wallets/{each['subject']}" if each["scope"] == "wallet" else "wallets"
        yield Trouble(
            what=f"The signer signs nothing for {what}.",
            why=each["reason"],
            page=page,
            guide="operate/alerts/frozen.md",
        )
    for each in stopped["networks"]:
        guide = "operate/alerts/frozen.md"
        yield Trouble(what=f"Network {each['network']} is frozen.", why=each["reason"], page="wallets", guide=guide)
    for each in stopped["wallets"]:
        yield Trouble(
            what=f"Wallet {each['walletId']} is frozen.",
            why=each["reason"],
            page=f"wallets/{each['walletId']}",
            guide="operate/alerts/wallet-frozen.md",
        )
    for each in stopped["assets"]:
        asset = config.find_asset(each["network"], each["asset"])
        name = asset.symbol if asset is not None else each["asset"]
        what = f"{name} on {each['network']} is frozen."
        yield Trouble(what=what, why=each["reason"], page="wallets", guide="operate/alerts/frozen.md")


def _stuck(unit: Unit) -> Iterator[Trouble]:
    for wallet_id, nonce in sorted(delays.stuck(unit).items()):
        yield Trouble(
            what=f"Transactions of wallet {wallet_id} are not mined.",
            why=f"Nonce {nonce} does not move, and all behind it wait.",
            page=f"wallets/{wallet_id}",
            guide="operate/stuck-payout.md",
        )


def _running_low(unit: Unit, config: Config, found: Figures, hours: Mapping[tuple[str, str], int]) -> Iterator[Trouble]:
    networks = {each.id: each.network for each in found.wallets}
    for mandate_id, wallet_id in sorted(mandates.low(unit)):
        yield Trouble(
            what=f"Wallet {wallet_id} holds less than its minimum.",
            why=f"Mandate {mandate_id} fills it; nothing has arrived yet.",
            page=f"wallets/{wallet_id}",
            guide="operate/alerts/wallet-low.md",
            is_bad=False,
        )
    for (wallet_id, key), left in sorted(hours.items()):
        if left < HOURS_LEFT:
            asset = config.find_asset(networks.get(wallet_id, ""), key)
            name = key if asset is None else asset.symbol
            when = "within the hour" if left == 0 else f"in {left} hours" if left > 1 else "in an hour"
            yield Trouble(
                what=f"Wallet {wallet_id} runs out of {name} {when}.",
                why="If it goes on paying as in the last six hours.",
                page=f"wallets/{wallet_id}",
                guide="operate/alerts/wallet-empty-soon.md",
                is_bad=left == 0,
            )


def _payouts(unit: Unit, found: Figures) -> Iterator[Trouble]:
    for row in transfers.mismatched(unit):
        yield Trouble(
            what=f"Payout {row.id} is final, but had another effect than was asked for.",
            why=row.reason or "",
            page=f"payouts/{row.id}",
            guide="operate/frozen-wallet.md",
        )
    if found.delayed:
        many = "1 payout takes" if found.delayed == 1 else f"{found.delayed:,} payouts take"
        yield Trouble(
            what=f"{many} longer than they should." if found.delayed > 1 else f"{many} longer than it should.",
            page="payouts?delayed=true",
            guide="operate/alerts/payout-delayed.md",
        )


def _endpoints(unit: Unit, found: Figures, now: Instant) -> Iterator[Trouble]:
    reasons = {each.id: each.disabled_reason for each in webhooks.switched_off(unit)}
    for each in found.webhooks:
        page = f"webhooks/{each.id}"
        if each.id in reasons:
            what, why = f"Webhook {each.id} was switched off.", reasons[each.id] or ""
            yield Trouble(what=what, why=why, page=page, guide="operate/alerts/webhook-disabled.md", is_bad=False)
        if each.parked:
            what = f"Webhook {each.id} was not told of {each.parked:,} event{'s' if each.parked > 1 else ''}."
            why = "Every attempt failed; they can be sent again."
            yield Trouble(what=what, why=why, page=page, guide="operate/alerts/webhook-parked.md", is_bad=False)
        if each.is_enabled and each.oldest is not None and each.oldest < now - LAG:
            what = f"Webhook {each.id} is behind: it was not told of what happened more than ten minutes ago."
            yield Trouble(what=what, page=page, guide="operate/alerts/webhook-lag.md", is_bad=False)


def _policies(unit: Unit) -> Iterator[Trouble]:
    for policy in policies.active_policies(unit):
        action = policy.action
        if isinstance(action, RequestApproval) and any(group.approvers == () for group in action.groups):
            yield Trouble(
                what=f"Policy {policy.name} asks a group in which nobody is.",
                why="What it holds can never be approved.",
                page=f"policies/{policy.id}",
                guide="how-to/fill-approver-groups.md",
                is_bad=False,
            )


def _prices(config: Config, price_of: PriceOf, now: Instant) -> Iterator[Trouble]:
    assets = [asset for network in config.networks for asset in config.assets_of(network)]
    lacking = sorted({each.symbol for each in assets if price_of(each, now) is None})
    for symbol in lacking:
        yield Trouble(
            what=f"There is no price of {symbol}.",
            why="So every rule about values triggers on its payouts.",
            guide="operate/alerts/price-stale.md",
            is_bad=False,
        )


def hours_left(unit: Unit, found: Figures, *, now: Instant) -> dict[tuple[str, str], int]:
    """Return in how many whole hours each wallet that pays is empty, by wallet and asset, if it goes on like that."""
    flow = refill.flow(unit, now=now)
    answer: dict[tuple[str, str], int] = {}
    for each in found.wallets:
        for asset, (spendable, _) in each.held.items():
            left = flow.hours(each.id, asset, spendable)
            if left is not None:
                answer[each.id, asset] = left
    return answer


def names_for(unit: Unit, caller: Caller, wanted: Iterable[str]) -> dict[str, str]:
    """Return the usernames of those of the named identities that there are, if the caller may read of people."""
    if "Auth:Users:Read" not in caller.operations:
        return {}
    return {each: str(row.username) for each in sorted(set(wanted)) if (row := users.find(unit, each)) is not None}
