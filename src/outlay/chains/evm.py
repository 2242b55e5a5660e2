"""An EVM network behind the ``Chain`` protocol: every answer of a node is checked before it is believed.

Checks are of shape and of consistency with the question (the block asked for, the hash asked for). Whether
a node tells the truth is decided elsewhere: finality and the exact effect are judged by the engine.
"""

from collections.abc import Callable, Sequence
from statistics import median_low
from typing import Any, TypeVar

from outlay.chains import Fees, Finality, Head, Log, Receipt, SendAnswer
from outlay.chains.rpc import Call, JsonRpc, WrongShape, octets, quantity
from outlay.codec.evm import WORD, erc20_balance_of
from outlay.core.asset import Asset

T = TypeVar("T")

_FEE_BLOCKS = 20
_FEE_PERCENTILES = (10, 50, 90)
_LOGS_MAX = 10_000


class EvmChain:
    """One EVM network."""

    def __init__(self, rpc: JsonRpc, finality: Finality) -> None:
        """Keep the endpoints and the rule of finality; nothing is asked yet."""
        self._rpc = rpc
        self._finality = finality

    async def chain_id(self) -> int:
        """Return the chain id, after an endpoint confirmed it."""
        return await self._one("eth_chainId", [], quantity)

    async def head(self) -> Head:
        """Return the newest block."""
        return await self._one("eth_getBlockByNumber", ["latest", False], _head)

    async def final(self) -> Head:
        """Return the newest final block: counted back from the head, or by the node's tag.

        With ``blocks = n`` a block is final once n blocks stand from it to the head, itself included. On a
        chain shorter than that genesis is returned; it holds no transaction, so nothing counts as final.
        """
        if self._finality.blocks is None:
            return await self._one("eth_getBlockByNumber", [self._finality.tag, False], _head)
        head = await self.head()
        number = max(0, head.number - self._finality.blocks + 1)
        if number == head.number:
            return head
        return await self._one("eth_getBlockByNumber", [hex(number), False], _block_at(number))

    async def nonce_at(self, address: str, block: int | None = None) -> int:
        """Return how many transactions ``address`` has mined up to ``block`` (None: the newest)."""
        return await self._one("eth_getTransactionCount", [address, _tag(block)], quantity)

    async def balance_at(self, address: str, asset: Asset, block: int) -> int:
        """Return the balance of ``asset`` in base units after ``block``."""
        (balance,) = await self._rpc.read([_balance(address, asset, block)])
        return balance

    async def balances(self, address: str, assets: Sequence[Asset]) -> list[int]:
        """Return the newest balance of each asset in base units, in order."""
        return await self._rpc.read([_balance(address, asset, None) for asset in assets])

    async def code_at(self, address: str) -> bytes:
        """Return the code at ``address``, empty for a plain account."""
        return (await self.codes_at([address]))[0]

    async def codes_at(self, addresses: Sequence[str]) -> list[bytes]:
        """Return the code at each address, in order."""
        return await self._rpc.read([Call("eth_getCode", [address, "latest"], octets) for address in addresses])

    async def fees(self) -> Fees:
        """Return the next block's base fee and tips from what the last 20 blocks took.

        Tips are the low medians of the 10th, 50th and 90th percentile over blocks with transactions; on an
        idle chain the node's own suggestion serves for all three.
        """
        rewards = list(_FEE_PERCENTILES)
        number, base_fee, rows = await self._one("eth_feeHistory", [hex(_FEE_BLOCKS), "latest", rewards], _fee_history)
        if rows:
            slow, standard, fast = (median_low(row[n] for row in rows) for n in range(3))
        else:
            slow = standard = fast = await self._one("eth_maxPriorityFeePerGas", [], quantity)
        return Fees(block_number=number, base_fee=base_fee, tip_slow=slow, tip_standard=standard, tip_fast=fast)

    async def estimate_gas(self, sender: str, to: str, value: int, data: bytes) -> int:
        """Return the gas this call would use now; see ``Chain``."""
        request = {"from": sender, "to": to, "value": hex(value), "data": "0x" + data.hex()}
        return await self._one("eth_estimateGas", [request], quantity)

    async def send_raw(self, raws: Sequence[bytes]) -> list[SendAnswer]:
        """Send signed transactions to every endpoint; see ``Chain``."""
        return await self._rpc.send(raws)

    async def receipts(self, hashes: Sequence[str]) -> list[Receipt | None]:
        """Return the receipt of each transaction, None where the node has none."""
        calls = [Call("eth_getTransactionReceipt", [tx_hash], _receipt_of(tx_hash)) for tx_hash in hashes]
        return await self._rpc.read(calls)

    async def block_hash_at(self, number: int) -> str | None:
        """Return the hash of the canonical block ``number``, None beyond the head."""
        block = await self._one("eth_getBlockByNumber", [hex(number), False], _block_or_none(number))
        return None if block is None else block.hash

    async def call(self, to: str, data: bytes, block: int | None = None) -> bytes:
        """Return what a read-only call gives after ``block`` (None: the newest)."""
        return await self._one("eth_call", [{"to": to, "data": "0x" + data.hex()}, _tag(block)], octets)

    async def _one(self, method: str, params: Sequence[Any], parse: Callable[[object], T]) -> T:
        (answer,) = await self._rpc.read([Call(method, params, parse)])
        return answer


def _balance(address: str, asset: Asset, block: int | None) -> Call[int]:
    if asset.contract is None:
        return Call("eth_getBalance", [address, _tag(block)], quantity)
    request = {"to": asset.contract, "data": "0x" + erc20_balance_of(address).hex()}
    return Call("eth_call", [request, _tag(block)], _word)


def _tag(block: int | None) -> str:
    return "latest" if block is None else hex(block)


def _members(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise WrongShape(f"{what} was expected")
    return value


def _hash(value: object) -> str:
    return "0x" + octets(value, 32).hex()


def _word(value: object) -> int:
    return int.from_bytes(octets(value, WORD), "big")


def _head(value: object) -> Head:
    block = _members(value, "a block")
    return Head(
        number=quantity(block.get("number")),
        hash=_hash(block.get("hash")),
        timestamp=quantity(block.get("timestamp")),
    )


def _block_or_none(number: int) -> Callable[[object], Head | None]:
    def parse(value: object) -> Head | None:
        if value is None:
            return None
        block = _head(value)
        if block.number != number:
            raise WrongShape(f"block {block.number} came back for block {number}")
        return block

    return parse


def _block_at(number: int) -> Callable[[object], Head]:
    parse_block = _block_or_none(number)

    def parse(value: object) -> Head:
        block = parse_block(value)
        if block is None:
            raise WrongShape(f"block {number} is missing below the head")
        return block

    return parse


def _fee_history(value: object) -> tuple[int, int, list[tuple[int, int, int]]]:
    """Return the newest block's number, the next one's base fee and the tips of every block that took transactions."""
    history = _members(value, "a fee history")
    bases, ratios, rewards = (history.get(name) or [] for name in ("baseFeePerGas", "gasUsedRatio", "reward"))
    if not isinstance(bases, list) or not isinstance(ratios, list) or not isinstance(rewards, list):
        raise WrongShape("lists were expected in a fee history")
    if len(bases) < 2 or len(ratios) != len(bases) - 1 or len(rewards) != len(ratios):
        raise WrongShape("the lists of a fee history do not fit together")
    rows = []
    for ratio, reward in zip(ratios, rewards, strict=True):
        if not isinstance(ratio, int | float) or not isinstance(reward, list) or len(reward) != 3:
            raise WrongShape("a ratio and three tips were expected for every block")
        # Percentiles of one block rise; sorting keeps slow <= standard <= fast even if a node disagrees.
        slow, standard, fast = sorted(quantity(tip) for tip in reward)
        if ratio > 0:
            rows.append((slow, standard, fast))
    return quantity(history.get("oldestBlock")) + len(ratios) - 1, quantity(bases[-1]), rows


def _receipt_of(tx_hash: str) -> Callable[[object], Receipt | None]:
    def parse(value: object) -> Receipt | None:
        if value is None:
            return None
        receipt = _members(value, "a receipt")
        if receipt.get("blockHash") is None or receipt.get("blockNumber") is None:
            return None  # some clients answer for transactions that are not in a block yet
        if _hash(receipt.get("transactionHash")) != tx_hash.lower():
            raise WrongShape("the receipt of another transaction came back")
        status = quantity(receipt.get("status"))
        if status > 1:
            raise WrongShape("a status of 0 or 1 was expected")
        logs = receipt.get("logs")
        if not isinstance(logs, list) or len(logs) > _LOGS_MAX:
            raise WrongShape("a list of logs was expected")
        l1_fee = receipt.get("l1Fee")
        return Receipt(
            tx_hash=tx_hash.lower(),
            block_number=quantity(receipt.get("blockNumber")),
            block_hash=_hash(receipt.get("blockHash")),
            status=status,
            gas_used=quantity(receipt.get("gasUsed")),
            effective_gas_price=quantity(receipt.get("effectiveGasPrice")),
            l1_fee=0 if l1_fee is None else quantity(l1_fee),
            logs=tuple(_log(log, tx_hash.lower()) for log in logs),
        )

    return parse


def _log(value: object, tx_hash: str) -> Log:
    log = _members(value, "a log")
    topics = log.get("topics")
    if not isinstance(topics, list) or len(topics) > 4:
        raise WrongShape("a list of at most four topics was expected")
    if log.get("removed") not in (None, False):
        raise WrongShape("a removed log came back in a receipt")
    if log.get("transactionHash") is not None and _hash(log.get("transactionHash")) != tx_hash:
        raise WrongShape("the log of another transaction came back")
    return Log(
        address="0x" + octets(log.get("address"), 20).hex(),
        topics=tuple(octets(topic, WORD) for topic in topics),
        data=octets(log.get("data")),
    )
