"""How much gas a payout is given: recipients are looked up together, and each is judged by what it is paid."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from outlay.chains import Fees
from outlay.config import parse
from outlay.core.errors import ChainUnavailable
from outlay.core.fees import NATIVE_GAS
from outlay.engine.offers import DATA_FEE_MARGIN, GAS_MARGIN_PERCENT, make_candidates

PERSON, CONTRACT, TOKEN = ("0x" + digits * 20 for digits in ("11", "22", "33"))
CONFIG = parse(
    f"""
[networks.EthereumSepolia]
chain_id = 31337
rpc_urls = ["http://127.0.0.1:1"]
finality = {{ blocks = 1 }}
native = {{ symbol = "ETH", decimals = 18 }}
fee_cap = "10000000000000000"

[[assets]]
network = "EthereumSepolia"
contract = "{TOKEN}"
symbol = "USDC"
decimals = 6
"""
)


class Node:
    """A chain with one contract; counts what it is asked."""

    def __init__(self, *, batches: bool = True, data_fee: int = 0) -> None:
        self.batches = batches
        self._data_fee = data_fee
        self.asked: list[Sequence[str]] = []

    async def fees(self) -> Fees:
        return Fees(block_number=9, base_fee=1, tip_slow=1, tip_standard=1, tip_fast=1)

    async def data_fee(self, size: int) -> int:
        return self._data_fee

    async def codes_at(self, addresses: Sequence[str]) -> list[bytes]:
        self.asked.append(addresses)
        if not self.batches:
            raise ChainUnavailable("no RPC endpoint gave a usable answer")
        return [await self.code_at(address) for address in addresses]

    async def code_at(self, address: str) -> bytes:
        return b"\x60" if address == CONTRACT else b""

    async def estimate_gas(self, sender: str, to: str, value: int, data: bytes) -> int:
        return 60_000 if data else 40_000


def payout(number: int, asset: str, recipient: str) -> Any:
    return SimpleNamespace(
        id=f"xfr-{number}",
        asset=asset,
        network="EthereumSepolia",
        recipient=recipient,
        amount=5,
        intent={"priority": "Standard"},
    )


async def limits(node: Node, *payouts: Any) -> list[int | None]:
    chain: Any = node
    wallet: Any = SimpleNamespace(address="0x" + "99" * 20)
    found = await make_candidates(CONFIG, wallet, chain, list(payouts))
    return [each.offer.gas_limit if each.offer else None for each in found]


async def test_a_person_gets_the_plain_amount_and_a_contract_what_it_needs() -> None:
    node = Node()
    payouts = [payout(0, "native", PERSON), payout(1, "native", CONTRACT), payout(2, "native", PERSON)]
    assert await limits(node, *payouts) == [NATIVE_GAS, 40_000 * GAS_MARGIN_PERCENT // 100, NATIVE_GAS]
    assert node.asked == [[PERSON, CONTRACT]], "each address once, all together"


async def test_a_token_sent_to_a_person_is_still_a_call_of_the_token() -> None:
    paid = await limits(Node(), payout(0, "native", PERSON), payout(1, TOKEN, PERSON))
    assert paid == [NATIVE_GAS, 60_000 * GAS_MARGIN_PERCENT // 100]


async def test_where_they_cannot_be_asked_together_each_is_asked_about_alone() -> None:
    paid = await limits(Node(batches=False), payout(0, "native", PERSON), payout(1, "native", CONTRACT))
    assert paid == [NATIVE_GAS, 40_000 * GAS_MARGIN_PERCENT // 100]


async def test_a_rollups_data_fee_comes_out_of_the_cap() -> None:
    """The cap is 10^16: with half of it set aside the same gas price is too dear."""
    cheap, dear = Node(), Node(data_fee=10**16 // (2 * DATA_FEE_MARGIN))
    for node in (cheap, dear):
        node.fees = lambda: _fees(10**16 * 64 // 81 // NATIVE_GAS - 1)  # type: ignore[method-assign]
    assert await limits(cheap, payout(0, "native", PERSON)) == [NATIVE_GAS]
    assert await limits(dear, payout(0, "native", PERSON)) == [None]


async def _fees(base_fee: int) -> Fees:
    return Fees(block_number=9, base_fee=base_fee, tip_slow=1, tip_standard=1, tip_fast=1)
