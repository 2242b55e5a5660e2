"""Wallets, tags and transfers."""

from typing import Annotated, Any

import msgspec
from litestar import Controller, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from outlay.actions import present
from outlay.actions import wallets as actions
from outlay.actions.admit import Ask, Order
from outlay.actions.replace import cancel, speed_up
from outlay.actions.withdraw import withdraw
from outlay.core.address import parse_address
from outlay.core.errors import InvalidInput, NotFound, Unavailable
from outlay.core.fees import Fees
from outlay.signer import KeyMaker
from outlay.store import transfers, wallets
from outlay.web.body import Label, StrictRequest
from outlay.web.dfns.identity import Body
from outlay.web.dfns.network import AnyChains, Chains
from outlay.web.gate import Gate, page_arguments, query_flag, query_text

Address = Annotated[str, msgspec.Meta(description="0x and 40 hex digits; mixed case must be a right checksum")]


AnySigner = NamedDependency[SkipValidation[KeyMaker]]
HISTORY_KINDS = {"NativeTransfer": "Native", "Erc20Transfer": "Erc20"}
"""Kind of a history's item -> kind of the transfer. The contract's other kinds are of chains and assets not offered."""


class CreateWallet(Body):
    """A hot wallet to be made."""

    network: str
    name: Label | None = None
    externalId: Label | None = None
    tags: list[str] | None = None


class UpdateWallet(Body):
    """What may change of a wallet; null clears."""

    name: Label | msgspec.UnsetType | None = msgspec.UNSET
    externalId: Label | msgspec.UnsetType | None = msgspec.UNSET


class Tags(Body):
    """Tags to add or remove."""

    tags: list[str]


class NativeTransfer(msgspec.Struct, tag_field="kind", tag="Native", forbid_unknown_fields=True, kw_only=True):
    """Pay the network's own coin."""

    to: Address
    amount: str
    externalId: str | None = None
    priority: str | None = None


class Erc20Transfer(msgspec.Struct, tag_field="kind", tag="Erc20", forbid_unknown_fields=True, kw_only=True):
    """Pay a token."""

    contract: Address
    to: Address
    amount: str
    externalId: str | None = None
    priority: str | None = None


class WalletController(Controller):
    """``/wallets``."""

    path = "/wallets"
    tags = ("Wallets",)

    @get(summary="List wallets")
    async def list_(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return one page of wallets."""
        page = page_arguments(request)

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            rows, token = wallets.list_page(unit, **page)
            return present.page([present.wallet(unit, row) for row in rows], token)

        return await gate.read(request, "Wallets:Read", read)

    @post(status_code=200, summary="Create a wallet")
    async def create(self, request: StrictRequest, data: CreateWallet, gate: Gate, signer: AnySigner) -> dict[str, Any]:
        """Create a hot wallet; the signer makes its key."""
        await gate.check(request, "Wallets:Create")
        actions.check_network(gate.config, data.network)
        if data.tags:
            actions.parse_tags(data.tags)
        wallet_id = actions.new_wallet_id(gate.entropy)
        key = await signer.create_key(wallet_id)
        return await gate.write(
            request,
            "Wallets:Create",
            lambda act: actions.create(
                act,
                wallet_id=wallet_id,
                network=data.network,
                key_id=key.key_id,
                address=key.address,
                public_key=key.public_key_hex,
                name=data.name,
                external_id=data.externalId,
                tags=data.tags or (),
            ),
        )

    @get("/{wallet_id:str}", summary="Read a wallet")
    async def read(self, request: StrictRequest, wallet_id: str, gate: Gate) -> dict[str, Any]:
        """Return one wallet."""
        return await gate.read(
            request, "Wallets:Read", lambda unit, _: present.wallet(unit, actions.get(unit, wallet_id))
        )

    @get("/{wallet_id:str}/assets", summary="Read a wallet's balances")
    async def assets(self, request: StrictRequest, wallet_id: str, gate: Gate, chains: AnyChains) -> dict[str, Any]:
        """Return what the chain says now that the wallet holds of every configured asset; 503 if it does not answer."""
        wanted = query_flag(request, "netWorth", "net_worth")
        wallet = await gate.read(request, "Wallets:Read", lambda unit, _: actions.get(unit, wallet_id))
        listed = gate.config.assets_of(wallet.network)
        if not listed:
            raise Unavailable(f"the network {wallet.network} is not configured any more: nobody can be asked")
        balances = await chains.balances(wallet.address, listed)
        now = gate.clock.now()
        held = [(a, balance, gate.price_of(a, now)) for a, balance in zip(listed, balances, strict=True)]
        return present.wallet_assets(wallet, held, net_worth=wanted is True)

    @get("/{wallet_id:str}/history", summary="List what a wallet paid")
    async def history(self, request: StrictRequest, wallet_id: str, gate: Gate) -> dict[str, Any]:
        """Return one page of the confirmed transfers; what came in is told by events, for it has no hash here."""
        page, asset = page_arguments(request), None
        kind, contract = query_text(request, "kind"), query_text(request, "contract")
        direction = query_text(request, "direction")
        if direction not in (None, "In", "Out"):
            raise InvalidInput("is In or Out", field="direction")
        if kind is not None and kind not in HISTORY_KINDS:
            raise InvalidInput(f"must be one of {', '.join(HISTORY_KINDS)}", field="kind")
        if contract is not None:
            asset = parse_address(contract, field="contract")

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            wallet = actions.get(unit, wallet_id)
            rows, token = transfers.confirmed_page(
                unit, wallet_id, kind=HISTORY_KINDS[kind] if kind else None, asset=asset, **page
            )
            if direction == "In":
                rows, token = [], None
            items = [present.history_item(row, row.block_number, wallet.address, gate.config) for row in rows]
            return {"walletId": wallet_id, "network": wallet.network, **present.page(items, token)}

        return await gate.read(request, "Wallets:Read", read)

    @put("/{wallet_id:str}", summary="Rename a wallet")
    async def update(self, request: StrictRequest, wallet_id: str, data: UpdateWallet, gate: Gate) -> dict[str, Any]:
        """Change a wallet's name or correlation id."""
        given = {"name": data.name, "external_id": data.externalId}
        changes = {name: value for name, value in given.items() if not isinstance(value, msgspec.UnsetType)}
        return await gate.write(request, "Wallets:Update", lambda act: actions.rename(act, wallet_id, changes=changes))

    @put("/{wallet_id:str}/tags", summary="Tag a wallet")
    async def tag(self, request: StrictRequest, wallet_id: str, data: Tags, gate: Gate) -> dict[str, Any]:
        """Put tags on a wallet."""
        return await gate.write(request, "Wallets:Tags:Add", lambda act: actions.add_tags(act, wallet_id, data.tags))

    @delete("/{wallet_id:str}/tags", status_code=200, summary="Untag a wallet")
    async def untag(self, request: StrictRequest, wallet_id: str, data: Tags, gate: Gate) -> dict[str, Any]:
        """Take tags off a wallet."""
        return await gate.write(
            request, "Wallets:Tags:Remove", lambda act: actions.remove_tags(act, wallet_id, data.tags)
        )

    @post("/{wallet_id:str}/transfers", status_code=200, summary="Request a transfer")
    async def transfer(
        self,
        request: StrictRequest,
        wallet_id: str,
        data: NativeTransfer | Erc20Transfer,
        gate: Gate,
    ) -> dict[str, Any]:
        """Request a payout: it flows, waits for people or is blocked, as the policies say."""
        ask = Ask(
            wallet_id=wallet_id,
            kind="Erc20" if isinstance(data, Erc20Transfer) else "Native",
            contract=data.contract if isinstance(data, Erc20Transfer) else None,
            to=data.to,
            amount=data.amount,
            priority=data.priority,
            external_id=data.externalId,
        )
        return await gate.admit(
            request,
            "Wallets:Transfers:Create",
            lambda act: Order(act=act, asks=[ask], quote_of=lambda asset: gate.price_of(asset, act.now)),
        )

    @get("/{wallet_id:str}/transfers", summary="List transfers")
    async def list_transfers(self, request: StrictRequest, wallet_id: str, gate: Gate) -> dict[str, Any]:
        """Return one page of a wallet's transfers."""
        page = page_arguments(request)

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            actions.get(unit, wallet_id)
            rows, token = transfers.list_page(unit, wallet_id, **page)
            items = present.page(present.transfers_now(unit, rows, gate.config), token)
            return {"walletId": wallet_id, **items}

        return await gate.read(request, "Wallets:Transfers:Read", read)

    @get("/{wallet_id:str}/transfers/{transfer_id:str}", summary="Read a transfer")
    async def read_transfer(
        self, request: StrictRequest, wallet_id: str, transfer_id: str, gate: Gate
    ) -> dict[str, Any]:
        """Return one transfer in its current state."""

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            row = transfers.find(unit, transfer_id)
            if row is None or row.wallet_id != wallet_id:
                raise NotFound("no such transfer")
            return present.transfer_now(unit, row, gate.config)

        return await gate.read(request, "Wallets:Transfers:Read", read)

    @put("/{wallet_id:str}/transfers/{transfer_id:str}/abort", summary="Abort a transfer")
    async def abort(self, request: StrictRequest, wallet_id: str, transfer_id: str, gate: Gate) -> dict[str, Any]:
        """Take back a transfer that no nonce was bound to yet."""
        await request.expect_empty()
        return await gate.write(request, "Wallets:Transfers:Abort", lambda act: withdraw(act, wallet_id, transfer_id))

    @post("/{wallet_id:str}/transfers/{transfer_id:str}/cancel", status_code=200, summary="Cancel a transfer")
    async def cancel(
        self, request: StrictRequest, wallet_id: str, transfer_id: str, gate: Gate, chains: AnyChains
    ) -> dict[str, Any]:
        """Send nothing in the place of a transfer that was sent; which of both is mined, its status tells later."""
        await request.expect_empty()
        await gate.check(request, ("Wallets:Transactions:Create", "Wallets:Transfers:Read"))
        asked = await _fees_now(gate, chains, wallet_id)
        return await gate.write(
            request,
            ("Wallets:Transactions:Create", "Wallets:Transfers:Read"),
            lambda act: cancel(act, wallet_id, transfer_id, *asked),
        )

    @post("/{wallet_id:str}/transfers/{transfer_id:str}/speed-up", status_code=200, summary="Speed a transfer up")
    async def speed_up(
        self, request: StrictRequest, wallet_id: str, transfer_id: str, gate: Gate, chains: AnyChains
    ) -> dict[str, Any]:
        """Offer higher fees, within the fee cap, for a transfer that was sent and is in no block yet."""
        await request.expect_empty()
        await gate.check(request, ("Wallets:Transactions:Create", "Wallets:Transfers:Read"))
        asked = await _fees_now(gate, chains, wallet_id)
        return await gate.write(
            request,
            ("Wallets:Transactions:Create", "Wallets:Transfers:Read"),
            lambda act: speed_up(act, wallet_id, transfer_id, *asked),
        )


async def _fees_now(gate: Gate, chains: Chains, wallet_id: str) -> tuple[Fees | None, int]:
    """Return what a wallet's network asks now, for gas and beside it.

    No fees if there is no such wallet, or the network is not configured: the action says so.
    """
    wallet = await gate.db.read(lambda unit: wallets.find(unit, wallet_id))
    if wallet is None or gate.config.network(wallet.network) is None:
        return None, 0
    return await chains.fees(wallet.network), await chains.data_fee(wallet.network)
