"""Signed transactions read back: what they say, and whose key signed them.

Made for checking, not for speed: a recovery takes some milliseconds and needs no library.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from outlay.codec.evm import TRANSACTION_TYPE, Eip1559, Legacy
from outlay.core.errors import InvalidInput

_SIZE_MAX: Final = 128 * 1024  # what a node still takes; ours have a few hundred bytes
_MEMBERS: Final = 12
_LEGACY_MEMBERS: Final = 9

# The curve secp256k1: y^2 = x^3 + 7 modulo a prime, and a point of prime order. Source: SEC 2, section 2.4.1.
_PRIME: Final = 2**256 - 2**32 - 977
_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_BASE: Final = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)

_Point = tuple[int, int] | None  # None: the point at infinity
_Item = bytes | list["_Item"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTransaction:
    """A signed transaction, and the key that signed it."""

    transaction: Eip1559 | Legacy
    public_key: bytes  #: 65 bytes, uncompressed: recovered from the signature

    @property
    def compressed_key(self) -> bytes:
        """Return the key as 33 bytes."""
        return bytes([2 + (self.public_key[64] & 1)]) + self.public_key[1:33]


def read_signed(raw: bytes, *, recover: Callable[[bytes, bytes], bytes] | None = None) -> SignedTransaction:
    """Return what signed bytes say, and who signed them.

    Args:
        raw: as sent to a node: a transaction of type 2, or a legacy one bound to a chain.
        recover: a faster way from digest and signature (r, s, parity) to the uncompressed key; None: ours.

    Raises:
        InvalidInput: not exactly the bytes that ``Eip1559.encode`` or ``Legacy.encode`` writes, or nobody's
            signature.

    Source: EIP-155; EIP-1559; EIP-2718; SEC 1, section 4.1.6 (recovery of the key).
    """
    if len(raw) > _SIZE_MAX:
        raise InvalidInput("larger than nodes take", field="transaction")
    if raw[:1] == TRANSACTION_TYPE:
        transaction, signature = _read_1559(_read_list(raw[1:], _MEMBERS))
    elif raw[:1] >= b"\xc0":
        transaction, signature = _read_legacy(_read_list(raw, _LEGACY_MEMBERS))
    else:
        raise InvalidInput("neither of type 2 nor a legacy transaction", field="transaction")
    # One spelling only: leading zeros and long lengths would make other bytes, and another hash, of the same.
    if transaction.encode(signature) != raw:
        raise InvalidInput("these bytes have another spelling", field="transaction")
    public_key = (recover or _recover)(transaction.signing_hash(), signature)
    return SignedTransaction(transaction=transaction, public_key=public_key)


def _read_1559(items: list[_Item]) -> tuple[Eip1559 | Legacy, bytes]:
    *plain, access_list, parity, r, s = items
    texts = [each for each in (*plain, parity, r, s) if isinstance(each, bytes)]
    if len(texts) != _MEMBERS - 1 or access_list != [] or len(texts[5]) != 20:
        raise InvalidInput("it has an access list, creates a contract, or is malformed", field="transaction")
    numbers = [int.from_bytes(each, "big") for each in texts]
    transaction = Eip1559(
        chain_id=numbers[0],
        nonce=numbers[1],
        max_priority_fee_per_gas=numbers[2],
        max_fee_per_gas=numbers[3],
        gas_limit=numbers[4],
        to="0x" + texts[5].hex(),
        value=numbers[6],
        data=texts[7],
    )
    return transaction, _signature(numbers[8], numbers[9], numbers[10])


def _read_legacy(items: list[_Item]) -> tuple[Eip1559 | Legacy, bytes]:
    texts = [each for each in items if isinstance(each, bytes)]
    if len(texts) != _LEGACY_MEMBERS or len(texts[3]) != 20:
        raise InvalidInput("it creates a contract, or is malformed", field="transaction")
    numbers = [int.from_bytes(each, "big") for each in texts]
    # 27 and 28 bind no chain: such bytes could be sent to every chain. They end as chain id -4, which is refused.
    chain_id, parity = divmod(numbers[6] - 35, 2)
    transaction = Legacy(
        chain_id=chain_id,
        nonce=numbers[0],
        gas_price=numbers[1],
        gas_limit=numbers[2],
        to="0x" + texts[3].hex(),
        value=numbers[4],
        data=texts[5],
    )
    return transaction, _signature(parity, numbers[7], numbers[8])


def _signature(parity: int, r: int, s: int) -> bytes:
    if max(r, s) >= 2**256 or parity > 1:
        raise InvalidInput("the signature is malformed", field="transaction")
    return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([parity])


def _read_list(data: bytes, members: int) -> list[_Item]:
    item, rest = _read_item(data)
    if rest or not isinstance(item, list) or len(item) != members:
        raise InvalidInput(f"not a list of {members} members", field="transaction")
    return item


def _read_item(data: bytes) -> tuple[_Item, bytes]:
    """Return the first RLP item of ``data`` and what follows it; the caller compares spellings."""
    if not data:
        raise InvalidInput("the bytes end too early", field="transaction")
    first, is_list = data[0], data[0] >= 0xC0
    if first < 0x80:
        return data[:1], data[1:]
    length = first - (0xC0 if is_list else 0x80)
    start = 1
    if length > 55:
        start = 1 + length - 55
        length = int.from_bytes(data[1:start], "big")
    content, rest = data[start : start + length], data[start + length :]
    if len(content) != length:
        raise InvalidInput("the bytes end too early", field="transaction")
    if not is_list:
        return content, rest
    items: list[_Item] = []
    while content:
        # A list within the list can only be the access list, which must be empty: nothing is read deeper.
        if content[0] > 0xC0:
            raise InvalidInput("it has an access list", field="transaction")
        item, content = _read_item(content)
        items.append(item)
    return items, rest


def _recover(digest: bytes, signature: bytes) -> bytes:
    """Return the public key under which ``signature`` (r, s, parity; 65 bytes) is one of ``digest``."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    square = (r**3 + 7) % _PRIME
    y = pow(square, (_PRIME + 1) // 4, _PRIME)
    if not 0 < r < _ORDER or y * y % _PRIME != square:
        raise InvalidInput("the signature is nobody's", field="transaction")
    y = y if y & 1 == signature[64] else _PRIME - y
    inverse = pow(r, -1, _ORDER)
    negative = -int.from_bytes(digest, "big") % _ORDER
    key = _add(_times(negative * inverse % _ORDER, _BASE), _times(s * inverse % _ORDER, (r, y)))
    if key is None:
        raise InvalidInput("the signature is nobody's", field="transaction")
    return b"\x04" + key[0].to_bytes(32, "big") + key[1].to_bytes(32, "big")


def _add(one: _Point, two: _Point) -> _Point:
    if one is None or two is None:
        return two if one is None else one
    if one[0] == two[0]:
        if (one[1] + two[1]) % _PRIME == 0:
            return None
        slope = 3 * one[0] * one[0] * pow(2 * one[1], -1, _PRIME)
    else:
        slope = (two[1] - one[1]) * pow(two[0] - one[0], -1, _PRIME)
    x = (slope * slope - one[0] - two[0]) % _PRIME
    return x, (slope * (one[0] - x) - one[1]) % _PRIME


def _times(factor: int, point: _Point) -> _Point:
    total: _Point = None
    while factor:
        if factor & 1:
            total = _add(total, point)
        point, factor = _add(point, point), factor >> 1
    return total
