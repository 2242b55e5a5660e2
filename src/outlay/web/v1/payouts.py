"""Payouts in our own words: one call, signed as one HTTP message; a thousand in one call, under one signature."""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from litestar import Controller, get, post

from outlay.actions import payouts as actions
from outlay.actions import present, present_payouts
from outlay.actions.act import Act
from outlay.actions.admit import Order, QuoteOf
from outlay.actions.decide_batch import decide_batch
from outlay.core.address import parse_address
from outlay.core.asset import NATIVE, Asset
from outlay.core.errors import ActionSignatureInvalid, InvalidInput, NotFound
from outlay.core.event import read_iso
from outlay.core.price import Quote
from outlay.core.seams import Instant
from outlay.core.transfer import State
from outlay.evidence.payout_item import Item
from outlay.store import batches, transfers
from outlay.web.body import StrictRequest, read_struct
from outlay.web.dfns.identity import Body
from outlay.web.dfns.policy import DecisionBody
from outlay.web.gate import Gate, page_arguments, query_flag, query_text
from outlay.web.messages import is_message

REASONS_MAX = 100
"""How many malformed items of a batch an answer names."""

Address = Annotated[str, msgspec.Meta(description="0x and 40 hex digits; mixed case must be a right checksum")]


class RequestPayout(Body):
    """One payout to be made; either a wallet or a pool is named."""

    asset: Annotated[str, msgspec.Meta(description="native, a token's contract, or the symbol of a listed asset")]
    recipient: Address
    amount: str
    externalId: str | None = None
    walletId: str | None = None
    poolId: str | None = None
    memo: str | None = None
    priority: str | None = None

    def item(self) -> Item:
        """Return the request as actions take it."""
        return Item(
            external_id=self.externalId,
            wallet_id=self.walletId,
            pool_id=self.poolId,
            asset=self.asset,
            recipient=self.recipient,
            amount=self.amount,
            memo=self.memo or "",
            priority=self.priority,
        )


class RequestBatch(Body):
    """Payouts to be made, each with an ``externalId`` of its own."""

    items: list[dict[str, Any]]


class PayoutController(Controller):
    """``/v1/payouts``."""

    path = "/v1/payouts"
    tags = ("Payouts",)

    @post(status_code=200, summary="Request a payout")
    async def request(self, request: StrictRequest, data: RequestPayout, gate: Gate) -> dict[str, Any]:
        """Request a payout: it flows, waits for people or is blocked, as the policies say."""
        item = data.item()
        actions.check_item(item)

        def order(act: Act) -> Order:
            return actions.order_of(act, item, quote_of=_quotes(gate, act), networks=gate.networks)

        try:
            return await gate.admit(request, "Wallets:Transfers:Create", order)
        except InvalidInput as error:
            raise actions.in_our_words(error) from error

    @post("/batch", status_code=200, summary="Request many payouts")
    async def request_batch(self, request: StrictRequest, data: RequestBatch, gate: Gate) -> dict[str, Any]:
        """Request up to 1,000 payouts under one signature; each gets a verdict of its own.

        Where an item is malformed nothing is done, and every malformed item is named.
        """
        if not is_message(request):
            gate.claims(request)
            raise ActionSignatureInvalid("sign a batch as an HTTP message, covering outlay-batch-digest")
        batch = actions.read_batch(data.items, _read_items(data.items))

        def admit(act: Act) -> dict[str, Any]:
            return actions.request_batch(act, batch, quote_of=_quotes(gate, act), networks=gate.networks)

        with gate.places.take():
            return await gate.write(request, "Wallets:Transfers:Create", admit)

    @get(summary="List payouts")
    async def list_(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return one page of payouts, newest first, of every wallet and pool."""
        page, filters = page_arguments(request), filters_of(request)
        since, until = _instant(request, "since"), _instant(request, "until")
        delayed = query_flag(request, "delayed")

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            rows, token = batches.payout_page(unit, filters, since=since, until=until, delayed=delayed, **page)
            return present.page([present_payouts.payout(row, gate.config) for row in rows], token)

        return await gate.read(request, "Wallets:Transfers:Read", read)

    @get("/{payout_id:str}", summary="Read a payout")
    async def read(self, request: StrictRequest, payout_id: str, gate: Gate) -> dict[str, Any]:
        """Return one payout."""

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            row = transfers.find(unit, payout_id)
            if row is None:
                raise NotFound("no such payout")
            return present_payouts.payout(row, gate.config)

        return await gate.read(request, "Wallets:Transfers:Read", read)

    @get("/batch/{batch_id:str}", summary="Read a batch")
    async def read_batch(self, request: StrictRequest, batch_id: str, gate: Gate) -> dict[str, Any]:
        """Return a batch: of each item, in their order, the payout as it stands now, or why there is none."""

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            row = batches.find(unit, batch_id)
            if row is None:
                raise NotFound("no such batch")
            return present_payouts.batch_now(unit, row, gate.config)

        return await gate.read(request, "Wallets:Transfers:Read", read)

    @post("/batch/{batch_id:str}/decisions", status_code=200, summary="Decide about a batch")
    async def decide(self, request: StrictRequest, batch_id: str, data: DecisionBody, gate: Gate) -> dict[str, Any]:
        """Approve or deny at once what waits in a batch, where the policies that ask have ``per`` batch.

        The signature covers every payout that waits and the groups that are asked.
        """
        return await gate.write(
            request,
            "Policies:Evaluations:Vote",
            lambda act: decide_batch(act, batch_id, value=data.value, reason=data.reason),
        )

    @post("/{payout_id:str}/cancel", status_code=200, summary="Take a payout back")
    async def cancel(self, request: StrictRequest, payout_id: str, gate: Gate) -> dict[str, Any]:
        """End a payout of your own that is held or ready; one that is on its way is not stopped by this."""
        await request.expect_empty()
        return await gate.write(request, "Wallets:Transfers:Abort", lambda act: actions.cancel(act, payout_id))


def _quotes(gate: Gate, act: Act) -> QuoteOf:
    """Return what gives prices as of the call, each asset's once."""
    known: dict[tuple[str, str], Quote | None] = {}

    def quote_of(asset: Asset) -> Quote | None:
        place = (asset.network, asset.key)
        if place not in known:
            known[place] = gate.price_of(asset, act.now)
        return known[place]

    find: Callable[[Asset], Quote | None] = quote_of
    return find


def _read_items(posted: list[dict[str, Any]]) -> list[Item]:
    """Return the items of a batch.

    Raises:
        InvalidInput: some are malformed, or two have the same ``externalId``; ``details.items`` names each.
    """
    if not 1 <= len(posted) <= actions.BATCH_MAX:
        raise InvalidInput(f"must hold 1 to {actions.BATCH_MAX} payouts", field="items")
    items: list[Item] = []
    wrong: list[InvalidInput] = []
    seen: set[str] = set()
    for at, each in enumerate(posted):
        try:
            item = read_struct(each, RequestPayout).item()
            if item.external_id is None:
                raise InvalidInput("every payout of a batch has an id of its own", field="externalId")
            actions.check_item(item)
            if item.external_id in seen:
                raise InvalidInput("is that of another payout of this batch", field="externalId")
            seen.add(item.external_id)
            items.append(item)
        except InvalidInput as error:
            wrong.append(InvalidInput(error.message, field=f"items[{at}].{error.field}"))
    if wrong:
        named = [{"field": each.field, "message": each.message} for each in wrong[:REASONS_MAX]]
        raise InvalidInput(
            f"{wrong[0].message} ({len(wrong)} of {len(posted)} payouts are malformed; nothing was done)",
            field=wrong[0].field,
            items=named,
        )
    return items


def filters_of(request: StrictRequest) -> dict[str, str | None]:
    """Return which column must have which value, as the query of a list of payouts says.

    Raises:
        InvalidInput: a value that no payout can have.
    """
    state, asset, recipient = (query_text(request, name) for name in ("state", "asset", "recipient"))
    if state is not None and state not in set(State):
        raise InvalidInput("must be one of " + ", ".join(State), field="state")
    if asset is not None and asset != NATIVE:
        asset = parse_address(asset, field="asset")
    return {
        "state": state,
        "wallet_id": query_text(request, "walletId"),
        "pool_id": query_text(request, "poolId"),
        "batch_id": query_text(request, "batchId"),
        "external_id": query_text(request, "externalId"),
        "initiator_id": query_text(request, "initiatorId"),
        "asset": asset,
        "recipient": None if recipient is None else parse_address(recipient, field="recipient"),
    }


def _instant(request: StrictRequest, name: str) -> Instant | None:
    text = query_text(request, name)
    return None if text is None else read_iso(text, field=name)
