"""What a mandate of recurring payouts says about one of its runs. Everything but the date is in the mandate itself."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from outlay.core.asset import NATIVE
from outlay.core.intent import Intent, read_intent
from outlay.core.recurring import Recurring, run_named
from outlay.evidence.bundle import EvidenceBroken
from outlay.evidence.canonical import canonical
from outlay.evidence.judged import NotAgreed
from outlay.evidence.state import History, KnownWallet


def run_intent(mandate: Recurring, on: date, *, org: str, chain_id: int) -> Intent:
    """Return what the run of a date is; the server and whoever checks it make it by these same rules."""
    return read_intent(
        org=org,
        initiator=mandate.id,
        wallet=mandate.wallet_id,
        pool=mandate.pool_id,
        network=mandate.network,
        chain_id=chain_id,
        contract=None if mandate.asset == NATIVE else mandate.asset,
        to=mandate.recipient,
        amount=str(mandate.amount),
        priority=None,
        external_id=mandate.external_id(on),
        memo=mandate.memo,
    )


def read_run(
    history: History, mandate: Recurring, said: Mapping[str, Any], payer: str | None, *, since: int
) -> tuple[str, KnownWallet, Intent, date]:
    """Return who pays, the one intent that the mandate allows, and the date whose run it is.

    Args:
        history: the records.
        mandate: which.
        said: the intent that is claimed; nothing of it is believed.
        payer: id of the wallet that pays, where the mandate names a pool.
        since: number of the mandate's record.

    Raises:
        EvidenceBroken: the intent is another one, the calendar has no such date, or its time had come in every zone
            when the mandate was recorded. NotAgreed: the wallet is not, or no longer, of the pool.
    """
    wallet_id, wallet, chain_id = _payer(history, mandate, payer)
    external_id = said.get("externalId")
    named = run_named(external_id if isinstance(external_id, str) else None)
    if named is None or named[0] != mandate.id:
        raise EvidenceBroken("is not named as a run of this mandate", field="payout.intent.externalId")
    on = named[1]
    if not mandate.is_date(on):
        raise EvidenceBroken(f"the mandate has no run of {on}", field="payout.intent.externalId")
    if mandate.latest_due(on) <= history.instants[since]:
        text = f"the run of {on} was due before the mandate was on record"
        raise EvidenceBroken(text, field="payout.intent.externalId")
    intent = run_intent(mandate, on, org=history.org, chain_id=chain_id)
    if canonical(intent.document()) != canonical(dict(said)):
        raise EvidenceBroken(
            "is not what the mandate says: wallet, network, asset, amount, recipient or memo differ",
            field="payout.intent",
        )
    return wallet_id, wallet, intent, on


def _payer(history: History, mandate: Recurring, payer: str | None) -> tuple[str, KnownWallet, int]:
    """Return the wallet that pays, and the chain it pays on."""
    if mandate.pool_id is None:
        wallet_id = mandate.wallet_id or ""
        known = history.wallets.get(wallet_id)
        if known is None:
            raise EvidenceBroken("the mandate's wallet is none of those on record", field="payout.mandateId")
        return wallet_id, known, known.chain_id
    pool = history.pools.get(mandate.pool_id)
    if pool is None or pool.until is not None:
        raise NotAgreed("the mandate's pool was archived", field="payout.mandateId")
    wallet = history.wallets.get(payer or "")
    if payer is None or wallet is None or not pool.holds(wallet, len(history.instants) - 1):
        raise NotAgreed("the paying wallet is not of the mandate's pool", field="payout")
    return payer, wallet, pool.chain_id
