"""EVM bytes in the few fixed shapes Outlay needs: RLP, two kinds of transactions, two ERC-20 calls, one log.

Nothing here signs or sends. Addresses are ``0x`` and 40 lower-case hex digits; hashes are ``0x`` and 64.
Contract creation, access lists and other calls are left out on purpose: what cannot be written cannot
be signed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from outlay.core.address import parse_address
from outlay.core.errors import InvalidInput
from outlay.core.keccak import keccak

TRANSACTION_TYPE = b"\x02"
WORD = 32
UINT256_MAX = 2**256 - 1
NONCE_MAX = 2**64 - 2
"""The last usable nonce. Source: EIP-2681."""
LEGACY_CHAIN_ID_MAX = (UINT256_MAX - 36) // 2
"""The largest chain id a legacy signature can bind. Source: EIP-2294."""
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0

TRANSFER_SELECTOR = keccak(b"transfer(address,uint256)")[:4]
BALANCE_OF_SELECTOR = keccak(b"balanceOf(address)")[:4]
DECIMALS_SELECTOR = keccak(b"decimals()")[:4]
TRANSFER_TOPIC = keccak(b"Transfer(address,address,uint256)")

RlpItem = bytes | int | Sequence["RlpItem"]


def rlp_encode(item: RlpItem) -> bytes:
    """Return the RLP encoding of bytes, a non-negative integer or a list of these.

    Raises:
        InvalidInput: a negative integer, a bool, text or another type.

    Source: Ethereum yellow paper, appendix B; integers are big-endian without leading zeros, 0 is empty.
    """
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _rlp_length(len(item), 0x80) + item
    if isinstance(item, bool | str | bytearray | memoryview):
        raise InvalidInput("RLP takes bytes, integers and lists", field="item")
    if isinstance(item, int):
        if item < 0:
            raise InvalidInput("RLP has no negative integers", field="item")
        return rlp_encode(item.to_bytes((item.bit_length() + 7) // 8, "big"))
    if isinstance(item, Sequence):
        body = b"".join(rlp_encode(member) for member in item)
        return _rlp_length(len(body), 0xC0) + body
    raise InvalidInput("RLP takes bytes, integers and lists", field="item")


def _rlp_length(length: int, offset: int) -> bytes:
    if length < 56:
        return bytes([offset + length])
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([offset + 55 + len(size)]) + size


_SMALL = tuple(rlp_encode(number) for number in range(0x80))
_HEADS = tuple(bytes([0x80 + size]) for size in range(WORD + 1))
_LIST_HEADS = tuple(_rlp_length(size, 0xC0) for size in range(512))
_LOWER_ADDRESS = re.compile(r"0x[0-9a-f]{40}")


def _rlp_number(number: int) -> bytes:
    """Return the RLP encoding of an integer from 0 to 2**256 - 1."""
    if number < 0x80:
        return _SMALL[number]
    size = (number.bit_length() + 7) >> 3
    return _HEADS[size] + number.to_bytes(size, "big")


def _rlp_bytes(octets: bytes) -> bytes:
    return octets if len(octets) == 1 and octets[0] < 0x80 else _rlp_length(len(octets), 0x80) + octets


def _rlp_list(body: bytes) -> bytes:
    size = len(body)
    return (_LIST_HEADS[size] if size < len(_LIST_HEADS) else _rlp_length(size, 0xC0)) + body


@dataclass(frozen=True, slots=True, kw_only=True)
class Eip1559:
    """An unsigned transaction of type 2 with an empty access list."""

    chain_id: int  #: > 0; binds the signature to one chain
    nonce: int  #: 0 to ``NONCE_MAX``
    max_priority_fee_per_gas: int  #: wei per gas, 0 to ``max_fee_per_gas``
    max_fee_per_gas: int  #: wei per gas
    gas_limit: int  #: gas, > 0
    to: str  #: address called or paid
    value: int  #: wei
    data: bytes = b""  #: calldata
    _body: bytes = field(init=False, repr=False, compare=False)  # all of these in RLP, of which both are made

    def __post_init__(self) -> None:
        """Refuse numbers outside their ranges.

        Raises:
            InvalidInput: names the member that is out of range.
        """
        chain_id, nonce, tip, fee = self.chain_id, self.nonce, self.max_priority_fee_per_gas, self.max_fee_per_gas
        gas, value, to, data = self.gas_limit, self.value, self.to, self.data
        # Looked at one by one only where something is wrong: one of these is made a payout.
        if not (
            type(chain_id) is type(nonce) is type(tip) is type(fee) is type(gas) is type(value) is int
            and 1 <= chain_id <= UINT256_MAX
            and 0 <= nonce <= NONCE_MAX
            and 0 <= tip <= fee <= UINT256_MAX
            and 1 <= gas < 2**64
            and 0 <= value <= UINT256_MAX
        ):
            _check_ranges(
                ("chain_id", chain_id, 1, UINT256_MAX),
                ("nonce", nonce, 0, NONCE_MAX),
                ("max_fee_per_gas", fee, 0, UINT256_MAX),
                ("max_priority_fee_per_gas", tip, 0, fee),
                ("gas_limit", gas, 1, 2**64 - 1),
                ("value", value, 0, UINT256_MAX),
            )
        if type(to) is not str or _LOWER_ADDRESS.fullmatch(to) is None:
            parse_address(to, field="to")
        if type(data) is not bytes:
            raise InvalidInput("calldata is bytes", field="data")
        body = (
            _rlp_number(chain_id)
            + _rlp_number(nonce)
            + _rlp_number(tip)
            + _rlp_number(fee)
            + _rlp_number(gas)
            + b"\x94"  # twenty bytes
            + bytes.fromhex(to[2:])
            + _rlp_number(value)
            + (_rlp_bytes(data) if data else b"\x80")
            + b"\xc0"  # no access list
        )
        object.__setattr__(self, "_body", body)

    def signing_hash(self) -> bytes:
        """Return the 32 bytes to sign. Source: EIP-1559."""
        return keccak(TRANSACTION_TYPE + _rlp_list(self._body))

    def encode(self, signature: bytes) -> bytes:
        """Return the signed transaction as sent to a node.

        Args:
            signature: 65 bytes: r, s, and the y parity (0 or 1).

        Raises:
            InvalidInput: another length, a parity that is not 0 or 1, r or s zero, or s in the upper half
                (nodes refuse it: EIP-2).
        """
        parity, r, s = _signature_parts(signature)
        return TRANSACTION_TYPE + _rlp_list(self._body + _SMALL[parity] + _rlp_number(r) + _rlp_number(s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Legacy:
    """An unsigned transaction without a type, for chains without EIP-1559; bound to one chain by EIP-155."""

    chain_id: int  #: 1 to ``LEGACY_CHAIN_ID_MAX``; binds the signature to one chain
    nonce: int  #: 0 to ``NONCE_MAX``
    gas_price: int  #: wei per gas
    gas_limit: int  #: gas, > 0
    to: str  #: address called or paid
    value: int  #: wei
    data: bytes = b""  #: calldata

    def __post_init__(self) -> None:
        """Refuse numbers outside their ranges.

        Raises:
            InvalidInput: names the member that is out of range.
        """
        _check_ranges(
            ("chain_id", self.chain_id, 1, LEGACY_CHAIN_ID_MAX),
            ("nonce", self.nonce, 0, NONCE_MAX),
            ("gas_price", self.gas_price, 0, UINT256_MAX),
            ("gas_limit", self.gas_limit, 1, 2**64 - 1),
            ("value", self.value, 0, UINT256_MAX),
        )
        parse_address(self.to, field="to")

    @property
    def max_fee_per_gas(self) -> int:
        """Return the most it pays per gas, wei: its price."""
        return self.gas_price

    @property
    def max_priority_fee_per_gas(self) -> int:
        """Return the most of it that the block's maker may get per gas, wei: the whole price."""
        return self.gas_price

    def _fields(self) -> list[RlpItem]:
        return [self.nonce, self.gas_price, self.gas_limit, bytes.fromhex(self.to[2:]), self.value, self.data]

    def signing_hash(self) -> bytes:
        """Return the 32 bytes to sign. Source: EIP-155."""
        return keccak(rlp_encode([*self._fields(), self.chain_id, 0, 0]))

    def encode(self, signature: bytes) -> bytes:
        """Return the signed transaction as sent to a node; see ``Eip1559.encode``."""
        parity, r, s = _signature_parts(signature)
        return rlp_encode([*self._fields(), 35 + 2 * self.chain_id + parity, r, s])


def _check_ranges(*ranges: tuple[str, int, int, int]) -> None:
    for name, number, low, high in ranges:
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            raise InvalidInput(f"{name} must be an integer from {low} to {high}", field=name)


def _signature_parts(signature: bytes) -> tuple[int, int, int]:
    """Return parity, r and s of a signature that a node takes."""
    if len(signature) != 65 or signature[64] > 1:
        raise InvalidInput("a signature is 65 bytes that end in the parity 0 or 1", field="signature")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    if r == 0 or not 0 < s <= _HALF_ORDER:
        raise InvalidInput("r and s must be positive and s in the lower half", field="signature")
    return signature[64], r, s


def tx_hash(raw: bytes) -> str:
    """Return the hash of a signed transaction, as nodes name it."""
    return "0x" + keccak(raw).hex()


def address_of(public_key: bytes) -> str:
    """Return the address of an uncompressed secp256k1 public key (65 bytes, first byte 4).

    Raises:
        InvalidInput: another length or prefix.
    """
    if len(public_key) != 65 or public_key[0] != 4:
        raise InvalidInput("an uncompressed public key is 65 bytes that start with 04", field="public_key")
    return "0x" + keccak(public_key[1:])[12:].hex()


def _address_word(address: str, field: str) -> bytes:
    return bytes.fromhex(parse_address(address, field=field)[2:]).rjust(WORD, b"\0")


def erc20_transfer(recipient: str, amount: int) -> bytes:
    """Return the calldata of ``transfer(recipient, amount)``.

    Args:
        recipient: address that is paid.
        amount: base units of the token, 0 to 2**256 - 1.

    Raises:
        InvalidInput: a malformed address, or an amount out of range.
    """
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount <= UINT256_MAX:
        raise InvalidInput("an amount is an integer from 0 to 2^256 - 1", field="amount")
    return TRANSFER_SELECTOR + _address_word(recipient, "recipient") + amount.to_bytes(WORD, "big")


def erc20_balance_of(owner: str) -> bytes:
    """Return the calldata of ``balanceOf(owner)``.

    Raises:
        InvalidInput: a malformed address.
    """
    return BALANCE_OF_SELECTOR + _address_word(owner, "owner")


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One log of a receipt."""

    address: str  #: the contract that wrote it, lower case
    topics: tuple[bytes, ...]  #: 32 bytes each, at most four
    data: bytes


class TokenTransfer(NamedTuple):
    """What an ERC-20 ``Transfer`` log says."""

    contract: str
    sender: str
    recipient: str
    amount: int  #: base units of the token


def parse_transfer_log(log: Log) -> TokenTransfer | None:
    """Return what an ERC-20 ``Transfer`` log says, or None for any other log.

    The shape is exact: two indexed addresses with clean upper bytes and one word of data. ERC-721 logs
    (amount indexed) and tokens that index nothing give None, so they never count as a payment.
    """
    if len(log.topics) != 3 or log.topics[0] != TRANSFER_TOPIC or len(log.data) != WORD:
        return None
    sender, recipient = log.topics[1], log.topics[2]
    if any(len(word) != WORD or any(word[:12]) for word in (sender, recipient)):
        return None
    amount = int.from_bytes(log.data, "big")
    return TokenTransfer(log.address, "0x" + sender[12:].hex(), "0x" + recipient[12:].hex(), amount)
