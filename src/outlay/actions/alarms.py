"""What somebody has to look at: each is an event, raised in the unit that found it."""

from decimal import Decimal
from typing import Any

from outlay.actions import present, present_payouts
from outlay.actions.present import only_given
from outlay.actions.work import Work
from outlay.core.event import iso
from outlay.core.seams import Entropy, Instant
from outlay.store import organizations, recovery, wallets, webhooks
from outlay.store.database import Row, Unit


def freeze_wallet(unit: Unit, wallet_id: str, reason: str, *, now: Instant, entropy: Entropy) -> bool:
    """Stop a wallet until a person has looked, with its event; return False if it is stopped already."""
    row = wallets.find(unit, wallet_id)
    if row is None or row.frozen_reason is not None:
        return False
    wallets.freeze(unit, wallet_id, reason)
    organizations.bump_epoch(unit)
    _about_wallet(unit, "wallet.frozen", wallet_id, {"reason": reason}, now=now, entropy=entropy)
    return True


def wallet_unfrozen(work: Work, wallet_id: str, *, reason: str, stopped: str, by: str) -> None:
    """Tell that a person let a wallet go.

    Args:
        work: the unit.
        wallet_id: which.
        reason: what the person found.
        stopped: why it was stopped.
        by: id of the person.
    """
    more = {"reason": reason, "stopped": stopped, "by": by}
    _about_wallet(work.unit, "wallet.unfrozen", wallet_id, more, now=work.now, entropy=work.entropy)


def wallet_stuck(work: Work, wallet_id: str, *, nonce: int, transfer_id: str | None, since: Instant, why: str) -> None:
    """Tell that a wallet's transactions are not mined.

    Args:
        work: the unit.
        wallet_id: which.
        nonce: the lowest one that does not move.
        transfer_id: the payout in it, if there is one.
        since: when it was sent, or found to be missing.
        why: for people.
    """
    more = only_given(nonce=nonce, transferId=transfer_id, since=iso(since), reason=why)
    _about_wallet(work.unit, "wallet.stuck", wallet_id, more, now=work.now, entropy=work.entropy)


def _about_wallet(
    unit: Unit, kind: str, wallet_id: str, more: dict[str, Any], *, now: Instant, entropy: Entropy
) -> None:
    row = wallets.find(unit, wallet_id)
    assert row is not None
    data = {"wallet": present.wallet(unit, row), **more}
    webhooks.emit(unit, kind=kind, subject=wallet_id, data=data, now=now, entropy=entropy)


def price_stale(
    unit: Unit,
    *,
    symbol: str,
    reason: str,
    age_s: int,
    fixed: Decimal,
    live: Decimal | None,
    now: Instant,
    entropy: Entropy,
) -> None:
    """Tell that a price cannot be used.

    Args:
        unit: the unit.
        symbol: of the asset.
        reason: ``stale`` or ``off``.
        age_s: seconds since a live price was told.
        fixed: dollars, as signed.
        live: dollars, as told last; None: never.
        now: when it was found.
        entropy: for the event's id.
    """
    told = None if live is None else format(live, "f")
    price = only_given(symbol=symbol, reason=reason, ageSeconds=age_s, fixed=format(fixed, "f"), live=told)
    webhooks.emit(unit, kind="price.stale", subject=symbol, data={"price": price}, now=now, entropy=entropy)


def about_payout(work: Work, kind: str, row: Row, **more: Any) -> webhooks.Raised:
    """Return an event about a payout as ``row`` shows it; members of ``more`` that are None are left out."""
    data = {"payout": present_payouts.payout(row, work.config), **only_given(**more)}
    return webhooks.Raised(kind=kind, subject=row.id, data=data)


DIFFERENCE = "reconciliation.difference"


def difference(
    unit: Unit, wallet: Row, finding: str, *, now: Instant, entropy: Entropy, height: int | None = None, **more: Any
) -> bool:
    """Stop a wallet about which ledger, chain and journal do not say the same, and tell of it.

    Of a wallet that was stopped before, for whatever reason, each finding is told once; return False if it was.

    Args:
        unit: the unit.
        wallet: which.
        finding: what differs, for people.
        now: when it was found.
        entropy: for the event's id.
        height: of the final block they were compared at.
        more: ``asset``, ``symbol``, and base units as text that ``ledger`` and ``chain`` say.
    """
    stopped = freeze_wallet(unit, wallet.id, finding, now=now, entropy=entropy)
    found = only_given(
        walletId=wallet.id,
        network=wallet.network,
        address=wallet.address,
        blockNumber=height,
        finding=finding,
        **more,
    )
    if not stopped:
        told = [data["difference"] for data in recovery.told(unit, wallet.id, DIFFERENCE)]
        about = next((each for each in told if each.get("asset") == found.get("asset")), None)
        if about is not None and _said(about) == _said(found):
            return False
    webhooks.emit(unit, kind=DIFFERENCE, subject=wallet.id, data={"difference": found}, now=now, entropy=entropy)
    return True


def _said(found: dict[str, Any]) -> tuple[str, ...]:
    """Return what a finding says, at whatever height."""
    return (found["ledger"], found["chain"]) if "asset" in found else (found["finding"],)
