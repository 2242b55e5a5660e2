"""What the engine relies on in a node, as tests that run alike on anvil and on the fake network.

Where the two differ, ``DIFFERENCES`` says how and why; each of them is a test as well, so that the list stays true.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import pytest

from outlay.chains import CallReverted, Chain, Finality, Receipt, SendKind, fee_paid
from outlay.codec.evm import erc20_transfer, parse_transfer_log, tx_hash
from outlay.core.asset import Asset
from tests.fakes import COIN, GWEI, Payer

NATIVE = Asset(network="EthereumSepolia", kind="Native", contract=None, symbol="ETH", decimals=18)
PAYEE = "0x" + "0c" * 20

DIFFERENCES: Mapping[str, str] = {
    "keeps_cheap": "geth keeps a transaction whose fee is below the base fee until that falls; anvil refuses it",
    "floor": "geth wants ten percent more of both fees from a replacement; anvil takes any increase",
    "reorganised_waits": "geth puts the transactions of a replaced block back into the pool; anvil forgets them",
}
"""What the fake does as geth does, and anvil does not: name -> how they differ."""


class Stand(Protocol):
    """A chain that mines only when told, finalizes 8 blocks behind its head, and what a test arranges on it."""

    differs: bool  #: it is the one of the two that does as geth does in ``DIFFERENCES``

    def connect(self, finality: Finality, *, chain_id: int = 31337) -> Chain:
        """Return the adapter on this chain."""
        ...

    def fund(self, address: str, amount: int) -> None:
        """Give native coins, in wei."""
        ...

    def token(self) -> str:
        """Deploy a token and return its address."""
        ...

    def mint(self, contract: str, to: str, amount: int) -> None:
        """Give units of a token; ends with a block."""
        ...

    def mine(self, count: int = 1) -> None:
        """Make blocks."""
        ...

    def reorganise(self, instead: Sequence[bytes] = ()) -> None:
        """Replace the newest block by one that holds ``instead``."""
        ...


async def kind(chain: Chain, raw: bytes) -> SendKind:
    """Send one transaction."""
    (answer,) = await chain.send_raw([raw])
    return answer.kind


async def receipt(chain: Chain, raw: bytes) -> Receipt:
    """Return the receipt of a transaction that must have one."""
    (found,) = await chain.receipts([tx_hash(raw)])
    assert found is not None
    return found


class ChainContract:
    """The suite. A subclass gives the fixture ``stand``."""

    @pytest.fixture
    def chain(self, stand: Stand) -> Chain:
        """Return the chain with one block of finality."""
        return stand.connect(Finality(blocks=1))

    @pytest.fixture
    def payer(self, stand: Stand, request: pytest.FixtureRequest) -> Payer:
        """Return a funded key no other test uses."""
        payer = Payer(request.node.name)
        stand.fund(payer.address, COIN)
        return payer

    async def test_a_payment(self, stand: Stand, chain: Chain, payer: Payer) -> None:
        recipient = Payer("nobody before " + payer.address).address
        raw = payer.sign(to=recipient)
        assert await kind(chain, raw) is SendKind.ACCEPTED
        assert await kind(chain, raw) is SendKind.KNOWN
        assert await chain.receipts([tx_hash(raw)]) == [None]
        assert await chain.nonce_at(payer.address) == 0
        stand.mine()
        paid = await receipt(chain, raw)
        assert (paid.status, paid.gas_used, paid.l1_fee, paid.logs) == (1, 21_000, 0, ())
        head = await chain.head()
        assert (paid.block_number, paid.block_hash) == (head.number, head.hash)
        assert await chain.block_hash_at(head.number) == head.hash
        assert await chain.block_hash_at(head.number + 1) is None
        assert await chain.balance_at(recipient, NATIVE, head.number) == 5
        assert await chain.balance_at(recipient, NATIVE, head.number - 1) == 0
        assert COIN - await chain.balance_at(payer.address, NATIVE, head.number) == 5 + fee_paid(paid)
        assert await chain.nonce_at(payer.address) == 1
        assert await chain.nonce_at(payer.address, head.number - 1) == 0

    async def test_refusals(self, stand: Stand, chain: Chain, payer: Payer) -> None:
        raw = payer.sign()
        await kind(chain, raw)
        stand.mine()
        expected = [
            (raw, SendKind.NONCE_TOO_LOW),  # mined: to a node it is only too low
            (payer.sign(value=6), SendKind.NONCE_TOO_LOW),
            (payer.sign(1, value=2 * COIN), SendKind.INSUFFICIENT_FUNDS),
            (payer.sign(1, gas_limit=20_999), SendKind.REFUSED),
            (payer.sign(1, gas_limit=10**8, max_fee_per_gas=GWEI), SendKind.REFUSED),
            (payer.sign(1, chain_id=1), SendKind.REFUSED),
        ]
        assert [await kind(chain, each) for each, _ in expected] == [wanted for _, wanted in expected]
        stand.mine()
        assert await chain.nonce_at(payer.address) == 1

    async def test_a_replacement_takes_the_slot(self, stand: Stand, chain: Chain, payer: Payer) -> None:
        first, second = payer.sign(), payer.sign(max_priority_fee_per_gas=2 * GWEI, max_fee_per_gas=20 * GWEI)
        assert await kind(chain, first) is SendKind.ACCEPTED
        assert await kind(chain, payer.sign(value=6)) is SendKind.UNDERPRICED
        assert await kind(chain, second) is SendKind.ACCEPTED
        stand.mine()
        assert await chain.receipts([tx_hash(first)]) == [None]
        assert (await receipt(chain, second)).status == 1

    async def test_a_gap_waits_for_what_is_missing(self, stand: Stand, chain: Chain, payer: Payer) -> None:
        late, early = payer.sign(1), payer.sign(0)
        assert await kind(chain, late) is SendKind.ACCEPTED
        stand.mine()
        assert await chain.receipts([tx_hash(late)]) == [None]
        assert await kind(chain, early) is SendKind.ACCEPTED
        stand.mine()
        assert [(await receipt(chain, each)).status for each in (early, late)] == [1, 1]

    async def test_a_batch(self, stand: Stand, chain: Chain, payer: Payer) -> None:
        raws = [payer.sign(nonce) for nonce in range(16)]
        answers = await chain.send_raw([*raws, raws[0]])
        assert [answer.kind for answer in answers] == [SendKind.ACCEPTED] * 16 + [SendKind.KNOWN]
        stand.mine()
        found = await chain.receipts([tx_hash(raw) for raw in raws])
        assert [each is not None and each.status for each in found] == [1] * 16
        assert await chain.nonce_at(payer.address) == 16

    async def test_finality_by_count_and_tag(self, stand: Stand, chain: Chain) -> None:
        stand.mine(20)
        head = await chain.head()
        rules = [Finality(blocks=1), Finality(blocks=3), Finality(tag="safe"), Finality(tag="finalized")]
        assert [head.number - (await stand.connect(rule).final()).number for rule in rules] == [0, 2, 4, 8]

    async def test_a_reorganisation(self, stand: Stand, chain: Chain, payer: Payer) -> None:
        raw, rival = payer.sign(), payer.sign(value=9)
        await kind(chain, raw)
        stand.mine()
        paid = await receipt(chain, raw)
        stand.reorganise()
        assert await chain.receipts([tx_hash(raw)]) == [None]
        assert await chain.block_hash_at(paid.block_number) != paid.block_hash
        assert await chain.nonce_at(payer.address) == 0
        assert await kind(chain, raw) in (SendKind.ACCEPTED, SendKind.KNOWN)
        stand.mine()
        stand.reorganise([rival])
        assert await chain.receipts([tx_hash(raw)]) == [None]
        assert (await receipt(chain, rival)).status == 1
        assert await kind(chain, raw) is SendKind.NONCE_TOO_LOW

    async def test_who_took_a_nonce(self, stand: Stand, chain: Chain, payer: Payer) -> None:
        first, second = payer.sign(0), payer.sign(1)
        await kind(chain, first)
        stand.mine(3)
        await kind(chain, second)
        stand.mine(3)
        head = await chain.head()
        for nonce, raw in enumerate((first, second)):
            taken = await chain.transaction_at(payer.address, nonce, head.number)
            assert taken is not None
            assert (taken.hash, taken.block_number) == (tx_hash(raw), (await receipt(chain, raw)).block_number)
        assert await chain.transaction_at(payer.address, 1, head.number - 3) is None
        assert await chain.transaction_at(payer.address, 2, head.number) is None

    async def test_tokens(self, stand: Stand, chain: Chain, payer: Payer) -> None:
        contract = stand.token()
        asset = Asset(network="EthereumSepolia", kind="Erc20", contract=contract, symbol="USDC", decimals=6)
        stand.mint(contract, payer.address, 100)
        assert await chain.balances(payer.address, [NATIVE, asset]) == [COIN, 100]
        assert len(await chain.code_at(contract)) > 0
        assert await chain.codes_at([payer.address, PAYEE]) == [b"", b""]
        gas = await chain.estimate_gas(payer.address, contract, 0, erc20_transfer(PAYEE, 100))
        assert 21_000 < gas < 200_000
        with pytest.raises(CallReverted):
            await chain.estimate_gas(payer.address, contract, 0, erc20_transfer(PAYEE, 101))
        with pytest.raises(CallReverted):
            await chain.call(contract, erc20_transfer(PAYEE, 1))  # nobody in particular owns nothing
        good = payer.sign(0, to=contract, value=0, data=erc20_transfer(PAYEE, 40), gas_limit=100_000)
        bad = payer.sign(1, to=contract, value=0, data=erc20_transfer(PAYEE, 61), gas_limit=100_000)
        await chain.send_raw([good, bad])
        stand.mine()
        paid, reverted = await receipt(chain, good), await receipt(chain, bad)
        assert [parse_transfer_log(log) for log in paid.logs] == [(contract, payer.address, PAYEE, 40)]
        assert (paid.status, reverted.status, reverted.logs) == (1, 0, ())
        nothing = Asset(network="EthereumSepolia", kind="Erc20", contract=PAYEE, symbol="NO", decimals=6)
        assert await chain.balances(payer.address, [asset, nothing]) == [60, None]

    async def test_fees_are_enough_to_be_mined(self, stand: Stand, chain: Chain, payer: Payer) -> None:
        fees = await chain.fees()
        assert fees.block_number == (await chain.head()).number
        assert 0 <= fees.tip_slow <= fees.tip_standard <= fees.tip_fast
        tip = max(1, fees.tip_standard)
        raw = payer.sign(max_priority_fee_per_gas=tip, max_fee_per_gas=fees.base_fee + tip)
        assert await kind(chain, raw) is SendKind.ACCEPTED
        stand.mine()
        assert (await receipt(chain, raw)).effective_gas_price <= fees.base_fee + tip

    async def test_difference_keeps_cheap(self, stand: Stand, chain: Chain, payer: Payer) -> None:
        cheap = payer.sign(max_fee_per_gas=1, max_priority_fee_per_gas=1)
        assert await kind(chain, cheap) is (SendKind.ACCEPTED if stand.differs else SendKind.UNDERPRICED)

    async def test_difference_floor(self, stand: Stand, chain: Chain, payer: Payer) -> None:
        await kind(chain, payer.sign())
        little = payer.sign(max_priority_fee_per_gas=GWEI * 105 // 100, max_fee_per_gas=GWEI * 105 // 10)
        assert await kind(chain, little) is (SendKind.UNDERPRICED if stand.differs else SendKind.ACCEPTED)

    async def test_difference_reorganised_waits(self, stand: Stand, chain: Chain, payer: Payer) -> None:
        raw = payer.sign()
        await kind(chain, raw)
        stand.mine()
        stand.reorganise()
        assert await kind(chain, raw) is (SendKind.KNOWN if stand.differs else SendKind.ACCEPTED)

    def test_every_difference_is_shown(self) -> None:
        assert {f"test_difference_{name}" for name in DIFFERENCES} <= set(dir(self))
