"""The transfers that a mandate asks for, and no person: refills, and runs of recurring payouts."""

from collections.abc import Mapping
from typing import Any

from outlay.actions.payouts import wire_body
from outlay.actions.work import Work
from outlay.core.asset import NATIVE
from outlay.core.money import value_of
from outlay.core.price import Quote
from outlay.core.seams import Instant
from outlay.core.velocity import countable
from outlay.evidence.canonical import digest
from outlay.store import transfers
from outlay.store.database import Row


def add_payment(
    work: Work,
    *,
    id: str,
    mandate_id: str,
    wallet_id: str,
    intent: Mapping[str, Any],
    quote: Quote | None,
    decimals: int | None,
    policy_set: str,
    requested_at: Instant,
    **columns: Any,
) -> Row:
    """Store the transfer of a payment under a mandate, in state requested.

    Args:
        work: the unit.
        id: of the transfer.
        mandate_id: whose it is.
        wallet_id: who pays, or for whom it counts until a wallet of the pool is chosen.
        intent: what it is.
        quote: what the asset is worth, or None.
        decimals: of the asset; None: it is not known any more.
        policy_set: digest of the policies in force.
        requested_at: when it was asked for.
        columns: further ones, of a pool's.
    """
    amount = int(intent["amount"])
    value = None if quote is None or decimals is None else value_of(amount, decimals=decimals, price=quote.price)
    body = wire_body(
        asset=intent["asset"],
        recipient=intent["recipient"],
        amount=intent["amount"],
        external_id=intent["externalId"],
        priority=None,
    )
    return transfers.add(
        work.unit,
        id=id,
        external_id=intent["externalId"],
        intent_digest=digest(dict(intent)),
        intent=dict(intent),
        wallet_id=wallet_id,
        mandate_id=mandate_id,
        network=intent["network"],
        kind="Native" if intent["asset"] == NATIVE else "Erc20",
        asset=intent["asset"],
        recipient=intent["recipient"],
        amount=amount,
        request_body=body,
        initiator_id=mandate_id,
        token_id="",
        credential_id=None,
        value=countable(value),
        price=None if quote is None else quote.document(),
        policy_set=policy_set,
        requested_at=requested_at,
        **columns,
    )
