"""Payouts on real chains through a live server: what the tests of sending, replacing and of known faults share.

Each test pays from wallets of its own; a wallet that is frozen stays behind.
"""

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests import tools
from tests.world import ETH, Identity, World, until

REVERTING_CODE = "0x60006000fd"

_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Net:
    """One network of the server."""

    name: str
    url: str  #: the node itself, past every proxy
    tokens: Mapping[str, str]  #: contract by name
    blocks: int  #: that make a block final
    decimals: Mapping[str, int] = field(default_factory=dict)  #: of a token; 6 where it is not said
    fee_cap: int = 10**16  #: wei

    def mine(self, blocks: int = 1) -> None:
        """Mine blocks now."""
        tools.mine(self.url, blocks)


class Scene:
    """A server, its networks and a program that pays."""

    def __init__(self, world: World, nets: Sequence[Net]) -> None:
        """Take over what the fixture opened."""
        self.world, self.nets = world, nets
        self.bot: Identity = world.service_account("payouts bot")

    def wallet(self, net: Net, *, coins: int = ETH, tokens: Mapping[str, int] | None = None) -> Any:
        """Create a wallet on ``net``, pay in, and wait until all of it can be spent."""
        made = self.world.admin.sdk.wallets.create_wallet({"network": net.name, "name": f"hot {next(_numbers)}"})
        self.fund(net, made, coins=coins, tokens=tokens)
        return made

    def fund(self, net: Net, wallet: Any, *, coins: int = 0, tokens: Mapping[str, int] | None = None) -> None:
        """Pay into a wallet for which no payout waits, and wait until the ledger has it all."""
        added = {net.tokens[name]: amount for name, amount in (tokens or {}).items()}
        if coins:
            added["native"] = coins
        wanted = {asset: self.held(wallet, asset)["spendable"] + amount for asset, amount in added.items()}
        self.pay_in(net, wallet, coins=coins, tokens=tokens)
        until(
            lambda: all(self.held(wallet, asset)["spendable"] >= wanted[asset] for asset in wanted),
            f"{wanted} in {wallet['id']}",
        )

    def pay_in(self, net: Net, wallet: Any, *, coins: int = 0, tokens: Mapping[str, int] | None = None) -> None:
        """Pay into a wallet; final when this returns, but the server may not have looked yet."""
        for name, amount in (tokens or {}).items():
            tools.mint(net.url, net.tokens[name], wallet["address"], amount)
        if coins:
            tools.send(net.url, to=wallet["address"], value=coins)
        net.mine(net.blocks - 1)

    def pay(
        self, wallet: Any, amount: int, *, to: str | None = None, contract: str | None = None, client: Any = None
    ) -> Any:
        """Request a payout, to somebody new unless told otherwise."""
        asset = {"kind": "Native"} if contract is None else {"kind": "Erc20", "contract": contract}
        body = {**asset, "to": to or fresh(), "amount": str(amount), "externalId": f"payout-{next(_numbers)}"}
        return (client or self.bot.sdk).wallets.transfer_asset(wallet["id"], body)

    def read(self, transfer: Any) -> Any:
        """Return the transfer as it is now."""
        return self.bot.sdk.wallets.get_transfer(transfer["walletId"], transfer["id"])

    def wait_until(self, transfer: Any, member: str, *values: Any) -> Any:
        """Return the transfer once ``member`` has one of ``values`` (any value at all if none are given)."""

        def reached() -> Any:
            now = self.read(transfer)
            return now if (now.get(member) in values if values else member in now) else None

        return until(reached, f"{member} {values} of {self.read(transfer)}")

    def confirmed(self, transfer: Any) -> Any:
        """Return the transfer once it is confirmed."""
        return self.world.wait_for(transfer, "Confirmed")

    def history(self, transfer: Any) -> list[str]:
        """Return every event of a transfer's life so far, in order."""
        rows = self.world.rows("SELECT event FROM transition WHERE transfer_id = ? ORDER BY seq", transfer["id"])
        return [row["event"] for row in rows]

    def wait_for_event(self, transfer: Any, event: str, times: int = 1) -> None:
        """Wait until ``event`` is in the transfer's history that often."""
        until(lambda: self.history(transfer).count(event) >= times, f"{event} x {times} in {transfer['id']}")

    def signed(self, transfer: Any) -> list[Any]:
        """Return what was signed for a transfer, in order: rows with ``nonce``, ``hash``, ``raw``, ``purpose`` ..."""
        return self.world.rows(
            'SELECT a.*, t.nonce, t.state, t.mined_hash FROM attempt a JOIN "transaction" t ON t.id = a.transaction_id'
            " WHERE t.transfer_id = ? AND a.raw IS NOT NULL ORDER BY a.number",
            transfer["id"],
        )

    def wait_for_attempts(self, transfer: Any, count: int) -> list[Any]:
        """Return what was signed for a transfer, once it is that many and all were sent."""

        def sent() -> Any:
            rows = self.signed(transfer)
            return rows if len(rows) >= count and all(row["first_sent_at"] for row in rows) else None

        found: list[Any] = until(sent, f"{count} attempts of {transfer['id']}")
        return found

    def held(self, wallet: Any, asset: str) -> dict[str, int]:
        """Return what the ledger holds for a wallet: base units, ``spendable`` and ``reserved``."""
        found = {"spendable": 0, "reserved": 0}
        for row in self.world.rows("SELECT * FROM account WHERE owner = ? AND asset = ?", wallet["id"], asset):
            found[row["kind"]] = int(row["debits"]) - int(row["credits"])
        return found

    def frozen(self, wallet: Any) -> str:
        """Return why a wallet is frozen, once it is."""
        read = self.world.admin.sdk.wallets.get_wallet
        return str(until(lambda: read(wallet["id"]).get("frozenReason"), f"{wallet['id']} to be frozen"))

    def assert_ledger_equals_chain(self, net: Net, wallet: Any) -> None:
        """Compare what the ledger says a wallet holds with the newest block."""
        balances = {"native": tools.coin_balance(net.url, wallet["address"])}
        for contract in net.tokens.values():
            balances[contract] = tools.token_balance(net.url, contract, wallet["address"])
        assert {asset: sum(self.held(wallet, asset).values()) for asset in balances} == balances


def fresh() -> str:
    """Return an address nobody has ever paid."""
    return "0x" + os.urandom(20).hex()


def network_text(net: Net, chain_id: int, urls: Sequence[str], *, more: str = 'trust = "single"') -> str:
    """Return the part of the configuration that describes a network; ``more`` are further settings of it."""
    assets = "".join(
        f'[[assets]]\nnetwork = "{net.name}"\ncontract = "{contract}"\nsymbol = "{name}"\n'
        f"decimals = {net.decimals.get(name, 6)}\n"
        for name, contract in net.tokens.items()
    )
    return f"""
[networks.{net.name}]
chain_id = {chain_id}
rpc_urls = [{", ".join(f'"{url}"' for url in urls)}]
finality = {{ blocks = {net.blocks} }}
native = {{ symbol = "ETH", decimals = 18 }}
fee_cap = "{net.fee_cap}"
{more}
{assets}"""


def in_pool(net: Net, tx_hash: str) -> bool:
    """Tell whether the node knows the transaction and has it in no block."""
    found = tools.rpc(net.url, "eth_getTransactionByHash", [tx_hash])
    return found is not None and found["blockNumber"] is None


def spend_as(net: Net, wallet: Any) -> None:
    """Spend one wei with the wallet's key, past the server."""
    tools.rpc(net.url, "anvil_impersonateAccount", [wallet["address"]])
    tools.send(net.url, to=fresh(), value=1, sender=wallet["address"])
    tools.rpc(net.url, "anvil_stopImpersonatingAccount", [wallet["address"]])


def chain_nonce(net: Net, wallet: Any) -> int:
    """Return how many transactions of a wallet are in blocks."""
    return int(tools.rpc(net.url, "eth_getTransactionCount", [wallet["address"], "latest"]), 16)
