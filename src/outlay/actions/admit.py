"""Admission: signed requests become transfers, judged and recorded in one unit."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from outlay.actions import present
from outlay.actions.act import Act
from outlay.actions.admission import Admissions, Asked
from outlay.actions.work import Work
from outlay.config import Config
from outlay.core.address import ZERO
from outlay.core.asset import Asset
from outlay.core.errors import (
    Conflict,
    HeadMoved,
    InvalidInput,
    NotFound,
    OutlayError,
    PreconditionFailed,
    Refused,
    Unavailable,
)
from outlay.core.faultpoint import fault
from outlay.core.intent import Intent, read_intent
from outlay.core.mandate import EXTERNAL_PREFIX
from outlay.core.pool import Route
from outlay.core.price import Quote
from outlay.core.recurring import EXTERNAL_PREFIX as RUNS_PREFIX
from outlay.core.transfer import RESTORED
from outlay.evidence import record as records
from outlay.evidence.canonical import digest
from outlay.store import organizations, recovery, transfers
from outlay.store.database import Row, Unit

_JUDGED_BY = (
    records.POLICY_CREATED,
    records.POLICY_UPDATED,
    records.POLICY_ARCHIVED,
    records.WALLET_TAGS_MODIFIED,
    records.CONFIG_APPLIED,
    records.CHANGE_APPLIED,
)
"""Records that may change what policies say about a payout."""

_POOLED_BY = (*_JUDGED_BY, records.WALLET_CREATED, records.POOL_CREATED, records.POOL_ARCHIVED)
"""Records that may also change which wallets could pay what names a pool."""

QuoteOf = Callable[[Asset], Quote | None]
Answers = list[dict[str, Any] | Refused]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One payout as it is asked for; either a wallet or a pool is named."""

    kind: str  #: ``Native`` or ``Erc20``
    contract: str | None  #: the token, for ``Erc20``
    to: str
    amount: str  #: base units as digits
    external_id: str | None  #: the caller's own id of this payout
    wallet_id: str | None = None
    pool_id: str | None = None
    priority: str | None = None  #: Slow, Standard or Fast; None is Standard
    memo: str = ""
    body: Any = None  #: the request as it is answered; None: what was signed
    proof: str | None = None  #: canonical text of its evidence, a row's of a batch; None: that of the signed call


Show = Callable[[Unit, Any, Config], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The payouts of one signed call."""

    act: Act
    asks: Sequence[Ask]
    quote_of: QuoteOf
    batch: str | None = None
    show: Show = present.transfer_now  #: how a transfer is answered


def request_transfer(act: Act, ask: Ask, *, quote_of: QuoteOf) -> dict[str, Any]:
    """Admit one payout: the same intent again returns the same transfer, for ever.

    Args:
        act: the signed call.
        ask: the payout.
        quote_of: gives the price of an asset, or None.

    Raises:
        InvalidInput, NotFound, Conflict, PreconditionFailed: nothing was stored.
        HeadMoved: policies were changed after it was signed.
        Unavailable: the money settings are not the signed ones.
    """
    (answer,) = request_payouts(act, [ask], quote_of=quote_of)
    if isinstance(answer, Refused):
        raise answer
    act.result_id = answer["id"]
    return answer


def request_payouts(
    act: Act, asks: Sequence[Ask], *, quote_of: QuoteOf, batch: str | None = None
) -> list[dict[str, Any] | Refused]:
    """Admit many payouts of one signed call, in order; return the transfer or the refusal of each.

    What is refused leaves nothing behind. The caller sets ``act.result_id``.

    Args:
        act: the signed call.
        asks: the payouts.
        quote_of: gives the price of an asset, or None.
        batch: id of the batch they belong to.

    Raises:
        HeadMoved: policies were changed after it was signed.
        Unavailable: the money settings are not the signed ones.
    """
    return order_payouts(Order(act=act, asks=asks, quote_of=quote_of, batch=batch))


def order_payouts(order: Order) -> Answers:
    """Admit the payouts of one signed call; raises as ``request_payouts``."""
    (answers,) = admit_many(order.act.work, [order])
    if isinstance(answers, Exception):
        raise answers
    return answers


def admit_many(work: Work, orders: Sequence[Order]) -> list[Answers | OutlayError]:
    """Admit the payouts of many signed calls, in order.

    Returns:
        for each order the transfer or the refusal of each of its payouts, or the error that refuses all of them
        (see ``request_payouts``).
    """
    admissions = Admissions(work)
    asks = [ask for order in orders for ask in order.asks]
    admissions.expect(
        {ask.wallet_id for ask in asks if ask.wallet_id is not None},
        {ask.external_id for ask in asks if ask.external_id is not None},
    )
    read = [[_read(admissions, order, ask) for ask in order.asks] for order in orders]
    admissions.expect_judging(each for found in read for each in found if isinstance(each, Asked))
    answers: list[Answers | OutlayError] = []
    for order, found in zip(orders, read, strict=True):
        try:
            answers.append(_carry_out(admissions, order, found))
        except (HeadMoved, Unavailable) as error:
            answers.append(error)
    fault("admit.before_commit")
    admissions.write()
    return answers


def _read(admissions: Admissions, order: Order, ask: Ask) -> Asked | Refused:
    """Read what is asked for; whether it may be paid is not looked at yet."""
    act = order.act
    try:
        if ask.external_id is None and act.config.api.require_external_id:
            raise InvalidInput(
                "give every payout an id of your own, so that a retry cannot pay twice"
                " (setting api.require_external_id)",
                field="externalId",
            )
        payer = admissions.wallet(ask.wallet_id or "") if ask.pool_id is None else admissions.payers.pool(ask.pool_id)
        if payer is None:
            raise NotFound("no such wallet")
        intent = read_intent(
            org=act.org.id,
            initiator=act.caller.user_id,
            wallet=ask.wallet_id,
            pool=ask.pool_id,
            network=payer.network,
            chain_id=payer.chain_id,
            contract=ask.contract,
            to=ask.to,
            amount=ask.amount,
            priority=ask.priority,
            external_id=ask.external_id,
            memo=ask.memo,
        )
        payers: Sequence[Row] = [payer]
        columns: dict[str, Any] = {} if order.batch is None else {"batch_id": order.batch}
        if intent.pool is not None:
            payers = admissions.payers.of(intent.pool, asset=intent.asset, amount=int(intent.amount))
            columns |= {"pool_id": intent.pool, "pool_seq": admissions.payers.seq, "route": Route.QUEUE}
    except Refused as refused:
        return refused
    return Asked(
        act=act,
        intent=intent,
        intent_digest=digest(intent.document()),
        payers=payers,
        columns=columns,
        kind=ask.kind,
        body=ask.body,
        proof=ask.proof,
    )


def _carry_out(admissions: Admissions, order: Order, found: Sequence[Asked | Refused]) -> Answers:
    """Answer the payouts of one call; what refuses all of them is raised before the first is admitted."""
    asked = [each for each in found if isinstance(each, Asked)]
    fresh = [each for each in asked if _existing(admissions, each) is None]
    if fresh:
        admissions.require_settings()
        _check_policies_seen(order.act, _POOLED_BY if any(each.intent.pool for each in fresh) else _JUDGED_BY)
    for each in fresh:
        if order.act.config.network(each.intent.network) is None:
            raise Unavailable(f"network {each.intent.network} is not configured on this server")
    return [_answer(admissions, order, each) for each in found]


def _existing(admissions: Admissions, asked: Asked) -> Any:
    return None if asked.intent.external_id is None else admissions.transfer_of(asked.intent.external_id)


def _answer(admissions: Admissions, order: Order, asked: Asked | Refused) -> dict[str, Any] | Refused:
    if isinstance(asked, Refused):
        return asked
    try:
        existing = _existing(admissions, asked)
        if existing is not None:
            row = _same_or_conflict(admissions, order.act, existing, asked.intent_digest)
        else:
            _check_external_id(asked.intent)
            asset = check_payable(admissions, order.act.config, asked.intent, asked.payers)
            row = admissions.admit(asked, asset, order.quote_of(asset))
        return order.show(order.act.unit, row, order.act.config)
    except Refused as refused:
        return refused


def _same_or_conflict(admissions: Admissions, act: Act, existing: Any, intent_digest: str) -> Any:
    if existing.intent_digest == intent_digest:
        if existing.flag == RESTORED:  # its program still wants it: that is what it waited for
            recovery.trust_again(act.unit, existing.id)
            existing = transfers.get(act.unit, existing.id)
            admissions.remember(existing)
        return existing
    if existing.initiator_id != act.caller.user_id:
        raise Conflict("Conflicting transfer with same externalId", duplicate={"externalId": existing.external_id})
    raise Conflict(
        "Conflicting transfer with same externalId",
        duplicate={"id": existing.id, "externalId": existing.external_id},
    )


def _check_policies_seen(act: Act, kinds: Collection[str]) -> None:
    """Refuse a request that was signed under other policies: the signer judges it by those, and they were not asked.

    Raises:
        HeadMoved: policies, tags or settings were changed since it was signed.
    """
    seen = act.call.preimage.records_head
    if seen != act.org.head and organizations.was_changed(act.unit, seen, kinds):
        raise HeadMoved("policies or tags were changed after this payout was signed: sign it again")


def _check_external_id(intent: Intent) -> None:
    """Refuse ids that only mandates give."""
    for prefix, whose in ((EXTERNAL_PREFIX, "refills"), (RUNS_PREFIX, "recurring payouts")):
        if intent.external_id is not None and intent.external_id.startswith(prefix):
            raise InvalidInput(f"{prefix} begins the ids of {whose}: choose another", field="externalId")


def check_payable(admissions: Admissions, config: Config, intent: Intent, payers: Sequence[Row]) -> Asset:
    """Refuse recipients that lose money, assets nobody vouched for, and wallets that are stopped.

    Args:
        admissions: of this unit; the pool, if there is one, was read with it.
        config: names networks and assets.
        intent: what is asked for.
        payers: wallets that may pay.

    Returns:
        What is paid.

    Raises:
        InvalidInput, PreconditionFailed: so it is.
    """
    for wallet in payers:
        _check_chain(config, wallet)
    if intent.recipient == ZERO:
        raise InvalidInput("the zero address belongs to nobody: money sent there is lost", field="to")
    if any(intent.recipient == wallet.address for wallet in payers):
        raise InvalidInput("the recipient is the paying wallet itself", field="to")
    if intent.recipient in admissions.tokens_of(intent.network):
        raise InvalidInput("the recipient is a token contract: money sent there is usually lost", field="to")
    asset = config.find_asset(intent.network, intent.asset)
    if asset is None:
        raise InvalidInput(
            f"this token is not listed for {intent.network}: an admin adds it to [[assets]] and applies the settings",
            field="contract",
        )
    _check_payers(admissions, intent, payers)
    frozen = admissions.frozen_assets.get((intent.network, intent.asset))
    if frozen is not None:
        raise PreconditionFailed(f"{asset.symbol} on {intent.network} is frozen: {frozen}")
    return asset


def _check_chain(config: Config, wallet: Row) -> None:
    network = config.network(wallet.network)
    if network is None or network.chain_id != wallet.chain_id:
        raise PreconditionFailed(
            f"wallet {wallet.id} was made for chain {wallet.chain_id},"
            f" {wallet.network} is now {None if network is None else network.chain_id}: make another wallet"
        )


def _check_payers(admissions: Admissions, intent: Intent, payers: Sequence[Row]) -> None:
    """Refuse what nobody could pay now because whoever may is stopped; one wallet of a pool that is not is enough."""
    if intent.pool is not None:
        admissions.payers.require_open(intent.pool)
    refusals: list[PreconditionFailed] = []
    for wallet in payers:
        try:
            _check_wallet(admissions, wallet, intent.initiator)
            return
        except PreconditionFailed as refused:
            refusals.append(refused)
    if len(refusals) == 1:
        raise refusals[0]
    raise PreconditionFailed(f"no wallet of the pool pays now; {refusals[0].message}")


def _check_wallet(admissions: Admissions, wallet: Row, initiator_id: str) -> None:
    if wallet.status != "Active":
        raise PreconditionFailed(f"wallet {wallet.id} is {wallet.status}")
    if wallet.frozen_reason is not None:
        raise PreconditionFailed(f"wallet {wallet.id} is frozen: {wallet.frozen_reason}")
    if wallet.drained_reason is not None:
        raise PreconditionFailed(f"wallet {wallet.id} is drained: {wallet.drained_reason}")
    stopped = admissions.stops.why(network=wallet.network, wallet_id=wallet.id, identity_id=initiator_id)
    if stopped is not None:
        raise PreconditionFailed(stopped)
