"""The EVM adapter and the codec against a real node."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from outlay.chains import CallReverted, Consumed, Finality, Receipt, SendKind, fee_paid
from outlay.chains.answers import ROWS
from outlay.chains.evm import EvmChain
from outlay.chains.rpc import HttpTransport, JsonRpc
from outlay.codec.evm import Eip1559, Legacy, erc20_transfer, parse_transfer_log, tx_hash
from outlay.core.asset import Asset
from outlay.core.errors import ChainUnavailable
from outlay.signer.keys import SigningKey
from tests import tools
from tests.fault.throttle import Throttle

COIN = Asset(network="EthereumSepolia", kind="Native", contract=None, symbol="ETH", decimals=18)
GWEI = 10**9


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    """Return a transport that is closed after the test."""
    transport = HttpTransport()
    yield transport
    await transport.close()


@pytest.fixture(scope="module")
def node(anvil: tools.StartAnvil) -> tools.Anvil:
    """Return a local chain that mines every transaction at once."""
    return anvil()


@pytest.fixture(scope="module")
def waiting(anvil: tools.StartAnvil) -> tools.Anvil:
    """Return a local chain that mines only when told."""
    return anvil(options=["--no-mining", "--slots-in-an-epoch", "4"])


def connect(node: tools.Anvil, transport: HttpTransport, *, chain_id: int = 31337, **rule: Any) -> EvmChain:
    """Return the chain behind one node."""
    rpc = JsonRpc([node.url], transport, chain_id=chain_id)
    return EvmChain(rpc, Finality(**(rule or {"blocks": 1})))


@pytest.fixture
def chain(node: tools.Anvil, transport: HttpTransport) -> EvmChain:
    """Return the chain that mines at once."""
    return connect(node, transport)


async def mined(chain: EvmChain, hashes: list[str]) -> list[Receipt]:
    """Return the receipts, as soon as the node has mined them all."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = [receipt for receipt in await chain.receipts(hashes) if receipt is not None]
        if len(found) == len(hashes):
            return found
        await asyncio.sleep(0.02)
    raise AssertionError("not mined within 10 s")


class Payer:
    """A funded key that signs plain transactions."""

    def __init__(self, node: tools.Anvil, coins: int = 10**18) -> None:
        self.key = SigningKey(secrets.token_bytes(32))
        self.address = self.key.address
        tools.set_coin_balance(node.url, self.address, coins)

    def sign(self, **changes: Any) -> bytes:
        """Return a signed payment of 5 to a fixed address, with some members changed."""
        members = {
            "chain_id": 31337,
            "nonce": 0,
            "max_priority_fee_per_gas": 1 * GWEI,
            "max_fee_per_gas": 10 * GWEI,
            "gas_limit": 21_000,
            "to": "0x" + "0c" * 20,
            "value": 5,
            **changes,
        }
        transaction = Eip1559(**members)
        return transaction.encode(self.key.sign(transaction.signing_hash()))


async def send_one(chain: EvmChain, raw: bytes) -> SendKind:
    """Send one transaction."""
    (answer,) = await chain.send_raw([raw])
    return answer.kind


async def test_a_payment_is_sent_mined_and_read_back(node: tools.Anvil, chain: EvmChain) -> None:
    payer = Payer(node)
    recipient = "0x" + secrets.token_hex(20)
    raw = payer.sign(to=recipient)
    assert await send_one(chain, raw) is SendKind.ACCEPTED
    (receipt,) = await mined(chain, [tx_hash(raw)])
    assert receipt is not None
    assert (receipt.tx_hash, receipt.status, receipt.gas_used, receipt.logs) == (tx_hash(raw), 1, 21_000, ())
    assert receipt.block_hash == await chain.block_hash_at(receipt.block_number)
    head = await chain.head()
    assert await chain.balance_at(recipient, COIN, head.number) == 5
    assert await chain.balance_at(recipient, COIN, receipt.block_number - 1) == 0
    spent = 10**18 - await chain.balance_at(payer.address, COIN, head.number)
    assert spent == 5 + fee_paid(receipt)
    assert await chain.nonce_at(payer.address) == 1
    assert await chain.nonce_at(payer.address, receipt.block_number - 1) == 0


async def test_every_refusal_of_a_real_node_is_understood(node: tools.Anvil, chain: EvmChain) -> None:
    payer = Payer(node)
    raw = payer.sign()
    assert await send_one(chain, raw) is SendKind.ACCEPTED
    await mined(chain, [tx_hash(raw)])
    assert await send_one(chain, raw) is SendKind.NONCE_TOO_LOW  # mined: the node no longer knows it as its own
    assert await send_one(chain, payer.sign(value=6)) is SendKind.NONCE_TOO_LOW
    assert await send_one(chain, payer.sign(nonce=1, value=2 * 10**18)) is SendKind.INSUFFICIENT_FUNDS
    cheap = payer.sign(nonce=1, max_fee_per_gas=1, max_priority_fee_per_gas=0)
    assert await send_one(chain, cheap) is SendKind.UNDERPRICED
    assert await send_one(chain, payer.sign(nonce=1, gas_limit=20_999)) is SendKind.REFUSED
    assert await send_one(chain, payer.sign(nonce=1, gas_limit=10**8, max_fee_per_gas=GWEI)) is SendKind.REFUSED
    assert await send_one(chain, payer.sign(nonce=1, chain_id=1)) is SendKind.REFUSED
    assert await chain.nonce_at(payer.address) == 1


async def test_what_was_recorded_here_is_still_said(waiting: tools.Anvil, transport: HttpTransport) -> None:
    """Rows of the table whose source is this very node: replayed, each with the kind it stands for."""
    chain, payer = connect(waiting, transport), Payer(waiting)
    version = tools.rpc(waiting.url, "web3_clientVersion", [])
    first = payer.sign()
    said = [(await chain.send_raw([raw]))[0] for raw in (first, first, payer.sign(nonce=1, chain_id=1))]
    rows = [row for row in ROWS if row.source == "recorded here"]
    assert rows
    for row in rows:
        assert f"anvil/v{row.version}" in version
        assert row.kind in [answer.kind for answer in said if row.text in answer.text.lower()], row


async def test_a_waiting_transaction_is_known_and_can_be_replaced(
    waiting: tools.Anvil, transport: HttpTransport
) -> None:
    chain, payer = connect(waiting, transport), Payer(waiting)
    first = payer.sign()
    assert await send_one(chain, first) is SendKind.ACCEPTED
    assert await send_one(chain, first) is SendKind.KNOWN
    assert await send_one(chain, payer.sign(value=6)) is SendKind.UNDERPRICED
    assert await chain.receipts([tx_hash(first)]) == [None]
    second = payer.sign(max_priority_fee_per_gas=2 * GWEI, max_fee_per_gas=20 * GWEI)
    assert await send_one(chain, second) is SendKind.ACCEPTED
    tools.mine(waiting.url)
    lost, mined = await chain.receipts([tx_hash(first), tx_hash(second)])
    assert lost is None
    assert mined is not None
    assert mined.tx_hash == tx_hash(second)


async def test_a_batch_of_sends_and_receipts(node: tools.Anvil, transport: HttpTransport) -> None:
    payer = Payer(node)
    chain = EvmChain(JsonRpc([node.url], transport, chain_id=31337, batch_size=7), Finality(blocks=1))
    raws = [payer.sign(nonce=nonce) for nonce in range(20)]
    answers = await chain.send_raw([*raws, raws[0]])
    assert [answer.kind for answer in answers[:20]] == [SendKind.ACCEPTED] * 20
    assert answers[20].kind in (SendKind.NONCE_TOO_LOW, SendKind.KNOWN)  # mined already, or not yet
    receipts = await mined(chain, [tx_hash(raw) for raw in raws])
    assert [receipt is not None and receipt.status for receipt in receipts] == [1] * 20


async def test_one_of_several_endpoints_is_enough(node: tools.Anvil, transport: HttpTransport) -> None:
    dead = f"http://127.0.0.1:{tools.free_port()}"
    chain = EvmChain(JsonRpc([dead, node.url], transport, chain_id=31337), Finality(blocks=1))
    assert (await chain.head()).number >= 0
    assert await send_one(chain, Payer(node).sign()) is SendKind.ACCEPTED


async def test_two_endpoints_of_one_chain_agree_and_each_is_needed(node: tools.Anvil, transport: HttpTransport) -> None:
    payer, raw = Payer(node), b""
    front = Throttle(node.url, limit=10_000)
    try:
        rpc = JsonRpc([node.url, front.url], transport, chain_id=31337, agreement=True)
        chain = EvmChain(rpc, Finality(blocks=1))
        raw = payer.sign()
        assert await send_one(chain, raw) in (SendKind.ACCEPTED, SendKind.KNOWN)
        (receipt,) = await mined(chain, [tx_hash(raw)])
        final = await chain.final()
        assert final.number >= receipt.block_number
        assert await chain.block_hash_at(receipt.block_number) == receipt.block_hash
        assert await chain.nonce_at(payer.address, final.number) == 1
        taker = Consumed(hash=tx_hash(raw), block_number=receipt.block_number)
        assert await chain.transaction_at(payer.address, 0, final.number) == taker
        assert await chain.transaction_at(payer.address, 1, final.number) is None
        assert await chain.code_at(payer.address) == b""
        assert front.methods.count("eth_getTransactionReceipt") > 0
    finally:
        front.close()
    with pytest.raises(ChainUnavailable, match="two RPC endpoints have to agree"):
        await chain.final()
    with pytest.raises(ChainUnavailable, match="two RPC endpoints have to agree"):
        await chain.receipts([tx_hash(raw)])
    assert await chain.nonce_at(payer.address) == 1  # nothing is decided by the newest


async def test_a_chain_without_eip_1559_is_paid_with_one_price(
    anvil: tools.StartAnvil, transport: HttpTransport
) -> None:
    node = anvil(options=["--hardfork", "berlin"])
    chain = EvmChain(JsonRpc([node.url], transport, chain_id=31337), Finality(blocks=1), fee_model="legacy")
    payer, recipient = Payer(node), "0x" + secrets.token_hex(20)
    fees = await chain.fees()
    assert (fees.base_fee, fees.tip_slow) == (0, fees.tip_fast)
    unsigned = Legacy(chain_id=31337, nonce=0, gas_price=fees.tip_standard, gas_limit=21_000, to=recipient, value=7)
    raw = unsigned.encode(payer.key.sign(unsigned.signing_hash()))
    assert await send_one(chain, raw) is SendKind.ACCEPTED
    (receipt,) = await mined(chain, [tx_hash(raw)])
    assert (receipt.status, receipt.effective_gas_price) == (1, fees.tip_standard)
    head = await chain.head()
    assert await chain.balance_at(recipient, COIN, head.number) == 7
    assert await chain.balance_at(payer.address, COIN, head.number) == 10**18 - 7 - fee_paid(receipt)
    assert await chain.data_fee(len(raw)) == 0
    assert await send_one(chain, payer.sign(nonce=1)) is not SendKind.ACCEPTED  # of type 2: not taken here


async def test_a_node_of_another_chain_is_refused(node: tools.Anvil, transport: HttpTransport) -> None:
    chain = connect(node, transport, chain_id=1)
    with pytest.raises(ChainUnavailable, match="serves chain 31337, not 1"):
        await chain.head()
    assert await send_one(chain, Payer(node).sign()) is SendKind.UNKNOWN
    assert await connect(node, transport).chain_id() == 31337


async def test_finality_by_count_and_by_tag(waiting: tools.Anvil, transport: HttpTransport) -> None:
    tools.mine(waiting.url, 20)
    head = await connect(waiting, transport).head()
    finals = {
        str(rule): (await connect(waiting, transport, **rule).final()).number - head.number
        for rule in ({"blocks": 1}, {"blocks": 3}, {"tag": "safe"}, {"tag": "finalized"})
    }
    assert finals == {"{'blocks': 1}": 0, "{'blocks': 3}": -2, "{'tag': 'safe'}": -4, "{'tag': 'finalized'}": -8}
    assert await connect(waiting, transport).block_hash_at(head.number + 1) is None
    final = await connect(waiting, transport, blocks=3).final()
    assert final.hash == await connect(waiting, transport).block_hash_at(final.number)


async def test_a_reorganisation_takes_receipt_and_block_hash_away(
    waiting: tools.Anvil, transport: HttpTransport
) -> None:
    chain, payer = connect(waiting, transport), Payer(waiting)
    raw = payer.sign()
    assert await send_one(chain, raw) is SendKind.ACCEPTED
    tools.mine(waiting.url)
    (receipt,) = await mined(chain, [tx_hash(raw)])
    assert receipt is not None
    tools.rpc(waiting.url, "anvil_reorg", [1, []])
    assert await chain.receipts([tx_hash(raw)]) == [None]
    assert await chain.block_hash_at(receipt.block_number) != receipt.block_hash
    assert await send_one(chain, raw) is SendKind.ACCEPTED


async def test_fees_are_enough_to_be_mined(node: tools.Anvil, chain: EvmChain) -> None:
    payer = Payer(node)
    fees = await chain.fees()
    assert fees.block_number == (await chain.head()).number
    assert 0 <= fees.tip_slow <= fees.tip_standard <= fees.tip_fast
    tip = fees.tip_standard
    raw = payer.sign(max_priority_fee_per_gas=tip, max_fee_per_gas=fees.base_fee + tip)
    assert await send_one(chain, raw) is SendKind.ACCEPTED
    (receipt,) = await mined(chain, [tx_hash(raw)])
    assert receipt is not None
    assert receipt.effective_gas_price <= fees.base_fee + tip


async def test_tokens_are_read_called_and_estimated(node: tools.Anvil, chain: EvmChain) -> None:
    payer, recipient = Payer(node), "0x" + secrets.token_hex(20)
    contract = tools.deploy(node.url, "TestDollar")
    token = Asset(network="EthereumSepolia", kind="Erc20", contract=contract, symbol="USDC", decimals=6)
    # The node may mine an empty block of its own accord: heights come from the receipt, not from counting.
    minted = int(tools.mint(node.url, contract, payer.address, 100)["blockNumber"], 16)
    assert await chain.balance_at(payer.address, token, minted) == 100
    assert await chain.balance_at(payer.address, token, minted - 1) == 0
    assert await chain.balances(payer.address, [COIN, token]) == [10**18, 100]
    assert len(await chain.code_at(contract)) > 0
    assert await chain.code_at(payer.address) == b""
    gas = await chain.estimate_gas(payer.address, contract, 0, erc20_transfer(recipient, 100))
    assert 21_000 < gas < 200_000
    with pytest.raises(CallReverted):
        await chain.estimate_gas(payer.address, contract, 0, erc20_transfer(recipient, 101))
    with pytest.raises(CallReverted):
        await chain.call(contract, erc20_transfer(recipient, 1))  # nobody in particular owns nothing
    wrong = Asset(network="EthereumSepolia", kind="Erc20", contract=recipient, symbol="USDC", decimals=6)
    with pytest.raises(CallReverted):  # an address without code answers no balance
        await chain.balance_at(payer.address, wrong, minted)
    assert await chain.balances(payer.address, [COIN, wrong, token]) == [10**18, None, 100]


async def test_what_the_codec_writes_pays_exactly_what_it_says(node: tools.Anvil, chain: EvmChain) -> None:
    payer, recipient = Payer(node), "0x" + secrets.token_hex(20)
    contract = tools.deploy(node.url, "TestDollar")
    tools.mint(node.url, contract, payer.address, 100)
    raws = [
        payer.sign(to=recipient, value=7),
        payer.sign(nonce=1, to=contract, value=0, data=erc20_transfer(recipient, 40), gas_limit=100_000),
    ]
    assert [answer.kind for answer in await chain.send_raw(raws)] == [SendKind.ACCEPTED] * 2
    coin, token = await mined(chain, [tx_hash(raw) for raw in raws])
    assert (coin.status, token.status) == (1, 1)
    assert [parse_transfer_log(log) for log in token.logs] == [(contract, payer.address, recipient, 40)]
    assert tools.coin_balance(node.url, recipient) == 7
    assert tools.token_balance(node.url, contract, recipient) == 40
