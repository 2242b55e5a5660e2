"""What Outlay asks of a chain: the ``Chain`` protocol and the facts it answers with.

Every answer is one node's word at one moment. Absence (no receipt, no block) and refusals of a send decide
nothing about a signed transaction; only the facts below ``final()`` do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from outlay.codec.evm import Log
from outlay.core.asset import Asset
from outlay.core.errors import ChainUnavailable, InvalidInput
from outlay.core.fees import Fees

__all__ = [
    "CallReverted",
    "Chain",
    "Consumed",
    "Fees",
    "Finality",
    "Head",
    "Log",
    "Receipt",
    "SendAnswer",
    "SendKind",
    "fee_paid",
]


class CallReverted(ChainUnavailable):
    """A node answered that this call or estimate reverts at present. Nothing happened; that may change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finality:
    """The rule by which a block of a network counts as final: exactly one member is given."""

    blocks: int | None = None  #: this many blocks, the transaction's own included; 1 or more
    tag: str | None = None  #: ``finalized`` or ``safe``, as the node reports it

    def __post_init__(self) -> None:
        """Check the rule.

        Raises:
            InvalidInput: none or both members, a count below 1, another tag.
        """
        if (self.blocks is None) == (self.tag is None):
            raise InvalidInput("finality is either { blocks = n } or { tag = ... }", field="finality")
        if self.blocks is not None and self.blocks < 1:
            raise InvalidInput("finality needs at least 1 block", field="finality.blocks")
        if self.tag is not None and self.tag not in ("finalized", "safe"):
            raise InvalidInput('a finality tag is "finalized" or "safe"', field="finality.tag")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A block."""

    number: int
    hash: str  #: 0x and 64 hex digits, lower case
    timestamp: int  #: seconds since 1970 as the block says


class SendKind(StrEnum):
    """What a node's answer to a send means. None of them proves that nothing was or will be paid."""

    ACCEPTED = "accepted"  #: taken into a pool
    KNOWN = "known"  #: these very bytes were there already
    NONCE_TOO_LOW = "nonce_too_low"  #: the slot is used, perhaps by these very bytes: look for the own hashes
    UNDERPRICED = "underpriced"  #: below the floor of the pool, the block or the replaced transaction
    INSUFFICIENT_FUNDS = "insufficient_funds"  #: the wallet cannot pay amount and fee at present
    RATE_LIMITED = "rate_limited"  #: the endpoint was asked too often: to be sent there again
    REFUSED = "refused"  #: clearly not taken, for another reason
    UNKNOWN = "unknown"  #: no answer, or wording not in the table: it may have been taken


@dataclass(frozen=True, slots=True)
class SendAnswer:
    """The answer to one sent transaction, over all endpoints."""

    kind: SendKind
    text: str = ""  #: the node's words, shortened; may be shown to operators


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The effect of a transaction in one block, as a node reports it."""

    tx_hash: str
    block_number: int
    block_hash: str
    status: int  #: 1 executed, 0 reverted
    gas_used: int
    effective_gas_price: int  #: wei per gas
    l1_fee: int  #: wei beside the gas (OP stack); 0 elsewhere
    logs: tuple[Log, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumed:
    """The transaction that took a nonce."""

    hash: str
    block_number: int


def fee_paid(receipt: Receipt) -> int:
    """Return what the transaction cost its sender beside the value, in wei."""
    return receipt.gas_used * receipt.effective_gas_price + receipt.l1_fee


class Chain(Protocol):
    """One network. Every method raises ``ChainUnavailable`` when no endpoint gives a usable answer."""

    async def chain_id(self) -> int:
        """Return the chain id the endpoints were checked against."""
        ...

    async def head(self) -> Head:
        """Return the newest block."""
        ...

    async def final(self) -> Head:
        """Return the newest block that is final by the network's rule (genesis where there is none yet)."""
        ...

    async def nonce_at(self, address: str, block: int | None = None) -> int:
        """Return how many transactions ``address`` has mined up to ``block`` (None: the newest)."""
        ...

    async def balance_at(self, address: str, asset: Asset, block: int) -> int:
        """Return the balance of ``asset`` in base units after ``block``.

        Raises:
            CallReverted: no token is at the asset's contract address.
        """
        ...

    async def balances(self, address: str, assets: Sequence[Asset]) -> Sequence[int | None]:
        """Return the newest balance of each asset in base units, in order; None where no token answers."""
        ...

    async def code_at(self, address: str) -> bytes:
        """Return the code at ``address``, empty for a plain account."""
        ...

    async def codes_at(self, addresses: Sequence[str]) -> list[bytes]:
        """Return the code at each address, in order; asked for together."""
        ...

    async def fees(self) -> Fees:
        """Return what a transaction costs now."""
        ...

    async def data_fee(self, size: int) -> int:
        """Return what a transaction of ``size`` bytes costs beside its gas now, in wei; 0 where there is no such."""
        ...

    async def transaction_at(self, address: str, nonce: int, block: int) -> Consumed | None:
        """Return which transaction of ``address`` took ``nonce``, at or before ``block``; None: none did."""
        ...

    async def estimate_gas(self, sender: str, to: str, value: int, data: bytes) -> int:
        """Return the gas this call would use now.

        Raises:
            CallReverted: it would revert.
        """
        ...

    async def send_raw(self, raws: Sequence[bytes]) -> list[SendAnswer]:
        """Send signed transactions to every endpoint; return one answer each, in order.

        No answer of a node raises here: it could not be told apart from a lost answer by the caller.
        """
        ...

    async def receipts(self, hashes: Sequence[str]) -> list[Receipt | None]:
        """Return the receipt of each transaction, None where this node has none (which proves nothing)."""
        ...

    async def block_hash_at(self, number: int) -> str | None:
        """Return the hash of the canonical block ``number``, None beyond the head."""
        ...

    async def call(self, to: str, data: bytes, block: int | None = None) -> bytes:
        """Return what a read-only call gives after ``block`` (None: the newest).

        Raises:
            CallReverted: it reverts.
        """
        ...
