"""What the signer checks about a payment under a mandate, which is on record in the place of a signed request.

The signer sees no balances. What it can hold a server to is whom a refill fills, from where, with what, how much at
once, and, from its own journal, how much and how often within the window. Of a recurring payout it is all but the
moment: the date is one of the mandate's, and the signer's clock is near it; which time zone's clocks show how late it
is there, it does not know.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from outlay.core.mandate import Mandate
from outlay.core.recurring import Recurring
from outlay.core.seams import Instant
from outlay.evidence.canonical import canonical
from outlay.evidence.judged import NotAgreed
from outlay.evidence.mandated import check_mandated
from outlay.evidence.report import ProofBroken, Trail
from outlay.evidence.state import History, KnownWallet
from outlay.signer import Demand, SignerRefused, Why
from outlay.signer.checks import records_head
from outlay.signer.journal_rows import SlotRow


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderMandate:
    """A payment that is justified."""

    mandate: Mandate | Recurring
    wallet: KnownWallet  #: who pays
    filled: str | None  #: of a refill: id of the wallet that is filled
    run: date | None  #: of a recurring payout: which
    intent: dict[str, Any]
    demand: str  #: canonical text
    challenges: tuple[str, ...]  #: that the approvals answered: each good once
    votes_since: int  #: number of the oldest record that an approval was signed over; the newest without approvals


def check_under_mandate(history: History, demand: Demand, payer: str) -> UnderMandate:
    """Return the payment that a mandate on record allows and approvals agree to, if the wallet ``payer`` pays it.

    Raises:
        SignerRefused: so it is not; ``why`` says whether records are missing here, the evidence is bad, or it may not
            go by the records of now.
    """
    payout, asked, decisions = demand.payout, list(demand.asked), list(demand.decisions)
    named = payout.get("mandateId")
    if not isinstance(named, str) or named not in history.mandates:
        raise SignerRefused("the records that the signer has hold no such mandate", field="demand", why=Why.BEHIND)
    for call in decisions:
        if records_head(history, call) not in history.numbers:
            raise SignerRefused("signed over records that the signer has not seen", field="demand", why=Why.BEHIND)
    try:
        found = check_mandated(history, payout=payout, asked=asked, decisions=decisions, payer=payer, trail=Trail())
    except ProofBroken as broken:
        why = Why.NOT_AGREED if isinstance(broken.__cause__, NotAgreed) else Why.EVIDENCE
        raise SignerRefused(f"{broken.step}: {broken.message}", field=broken.field, why=why) from broken
    if found.wallet_id != payer:
        raise SignerRefused("the mandate names another wallet that pays", field="wallet_id", why=Why.EVIDENCE)
    return UnderMandate(
        mandate=found.mandate,
        wallet=found.wallet,
        filled=found.filled,
        run=found.run,
        intent=found.intent.document(),
        demand=canonical({"payout": payout, "asked": asked, "decisions": decisions}).decode("ascii"),
        challenges=tuple(each.challenge for each in found.decisions),
        votes_since=min((each.seq for each in found.decisions), default=len(history.instants) - 1),
    )


def check_room(
    mandate: Mandate, amount: int, earlier: Iterable[SlotRow], *, now: Instant, full_from: Instant | None
) -> None:
    """Refuse a refill that would go over its mandate's window.

    What was signed counts for the whole window whatever became of it: the signer believes nobody about the chain.

    Args:
        mandate: whose refill it is.
        amount: of the refill, base units.
        earlier: slots within the window that are named as the mandate's refills.
        now: the signer's time.
        full_from: when a new journal was put in the place of a lost one; what was signed before is not known.

    Raises:
        SignerRefused: so it would.
    """
    if full_from is not None and now < full_from + mandate.window:
        text = f"the journal was lost: the window of mandate {mandate.id} counts as spent for {mandate.minutes} minutes"
        raise SignerRefused(text, field="caps", why=Why.CAP)
    amounts = [
        int(slot.intent["amount"])
        for slot in earlier
        # A payout may be named like a refill; who asked for it says that it is none.
        if slot.intent is not None and slot.intent["initiator"] == mandate.id
    ]
    if len(amounts) + 1 > mandate.window_count:
        text = f"mandate {mandate.id} allows {mandate.window_count} refills within {mandate.minutes} minutes"
        raise SignerRefused(text, field="caps", why=Why.CAP)
    if sum(amounts) + amount > mandate.window_amount:
        text = f"mandate {mandate.id} allows {mandate.window_amount} base units within {mandate.minutes} minutes"
        raise SignerRefused(text, field="caps", why=Why.CAP)


def check_run(mandate: Recurring, on: date, *, now: Instant, full_from: Instant | None) -> None:
    """Refuse the run of a date that is not near, or that a lost journal may have held.

    That a date has one run only is what the journal knows by its ``externalId``, like that of any payout.

    Args:
        mandate: whose run it is.
        on: a date of the mandate's.
        now: the signer's time.
        full_from: when a new journal was put in the place of a lost one; what was signed before is not known.

    Raises:
        SignerRefused: so it is.
    """
    earliest, latest = mandate.window(on)
    if now < earliest:
        raise SignerRefused(f"the run of {on} is not due yet", field="demand", why=Why.EVIDENCE)
    if now > latest:
        text = f"the run of {on} is too old to be signed: people have to ask for it themselves"
        raise SignerRefused(text, field="demand", why=Why.EVIDENCE)
    if full_from is not None and earliest <= full_from:
        text = f"the journal was lost after the run of {on} may have been signed: people have to ask for it themselves"
        raise SignerRefused(text, field="demand", why=Why.EVIDENCE)
