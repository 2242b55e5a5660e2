"""What nodes answer about blocks, receipts, fees and transactions, checked member by member.

Checks are of shape and of consistency with the question (the block asked for, the hash asked for). Whether
a node tells the truth is decided elsewhere.
"""

from collections.abc import Callable
from typing import Final

from outlay.chains import CallReverted, Consumed, Head, Log, Receipt
from outlay.chains.jsonrpc import WrongShape, octets, quantity
from outlay.codec.evm import WORD

COUNT_MAX: Final = 2**63 - 1
"""The largest block number, nonce, instant or amount of gas that is believed: what the database holds."""

PRICE_MAX: Final = 2**128 - 1
"""The largest price of gas, or fee beside it, that is believed, wei: far more than there is."""

_LOGS_MAX: Final = 10_000


def count(value: object) -> int:
    """Return a block number, nonce, instant or amount of gas. Raises WrongShape."""
    return quantity(value, most=COUNT_MAX)


def price(value: object) -> int:
    """Return a price or fee in wei. Raises WrongShape."""
    return quantity(value, most=PRICE_MAX)


def word(value: object) -> int:
    """Return the one number that a call of a contract gave.

    Raises:
        CallReverted: nothing came back: no contract that knows this call is there.
        WrongShape: not one word.
    """
    if value == "0x":
        raise CallReverted("no contract answers this call at this address")
    return int.from_bytes(octets(value, WORD), "big")


def block(value: object) -> Head:
    """Return the block in an answer. Raises WrongShape."""
    answer = _members(value, "a block")
    return Head(
        number=count(answer.get("number")), hash=_hash(answer.get("hash")), timestamp=count(answer.get("timestamp"))
    )


def block_or_none(number: int) -> Callable[[object], Head | None]:
    """Return the reader of block ``number``, None where the node has none."""

    def parse(value: object) -> Head | None:
        if value is None:
            return None
        found = block(value)
        if found.number != number:
            raise WrongShape(f"block {found.number} came back for block {number}")
        return found

    return parse


def block_at(number: int) -> Callable[[object], Head]:
    """Return the reader of block ``number``, which must be there."""
    parse_block = block_or_none(number)

    def parse(value: object) -> Head:
        found = parse_block(value)
        if found is None:
            raise WrongShape(f"block {number} is missing below the head")
        return found

    return parse


def taker_in(number: int, address: str, nonce: int) -> Callable[[object], Consumed]:
    """Return the reader of block ``number`` with its transactions, for the one that took a nonce.

    That is the transaction of ``address`` with this nonce. Where there is none, an authorization raised the nonce
    (EIP-7702), and the one transaction that carries an authorization with this nonce is it.
    """
    parse_block = block_at(number)

    def parse(value: object) -> Consumed:
        parse_block(value)
        bodies = _members(value, "a block").get("transactions")
        if not isinstance(bodies, list) or not all(isinstance(each, dict) for each in bodies):
            raise WrongShape("a list of transactions was expected")
        takers = [each for each in bodies if _is_from(each, address) and count(each.get("nonce")) == nonce]
        takers = takers or [each for each in bodies if _authorizes(each, nonce)]
        if len(takers) != 1:
            raise WrongShape(f"no one transaction of block {number} took nonce {nonce}")
        return Consumed(hash=_hash(takers[0].get("hash")), block_number=number)

    return parse


def _is_from(body: dict[str, object], address: str) -> bool:
    return "0x" + octets(body.get("from"), 20).hex() == address.lower()


def _authorizes(body: dict[str, object], nonce: int) -> bool:
    entries = body.get("authorizationList")
    return isinstance(entries, list) and any(
        isinstance(each, dict) and count(each.get("nonce")) == nonce for each in entries
    )


def fee_history(value: object) -> tuple[int, int, list[tuple[int, int, int]]]:
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
        slow, standard, fast = sorted(price(tip) for tip in reward)
        if ratio > 0:
            rows.append((slow, standard, fast))
    return count(history.get("oldestBlock")) + len(ratios) - 1, price(bases[-1]), rows


def receipt_of(tx_hash: str) -> Callable[[object], Receipt | None]:
    """Return the reader of the receipt of ``tx_hash``, None where it is in no block."""

    def parse(value: object) -> Receipt | None:
        if value is None:
            return None
        receipt = _members(value, "a receipt")
        if receipt.get("blockHash") is None or receipt.get("blockNumber") is None:
            return None  # some clients answer for transactions that are not in a block yet
        if _hash(receipt.get("transactionHash")) != tx_hash.lower():
            raise WrongShape("the receipt of another transaction came back")
        logs = receipt.get("logs")
        if not isinstance(logs, list) or len(logs) > _LOGS_MAX:
            raise WrongShape("a list of logs was expected")
        l1_fee = receipt.get("l1Fee")
        return Receipt(
            tx_hash=tx_hash.lower(),
            block_number=count(receipt.get("blockNumber")),
            block_hash=_hash(receipt.get("blockHash")),
            status=quantity(receipt.get("status"), most=1),
            gas_used=count(receipt.get("gasUsed")),
            effective_gas_price=price(receipt.get("effectiveGasPrice")),
            l1_fee=0 if l1_fee is None else price(l1_fee),
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


def _members(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise WrongShape(f"{what} was expected")
    return value


def _hash(value: object) -> str:
    return "0x" + octets(value, 32).hex()
