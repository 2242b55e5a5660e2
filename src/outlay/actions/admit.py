"""Admission: a signed request becomes a transfer, judged and recorded in one unit."""

from collections.abc import Callable
from typing import Any

from outlay.actions import present
from outlay.actions.act import Act, policy_set_digest
from outlay.actions.change import change
from outlay.actions.judge import ADMISSION, Judgement, judge, keep, open_approval
from outlay.actions.organization import require_applied
from outlay.core import ids
from outlay.core.address import ZERO
from outlay.core.asset import Asset
from outlay.core.errors import Conflict, HeadMoved, InvalidInput, NotFound, PreconditionFailed, Unavailable
from outlay.core.faultpoint import fault
from outlay.core.intent import Intent, read_intent
from outlay.core.money import value_of
from outlay.core.policy import Facts, required_groups
from outlay.core.price import Quote
from outlay.core.transfer import RESTORED, Event
from outlay.core.velocity import countable
from outlay.evidence import record as records
from outlay.evidence.canonical import digest
from outlay.store import organizations, recovery, stops, transfers, velocity, wallets, webhooks
from outlay.store.database import Row

_JUDGED_BY = (
    records.POLICY_CREATED,
    records.POLICY_UPDATED,
    records.POLICY_ARCHIVED,
    records.WALLET_TAGS_MODIFIED,
    records.CONFIG_APPLIED,
    records.CHANGE_APPLIED,
)
"""Records that may change what policies say about a payout."""

QuoteOf = Callable[[Asset], Quote | None]


def request_transfer(
    act: Act,
    wallet_id: str,
    *,
    kind: str,
    contract: str | None,
    to: str,
    amount: str,
    priority: str | None,
    external_id: str | None,
    quote_of: QuoteOf,
) -> dict[str, Any]:
    """Admit a payout: the same intent again returns the same transfer, for ever.

    Args:
        act: the signed call.
        wallet_id: the paying wallet.
        kind: ``Native`` or ``Erc20``.
        contract: the token, for ``Erc20``.
        to: recipient address.
        amount: base units as digits.
        priority: Slow, Standard or Fast; None is Standard.
        external_id: the caller's own id of this payout.
        quote_of: gives the price of an asset, or None.

    Raises:
        InvalidInput, NotFound, Conflict, PreconditionFailed: nothing was stored.
        HeadMoved: policies were changed after it was signed.
        Unavailable: the money settings are not the signed ones.
    """
    wallet = wallets.find(act.unit, wallet_id)
    if wallet is None:
        raise NotFound("no such wallet")
    intent = _read_intent(
        act,
        wallet,
        contract=contract,
        to=to,
        amount=amount,
        priority=priority,
        external_id=external_id,
    )
    intent_digest = digest(intent.document())
    existing = transfers.find_by_external_id(act.unit, external_id) if external_id is not None else None
    if existing is not None:
        return _same_or_conflict(act, existing, intent_digest)
    require_applied(act.unit, act.config)
    _check_policies_seen(act)
    asset = _check_payable(act, wallet, intent)
    row, judgement = _admit(act, wallet, intent, intent_digest, kind, asset, quote_of(asset))
    act.result_id = row.id
    fault("admit.before_commit")
    return present.transfer(_apply(act, row, judgement, wallet), act.config)


def _read_intent(
    act: Act,
    wallet: Row,
    *,
    contract: str | None,
    to: str,
    amount: str,
    priority: str | None,
    external_id: str | None,
) -> Intent:
    if external_id is None and act.config.api.require_external_id:
        raise InvalidInput(
            "give every payout an id of your own, so that a retry cannot pay twice (setting api.require_external_id)",
            field="externalId",
        )
    return read_intent(
        org=act.org.id,
        initiator=act.caller.user_id,
        wallet=wallet.id,
        network=wallet.network,
        chain_id=wallet.chain_id,
        contract=contract,
        to=to,
        amount=amount,
        priority=priority,
        external_id=external_id,
    )


def _same_or_conflict(act: Act, existing: Row, intent_digest: str) -> dict[str, Any]:
    if existing.intent_digest == intent_digest:
        act.result_id = existing.id
        if existing.flag == RESTORED:  # its program still wants it: that is what it waited for
            recovery.trust_again(act.unit, existing.id)
            existing = transfers.get(act.unit, existing.id)
        return present.transfer_now(act.unit, existing, act.config)
    if existing.initiator_id != act.caller.user_id:
        raise Conflict("Conflicting transfer with same externalId", duplicate={"externalId": existing.external_id})
    raise Conflict(
        "Conflicting transfer with same externalId",
        duplicate={"id": existing.id, "externalId": existing.external_id},
    )


def _check_policies_seen(act: Act) -> None:
    """Refuse a request that was signed under other policies: the signer judges it by those, and they were not asked.

    Raises:
        HeadMoved: policies, tags or settings were changed since it was signed.
    """
    seen = act.call.preimage.records_head
    if seen != act.org.head and organizations.was_changed(act.unit, seen, _JUDGED_BY):
        raise HeadMoved("policies or tags were changed after this payout was signed: sign it again")


def _check_payable(act: Act, wallet: Row, intent: Intent) -> Asset:
    """Refuse recipients that lose money, assets nobody vouched for, and wallets that are stopped."""
    network = act.config.network(wallet.network)
    if network is None:
        raise Unavailable(f"network {wallet.network} is not configured on this server")
    if network.chain_id != wallet.chain_id:
        raise PreconditionFailed(
            f"wallet {wallet.id} was made for chain {wallet.chain_id}, {wallet.network} is now {network.chain_id}:"
            " make another wallet"
        )
    if intent.recipient == ZERO:
        raise InvalidInput("the zero address belongs to nobody: money sent there is lost", field="to")
    if intent.recipient == wallet.address:
        raise InvalidInput("the recipient is the paying wallet itself", field="to")
    tokens = {asset.contract for asset in act.config.assets_of(intent.network)} - {None}
    if intent.recipient in tokens:
        raise InvalidInput("the recipient is a token contract: money sent there is usually lost", field="to")
    asset = act.config.find_asset(intent.network, intent.asset)
    if asset is None:
        raise InvalidInput(
            f"this token is not listed for {intent.network}: an admin adds it to [[assets]] and applies the settings",
            field="contract",
        )
    if wallet.status != "Active":
        raise PreconditionFailed(f"wallet {wallet.id} is {wallet.status}")
    if wallet.frozen_reason is not None:
        raise PreconditionFailed(f"wallet {wallet.id} is frozen: {wallet.frozen_reason}")
    stopped = stops.why_stopped(act.unit, network=wallet.network, wallet_id=wallet.id, identity_id=act.caller.user_id)
    if stopped is not None:
        raise PreconditionFailed(stopped)
    frozen = wallets.find_frozen_asset(act.unit, network=intent.network, asset=intent.asset)
    if frozen is not None:
        raise PreconditionFailed(f"{asset.symbol} on {intent.network} is frozen: {frozen.reason}")
    return asset


def _admit(
    act: Act,
    wallet: Row,
    intent: Intent,
    intent_digest: str,
    kind: str,
    asset: Asset,
    quote: Quote | None,
) -> tuple[Row, Judgement]:
    amount = int(intent.amount)
    value = None if quote is None else value_of(amount, decimals=asset.decimals, price=quote.price)
    transfer_id = act.new_id(ids.TRANSFER)
    facts = Facts(
        value=value,
        recipient=intent.recipient,
        price=None if quote is None else format(quote.price, "f"),
        price_source=None if quote is None else quote.source,
        price_at=None if quote is None else quote.at,
        network=intent.network,
        tid=asset.tid,
        amount=amount,
    )
    judgement = judge(
        act.work,
        wallet_id=wallet.id,
        recipient=intent.recipient,
        initiator_id=act.caller.user_id,
        facts=facts,
    )
    row = transfers.add(
        act.unit,
        id=transfer_id,
        external_id=intent.external_id,
        intent_digest=intent_digest,
        intent=intent.document(),
        wallet_id=wallet.id,
        network=wallet.network,
        kind=kind,
        asset=intent.asset,
        recipient=intent.recipient,
        amount=amount,
        request_body=act.payload,
        initiator_id=act.caller.user_id,
        token_id=act.caller.token_id,
        credential_id=act.credential.uuid,
        # What no counter could add up has no column either; it is above any limit a rule may have.
        value=countable(value),
        price=None if quote is None else quote.document(),
        policy_set=policy_set_digest(act.unit),
        requested_at=act.now,
    )
    act.keep_evidence(transfer_id)
    webhooks.emit(
        act.unit,
        kind="wallet.transfer.requested",
        subject=transfer_id,
        data={"transferRequest": present.transfer(row, act.config)},
        now=act.now,
        entropy=act.entropy,
    )
    keep(act.work, judgement, row, moment=ADMISSION)
    return row, judgement


def _apply(act: Act, row: Row, judgement: Judgement, wallet: Row) -> Row:
    """Act on the verdict."""
    said = judgement.verdict
    if said.kind == "block":
        return change(
            act.work,
            row,
            Event.BLOCKED,
            detail={"reasons": list(said.reasons)},
            reason=" ".join(said.reasons),
            resolved_at=act.now,
        )
    velocity.admit(
        act.unit,
        # The organization's counters count every wallet, so all active policies are offered.
        judgement.active,
        transfer_id=row.id,
        wallet_id=wallet.id,
        tags=judgement.tags,
        recipient=row.recipient,
        initiator_id=row.initiator_id,
        value=row.value,
    )
    if said.kind == "allow":
        return change(act.work, row, Event.ALLOWED, resolved_at=act.now, ready_at=act.now)
    held = change(act.work, row, Event.HELD, detail={"reasons": list(said.reasons)})
    open_approval(act.work, held, required_groups(judgement.holding), judgement.holding)
    return transfers.get(act.unit, held.id)
