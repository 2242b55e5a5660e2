"""Refills: which wallets of a mandate are low, what goes to them now, and why nothing does.

What is decided and the transfer that carries it out are one unit, so a crash leaves both or neither.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outlay.actions import present
from outlay.actions.act import policy_set_digest
from outlay.actions.change import change
from outlay.actions.judge import ADMISSION, Judgement, judge, keep, open_approval
from outlay.actions.under_mandate import add_payment
from outlay.actions.work import Work
from outlay.config import Config
from outlay.core import ids
from outlay.core.asset import NATIVE, Asset
from outlay.core.intent import read_intent
from outlay.core.mandate import Mandate, Plan, Situation, call_data, hours_to_empty, is_low, plan
from outlay.core.money import value_of
from outlay.core.policy import Facts, required_groups
from outlay.core.price import Quote
from outlay.core.seams import HOUR, MINUTE, Instant
from outlay.core.transfer import Event, State
from outlay.core.velocity import countable
from outlay.store import ledger, mandates, organizations, pools, stops, transfers, velocity, wallets, webhooks
from outlay.store.database import Row, Unit

HORIZON: Instant = 6 * HOUR
"""The stretch of time whose outflow predicts when a wallet is empty."""

REST: Instant = 15 * MINUTE
"""How long a wallet is left alone after a refill of it was refused or failed."""

QuoteOf = Callable[[Asset], Quote | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How one wallet stands under one mandate."""

    mandate: Mandate
    wallet: Row
    spendable: int  #: base units, what the ledger does not set aside
    threshold: int  #: below it, it is filled
    coming: int  #: base units on their way to it
    is_low: bool
    plan: Plan  #: what goes now, and why not more

    @property
    def key(self) -> tuple[str, str]:
        """Mandate and wallet."""
        return self.mandate.id, str(self.wallet.id)


# Looking


def survey(unit: Unit, config: Config, *, now: Instant) -> list[Look]:
    """Return how every wallet under a mandate in force stands, oldest mandate first."""
    among = mandates.active(unit)
    return [look(unit, config, mandate, row, now=now) for mandate, row in filled(unit, among)] if among else []


def filled(unit: Unit, among: Sequence[Mandate]) -> list[tuple[Mandate, Row]]:
    """Return the wallets that mandates fill, oldest mandate first; each wallet and asset is filled by one only."""
    everything, tags = wallets.everything(unit), wallets.all_tags(unit)
    treasuries = {(each.treasury, each.asset) for each in among if each.treasury is not None}
    found: list[tuple[Mandate, Row]] = []
    taken: set[tuple[str, str]] = set()
    for mandate in among:
        for row in targets(unit, mandate, everything, tags):
            place = (row.id, mandate.asset)
            # Two treasuries that fill each other would only burn fees.
            in_a_circle = mandate.treasury is not None and place in treasuries
            if place not in taken and not in_a_circle:
                taken.add(place)
                found.append((mandate, row))
    return found


def targets(unit: Unit, mandate: Mandate, everything: Sequence[Row], tags: Mapping[str, Collection[str]]) -> list[Row]:
    """Return the wallets that a mandate is about, in the order of their ids."""
    pool = None if mandate.targets.pool_id is None else pools.find(unit, mandate.targets.pool_id)
    pool_tag = None if pool is None or pool.status != "Active" else pool.tag
    return sorted(
        (
            row
            for row in everything
            if row.network == mandate.network
            and row.status == "Active"
            and row.id != mandate.treasury
            and mandate.targets.match(row.id, tags.get(row.id, ()), pool_tag=pool_tag)
        ),
        key=lambda row: str(row.id),
    )


def look(unit: Unit, config: Config, mandate: Mandate, row: Row, *, now: Instant) -> Look:
    """Return how a wallet stands, as of this unit."""
    spendable = ledger.holdings(unit, wallet_id=row.id, asset=mandate.asset).spendable
    caps = {each.key: config.fee_cap(mandate.network, each.key) for each in config.assets_of(mandate.network)}
    levels = mandate.levels_at(max(caps.values(), default=0))
    urgent = 0
    if mandate.asset == NATIVE:
        # A token payout that waits needs its whole fee cap, however low the mandate's minimum is.
        waiting = mandates.ready_assets(unit, row.id)
        urgent = max((caps.get(asset, 0) for asset in waiting if asset != NATIVE), default=0)
    coming, answer = 0, Plan(wanted=0, amount=0)
    low = is_low(levels, spendable, urgent)
    if low:
        coming, on_the_way = _coming(unit, mandate, row, now=now)
        stopped = why_stopped(unit, config, mandate, row)
        can_give, lacking = (0, None) if stopped is not None else _treasury(unit, config, mandate)
        spent, count = _spent(unit, mandate, now=now)
        situation = Situation(spendable=spendable, urgent=urgent, treasury=can_give, spent=spent, count=count)
        answer = plan(mandate, levels, situation)
        why_not = stopped or on_the_way or (lacking if not answer.amount else None)
        if why_not is not None:
            answer = Plan(wanted=answer.wanted, amount=0, reason=why_not)
    return Look(
        mandate=mandate,
        wallet=row,
        spendable=spendable,
        threshold=max(levels.least, min(urgent, levels.most)),
        coming=coming,
        is_low=low,
        plan=answer,
    )


def why_stopped(unit: Unit, config: Config, mandate: Mandate, row: Row) -> str | None:
    """Return why nothing goes to a wallet under a mandate whatever its balance, or None."""
    network = config.network(mandate.network)
    if network is None or config.find_asset(mandate.network, mandate.asset) is None:
        return "the network or the asset is not configured any more"
    paying = None if mandate.treasury is None else wallets.find(unit, mandate.treasury)
    for each, what in ((row, "the wallet"), *([] if paying is None else [(paying, "the treasury")])):
        if each.chain_id != network.chain_id:
            return f"{what} is of another chain than {mandate.network} is now"
        if each.frozen_reason is not None:
            return f"{what} is frozen: {each.frozen_reason}"
        if each.status != "Active":
            return f"{what} is {each.status}"
        stopped = stops.why_stopped(unit, network=each.network, wallet_id=each.id, identity_id=mandate.id)
        if stopped is not None:
            return stopped
    if row.drained_reason is not None:
        return f"the wallet is being drained: {row.drained_reason}"
    frozen = wallets.find_frozen_asset(unit, network=mandate.network, asset=mandate.asset)
    return None if frozen is None else f"the asset is frozen: {frozen.reason}"


def _coming(unit: Unit, mandate: Mandate, row: Row, *, now: Instant) -> tuple[int, str | None]:
    """Return what is on its way to a wallet, and why nothing is added to it."""
    open_now = [
        each for each in mandates.open_proposals(unit) if (each.wallet_id, each.asset) == (row.id, mandate.asset)
    ]
    if open_now:
        return max(0, open_now[0].amount - open_now[0].seen), f"it waits for what proposal {open_now[0].id} asks for"
    last = mandates.latest(unit, network=row.network, recipient=row.address.lower(), asset=mandate.asset)
    if last is None:
        return 0, None
    if mandates.under_way(last):
        return last.amount, f"refill {last.id} is under way" + (
            f": {last.waiting_reason}" if last.waiting_reason else ""
        )
    if State(last.state) is State.CONFIRMED:
        # The ledger gets to know of it when the wallet is compared with the chain at such a height.
        arrived = row.compared_block is not None and row.compared_block >= (last.block_number or 0)
        return (0, None) if arrived else (last.amount, f"refill {last.id} is about to arrive")
    ended = max(at for at in (last.requested_at, last.resolved_at, last.signed_at) if at is not None)
    if now < ended + REST:
        return 0, f"refill {last.id} ended {last.state}: {last.reason or 'without a reason'}"
    return 0, None


def _treasury(unit: Unit, config: Config, mandate: Mandate) -> tuple[int | None, str | None]:
    """Return what a mandate's treasury can give beyond what it is about to pay and its fees, and what it lacks.

    None for the amount: the treasury is not ours.
    """
    if mandate.treasury is None:
        return None, None
    left = {
        asset: ledger.holdings(unit, wallet_id=mandate.treasury, asset=asset).spendable
        for asset in (NATIVE, mandate.asset)
    }
    for each in mandates.waiting_of(unit, mandate.treasury):
        left[NATIVE] -= config.fee_cap(mandate.network, each.asset)
        if each.asset in left:
            left[each.asset] -= each.amount
    left[NATIVE] -= config.fee_cap(mandate.network, mandate.asset)
    if left[NATIVE] < 0:
        return 0, "the treasury cannot pay the fees of a refill"
    return max(0, left[mandate.asset]), None


def _spent(unit: Unit, mandate: Mandate, *, now: Instant) -> tuple[int, int]:
    """Return what counts in the mandate's window: base units, and how many refills."""
    count = mandates.spent if mandate.treasury is not None else mandates.proposed
    return count(unit, mandate.id, since=now - mandate.window)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What left the wallets lately."""

    rows: Sequence[Any]  #: as ``mandates.outflows`` gives them
    over: Instant  #: the stretch of time, microseconds

    def hours(self, wallet_id: str, asset: str, spendable: int) -> int | None:
        """Return in how many whole hours a wallet is empty if it pays on like that; None: nothing left it."""
        mine = [row for row in self.rows if row.wallet_id == wallet_id]
        outflow = sum(row.amount for row in mine if row.asset == asset)
        if asset == NATIVE:
            outflow += sum(row.fee or 0 for row in mine)
        return hours_to_empty(spendable, outflow, self.over)


def flow(unit: Unit, *, now: Instant) -> Flow:
    """Return what left all wallets within the horizon, or the newest of it where that is much."""
    rows = mandates.outflows(unit, since=now - HORIZON)
    over = HORIZON if len(rows) < mandates.OUTFLOWS_MAX else max(1, now - rows[-1].signed_at)
    return Flow(rows=rows, over=over)


# Doing


def is_due(unit: Unit, seen: Sequence[Look]) -> bool:
    """Tell whether a unit that writes has anything to do."""
    if any(each.plan.amount for each in seen):
        return True
    if {each.key for each in seen if each.is_low} != mandates.low(unit):
        return True
    if mandates.restored(unit):
        return True
    return any(_ending(row, seen) is not None for row in mandates.open_proposals(unit))


def fill(work: Work, quote_of: QuoteOf, predicted: Flow) -> int:
    """Tell of wallets that are low, refill them, propose what we cannot send; return how many refills and proposals.

    Args:
        work: one unit for all of it.
        quote_of: gives the price of an asset, or None.
        predicted: what left lately.
    """
    for row in mandates.restored(work.unit):
        # The wallet may have been filled since that copy was made: it is looked at again.
        change(work, row, Event.WITHDRAWN, reason="The database was restored from an older copy.")
    seen = survey(work.unit, work.config, now=work.now)
    for row in mandates.open_proposals(work.unit):
        ending = _ending(row, seen)
        if ending is not None:
            mandates.close_proposal(work.unit, row.id, status=ending[0], reason=ending[1], now=work.now)
    known = mandates.low(work.unit)
    mandates.forget_low(work.unit, known - {each.key for each in seen if each.is_low})
    done = 0
    for each in seen:
        # Looked at again: what went to the wallets before this one has left the treasury and the window.
        now = look(work.unit, work.config, each.mandate, each.wallet, now=work.now) if each.is_low else each
        if now.is_low and now.key not in known:
            mandates.set_low(work.unit, *now.key, now=work.now)
            _tell(work, now, predicted)
        if now.plan.amount:
            (_send if now.mandate.treasury is not None else _propose)(work, now, quote_of)
            done += 1
    return done


def _tell(work: Work, seen: Look, predicted: Flow) -> None:
    mandate, wallet = seen.mandate, seen.wallet
    asset = work.config.find_asset(mandate.network, mandate.asset)
    data = present.only_given(
        walletId=wallet.id,
        network=wallet.network,
        mandateId=mandate.id,
        asset=mandate.asset,
        symbol=None if asset is None else asset.symbol,
        spendable=str(seen.spendable),
        threshold=str(seen.threshold),
        hoursToEmpty=predicted.hours(wallet.id, mandate.asset, seen.spendable),
        waitingReason=seen.plan.reason,
    )
    webhooks.emit(
        work.unit,
        kind="wallet.balance.low",
        subject=wallet.id,
        data={"balance": data},
        now=work.now,
        entropy=work.entropy,
    )


def _send(work: Work, seen: Look, quote_of: QuoteOf) -> None:
    """Admit a refill: judged and recorded like a payout, by the policies about refills."""
    mandate, wallet, amount = seen.mandate, seen.wallet, seen.plan.amount
    assert mandate.treasury is not None
    asset = work.config.find_asset(mandate.network, mandate.asset)
    assert asset is not None
    number = 1 + mandates.count(work.unit, mandate.id)
    while transfers.find_by_external_id(work.unit, mandate.external_id(number)) is not None:
        number += 1
    intent = read_intent(
        org=organizations.get(work.unit).id,
        initiator=mandate.id,
        wallet=mandate.treasury,
        network=mandate.network,
        chain_id=wallet.chain_id,
        contract=asset.contract,
        to=wallet.address,
        amount=str(amount),
        priority=None,
        external_id=mandate.external_id(number),
    )
    quote = quote_of(asset)
    value = None if quote is None else value_of(amount, decimals=asset.decimals, price=quote.price)
    judgement = judge(
        work,
        wallet_ids=(mandate.treasury,),
        recipient=intent.recipient,
        initiator_id=mandate.id,
        facts=Facts(
            value=countable(value),
            recipient=intent.recipient,
            price=None if quote is None else format(quote.price, "f"),
            price_source=None if quote is None else quote.source,
            price_at=None if quote is None else quote.at,
            network=mandate.network,
            tid=asset.tid,
            amount=amount,
        ),
    )
    row = add_payment(
        work,
        id=ids.new_id(ids.TRANSFER, work.entropy),
        mandate_id=mandate.id,
        wallet_id=mandate.treasury,
        intent=intent.document(),
        quote=quote,
        decimals=asset.decimals,
        policy_set=policy_set_digest(work.unit),
        requested_at=work.now,
    )
    webhooks.emit(
        work.unit,
        kind="wallet.transfer.requested",
        subject=row.id,
        data={"transferRequest": present.transfer(row, work.config)},
        now=work.now,
        entropy=work.entropy,
    )
    keep(work, judgement, row, moment=ADMISSION)
    _apply(work, row, judgement)


def _apply(work: Work, row: Row, judgement: Judgement) -> None:
    said = judgement.verdict
    if said.kind in ("block", "wait"):  # what a window has no room for now is asked for again later
        reason = " ".join(said.reasons)
        change(work, row, Event.BLOCKED, detail={"reasons": list(said.reasons)}, reason=reason, resolved_at=work.now)
        return
    velocity.admit(
        work.unit,
        judgement.active,
        transfer_id=row.id,
        wallet_id=row.wallet_id,
        tags=judgement.tags,
        recipient=row.recipient,
        initiator_id=row.initiator_id,
        value=row.value,
    )
    if said.kind == "allow":
        change(work, row, Event.ALLOWED, resolved_at=work.now, ready_at=work.now)
        return
    held = change(work, row, Event.HELD, detail={"reasons": list(said.reasons)})
    open_approval(work, held, required_groups(judgement.holding), judgement.holding)


# Proposals


def _propose(work: Work, seen: Look, _quote_of: QuoteOf) -> None:
    """Ask somebody else to send what a wallet needs."""
    mandate, proposal_id = seen.mandate, ids.new_id(ids.PROPOSAL, work.entropy)
    mandates.add_proposal(
        work.unit,
        id=proposal_id,
        mandate_id=mandate.id,
        wallet_id=seen.wallet.id,
        network=mandate.network,
        asset=mandate.asset,
        amount=seen.plan.amount,
        reason=f"{seen.spendable} base units are spendable, and {seen.threshold} are the minimum",
        opened_at=work.now,
    )
    document = proposal(work.unit, mandates.proposal(work.unit, proposal_id))
    webhooks.emit(
        work.unit,
        kind="refill.proposed",
        subject=seen.wallet.id,
        data={"proposal": document},
        now=work.now,
        entropy=work.entropy,
    )


def _ending(row: Row, seen: Sequence[Look]) -> tuple[str, str] | None:
    """Return how an open proposal ends now, and why, or None."""
    if row.seen >= row.amount:
        return mandates.FULFILLED, "what was asked for has arrived"
    known = next((each for each in seen if each.key == (row.mandate_id, row.wallet_id)), None)
    if known is None:
        return mandates.WITHDRAWN, "the wallet is not under this mandate any more"
    if not known.is_low:
        status = mandates.FULFILLED if row.seen else mandates.WITHDRAWN
        return status, "the wallet has recovered"
    return None


def proposal(unit: Unit, row: Row) -> dict[str, Any]:
    """Return a proposal, with the transaction that carries it out as a multisignature wallet takes it."""
    wallet = wallets.find(unit, row.wallet_id)
    assert wallet is not None
    known = mandates.find(unit, row.mandate_id)
    assert known is not None
    if row.asset == NATIVE:
        call = {"to": wallet.address, "value": str(row.amount), "data": "0x"}
    else:
        call = {"to": row.asset, "value": "0", "data": call_data(wallet.address, row.amount)}
    return present.only_given(
        id=row.id,
        mandateId=row.mandate_id,
        walletId=row.wallet_id,
        network=row.network,
        treasury=mandates.mandate_of(known).external,
        to=wallet.address,
        asset=row.asset,
        amount=str(row.amount),
        seen=str(row.seen),
        status=row.status,
        reason=row.reason,
        transaction=call,
        dateOpened=present.when(row.opened_at),
        dateClosed=present.when(row.closed_at),
    )
