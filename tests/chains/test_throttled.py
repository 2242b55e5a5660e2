"""A real node behind a provider that allows ten requests a period, and a hundred workers."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from outlay.chains import Finality, Receipt, SendKind
from outlay.chains.evm import EvmChain
from outlay.chains.rpc import HttpTransport, JsonRpc
from outlay.codec.evm import Eip1559, tx_hash
from outlay.core.asset import Asset
from outlay.signer.keys import SigningKey
from tests import tools
from tests.fault.throttle import Throttle

COIN = Asset(network="EthereumSepolia", kind="Native", contract=None, symbol="ETH", decimals=18)
GWEI = 10**9
WORKERS = 100


@pytest.fixture(scope="module")
def node(anvil: tools.StartAnvil) -> tools.Anvil:
    """Return a local chain that mines every transaction at once."""
    return anvil()


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    """Return a transport that is closed after the test."""
    transport = HttpTransport()
    yield transport
    await transport.close()


@pytest.fixture
def front(node: tools.Anvil, request: pytest.FixtureRequest) -> Iterator[Throttle]:
    """Stand before the node."""
    front = Throttle(node.url, **request.param)
    yield front
    front.close()


def payments(node: tools.Anvil) -> list[tuple[str, bytes]]:
    """Return one signed payment for each worker: recipient and bytes, all of one wallet."""
    key = SigningKey(secrets.token_bytes(32))
    tools.set_coin_balance(node.url, key.address, 10**18)
    made = []
    for nonce in range(WORKERS):
        recipient = "0x" + secrets.token_hex(20)
        unsigned = Eip1559(
            chain_id=31337,
            nonce=nonce,
            max_priority_fee_per_gas=GWEI,
            max_fee_per_gas=10 * GWEI,
            gas_limit=21_000,
            to=recipient,
            value=5 + nonce,
        )
        made.append((recipient, unsigned.encode(key.sign(unsigned.signing_hash()))))
    return made


async def pay_all(node: tools.Anvil, front: Throttle, transport: HttpTransport) -> None:
    """Let every worker send its own payment and read about it, all at once; then compare with the chain."""
    chain = EvmChain(JsonRpc([front.url], transport, chain_id=31337), Finality(blocks=1))

    async def work(raw: bytes) -> Receipt:
        (answer,) = await chain.send_raw([raw])
        assert answer.kind in (SendKind.ACCEPTED, SendKind.KNOWN), answer
        while True:
            (receipt,) = await chain.receipts([tx_hash(raw)])
            if receipt is not None:
                return receipt
            await asyncio.sleep(0.5)  # a lower nonce may still be waiting for its turn

    made = payments(node)
    async with asyncio.timeout(200):
        receipts = await asyncio.gather(*(work(raw) for _, raw in made))
    assert [receipt.status for receipt in receipts] == [1] * WORKERS
    for number, (recipient, _) in enumerate(made):
        assert tools.coin_balance(node.url, recipient) == 5 + number
    assert front.refused > 0
    assert front.methods.count("eth_sendRawTransaction") == WORKERS


@pytest.mark.parametrize(
    "front", [{"period_s": 0.1}, {"period_s": 0.1, "counts_calls": True}], indirect=True, ids=["requests", "calls"]
)
@pytest.mark.ci
async def test_a_hundred_payments_pass_a_provider_that_throttles(
    node: tools.Anvil, front: Throttle, transport: HttpTransport
) -> None:
    await pay_all(node, front, transport)


@pytest.mark.long
@pytest.mark.parametrize("front", [{}, {"retry_after": True}], indirect=True, ids=["silent", "retry-after"])
async def test_a_hundred_payments_pass_ten_requests_a_second(
    node: tools.Anvil, front: Throttle, transport: HttpTransport
) -> None:
    await pay_all(node, front, transport)


@pytest.mark.parametrize("front", [{"limit": 20, "period_s": 0.1, "counts_calls": True}], indirect=True)
async def test_a_long_batch_passes_where_calls_are_counted(
    node: tools.Anvil, front: Throttle, transport: HttpTransport
) -> None:
    chain = EvmChain(JsonRpc([front.url], transport, chain_id=31337), Finality(blocks=1))
    made = payments(node)[:40]
    async with asyncio.timeout(60):
        answers = await chain.send_raw([raw for _, raw in made])
        receipts = await chain.receipts([tx_hash(raw) for _, raw in made])
        assert await chain.balances(made[0][0], [COIN] * 30) == [5] * 30
    assert [answer.kind for answer in answers] == [SendKind.ACCEPTED] * len(made)
    assert [receipt is not None and receipt.status for receipt in receipts] == [1] * len(made)
