"""Requests of payouts in our own words, one or many under one signature."""

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from outlay.actions import present_payouts
from outlay.actions.act import Act
from outlay.actions.admit import Ask, Order, QuoteOf, order_payouts
from outlay.actions.signed_message import SignedMessage
from outlay.actions.withdraw import withdraw
from outlay.config import Config
from outlay.core import ids
from outlay.core.asset import NATIVE
from outlay.core.errors import ActionSignatureInvalid, InvalidInput, NotFound, OutlayError, Refused
from outlay.core.intent import read_intent
from outlay.evidence.canonical import canonical
from outlay.evidence.http_call import row_texts
from outlay.evidence.merkle import digest_of, leaf, paths_of
from outlay.evidence.payout_item import Item
from outlay.store import batches, pools, transfers, wallets
from outlay.store.database import Unit

BATCH_MAX = 1000
"""Payouts in one batch."""

_NETWORKS_MAX = 10_000
Networks = MutableMapping[str, str]
"""Wallet or pool to its network, which never changes: remembered from call to call."""

_OUR_WORDS = {"to": "recipient", "contract": "asset"}
"""What members are called in our own requests that the contract calls otherwise."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Items that were posted together, each read, and what their signature covers of them."""

    items: Sequence[Item]
    texts: Sequence[bytes]  #: the canonical text of each, as it was posted
    leaves: Sequence[bytes]
    digest: str


def check_item(item: Item) -> None:
    """Refuse what is wrong with a request whatever the database says.

    Raises:
        InvalidInput: in our own words.
    """
    if (item.wallet_id is None) == (item.pool_id is None):
        raise InvalidInput("name either walletId or poolId", field="walletId")
    try:
        read_intent(
            org="",
            initiator="",
            wallet=item.wallet_id,
            pool=item.pool_id,
            network="",
            chain_id=0,
            contract=item.contract,
            to=item.recipient,
            amount=item.amount,
            priority=item.priority,
            external_id=item.external_id,
            memo=item.memo,
        )
    except InvalidInput as error:
        raise in_our_words(error) from error


def read_batch(posted: Sequence[Any], items: Sequence[Item]) -> Batch:
    """Return a batch.

    Args:
        posted: the items as they were posted.
        items: the same, read.
    """
    texts = [canonical(each) for each in posted]
    leaves = [leaf(text) for text in texts]
    return Batch(items=items, texts=texts, leaves=leaves, digest=digest_of(leaves))


def order_of(act: Act, item: Item, *, quote_of: QuoteOf, networks: Networks) -> Order:
    """Return what a request for one payout asks for.

    Raises:
        Refused: an asset is named by a symbol that cannot be resolved.
    """
    return Order(act=act, asks=[ask_of(act, item, networks)], quote_of=quote_of, show=_show)


def request_payout(act: Act, item: Item, *, quote_of: QuoteOf) -> dict[str, Any]:
    """Admit one payout: the same intent again returns the same payout, for ever.

    Raises:
        Refused, Unavailable: as ``admit.request_payouts``; nothing was stored.
    """
    (answer,) = order_payouts(order_of(act, item, quote_of=quote_of, networks={}))
    if isinstance(answer, Refused):
        raise answer
    act.result_id = answer["id"]
    return answer


def _show(_unit: Unit, row: Any, config: Config) -> dict[str, Any]:
    return present_payouts.payout(row, config)


def request_batch(act: Act, batch: Batch, *, quote_of: QuoteOf, networks: Networks) -> dict[str, Any]:
    """Admit many payouts of one signed call, each by itself; answer what became of each.

    The same items of the same initiator are the same batch. What was refused is tried again.

    Raises:
        ActionSignatureInvalid: the signature does not cover these items.
        HeadMoved, Unavailable: as ``admit.request_payouts``; no payout was stored.
    """
    call = act.call
    if not isinstance(call, SignedMessage) or call.message.batch_digest != batch.digest:
        raise ActionSignatureInvalid("outlay-batch-digest must be sent and covered, and be that of the items")
    known = batches.find_same(act.unit, initiator_id=act.caller.user_id, digest=batch.digest)
    batch_id = act.new_id(ids.BATCH) if known is None else str(known.id)
    proofs = row_texts(call.message, texts=batch.texts, paths=paths_of(batch.leaves), beside=act.named_with())
    answers: dict[int, dict[str, Any] | Refused] = {}
    asks: dict[int, Ask] = {}
    for at, (item, proof) in enumerate(zip(batch.items, proofs, strict=True)):
        try:
            asks[at] = ask_of(act, item, networks, proof=proof)
        except Refused as refused:
            answers[at] = refused
    order = Order(act=act, asks=list(asks.values()), quote_of=quote_of, batch=batch_id, show=_show)
    answers.update(zip(asks, order_payouts(order), strict=True))
    said = [answers[at] for at in range(len(batch.items))]
    errors = [error_document(answer) if isinstance(answer, Refused) else None for answer in said]
    kept = [[item.external_id, error] for item, error in zip(batch.items, errors, strict=True)]
    if known is None:
        batches.add(
            act.unit,
            id=batch_id,
            digest=batch.digest,
            initiator_id=act.caller.user_id,
            credential_id=act.credential.uuid,
            items=kept,
            created_at=act.now,
        )
    else:
        batches.replace_items(act.unit, batch_id, kept)
    act.result_id = batch_id
    found = batches.find(act.unit, batch_id)
    assert found is not None
    return present_payouts.batch(found, [None if isinstance(each, Refused) else each for each in said])


def cancel(act: Act, payout_id: str) -> dict[str, Any]:
    """End a payout that is held or ready at its initiator's wish.

    Raises:
        NotFound, NotPermitted, PreconditionFailed: as ``withdraw``.
    """
    row = transfers.find(act.unit, payout_id)
    if row is None:
        raise NotFound("no such payout")
    withdraw(act, row.wallet_id, payout_id)
    return present_payouts.payout(transfers.get(act.unit, payout_id), act.config)


def ask_of(act: Act, item: Item, networks: Networks, *, proof: str | None = None) -> Ask:
    """Return a request in the form in which all are admitted.

    Raises:
        NotFound: no such wallet or pool. InvalidInput: no such asset.
    """
    contract = item.contract
    if item.symbol is not None:
        network = _network(act, item, networks)
        found = [each for each in act.config.assets_of(network) if each.symbol == item.symbol]
        if len(found) != 1:
            raise InvalidInput(
                f"{item.symbol} is not listed for {network}, or more than once: name the contract", field="asset"
            )
        contract = found[0].contract
    return Ask(
        kind="Native" if contract is None else "Erc20",
        contract=contract,
        to=item.recipient,
        amount=item.amount,
        external_id=item.external_id,
        wallet_id=item.wallet_id,
        pool_id=item.pool_id,
        priority=item.priority,
        memo=item.memo,
        body=wire_body(
            asset=contract or NATIVE,
            recipient=item.recipient,
            amount=item.amount,
            external_id=item.external_id,
            priority=item.priority,
        ),
        proof=proof,
    )


def _network(act: Act, item: Item, networks: Networks) -> str:
    name = item.wallet_id or item.pool_id or ""
    network = networks.get(name)
    if network is None:
        row = wallets.find(act.unit, name) if item.wallet_id else pools.find(act.unit, name)
        if row is None:
            raise NotFound("no such wallet" if item.wallet_id else "no such pool")
        network = str(row.network)
        if len(networks) < _NETWORKS_MAX:
            networks[name] = network
    return network


def wire_body(
    *, asset: str, recipient: str, amount: str, external_id: str | None, priority: str | None
) -> dict[str, Any]:
    """Return a request as the contract words it: what reads and events show of every payout."""
    given = {
        "kind": "Native" if asset == NATIVE else "Erc20",
        "contract": None if asset == NATIVE else asset,
        "to": recipient,
        "amount": amount,
        "externalId": external_id,
        "priority": priority,
    }
    return {name: value for name, value in given.items() if value is not None}


def in_our_words(error: InvalidInput) -> InvalidInput:
    """Return a refusal that names members as our own requests do."""
    if error.field in _OUR_WORDS:
        return InvalidInput(error.message, field=_OUR_WORDS[error.field])
    return error


def error_document(refused: OutlayError) -> dict[str, Any]:
    """Return a refusal as it is kept and answered beside others."""
    error = in_our_words(refused) if isinstance(refused, InvalidInput) else refused
    return {"code": error.code, "message": error.message, "details": dict(error.details)}
