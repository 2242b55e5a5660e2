"""An EVM network behind the ``Chain`` protocol: every answer of a node is checked before it is believed.

What decides about money (final heads, receipts, nonces and balances at a block) is told by two endpoints where the
network's settings ask for it. Finality and the exact effect are judged by the engine.
"""

from collections.abc import Callable, Sequence
from statistics import median_low
from typing import Any, Final, TypeVar

from outlay.chains import CallReverted, Consumed, Fees, Finality, Head, Receipt, SendAnswer
from outlay.chains.jsonrpc import Call, octets, quantity
from outlay.chains.rpc import JsonRpc
from outlay.chains.shapes import (
    block,
    block_at,
    block_or_none,
    count,
    fee_history,
    price,
    receipt_of,
    taker_in,
    word,
)
from outlay.codec.evm import WORD, erc20_balance_of
from outlay.core.asset import Asset
from outlay.core.errors import ChainUnavailable, InvalidInput
from outlay.core.keccak import keccak

T = TypeVar("T")

GAS_PRICE_ORACLE: Final = "0x420000000000000000000000000000000000000f"
"""Where OP stack chains keep the contract that prices the data of a transaction."""

_FEE_BLOCKS = 20
_FEE_PERCENTILES = (10, 50, 90)
_UPPER_BOUND: Final = keccak(b"getL1FeeUpperBound(uint256)")[:4]
_L1_FEE: Final = keccak(b"getL1Fee(bytes)")[:4]
_DATA_MAX: Final = 128 * 1024


class EvmChain:
    """One EVM network."""

    def __init__(self, rpc: JsonRpc, finality: Finality, *, fee_model: str = "eip1559", data_fee: str = "none") -> None:
        """Keep the endpoints and the rules; nothing is asked yet.

        Args:
            rpc: the endpoints.
            finality: when a block is final.
            fee_model: ``eip1559``, or ``legacy`` for one gas price.
            data_fee: ``none``, or ``op-stack`` for a fee beside the gas, asked of the price oracle.

        Raises:
            InvalidInput: another fee model or data fee.
        """
        if fee_model not in ("eip1559", "legacy"):
            raise InvalidInput('must be "eip1559" or "legacy"', field="fee_model")
        if data_fee not in ("none", "op-stack"):
            raise InvalidInput('must be "none" or "op-stack"', field="data_fee")
        self._rpc = rpc
        self._finality = finality
        self._fee_model, self._data_fee = fee_model, data_fee

    async def chain_id(self) -> int:
        """Return the chain id, after an endpoint confirmed it."""
        return await self._one("eth_chainId", [], quantity)

    async def head(self) -> Head:
        """Return the newest block."""
        return await self._one("eth_getBlockByNumber", ["latest", False], block)

    async def final(self) -> Head:
        """Return the newest final block: counted back from the head, or by the node's tag.

        With ``blocks = n`` a block is final once n blocks stand from it to the head, itself included. On a
        chain shorter than that genesis is returned; it holds no transaction, so nothing counts as final.
        Where endpoints have to agree it is the highest of which two tell the same number and hash.
        """
        if self._rpc.agreement:
            return await self._agreed_final()
        if self._finality.tag is not None:
            return await self._one("eth_getBlockByNumber", [self._finality.tag, False], block)
        head = await self.head()
        number = self._counted_back(head.number)
        return head if number == head.number else await self._one(*_block_call(number), block_at(number))

    async def _agreed_final(self) -> Head:
        tags = ["latest"] if self._finality.tag is None else ["latest", self._finality.tag]
        reached = await self._rpc.agreed_head([Call("eth_getBlockByNumber", [tag, False], block) for tag in tags])
        if self._finality.tag is None:
            number = self._counted_back(reached if isinstance(reached, int) else reached.number)
        else:
            number = reached if isinstance(reached, int) else reached.number
        if isinstance(reached, Head) and reached.number == number:
            return reached
        (found,) = await self._rpc.agreed([Call(*_block_call(number), block_or_none(number))])
        if found is None:
            raise ChainUnavailable(f"no two endpoints have block {number} yet")
        return found

    def _counted_back(self, head: int) -> int:
        return max(0, head - (self._finality.blocks or 1) + 1)

    async def nonce_at(self, address: str, block: int | None = None) -> int:
        """Return how many transactions ``address`` has mined up to ``block`` (None: the newest)."""
        call = _nonce(address, block)
        (nonce,) = await (self._rpc.read([call]) if block is None else self._rpc.agreed([call]))
        return nonce

    async def balance_at(self, address: str, asset: Asset, block: int) -> int:
        """Return the balance of ``asset`` in base units after ``block``.

        Raises:
            CallReverted: no token is at the asset's contract address.
        """
        (balance,) = await self._rpc.agreed([_balance(address, asset, block)])
        return balance

    async def balances(self, address: str, assets: Sequence[Asset]) -> list[int | None]:
        """Return the newest balance of each asset in base units, in order; None where no token answers."""
        return await self._rpc.read([_balance_or_none(address, asset) for asset in assets])

    async def code_at(self, address: str) -> bytes:
        """Return the code at ``address``, empty for a plain account."""
        return (await self.codes_at([address]))[0]

    async def codes_at(self, addresses: Sequence[str]) -> list[bytes]:
        """Return the code at each address, in order."""
        return await self._rpc.agreed([Call("eth_getCode", [address, "latest"], octets) for address in addresses])

    async def fees(self) -> Fees:
        """Return what a transaction costs now.

        By the legacy model that is the node's gas price, for every priority. Otherwise it is the next block's base
        fee and tips from what the last 20 blocks took: the low medians of the 10th, 50th and 90th percentile over
        blocks with transactions; on an idle chain the node's own suggestion serves for all three.
        """
        if self._fee_model == "legacy":
            number, gas_price = await self._rpc.read(
                [Call("eth_blockNumber", [], count), Call("eth_gasPrice", [], price)]
            )
            return Fees(block_number=number, base_fee=0, tip_slow=gas_price, tip_standard=gas_price, tip_fast=gas_price)
        rewards = list(_FEE_PERCENTILES)
        number, base_fee, rows = await self._one("eth_feeHistory", [hex(_FEE_BLOCKS), "latest", rewards], fee_history)
        if rows:
            slow, standard, fast = (median_low(row[n] for row in rows) for n in range(3))
        else:
            slow = standard = fast = await self._one("eth_maxPriorityFeePerGas", [], price)
        return Fees(block_number=number, base_fee=base_fee, tip_slow=slow, tip_standard=standard, tip_fast=fast)

    async def data_fee(self, size: int) -> int:
        """Return what a transaction of ``size`` bytes costs beside its gas now, in wei; 0 where there is none.

        Args:
            size: bytes of the transaction, 0 to 131,072.

        Raises:
            InvalidInput: another size.
        """
        if not 0 <= size <= _DATA_MAX:
            raise InvalidInput(f"a transaction has 0 to {_DATA_MAX} bytes", field="size")
        if self._data_fee == "none":
            return 0
        try:
            return await self._oracle(_UPPER_BOUND + size.to_bytes(WORD, "big"))
        except CallReverted:
            # Older oracles price given bytes only: none is dearer than one that is not zero.
            padding = b"\0" * (-size % WORD)
            head = WORD.to_bytes(WORD, "big") + size.to_bytes(WORD, "big")
            return await self._oracle(_L1_FEE + head + b"\xff" * size + padding)

    async def _oracle(self, data: bytes) -> int:
        request = {"to": GAS_PRICE_ORACLE, "data": "0x" + data.hex()}
        return await self._one("eth_call", [request, "latest"], _fee_word)

    async def transaction_at(self, address: str, nonce: int, block: int) -> Consumed | None:
        """Return which transaction of ``address`` took ``nonce``, at or before ``block``; None: none did.

        One endpoint serves to look for the block; that it is this block is then told by as many as must agree.

        Raises:
            ChainUnavailable: also where the endpoints do not serve the history back to that block.
        """
        if await self.nonce_at(address, block) <= nonce:
            return None
        found = await self._first_block_above(address, nonce, block)
        try:
            before = await self.nonce_at(address, found - 1) if found else -1
        except ChainUnavailable as error:
            text = f"the state of block {found - 1} is not served, perhaps only by an archive node: {error.message}"
            raise ChainUnavailable(text) from error
        if not before <= nonce < await self.nonce_at(address, found):
            raise ChainUnavailable(f"who took nonce {nonce} cannot be told: the endpoints changed their answers")
        (taker,) = await self._rpc.agreed(
            [Call("eth_getBlockByNumber", [hex(found), True], taker_in(found, address, nonce))]
        )
        return taker

    async def _first_block_above(self, address: str, nonce: int, block: int) -> int:
        """Return the lowest block after which ``address`` has used ``nonce``, as one endpoint tells it.

        Back from ``block`` in steps that double, for it is most often young and nodes forget old states; then by
        halves. A state that is not served any more counts as one before it: the caller checks the result.
        """
        above, below, step = block, -1, 1
        while above - step > below:
            if not await self._is_above(address, nonce, above - step):
                below = above - step
                break
            above, step = above - step, step * 2
        while above - below > 1:
            middle = (above + below) // 2
            if await self._is_above(address, nonce, middle):
                above = middle
            else:
                below = middle
        return above

    async def _is_above(self, address: str, nonce: int, block: int) -> bool:
        try:
            (used,) = await self._rpc.read([_nonce(address, block)])
        except ChainUnavailable:
            return False
        return used > nonce

    async def estimate_gas(self, sender: str, to: str, value: int, data: bytes) -> int:
        """Return the gas this call would use now; see ``Chain``."""
        request = {"from": sender, "to": to, "value": hex(value), "data": "0x" + data.hex()}
        return await self._one("eth_estimateGas", [request], count)

    async def send_raw(self, raws: Sequence[bytes]) -> list[SendAnswer]:
        """Send signed transactions to every endpoint; see ``Chain``."""
        return await self._rpc.send(raws)

    async def receipts(self, hashes: Sequence[str]) -> list[Receipt | None]:
        """Return the receipt of each transaction, None where there is none, or not yet by two endpoints."""
        calls = [Call("eth_getTransactionReceipt", [tx_hash], receipt_of(tx_hash)) for tx_hash in hashes]
        return await self._rpc.agreed(calls)

    async def block_hash_at(self, number: int) -> str | None:
        """Return the hash of the canonical block ``number``, None beyond the head."""
        (found,) = await self._rpc.agreed([Call(*_block_call(number), block_or_none(number))])
        return None if found is None else found.hash

    async def call(self, to: str, data: bytes, block: int | None = None) -> bytes:
        """Return what a read-only call gives after ``block`` (None: the newest)."""
        return await self._one("eth_call", [{"to": to, "data": "0x" + data.hex()}, _tag(block)], octets)

    async def _one(self, method: str, params: Sequence[Any], parse: Callable[[object], T]) -> T:
        (answer,) = await self._rpc.read([Call(method, params, parse)])
        return answer


def _nonce(address: str, block: int | None) -> Call[int]:
    return Call("eth_getTransactionCount", [address, _tag(block)], count)


def _block_call(number: int) -> tuple[str, list[Any]]:
    return "eth_getBlockByNumber", [hex(number), False]


def _balance(address: str, asset: Asset, block: int | None) -> Call[int]:
    if asset.contract is None:
        return Call("eth_getBalance", [address, _tag(block)], quantity)
    request = {"to": asset.contract, "data": "0x" + erc20_balance_of(address).hex()}
    return Call("eth_call", [request, _tag(block)], word)


def _balance_or_none(address: str, asset: Asset) -> Call[int | None]:
    call = _balance(address, asset, None)
    return Call(call.method, call.params, call.parse, none_if_reverted=True)


def _fee_word(value: object) -> int:
    return price(hex(word(value)))


def _tag(block: int | None) -> str:
    return "latest" if block is None else hex(block)
