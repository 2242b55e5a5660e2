#!/usr/bin/env python3
# ruff: noqa
# fmt: off
"""Check the proof of a payout of Outlay 0.1.0 with no server, and with nothing installed but `cryptography`.

    python outlay_verify.py --root FINGERPRINT FILE

FINGERPRINT is what `outlay init` printed; it must come from somewhere else than FILE. Exit code 0: proved; 1: not
proved, the first step that fails is named; 2: the file cannot be read. Python 3.11 to 3.13.

`outlay evidence verifier` wrote this file: the modules below stand in it exactly as in the repository.
"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

SOURCES = {}

SOURCES["outlay"] = r'''"""Outlay: self-hosted, policy-gated, automated crypto payouts."""

__version__ = "0.1.0"
'''

SOURCES["outlay.codec"] = r'''"""How chains write transactions, calls and logs as bytes: pure functions, no keys and no network."""
'''

SOURCES["outlay.codec.evm"] = r'''"""EVM bytes in the few fixed shapes Outlay needs: RLP, EIP-1559 transactions, two ERC-20 calls, one log.

Nothing here signs or sends. Addresses are ``0x`` and 40 lower-case hex digits; hashes are ``0x`` and 64.
Contract creation, access lists and other calls are left out on purpose: what cannot be written cannot
be signed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from outlay.core.address import parse_address
from outlay.core.errors import InvalidInput
from outlay.core.keccak import keccak

TRANSACTION_TYPE = b"\x02"
WORD = 32
UINT256_MAX = 2**256 - 1
NONCE_MAX = 2**64 - 2
"""The last usable nonce. Source: EIP-2681."""
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0

TRANSFER_SELECTOR = keccak(b"transfer(address,uint256)")[:4]
BALANCE_OF_SELECTOR = keccak(b"balanceOf(address)")[:4]
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

    def __post_init__(self) -> None:
        """Refuse numbers outside their ranges.

        Raises:
            InvalidInput: names the member that is out of range.
        """
        ranges = (
            ("chain_id", self.chain_id, 1, UINT256_MAX),
            ("nonce", self.nonce, 0, NONCE_MAX),
            ("max_fee_per_gas", self.max_fee_per_gas, 0, UINT256_MAX),
            ("max_priority_fee_per_gas", self.max_priority_fee_per_gas, 0, self.max_fee_per_gas),
            ("gas_limit", self.gas_limit, 1, 2**64 - 1),
            ("value", self.value, 0, UINT256_MAX),
        )
        for name, number, low, high in ranges:
            if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
                raise InvalidInput(f"{name} must be an integer from {low} to {high}", field=name)
        parse_address(self.to, field="to")

    def _fields(self) -> list[RlpItem]:
        access_list: list[RlpItem] = []
        return [
            self.chain_id,
            self.nonce,
            self.max_priority_fee_per_gas,
            self.max_fee_per_gas,
            self.gas_limit,
            bytes.fromhex(self.to[2:]),
            self.value,
            self.data,
            access_list,
        ]

    def signing_hash(self) -> bytes:
        """Return the 32 bytes to sign. Source: EIP-1559."""
        return keccak(TRANSACTION_TYPE + rlp_encode(self._fields()))

    def encode(self, signature: bytes) -> bytes:
        """Return the signed transaction as sent to a node.

        Args:
            signature: 65 bytes: r, s, and the y parity (0 or 1).

        Raises:
            InvalidInput: another length, a parity that is not 0 or 1, r or s zero, or s in the upper half
                (nodes refuse it: EIP-2).
        """
        if len(signature) != 65 or signature[64] > 1:
            raise InvalidInput("a signature is 65 bytes that end in the parity 0 or 1", field="signature")
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
        if r == 0 or not 0 < s <= _HALF_ORDER:
            raise InvalidInput("r and s must be positive and s in the lower half", field="signature")
        return TRANSACTION_TYPE + rlp_encode([*self._fields(), signature[64], r, s])


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
'''

SOURCES["outlay.codec.signed"] = r'''"""Signed transactions read back: what they say, and whose key signed them.

Made for checking, not for speed: a recovery takes some milliseconds and needs no library.
"""

from dataclasses import dataclass
from typing import Final

from outlay.codec.evm import TRANSACTION_TYPE, Eip1559
from outlay.core.errors import InvalidInput

_SIZE_MAX: Final = 128 * 1024  # what a node still takes; ours have a few hundred bytes
_MEMBERS: Final = 12

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
    """A signed transaction of type 2, and the key that signed it."""

    transaction: Eip1559
    public_key: bytes  #: 65 bytes, uncompressed: recovered from the signature

    @property
    def compressed_key(self) -> bytes:
        """Return the key as 33 bytes."""
        return bytes([2 + (self.public_key[64] & 1)]) + self.public_key[1:33]


def read_signed(raw: bytes) -> SignedTransaction:
    """Return what signed bytes say, and who signed them.

    Args:
        raw: as sent to a node.

    Raises:
        InvalidInput: not exactly the bytes that ``Eip1559.encode`` writes, or nobody's signature.

    Source: EIP-1559; EIP-2718; SEC 1, section 4.1.6 (recovery of the key).
    """
    if raw[:1] != TRANSACTION_TYPE or len(raw) > _SIZE_MAX:
        raise InvalidInput("not a transaction of type 2", field="transaction")
    item, rest = _read_item(raw[1:])
    if rest or not isinstance(item, list) or len(item) != _MEMBERS:
        raise InvalidInput(f"not a list of {_MEMBERS} members", field="transaction")
    *plain, access_list, parity, r, s = item
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
    if max(numbers[9:]) >= 2**256 or numbers[8] > 1:
        raise InvalidInput("the signature is malformed", field="transaction")
    signature = b"".join(number.to_bytes(32, "big") for number in numbers[9:]) + bytes([numbers[8]])
    # One spelling only: leading zeros and long lengths would make other bytes, and another hash, of the same.
    if transaction.encode(signature) != raw:
        raise InvalidInput("these bytes have another spelling", field="transaction")
    return SignedTransaction(transaction=transaction, public_key=_recover(transaction.signing_hash(), signature))


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
'''

SOURCES["outlay.core"] = r'''"""What Outlay knows about money: pure and synchronous, no I/O, no clock, no randomness."""
'''

SOURCES["outlay.core.address"] = r'''"""Addresses of EVM chains: twenty bytes, written in hex; mixed case is a checksum (EIP-55)."""

import re

from outlay.core.errors import InvalidInput
from outlay.core.keccak import keccak

_HEX = re.compile(r"0x[0-9a-fA-F]{40}")
ZERO = "0x" + "0" * 40


def checksum(address: str) -> str:
    """Return ``address`` (0x and 40 hex digits) in the mixed case of EIP-55."""
    digits = address[2:].lower()
    shadow = keccak(digits.encode()).hex()
    return "0x" + "".join(
        c.upper() if int(h, 16) >= 8 else c for c, h in zip(digits, shadow[: len(digits)], strict=True)
    )


def parse_address(text: object, *, field: str) -> str:
    """Return the address in ``text`` in lower case.

    All lower or all upper case carries no checksum and is accepted; mixed case must be right.

    Raises:
        InvalidInput: not 0x and 40 hex digits, or a wrong checksum.

    Source: EIP-55.
    """
    if not isinstance(text, str) or _HEX.fullmatch(text) is None:
        raise InvalidInput("an address is 0x followed by 40 hexadecimal digits", field=field)
    digits = text[2:]
    if digits not in (digits.lower(), digits.upper()) and text != checksum(text):
        raise InvalidInput(
            "the upper and lower case of this address does not match its checksum (EIP-55):"
            " compare it with the source, a character is probably wrong",
            field=field,
        )
    return text.lower()
'''

SOURCES["outlay.core.approval"] = r'''"""Approvals: who may decide about a held payout, and what the decisions add up to.

A person decides once, and the decision counts in every group the person is in. One denial ends it. Whether a
decision counts is judged again each time, with the people as they are now: a person who was removed since, or whose
groups changed since, no longer counts.

Groups are documents as ``core.policy.required_groups`` returns them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from outlay.core.policy import Policy, RequestApproval

Value = Literal["Approved", "Denied"]
Outcome = Literal["Pending", "Approved", "Denied"]
GroupDocument = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """What matters about a user, human or machine, when decisions are counted."""

    is_active: bool  #: exists, is registered, and was not deactivated or removed
    is_service_account: bool
    may_vote: bool  #: the key is vouched for; see ``store.schema.user``


@dataclass(frozen=True, slots=True)
class Decision:
    """One person's vote."""

    user_id: str
    value: str  #: Approved or Denied
    counts: bool = True  #: it was signed over the groups as they are now


def refusal(
    groups: Sequence[GroupDocument],
    user_id: str,
    value: str,
    *,
    people: Mapping[str, Person],
    initiator_id: str,
    decided: Collection[str] = (),
) -> str | None:
    """Return why this user may not decide so, or None if the user may.

    Args:
        groups: the groups that must agree.
        user_id: who wants to decide.
        value: ``Approved`` or ``Denied``.
        people: every user concerned, by id; an unknown one may not decide.
        initiator_id: who asked for the payout.
        decided: users whose decision about these groups is recorded already.
    """
    person = people.get(user_id)
    if value not in ("Approved", "Denied"):
        return "a decision is Approved or Denied"
    if person is None or not person.is_active:
        return "this user is not active"
    if user_id in decided:
        return "you have decided already; a decision cannot be changed"
    if user_id == initiator_id and value == "Denied":
        return None
    mine = [group for group in groups if _is_member(group, user_id, person)]
    if not mine:
        if person.is_service_account and any(user_id in (_listed(group) or ()) for group in groups):
            return "this group does not let service accounts decide: serviceAccountsCanApprove is false"
        return "you are in none of the groups that are asked"
    if not person.may_vote:
        return "your key is not vouched for yet: ask an administrator to activate your user"
    if user_id == initiator_id and not any(group["initiatorCanApprove"] is True for group in mine):
        return "you asked for this payout, and none of your groups lets the initiator approve"
    return None


def outcome(
    groups: Sequence[GroupDocument],
    decisions: Iterable[Decision],
    *,
    people: Mapping[str, Person],
    initiator_id: str,
) -> Outcome:
    """Return what the decisions add up to, with the groups and people as they are now.

    Without any group it stays pending: nothing that was held is let go because a list is empty.
    """
    valid = [
        each
        for each in decisions
        if each.counts and refusal(groups, each.user_id, each.value, people=people, initiator_id=initiator_id) is None
    ]
    if any(each.value == "Denied" for each in valid):
        return "Denied"
    agreed = {each.user_id for each in valid}
    if groups and all(_quorum_reached(group, agreed, people, initiator_id) for group in groups):
        return "Approved"
    return "Pending"


def merge_groups(then: Sequence[GroupDocument], now: Sequence[GroupDocument]) -> tuple[dict[str, Any], ...]:
    """Return the groups that must agree under the stricter of two judgements.

    A policy that triggers now asks its groups of now, so an edit of its groups replaces the old ones. A policy that
    triggered then and does not now (its price fell, it was edited or archived) keeps asking the groups of then.
    """
    current = {group["policyId"] for group in now}
    kept = [dict(group) for group in then if group["policyId"] not in current]
    # A stable sort: within one policy the groups keep their places.
    return tuple(sorted([*kept, *(dict(group) for group in now)], key=lambda group: str(group["policyId"])))


def shortest_timeout(policies: Iterable[Policy]) -> int | None:
    """Return the shortest ``autoRejectTimeout`` of the triggered policies in minutes; None: wait for ever."""
    timeouts = [
        policy.action.auto_reject_timeout
        for policy in policies
        if isinstance(policy.action, RequestApproval) and policy.action.auto_reject_timeout is not None
    ]
    return min(timeouts, default=None)


def _listed(group: GroupDocument) -> list[str] | None:
    """Return the user ids of a group; None where any person of the organization may decide."""
    approvers = group["approvers"]
    return list(approvers["userId"]["in"]) if approvers else None


def _is_member(group: GroupDocument, user_id: str, person: Person) -> bool:
    listed = _listed(group)
    if listed is None:
        return not person.is_service_account
    return user_id in listed and (not person.is_service_account or group["serviceAccountsCanApprove"] is True)


def _quorum_reached(
    group: GroupDocument, agreed: Collection[str], people: Mapping[str, Person], initiator_id: str
) -> bool:
    counted = {
        user_id
        for user_id in agreed
        if _is_member(group, user_id, people[user_id])
        and (user_id != initiator_id or group["initiatorCanApprove"] is True)
    }
    return len(counted) >= int(group["quorum"])
'''

SOURCES["outlay.core.asset"] = r'''"""An asset: what is paid, where, and how it is counted."""

from dataclasses import dataclass

NATIVE = "native"
NATIVE_TID, ERC20_TID = "native:", "erc20:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A coin or token of one network, as the configuration lists it."""

    network: str  #: network name, e.g. ``EthereumSepolia``
    kind: str  #: ``Native`` or ``Erc20``
    contract: str | None  #: token contract in lower case; None for the native coin
    symbol: str
    decimals: int  #: 0 to 77

    @property
    def key(self) -> str:
        """``native`` or the contract address: unique within the network."""
        return self.contract or NATIVE

    @property
    def tid(self) -> str:
        """The contract's name of the asset within its network: ``native:<symbol>`` or ``erc20:<contract>``."""
        return f"{NATIVE_TID}{self.symbol.lower()}" if self.contract is None else f"{ERC20_TID}{self.contract}"
'''

SOURCES["outlay.core.errors"] = r'''"""The tree of errors. The class answers one question: what must the caller do?

``Refused``        tell the caller; repeating the same call will not help (4xx).
``Unavailable``    nothing has happened; try the same call again later (503).
``OutcomeUnknown`` it may have happened; look before doing anything.
``InvariantBroken`` our fault or the world's: stop, and wake a person.

Codes are stable; ``docs/reference/errors.md`` lists them all.
"""

from collections.abc import Mapping
from typing import Any


class OutlayError(Exception):
    """Base of every error Outlay raises on purpose."""

    code = "internal"
    status = 500

    def __init__(self, message: str, *, field: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.details: Mapping[str, Any] = {**({"field": field} if field else {}), **details}


class Refused(OutlayError):
    """The call is wrong or not allowed; nothing was done."""

    code = "refused"
    status = 400


class InvalidInput(Refused):
    """A field of the request is wrong; ``field`` names it and the message says what to do."""

    code = "invalid_input"


class NotAuthenticated(Refused):
    """The bearer token is missing, malformed, expired or revoked."""

    code = "not_authenticated"
    status = 401


class NotPermitted(Refused):
    """The caller is known but may not do this."""

    code = "not_permitted"
    status = 403


class ActionSignatureInvalid(NotPermitted):
    """The user-action token or the assertion in it does not cover this call."""

    code = "action_signature_invalid"


class ActionReplayed(NotPermitted):
    """The signed challenge was used before; ``details.resultId`` names what it did."""

    code = "action_replayed"


class NotFound(Refused):
    """No such object, or not this caller's."""

    code = "not_found"
    status = 404


class NotOffered(Refused):
    """This path or method is not part of Outlay."""

    code = "not_offered"
    status = 404


class MethodNotAllowed(Refused):
    """The path exists, the method on it does not."""

    code = "method_not_allowed"
    status = 405


class Conflict(Refused):
    """The request contradicts something that already exists."""

    code = "conflict"
    status = 409


class HeadMoved(Conflict):
    """Somebody changed the organization's records since this change was signed: sign it again."""

    code = "head_moved"


class ApprovalChanged(Conflict):
    """The policy's groups changed since this decision was signed: read the approval and decide again."""

    code = "approval_changed"


class PreconditionFailed(Refused):
    """The object is in a state that forbids this operation."""

    code = "precondition_failed"
    status = 412


class BodyTooLarge(Refused):
    """The request body is larger than this route accepts."""

    code = "body_too_large"
    status = 413


class UnsupportedMediaType(Refused):
    """The request body is not declared as JSON."""

    code = "unsupported_media_type"
    status = 415


class HeadTooLarge(Refused):
    """Request line and headers are larger than this server reads."""

    code = "head_too_large"
    status = 431


class MalformedRequest(Refused):
    """The bytes on the connection are not an HTTP request."""

    code = "malformed_request"


class Unavailable(OutlayError):
    """Nothing has happened; the same call may be repeated later."""

    code = "unavailable"
    status = 503


class ChainUnavailable(Unavailable):
    """No configured RPC endpoint gave a usable answer."""

    code = "chain_unavailable"


class SignerUnavailable(Unavailable):
    """The signer is locked or gone."""

    code = "signer_unavailable"


class OutcomeUnknown(OutlayError):
    """It may have happened. Look (``details.ids``) before doing anything."""

    code = "outcome_unknown"
    status = 503


class SignerRefused(OutlayError):
    """The signer's own checks or journal forbid this signature."""

    code = "signer_refused"


class InvariantBroken(OutlayError):
    """Something that must always hold does not. Stop this wallet and wake a person."""

    code = "invariant_broken"


class IllegalTransition(InvariantBroken):
    """An event arrived in a state that does not accept it."""

    code = "illegal_transition"
'''

SOURCES["outlay.core.ids"] = r'''"""Identifiers in the contract's shape: ``<prefix>-<5>-<5>-<16>`` of lower-case base 36.

26 characters of base 36 hold 134 bits.
"""

import re

from outlay.core.seams import Entropy

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID = re.compile(r"[a-z]{2,8}-[a-z0-9]{5}-[a-z0-9]{5}-[a-z0-9]{14,16}")

ORGANIZATION, USER, CREDENTIAL, TOKEN = "or", "us", "cr", "to"
PERMISSION, ASSIGNMENT, WALLET, KEY = "pm", "as", "wa", "key"
TRANSFER, TRANSACTION, ATTEMPT = "xfr", "tx", "att"
POLICY, EVALUATION, APPROVAL, DECISION = "plc", "plce", "ap", "dec"
WEBHOOK, DELIVERY, EVENT = "wh", "whe", "evt"
EVIDENCE, ERROR = "evi", "err"
CHANGE = "cr"  # the contract gives change requests the prefix of credentials


def new_id(prefix: str, entropy: Entropy) -> str:
    """Return a fresh identifier with ``prefix``, from 17 bytes of ``entropy``."""
    number = int.from_bytes(entropy.token(17), "big")
    text = ""
    for _ in range(26):
        number, digit = divmod(number, 36)
        text += _ALPHABET[digit]
    return f"{prefix}-{text[:5]}-{text[5:10]}-{text[10:]}"


def is_id(text: str, prefix: str) -> bool:
    """Tell whether ``text`` has the shape of an identifier with ``prefix``."""
    return len(text) <= 64 and text.startswith(prefix + "-") and _ID.fullmatch(text) is not None
'''

SOURCES["outlay.core.intent"] = r'''"""The intent: the canonical statement of what one transfer is. Two requests with the same intent are one."""

import re
from dataclasses import asdict, dataclass
from typing import Any

from outlay.core.address import parse_address
from outlay.core.asset import NATIVE
from outlay.core.errors import InvalidInput
from outlay.core.money import parse_amount

VERSION = 1
PRIORITIES = ("Slow", "Standard", "Fast")
_EXTERNAL_ID = re.compile(r"[\x21-\x7e]{1,50}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What is to be paid, by whom, to whom. Every member is signed over and never changes."""

    org: str
    external_id: str | None
    initiator: str  #: user id of who asked
    wallet: str  #: wallet id
    network: str
    chain_id: int
    asset: str  #: ``native`` or the contract address in lower case
    recipient: str  #: lower case where the chain ignores case
    amount: str  #: base units, decimal digits
    memo: str
    priority: str  #: Slow, Standard or Fast, the default written out

    def document(self) -> dict[str, Any]:
        """Return the intent as the JSON object whose canonical bytes are digested."""
        fields = asdict(self)
        return {
            "v": VERSION,
            "externalId": fields.pop("external_id"),
            "chainId": fields.pop("chain_id"),
            **fields,
        }


def read_intent(
    *,
    org: str,
    initiator: str,
    wallet: str,
    network: str,
    chain_id: int,
    contract: str | None,
    to: str,
    amount: str,
    priority: str | None,
    external_id: str | None,
) -> Intent:
    """Return the intent of a request; the server and the offline verifier read it by these same rules.

    Args:
        org: the organization.
        initiator: user id of who asks.
        wallet: the paying wallet.
        network: of the wallet.
        chain_id: of the wallet.
        contract: the token; None for the native coin.
        to: recipient address.
        amount: base units as digits.
        priority: Slow, Standard or Fast; None is Standard.
        external_id: the caller's own id of this payout, if there is one.

    Raises:
        InvalidInput: names the member of the request.
    """
    if external_id is not None and _EXTERNAL_ID.fullmatch(external_id) is None:
        raise InvalidInput("is 1 to 50 printable ASCII characters without spaces", field="externalId")
    if priority is not None and priority not in PRIORITIES:
        raise InvalidInput("is Slow, Standard or Fast", field="priority")
    return Intent(
        org=org,
        external_id=external_id,
        initiator=initiator,
        wallet=wallet,
        network=network,
        chain_id=chain_id,
        asset=NATIVE if contract is None else parse_address(contract, field="contract"),
        recipient=parse_address(to, field="to"),
        amount=str(parse_amount(amount)),
        memo="",
        priority=priority or "Standard",
    )
'''

SOURCES["outlay.core.keccak"] = r'''"""Keccak-256 as Ethereum uses it: by ``tiny_keccak`` where it is installed, else in Python.

The offline verifier runs where nothing but ``cryptography`` is installed, and hashes little enough not to mind.
"""

import itertools
from collections.abc import Callable

keccak256: Callable[[bytes], bytes] | None
try:
    from tiny_keccak import keccak256
except ModuleNotFoundError:
    keccak256 = None

_RATE = 136  # bytes taken in between two permutations; the other 64 are the capacity
_MASK = 2**64 - 1


def _round_constants() -> list[int]:
    """Return the 24 constants: bits of a shift register at the places 0, 1, 3, 7, 15, 31 and 63."""
    register, constants = 1, []
    for _ in range(24):
        constant = 0
        for place in (0, 1, 3, 7, 15, 31, 63):
            constant |= (register & 1) << place
            register = register << 1 ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    return constants


def _steps() -> list[tuple[int, int]]:
    """Return, for each move along the one long cycle of lanes, where it leads and how far the lane is turned."""
    x, y, steps = 1, 0, []
    for turn in itertools.accumulate(range(1, 25)):
        x, y = y, (2 * x + 3 * y) % 5
        steps.append((x + 5 * y, turn % 64))
    return steps


_ROUND_CONSTANTS, _STEPS = _round_constants(), _steps()


def _turned(lane: int, by: int) -> int:
    return (lane << by | lane >> (64 - by)) & _MASK


def _permuted(lanes: list[int]) -> list[int]:
    """Return Keccak-f[1600] of 25 lanes; the lane at (x, y) is number x + 5y."""
    for constant in _ROUND_CONSTANTS:
        columns = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
        mixed = [columns[x - 1] ^ _turned(columns[(x + 1) % 5], 1) for x in range(5)]
        lanes = [lane ^ mixed[at % 5] for at, lane in enumerate(lanes)]
        moving = lanes[1]
        for to, turn in _STEPS:
            moving, lanes[to] = lanes[to], _turned(moving, turn)
        rows = [lanes[at : at + 5] for at in range(0, 25, 5)]
        lanes = [row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5]) for row in rows for x in range(5)]
        lanes[0] ^= constant
    return lanes


def slow_keccak(message: bytes) -> bytes:
    """Return the Keccak-256 hash of ``message``, 32 bytes, without any library.

    Source: the Keccak reference, version 3.0: f[1600], rate 1088, padding 10*1 (SHA3-256 pads 0110*1).
    """
    padding = bytearray(_RATE - len(message) % _RATE)
    padding[0] |= 0x01
    padding[-1] |= 0x80
    padded = message + padding
    lanes = [0] * 25
    for start in range(0, len(padded), _RATE):
        block = padded[start : start + _RATE]
        for at in range(_RATE // 8):
            lanes[at] ^= int.from_bytes(block[8 * at : 8 * at + 8], "little")
        lanes = _permuted(lanes)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


def keccak(message: bytes) -> bytes:
    """Return the Keccak-256 hash (not SHA3-256) of ``message``, 32 bytes."""
    return slow_keccak(message) if keccak256 is None else keccak256(message)
'''

SOURCES["outlay.core.money"] = r'''"""Amounts and values as integers. No float and no rounding down is ever applied to money.

An *amount* counts base units of an asset (0 < amount < 2**256). A *value* is what an amount is worth,
in units of 10**-8 of a currency, rounded up. Prices and limits are read from their decimal text.
"""

import re
from decimal import Context, Decimal, Inexact

from outlay.core.errors import InvalidInput

AMOUNT_MAX = 2**256 - 1
VALUE_UNIT = 10**8
_DIGITS = re.compile(r"[1-9][0-9]{0,77}")
_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?")
_LITERAL = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,9})?")


def parse_amount(text: object, *, field: str = "amount") -> int:
    """Return the amount written in ``text``: plain ASCII digits, base units, 1 to 2**256 - 1.

    Raises:
        InvalidInput: not a string of digits, zero, a leading zero, a sign, a space, another script, or too large.
    """
    if not isinstance(text, str):
        raise InvalidInput("an amount is a string of digits in the asset's smallest unit", field=field)
    if text == "0":
        raise InvalidInput("an amount of 0 pays nobody: send at least 1 base unit", field=field)
    if _DIGITS.fullmatch(text) is None:
        raise InvalidInput(
            "an amount is a string of ASCII digits in the asset's smallest unit,"
            " without sign, point, exponent, space or leading zero",
            field=field,
        )
    amount = int(text)
    if amount > AMOUNT_MAX:
        raise InvalidInput("an amount is at most 2^256 - 1", field=field)
    return amount


def parse_decimal(text: str, *, field: str, positive: bool = True) -> Decimal:
    """Return the decimal number written in ``text``: digits with at most one point, no sign, no exponent.

    Raises:
        InvalidInput: another spelling, or zero where ``positive``.
    """
    if _DECIMAL.fullmatch(text) is None:
        raise InvalidInput("write a plain decimal number such as 12.50", field=field)
    number = Decimal(text)
    if positive and number == 0:
        raise InvalidInput("must be greater than 0", field=field)
    return number


def value_of(amount: int, *, decimals: int, price: Decimal) -> int:
    """Return what ``amount`` base units are worth, in 10**-8 of the price's currency, rounded up.

    Args:
        amount: base units, >= 0.
        decimals: decimal places of the asset, 0 to 77.
        price: currency per whole unit of the asset, > 0.
    """
    numerator, denominator = price.as_integer_ratio()
    scaled = amount * numerator * VALUE_UNIT
    value: int = -(-scaled // (denominator * 10**decimals))
    return value


def limit_value(text: str, *, field: str) -> int:
    """Return a currency limit, read from its decimal text, in 10**-8 of the currency.

    Raises:
        InvalidInput: not a number in ASCII digits, signed, or finer than 10**-8.
    """
    # ``Decimal`` alone would also read other scripts, spaces and underscores.
    number = Decimal(text) if _LITERAL.fullmatch(text) else None
    if number is None or abs(number.adjusted()) > 30:
        raise InvalidInput("a limit is a plain number of dollars, 0 or more", field=field)
    try:
        scaled = Context(prec=100, traps=[Inexact]).multiply(number, Decimal(VALUE_UNIT))
    except Inexact:
        scaled = None
    if scaled is None or scaled != scaled.to_integral_value():
        raise InvalidInput("a limit has at most 8 decimal places", field=field)
    return int(scaled)


def format_units(amount: int, decimals: int) -> str:
    """Return ``amount`` base units as decimal text for people, without trailing zeros."""
    whole, part = divmod(amount, 10**decimals)
    fraction = str(part).rjust(decimals, "0").rstrip("0") if decimals else ""
    return f"{whole:,}.{fraction}" if fraction else f"{whole:,}"


def format_value(value: int) -> str:
    """Return a value (10**-8 of a currency) as plain decimal text, without trailing zeros."""
    whole, part = divmod(value, VALUE_UNIT)
    fraction = str(part).rjust(8, "0").rstrip("0")
    return f"{whole}.{fraction}" if fraction else str(whole)
'''

SOURCES["outlay.core.operation"] = r'''"""The names of what an identity may be permitted to do, as the contract spells them."""

from collections.abc import Iterable

from outlay.core.errors import InvalidInput

OPERATIONS: tuple[str, ...] = (
    "Auth:Pats:Create",
    "Auth:ServiceAccounts:Activate",
    "Auth:ServiceAccounts:Create",
    "Auth:ServiceAccounts:Deactivate",
    "Auth:ServiceAccounts:Delete",
    "Auth:ServiceAccounts:Read",
    "Auth:ServiceAccounts:Update",
    "Auth:Users:Activate",
    "Auth:Users:Create",
    "Auth:Users:Deactivate",
    "Auth:Users:Delete",
    "Auth:Users:Read",
    "Auth:Users:Update",
    "Config:Apply",
    "Permissions:Assign",
    "Permissions:Assignments:Read",
    "Permissions:Create",
    "Permissions:Delete",
    "Permissions:Read",
    "Permissions:Revoke",
    "Permissions:Update",
    "Policies:Create",
    "Policies:Delete",
    "Policies:Evaluations:Read",
    "Policies:Evaluations:Vote",
    "Policies:Read",
    "Policies:Update",
    "Wallets:Create",
    "Wallets:Read",
    "Wallets:Tags:Add",
    "Wallets:Tags:Remove",
    "Wallets:Transfers:Abort",
    "Wallets:Transfers:Create",
    "Wallets:Transfers:Read",
    "Wallets:Unfreeze",
    "Wallets:Update",
    "Webhooks:Create",
    "Webhooks:Delete",
    "Webhooks:Events:Read",
    "Webhooks:Ping",
    "Webhooks:Read",
    "Webhooks:Update",
)
"""Every operation Outlay offers. ``Config:Apply`` and ``Wallets:Unfreeze`` are ours, the others the contract's."""

ALIASES = {
    "Permissions:Archive": "Permissions:Delete",
    "PermissionAssignments:Create": "Permissions:Assign",
    "PermissionAssignments:Read": "Permissions:Assignments:Read",
    "PermissionAssignments:Revoke": "Permissions:Revoke",
    "Policies:Archive": "Policies:Delete",
    "Policies:Approvals:Read": "Policies:Evaluations:Read",
    "Policies:Approvals:Approve": "Policies:Evaluations:Vote",
    "Wallets:Tags:Delete": "Wallets:Tags:Remove",
}
"""Older spellings that clients may still send; stored under the canonical name."""

FULL_ADMIN = "ManagedFullAdminAccess"
"""Name of the immutable permission that holds every operation."""


def parse_operations(names: Iterable[str], *, field: str = "operations") -> list[str]:
    """Return the canonical names, sorted, each once.

    Raises:
        InvalidInput: none given, or a name Outlay does not offer.
    """
    found = set()
    for index, name in enumerate(names):
        canonical = ALIASES.get(name, name)
        if canonical not in OPERATIONS:
            raise InvalidInput(
                f"{name!r} is not an operation of this server; see the list in the reference",
                field=f"{field}[{index}]",
            )
        found.add(canonical)
    if not found:
        raise InvalidInput("name at least one operation", field=field)
    return sorted(found)
'''

SOURCES["outlay.core.personal_token"] = r'''"""Personal access tokens: what one may do of what its holder may, and how long it lives.

The server and the replay of the records both ask here, so they cannot disagree.
"""

from collections.abc import Collection

from outlay.core.errors import InvalidInput
from outlay.core.seams import DAY, SECOND, Instant

DAYS_MAX = 730

PEOPLE_ONLY = frozenset(
    {
        "Auth:Pats:Create",
        "Auth:ServiceAccounts:Activate",
        "Auth:ServiceAccounts:Create",
        "Auth:ServiceAccounts:Deactivate",
        "Auth:ServiceAccounts:Delete",
        "Auth:ServiceAccounts:Update",
        "Auth:Users:Activate",
        "Auth:Users:Create",
        "Auth:Users:Deactivate",
        "Auth:Users:Delete",
        "Auth:Users:Update",
        "Config:Apply",
        "Permissions:Assign",
        "Permissions:Create",
        "Permissions:Delete",
        "Permissions:Revoke",
        "Permissions:Update",
        "Policies:Evaluations:Vote",
    }
)
"""Operations no token ever has: to vote, and to decide who may do what. A leaked token is then no way to another."""


def token_operations(held: Collection[str], limit: Collection[str] | None) -> frozenset[str]:
    """Return what a token may do.

    Args:
        held: the operations of its holder.
        limit: the operations of the permission it was limited to; None: no limit of its own.
    """
    within = frozenset(held) - PEOPLE_ONLY
    return within if limit is None else within & frozenset(limit)


def token_life(days: int | None, seconds: int | None) -> Instant:
    """Return how long a token lives, in microseconds; 730 days unless it is said.

    Raises:
        InvalidInput: both are given, or less than a second or more than 730 days.
    """
    if days is not None and seconds is not None:
        raise InvalidInput("give daysValid or secondsValid, not both", field="secondsValid")
    if seconds is None:
        if not 1 <= (found := DAYS_MAX if days is None else days) <= DAYS_MAX:
            raise InvalidInput(f"must be 1 to {DAYS_MAX}", field="daysValid")
        return found * DAY
    if not 1 <= seconds <= DAYS_MAX * DAY // SECOND:
        raise InvalidInput(f"must be 1 to {DAYS_MAX * DAY // SECOND}", field="secondsValid")
    return seconds * SECOND
'''

SOURCES["outlay.core.policy"] = r'''"""Policies: what a payout must pass before it may leave.

Every active policy whose filters match is evaluated, always all of them, in any order. A triggered ``Block`` blocks;
otherwise every group of every triggered ``RequestApproval`` has to agree; ``NoAction`` only reports. No rule allows
anything, so adding a policy never lets a payout through, except where it is the first to match and the default is to
block. What cannot be judged triggers.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from outlay.core.asset import NATIVE_TID
from outlay.core.money import format_value
from outlay.core.seams import Instant
from outlay.core.velocity import Scope, Window

WALLETS_SIGN = "Wallets:Sign"
POLICIES_MODIFY, PERMISSIONS_MODIFY, PERMISSIONS_ASSIGN = "Policies:Modify", "Permissions:Modify", "Permissions:Assign"
GOVERNING = (POLICIES_MODIFY, PERMISSIONS_MODIFY, PERMISSIONS_ASSIGN)
"""The kinds of policies that are about changes of settings; the other is about payouts."""
CURRENCY = "USD"


@dataclass(frozen=True, slots=True)
class AlwaysTrigger:
    """Triggers for everything the filters match; the only rule about changes."""

    kind = "AlwaysTrigger"


@dataclass(frozen=True, slots=True)
class AmountLimit:
    """Triggers when one payout is worth more than the limit."""

    limit: int  #: 10**-8 USD, 0 or more
    kind = "TransactionAmountLimit"


@dataclass(frozen=True, slots=True)
class AmountVelocity:
    """Triggers when the payouts of a stretch of time, this one included, are worth more than the limit."""

    limit: int  #: 10**-8 USD, 0 or more
    timeframe: int  #: minutes, 1 to 43,200
    scope: Scope = Scope.WALLET
    kind = "TransactionAmountVelocity"


@dataclass(frozen=True, slots=True)
class CountVelocity:
    """Triggers when a stretch of time holds more payouts than the limit, this one included."""

    limit: int  #: payouts, 0 or more
    timeframe: int  #: minutes, 1 to 43,200
    scope: Scope = Scope.WALLET
    kind = "TransactionCountVelocity"


@dataclass(frozen=True, slots=True)
class RecipientWhitelist:
    """Triggers when the recipient is not listed."""

    listed: tuple[str, ...]  #: as they were written, for the answer
    addresses: frozenset[str]  #: in canonical form, for the comparison
    kind = "TransactionRecipientWhitelist"


@dataclass(frozen=True, slots=True)
class AssetLimit:
    """How much of one asset one payout may be without triggering."""

    network: str
    tid: str  #: ``native:<symbol>`` or ``erc20:<contract>``, lower case; see ``core.asset.Asset.tid``
    limit: int  #: base units, 0 or more


@dataclass(frozen=True, slots=True)
class NominalLimit:
    """Triggers when one payout is more of a listed asset than its limit; an asset that is not listed passes."""

    assets: tuple[AssetLimit, ...]  #: at least one; of each network at most one native coin
    kind = "TransactionAmountLimitNominal"


Rule = AlwaysTrigger | AmountLimit | NominalLimit | AmountVelocity | CountVelocity | RecipientWhitelist
Velocity = AmountVelocity | CountVelocity


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """People of whom a number must agree."""

    name: str | None
    quorum: int  #: 1 or more
    approvers: tuple[str, ...] | None  #: user ids; None: any person of the organization; (): nobody yet
    initiator_can_approve: bool = False
    service_accounts_can_approve: bool = False

    def document(self) -> dict[str, Any]:
        """Return the group as it stands in a policy's ``approvalGroups``."""
        approvers = {} if self.approvers is None else {"userId": {"in": list(self.approvers)}}
        return {
            **({} if self.name is None else {"name": self.name}),
            "quorum": self.quorum,
            "approvers": approvers,
            "initiatorCanApprove": self.initiator_can_approve,
            "serviceAccountsCanApprove": self.service_accounts_can_approve,
        }


@dataclass(frozen=True, slots=True)
class Block:
    """Refuses the payout."""

    kind = "Block"


@dataclass(frozen=True, slots=True)
class RequestApproval:
    """Holds the payout until every group agrees."""

    auto_reject_timeout: int | None  #: minutes, 1 or more; None: waits for ever
    groups: tuple[Group, ...]  #: at least one
    kind = "RequestApproval"


@dataclass(frozen=True, slots=True)
class NoAction:
    """Reports and changes nothing."""

    kind = "NoAction"


Action = Block | RequestApproval | NoAction


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a policy is about. Everything given must hold; nothing given matches everything of its activity kind."""

    wallet_ids: tuple[str, ...] | None = None  #: one of these
    tags_any: tuple[str, ...] | None = None  #: at least one of these tags
    tags_all: tuple[str, ...] | None = None  #: every one of these tags
    policy_ids: tuple[str, ...] | None = None  #: one of these; only ``Policies:Modify``
    permission_ids: tuple[str, ...] | None = None  #: one of these; only ``Permissions:Modify``, ``Permissions:Assign``

    def match(self, wallet_id: str, tags: Collection[str]) -> bool:
        """Tell whether a wallet with ``tags`` passes."""
        return (
            (self.wallet_ids is None or wallet_id in self.wallet_ids)
            and (self.tags_any is None or any(tag in tags for tag in self.tags_any))
            and (self.tags_all is None or all(tag in tags for tag in self.tags_all))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One version of one policy. ``id`` is the lineage: it stays over every edit; ``version`` does not."""

    id: str
    version: int
    name: str
    rule: Rule
    action: Action
    filters: Filters
    activity_kind: str = WALLETS_SIGN


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about the payout that is judged."""

    value: int | None  #: 10**-8 USD, fixed when it was requested; None: no fresh price
    recipient: str | None  #: canonical address; None: it could not be read
    price: str | None = None  #: USD for one whole unit, decimal text
    price_source: str | None = None
    price_at: Instant | None = None
    network: str | None = None
    tid: str | None = None  #: the asset, as ``core.asset.Asset.tid`` writes it; None: not known
    amount: int | None = None  #: base units of that asset; None: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One policy's answer about one payout, with all it was computed from."""

    policy_id: str
    version: int
    action: str  #: Block, RequestApproval or NoAction
    triggered: bool
    reason: str | None  #: for people; None when not triggered
    context: dict[str, str | int | None]
    """What was looked at: rule, threshold, value, sum, count, unknown, timeframe, scope, recipient, price, network,
    tid, amount. ``sum`` and ``count`` are those of the window without this payout. Values are decimal text in USD;
    ``amount``, and the ``threshold`` it is compared with, are base units as digits."""


Kind = Literal["allow", "hold", "block"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What all policies together say."""

    kind: Kind
    reasons: tuple[str, ...]  #: of the policies that decided it, ordered by policy id; empty for allow
    holding: tuple[str, ...] = ()  #: ids of the policies whose groups must agree; only for hold


def matches(policy: Policy, wallet_id: str, tags: Collection[str]) -> bool:
    """Tell whether ``policy`` is about payouts of this wallet."""
    return policy.activity_kind == WALLETS_SIGN and policy.filters.match(wallet_id, tags)


def governs(policy: Policy, *, policy_id: str | None = None, permission_id: str | None = None) -> bool:
    """Tell whether ``policy`` is about changes of this policy, or of this permission and its assignments.

    Whether a change of a permission is of kind ``Permissions:Modify`` or ``Permissions:Assign`` is not looked at.
    """
    if policy.activity_kind == POLICIES_MODIFY:
        among = policy.filters.policy_ids
        return policy_id is not None and (among is None or policy_id in among)
    if policy.activity_kind in (PERMISSIONS_MODIFY, PERMISSIONS_ASSIGN):
        among = policy.filters.permission_ids
        return permission_id is not None and (among is None or permission_id in among)
    return False


def counts(policy: Policy, wallet_id: str, tags: Collection[str]) -> bool:
    """Tell whether a payout of this wallet is an entry of one of the policy's counters.

    With scope ``organization`` every wallet's payouts are, also of those the policy does not judge.
    """
    if not isinstance(policy.rule, Velocity):
        return False
    return policy.rule.scope is Scope.ORGANIZATION or matches(policy, wallet_id, tags)


def evaluate(policy: Policy, facts: Facts, window: Window | None = None) -> Evaluation:
    """Return what ``policy``, which must match the payout, says about it.

    Being equal to a limit does not trigger. An unknown value, asset or amount, an unknown value within the window, an
    unreadable recipient and a velocity rule without its ``window`` all trigger.

    Args:
        policy: the policy.
        facts: the payout.
        window: for velocity rules, what counts beside this payout.
    """
    context: dict[str, str | int | None] = {"rule": policy.rule.kind}
    match policy.rule:
        case AlwaysTrigger():
            what = "change" if policy.activity_kind in GOVERNING else "payout"
            reason: str | None = f"Every {what} needs this policy's action."
        case AmountLimit():
            reason = _judge_amount(policy.rule, facts, context)
        case NominalLimit():
            reason = _judge_nominal(policy.rule, facts, context)
        case AmountVelocity():
            reason = _judge_sum(policy.rule, facts, window, context)
        case CountVelocity():
            reason = _judge_count(policy.rule, window, context)
        case RecipientWhitelist():
            reason = _judge_recipient(policy.rule, facts, context)
    return Evaluation(
        policy_id=policy.id,
        version=policy.version,
        action=policy.action.kind,
        triggered=reason is not None,
        reason=reason,
        context=context,
    )


def _money(value: int | None) -> str | None:
    return None if value is None else format_value(value)


def _price(facts: Facts) -> dict[str, str | int | None]:
    return {
        "currency": CURRENCY,
        "value": _money(facts.value),
        "price": facts.price,
        "priceSource": facts.price_source,
        "priceAt": facts.price_at,
    }


def _judge_amount(rule: AmountLimit, facts: Facts, context: dict[str, str | int | None]) -> str | None:
    context.update(_price(facts), threshold=_money(rule.limit))
    if facts.value is None:
        return "What the transfer is worth is not known: there is no fresh price."
    if facts.value > rule.limit:
        return (
            f"The transfer is worth {CURRENCY} {format_value(facts.value)},"
            f" more than the limit of {CURRENCY} {format_value(rule.limit)}."
        )
    return None


def _judge_nominal(rule: NominalLimit, facts: Facts, context: dict[str, str | int | None]) -> str | None:
    network, tid, amount = facts.network, facts.tid, facts.amount
    context.update(network=network, tid=tid, amount=None if amount is None else str(amount), threshold=None)
    if network is None or tid is None or amount is None:
        return "Which asset is paid, or how much of it, is not known."
    here = {each.tid: each.limit for each in rule.assets if each.network == network}
    limit = here.get(tid)
    if limit is None:
        # A network has one coin: under another symbol it may well be the listed one, renamed in the settings since.
        if tid.startswith(NATIVE_TID) and any(each.startswith(NATIVE_TID) for each in here):
            return f"The limit is for another native coin of {network} than {tid}."
        return None
    context.update(threshold=str(limit))
    if amount > limit:
        return f"The transfer is of {amount} base units of {tid} on {network}, more than the limit of {limit}."
    return None


def _judge_sum(
    rule: AmountVelocity, facts: Facts, window: Window | None, context: dict[str, str | int | None]
) -> str | None:
    context.update(_price(facts), threshold=_money(rule.limit), timeframe=rule.timeframe, scope=rule.scope.value)
    if window is None:
        return "What has left before could not be read."
    context.update(sum=format_value(window.value), count=window.count, unknown=window.unknown)
    if facts.value is None:
        return "What the transfer is worth is not known: there is no fresh price."
    if window.unknown:
        return f"What has left within {rule.timeframe} minutes is not known: {window.unknown} payouts have no value."
    total = window.value + facts.value
    if total > rule.limit:
        return (
            f"With this transfer {CURRENCY} {format_value(total)} would leave within {rule.timeframe} minutes,"
            f" more than the limit of {CURRENCY} {format_value(rule.limit)}."
        )
    return None


def _judge_count(rule: CountVelocity, window: Window | None, context: dict[str, str | int | None]) -> str | None:
    context.update(threshold=rule.limit, timeframe=rule.timeframe, scope=rule.scope.value)
    if window is None:
        return "What has left before could not be read."
    context.update(count=window.count)
    if window.count + 1 > rule.limit:
        return (
            f"With this transfer {window.count + 1} payouts would leave within {rule.timeframe} minutes,"
            f" more than the limit of {rule.limit}."
        )
    return None


def _judge_recipient(rule: RecipientWhitelist, facts: Facts, context: dict[str, str | int | None]) -> str | None:
    context.update(recipient=facts.recipient, listed=len(rule.addresses))
    if facts.recipient is None:
        return "The recipient could not be read."
    if facts.recipient not in rule.addresses:
        return f"The recipient {facts.recipient} is not on the list of known addresses."
    return None


def verdict(evaluations: Iterable[Evaluation], *, default: str) -> Verdict:
    """Return what the evaluations of all matching policies say together; their order does not matter.

    Args:
        evaluations: one of each active policy that matches; empty when none does.
        default: ``allow`` or ``block``: the configured answer when no policy matches. Anything else blocks.
    """
    answers = sorted(evaluations, key=lambda each: each.policy_id)
    if not answers:
        if default == "allow":
            return Verdict(kind="allow", reasons=())
        return Verdict(kind="block", reasons=("No policy covers this wallet, and the default is to block.",))
    triggered = [each for each in answers if each.triggered and each.action != NoAction.kind]
    holding = [each for each in triggered if each.action == RequestApproval.kind]
    # Whatever is neither a hold nor a report blocks: an action this version does not know must not let money out.
    blocking = [each for each in triggered if each.action != RequestApproval.kind]
    if blocking:
        return Verdict(kind="block", reasons=tuple(each.reason or "" for each in blocking))
    if holding:
        return Verdict(
            kind="hold",
            reasons=tuple(each.reason or "" for each in holding),
            holding=tuple(each.policy_id for each in holding),
        )
    return Verdict(kind="allow", reasons=())


def required_groups(policies: Iterable[Policy]) -> tuple[dict[str, Any], ...]:
    """Return every group that must agree, of the triggered policies, each with its ``policyId``.

    The order is fixed (policy id, then place within the policy) and approvers are sorted, so that the same policies
    always give the same documents, whose digest decisions sign.
    """
    documents = []
    for policy in sorted(policies, key=lambda each: each.id):
        if not isinstance(policy.action, RequestApproval):
            continue
        for group in policy.action.groups:
            document = {"policyId": policy.id, **group.document()}
            if group.approvers is not None:
                document["approvers"] = {"userId": {"in": sorted(group.approvers)}}
            documents.append(document)
    return tuple(documents)
'''

SOURCES["outlay.core.policy_document"] = r'''"""Policies as JSON: reading what a request describes, writing what we keep and what we answer, the presets."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from outlay.core.address import parse_address
from outlay.core.asset import ERC20_TID, NATIVE_TID
from outlay.core.errors import InvalidInput
from outlay.core.money import AMOUNT_MAX, format_value, limit_value
from outlay.core.policy import (
    CURRENCY,
    GOVERNING,
    PERMISSIONS_ASSIGN,
    PERMISSIONS_MODIFY,
    POLICIES_MODIFY,
    WALLETS_SIGN,
    Action,
    AlwaysTrigger,
    AmountLimit,
    AmountVelocity,
    AssetLimit,
    Block,
    CountVelocity,
    Filters,
    Group,
    NoAction,
    NominalLimit,
    Policy,
    RecipientWhitelist,
    RequestApproval,
    Rule,
    Velocity,
)
from outlay.core.velocity import TIMEFRAME_MAX, Scope

LIMIT_DIGITS = 15
"""Significant decimal digits a limit may have: so many always survive an IEEE double."""

TIMEOUT_MAX = 5_256_000
"""The longest ``autoRejectTimeout`` in minutes: ten years."""

GOVERNING_TIMEOUT_MIN = 60
"""The shortest ``autoRejectTimeout`` of a policy about changes: with less, nobody could agree to lengthen it again."""

ADDRESSES_MAX = 1000
"""Addresses one whitelist may hold; a request body has no room for many more."""

ASSETS_MAX, TID_MAX = 100, 200
"""Assets one rule may limit, and characters the name of one may have."""

TID_PATTERN = r"[a-z0-9_]+:[^\s](?:[ ]?[^\s])*"
LIMIT_PATTERN = "0|[1-9][0-9]{0,77}"
_TID, _NOMINAL_LIMIT = re.compile(TID_PATTERN), re.compile(LIMIT_PATTERN)

ACTIONS: Mapping[str, tuple[str, ...]] = {
    WALLETS_SIGN: (Block.kind, NoAction.kind, RequestApproval.kind),
    # If changes of policies could be blocked, the policy that blocks them could never be changed either.
    POLICIES_MODIFY: (RequestApproval.kind,),
    PERMISSIONS_MODIFY: (Block.kind, RequestApproval.kind),
    PERMISSIONS_ASSIGN: (Block.kind, RequestApproval.kind),
}
"""Activity kind -> the actions its policies may have."""

_FILTERS: Mapping[str, Mapping[str, str]] = {
    WALLETS_SIGN: {"walletId": "wallet_ids"},
    POLICIES_MODIFY: {"policyId": "policy_ids"},
    PERMISSIONS_MODIFY: {"permissionId": "permission_ids"},
    PERMISSIONS_ASSIGN: {"permissionId": "permission_ids"},
}
"""Activity kind -> filter that lists ids -> member of ``Filters``."""


def parse_policy(document: object, *, id: str, version: int, allow_empty: bool = False) -> Policy:
    """Return the policy a request body describes.

    Args:
        document: ``name``, ``activityKind``, ``rule``, ``action`` and, where wanted, ``filters``, as parsed JSON.
            A number may carry the literal it was read from as ``.text``. A ``status`` is ignored.
        id: the lineage.
        version: 1 for a new policy, one more for each edit.
        allow_empty: accept a group without approvers; only presets have such groups, and nobody satisfies them.

    Raises:
        InvalidInput: names the field, for example ``rule.configuration.limit``, and says what to do.

    Source: reference/dfns-api.md 7.
    """
    fields = _members(document, "", {"name", "activityKind", "rule", "action", "filters", "status"})
    kind = _text(fields.get("activityKind"), "activityKind", 64)
    if kind not in ACTIONS:
        raise InvalidInput("use one of " + ", ".join(ACTIONS), field="activityKind")
    policy = Policy(
        id=id,
        version=version,
        name=_text(fields.get("name"), "name", 200),
        activity_kind=kind,
        rule=_rule(fields.get("rule")),
        action=_action(fields.get("action"), kind, allow_empty=allow_empty),
        filters=_filters(fields.get("filters"), kind),
    )
    if kind in GOVERNING and not isinstance(policy.rule, AlwaysTrigger):
        raise InvalidInput(f"a policy about {kind} has the rule {AlwaysTrigger.kind}", field="rule.kind")
    if policy.action.kind not in ACTIONS[kind]:
        raise InvalidInput(f"a policy about {kind} has the action " + " or ".join(ACTIONS[kind]), field="action.kind")
    return policy


def read_policy(document: dict[str, Any], *, id: str, version: int) -> Policy:
    """Return the policy that ``stored_document`` wrote."""
    rule = document["rule"]
    limit = rule.get("configuration", {}).get("limit")
    if isinstance(limit, str):
        rule = {**rule, "configuration": {**rule["configuration"], "limit": _Literal(limit)}}
    return parse_policy({**document, "rule": rule}, id=id, version=version, allow_empty=True)


def stored_document(policy: Policy) -> dict[str, Any]:
    """Return the policy as we keep it: the contract's form, but a limit in dollars is its decimal text."""
    return _document(policy, limit=format_value)


def wire_document(policy: Policy) -> dict[str, Any]:
    """Return the policy as the contract answers it: limits are numbers, a default scope is left out.

    A limit has at most 15 significant digits, so the number is exactly the one that was sent.
    """
    return _document(policy, limit=_number)


class _Literal(float):
    """A number with the literal it was written as."""

    text: str

    def __new__(cls, text: str) -> "_Literal":
        number = super().__new__(cls, text)
        number.text = text
        return number


def _number(value: int) -> int | float:
    text = format_value(value)
    return float(text) if "." in text else int(text)


def _document(policy: Policy, *, limit: Callable[[int], str | int | float]) -> dict[str, Any]:
    action: dict[str, Any] = {"kind": policy.action.kind}
    if isinstance(policy.action, RequestApproval):
        action["autoRejectTimeout"] = policy.action.auto_reject_timeout
        action["approvalGroups"] = [group.document() for group in policy.action.groups]
    tags = {
        **({} if policy.filters.tags_any is None else {"hasAny": list(policy.filters.tags_any)}),
        **({} if policy.filters.tags_all is None else {"hasAll": list(policy.filters.tags_all)}),
    }
    listed = {name: getattr(policy.filters, member) for name, member in _FILTERS[policy.activity_kind].items()}
    filters: dict[str, Any] = {
        **{name: {"in": list(values)} for name, values in listed.items() if values is not None},
        **({"walletTags": tags} if tags else {}),
    }
    return {
        "name": policy.name,
        "activityKind": policy.activity_kind,
        "rule": {"kind": policy.rule.kind, "configuration": _configuration(policy.rule, limit)},
        "action": action,
        **({"filters": filters} if filters else {}),
    }


def _configuration(rule: Rule, limit: Callable[[int], str | int | float]) -> dict[str, Any]:
    if isinstance(rule, RecipientWhitelist):
        return {"addresses": list(rule.listed)}
    if isinstance(rule, NominalLimit):
        return {
            "assets": [{"network": each.network, "tid": each.tid, "limit": str(each.limit)} for each in rule.assets]
        }
    if isinstance(rule, AlwaysTrigger):
        return {}
    answer: dict[str, Any] = {"limit": rule.limit if isinstance(rule, CountVelocity) else limit(rule.limit)}
    if not isinstance(rule, CountVelocity):
        answer["currency"] = CURRENCY
    if isinstance(rule, Velocity):
        answer["timeframe"] = rule.timeframe
        if rule.scope is not Scope.WALLET:
            answer["scope"] = rule.scope.value
    return answer


def _members(value: object, field: str, allowed: set[str]) -> dict[str, Any]:
    """Return ``value`` if it is an object whose members are all ``allowed``."""
    if not isinstance(value, dict):
        raise InvalidInput("must be a JSON object", field=field or "body")
    for name in value:
        if name not in allowed:
            offered = ", ".join(sorted(allowed)) or "no members"
            raise InvalidInput(
                f"is not known here: use {offered}", field=f"{field}.{name}" if field else name or "body"
            )
    return value


def _text(value: object, field: str, length_max: int) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > length_max:
        raise InvalidInput(f"must be a text of 1 to {length_max} characters", field=field)
    return value


def _whole(value: object, field: str, *, least: int, most: int) -> int:
    """Return ``value`` if it is an integer; booleans are not."""
    if type(value) is not int or not least <= value <= most:
        raise InvalidInput(f"must be a whole number from {least} to {most}", field=field)
    return value


def _flag(value: object, field: str) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidInput("must be true or false", field=field)
    return value


def _list(value: object, field: str, *, least: int, most: int) -> list[Any]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise InvalidInput(f"must be a list of {least} to {most} entries", field=field)
    return value


def _unique(value: object, field: str, *, least: int, most: int, length_max: int = 64) -> tuple[str, ...]:
    """Return ``value`` if it is a list of different texts."""
    found: list[str] = []
    for place, each in enumerate(_list(value, field, least=least, most=most)):
        text = _text(each, f"{field}[{place}]", length_max)
        if text in found:
            raise InvalidInput("is listed twice: remove one", field=f"{field}[{place}]")
        found.append(text)
    return tuple(found)


def _dollars(value: object, field: str) -> int:
    """Return a limit in 10**-8 USD, read from its literal where the number carries one.

    More than 15 significant digits are refused: beyond that two limits can be one IEEE double, and what people sign
    is canonical JSON, whose numbers are doubles.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput("a limit is a number of dollars, not a text", field=field)
    text = str(getattr(value, "text", None) or repr(value))
    limit = limit_value(text, field=field)
    if len(format_value(limit).replace(".", "").strip("0")) > LIMIT_DIGITS:
        raise InvalidInput(f"a limit has at most {LIMIT_DIGITS} significant digits: round it", field=field)
    return limit


def _rule(value: object) -> Rule:
    fields = _members(value, "rule", {"kind", "configuration"})
    kind, place = fields.get("kind"), "rule.configuration"
    given = fields.get("configuration")
    if kind == AlwaysTrigger.kind:
        _members({} if given is None else given, place, set())
        return AlwaysTrigger()
    if kind == AmountLimit.kind:
        given = _members(given, place, {"limit", "currency"})
        _currency(given, place)
        return AmountLimit(_dollars(given.get("limit"), f"{place}.limit"))
    if kind == NominalLimit.kind:
        return NominalLimit(_assets(_members(given, place, {"assets"}).get("assets"), f"{place}.assets"))
    if kind == RecipientWhitelist.kind:
        given = _members(given, place, {"addresses"})
        listed = _list(given.get("addresses"), f"{place}.addresses", least=0, most=ADDRESSES_MAX)
        known = [parse_address(each, field=f"{place}.addresses[{at}]") for at, each in enumerate(listed)]
        return RecipientWhitelist(tuple(listed), frozenset(known))
    if kind == AmountVelocity.kind:
        given = _members(given, place, {"limit", "currency", "timeframe", "scope"})
        _currency(given, place)
        return AmountVelocity(_dollars(given.get("limit"), f"{place}.limit"), *_stretch(given, place))
    if kind == CountVelocity.kind:
        given = _members(given, place, {"limit", "timeframe", "scope"})
        limit = _whole(given.get("limit"), f"{place}.limit", least=0, most=2**53 - 1)
        return CountVelocity(limit, *_stretch(given, place))
    offered = (AlwaysTrigger, AmountLimit, NominalLimit, AmountVelocity, CountVelocity, RecipientWhitelist)
    raise InvalidInput("use one of " + ", ".join(each.kind for each in offered), field="rule.kind")


def _assets(value: object, field: str) -> tuple[AssetLimit, ...]:
    found: list[AssetLimit] = []
    for at, each in enumerate(_list(value, field, least=1, most=ASSETS_MAX)):
        place = f"{field}[{at}]"
        given = _members(each, place, {"network", "tid", "limit"})
        network = _text(given.get("network"), f"{place}.network", 64)
        tid = _tid(given.get("tid"), f"{place}.tid")
        for other in found:
            if other.network != network:
                continue
            if other.tid == tid:
                raise InvalidInput("is listed twice: remove one", field=f"{place}.tid")
            if other.tid.startswith(NATIVE_TID) and tid.startswith(NATIVE_TID):
                raise InvalidInput(f"{network} has one native coin, and {other.tid} is listed", field=f"{place}.tid")
        found.append(AssetLimit(network, tid, _nominal(given.get("limit"), f"{place}.limit")))
    return tuple(found)


def _tid(value: object, field: str) -> str:
    """Return the name of an asset in lower case."""
    text = _text(value, field, TID_MAX)
    if _TID.fullmatch(text) is None:
        raise InvalidInput(f"an asset is written as {NATIVE_TID}eth or {ERC20_TID}0x and 40 digits", field=field)
    if text.startswith(NATIVE_TID):
        return _text(text.lower(), field, TID_MAX)  # the lower case of a few letters is longer
    if text.startswith(ERC20_TID):
        return ERC20_TID + parse_address(text.removeprefix(ERC20_TID), field=field)
    raise InvalidInput(
        f"only {NATIVE_TID} and {ERC20_TID} assets are paid from here: a limit for another kind would never apply",
        field=field,
    )


def _nominal(value: object, field: str) -> int:
    """Return a limit in base units, 0 to 2**256 - 1."""
    if not isinstance(value, str) or _NOMINAL_LIMIT.fullmatch(value) is None or int(value) > AMOUNT_MAX:
        raise InvalidInput(
            "a limit is a string of digits in the asset's smallest unit, without leading zero, at most 2^256 - 1",
            field=field,
        )
    return int(value)


def _currency(given: dict[str, Any], place: str) -> None:
    if given.get("currency") != CURRENCY:
        raise InvalidInput(f'limits are in dollars: write "{CURRENCY}"', field=f"{place}.currency")


def _stretch(given: dict[str, Any], place: str) -> tuple[int, Scope]:
    timeframe = _whole(given.get("timeframe"), f"{place}.timeframe", least=1, most=TIMEFRAME_MAX)
    scope = given.get("scope", Scope.WALLET.value)
    if scope not in [each.value for each in Scope]:
        raise InvalidInput("use one of " + ", ".join(Scope), field=f"{place}.scope")
    return timeframe, Scope(scope)


def _action(value: object, activity_kind: str, *, allow_empty: bool) -> Action:
    fields = _members(value, "action", {"kind", "autoRejectTimeout", "approvalGroups"})
    kind = fields.get("kind")
    if kind == RequestApproval.kind:
        timeout = fields.get("autoRejectTimeout")
        if timeout is not None:
            least = 1 if activity_kind == WALLETS_SIGN else GOVERNING_TIMEOUT_MIN
            timeout = _whole(timeout, "action.autoRejectTimeout", least=least, most=TIMEOUT_MAX)
        groups = _list(fields.get("approvalGroups"), "action.approvalGroups", least=1, most=100)
        read = [
            _group(each, f"action.approvalGroups[{place}]", allow_empty=allow_empty)
            for place, each in enumerate(groups)
        ]
        return RequestApproval(timeout, tuple(read))
    if kind not in (Block.kind, NoAction.kind):
        raise InvalidInput("use one of Block, NoAction, RequestApproval", field="action.kind")
    _members(fields, "action", {"kind"})
    return Block() if kind == Block.kind else NoAction()


def _group(value: object, place: str, *, allow_empty: bool) -> Group:
    known = {"name", "quorum", "approvers", "initiatorCanApprove", "serviceAccountsCanApprove"}
    fields = _members(value, place, known)
    quorum = _whole(fields.get("quorum"), f"{place}.quorum", least=1, most=100)
    who = _members(fields.get("approvers"), f"{place}.approvers", {"userId"})
    approvers: tuple[str, ...] | None = None
    if who:
        listed = _members(who["userId"], f"{place}.approvers.userId", {"in"}).get("in")
        least = 0 if allow_empty else 1
        approvers = _unique(listed, f"{place}.approvers.userId.in", least=least, most=100)
        if approvers and quorum > len(approvers):
            raise InvalidInput(
                f"{quorum} must agree but only {len(approvers)} are listed: list more people or lower the quorum",
                field=f"{place}.quorum",
            )
    name = fields.get("name")
    return Group(
        name=None if name is None else _text(name, f"{place}.name", 200),
        quorum=quorum,
        approvers=approvers,
        initiator_can_approve=_flag(fields.get("initiatorCanApprove"), f"{place}.initiatorCanApprove"),
        service_accounts_can_approve=_flag(
            fields.get("serviceAccountsCanApprove"), f"{place}.serviceAccountsCanApprove"
        ),
    )


def _filters(value: object, kind: str) -> Filters:
    by_id = _FILTERS[kind]
    fields = (
        {} if value is None else _members(value, "filters", {*by_id, *(["walletTags"] if kind == WALLETS_SIGN else [])})
    )
    found: dict[str, tuple[str, ...]] = {}
    for name, member in by_id.items():
        if fields.get(name) is not None:
            listed = _members(fields[name], f"filters.{name}", {"in"}).get("in")
            found[member] = _unique(listed, f"filters.{name}.in", least=1, most=1000)
    tags = fields.get("walletTags")
    if tags is not None:
        for name in _members(tags, "filters.walletTags", {"hasAny", "hasAll"}):
            listed = _unique(tags[name], f"filters.walletTags.{name}", least=1, most=100)
            found["tags_any" if name == "hasAny" else "tags_all"] = listed
    return Filters(**found)


# --- presets ---------------------------------------------------------------------------------------------------


def preset_policies(name: str) -> list[dict[str, Any]]:
    """Return the policies ``outlay init`` writes for a preset, in the contract's form.

    Groups list nobody yet: what they hold waits until an administrator fills them.

    Args:
        name: ``standard``, ``high-volume`` or ``none``.

    Raises:
        InvalidInput: no preset has this name.
    """
    if name == "none":
        return []
    if name == "standard":
        unknown = {"kind": RecipientWhitelist.kind, "configuration": {"addresses": []}}
        return [
            _preset("At most $100,000 in 24 hours", _cap(100_000, 1440), {"kind": Block.kind}),
            _preset("Over $10,000: one approver", _over(10_000), _approval(1)),
            _preset("Unknown recipient: one approver", unknown, _approval(1)),
        ]
    if name == "high-volume":
        count = {"limit": 1000, "timeframe": 60, "scope": Scope.POLICY.value}
        many = {"kind": CountVelocity.kind, "configuration": count}
        return [
            _preset("Over $500,000: two approvers", _over(500_000), _approval(2)),
            _preset("At most $2,000,000 in 1 hour", _cap(2_000_000, 60), {"kind": Block.kind}),
            _preset("At most 1,000 payouts in 1 hour", many, {"kind": Block.kind}),
        ]
    raise InvalidInput("presets are standard, high-volume and none", field="preset")


def _preset(name: str, rule: dict[str, Any], action: dict[str, Any]) -> dict[str, Any]:
    filters = {"walletTags": {"hasAny": ["payouts"]}}
    return {"name": name, "activityKind": WALLETS_SIGN, "rule": rule, "action": action, "filters": filters}


def _over(limit: int) -> dict[str, Any]:
    return {"kind": AmountLimit.kind, "configuration": {"limit": limit, "currency": CURRENCY}}


def _cap(limit: int, timeframe: int) -> dict[str, Any]:
    configuration = {
        "limit": limit,
        "currency": CURRENCY,
        "timeframe": timeframe,
        "scope": Scope.POLICY.value,
    }
    return {"kind": AmountVelocity.kind, "configuration": configuration}


def _approval(quorum: int) -> dict[str, Any]:
    group = {"name": "approvers", "quorum": quorum, "approvers": {"userId": {"in": []}}}
    return {"kind": RequestApproval.kind, "autoRejectTimeout": 1440, "approvalGroups": [group]}
'''

SOURCES["outlay.core.seams"] = r'''"""Where time and randomness enter. Core and actions take both as arguments and never ask themselves."""

from typing import Protocol

Instant = int
"""Microseconds since 1970-01-01 UTC, as an integer."""


SECOND: Instant = 1_000_000
MINUTE: Instant = 60 * SECOND
HOUR: Instant = 60 * MINUTE
DAY: Instant = 24 * HOUR


class Clock(Protocol):
    """The time of day."""

    def now(self) -> Instant:
        """Return the current instant in microseconds UTC."""
        ...


class Entropy(Protocol):
    """A source of unpredictable bytes."""

    def token(self, size: int) -> bytes:
        """Return ``size`` unpredictable bytes."""
        ...
'''

SOURCES["outlay.core.tighter"] = r'''"""Whether one version of a policy is at least as strict as another, proven from the two alone.

The claim, where ``is_tighter`` says True: whatever other policies there are, a payout or change that the later version
lets through, the earlier one let through too; and people who are enough for the later one were enough for the earlier.
What is not proven is looser. A name, and the order of groups, of addresses and of ids, mean nothing.

What it does not claim: whoever is no longer asked can no longer deny. Fewer approvers is tighter all the same, because
those who remain could always have agreed without the others.
"""

from outlay.core.policy import (
    WALLETS_SIGN,
    AlwaysTrigger,
    AmountLimit,
    AmountVelocity,
    Block,
    CountVelocity,
    Filters,
    Group,
    NoAction,
    NominalLimit,
    Policy,
    RecipientWhitelist,
    RequestApproval,
    Rule,
    Velocity,
)

_STRICTNESS = {NoAction.kind: 0, RequestApproval.kind: 1, Block.kind: 2}


def is_tighter(before: Policy, after: Policy, *, default: str | None = None) -> bool:
    """Tell whether ``after`` is proven to be as strict as ``before``, or stricter; two equal policies are.

    Args:
        before: the policy as it is.
        after: the policy as it shall be, of the same lineage.
        default: what happens to payouts that no policy matches, ``allow`` or ``block``; None: it could be either.
    """
    return (
        before.id == after.id
        and before.activity_kind == after.activity_kind
        and _covers(before.filters, after.filters)
        and (_covers(after.filters, before.filters) or _may_widen(after, default))
        and _rule_tighter(before.rule, after.rule)
        and _action_tighter(before, after)
    )


def _may_widen(after: Policy, default: str | None) -> bool:
    """Tell whether matching more keeps everything in that was kept in.

    Where the default is to block, a wallet's first policy opens it, unless all that policy does is to block.
    """
    if after.activity_kind != WALLETS_SIGN or default == "allow":
        return True
    return isinstance(after.rule, AlwaysTrigger) and isinstance(after.action, Block)


def _covers(inner: Filters, outer: Filters) -> bool:
    """Tell whether all that ``inner`` matches, whatever its tags are or become, ``outer`` matches too."""
    return (
        _lists_all(inner.wallet_ids, outer.wallet_ids)
        and _lists_all(inner.tags_any, outer.tags_any)
        and set(outer.tags_all or ()) <= set(inner.tags_all or ())
        and _lists_all(inner.policy_ids, outer.policy_ids)
        and _lists_all(inner.permission_ids, outer.permission_ids)
    )


def _lists_all(inner: tuple[str, ...] | None, outer: tuple[str, ...] | None) -> bool:
    """Tell whether ``outer`` holds every entry of ``inner``; None holds everything."""
    return outer is None or (inner is not None and set(inner) <= set(outer))


def _rule_tighter(before: Rule, after: Rule) -> bool:
    """Tell whether ``after`` triggers whenever ``before`` does."""
    match before, after:
        case _, AlwaysTrigger():
            return True
        case AmountLimit(), AmountLimit():
            return after.limit <= before.limit
        case NominalLimit(), NominalLimit():
            limits = {(each.network, each.tid): each.limit for each in after.assets}
            # What is listed in addition can only trigger more: a network's coin has one entry, and it is still there.
            return all(limits.get((each.network, each.tid), each.limit + 1) <= each.limit for each in before.assets)
        case AmountVelocity(), AmountVelocity():
            return _counts_as_much(before, after)
        case CountVelocity(), CountVelocity():
            return _counts_as_much(before, after)
        case RecipientWhitelist(), RecipientWhitelist():
            return after.addresses <= before.addresses
    return False


def _counts_as_much(before: Velocity, after: Velocity) -> bool:
    # A longer stretch holds all that the shorter one does. Another scope adds up other payouts.
    return after.scope is before.scope and after.limit <= before.limit and after.timeframe >= before.timeframe


def _action_tighter(before: Policy, after: Policy) -> bool:
    asked, asks = before.action, after.action
    if not isinstance(asked, RequestApproval) or not isinstance(asks, RequestApproval):
        return _STRICTNESS[asks.kind] >= _STRICTNESS[asked.kind]
    # A decision counts in every group its author is in, so one group may stand for two.
    return _expires_as_soon(asked.auto_reject_timeout, asks.auto_reject_timeout) and all(
        any(_group_tighter(group, other) for other in asks.groups) for group in asked.groups
    )


def _expires_as_soon(before: int | None, after: int | None) -> bool:
    return before is None or (after is not None and after <= before)


def _group_tighter(before: Group, after: Group) -> bool:
    """Tell whether people who are enough for ``after`` are enough for ``before``."""
    if before.approvers is None:
        # Any person, but no service account, whatever the flag says.
        machines_kept_out = after.approvers is None or not after.service_accounts_can_approve
    else:
        machines_kept_out = before.service_accounts_can_approve or not after.service_accounts_can_approve
    return (
        after.quorum >= before.quorum
        and _lists_all(after.approvers, before.approvers)
        and (before.initiator_can_approve or not after.initiator_can_approve)
        and machines_kept_out
    )
'''

SOURCES["outlay.core.velocity"] = r'''"""Velocity: how much leaves within a stretch of time.

Each payout is one *entry*. It is open from admission until its first signature and always counts; from then on
it carries the instant of that signature and counts for as long as a window reaches back to it. A held payout can
therefore not age out of a window and leave later together with others.

A counter (one for each policy lineage and scope key) keeps the open entries and a running total of what was
signed. What was signed within a window is the difference of two running totals, less what was corrected since:
however long the history is, two rows answer.

Why a ``Block`` cap holds at every instant: take any window and, of the entries signed within it, the one that was
admitted last. When that one was judged before binding, each of the others was either open and admitted earlier, or
signed after that window's start; both were counted. So the whole window fitted. It holds for what was judged under
the cap as it is: what was bound before a cap was lowered keeps its place.
"""

from dataclasses import dataclass
from enum import StrEnum

from outlay.core.errors import InvariantBroken
from outlay.core.seams import DAY, MINUTE, Instant

TIMEFRAME_MAX = 43_200
"""The longest window a rule may ask for, in minutes: 30 days."""

VALUE_MAX = 10**60
"""The largest value a counter adds up, in 10**-8 USD. It is far above any limit a rule may have; a larger value is
kept as unknown, which triggers every value rule, so that 10**18 entries still fit the column of a running total."""

HISTORY: Instant = TIMEFRAME_MAX * MINUTE + DAY
"""How far back, in microseconds, a counter is rebuilt from entries: the longest window and a day for clock steps."""


class Scope(StrEnum):
    """What shares one limit."""

    WALLET = "wallet"  #: each wallet by itself, as in the contract
    POLICY = "policy"  #: all wallets the policy's filters match, together
    ORGANIZATION = "organization"  #: every wallet, whether the filters match it or not
    RECIPIENT = "recipient"  #: each recipient address by itself
    INITIATOR = "initiator"  #: each person or machine that asks, by itself


@dataclass(frozen=True, slots=True)
class Window:
    """What a set of entries adds up to."""

    value: int = 0  #: 10**-8 USD, of the entries whose value is known
    count: int = 0  #: entries, those of unknown value included
    unknown: int = 0  #: entries whose value is not known

    def plus(self, other: "Window") -> "Window":
        """Return both sets together."""
        return Window(self.value + other.value, self.count + other.count, self.unknown + other.unknown)

    def minus(self, other: "Window") -> "Window":
        """Return this set without ``other``, which must be a part of it.

        Raises:
            InvariantBroken: more would be taken out than is in.
        """
        rest = Window(self.value - other.value, self.count - other.count, self.unknown - other.unknown)
        if min(rest.value, rest.count, rest.unknown) < 0 or rest.unknown > rest.count:
            raise InvariantBroken("a velocity window would hold less than nothing", held=str(self), out=str(other))
        return rest


EMPTY = Window()


def entry_of(value: int | None) -> Window:
    """Return the window that holds one entry of ``value`` (10**-8 USD, or None where it is not known)."""
    known = countable(value)
    return Window(0, 1, 1) if known is None else Window(known, 1, 0)


def countable(value: int | None) -> int | None:
    """Return ``value`` if a counter can add it up, else None: it then counts as unknown.

    Raises:
        InvariantBroken: a negative value.
    """
    if value is None or value > VALUE_MAX:
        return None
    if value < 0:
        raise InvariantBroken("a payout cannot be worth less than nothing", value=str(value))
    return value


def scope_key(scope: Scope, *, wallet_id: str, recipient: str, initiator_id: str) -> str:
    """Return which counter of a policy a payout belongs to.

    A recipient is its address without the network: on chains of one family the same address is the same payee,
    and a limit for each recipient must not multiply with the networks it is reachable on.

    Args:
        scope: what the policy's limit is shared by.
        wallet_id: the wallet that pays.
        recipient: its canonical address (lower case where the chain ignores case).
        initiator_id: the user who asked.
    """
    match scope:
        case Scope.WALLET:
            return f"wallet:{wallet_id}"
        case Scope.POLICY:
            return "policy"
        case Scope.ORGANIZATION:
            return "organization"
        case Scope.RECIPIENT:
            return f"recipient:{recipient}"
        case Scope.INITIATOR:
            return f"initiator:{initiator_id}"


def window_start(now: Instant, timeframe: int) -> Instant:
    """Return where a window of ``timeframe`` minutes begins; what was signed later than that is inside.

    There is no end: a signature that carries a later instant than ``now``, because the clock has stepped back since,
    counts too. So a clock that was ahead for a while makes windows hold more, never less.
    """
    return now - timeframe * MINUTE


def next_instant(now: Instant, last_at: Instant) -> Instant:
    """Return the instant of the next signature: now, but always later than the last one, whatever the clock does."""
    return max(now, last_at + 1)
'''

SOURCES["outlay.evidence"] = r'''"""What was signed, by whom, over exactly which bytes: canonical JSON, challenges, sealed tokens, assertions, records.

Pure of network, database and clock; everything here can be run offline by an auditor.
"""
'''

SOURCES["outlay.evidence.assertion"] = r'''"""Assertions: a credential's signature over a challenge, as a key signer or a passkey makes it.

Verification is over the bytes received. The stored public key decides the algorithm, never the request.
"""

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Self

from outlay.core.errors import ActionSignatureInvalid, InvalidInput
from outlay.evidence.base64url import from_base64url, to_base64url
from outlay.evidence.canonical import read_json
from outlay.evidence.keys import PublicKey, load_public_key, signature_fits
from outlay.evidence.shape import members

__all__ = [
    "FIDO2",
    "KEY",
    "Assertion",
    "Credential",
    "PublicKey",
    "load_public_key",
    "parse_assertion",
    "read_client_data",
    "verify_assertion",
]

KEY, FIDO2 = "Key", "Fido2"

_CLIENT_DATA_LIMIT = 4096
_SIGNATURE_LIMIT = 1024
_AUTHENTICATOR_LIMIT = 4096
_NAME_LIMIT = 1024

_RP_HASH_SIZE, _PLAIN_SIZE = 32, 37  # rpIdHash; then one byte of flags and four of counter
_PRESENT, _VERIFIED, _ELIGIBLE, _BACKED_UP, _ATTESTED, _EXTENDED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A registered public key and whose it is."""

    uuid: str  #: our identifier, ``cr-...``
    credential_id: str  #: what the client names in an assertion
    user_id: str
    kind: str  #: ``Key`` or ``Fido2``
    public_key: str  #: PEM
    relying_party_id: str | None = None  #: passkeys: the domain it is bound to
    origins: tuple[str, ...] = ()  #: passkeys: origins it may be used from; empty: any that is allowed
    sign_count: int = 0  #: passkeys: the counter at registration


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """One answer to a challenge, in the bytes received."""

    kind: str  #: ``Key`` or ``Fido2``
    cred_id: str
    client_data: bytes
    signature: bytes
    authenticator_data: bytes | None = None  #: passkeys only
    user_handle: str | None = None  #: passkeys only, not relied upon
    algorithm: str | None = None  #: keys only: the digest the client states

    def document(self) -> dict[str, Any]:
        """Return the assertion as the ``firstFactor`` of the wire, without members that are absent."""
        fields: dict[str, Any] = {
            "credId": self.cred_id,
            "clientData": to_base64url(self.client_data),
            "signature": to_base64url(self.signature),
        }
        if self.authenticator_data is not None:
            fields["authenticatorData"] = to_base64url(self.authenticator_data)
        if self.user_handle is not None:
            fields["userHandle"] = self.user_handle
        if self.algorithm is not None:
            fields["algorithm"] = self.algorithm
        return {"kind": self.kind, "credentialAssertion": fields}

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Read what ``document`` wrote, or a ``firstFactor`` from the wire.

        Raises:
            InvalidInput: a member is missing, unknown, malformed or too long.
        """
        field = "firstFactor"
        given = members(document, field, {"kind": str, "credentialAssertion": dict})
        kind = given["kind"]
        if kind not in (KEY, FIDO2):
            raise InvalidInput(f"{field}.kind must be Key or Fido2", field=f"{field}.kind")
        field = f"{field}.credentialAssertion"
        required: dict[str, type] = {"credId": str, "clientData": str, "signature": str}
        if kind == FIDO2:
            required["authenticatorData"] = str
        # Browsers state an absent user handle, JSON clients an absent algorithm, as null.
        stated = {name: value for name, value in given["credentialAssertion"].items() if value is not None}
        sent = members(stated, field, required, {"userHandle" if kind == FIDO2 else "algorithm": str})
        return cls(
            kind=kind,
            cred_id=_short(sent, "credId", field),
            client_data=_decoded(sent, "clientData", field, _CLIENT_DATA_LIMIT),
            signature=_decoded(sent, "signature", field, _SIGNATURE_LIMIT),
            authenticator_data=(
                _decoded(sent, "authenticatorData", field, _AUTHENTICATOR_LIMIT) if kind == FIDO2 else None
            ),
            user_handle=_short(sent, "userHandle", field) if "userHandle" in sent else None,
            algorithm=_short(sent, "algorithm", field) if "algorithm" in sent else None,
        )


def parse_assertion(first_factor: object) -> Assertion:
    """Read the ``firstFactor`` of a request.

    Args:
        first_factor: ``{"kind", "credentialAssertion": {...}}`` as parsed; binary members are base64url, padding
            tolerated.

    Raises:
        InvalidInput: a member is missing, unknown, malformed or too long; ``field`` names it.

    Source: dfns-api.md 2.7.
    """
    return Assertion.from_document(first_factor)


def verify_assertion(assertion: Assertion, credential: Credential, challenge: str, *, origins: Collection[str]) -> None:
    """Accept the assertion only if this credential signed exactly this challenge.

    Args:
        assertion: as received.
        credential: the one stored under the assertion's credential id.
        challenge: the text handed to the client.
        origins: web origins a passkey may be used from, e.g. ``https://pay.example``. Keys have no origin: the
            Python SDK states a fixed one, so it is not looked at.

    Raises:
        ActionSignatureInvalid: another credential or kind, another type or challenge, a cross-origin frame, a
            signature that does not verify; for passkeys also origin, relying party, user presence or verification.

    Source: dfns-api.md 2.7 (keys); W3C Web Authentication Level 2, 7.2 (passkeys), without the counter: the same
    assertion is verified again when the action is carried out.
    """
    if assertion.cred_id != credential.credential_id or assertion.kind != credential.kind:
        raise ActionSignatureInvalid("the assertion names another credential")
    if credential.kind == KEY:
        _verify_client_data(assertion.client_data, "key.get", (challenge,))
        message, algorithm = assertion.client_data, assertion.algorithm
    elif credential.kind == FIDO2:
        # The official browser signer hands the challenge's UTF-8 text to the authenticator, which encodes it again.
        spellings = (challenge, to_base64url(challenge.encode("utf-8")))
        client_data = _verify_client_data(assertion.client_data, "webauthn.get", spellings)
        _verify_origin(client_data, credential, origins)
        _verify_authenticator(assertion.authenticator_data or b"", credential)
        hashed = hashlib.sha256(assertion.client_data).digest()
        message, algorithm = (assertion.authenticator_data or b"") + hashed, None
    else:
        raise ActionSignatureInvalid("this kind of credential cannot sign")
    try:
        key = load_public_key(credential.public_key, field="publicKey")
    except InvalidInput as error:
        raise ActionSignatureInvalid("the stored public key is not usable") from error
    if not signature_fits(key, assertion.signature, message, algorithm):
        raise ActionSignatureInvalid(
            "the signature does not verify: sign the challenge's client data with this credential"
        )


def read_client_data(data: bytes) -> dict[str, Any]:
    """Return the members of client data, read strictly.

    Raises:
        ActionSignatureInvalid: not a JSON object, or a duplicate member.
    """
    try:
        client_data = read_json(data, field="clientData")
    except InvalidInput as error:
        raise ActionSignatureInvalid(f"the client data is malformed: {error.message}") from error
    if not isinstance(client_data, dict):
        raise ActionSignatureInvalid("the client data is not a JSON object")
    return client_data


def _verify_client_data(data: bytes, kind: str, spellings: Collection[str]) -> dict[str, Any]:
    client_data = read_client_data(data)
    if client_data.get("type") != kind:
        raise ActionSignatureInvalid(f"the client data must be of type {kind}")
    signed = client_data.get("challenge")
    if not isinstance(signed, str) or not any(_same(signed, spelling) for spelling in spellings):
        raise ActionSignatureInvalid("the client data is for another challenge")
    if client_data.get("crossOrigin", False) is not False or "topOrigin" in client_data:
        raise ActionSignatureInvalid("the assertion was made inside another site's frame")
    return client_data


def _verify_origin(client_data: dict[str, Any], credential: Credential, origins: Collection[str]) -> None:
    origin = client_data.get("origin")
    if not isinstance(origin, str) or origin not in origins:
        raise ActionSignatureInvalid("the assertion was made for an origin that is not allowed here")
    if credential.origins and origin not in credential.origins:
        raise ActionSignatureInvalid("the passkey may not be used from this origin")


def _verify_authenticator(data: bytes, credential: Credential) -> None:
    if credential.relying_party_id is None or len(data) < _PLAIN_SIZE:
        raise ActionSignatureInvalid("the authenticator data is malformed")
    party = hashlib.sha256(credential.relying_party_id.encode("utf-8")).digest()
    if not hmac.compare_digest(data[:_RP_HASH_SIZE], party):
        raise ActionSignatureInvalid("the passkey belongs to another relying party")
    flags = data[_RP_HASH_SIZE]
    if not flags & _PRESENT or not flags & _VERIFIED:
        raise ActionSignatureInvalid("the authenticator did not verify the user")
    if flags & _BACKED_UP and not flags & _ELIGIBLE:
        raise ActionSignatureInvalid("the authenticator data contradicts itself")
    # Only registration carries a key; bytes after the counter must be announced as extensions.
    if flags & _ATTESTED or bool(flags & _EXTENDED) != (len(data) > _PLAIN_SIZE):
        raise ActionSignatureInvalid("the authenticator data has unexpected content")


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode("utf-8"), right.encode("utf-8"))


def _decoded(sent: dict[str, Any], name: str, field: str, limit: int) -> bytes:
    path = f"{field}.{name}"
    data = from_base64url(sent[name], field=path, padded=True) if len(sent[name]) <= limit * 2 else b""
    if not 0 < len(data) <= limit:
        raise InvalidInput(f"{path} must hold 1 to {limit} bytes", field=path)
    return data


def _short(sent: dict[str, Any], name: str, field: str) -> str:
    text = sent[name]
    if not isinstance(text, str) or len(text) > _NAME_LIMIT:
        raise InvalidInput(f"{field}.{name} must be at most {_NAME_LIMIT} long", field=f"{field}.{name}")
    return text
'''

SOURCES["outlay.evidence.attestation"] = r'''"""Attestations of key credentials: a new key proves that it is held, and over which challenge it was made."""

import hashlib
import json
import re
from typing import Any

from outlay.core.errors import ActionSignatureInvalid, InvalidInput
from outlay.evidence.assertion import read_client_data
from outlay.evidence.base64url import from_base64url, to_base64url
from outlay.evidence.canonical import read_json
from outlay.evidence.keys import (
    fingerprint,
    load_private_key,
    load_public_key,
    new_key_pair,
    normal_pem,
    sign_bytes,
    signature_fits,
)
from outlay.evidence.shape import members

__all__ = ["fingerprint", "key_attestation", "new_key_pair", "verify_attestation"]

_LIMIT = 16 * 1024
_CRED_ID_LIMIT = 1024
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){1,1024}")


def key_attestation(private_key_pem: str, challenge: str, *, cred_id: str | None = None) -> dict[str, str]:
    """Return the ``credentialInfo`` that registers the key.

    Args:
        private_key_pem: unencrypted PEM of the new key.
        challenge: the server's text.
        cred_id: the name the key will sign under; by default the base64url SHA-256 of the public key.

    Raises:
        InvalidInput: the key is not one that a credential may have.

    Source: dfns-api.md 2.5.
    """
    key = load_private_key(private_key_pem)
    public = normal_pem(key.public_key())
    client_data = _compact({"challenge": challenge, "type": "key.create"})
    signature = sign_bytes(key, _fingerprint_text(client_data, public)).hex()
    return {
        "credId": cred_id or to_base64url(bytes.fromhex(fingerprint(public))),
        "clientData": to_base64url(client_data),
        "attestationData": to_base64url(_compact({"publicKey": public, "signature": signature})),
    }


def verify_attestation(credential_info: object, challenge: str) -> str:
    """Return the attested public key as SPKI PEM.

    Args:
        credential_info: ``{"credId", "clientData", "attestationData"}`` as parsed; base64url, padding tolerated.
        challenge: the text handed to the client.

    Raises:
        InvalidInput: a member is missing, unknown or malformed, or the key is of a kind that is not taken.
        ActionSignatureInvalid: another type or challenge, or the new key did not sign this.

    Source: dfns-api.md 2.5.
    """
    field = "credentialInfo"
    given = members(credential_info, field, {"credId": str, "clientData": str, "attestationData": str})
    if not 0 < len(given["credId"]) <= _CRED_ID_LIMIT:
        raise InvalidInput(f"{field}.credId must be 1 to {_CRED_ID_LIMIT} long", field=f"{field}.credId")
    client_data = _decoded(given["clientData"], f"{field}.clientData")
    path = f"{field}.attestationData"
    attested = members(
        read_json(_decoded(given["attestationData"], path), field=path),
        path,
        {"publicKey": str, "signature": str},
        {"algorithm": str},
    )
    if _HEX.fullmatch(attested["signature"]) is None:
        raise InvalidInput(f"{path}.signature must be hex", field=f"{path}.signature")
    key = load_public_key(attested["publicKey"], field=f"{path}.publicKey")
    signed = read_client_data(client_data)
    if signed.get("type") != "key.create":
        raise ActionSignatureInvalid("the client data must be of type key.create")
    if signed.get("challenge") != challenge or signed.get("crossOrigin", False) is not False:
        raise ActionSignatureInvalid("the client data is for another challenge")
    message = _fingerprint_text(client_data, attested["publicKey"])
    signature = bytes.fromhex(attested["signature"])
    if not signature_fits(key, signature, message, attested.get("algorithm")):
        raise ActionSignatureInvalid("the attestation's signature does not verify with its own public key")
    return normal_pem(key)


def _fingerprint_text(client_data: bytes, public_pem: str) -> bytes:
    digest = hashlib.sha256(client_data).hexdigest()
    return _compact({"clientDataHash": digest, "publicKey": public_pem})


def _compact(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def _decoded(text: str, field: str) -> bytes:
    if len(text) > _LIMIT:
        raise InvalidInput(f"{field} is longer than {_LIMIT}", field=field)
    return from_base64url(text, field=field, padded=True)
'''

SOURCES["outlay.evidence.audit"] = r'''"""The offline verifier's command line: the same as a command of ``outlay`` and as a file of its own."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from outlay.evidence.payout import verify_payout
from outlay.evidence.report import ProofBroken, refused

PROVED, NOT_PROVED, UNREADABLE = 0, 1, 2
"""What the process ends with."""


def check(file: Path, root: str) -> int:
    """Check the proof in ``file``, print what it proves or the first step that fails, and return the exit code.

    Args:
        file: what ``outlay evidence export`` wrote.
        root: the organization's root fingerprint, from somewhere else than the file.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        sys.stderr.write(f"cannot read {file}: {error.strerror}\n")
        return UNREADABLE
    try:
        report = verify_payout(data, root.strip().lower())
    except ProofBroken as broken:
        sys.stdout.write(refused(broken))
        return NOT_PROVED
    sys.stdout.write(report.text())
    return PROVED


def main(words: Sequence[str] | None = None) -> int:
    """Run the verifier with these command-line words, or the process's own."""
    parser = argparse.ArgumentParser(description="Check the proof of a payout without any server.")
    parser.add_argument("file", metavar="FILE", type=Path, help="what outlay evidence export wrote")
    parser.add_argument("--root", metavar="FINGERPRINT", required=True, help="as outlay init printed it, kept apart")
    given = parser.parse_args(words)
    return check(given.file, given.root)
'''

SOURCES["outlay.evidence.base64url"] = r'''"""Base64url without padding, read strictly: one text for one value, so that no byte of a token is free to change."""

import base64
import re

from outlay.core.errors import InvalidInput

_TEXT = re.compile(r"[A-Za-z0-9_-]*")


def to_base64url(data: bytes) -> str:
    """Return ``data`` as base64url text without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def from_base64url(text: str, *, field: str, padded: bool = False) -> bytes:
    """Return the bytes that ``text`` stands for.

    Args:
        text: base64url characters only; unused trailing bits must be zero.
        field: the member named in the error.
        padded: accept the right number of ``=`` at the end as well.

    Raises:
        InvalidInput: another character, a wrong length, or a second spelling of the same bytes.
    """
    bare = text
    if padded and len(text) % 4 == 0:
        bare = text[:-2] if text.endswith("==") else text.removesuffix("=")
    if _TEXT.fullmatch(bare) is None or len(bare) % 4 == 1:
        raise InvalidInput(f"{field} is not base64url text: send it without padding", field=field)
    data = base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    if to_base64url(data) != bare:
        raise InvalidInput(f"{field} is not base64url text: its unused last bits must be zero", field=field)
    return data
'''

SOURCES["outlay.evidence.bundle"] = r'''"""Evidence: everything needed to check later, with no server, what a person or machine signed.

Stored with every transfer, decision and record: the preimage, the payload, the assertion, the credential and its
record, the origins allowed then, and the policy set in force. A registration is proved by its preimage and the
attestation, which its record holds. Whose key it was is answered by the chain of records (``history``).
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from outlay.core.errors import ActionSignatureInvalid, InvalidInput
from outlay.evidence.assertion import Assertion, Credential, verify_assertion
from outlay.evidence.attestation import verify_attestation
from outlay.evidence.canonical import payload_digest, payload_object
from outlay.evidence.challenge import (
    CredentialPreimage,
    Preimage,
    RegistrationPreimage,
    action_challenge,
    credential_challenge,
    registration_challenge,
)
from outlay.evidence.shape import check_digest, check_texts, members

VERSION = 1

P = TypeVar("P")


class EvidenceBroken(InvalidInput):
    """The evidence does not prove what it says."""

    code = "evidence_broken"


def evidence_document(
    *,
    preimage: Preimage,
    assertion: Assertion,
    credential: Credential,
    credential_record: str | None,
    payload: object,
    policy_set: str,
    origins: Collection[str],
) -> dict[str, Any]:
    """Return what is stored with a transfer, a decision or a record.

    Args:
        preimage: what the challenge was derived from.
        assertion: as received.
        credential: the one that verified it.
        credential_record: hex hash of the record that introduced it.
        payload: the parsed request body; absent is ``{}``.
        policy_set: hex digest of the policies in force; empty where no policy was asked.
        origins: origins that were allowed.
    """
    return {
        "v": VERSION,
        "preimage": preimage.document(),
        "payload": payload_object(payload),
        "assertion": assertion.document(),
        "credential": credential_document(credential, credential_record),
        "origins": sorted(origins),
        "policySet": policy_set,
    }


def credential_document(credential: Credential, record: str | None) -> dict[str, Any]:
    """Return the credential as evidence holds it, without members that are absent."""
    document: dict[str, Any] = {
        "uuid": credential.uuid,
        "credentialId": credential.credential_id,
        "userId": credential.user_id,
        "kind": credential.kind,
        "publicKey": credential.public_key,
        "record": record,
    }
    if credential.relying_party_id is not None:
        document["relyingPartyId"] = credential.relying_party_id
    return document


def read_credential(document: object, field: str = "evidence.credential") -> tuple[Credential, str | None]:
    """Read what ``credential_document`` wrote: the credential, and the hash of its record.

    Raises:
        InvalidInput: a member is missing, unknown or malformed.
    """
    texts: dict[str, type] = dict.fromkeys(("uuid", "credentialId", "userId", "kind", "publicKey"), str)
    given = members(document, field, {**texts, "record": object}, {"relyingPartyId": str})
    if given["record"] is not None:
        check_digest(given["record"], f"{field}.record")
    credential = Credential(
        uuid=given["uuid"],
        credential_id=given["credentialId"],
        user_id=given["userId"],
        kind=given["kind"],
        public_key=given["publicKey"],
        relying_party_id=given.get("relyingPartyId"),
    )
    return credential, given["record"]


def verify_evidence(document: object) -> Preimage:
    """Check action evidence in itself: payload, challenge and signature belong together.

    It does not answer whose key it was; ``history.verify_history`` does.

    Returns:
        The preimage, for the caller to compare with what it expects (organization, path, intent digest).

    Raises:
        EvidenceBroken: anything does not fit; ``field`` names the first defect.
    """
    try:
        given = members(
            document,
            "evidence",
            {
                "v": int,
                "preimage": dict,
                "payload": object,
                "assertion": dict,
                "credential": dict,
                "origins": list,
                "policySet": str,
            },
        )
        _check_version(given)
        check_texts(given["origins"], "evidence.origins")
        if given["policySet"]:
            check_digest(given["policySet"], "evidence.policySet")
        preimage = Preimage.from_document(given["preimage"])
        credential, _ = read_credential(given["credential"])
        assertion = Assertion.from_document(given["assertion"])
        if payload_digest(given["payload"]) != preimage.payload_digest:
            raise EvidenceBroken("the payload is not the one signed", field="evidence.payload")
        if credential.uuid not in preimage.credentials or credential.user_id != preimage.identity:
            raise EvidenceBroken("the challenge was not made for this credential", field="evidence.credential")
        verify_assertion(assertion, credential, action_challenge(preimage), origins=given["origins"])
    except ActionSignatureInvalid as error:
        raise EvidenceBroken(error.message, field="evidence.assertion") from error
    except EvidenceBroken:
        raise
    except InvalidInput as error:
        raise EvidenceBroken(error.message, field=error.field or "evidence") from error
    return preimage


def verify_registration(preimage: object, credential_info: object) -> tuple[RegistrationPreimage, str, str]:
    """Check the proof of a registration in itself.

    Args:
        preimage: what ``RegistrationPreimage.document`` wrote.
        credential_info: the attestation as received.

    Returns:
        The preimage, the credential id, and the public key that proved itself, as SPKI PEM.

    Raises:
        EvidenceBroken: anything does not fit; ``field`` names the first defect.
    """
    return _verify_attested(
        preimage, credential_info, read=RegistrationPreimage.from_document, challenge_of=registration_challenge
    )


def verify_new_key(preimage: object, credential_info: object) -> tuple[CredentialPreimage, str, str]:
    """Check the proof of a key that somebody adds to their own, in itself.

    Args:
        preimage: what ``CredentialPreimage.document`` wrote.
        credential_info: the attestation as received.

    Returns:
        As ``verify_registration``.

    Raises:
        EvidenceBroken: as ``verify_registration``.
    """
    return _verify_attested(
        preimage, credential_info, read=CredentialPreimage.from_document, challenge_of=credential_challenge
    )


def _verify_attested(
    preimage: object, credential_info: object, *, read: Callable[[object], P], challenge_of: Callable[[P], str]
) -> tuple[P, str, str]:
    try:
        found = read(preimage)
        public_key = verify_attestation(credential_info, challenge_of(found))
    except ActionSignatureInvalid as error:
        raise EvidenceBroken(error.message, field="credentialInfo") from error
    except InvalidInput as error:
        raise EvidenceBroken(error.message, field=error.field or "preimage") from error
    given = members(credential_info, "credentialInfo", {"credId": str, "clientData": str, "attestationData": str})
    return found, given["credId"], public_key


def _check_version(given: Mapping[str, Any]) -> None:
    if given["v"] != VERSION:
        raise EvidenceBroken(f"version {given['v']} of evidence is not known here", field="evidence.v")
'''

SOURCES["outlay.evidence.canonical"] = r'''"""Canonical JSON: one byte string for one value, the same in Python and in ECMAScript.

RFC 8785 (members ordered by UTF-16 code units, numbers as ECMAScript prints doubles), then every character
above U+007F escaped as ``\\uxxxx`` in lower case: the result is ASCII. What two readers could understand
differently is refused: duplicate members, lone surrogates, integers beyond 2**53 - 1 in any spelling, numbers
with more digits than a double keeps. So a value read here and its canonical bytes say exactly the same.
"""

import hashlib
import json
import math
import re
from json.encoder import encode_basestring_ascii
from typing import Any

from outlay.core.errors import InvalidInput

MAX_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader holds exactly."""

MAX_DEPTH = 16
"""Nesting allowed in a request body."""

STORED_DEPTH = 32
"""Nesting allowed in a stored document, which wraps request bodies."""

_WRITE_DEPTH = 64
_DOUBLE_DIGITS = 17  # no double needs more significant digits to be told from its neighbours
_NUMBER = re.compile(r"(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?)(\d+))?", re.ASCII)


class CanonicalError(InvalidInput):
    """The value has no canonical form."""


class JsonNumber(float):
    """A number with a fraction, as a double; ``text`` is the literal that was sent.

    ``Decimal(number.text)`` is the exact value, and equals the decimal that ``canonical`` prints.
    """

    __slots__ = ("text",)

    text: str

    def __new__(cls, text: str) -> "JsonNumber":
        """Read ``text``, a JSON number literal."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]  # copies are made from the literal
        """Return what a copy is made from."""
        return (self.text,)


class _MalformedError(ValueError):
    """Raised inside the JSON reader's hooks, which do not know the name of the field."""


# Writing


def canonical(value: object) -> bytes:
    """Return the canonical bytes of a JSON value.

    Args:
        value: None, booleans, integers within +-(2**53 - 1), finite floats below 2**53, strings, lists, tuples and
            dicts with string keys; nested at most 64 deep.

    Returns:
        ASCII bytes, equal for equal values whatever the order of members.

    Raises:
        CanonicalError: the value holds something else.

    Source: RFC 8785; ECMA-262 Number::toString for numbers.
    """
    parts: list[str] = []
    _write(value, parts, 0)
    return "".join(parts).encode("ascii")


def digest(value: object) -> str:
    """Return the SHA-256 of the canonical bytes of ``value``, in lower-case hex.

    Raises:
        CanonicalError: as ``canonical``.
    """
    return hashlib.sha256(canonical(value)).hexdigest()


def payload_object(payload: object) -> object:
    """Return the payload a signature covers: absent, empty text and ``{}`` are all ``{}``.

    Source: dfns-api.md 2.7; the Python and JavaScript SDKs differ in which of the three they sign.
    """
    return {} if payload is None or payload == "" else payload


def payload_digest(payload: object) -> str:
    """Return the digest of a parsed request body; absent, ``""`` and ``{}`` have the same.

    Raises:
        CanonicalError: as ``canonical``.
    """
    return digest(payload_object(payload))


def _write(value: object, parts: list[str], depth: int) -> None:
    if depth > _WRITE_DEPTH:
        raise CanonicalError("the value is nested too deeply", field="value")
    if isinstance(value, str):
        parts.append(_quoted(value))
    elif value is None:
        parts.append("null")
    elif isinstance(value, bool):
        parts.append("true" if value else "false")
    elif isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise CanonicalError("an integer beyond 2**53 - 1: write it as a string", field="value")
        parts.append(str(int(value)))
    elif isinstance(value, float):
        if not math.isfinite(value) or abs(value) > MAX_INTEGER:
            raise CanonicalError("a number that is not finite or beyond 2**53 - 1", field="value")
        parts.append(number_text(value))
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            parts.append("," if position else "[")
            _write(item, parts, depth + 1)
        parts.append("]" if value else "[]")
    elif isinstance(value, dict):
        _write_object(value, parts, depth)
    else:
        raise CanonicalError(f"{type(value).__name__} is not a JSON value", field="value")


def _write_object(value: dict[Any, Any], parts: list[str], depth: int) -> None:
    for key in value:
        if not isinstance(key, str):
            raise CanonicalError("every member name must be a string", field="value")
    for position, key in enumerate(sorted(value, key=_code_units)):
        parts.append("," if position else "{")
        parts.append(_quoted(key))
        parts.append(":")
        _write(value[key], parts, depth + 1)
    parts.append("}" if value else "{}")


def _code_units(text: str) -> bytes:
    # Big-endian UTF-16 bytes order as the 16-bit code units do; code points would order astral keys otherwise.
    try:
        return text.encode("utf-16-be")
    except UnicodeEncodeError as error:
        raise CanonicalError("a string holds half of a surrogate pair", field="value") from error


def _quoted(text: str) -> str:
    if not text.isascii():
        _code_units(text)
    if "\x7f" not in text:
        return encode_basestring_ascii(text)
    # The standard encoder also escapes U+007F; RFC 8785 leaves it as it is.
    return '"' + "\x7f".join(encode_basestring_ascii(part)[1:-1] for part in text.split("\x7f")) + '"'


def number_text(value: float) -> str:
    """Return a finite double as ECMAScript prints it: the shortest digits that read back, -0 as ``0``.

    Source: ECMA-262 Number::toString, radix 10.
    """
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    _, digits, scale = _decomposed(repr(abs(float(value))))
    count, point = len(digits), len(digits) + scale
    if count <= point <= 21:
        return f"{sign}{digits}{'0' * (point - count)}"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if count > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{'+' if point > 0 else '-'}{abs(point - 1)}"


def _decomposed(literal: str) -> tuple[bool, str, int]:
    """Split a number literal into sign, digits without outer zeros, and the power of ten of the last digit."""
    match = _NUMBER.fullmatch(literal)
    if match is None:
        raise _MalformedError("a number is malformed")
    minus, whole, fraction, exponent_sign, exponent = match.groups(default="")
    digits = (whole + fraction).lstrip("0")
    exponent = exponent.lstrip("0")
    if not digits:
        return bool(minus), "", 0
    if len(exponent) > 6:  # far outside of any double; int() on thousands of digits would raise or stall
        raise _MalformedError(f"the number {literal[:40]} is out of range")
    power = int(f"{exponent_sign}{exponent or '0'}") - len(fraction)
    shortened = digits.rstrip("0")
    return bool(minus), shortened, power + len(digits) - len(shortened)


# Reading


def read_json(text: bytes, *, max_depth: int = MAX_DEPTH, field: str = "body") -> object:
    """Read JSON so that nobody could read the same bytes as another value.

    Args:
        text: UTF-8 without a byte order mark.
        max_depth: arrays and objects within each other; at least 1.
        field: named in the error.

    Returns:
        None, bool, int, ``JsonNumber``, str, list or dict. Integral numbers are int in every spelling (``1.0``,
        ``1e3``), ``-0`` is 0. ``canonical`` accepts every value returned.

    Raises:
        InvalidInput: not UTF-8, not JSON, a duplicate member, nesting deeper than ``max_depth``, half a surrogate
            pair, an integer beyond 2**53 - 1, a number that is not finite or holds more digits than a double.
    """
    try:
        value = _DECODER.decode(text.decode("utf-8"))
        _check(value, max_depth)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{field} is not UTF-8", field=field) from error
    except json.JSONDecodeError as error:
        message = f"{field} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise InvalidInput(message, field=field) from error
    except RecursionError as error:
        raise InvalidInput(f"{field} is nested deeper than {max_depth}", field=field) from error
    except _MalformedError as error:
        raise InvalidInput(f"{field}: {error}", field=field) from error
    return value


def read_canonical(text: bytes, *, field: str = "document") -> object:
    """Read a stored document and refuse any bytes but its canonical ones.

    Raises:
        InvalidInput: as ``read_json`` (32 levels), or the bytes are another spelling of the value.
    """
    value = read_json(text, max_depth=STORED_DEPTH, field=field)
    if canonical(value) != text:
        raise InvalidInput(f"{field} is not in canonical form", field=field)
    return value


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _MalformedError(f"the member {key[:60]!r} is given twice")
            seen.add(key)
    return value


def _number(literal: str) -> int | JsonNumber:
    if len(literal) <= 15 and literal.lstrip("-").isdigit():
        return int(literal)
    minus, digits, scale = _decomposed(literal)
    if not digits:
        return 0
    if scale >= 0:
        magnitude = int(digits) * 10**scale if len(digits) + scale <= 16 else MAX_INTEGER + 1
        if magnitude > MAX_INTEGER:
            raise _MalformedError(f"the number {literal[:40]} is beyond 2**53 - 1: write it as a string")
        return -magnitude if minus else magnitude
    if len(digits) <= _DOUBLE_DIGITS:
        number = JsonNumber(literal)
        # A literal that rounds would let two different texts share one digest.
        if float(number) != 0 and _decomposed(repr(abs(float(number)))) == (False, digits, scale):
            return number
    raise _MalformedError(f"the number {literal[:40]} has more digits than a double keeps")


def _constant(name: str) -> object:
    raise _MalformedError(f"{name} is not a JSON number")


def _check(value: object, depth_left: int) -> None:
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, list | dict):
        if depth_left == 0:
            raise _MalformedError("arrays and objects are nested too deeply")
        if isinstance(value, dict):
            for key, item in value.items():
                _check_text(key)
                _check(item, depth_left - 1)
        else:
            for item in value:
                _check(item, depth_left - 1)


def _check_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _MalformedError("a string holds half of a surrogate pair") from error


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_number, parse_float=_number, parse_constant=_constant
)
'''

SOURCES["outlay.evidence.challenge"] = r'''"""Challenges derived from what they stand for, so that a signature over one binds that content.

The client sees 43 opaque characters; whoever holds the preimage can recompute them. Each purpose has a domain
of its own: a login can never be replayed as an action. Nothing here knows keys or signatures.
"""

import hashlib
import unicodedata
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import unquote_to_bytes

from outlay.core.errors import InvalidInput, InvariantBroken
from outlay.core.seams import Instant
from outlay.evidence.base64url import to_base64url
from outlay.evidence.canonical import canonical
from outlay.evidence.shape import check_digest, check_texts, members

ACTION_DOMAIN = "outlay.action.v1"
LOGIN_DOMAIN = "outlay.login.v1"
REGISTRATION_DOMAIN = "outlay.registration.v1"
CREDENTIAL_DOMAIN = "outlay.credential.v1"

METHODS = frozenset({"GET", "POST", "PUT", "DELETE"})
"""Methods a user action may name."""

_MAX_PATH = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Preimage:
    """What one signed action is: who may sign it, the call, its content, and the state of the records it saw."""

    org: str
    identity: str  #: user id of the bearer who asked for the challenge
    credentials: tuple[str, ...]  #: credential uuids that may answer it, sorted, each once
    method: str  #: GET, POST, PUT or DELETE
    path: str  #: as ``normalize_path`` returns it
    payload_digest: str  #: hex SHA-256 of the canonical payload
    intent_digest: str | None = None  #: decisions only: hex digest of the intent decided on
    groups_digest: str | None = None  #: decisions only: hex digest of the approval's groups
    records_head: str  #: hex hash of the newest record when the challenge was made
    nonce: str  #: spent once by the effect
    issued: Instant  #: microseconds UTC
    expires: Instant  #: microseconds UTC, after ``issued``

    def __post_init__(self) -> None:
        """Refuse a preimage that could not have been made on purpose."""
        _check_credentials(self.credentials)
        _check_times(self.issued, self.expires)
        if (self.intent_digest is None) != (self.groups_digest is None):
            raise InvariantBroken("a decision binds both the intent and the groups")

    def document(self) -> dict[str, Any]:
        """Return the JSON object whose canonical bytes the challenge is derived from."""
        document: dict[str, Any] = {
            "org": self.org,
            "identity": self.identity,
            "credentials": list(self.credentials),
            "method": self.method,
            "path": self.path,
            "payloadDigest": self.payload_digest,
            "recordsHead": self.records_head,
            "nonce": self.nonce,
            "issued": self.issued,
            "expires": self.expires,
        }
        if self.intent_digest is not None:
            document["intentDigest"] = self.intent_digest
            document["groupsDigest"] = self.groups_digest
        return document

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Read what ``document`` wrote.

        Raises:
            InvalidInput: a member is missing, unknown or malformed.
        """
        texts = ("org", "identity", "method", "path", "payloadDigest", "recordsHead", "nonce")
        given = members(
            document,
            "preimage",
            {**dict.fromkeys(texts, str), "credentials": list, "issued": int, "expires": int},
            {"intentDigest": str, "groupsDigest": str},
        )
        check_texts(given["credentials"], "preimage.credentials")
        for name in ("payloadDigest", "recordsHead", "intentDigest", "groupsDigest"):
            if name in given:
                check_digest(given[name], f"preimage.{name}")
        if given["method"] not in METHODS:
            raise InvalidInput("preimage.method must be GET, POST, PUT or DELETE", field="preimage.method")
        if normalize_path(given["path"], field="preimage.path") != given["path"]:
            raise InvalidInput("preimage.path is not in its normal form", field="preimage.path")
        try:
            return cls(
                org=given["org"],
                identity=given["identity"],
                credentials=tuple(given["credentials"]),
                method=given["method"],
                path=given["path"],
                payload_digest=given["payloadDigest"],
                intent_digest=given.get("intentDigest"),
                groups_digest=given.get("groupsDigest"),
                records_head=given["recordsHead"],
                nonce=given["nonce"],
                issued=given["issued"],
                expires=given["expires"],
            )
        except InvariantBroken as error:
            raise InvalidInput(f"preimage: {error.message}", field="preimage") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginPreimage:
    """What one login is."""

    org: str
    identity: str  #: user id that logs in
    credentials: tuple[str, ...]  #: credential uuids that may answer, sorted, each once
    nonce: str
    issued: Instant  #: microseconds UTC
    expires: Instant  #: microseconds UTC, after ``issued``

    def __post_init__(self) -> None:
        """Refuse a preimage that could not have been made on purpose."""
        _check_credentials(self.credentials)
        _check_times(self.issued, self.expires)

    def document(self) -> dict[str, Any]:
        """Return the JSON object whose canonical bytes the challenge is derived from."""
        return {
            "org": self.org,
            "identity": self.identity,
            "credentials": list(self.credentials),
            "nonce": self.nonce,
            "issued": self.issued,
            "expires": self.expires,
        }

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Read what ``document`` wrote.

        Raises:
            InvalidInput: a member is missing, unknown or malformed.
        """
        given = members(
            document,
            "preimage",
            {"org": str, "identity": str, "credentials": list, "nonce": str, "issued": int, "expires": int},
        )
        check_texts(given["credentials"], "preimage.credentials")
        try:
            return cls(**{**given, "credentials": tuple(given["credentials"])})
        except InvariantBroken as error:
            raise InvalidInput(f"preimage: {error.message}", field="preimage") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationPreimage:
    """What one registration is: this person takes up this invitation."""

    org: str
    user_id: str
    invitation: str  #: hex hash of the invitation's record
    nonce: str
    issued: Instant  #: microseconds UTC
    expires: Instant  #: microseconds UTC, after ``issued``

    def __post_init__(self) -> None:
        """Refuse a preimage that could not have been made on purpose."""
        _check_times(self.issued, self.expires)

    def document(self) -> dict[str, Any]:
        """Return the JSON object whose canonical bytes the challenge is derived from."""
        return {
            "org": self.org,
            "userId": self.user_id,
            "invitation": self.invitation,
            "nonce": self.nonce,
            "issued": self.issued,
            "expires": self.expires,
        }

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Read what ``document`` wrote.

        Raises:
            InvalidInput: a member is missing, unknown or malformed.
        """
        given = members(
            document,
            "preimage",
            {"org": str, "userId": str, "invitation": str, "nonce": str, "issued": int, "expires": int},
        )
        check_digest(given["invitation"], "preimage.invitation")
        try:
            return cls(
                org=given["org"],
                user_id=given["userId"],
                invitation=given["invitation"],
                nonce=given["nonce"],
                issued=given["issued"],
                expires=given["expires"],
            )
        except InvariantBroken as error:
            raise InvalidInput(f"preimage: {error.message}", field="preimage") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialPreimage:
    """What a new key proves itself over: this person or machine adds a key of their own."""

    org: str
    user_id: str
    nonce: str  #: good for one key
    issued: Instant  #: microseconds UTC
    expires: Instant  #: microseconds UTC, after ``issued``

    def __post_init__(self) -> None:
        """Refuse a preimage that could not have been made on purpose."""
        _check_times(self.issued, self.expires)

    def document(self) -> dict[str, Any]:
        """Return the JSON object whose canonical bytes the challenge is derived from."""
        return {
            "org": self.org,
            "userId": self.user_id,
            "nonce": self.nonce,
            "issued": self.issued,
            "expires": self.expires,
        }

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Read what ``document`` wrote.

        Raises:
            InvalidInput: a member is missing, unknown or malformed.
        """
        shape: dict[str, type] = {"org": str, "userId": str, "nonce": str, "issued": int, "expires": int}
        given = members(document, "preimage", shape)
        try:
            return cls(
                org=given["org"],
                user_id=given["userId"],
                nonce=given["nonce"],
                issued=given["issued"],
                expires=given["expires"],
            )
        except InvariantBroken as error:
            raise InvalidInput(f"preimage: {error.message}", field="preimage") from error


def action_challenge(preimage: Preimage) -> str:
    """Return the challenge of one action: 43 base64url characters."""
    return _challenge(ACTION_DOMAIN, preimage.document())


def login_challenge(preimage: LoginPreimage) -> str:
    """Return the challenge of one login: 43 base64url characters."""
    return _challenge(LOGIN_DOMAIN, preimage.document())


def registration_challenge(preimage: RegistrationPreimage) -> str:
    """Return the challenge of one registration: 43 base64url characters."""
    return _challenge(REGISTRATION_DOMAIN, preimage.document())


def credential_challenge(preimage: CredentialPreimage) -> str:
    """Return the challenge a new key of somebody's own answers: 43 base64url characters."""
    return _challenge(CREDENTIAL_DOMAIN, preimage.document())


def _challenge(domain: str, document: dict[str, Any]) -> str:
    return to_base64url(hashlib.sha256(domain.encode("ascii") + b"\n" + canonical(document)).digest())


def normalize_path(path: str, *, field: str = "userActionHttpPath") -> str:
    """Return the path a signature covers: no query or fragment, percent escapes read once.

    Anything that a second reader could resolve to another route is refused rather than cleaned. Its own results
    without escapes come back unchanged.

    Args:
        path: the raw request target or ``userActionHttpPath``, still escaped; at most 2,048 characters.
        field: named in the error.

    Raises:
        InvalidInput: it does not start with one ``/``; holds ``..``, a ``.`` segment, ``//``, a backslash, a control
            character or a broken escape; or an escape hides ``/``, ``?``, ``#`` or ``%``.
    """
    bare = path.split("#", 1)[0].split("?", 1)[0]
    if len(path) > _MAX_PATH or not bare.startswith("/"):
        raise InvalidInput(f"{field} must start with / and be at most {_MAX_PATH} long", field=field)
    segments = [_segment(segment, field) for segment in bare[1:].split("/")]
    if "" in segments[:-1] or any(segment == "." or ".." in segment for segment in segments):
        raise InvalidInput(f"{field} must not hold empty or dot segments", field=field)
    return "/" + "/".join(segments)


def _segment(text: str, field: str) -> str:
    chunks = text.split("%")[1:]
    try:
        for chunk in chunks:
            if not chunk[:2].isalnum() or len(bytes.fromhex(chunk[:2])) != 1:
                raise ValueError("not two hex digits")
        decoded = unquote_to_bytes(text).decode("utf-8")
    except ValueError as error:
        raise InvalidInput(f"{field} holds a broken percent escape", field=field) from error
    if any(character in "/?#%\\" or unicodedata.category(character) == "Cc" for character in decoded):
        raise InvalidInput(f"{field} holds a character that may not be in a path", field=field)
    return decoded


def _check_credentials(credentials: tuple[str, ...]) -> None:
    if list(credentials) != sorted(set(credentials)):
        raise InvariantBroken("credentials must be sorted and each given once")


def _check_times(issued: Instant, expires: Instant) -> None:
    if not 0 <= issued < expires:
        raise InvariantBroken("a challenge must expire after it was issued")
'''

SOURCES["outlay.evidence.changes"] = r'''"""Every kind of record: which signed call brings it about, and what its body must be.

A body is what the payload says, completed by what the server makes (new ids, addresses, keys, version numbers). What
can be derived from the payload and the records before is derived and compared; what the server makes must have its
shape and be new. So whoever owns the database cannot change what an organization decided, only what its server names.

Bodies have exactly these members (*key* stands for ``credentialUuid``, ``credentialId`` and ``publicKey``):

* ``genesis`` (subject: the organization): ``admin: {userId, username, key, fingerprint}``, ``permission: {id, name,
  operations}``, ``policies``, ``preset``, ``moneySettings``
* ``user.invited``: ``username``, ``publicKey`` or null, ``code`` (digest), ``expires``
* ``user.registered``: ``username``, key, ``fingerprint``, ``preimage``, ``attestation``
* ``user.activated``: ``fingerprints`` of all the keys on record, which are vouched for from then on
* ``user.deactivated``, ``user.deleted``, ``permission.archived``: nothing
* ``user.renamed``: ``name``, ``externalId``; null if unchanged
* ``serviceAccount.created``: ``name``, key, ``permissionId`` and ``assignmentId``, both or neither null
* ``credential.created`` (the signer's own): key, ``preimage``
* ``credential.activated``, ``.deactivated``, ``.deleted``: ``credentialUuid``; of a personal access token's key also
  ``tokenId``
* ``pat.created`` (the signer's own): ``name``, key, ``permissionId`` or null, ``expires``
* ``pat.renamed``: ``name``, ``externalId``; null if unchanged
* ``permission.created``, ``.updated``: ``name``, ``operations``
* ``permission.assigned``, ``.revoked``: ``assignmentId``, ``identityId``
* ``policy.created``, ``.updated``: ``version`` and the stored policy; ``.archived``: ``version``
* ``wallet.created``: ``network``, ``chainId``, ``address``, ``keyId``, ``publicKey``, ``name``, ``tags``
* ``wallet.renamed``: what was signed of ``name``, ``externalId``
* ``wallet.tags.modified``: ``added``, ``removed``: what really changed
* ``wallet.unfrozen``: ``reason``; ``asset.unfrozen`` (subject: the organization): ``network``, ``asset``, ``reason``
* ``config.applied`` (subject: the organization): ``moneySettings``
* ``change.requested`` (subject: the change request): ``approval``, ``content``, ``groups``, ``expires`` or null
* ``change.decided``: ``approval``, ``value``, ``reason`` or null
* ``change.applied`` (subject: what it changes): ``change``, ``kind``, ``body``: as the record without approval had them
* ``change.closed``: ``change``, ``status``, ``reason``: nobody can make it any more
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from outlay.core import ids
from outlay.core.address import parse_address
from outlay.core.policy_document import parse_policy, stored_document
from outlay.evidence import identities as who
from outlay.evidence import record as records
from outlay.evidence.bundle import EvidenceBroken
from outlay.evidence.challenge import Preimage
from outlay.evidence.record import RecordBroken
from outlay.evidence.state import History, KnownPolicy, KnownWallet, PolicyVersion
from outlay.evidence.step import Step

_PUBLIC_POINT = re.compile(r"0[23][0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Route:
    """A call that brings a kind about. In ``path``, names in braces stand for the subject or texts of the body."""

    method: str
    path: str
    operation: str | None  #: what the signer must hold; None: it is about the signer's own keys
    payload: Mapping[str, Any] | None = None  #: the only payload, where there is only one
    machine: bool | None = None  #: the subject must be a service account, or must not be one


def check_route(step: Step, preimage: Preimage) -> None:
    """Refuse a record whose signed call is not one that brings its kind about, or whose signer may not make it.

    Raises:
        RecordBroken: no such kind. EvidenceBroken: another call, another payload, or not permitted.
    """
    for route in _routes(step.kind, step.subject, step.body, preimage.method, preimage.path):
        if not _is_about(step, route.machine):
            continue
        if route.payload is not None:
            step.expect_payload(route.payload)
        if route.operation is not None:
            step.require([route.operation])
        elif step.by.token_id is not None:
            raise EvidenceBroken("a personal access token manages no keys", field="evidence.credential")
        return
    raise EvidenceBroken(f"the call signed does not bring about {step.kind}", field="evidence.preimage.path")


def _routes(kind: str, subject: str, body: Mapping[str, Any], method: str, path: str) -> Iterator[Route]:
    """Yield the routes of a kind that are this very call."""
    if kind not in CHANGES:
        raise RecordBroken(f"the kind {kind[:60]!r} is not known here", field="record.kind")
    texts = {name: value for name, value in body.items() if isinstance(value, str)}
    for route in CHANGES[kind][0]:
        filled = route.path.format_map({"assignmentId": "", "tokenId": "", "approval": "", **texts, "subject": subject})
        if (method, path) == (route.method, filled):
            yield route


def operation_of(kind: str, subject: str, body: Mapping[str, Any], method: str, path: str) -> str | None:
    """Return the operation that a call needs to bring a record about; None: it is about the signer's own.

    Raises:
        EvidenceBroken: the call does not bring this about.
    """
    route = next(_routes(kind, subject, body, method, path), None)
    if route is None:
        raise EvidenceBroken(f"the call signed does not bring about {kind}", field="evidence.preimage.path")
    return route.operation


def _is_about(step: Step, machine: bool | None) -> bool:
    if machine is None:
        return True
    identity = step.history.identities.get(step.subject)
    return identity is not None and identity.is_machine == machine


# Policies


def _policy_written(step: Step) -> None:
    history, policy_id = step.history, step.subject
    known = history.policies.get(policy_id)
    if step.kind == records.POLICY_CREATED:
        step.new_subject(ids.POLICY, history.policies)
    elif known is None or not known.is_active:
        raise RecordBroken("names no policy there is", field="record.subject")
    version = 1 if known is None else known.version + 1
    document = stored_document(parse_policy(step.payload, id=policy_id, version=version))
    step.expect({"version": version, **document})
    written = PolicyVersion(step.number, step.at, version, document)
    if known is None:
        history.policies[policy_id] = KnownPolicy([written])
    else:
        known.versions.append(written)
    history.note_policies(step.number)


def _policy_archived(step: Step) -> None:
    known = step.history.policies.get(step.subject)
    if known is None or not known.is_active:
        raise RecordBroken("names no policy there is", field="record.subject")
    step.expect({"version": known.version})
    known.versions.append(replace(known.versions[-1], number=step.number, at=step.at, is_active=False))
    step.history.note_policies(step.number)


# Wallets and settings


def _wallet(step: Step) -> KnownWallet:
    wallet = step.history.wallets.get(step.subject)
    if wallet is None:
        raise RecordBroken("names no wallet there is", field="record.subject")
    return wallet


def _wallet_created(step: Step) -> None:
    history, network = step.history, step.signed("network")
    wallet_id = step.new_subject(ids.WALLET, history.wallets)
    chain_id = _chain_id(history, network)
    tags = sorted(set(step.signed_texts("tags"))) if step.payload.get("tags") is not None else []
    address, key_id, public_key = step.made("address"), step.made("keyId"), step.made("publicKey")
    lower = parse_address(address, field="record.body.address")
    if lower in history.addresses:
        raise RecordBroken("another wallet has this address", field="record.body.address")
    if not isinstance(public_key, str) or _PUBLIC_POINT.fullmatch(public_key) is None:
        raise RecordBroken("is not a compressed secp256k1 point in hex", field="record.body.publicKey")
    if not isinstance(key_id, str) or not key_id.startswith(f"{ids.KEY}-") or len(key_id) > 64:
        raise RecordBroken("is not the identifier of a key", field="record.body.keyId")
    step.expect(
        {
            "network": network,
            "chainId": chain_id,
            "address": address,
            "keyId": key_id,
            "publicKey": public_key,
            "name": step.payload.get("name"),
            "tags": tags,
        }
    )
    if tags:
        step.require(["Wallets:Tags:Add"])
    history.addresses.add(lower)
    history.wallets[wallet_id] = KnownWallet(network, chain_id, address, public_key, [(step.number, frozenset(tags))])


def _chain_id(history: History, network: str) -> int:
    """Return the chain id that the signed settings give a network."""
    networks = history.money_settings.get("networks")
    settings = networks.get(network) if isinstance(networks, dict) else None
    chain_id = settings.get("chainId") if isinstance(settings, dict) else None
    if type(chain_id) is not int:
        raise RecordBroken("names a network that the signed settings do not have", field="record.body.network")
    return chain_id


def _wallet_renamed(step: Step) -> None:
    _wallet(step)
    step.expect({name: step.payload[name] for name in ("name", "externalId") if name in step.payload})


def _wallet_tagged(step: Step) -> None:
    wallet, named = _wallet(step), set(step.signed_texts("tags"))
    if step.method == "PUT":
        step.expect({"added": sorted(named - wallet.tags), "removed": []})
        after = wallet.tags | named
    else:
        step.expect({"added": [], "removed": sorted(named & wallet.tags)})
        after = wallet.tags - named
    wallet.tag_states.append((step.number, frozenset(after)))


def _wallet_unfrozen(step: Step) -> None:
    _wallet(step)
    step.expect({"reason": step.signed("reason")})


def _about_organization(step: Step) -> None:
    if step.subject != step.history.org:
        raise RecordBroken("is about the organization", field="record.subject")


def _asset_unfrozen(step: Step) -> None:
    _about_organization(step)
    step.expect({name: step.signed(name) for name in ("network", "asset", "reason")})


def _config_applied(step: Step) -> None:
    _about_organization(step)
    settings = step.payload.get("moneySettings")
    if not isinstance(settings, dict):
        raise EvidenceBroken("the signed payload lacks the settings", field="evidence.payload.moneySettings")
    step.expect({"moneySettings": settings})
    step.history.money_settings = settings


def _both(suffix: str, method: str, action: str, payload: Mapping[str, Any] | None) -> tuple[Route, Route]:
    return (
        Route(method, f"/auth/users/{{subject}}{suffix}", f"Auth:Users:{action}", payload, machine=False),
        Route(
            method,
            f"/auth/service-accounts/{{subject}}{suffix}",
            f"Auth:ServiceAccounts:{action}",
            payload,
            machine=True,
        ),
    )


_PAT = "/auth/pats/{tokenId}"
_PERMISSION, _POLICY, _WALLET = "/permissions/{subject}", "/v2/policies/{subject}", "/wallets/{subject}"

CHANGES: Mapping[str, tuple[tuple[Route, ...], Callable[[Step], None]]] = {
    records.USER_INVITED: ((Route("POST", "/auth/users", "Auth:Users:Create"),), who.user_invited),
    records.USER_ACTIVATED: (_both("/activate", "PUT", "Activate", {}), who.user_activated),
    records.USER_DEACTIVATED: (_both("/deactivate", "PUT", "Deactivate", None), who.user_switched_off),
    records.USER_DELETED: (_both("", "DELETE", "Delete", {}), who.user_switched_off),
    records.USER_RENAMED: (
        (Route("PUT", "/auth/service-accounts/{subject}", "Auth:ServiceAccounts:Update", machine=True),),
        who.user_renamed,
    ),
    records.SERVICE_ACCOUNT_CREATED: (
        (Route("POST", "/auth/service-accounts", "Auth:ServiceAccounts:Create"),),
        who.service_account_created,
    ),
    records.CREDENTIAL_CREATED: ((Route("POST", "/auth/credentials", None),), who.credential_created),
    records.CREDENTIAL_ACTIVATED: (
        (Route("PUT", "/auth/credentials/activate", None), Route("PUT", _PAT + "/activate", None)),
        who.credential_switched,
    ),
    records.CREDENTIAL_DEACTIVATED: (
        (Route("PUT", "/auth/credentials/deactivate", None), Route("PUT", _PAT + "/deactivate", None)),
        who.credential_switched,
    ),
    records.CREDENTIAL_DELETED: (
        (Route("DELETE", "/auth/credentials/{subject}", None), Route("DELETE", _PAT, None)),
        who.credential_switched,
    ),
    records.PAT_CREATED: ((Route("POST", "/auth/pats", "Auth:Pats:Create"),), who.pat_created),
    records.PAT_RENAMED: ((Route("PUT", "/auth/pats/{subject}", None),), who.pat_renamed),
    records.PERMISSION_CREATED: ((Route("POST", "/permissions", "Permissions:Create"),), who.permission_created),
    records.PERMISSION_UPDATED: ((Route("PUT", _PERMISSION, "Permissions:Update"),), who.permission_updated),
    records.PERMISSION_ARCHIVED: (
        (
            Route("PUT", _PERMISSION + "/archive", "Permissions:Delete", {"isArchived": True}),
            Route("DELETE", _PERMISSION, "Permissions:Delete", {}),
        ),
        who.permission_archived,
    ),
    records.PERMISSION_ASSIGNED: (
        (Route("POST", _PERMISSION + "/assignments", "Permissions:Assign"),),
        who.permission_assigned,
    ),
    records.PERMISSION_REVOKED: (
        (Route("DELETE", _PERMISSION + "/assignments/{assignmentId}", "Permissions:Revoke", {}),),
        who.permission_revoked,
    ),
    records.POLICY_CREATED: ((Route("POST", "/v2/policies", "Policies:Create"),), _policy_written),
    records.POLICY_UPDATED: ((Route("PUT", _POLICY, "Policies:Update"),), _policy_written),
    records.POLICY_ARCHIVED: ((Route("DELETE", _POLICY, "Policies:Delete", {}),), _policy_archived),
    records.WALLET_CREATED: ((Route("POST", "/wallets", "Wallets:Create"),), _wallet_created),
    records.WALLET_RENAMED: ((Route("PUT", _WALLET, "Wallets:Update"),), _wallet_renamed),
    records.WALLET_TAGS_MODIFIED: (
        (
            Route("PUT", _WALLET + "/tags", "Wallets:Tags:Add"),
            Route("DELETE", _WALLET + "/tags", "Wallets:Tags:Remove"),
        ),
        _wallet_tagged,
    ),
    records.WALLET_UNFROZEN: ((Route("PUT", "/v1/wallets/{subject}/unfreeze", "Wallets:Unfreeze"),), _wallet_unfrozen),
    records.ASSET_UNFROZEN: ((Route("PUT", "/v1/assets/unfreeze", "Wallets:Unfreeze"),), _asset_unfrozen),
    records.CONFIG_APPLIED: ((Route("PUT", "/v1/config", "Config:Apply"),), _config_applied),
}
"""Kind -> the calls that may bring it about, and the check that also notes what changed."""

PROVED: Mapping[str, Callable[[Step], None]] = {
    records.GENESIS: who.genesis,
    records.USER_REGISTERED: who.user_registered,
}
"""The same of the kinds without action evidence."""
'''

SOURCES["outlay.evidence.governance"] = r'''"""Governance: which changes of settings wait for people, and how long.

The same rules judge a change when somebody asks for it and when the chain of records is replayed, so whoever owns the
database cannot leave out the people who had to agree. A ``Policies:Modify`` policy is about every edit of the policies
it matches and of itself, and about whatever else could let more through: keys and people that are switched on, wallets
that escape, the money settings. What is not proven tighter loosens; what loosens waits after its quorum too.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outlay.core.approval import Decision, GroupDocument, Person, outcome
from outlay.core.policy import (
    GOVERNING,
    PERMISSIONS_ASSIGN,
    PERMISSIONS_MODIFY,
    POLICIES_MODIFY,
    WALLETS_SIGN,
    AlwaysTrigger,
    Block,
    Policy,
    RequestApproval,
    Velocity,
    governs,
    matches,
)
from outlay.core.seams import HOUR, Instant
from outlay.core.tighter import is_tighter
from outlay.core.velocity import Scope
from outlay.evidence import record as records
from outlay.evidence.canonical import digest

RESTORE_WITHIN: Instant = 72 * HOUR
"""How long after a tightening the rules of before can be had back without waiting."""

DELAY_S = 24 * 3600
"""Seconds a loosening waits where the signed settings do not say."""

VOTE = "Policies:Evaluations:Vote"

_LOOSENING = frozenset({records.USER_ACTIVATED, records.CREDENTIAL_ACTIVATED, records.CONFIG_APPLIED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of settings, as far as governance looks at it."""

    kind: str  #: of the record it leads to
    subject: str
    before: Any  #: what it replaces, as ``content`` shows it
    after: Mapping[str, Any]  #: the record's body
    policy_before: Policy | None = None
    policy_after: Policy | None = None
    tags_before: Collection[str] = ()
    tags_after: Collection[str] = ()
    wallets: Mapping[str, Collection[str]] = field(default_factory=dict)  #: of a new wallet: all there are, with tags
    operations: Collection[str] = ()  #: of an assignment: what it gives
    restores: bool = False  #: see ``is_restored``


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What the governing policies say about a change."""

    holding: tuple[Policy, ...] = ()  #: whose groups must agree
    blocking: tuple[Policy, ...] = ()
    loosens: bool = False


def judge_change(change: Change, policies: Collection[Policy], *, default: str) -> Ruling:
    """Return which governing policies a change meets and whether it loosens.

    Args:
        change: what is about to be recorded.
        policies: every active policy.
        default: what happens to a payout that no policy matches: allow or block.
    """
    governing, loosens = _governing(change, policies, default)
    return Ruling(
        holding=tuple(each for each in governing if isinstance(each.action, RequestApproval)),
        blocking=tuple(each for each in governing if isinstance(each.action, Block)),
        loosens=loosens,
    )


def _governing(change: Change, policies: Collection[Policy], default: str) -> tuple[list[Policy], bool]:
    guards = [each for each in policies if each.activity_kind == POLICIES_MODIFY]
    kind, subject = change.kind, change.subject
    if kind in (records.POLICY_UPDATED, records.POLICY_ARCHIVED):
        # A guard that does not name itself would guard nothing: it could be edited away first.
        found = [each for each in guards if each.id == subject or governs(each, policy_id=subject)]
        return found, not change.restores and not _is_policy_tighter(change, default)
    if kind == records.POLICY_CREATED:
        if change.policy_after is None or change.policy_after.activity_kind in GOVERNING:
            return guards, False  # it lets nothing through, but its groups could stop everything for good
        return (guards, True) if default == "block" and _opens(change.policy_after) else ([], False)
    if kind in _LOOSENING:
        return guards, True
    if kind == records.WALLET_CREATED:
        return (guards, True) if _is_uncovered(change, guards, policies, default) else ([], False)
    if kind == records.WALLET_TAGS_MODIFIED:
        return _escaped(change, guards, policies, default), True
    about = _PERMISSION_KINDS.get(kind)
    if about is None:
        return [], False
    found = [each for each in policies if each.activity_kind == about and governs(each, permission_id=subject)]
    return [*found, *(guards if _makes_voters(change) else ())], _is_permission_wider(change)


_PERMISSION_KINDS = {
    records.PERMISSION_UPDATED: PERMISSIONS_MODIFY,
    records.PERMISSION_ARCHIVED: PERMISSIONS_MODIFY,
    records.PERMISSION_ASSIGNED: PERMISSIONS_ASSIGN,
    records.PERMISSION_REVOKED: PERMISSIONS_ASSIGN,
}


def _is_policy_tighter(change: Change, default: str) -> bool:
    before, after = change.policy_before, change.policy_after
    return before is not None and after is not None and is_tighter(before, after, default=default)


def _opens(policy: Policy) -> bool:
    """Tell whether a policy that is added can let something through where the default is to block."""
    return not (isinstance(policy.rule, AlwaysTrigger) and isinstance(policy.action, Block))


def _makes_voters(change: Change) -> bool:
    """Tell whether a change lets more people decide: then those who can must agree."""
    if change.kind == records.PERMISSION_ASSIGNED:
        return VOTE in change.operations
    return change.kind == records.PERMISSION_UPDATED and VOTE in set(change.after["operations"]) - set(
        change.before["operations"]
    )


def must_ask(policies: Collection[Policy], permission_id: str, operations: Collection[str]) -> bool:
    """Tell whether giving a permission with ``operations`` is for people to agree to, or blocked."""
    return any(
        (each.activity_kind == PERMISSIONS_ASSIGN and governs(each, permission_id=permission_id))
        or (each.activity_kind == POLICIES_MODIFY and VOTE in operations)
        for each in policies
    )


def _is_permission_wider(change: Change) -> bool:
    if change.kind == records.PERMISSION_UPDATED:
        return not set(change.after["operations"]) <= set(change.before["operations"])
    return change.kind == records.PERMISSION_ASSIGNED


def _guarded(guards: Collection[Policy], policies: Collection[Policy]) -> list[Policy]:
    """Return the policies about payouts that somebody guards."""
    return [
        each
        for each in policies
        if each.activity_kind == WALLETS_SIGN and any(governs(guard, policy_id=each.id) for guard in guards)
    ]


def _is_uncovered(change: Change, guards: list[Policy], policies: Collection[Policy], default: str) -> bool:
    """Tell whether a new wallet escapes what the others are under, or gets a cap of its own beside theirs.

    It does not where it is under every guarded policy, or under all that some other wallet is under.
    """
    guarded = _guarded(guards, policies)
    over = [each for each in guarded if matches(each, change.subject, change.tags_after)]
    if any(isinstance(each.rule, Velocity) and each.rule.scope is Scope.WALLET for each in over):
        return True
    if default != "allow" and not any(matches(each, change.subject, change.tags_after) for each in policies):
        return False  # it cannot pay
    known = [{each.id for each in guarded if matches(each, key, tags)} for key, tags in change.wallets.items()]
    mine = {each.id for each in over}
    return not any(theirs <= mine for theirs in [{each.id for each in guarded}, *known])


def _escaped(change: Change, guards: list[Policy], policies: Collection[Policy], default: str) -> list[Policy]:
    """Return the guards of what a wallet escapes by its new tags."""

    def under(each: Policy, tags: Collection[str]) -> bool:
        return matches(each, change.subject, tags)

    pays = default == "allow" or any(under(each, change.tags_after) for each in policies)
    paid = default == "allow" or any(under(each, change.tags_before) for each in policies)
    if not pays:
        return []
    if not paid:
        return guards
    lost = [
        each
        for each in policies
        if each.activity_kind == WALLETS_SIGN and under(each, change.tags_before) and not under(each, change.tags_after)
    ]
    return [guard for guard in guards if any(governs(guard, policy_id=each.id) for each in lost)]


def is_restored(versions: Sequence[tuple[Instant, Policy | None]], wanted: Policy | None, *, now: Instant) -> bool:
    """Tell whether a change only takes back what was tightened within the last 72 hours.

    Args:
        versions: what the policy has said so far, oldest first, each with its instant; None: it was not in force.
        wanted: what it shall say; None: it shall not be in force.
        now: the current instant.
    """
    steps = [(0, None), *versions]
    for (_, before), (at, after) in zip(reversed(steps[:-1]), reversed(steps[1:]), strict=True):
        was_tightened = before is None or (after is not None and is_tighter(before, after))
        if not was_tightened or at < now - RESTORE_WITHIN:
            return False
        if _says_the_same(before, wanted):
            return True
    return False


def _says_the_same(left: Policy | None, right: Policy | None) -> bool:
    if left is None or right is None:
        return left is right
    return (left.activity_kind, left.rule, left.action, left.filters) == (
        right.activity_kind,
        right.rule,
        right.action,
        right.filters,
    )


def content(*, org: str, change_id: str, requester: str, change: Change, loosens: bool) -> dict[str, Any]:
    """Return what people sign when they decide about a change: who wants what to become what."""
    return {
        "v": 1,
        "org": org,
        "change": change_id,
        "requester": requester,
        "kind": change.kind,
        "subject": change.subject,
        "before": change.before,
        "after": dict(change.after),
        "loosens": loosens,
    }


def agreed_at(
    groups: Sequence[GroupDocument],
    decisions: Sequence[tuple[Decision, Instant]],
    *,
    people: Mapping[str, Person],
    initiator_id: str,
) -> Instant | None:
    """Return when the quorum that holds now was reached, or None while it is not, or somebody denies.

    Args:
        groups: the groups that must agree.
        decisions: oldest first, each with its instant.
        people: as they are now.
        initiator_id: who asked for the change.
    """
    said = [decision for decision, _ in decisions]
    if outcome(groups, said, people=people, initiator_id=initiator_id) != "Approved":
        return None
    for count, (_, at) in enumerate(decisions, start=1):
        if outcome(groups, said[:count], people=people, initiator_id=initiator_id) == "Approved":
            return at
    return None


def delay_of(money_settings: Mapping[str, Any]) -> int:
    """Return how many seconds a loosening waits under these signed settings."""
    governance = money_settings.get("governance")
    found = governance.get("looseningDelay") if isinstance(governance, Mapping) else None
    return found if type(found) is int and found >= 0 else DELAY_S


def groups_digest(groups: Sequence[GroupDocument]) -> str:
    """Return the digest that a decision about these groups signs."""
    return digest([dict(each) for each in groups])
'''

SOURCES["outlay.evidence.history"] = r'''"""The walk from the root fingerprint to any signature: root, registration, credential, assertion.

``verify_history`` replays the chain of records. Every record after the genesis record must be signed, over exactly the
head it follows, by a key that the records before it introduced and somebody vouched for, and by somebody who was
permitted the signed call; that call must be the one that brings the record's kind about, and the body must follow from
it (``changes``). So a database re-signed with new keys fails, and so does a record that was added, dropped, moved or
changed, the newest one included.
"""

from collections.abc import Iterable
from typing import Any

from outlay.core.errors import InvalidInput
from outlay.evidence.bundle import EvidenceBroken, verify_evidence
from outlay.evidence.changes import CHANGES, PROVED, check_route
from outlay.evidence.record import RecordBroken, check_instant, check_order, follow_chain
from outlay.evidence.requests import MADE, REQUESTS, check_agreed, follow_policy
from outlay.evidence.state import History, KnownCredential
from outlay.evidence.step import Step

__all__ = ["History", "KnownCredential", "verify_history"]


def verify_history(documents: Iterable[dict[str, Any]], root: str) -> History:
    """Replay the records and return what they say.

    Args:
        documents: all records in order, as ``read_canonical`` returned them.
        root: hex hash of the genesis record, from outside of the database.

    Raises:
        RecordBroken: as ``verify_chain``, or a body does not fit its kind or its evidence.
        EvidenceBroken: a record's evidence does not verify, is of another call, or was made by a key that could not
            sign or by somebody who was not permitted the call.
    """
    history: History | None = None
    for document, digest in follow_chain(documents, root):
        history = history or History(org=document["org"])
        number = document["seq"]
        try:
            check_order(document["at"], history.latest)
            _replay(history, document, digest)
        except (RecordBroken, EvidenceBroken) as error:
            raise type(error)(f"record {number}: {error.message}", field=error.field) from error
        except InvalidInput as error:
            raise RecordBroken(f"record {number}: {error.message}", field=error.field) from error
        history.numbers[digest] = number
        history.instants.append(document["at"])
        history.latest = max(history.latest, document["at"])
        history.note_settings(number)
        history.head = digest
    assert history is not None, "follow_chain refuses an empty chain"
    return history


def _replay(history: History, document: dict[str, Any], digest: str) -> None:
    kind, number, evidence = document["kind"], document["seq"], document["evidence"]
    named: dict[str, Any] = {
        "history": history,
        "kind": kind,
        "number": number,
        "at": document["at"],
        "digest": digest,
        "subject": document["subject"],
        "body": document["body"],
    }
    proved = PROVED.get(kind) or MADE.get(kind)
    if proved is not None:
        proved(Step(**named, payload={}))
        return
    preimage = verify_evidence(evidence)
    if preimage.records_head != document["prev"]:
        raise EvidenceBroken("signed over another head of the records", field="evidence.preimage.recordsHead")
    check_instant(document["at"], preimage.issued, preimage.expires)
    signer = history.signer(evidence, preimage)
    history.check_policy_set(evidence["policySet"], number - 1)
    payload = evidence["payload"]
    if not isinstance(payload, dict):
        raise EvidenceBroken("the payload is not an object", field="evidence.payload")
    step = Step(**named, payload=payload, method=preimage.method, path=preimage.path, signer=signer, preimage=preimage)
    if kind in REQUESTS:
        REQUESTS[kind](step)
        return
    check_route(step, preimage)
    check_agreed(step)
    CHANGES[kind][1](step)
    follow_policy(step)
'''

SOURCES["outlay.evidence.identities"] = r'''"""The kinds of records about people, service accounts, their keys, and what they are permitted."""

from collections.abc import Mapping
from typing import Any

from outlay.core import ids
from outlay.core.operation import ALIASES
from outlay.core.personal_token import token_life
from outlay.core.policy_document import parse_policy, stored_document
from outlay.evidence import record as records
from outlay.evidence.assertion import KEY, Credential
from outlay.evidence.bundle import EvidenceBroken, verify_new_key, verify_registration
from outlay.evidence.keys import fingerprint
from outlay.evidence.record import RecordBroken, check_instant
from outlay.evidence.shape import check_digest, check_texts, members
from outlay.evidence.state import Grant, Identity, KnownCredential, KnownPolicy, Permission, PolicyVersion
from outlay.evidence.step import Step, fresh

_KEY_MEMBERS = dict.fromkeys(("credentialUuid", "credentialId", "publicKey"), str)

# People and service accounts


def _identity(step: Step) -> Identity:
    identity = step.history.identities.get(step.subject)
    if identity is None or identity.is_deleted:
        raise RecordBroken("names nobody there is", field="record.subject")
    return identity


def _introduce(step: Step, user_id: str, key: Mapping[str, Any], *, vouched: bool) -> KnownCredential:
    """Add a key to those that can sign."""
    history, identity = step.history, step.history.identities[user_id]
    given = members({name: key[name] for name in _KEY_MEMBERS if name in key}, "record.body", _KEY_MEMBERS)
    uuid = fresh(given["credentialUuid"], ids.CREDENTIAL, history.credentials, "record.body.credentialUuid")
    if not given["credentialId"] or given["credentialId"] in history.names:
        raise RecordBroken("is taken: another key has this name", field="record.body.credentialId")
    thumbprint = fingerprint(given["publicKey"])
    if thumbprint in history.fingerprints:
        raise RecordBroken("belongs to an identity already: one key, one identity", field="record.body.publicKey")
    known = KnownCredential(
        credential=Credential(
            uuid=uuid,
            credential_id=given["credentialId"],
            user_id=user_id,
            kind=KEY,
            public_key=given["publicKey"],
        ),
        record=step.digest,
        fingerprint=thumbprint,
        vouched_since=step.number if vouched else None,
        user_states=identity.states,
    )
    history.credentials[uuid] = known
    history.names.add(given["credentialId"])
    history.fingerprints.add(known.fingerprint)
    identity.keys.append(known)
    return known


def genesis(step: Step) -> None:
    """Found the organization. The root is pinned, so only what later records build upon is read."""
    history = step.history
    shape = {"admin": dict, "permission": dict, "policies": list, "preset": str, "moneySettings": dict}
    body = members(step.body, "record.body", shape)
    texts = dict.fromkeys(("userId", "username", "fingerprint"), str)
    admin = members(body["admin"], "record.body.admin", {**texts, **_KEY_MEMBERS})
    first = members(body["permission"], "record.body.permission", {"id": str, "name": str, "operations": list})
    if step.subject != history.org:
        raise RecordBroken("the first record is about the organization", field="record.subject")
    history.identities[fresh(admin["userId"], ids.USER, (), "record.body.admin.userId")] = Identity(is_machine=False)
    if _introduce(step, admin["userId"], admin, vouched=True).fingerprint != admin["fingerprint"]:
        raise RecordBroken("is of another key", field="record.body.admin.fingerprint")
    permission_id = fresh(first["id"], ids.PERMISSION, (), "record.body.permission.id")
    check_texts(first["operations"], "record.body.permission.operations")
    operations = [(0, frozenset(first["operations"]))]
    history.permissions[permission_id] = Permission(first["name"], operations, is_immutable=True)
    history.give(None, Grant(permission_id, admin["userId"], since=0))
    for at, document in enumerate(body["policies"]):
        field = f"record.body.policies[{at}]"
        if not isinstance(document, dict):
            raise RecordBroken("is not a policy", field=field)
        policy_id = fresh(document.get("id"), ids.POLICY, history.policies, f"{field}.id")
        bare = {name: value for name, value in document.items() if name != "id"}
        policy = parse_policy(bare, id=policy_id, version=1, allow_empty=True)
        history.policies[policy_id] = KnownPolicy([PolicyVersion(0, step.at, 1, stored_document(policy))])
    history.note_policies(0)
    history.money_settings = body["moneySettings"]


def user_invited(step: Step) -> None:
    """A person is invited; a key that the invitation names is vouched for."""
    step.new_subject(ids.USER, step.history.identities)
    code, expires = step.made("code"), step.made("expires")
    check_digest(code, "record.body.code")
    if type(expires) is not int or expires <= step.at:
        raise RecordBroken("is not an instant to come", field="record.body.expires")
    public_key = step.payload.get("publicKey")
    if public_key is not None:
        fingerprint(step.signed("publicKey"))
    step.expect({"username": step.signed("email"), "publicKey": public_key, "code": code, "expires": expires})
    step.history.identities[step.subject] = Identity(is_machine=False)
    step.history.invitations[step.digest] = {**step.body, "userId": step.subject}


def user_registered(step: Step) -> None:
    """Take up an invitation: proved by the invitation and the new key, signed by nobody else."""
    history, body, identity = step.history, step.body, _identity(step)
    preimage, credential_id, public_key = verify_registration(body.get("preimage"), body.get("attestation"))
    check_instant(step.at, preimage.issued, preimage.expires)
    if preimage.org != history.org or preimage.user_id != step.subject or not identity.is_active:
        raise EvidenceBroken("the registration is of somebody else", field="record.body.preimage")
    invitation = history.invitations.pop(preimage.invitation, None)
    if invitation is None or invitation["userId"] != step.subject or preimage.issued >= invitation["expires"]:
        raise EvidenceBroken("there is no such open invitation", field="record.body.preimage")
    step.expect(
        {
            "username": invitation["username"],
            "credentialUuid": step.made("credentialUuid"),
            "credentialId": credential_id,
            "publicKey": public_key,
            "fingerprint": fingerprint(public_key),
            "preimage": body["preimage"],
            "attestation": body["attestation"],
        }
    )
    named = invitation["publicKey"]
    if named is not None and fingerprint(named) != fingerprint(public_key):
        raise RecordBroken("the invitation names another key", field="record.body.publicKey")
    # While changes wait for people, naming a key in an invitation would be a way around them.
    _introduce(step, step.subject, body, vouched=named is not None and not history.is_governed)


def user_activated(step: Step) -> None:
    """An identity is switched on, and the keys on record are vouched for."""
    identity = _identity(step)
    keys = [key for key in identity.keys if not key.is_deleted]
    # The signature covers the records, and so exactly these keys.
    step.expect({"fingerprints": sorted(key.fingerprint for key in keys)})
    identity.states.append((step.number, True))
    for key in keys:
        if key.vouched_since is None:
            key.vouched_since = step.number


def user_switched_off(step: Step) -> None:
    """An identity is deactivated or deleted."""
    identity = _identity(step)
    step.expect({})
    if step.by.credential.user_id == step.subject:
        raise EvidenceBroken("nobody can switch themselves off", field="evidence.credential")
    if step.kind == records.USER_DEACTIVATED and step.payload != {}:
        force = step.payload.get("force")
        if not identity.is_machine or not isinstance(force, bool):
            raise EvidenceBroken("the call signed takes no body but force", field="evidence.payload")
        step.expect_payload({"force": force})
    identity.states.append((step.number, False))
    if step.kind == records.USER_DELETED:
        identity.is_deleted = True
        for key in identity.keys:
            if not key.is_deleted:  # another key may have its name by now
                step.history.forget(key)


def user_renamed(step: Step) -> None:
    """A service account gets another name."""
    _identity(step)
    _expect_name(step)


def _expect_name(step: Step) -> None:
    name, external_id = step.payload.get("name"), step.payload.get("externalId")
    if name is None and external_id is None:
        raise EvidenceBroken("the call signed changes nothing", field="evidence.payload")
    step.expect({"name": name, "externalId": external_id})


def service_account_created(step: Step) -> None:
    """A machine identity is made, with one key and perhaps a permission."""
    history, body = step.history, step.body
    user_id = step.new_subject(ids.USER, history.identities)
    permission_id, assignment_id = step.payload.get("permissionId"), step.made("assignmentId")
    if history.identities[step.by.credential.user_id].is_machine:
        raise EvidenceBroken("a service account cannot create service accounts", field="evidence.credential")
    step.expect(
        {
            "name": step.signed("name"),
            "credentialUuid": step.made("credentialUuid"),
            "credentialId": step.made("credentialId"),
            "publicKey": step.signed("publicKey"),
            "permissionId": permission_id,
            "assignmentId": assignment_id,
        }
    )
    if (permission_id is None) != (assignment_id is None):
        raise RecordBroken("a permission is given by an assignment", field="record.body.assignmentId")
    states = [(step.number, False)] if history.is_governed else []
    history.identities[user_id] = Identity(is_machine=True, states=states)
    _introduce(step, user_id, body, vouched=True)
    if permission_id is not None:
        step.require(["Permissions:Assign"])
        _give(step, permission_id, user_id)


# Credentials


def credential_created(step: Step) -> None:
    """Somebody adds a key of their own: signed by a key they have, and proved by the new one."""
    history, user_id = step.history, step.by.credential.user_id
    preimage, credential_id, public_key = verify_new_key(step.body.get("preimage"), step.payload.get("credentialInfo"))
    check_instant(step.at, preimage.issued, preimage.expires)
    if preimage.org != history.org or preimage.user_id != user_id:
        raise EvidenceBroken("the new key proved itself to somebody else", field="record.body.preimage")
    if preimage.nonce in history.attested:
        raise EvidenceBroken("the challenge of the new key was used before", field="record.body.preimage")
    step.expect(
        {
            "credentialUuid": step.subject,
            "credentialId": credential_id,
            "publicKey": public_key,
            "preimage": step.body["preimage"],
        }
    )
    history.attested.add(preimage.nonce)
    _start(step, _introduce(step, user_id, step.body, vouched=True))


def _start(step: Step, known: KnownCredential) -> None:
    """While changes wait for people, a new key is switched off until its activation was agreed to."""
    if step.history.is_governed:
        known.key_states.append((step.number, False))


def credential_switched(step: Step) -> None:
    """Somebody activates, deactivates or deletes a key of their own, or of a personal access token of theirs."""
    named = step.history.credentials.get(step.subject)
    if named is None or named.is_deleted or named.credential.user_id != step.by.credential.user_id:
        raise RecordBroken("names no credential of the signer", field="record.subject")
    token = {} if named.token_id is None else {"tokenId": named.token_id}
    step.expect({"credentialUuid": step.subject, **token})
    in_path = step.kind == records.CREDENTIAL_DELETED or bool(token)
    step.expect_payload({} if in_path else {"credentialUuid": step.subject})
    if step.kind != records.CREDENTIAL_ACTIVATED and step.by is named:
        raise EvidenceBroken("a key does not withdraw itself", field="evidence.credential")
    named.key_states.append((step.number, step.kind == records.CREDENTIAL_ACTIVATED))
    if step.kind == records.CREDENTIAL_DELETED:
        step.history.forget(named)


# Personal access tokens


def pat_created(step: Step) -> None:
    """A person makes a token, with a key that may do no more than they may."""
    history, user_id = step.history, step.by.credential.user_id
    token_id, permission_id = step.new_subject(ids.TOKEN, history.tokens), step.payload.get("permissionId")
    if history.identities[user_id].is_machine:
        raise EvidenceBroken("a service account has a token of its own", field="evidence.credential")
    days, seconds = (_whole(step, name) for name in ("daysValid", "secondsValid"))
    expires = step.at + token_life(days, seconds)
    step.expect(
        {
            "name": step.signed("name"),
            "credentialUuid": step.made("credentialUuid"),
            "credentialId": step.made("credentialId"),
            "publicKey": step.signed("publicKey"),
            "permissionId": permission_id,
            "expires": expires,
        }
    )
    if permission_id is not None:
        _permission(step, permission_id)
    known = _introduce(step, user_id, step.body, vouched=True)
    known.token_id, known.limit, known.expires = token_id, permission_id, expires
    history.tokens[token_id] = known
    _start(step, known)


def _whole(step: Step, name: str) -> int | None:
    value = step.payload.get(name)
    if value is not None and type(value) is not int:
        raise EvidenceBroken("the signed payload holds no whole number", field=f"evidence.payload.{name}")
    return value


def pat_renamed(step: Step) -> None:
    """A token gets another name."""
    known = step.history.tokens.get(step.subject)
    if known is None or known.is_deleted or known.credential.user_id != step.by.credential.user_id:
        raise RecordBroken("names no token of the signer", field="record.subject")
    _expect_name(step)


# Permissions


def _permission(step: Step, permission_id: object) -> Permission:
    permission = step.history.permissions.get(str(permission_id))
    if permission is None or permission.is_archived:
        raise RecordBroken("names no permission there is", field="record.subject")
    return permission


def _changeable(step: Step) -> Permission:
    permission = _permission(step, step.subject)
    if permission.is_immutable:
        raise RecordBroken("names the permission that cannot be changed", field="record.subject")
    return permission


def _operations(step: Step) -> list[str]:
    return sorted({ALIASES.get(name, name) for name in step.signed_texts("operations")})


def permission_created(step: Step) -> None:
    """A set of operations is named."""
    permission_id, operations = step.new_subject(ids.PERMISSION, step.history.permissions), _operations(step)
    step.expect({"name": step.signed("name"), "operations": operations})
    step.require(operations)  # nobody can give what they do not hold
    step.history.permissions[permission_id] = Permission(step.body["name"], [(step.number, frozenset(operations))])


def permission_updated(step: Step) -> None:
    """A permission is renamed or its operations are replaced."""
    permission, name = _changeable(step), step.payload.get("name")
    held = sorted(permission.operations[-1][1])
    operations = held if step.payload.get("operations") is None else _operations(step)
    step.expect({"name": permission.name if name is None else name, "operations": operations})
    step.require(operations)
    permission.name = step.body["name"]
    permission.operations.append((step.number, frozenset(operations)))


def permission_archived(step: Step) -> None:
    """A permission is taken out of use."""
    permission = _changeable(step)
    step.expect({})
    permission.is_archived = True
    permission.operations.append((step.number, frozenset()))


def permission_assigned(step: Step) -> None:
    """A permission is given to an identity."""
    identity_id = step.signed("identityId")
    step.expect({"assignmentId": step.made("assignmentId"), "identityId": identity_id})
    _give(step, step.subject, identity_id)


def _give(step: Step, permission_id: str, identity_id: str) -> None:
    permission, history = _permission(step, permission_id), step.history
    step.require(sorted(permission.operations[-1][1]))
    assignment_id = fresh(step.body["assignmentId"], ids.ASSIGNMENT, history.grants, "record.body.assignmentId")
    identity = history.identities.get(identity_id)
    if identity is None or identity.is_deleted:
        raise RecordBroken("names nobody there is", field="record.body.identityId")
    history.give(assignment_id, Grant(permission_id, identity_id, since=step.number))


def permission_revoked(step: Step) -> None:
    """A permission is taken from an identity."""
    grant = step.history.grants.get(str(step.made("assignmentId")))
    if grant is None or grant.until is not None or grant.permission_id != step.subject:
        raise RecordBroken("names no assignment there is", field="record.body.assignmentId")
    step.expect({"assignmentId": step.body["assignmentId"], "identityId": grant.identity_id})
    grant.until = step.number
'''

SOURCES["outlay.evidence.judged"] = r'''"""What can be said offline about one payout under the policies on record.

A rule that looks at one payout alone (always, its value, its amount, its recipient) is judged again; one that looks at
other payouts too cannot be, and neither can a value whose price is not in the signed settings. Those are listed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from outlay.core.asset import NATIVE, Asset
from outlay.core.intent import Intent
from outlay.core.money import value_of
from outlay.core.policy import (
    WALLETS_SIGN,
    AmountLimit,
    Facts,
    NoAction,
    NominalLimit,
    Policy,
    RequestApproval,
    Velocity,
    evaluate,
    matches,
)
from outlay.core.policy_document import read_policy
from outlay.evidence.bundle import EvidenceBroken
from outlay.evidence.history import History
from outlay.evidence.state import KnownWallet


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the policies on record say about one payout, as far as it can be told."""

    value: int | None  #: 10**-8 USD by the signed prices; None: not known
    asking: Mapping[str, str]  #: policies that ask for approval: name by id
    said: tuple[tuple[str, int, str], ...]  #: name, version and answer of each policy that was judged
    unproven: tuple[str, ...]  #: what each policy that could not be judged would have needed


def judge_offline(history: History, wallet: KnownWallet, intent: Intent, *, first: int, newest: int) -> Judged:
    """Judge a payout as of the record that its request saw, and as of the newest.

    Args:
        history: the records up to ``newest``.
        wallet: who pays.
        intent: what is paid.
        first: number of the newest record that the request saw.
        newest: number of the newest record that any signature saw.

    Raises:
        EvidenceBroken: a policy blocks it, or no policy is about it and the default is to block.
    """
    facts = _facts(history, intent, first)
    asking: dict[str, str] = {}
    said: dict[tuple[str, int], tuple[str, int, str]] = {}
    unproven: dict[str, None] = {}
    earlier: set[str] = set()
    for seq in (first, newest):
        tags = wallet.tags_at(seq)
        found = [
            read_policy(each.document, id=policy_id, version=each.version)
            for policy_id, each in sorted(history.policies_at(seq).items())
        ]
        # What was about the payout when it was requested stays so, whatever happens to tags and filters.
        about = [
            each
            for each in found
            if matches(each, intent.wallet, tags) or (each.id in earlier and each.activity_kind == WALLETS_SIGN)
        ]
        if not about and history.settings_at(seq).get("default") != "allow":
            raise EvidenceBroken("no policy is about this wallet, and then the signed settings block", field="payout")
        for policy in about:
            why = _unknown(policy, facts)
            if why is not None:
                unproven[f"what policy {policy.name!r} (version {policy.version}) said: {why}"] = None
                continue
            evaluation = evaluate(policy, facts)
            answer = "does not apply" if not evaluation.triggered else _ANSWERS.get(policy.action.kind, "blocks")
            said[policy.id, policy.version] = (policy.name, policy.version, answer)
            if answer == "blocks":
                raise EvidenceBroken(
                    f"the policy {policy.name!r} blocks this payout: {evaluation.reason}", field="payout"
                )
            if answer == "asks for approval":
                asking[policy.id] = policy.name
        earlier = {each.id for each in about}
    return Judged(value=facts.value, asking=asking, said=tuple(said.values()), unproven=tuple(unproven))


_ANSWERS = {NoAction.kind: "reports only", RequestApproval.kind: "asks for approval"}


def _unknown(policy: Policy, facts: Facts) -> str | None:
    """Return why a policy cannot be judged from one payout alone, or None."""
    if isinstance(policy.rule, Velocity):
        return "it depends on what else was paid in its window"
    if isinstance(policy.rule, AmountLimit) and facts.value is None:
        return "the signed settings give no single price for what was paid"
    if isinstance(policy.rule, NominalLimit) and facts.tid is None:
        return "the signed settings give the asset no single name"
    return None


def _facts(history: History, intent: Intent, first: int) -> Facts:
    """Return what policies look at. What settings that were in force since the request disagree about is not known."""
    amount = int(intent.amount)
    values: set[int | None] = set()
    tids: set[str | None] = set()
    for settings in history.settings_since(first):
        asset = find_asset(settings, intent.network, intent.asset)
        price = None if asset is None else _price(settings, asset.symbol)
        if asset is None or price is None:
            values.add(None)
        else:
            values.add(value_of(amount, decimals=asset.decimals, price=price))
        tids.add(None if asset is None else asset.tid)
    return Facts(
        value=values.pop() if len(values) == 1 else None,
        recipient=intent.recipient,
        network=intent.network,
        tid=tids.pop() if len(tids) == 1 else None,
        amount=amount,
    )


def find_asset(settings: Mapping[str, Any], network: str, key: str) -> Asset | None:
    """Return an asset as money settings list it.

    Args:
        settings: what was signed; whatever is malformed there is not listed.
        network: name of its network.
        key: ``native`` or the contract in lower case.
    """
    networks, tokens = settings.get("networks"), settings.get("assets")
    chain = networks.get(network) if isinstance(networks, dict) else None
    if not isinstance(chain, dict) or not isinstance(tokens, list):
        return None
    if key == NATIVE:
        found = [chain.get("native")]
    else:
        listed = [each for each in tokens if isinstance(each, dict)]
        found = [each for each in listed if (each.get("network"), each.get("contract")) == (network, key)]
    if len(found) != 1 or not isinstance(found[0], dict):
        return None
    symbol, decimals = found[0].get("symbol"), found[0].get("decimals")
    if not isinstance(symbol, str) or type(decimals) is not int or not 0 <= decimals <= 77:
        return None
    kind, contract = ("Native", None) if key == NATIVE else ("Erc20", key)
    return Asset(network=network, kind=kind, contract=contract, symbol=symbol, decimals=decimals)


def _price(settings: Mapping[str, Any], symbol: str) -> Decimal | None:
    prices = settings.get("prices")
    text = prices.get(symbol) if isinstance(prices, dict) else None
    try:
        price = Decimal(text) if isinstance(text, str) else None
    except InvalidOperation:
        return None
    return price if price is not None and price.is_finite() and price > 0 else None
'''

SOURCES["outlay.evidence.keys"] = r'''"""Public and private keys of credentials: which kinds are taken, in which form, and how each one verifies."""

import hashlib
import re
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from outlay.core.errors import InvalidInput

PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_MAX_PEM = 8192
_RSA_BITS = range(2048, 8193)
_BLOCK = re.compile(r"-----BEGIN ((?:RSA )?PUBLIC KEY)-----[A-Za-z0-9+/=\s]+-----END \1-----", re.ASCII)
_FORMS = "PEM with BEGIN PUBLIC KEY (Ed25519, P-256, secp256k1, RSA of 2048 bits or more) or BEGIN RSA PUBLIC KEY"

_ED25519_PRIME = 2**255 - 19
# The y coordinates of the eight points of small order; those of order 8 as RFC 8032 encodes them.
_ED25519_ORDER_8 = tuple(
    int.from_bytes(bytes.fromhex(text), "little")
    for text in (
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
)
_ED25519_SMALL = frozenset({0, 1, _ED25519_PRIME - 1, *_ED25519_ORDER_8})


def load_public_key(pem: str, *, field: str) -> PublicKey:
    """Return the public key in ``pem``.

    Args:
        pem: one block of SPKI or, for RSA, PKCS #1; at most 8,192 characters.
        field: named in the error.

    Raises:
        InvalidInput: another form (OpenSSH, certificate, private key), another kind or curve, RSA below 2,048 bits or
            with an exponent below 65,537, an Ed25519 key of small order.
    """
    try:
        return _public_key(pem)
    except ValueError as error:
        raise InvalidInput(f"{field} is not a usable public key ({error}): send {_FORMS}", field=field) from error


@lru_cache(maxsize=4096)
def _public_key(pem: str) -> PublicKey:
    # Cached because each write verifies its assertion twice, and reading PEM costs about as much as verifying.
    text = pem.strip()
    if len(pem) > _MAX_PEM or _BLOCK.fullmatch(text) is None:
        raise ValueError("not one public PEM block")
    try:
        key = serialization.load_pem_public_key(text.encode("ascii"))
    except UnsupportedAlgorithm as error:
        raise ValueError("unknown kind of key") from error
    if isinstance(key, ed25519.Ed25519PublicKey):
        # With a key of small order one signature fits many messages: it would be evidence of nothing.
        y = int.from_bytes(key.public_bytes_raw(), "little") & (2**255 - 1)
        if y >= _ED25519_PRIME or y in _ED25519_SMALL:
            raise ValueError("an Ed25519 key of small order")
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP256K1):
        return key
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size not in _RSA_BITS or key.public_numbers().e < 65537:
            raise ValueError("RSA weaker than 2048 bits and exponent 65537")
        return key
    raise ValueError("unknown kind of key")


def normal_pem(key: PublicKey) -> str:
    """Return the SPKI PEM text of ``key``: the one form that is stored."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def fingerprint(public_pem: str) -> str:
    """Return the SHA-256 of the key's SPKI DER bytes, in lower-case hex: the same for every spelling of the key.

    Raises:
        InvalidInput: as ``load_public_key``, field ``publicKey``.
    """
    der = load_public_key(public_pem, field="publicKey").public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def load_private_key(pem: str, *, field: str = "privateKey") -> PrivateKey:
    """Return the private key in an unencrypted PEM text.

    Raises:
        InvalidInput: another form, or a kind whose public key ``load_public_key`` refuses.
    """
    try:
        key = serialization.load_pem_private_key(pem.encode("utf-8"), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInput(f"{field} is not an unencrypted private key in PEM", field=field) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise InvalidInput(f"{field} is not Ed25519, P-256, secp256k1 or RSA", field=field)
    load_public_key(normal_pem(key.public_key()), field=field)
    return key


def new_key_pair() -> tuple[str, str]:
    """Return a new Ed25519 key as private and public PEM text (PKCS #8 without encryption, SPKI)."""
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode("ascii"), normal_pem(key.public_key())


def sign_bytes(key: PrivateKey, message: bytes) -> bytes:
    """Return the signature the SDKs make: Ed25519 raw, ECDSA DER over SHA-256, RSA PKCS #1 v1.5 over SHA-256."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(hashes.SHA256()))
    return key.sign(message, padding.PKCS1v15(), hashes.SHA256())


def signature_fits(key: PublicKey, signature: bytes, message: bytes, algorithm: str | None) -> bool:
    """Tell whether ``signature`` over ``message`` verifies.

    Args:
        key: decides the algorithm; the caller never does.
        signature: Ed25519 64 bytes, ECDSA DER, RSA PKCS #1 v1.5.
        message: the exact bytes signed.
        algorithm: what the client stated. None or ``SHA256`` for ECDSA; None, ``SHA256``, ``RSA-SHA256`` or
            ``SHA512`` for RSA; None for Ed25519. Anything else never fits.

    Source: dfns-api.md 2.7.
    """
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            if algorithm is not None:
                return False
            key.verify(signature, message)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            if algorithm not in (None, "SHA256"):
                return False
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        else:
            digest = _RSA_DIGESTS.get(algorithm)
            if digest is None:
                return False
            key.verify(signature, message, padding.PKCS1v15(), digest)
    except InvalidSignature:
        return False
    return True


_RSA_DIGESTS: dict[str | None, hashes.HashAlgorithm] = {
    None: hashes.SHA256(),
    "SHA256": hashes.SHA256(),
    "RSA-SHA256": hashes.SHA256(),
    "SHA512": hashes.SHA512(),
}
'''

SOURCES["outlay.evidence.payout"] = r'''"""The proof of one payout: one file, checked offline from the root fingerprint to the bytes of the transaction.

The file is canonical JSON and holds exactly this:

* ``v``: 1
* ``records``: from the first to the newest whose hash a signature in the file covers
* ``payout``: the signed request; ``decisions``: the signed approvals that counted, in the order of signing
* ``asked``: ``[{policyId, version}]`` by id: the policies whose groups had to agree
* ``transaction``: the signed bytes, ``0x`` and lower-case hex

A signed call in it is ``{v, preimage, payload, assertion}``: its key is looked up in the records. Nothing stands in
the file that a signature, or the hash of a record, does not cover, or that does not follow from what is covered. So no
byte of it is free, except that a quorum with a vote to spare proves the same without it, and that with some kinds of
keys (ECDSA) a second signature over the same content can be made from the first.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outlay.codec.evm import address_of, erc20_transfer, tx_hash
from outlay.codec.signed import SignedTransaction, read_signed
from outlay.core.approval import Decision, Person, outcome, refusal
from outlay.core.asset import NATIVE
from outlay.core.intent import Intent, read_intent
from outlay.core.policy import Policy, RequestApproval, required_groups
from outlay.core.policy_document import read_policy
from outlay.evidence.assertion import FIDO2, Assertion, read_client_data
from outlay.evidence.bundle import EvidenceBroken, credential_document, verify_evidence
from outlay.evidence.canonical import canonical, digest, read_canonical
from outlay.evidence.challenge import Preimage
from outlay.evidence.history import History, KnownCredential, verify_history
from outlay.evidence.judged import Judged, find_asset, judge_offline
from outlay.evidence.record import record_hash
from outlay.evidence.report import Approval, Party, ProofBroken, Report, Trail, Unit
from outlay.evidence.shape import is_digest, members
from outlay.evidence.state import KnownWallet

VERSION = 1

REQUEST, VOTE = "Wallets:Transfers:Create", "Policies:Evaluations:Vote"
"""What the requester and those who decide must be permitted."""

_REQUEST_PATH = re.compile(r"/wallets/([^/]+)/transfers")
_DECISION_PATH = re.compile(r"/v2/policy-approvals/([^/]+)/decisions")
_RAW = re.compile(r"0x(?:[0-9a-f]{2})+")
_CALL = {"v": int, "preimage": dict, "payload": dict, "assertion": dict}
_OTHER_ALGORITHM = "SHA512"  # the only one that no kind of key takes for granted


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signed call that verified."""

    preimage: Preimage
    payload: dict[str, Any]
    key: KnownCredential
    seq: int  #: number of the newest record its signer saw

    @property
    def user_id(self) -> str:
        """Who signed."""
        return self.key.credential.user_id


def portable(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored evidence as a proof holds it: what was signed, and nothing that nobody signed."""
    assertion = dict(evidence["assertion"]["credentialAssertion"])
    assertion.pop("userHandle", None)
    if assertion.get("algorithm") != _OTHER_ALGORITHM:
        assertion.pop("algorithm", None)
    return {
        "v": evidence["v"],
        "preimage": evidence["preimage"],
        "payload": evidence["payload"],
        "assertion": {"kind": evidence["assertion"]["kind"], "credentialAssertion": assertion},
    }


def order(signed: Mapping[str, Any]) -> tuple[int, str]:
    """Return what the decisions of a proof are sorted by: when their challenges were made."""
    return signed["preimage"]["issued"], signed["preimage"]["nonce"]


def verify_payout(data: bytes, root: str) -> Report:
    """Check a proof; every step is named in the report, or in the error.

    Args:
        data: the file.
        root: hex hash of the first record, from somewhere else than the file.

    Raises:
        ProofBroken: the first step that does not hold.
    """
    trail = Trail()
    with trail.step("file", "one proof in its only spelling"):
        given = _read(data)
    with trail.step("root", "the first record is the root you named"):
        _check_root(given["records"], root)
    with trail.step("records", f"{len(given['records'])} records, each signed by who was entitled to it"):
        history = verify_history(given["records"], root)
        _check_window(given, history)
    newest = len(given["records"]) - 1
    with trail.step("requester", "the request was signed by a key on record, of somebody permitted to request payouts"):
        request = open_signature(history, given["payout"], "payout")
        _require(history, request, REQUEST)
    with trail.step("request", "it is about a wallet on record, and says what is to be paid"):
        wallet, intent = _read_request(history, request)
    with trail.step("policies", "no policy that looks at it alone blocks it, and those that ask were asked"):
        asset = find_asset(history.settings_at(newest), intent.network, intent.asset)
        if asset is None:
            raise EvidenceBroken("the signed settings do not list this asset", field="payout.payload")
        judged = judge_offline(history, wallet, intent, first=request.seq, newest=newest)
        asked = _read_asked(history, given["asked"], request.seq)
        _check_asked(judged, asked)
    with trail.step("decisions", f"approvals: {len(given['decisions'])}, each of this payout and by somebody entitled"):
        groups = required_groups(asked)
        people, decisions = _read_decisions(history, given["decisions"], request, digest(intent.document()), groups)
    with trail.step("quorum", "every group that was asked agreed"):
        said = [Decision(each.user_id, "Approved") for each in decisions]
        if groups and outcome(groups, said, people=people, initiator_id=request.user_id) != "Approved":
            raise EvidenceBroken("a group that was asked did not reach its quorum", field="decisions")
    with trail.step("still there", "who asked was not switched off, nor their key, up to the newest record"):
        if not request.key.usable_at(newest):
            raise EvidenceBroken("who asked, or the key they asked with, was switched off since", field="payout")
    with trail.step("transaction", "the wallet's key signed exactly this payment, for this chain"):
        signed, raw = _read_transaction(history, given["transaction"], wallet, intent)
    names = names_of(given["records"])
    return Report(
        steps=tuple(trail.done),
        root=root,
        org=history.org,
        newest=newest,
        newest_at=history.instants[newest],
        head=history.head,
        requester=_party(names, request),
        intent=intent,
        wallet_address=wallet.address,
        unit=Unit(symbol=asset.symbol, decimals=asset.decimals),
        value=judged.value,
        judged=judged.said,
        approvals=tuple(Approval(by=_party(names, each), reason=each.payload.get("reason")) for each in decisions),
        asked=tuple((each.id, each.name, each.version) for each in asked),
        tx_hash=tx_hash(raw),
        nonce=signed.transaction.nonce,
        fee_max=signed.transaction.gas_limit * signed.transaction.max_fee_per_gas,
        unproven=judged.unproven,
    )


# The file and the records


def _read(data: bytes) -> dict[str, Any]:
    document = read_canonical(data, field="file")
    shape = {"v": int, "records": list, "payout": dict, "asked": list, "decisions": list, "transaction": str}
    given = members(document, "file", shape)
    if given["v"] != VERSION:
        raise EvidenceBroken(f"version {given['v']} of proofs is not known here: get a newer verifier", field="file.v")
    for at, each in enumerate(given["records"]):
        if not isinstance(each, dict):
            raise EvidenceBroken("is not a record", field=f"records[{at}]")
    return given


def _check_root(records: Sequence[dict[str, Any]], root: str) -> None:
    if not is_digest(root):
        raise EvidenceBroken(
            "a root fingerprint is 64 lower-case hex digits, as outlay init printed them", field="root"
        )
    if not records or record_hash(records[0]) != root:
        raise EvidenceBroken(
            "the first record is another one: this is the proof of another organization, or one made to look like"
            " yours; check the fingerprint",
            field="root",
        )


def _check_window(given: Mapping[str, Any], history: History) -> None:
    """The newest record must be the newest that a signature covers: no record hangs at the end unsigned."""
    seen = set()
    for at, call in enumerate([given["payout"], *given["decisions"]]):
        field = f"decisions[{at - 1}]" if at else "payout"
        preimage = Preimage.from_document(members(call, field, _CALL)["preimage"])
        if preimage.records_head not in history.numbers:
            raise EvidenceBroken(
                "was signed over records that the file does not hold: they were cut off or belong to another"
                " organization",
                field=field,
            )
        seen.add(preimage.records_head)
    if history.head not in seen:
        raise EvidenceBroken("the newest record is covered by no signature in the file", field="records")


# Signatures


def open_signature(history: History, document: object, field: str) -> Signature:
    """Return a signed call of the proof, if a key of the records made it.

    Raises:
        InvalidInput: it is malformed, was not signed, or by a key that could not sign then.
    """
    given = members(document, field, _CALL)
    preimage = Preimage.from_document(given["preimage"])
    assertion = Assertion.from_document(given["assertion"])
    if canonical(portable({**given, "assertion": assertion.document()})) != canonical(given):
        raise EvidenceBroken("holds what is not signed, or another spelling", field=f"{field}.assertion")
    offered = [history.credentials[uuid] for uuid in preimage.credentials if uuid in history.credentials]
    known = next((each for each in offered if each.credential.credential_id == assertion.cred_id), None)
    if known is None:
        raise EvidenceBroken("was signed by a key that the records do not know", field=field)
    whole = {
        **given,
        "credential": credential_document(known.credential, known.record),
        "origins": _origins(assertion),
        "policySet": "",
    }
    try:
        verify_evidence(whole)
        history.signer(whole, preimage)
    except EvidenceBroken as error:
        raise EvidenceBroken(error.message, field=f"{field}: {error.field}") from error
    seq = history.numbers[preimage.records_head]
    return Signature(preimage=preimage, payload=given["payload"], key=known, seq=seq)


def _origins(assertion: Assertion) -> list[str]:
    """Return the origin a passkey was used from; that it belongs to the relying party is proved by the passkey."""
    origin = read_client_data(assertion.client_data).get("origin") if assertion.kind == FIDO2 else None
    return [origin] if isinstance(origin, str) else []


def _require(history: History, signature: Signature, operation: str) -> None:
    if not history.key_may(signature.key, operation, signature.seq):
        raise EvidenceBroken(f"{signature.user_id} was not permitted {operation} when signing", field="credential")


# The request


def _read_request(history: History, request: Signature) -> tuple[KnownWallet, Intent]:
    path = _REQUEST_PATH.fullmatch(request.preimage.path)
    if request.preimage.method != "POST" or path is None:
        raise EvidenceBroken("what was signed is not a request of a payout", field="payout.preimage.path")
    wallet = history.wallets.get(path.group(1))
    if wallet is None:
        raise EvidenceBroken("the records know no such wallet", field="payout.preimage.path")
    stated = {
        name: value
        for name, value in request.payload.items()
        if value is not None or name not in ("externalId", "priority")
    }
    is_token = stated.get("kind") == "Erc20"
    texts: dict[str, type] = dict.fromkeys(("kind", "to", "amount", *(["contract"] if is_token else [])), str)
    given = members(stated, "payout.payload", texts, {"externalId": str, "priority": str})
    if not is_token and given["kind"] != "Native":
        raise EvidenceBroken("pays in a way that is not known here", field="payout.payload.kind")
    intent = read_intent(
        org=history.org,
        initiator=request.user_id,
        wallet=path.group(1),
        network=wallet.network,
        chain_id=wallet.chain_id,
        contract=given.get("contract"),
        to=given["to"],
        amount=given["amount"],
        priority=given.get("priority"),
        external_id=given.get("externalId"),
    )
    return wallet, intent


# Who was asked


def _read_asked(history: History, asked: Sequence[object], first: int) -> list[Policy]:
    """Return the policies that were asked, each at the version whose groups had to agree."""
    policies: list[Policy] = []
    for at, each in enumerate(asked):
        field = f"asked[{at}]"
        given = members(each, field, {"policyId": str, "version": int})
        if policies and given["policyId"] <= policies[-1].id:
            raise EvidenceBroken("is out of order or listed twice", field=field)
        found = versions_asked(history, given["policyId"], first)
        policy = next((policy for policy in found if policy.version == given["version"]), None)
        if policy is None:
            raise EvidenceBroken(f"names no version of {given['policyId']} that asked anybody", field=field)
        policies.append(policy)
    return policies


def versions_asked(history: History, policy_id: str, first: int) -> list[Policy]:
    """Return the versions of a policy that a payout may have been held by, newest first.

    A policy in force asks its groups of now. One that is not in force any more, or asks nobody now, asked those of any
    version that was in force since the payout was requested. Of versions with the same groups only the newest is told.

    Args:
        history: up to the newest record that counts.
        policy_id: the lineage.
        first: number of the record that the request saw.
    """
    known = history.policies.get(policy_id)
    if known is None:
        return []
    found: list[Policy] = []
    followed_by: int | None = None
    for version in reversed(known.versions):
        policy = read_policy(version.document, id=policy_id, version=version.version)
        was_in_force = version.is_active and (followed_by is None or followed_by > first)
        if was_in_force and isinstance(policy.action, RequestApproval):
            if followed_by is None:
                return [policy]
            if all(required_groups([policy]) != required_groups([each]) for each in found):
                found.append(policy)
        followed_by = version.number
    return found


def _check_asked(judged: Judged, asked: Sequence[Policy]) -> None:
    for policy_id, name in judged.asking.items():
        if policy_id not in {each.id for each in asked}:
            raise EvidenceBroken(f"the policy {name!r} asks for approval, and was not asked", field="asked")


# Decisions


def _read_decisions(
    history: History,
    documents: Sequence[object],
    request: Signature,
    intent_digest: str,
    groups: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Person], list[Signature]]:
    """Return who decided, and the decisions, if all of them counted."""
    newest = len(history.instants) - 1
    people: dict[str, Person] = {}
    decisions: list[Signature] = []
    approval = None
    for at, document in enumerate(documents):
        field = f"decisions[{at}]"
        decision = open_signature(history, document, field)
        preimage, user_id = decision.preimage, decision.user_id
        path = _DECISION_PATH.fullmatch(preimage.path)
        if preimage.method != "POST" or path is None or path.group(1) != (approval or path.group(1)):
            raise EvidenceBroken("is not a decision about this approval", field=field)
        approval = path.group(1)
        if preimage.intent_digest != intent_digest:
            raise EvidenceBroken("decides about another payout", field=field)
        if preimage.groups_digest != digest(list(groups)):
            raise EvidenceBroken("answers other groups than those of the policies that asked", field=field)
        if decision.payload.get("value") != "Approved":
            raise EvidenceBroken("does not approve", field=field)
        if decisions and (preimage.issued, preimage.nonce) <= (
            decisions[-1].preimage.issued,
            decisions[-1].preimage.nonce,
        ):
            raise EvidenceBroken("is out of order, or given twice", field=field)
        _require(history, decision, VOTE)
        if not decision.key.usable_at(newest):
            raise EvidenceBroken(f"{user_id}, or the key they decided with, was switched off since", field=field)
        person = Person(is_active=True, is_service_account=history.identities[user_id].is_machine, may_vote=True)
        said = refusal(
            groups,
            user_id,
            "Approved",
            people={user_id: person},
            initiator_id=request.user_id,
            decided=people,
        )
        if said is not None:
            raise EvidenceBroken(f'{user_id} may not decide; the rule says "{said}"', field=field)
        people[user_id] = person
        decisions.append(decision)
    return people, decisions


# The transaction


def _read_transaction(
    history: History, text: str, wallet: KnownWallet, intent: Intent
) -> tuple[SignedTransaction, bytes]:
    if _RAW.fullmatch(text) is None:
        raise EvidenceBroken("is 0x and lower-case hex", field="transaction")
    raw = bytes.fromhex(text[2:])
    signed = read_signed(raw)
    networks = history.money_settings.get("networks")
    settings = networks.get(wallet.network) if isinstance(networks, dict) else None
    transaction = signed.transaction
    if signed.compressed_key.hex() != wallet.public_key or address_of(signed.public_key) != wallet.address.lower():
        raise EvidenceBroken("it was not signed by the wallet's key, or its bytes were changed", field="transaction")
    if (
        transaction.chain_id != wallet.chain_id
        or not isinstance(settings, dict)
        or settings.get("chainId") != wallet.chain_id
    ):
        raise EvidenceBroken("it is for another chain", field="transaction")
    amount, native = int(intent.amount), intent.asset == NATIVE
    to, value, data = (
        (intent.recipient, amount, b"") if native else (intent.asset, 0, erc20_transfer(intent.recipient, amount))
    )
    if (transaction.to, transaction.value, transaction.data) != (to, value, data):
        raise EvidenceBroken("it pays something else than what was requested", field="transaction")
    return signed, raw


# What people are called


def names_of(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what the records of a verified chain call each person and service account, by user id."""
    names: dict[str, str] = {}
    for record in records:
        body = record["body"]
        if record["kind"] == "genesis":
            names[body["admin"]["userId"]] = body["admin"]["username"]
        elif record["kind"] in ("user.invited", "serviceAccount.created", "user.renamed"):
            name = body.get("username") or body.get("name")
            if isinstance(name, str):
                names[record["subject"]] = name
    return names


def _party(names: Mapping[str, str], signature: Signature) -> Party:
    return Party(
        name=names.get(signature.user_id, signature.user_id),
        user_id=signature.user_id,
        fingerprint=signature.key.fingerprint,
        at=signature.preimage.issued,
        seq=signature.seq,
    )


__all__ = [
    "ProofBroken",
    "Report",
    "Signature",
    "names_of",
    "open_signature",
    "order",
    "portable",
    "verify_payout",
    "versions_asked",
]
'''

SOURCES["outlay.evidence.record"] = r'''"""Records: every change to people, keys, permissions, policies, wallets and money settings, in one hash chain.

A record is ``{v, org, seq, prev, kind, subject, at, body, evidence}``; its hash is the SHA-256 of its canonical bytes
and the next record's ``prev``. The first is the genesis record, whose hash is the root fingerprint. This module
knows links only; what each kind says is ``changes``'s, and who signed what is ``history``'s.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from outlay.core.errors import InvalidInput
from outlay.core.seams import MINUTE, Instant
from outlay.evidence.canonical import digest
from outlay.evidence.shape import check_digest, members

VERSION = 1

CLOCKS_APART: Instant = 10 * MINUTE
"""How far a record's instant may lie outside of the life of the challenge behind it."""

# Every kind there is. ``changes`` says for each which signed call brings it about and what its body holds.
GENESIS = "genesis"
USER_INVITED = "user.invited"
USER_REGISTERED = "user.registered"
USER_ACTIVATED = "user.activated"
USER_DEACTIVATED = "user.deactivated"
USER_DELETED = "user.deleted"
USER_RENAMED = "user.renamed"
SERVICE_ACCOUNT_CREATED = "serviceAccount.created"
CREDENTIAL_CREATED = "credential.created"
CREDENTIAL_ACTIVATED = "credential.activated"
CREDENTIAL_DEACTIVATED = "credential.deactivated"
CREDENTIAL_DELETED = "credential.deleted"
PAT_CREATED = "pat.created"
PAT_RENAMED = "pat.renamed"
PERMISSION_CREATED = "permission.created"
PERMISSION_UPDATED = "permission.updated"
PERMISSION_ARCHIVED = "permission.archived"
PERMISSION_ASSIGNED = "permission.assigned"
PERMISSION_REVOKED = "permission.revoked"
POLICY_CREATED = "policy.created"
POLICY_UPDATED = "policy.updated"
POLICY_ARCHIVED = "policy.archived"
WALLET_CREATED = "wallet.created"
WALLET_RENAMED = "wallet.renamed"
WALLET_TAGS_MODIFIED = "wallet.tags.modified"
WALLET_UNFROZEN = "wallet.unfrozen"
ASSET_UNFROZEN = "asset.unfrozen"
CONFIG_APPLIED = "config.applied"
CHANGE_REQUESTED = "change.requested"
CHANGE_DECIDED = "change.decided"
CHANGE_APPLIED = "change.applied"
CHANGE_CLOSED = "change.closed"

PROVED_BY_BODY = frozenset({GENESIS, USER_REGISTERED, CHANGE_APPLIED, CHANGE_CLOSED})
"""Kinds without action evidence: the root is pinned, a new key attests itself in the body, a change that people
agreed on is proved by the records of its request and its decisions, and closing one lets nothing through."""


class RecordBroken(InvalidInput):
    """The chain of records has been cut, changed or does not start at the pinned root."""

    code = "record_broken"


def build_record(
    *,
    org: str,
    seq: int,
    prev: str | None,
    kind: str,
    subject: str,
    at: Instant,
    body: dict[str, Any],
    evidence: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return one record document.

    Args:
        org: organization id.
        seq: 0 for the genesis record, then without a gap.
        prev: hex hash of the record before; None for the genesis record only.
        kind: noun and past tense, e.g. ``policy.created``.
        subject: id of what changed.
        at: microseconds UTC.
        body: the new state, as JSON values.
        evidence: action evidence; None for the kinds in ``PROVED_BY_BODY`` only.

    Raises:
        RecordBroken: the arguments contradict each other.
    """
    document = {
        "v": VERSION,
        "org": org,
        "seq": seq,
        "prev": prev,
        "kind": kind,
        "subject": subject,
        "at": at,
        "body": body,
        "evidence": evidence,
    }
    check_record(document)
    return document


def record_hash(document: dict[str, Any]) -> str:
    """Return the hash of a record: hex SHA-256 of its canonical bytes.

    Raises:
        CanonicalError: the document has no canonical form.
    """
    return digest(document)


def check_record(document: object) -> dict[str, Any]:
    """Return ``document`` if it has the form of a record.

    Raises:
        RecordBroken: it has not; ``field`` names the member.
    """
    try:
        given = members(
            document,
            "record",
            {
                "v": int,
                "org": str,
                "seq": int,
                "prev": object,
                "kind": str,
                "subject": str,
                "at": int,
                "body": dict,
                "evidence": object,
            },
        )
        if given["prev"] is not None:
            check_digest(given["prev"], "record.prev")
    except RecordBroken:
        raise
    except InvalidInput as error:
        raise RecordBroken(error.message, field=error.field) from error
    first = given["seq"] == 0
    if given["v"] != VERSION or given["seq"] < 0:
        raise RecordBroken("the record's version or number is not known here", field="record.v")
    if first != (given["prev"] is None) or first != (given["kind"] == GENESIS):
        raise RecordBroken("only the genesis record has number 0 and no predecessor", field="record.prev")
    bare = given["kind"] in PROVED_BY_BODY
    if bare != (given["evidence"] is None) or not (bare or isinstance(given["evidence"], dict)):
        raise RecordBroken("this kind of record carries evidence, or must not", field="record.evidence")
    return given


def check_instant(at: Instant, issued: Instant, expires: Instant) -> None:
    """Refuse an instant that is not the one at which a challenge can have been used.

    Raises:
        RecordBroken: it lies before the challenge was made, or long after it expired.
    """
    if not issued - CLOCKS_APART <= at <= expires + CLOCKS_APART:
        raise RecordBroken("the instant is not that of what was signed", field="record.at")


def check_order(at: Instant, latest: Instant) -> None:
    """Refuse an instant well before that of a record that came earlier: one of the two is made up.

    Raises:
        RecordBroken: it is.
    """
    if at < latest - CLOCKS_APART:
        raise RecordBroken("the instant lies before that of an earlier record", field="record.at")


def verify_chain(documents: Iterable[dict[str, Any]], root: str) -> str:
    """Follow the chain from its root and return the hash of its newest record.

    Args:
        documents: all records in order, as ``read_canonical`` returned them.
        root: hex hash of the genesis record, from outside of the database.

    Raises:
        RecordBroken: no records, another root, a gap, a changed or malformed record, another organization.
    """
    head = ""
    for _, digest_of_record in follow_chain(documents, root):
        head = digest_of_record
    return head


def follow_chain(documents: Iterable[dict[str, Any]], root: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each record of a chain with its hash, once it is known to follow the one before.

    Args:
        documents: as of ``verify_chain``.
        root: as of ``verify_chain``.

    Raises:
        RecordBroken: as ``verify_chain``, at the first record that does not follow.
    """
    head: str | None = None
    org = ""
    for expected, document in enumerate(documents):
        given = check_record(document)
        if given["seq"] != expected or given["prev"] != head:
            raise RecordBroken(f"record {expected} does not follow the one before it", field="record.prev")
        head = record_hash(given)
        if expected == 0:
            org = given["org"]
            if head != root:
                raise RecordBroken("the first record is not the root you named: check the fingerprint", field="root")
        elif given["org"] != org:
            raise RecordBroken(f"record {expected} is of another organization", field="record.org")
        yield given, head
    if head is None:
        raise RecordBroken("there are no records", field="records")
'''

SOURCES["outlay.evidence.report"] = r'''"""What a verified proof of a payout says, in words for somebody who has to sign it off."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from outlay.core.address import checksum
from outlay.core.asset import NATIVE
from outlay.core.errors import InvalidInput
from outlay.core.intent import Intent
from outlay.core.money import format_units, format_value
from outlay.core.seams import Instant

_WIDTH = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ALWAYS_UNPROVEN = (
    "that the network executed the transaction: look its hash up on the chain",
    "that these bytes were the only ones signed for this request: nonce and fees are the server's choice, and what was"
    " paid shows on the chain",
    "that nobody was refused a vote or denied: only approvals are in the file",
    "that everybody's screen showed what they signed",
    "the clock: every instant is the server's word",
)
"""What no proof of this kind can show."""


class ProofBroken(InvalidInput):
    """The proof of a payout fails; ``step`` names what does not hold."""

    code = "proof_broken"

    def __init__(self, message: str, *, step: str, done: tuple[tuple[str, str], ...], field: str | None) -> None:
        """Keep the step that failed, and those that held before it: (name, meaning) each."""
        super().__init__(message, field=field, step=step)
        self.step, self.done = step, done


class Trail:
    """The steps of a proof, in order."""

    def __init__(self) -> None:
        """Begin with none."""
        self.done: list[tuple[str, str]] = []

    @contextmanager
    def step(self, name: str, meaning: str) -> Iterator[None]:
        """Note one step, or that it failed.

        Raises:
            ProofBroken: what was checked does not hold.
        """
        try:
            yield
        except InvalidInput as error:
            raise ProofBroken(error.message, step=name, done=tuple(self.done), field=error.field) from error
        self.done.append((name, meaning))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """How an asset is counted for people."""

    symbol: str
    decimals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Somebody who signed."""

    name: str
    user_id: str
    fingerprint: str  #: of the key, hex SHA-256 of its SPKI bytes
    at: Instant  #: when the challenge was made
    seq: int  #: number of the newest record they saw


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Somebody who approved."""

    by: Party
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was proved about one payout."""

    steps: tuple[tuple[str, str], ...]  #: name and meaning of each step that held
    root: str
    org: str
    newest: int  #: number of the newest record in the file
    newest_at: Instant
    head: str  #: its hash
    requester: Party
    intent: Intent
    wallet_address: str
    unit: Unit
    value: int | None  #: 10**-8 USD by the signed prices; None: not known
    judged: tuple[tuple[str, int, str], ...]  #: name, version and answer of each policy that could be judged
    asked: tuple[tuple[str, str, int], ...]  #: id, name and version of each policy whose groups had to agree
    approvals: tuple[Approval, ...]
    tx_hash: str
    nonce: int
    fee_max: int  #: base units of the native coin the transaction may cost at most
    unproven: tuple[str, ...]  #: what this payout's policies leave open

    def text(self) -> str:
        """Return the report as lines for a terminal."""
        intent = self.intent
        amount = f"{format_units(int(intent.amount), self.unit.decimals)} {self.unit.symbol}"
        value = "no signed price" if self.value is None else f"USD {format_value(self.value)} at the signed price"
        token = "the network's own coin" if intent.asset == NATIVE else f"token {checksum(intent.asset)}"
        lines = [
            *(f"ok   {name.ljust(_WIDTH)} {meaning}" for name, meaning in self.steps),
            "",
            "THE PAYOUT IS PROVED",
            "",
            _line("paid", f"{amount} ({intent.amount} base units; {value})"),
            _line("", token),
            _line("to", checksum(intent.recipient)),
            _line("from", f"{checksum(self.wallet_address)} (wallet {intent.wallet})"),
            _line("on", f"{intent.network}, chain {intent.chain_id}"),
            _line("transaction", self.tx_hash),
            _line("", f"nonce {self.nonce}; may cost at most {self.fee_max} base units of the native coin in fees"),
            _line("external id", intent.external_id or "none"),
            _line("requested by", _party(self.requester)),
            *(_line("approved by" if at == 0 else "", _approval(each)) for at, each in enumerate(self.approvals)),
            *([] if self.approvals else [_line("approved by", "nobody: no policy asked")]),
            *(
                _line("policies" if at == 0 else "", f"{name!r}, version {version}: {answer}")
                for at, (name, version, answer) in enumerate(self._policies())
            ),
            _line("organization", self.org),
            _line("root", self.root),
            _line("as of", f"record {self.newest}, {_when(self.newest_at)}"),
            _line("", f"hash {self.head}"),
            "",
            "NOT PROVED BY THIS FILE",
            "",
            *(f"  - {each}" for each in (*self.unproven, self._gap(), *ALWAYS_UNPROVEN)),
        ]
        return "\n".join(_plain(line) for line in lines) + "\n"

    def _policies(self) -> list[tuple[str, int, str]]:
        known = {(name, version) for name, version, _ in self.judged}
        more = [(name, version, "asked for approval") for _, name, version in self.asked]
        return [*self.judged, *(each for each in more if each[:2] not in known)] or [("none", 0, "no policy applies")]

    def _gap(self) -> str:
        return f"what was changed after record {self.newest} and before the transaction was signed"


def refused(broken: ProofBroken) -> str:
    """Return what is told of a proof that fails."""
    where = f" ({broken.field})" if broken.field else ""
    lines = [
        *(f"ok   {name.ljust(_WIDTH)} {meaning}" for name, meaning in broken.done),
        f"FAIL {broken.step.ljust(_WIDTH)} {broken.message}{where}",
        "",
        "THE PAYOUT IS NOT PROVED",
    ]
    return "\n".join(_plain(line) for line in lines) + "\n"


def _line(name: str, value: str) -> str:
    return f"  {name.ljust(_WIDTH)} {value}"


def _party(party: Party) -> str:
    return f"{party.name} ({party.user_id}) on {_when(party.at)}, key {party.fingerprint[:16]}"


def _approval(approval: Approval) -> str:
    said = f', saying "{approval.reason}"' if isinstance(approval.reason, str) else ""
    return _party(approval.by) + said


def _when(at: Instant) -> str:
    return (_EPOCH + timedelta(microseconds=at)).strftime("%Y-%m-%d %H:%M:%S UTC")


def _plain(line: str) -> str:
    """Return a line without what could steer a terminal: names and reasons are other people's texts."""
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in line)
'''

SOURCES["outlay.evidence.requests"] = r'''"""The kinds of records about changes that people have to agree to: asked for, decided, made, closed.

Replaying them judges every change again: by the policies in force then, the people and keys of then, and the wait.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from outlay.core import ids
from outlay.core.approval import Decision, Person, merge_groups, refusal, shortest_timeout
from outlay.core.errors import InvalidInput
from outlay.core.policy import GOVERNING, Policy, required_groups
from outlay.core.policy_document import read_policy
from outlay.core.seams import MINUTE, SECOND, Instant
from outlay.evidence import record as records
from outlay.evidence.bundle import EvidenceBroken
from outlay.evidence.canonical import canonical, digest
from outlay.evidence.changes import CHANGES, check_route
from outlay.evidence.governance import (
    VOTE,
    Change,
    Ruling,
    agreed_at,
    content,
    delay_of,
    groups_digest,
    is_restored,
    judge_change,
    must_ask,
)
from outlay.evidence.record import RecordBroken
from outlay.evidence.shape import members
from outlay.evidence.state import History, KnownCredential, PolicyVersion
from outlay.evidence.step import Step


@dataclass(slots=True)
class Waiting:
    """A change that was asked for and neither made nor closed."""

    step: Step  #: the call that asked for it, as the record it would lead to
    content: dict[str, Any]
    approval: str
    groups: list[dict[str, Any]]  #: as its own governing policies leave them
    expires: Instant | None
    votes: list["Vote"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Vote:
    """One decision, and the key that signed it."""

    user_id: str
    value: str
    groups_digest: str
    key: KnownCredential
    at: Instant


def check_agreed(step: Step) -> None:
    """Refuse a change that was made without the people who had to agree to it.

    Raises:
        EvidenceBroken: governing policies asked somebody, or blocked it.
    """
    ruling = _judge(step.history, step.kind, step.subject, step.body, step.at)
    if ruling is not None and (ruling[1].holding or ruling[1].blocking):
        raise EvidenceBroken("this change needed an approval and has none", field="record.kind")
    permission_id = step.body.get("permissionId")
    if step.kind == records.SERVICE_ACCOUNT_CREATED and isinstance(permission_id, str):
        held = step.history.permissions.get(permission_id)
        operations = frozenset() if held is None else held.operations[-1][1]
        if must_ask(_active(step.history), permission_id, operations):
            raise EvidenceBroken("assigning this permission needed an approval", field="record.body.permissionId")


def requested(step: Step) -> None:
    """A change is asked for; nothing changes yet."""
    history = step.history
    shape: dict[str, type] = {"approval": str, "content": dict, "groups": list, "expires": object}
    body = members(step.body, "record.body", shape)
    change_id = step.new_subject(ids.CHANGE, history.waiting)
    if change_id in history.credentials or not ids.is_id(body["approval"], ids.APPROVAL):
        raise RecordBroken("is not a new change request", field="record.subject")
    kind, subject, after = (body["content"].get(name) for name in ("kind", "subject", "after"))
    if not isinstance(kind, str) or not isinstance(subject, str) or not isinstance(after, dict):
        raise RecordBroken("does not say what would change", field="record.body.content")
    inner = Step(
        history=history,
        kind=kind,
        number=step.number,
        at=step.at,
        digest=step.digest,
        subject=subject,
        body=after,
        payload=step.payload,
        method=step.method,
        path=step.path,
        signer=step.signer,
        preimage=step.preimage,
    )
    assert step.preimage is not None
    check_route(inner, step.preimage)
    judged = _judge(history, kind, subject, after, step.at)
    if judged is None or not judged[1].holding or judged[1].blocking:
        raise RecordBroken("no policy asks anybody about this change", field="record.body.content")
    change, ruling = judged
    expected = content(
        org=history.org,
        change_id=change_id,
        requester=step.by.credential.user_id,
        change=change,
        loosens=ruling.loosens,
    )
    groups, timeout = list(required_groups(ruling.holding)), shortest_timeout(ruling.holding)
    expires = None if timeout is None else step.at + timeout * MINUTE
    step.expect({**body, "content": expected, "groups": groups, "expires": expires})
    history.waiting[change_id] = Waiting(inner, expected, body["approval"], groups, expires)


def decided(step: Step) -> None:
    """Somebody approves or denies a change; the signature covers what it is and whom it asks."""
    history, waiting = step.history, _waiting(step.history, step.subject)
    approval, user_id = waiting.approval, step.by.credential.user_id
    if (step.method, step.path) != ("POST", f"/v2/policy-approvals/{approval}/decisions"):
        raise EvidenceBroken("the call signed is not a decision about this", field="evidence.preimage.path")
    step.require([VOTE])
    said = {"approval": approval, "value": step.signed("value"), "reason": step.payload.get("reason")}
    groups = step.made("groups")
    step.expect({**said, "groups": groups})
    signed = step.preimage
    assert signed is not None
    # More may be asked than when the change was asked for, since a guard came into force; never fewer.
    if not isinstance(groups, list) or any(each not in groups for each in waiting.groups):
        raise RecordBroken("leaves out somebody who has to agree", field="record.body.groups")
    covered = groups_digest(groups)
    if signed.intent_digest != digest(waiting.content) or signed.groups_digest != covered:
        raise EvidenceBroken("the decision was about something else", field="evidence.preimage.intentDigest")
    if groups != waiting.groups:
        waiting.groups, waiting.votes = groups, []
    why_not = refusal(
        waiting.groups,
        user_id,
        step.body["value"],
        people=_people(history),
        initiator_id=waiting.step.by.credential.user_id,
    )
    if why_not is not None:
        raise EvidenceBroken(f"this decision could not be made: {why_not}", field="evidence.credential")
    if step.body["value"] == "Denied":
        del history.waiting[step.subject]
    else:
        waiting.votes.append(Vote(user_id, "Approved", covered, step.by, step.at))


def applied(step: Step) -> None:
    """A change is made: enough people agreed, still do, and it has waited as long as it must.

    Raises:
        EvidenceBroken: not so.
    """
    body = members(step.body, "record.body", {"change": str, "kind": str, "body": dict})
    history, waiting = step.history, _waiting(step.history, body["change"])
    asked, last = waiting.step, step.number - 1
    if (body["kind"], step.subject) != (asked.kind, asked.subject):
        raise RecordBroken("is not what was asked for", field="record.body.kind")
    if canonical(body["body"]) != canonical(waiting.content["after"]):
        raise RecordBroken("is not what was agreed on", field="record.body.body")
    if not asked.by.usable_at(last):
        raise EvidenceBroken("who asked for it was switched off", field="record.body.change")
    groups, loosens = list(waiting.groups), bool(waiting.content["loosens"])
    judged = _judge(history, asked.kind, asked.subject, asked.body, step.at)
    if judged is not None:
        change, ruling = judged
        if ruling.blocking or canonical(change.before) != canonical(waiting.content["before"]):
            raise EvidenceBroken("a policy blocks it, or what it changes has changed", field="record.body.change")
        loosens = loosens or ruling.loosens
        groups = list(merge_groups(groups, required_groups(ruling.holding)))
    when = _agreed(history, waiting, groups, last)
    if when is None or (waiting.expires is not None and when >= waiting.expires):
        raise EvidenceBroken("not enough people agreed to this change", field="record.body.change")
    if step.at < when + (delay_of(history.money_settings) * SECOND if loosens else 0):
        raise EvidenceBroken("this change loosens, and has not waited long enough", field="record.at")
    make(step, asked)
    del history.waiting[body["change"]]


def make(step: Step, asked: Step) -> None:
    """Replay a change that was agreed on as the record it stands for."""
    inner = Step(
        history=step.history,
        kind=asked.kind,
        number=step.number,
        at=step.at,
        digest=step.digest,
        subject=step.subject,
        body=step.body["body"],
        payload=asked.payload,
        method=asked.method,
        path=asked.path,
        signer=asked.signer,
        preimage=asked.preimage,
    )
    assert asked.preimage is not None
    check_route(inner, asked.preimage)  # also: who asked is still permitted
    CHANGES[asked.kind][1](inner)
    follow_policy(inner)


def closed(step: Step) -> None:
    """A change request ends without effect."""
    body = members(step.body, "record.body", {"change": str, "status": str, "reason": str})
    if body["change"] != step.subject or body["status"] not in ("Failed", "Rejected"):
        raise RecordBroken("closes no change request", field="record.body")
    _waiting(step.history, step.subject)
    del step.history.waiting[step.subject]


def follow_policy(step: Step) -> None:
    """Ask the groups a governing policy has now, wherever it asked its earlier ones."""
    if step.kind != records.POLICY_UPDATED:
        return
    known = step.history.policies[step.subject].versions[-1]
    now = required_groups([_policy(step.subject, known)])
    for waiting in step.history.waiting.values():
        if not any(group["policyId"] == step.subject for group in waiting.groups):
            continue
        groups = list(merge_groups(waiting.groups, now))
        if groups != waiting.groups:
            waiting.groups, waiting.votes = groups, []


def _waiting(history: History, change_id: str) -> Waiting:
    found = history.waiting.get(change_id)
    if not isinstance(found, Waiting):
        raise RecordBroken("names no change that waits", field="record.subject")
    return found


def _agreed(history: History, waiting: Waiting, groups: list[dict[str, Any]], last: int) -> Instant | None:
    covered = groups_digest(groups)
    votes = [
        (
            Decision(
                vote.user_id,
                vote.value,
                counts=vote.groups_digest == covered
                and vote.key.usable_at(last)
                and history.may(vote.user_id, VOTE, last),
            ),
            vote.at,
        )
        for vote in waiting.votes
    ]
    return agreed_at(groups, votes, people=_people(history), initiator_id=waiting.step.by.credential.user_id)


def _people(history: History) -> Mapping[str, Person]:
    """Return what decides whether each identity's decisions count after the newest record."""
    return {
        user_id: Person(
            is_active=identity.is_active and bool(identity.keys),
            is_service_account=identity.is_machine,
            may_vote=any(key.vouched_since is not None for key in identity.keys),
        )
        for user_id, identity in history.identities.items()
    }


# What governance looks at


def _policy(policy_id: str, version: PolicyVersion) -> Policy:
    return read_policy(version.document, id=policy_id, version=version.version)


def _active(history: History) -> list[Policy]:
    return [_policy(key, each.versions[-1]) for key, each in sorted(history.policies.items()) if each.is_active]


def _judge(
    history: History, kind: str, subject: str, body: Mapping[str, Any], at: Instant
) -> tuple[Change, Ruling] | None:
    """Return what the governing policies in force say about a change; None: there are none."""
    if not any(each.is_active and each.document["activityKind"] in GOVERNING for each in history.policies.values()):
        return None
    default = str(history.money_settings.get("default", "block"))
    try:
        change = _describe(history, kind, subject, body, at)
        return change, judge_change(change, _active(history), default=default)
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordBroken("does not say what would change", field="record.body") from error
    except InvalidInput as error:
        raise RecordBroken(error.message, field=error.field) from error


def _describe(history: History, kind: str, subject: str, body: Mapping[str, Any], at: Instant) -> Change:
    """Return a change as governance looks at it; the server's own ``actions.govern.describe`` says the same."""
    if kind in (records.POLICY_CREATED, records.POLICY_UPDATED, records.POLICY_ARCHIVED):
        return _describe_policy(history, kind, subject, body, at)
    before: Any = None
    tags: dict[str, Any] = {}
    if kind in (records.PERMISSION_UPDATED, records.PERMISSION_ARCHIVED):
        held = history.permissions.get(subject)
        before = None if held is None else {"name": held.name, "operations": sorted(held.operations[-1][1])}
    elif kind == records.PERMISSION_ASSIGNED:
        given = history.permissions.get(subject)
        tags = {"operations": frozenset() if given is None else given.operations[-1][1]}
    elif kind == records.USER_ACTIVATED:
        identity = history.identities.get(subject)
        before = None if identity is None else {"isActive": identity.is_active}
    elif kind == records.WALLET_CREATED:
        known = {key: each.tags for key, each in history.wallets.items()}
        tags = {"tags_after": frozenset(body["tags"]), "wallets": known}
    elif kind == records.WALLET_TAGS_MODIFIED:
        wallet = history.wallets.get(subject)
        had = frozenset() if wallet is None else wallet.tags
        before = sorted(had)
        tags = {"tags_before": had, "tags_after": (had | set(body["added"])) - set(body["removed"])}
    elif kind == records.CONFIG_APPLIED:
        before = {"digest": digest(history.money_settings)}
    return Change(kind=kind, subject=subject, before=before, after=body, **tags)


def _describe_policy(history: History, kind: str, subject: str, body: Mapping[str, Any], at: Instant) -> Change:
    known = history.policies.get(subject)
    newest = None if known is None else known.versions[-1]
    wanted = None
    if kind != records.POLICY_ARCHIVED:
        document = {name: value for name, value in body.items() if name != "version"}
        wanted = read_policy(document, id=subject, version=body["version"])
    said = [] if known is None else list(_said(subject, known.versions))
    return Change(
        kind=kind,
        subject=subject,
        before=None if newest is None else {**newest.document, "version": newest.version},
        after=body,
        policy_before=None if newest is None else _policy(subject, newest),
        policy_after=wanted,
        restores=kind != records.POLICY_CREATED and is_restored(said, wanted, now=at),
    )


def _said(policy_id: str, versions: list[PolicyVersion]) -> Iterator[tuple[Instant, Policy | None]]:
    for version in versions:
        yield version.at, _policy(policy_id, version) if version.is_active else None


REQUESTS: Mapping[str, Callable[[Step], None]] = {
    records.CHANGE_REQUESTED: requested,
    records.CHANGE_DECIDED: decided,
}
"""Kinds that are signed; the call is the one that asks for the change, or a decision."""

MADE: Mapping[str, Callable[[Step], None]] = {
    records.CHANGE_APPLIED: applied,
    records.CHANGE_CLOSED: closed,
}
"""Kinds that follow from the records before."""
'''

SOURCES["outlay.evidence.shape"] = r'''"""Reading the members of a document: all that are needed, none that are not, each of its type."""

import re
from collections.abc import Mapping
from typing import Any

from outlay.core.errors import InvalidInput

_DIGEST = re.compile(r"[0-9a-f]{64}")


def members(
    document: object, field: str, required: Mapping[str, type], optional: Mapping[str, type] | None = None
) -> dict[str, Any]:
    """Return ``document`` as a dict that has exactly the members named.

    Args:
        document: a parsed JSON value.
        field: its path, put before the member's name in errors.
        required: member name to type; ``int`` does not admit booleans, ``object`` admits any value.
        optional: members that may be absent; never null.

    Raises:
        InvalidInput: not an object, a member missing, unknown or of another type.
    """
    if not isinstance(document, dict):
        raise InvalidInput(f"{field} must be an object", field=field)
    known = {**required, **(optional or {})}
    for name in document:
        if name not in known:
            raise InvalidInput(f"{field} has the unknown member {str(name)[:60]!r}", field=field)
    for name, kind in known.items():
        path = f"{field}.{name}"
        if name not in document:
            if name in required:
                raise InvalidInput(f"{path} is required", field=path)
            continue
        value = document[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            raise InvalidInput(f"{path} must be of type {_NAMES.get(kind, kind.__name__)}", field=path)
    return document


def is_digest(text: object) -> bool:
    """Tell whether ``text`` is a SHA-256 in lower-case hex."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def check_digest(text: object, field: str) -> None:
    """Refuse anything but a SHA-256 in lower-case hex.

    Raises:
        InvalidInput: it is something else.
    """
    if not is_digest(text):
        raise InvalidInput(f"{field} must be 64 lower-case hex digits", field=field)


def check_texts(values: object, field: str) -> None:
    """Refuse anything but a list of strings.

    Raises:
        InvalidInput: it is something else.
    """
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InvalidInput(f"{field} must be a list of strings", field=field)


_NAMES: dict[type, str] = {str: "string", int: "integer", dict: "object", list: "array", bool: "boolean"}
'''

SOURCES["outlay.evidence.state"] = r'''"""What a verified chain of records says: keys, people, permissions, policies, wallets, money settings.

``history`` fills it record by record. Whatever a signature may be older than (who could sign, who was permitted, which
policies were in force) is kept with the record number it begins at; the rest as the newest record leaves it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from outlay.core.personal_token import token_operations
from outlay.core.policy import POLICIES_MODIFY
from outlay.evidence.assertion import Credential
from outlay.evidence.bundle import EvidenceBroken, read_credential
from outlay.evidence.canonical import digest
from outlay.evidence.challenge import Preimage
from outlay.evidence.keys import fingerprint
from outlay.evidence.record import CLOCKS_APART

T = TypeVar("T")


@dataclass(slots=True)
class Identity:
    """A person or a service account."""

    is_machine: bool
    states: list[tuple[int, bool]] = field(default_factory=list)  #: (record number, active from then on)
    is_deleted: bool = False
    keys: list["KnownCredential"] = field(default_factory=list)
    grants: list["Grant"] = field(default_factory=list)  #: also those that were revoked

    @property
    def is_active(self) -> bool:
        """Whether the identity is switched on after the newest record."""
        return not self.is_deleted and (not self.states or self.states[-1][1])

    def active_at(self, seq: int) -> bool:
        """Tell whether the identity was switched on right after record ``seq``."""
        return _at(self.states, seq, True)


@dataclass(slots=True)
class KnownCredential:
    """A key the records introduced, and when it could sign."""

    credential: Credential
    record: str  #: hex hash of the record that introduced it
    fingerprint: str  #: hex SHA-256 of the SPKI bytes
    vouched_since: int | None  #: number of the record by which somebody vouched for it; None: nobody yet
    user_states: list[tuple[int, bool]]  #: the list of its identity
    key_states: list[tuple[int, bool]] = field(default_factory=list)  #: the same of the key itself
    is_deleted: bool = False
    token_id: str | None = None  #: of the personal access token it belongs to
    limit: str | None = None  #: id of the permission that bounds the token; None: its holder's permissions do
    expires: int | None = None  #: microseconds UTC, of the token

    def usable_at(self, seq: int) -> bool:
        """Tell whether the key was active and vouched for right after record ``seq``."""
        if self.vouched_since is None or self.vouched_since > seq:
            return False
        # Switching a person on again does not bring back a key that was withdrawn for itself.
        return _at(self.user_states, seq, True) and _at(self.key_states, seq, True)


@dataclass(slots=True)
class Permission:
    """A named set of operations."""

    name: str
    operations: list[tuple[int, frozenset[str]]]  #: (record number, operations from then on); none once archived
    is_immutable: bool = False
    is_archived: bool = False


@dataclass(slots=True)
class Grant:
    """A permission given to an identity."""

    permission_id: str
    identity_id: str
    since: int  #: record number
    until: int | None = None  #: number of the record that revoked it


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """One version of a policy, as a record wrote it."""

    number: int  #: of the record
    at: int  #: microseconds UTC
    version: int
    document: dict[str, Any]  #: as ``core.policy_document.stored_document`` writes it
    is_active: bool = True


@dataclass(slots=True)
class KnownPolicy:
    """A policy and everything it has said; the newest version last."""

    versions: list[PolicyVersion]

    @property
    def version(self) -> int:
        """The newest version's number."""
        return self.versions[-1].version

    @property
    def document(self) -> dict[str, Any]:
        """What the newest version says."""
        return self.versions[-1].document

    @property
    def is_active(self) -> bool:
        """Whether it is in force after the newest record."""
        return self.versions[-1].is_active


@dataclass(slots=True)
class KnownWallet:
    """A hot wallet as its records describe it."""

    network: str
    chain_id: int
    address: str  #: as recorded
    public_key: str  #: hex
    tag_states: list[tuple[int, frozenset[str]]]  #: (record number, tags from then on)

    @property
    def tags(self) -> frozenset[str]:
        """The tags after the newest record."""
        return self.tag_states[-1][1]

    def tags_at(self, seq: int) -> frozenset[str]:
        """Return the tags right after record ``seq``."""
        return _at(self.tag_states, seq, frozenset())


def _at(steps: list[tuple[int, T]], seq: int, otherwise: T) -> T:
    """Return the newest value of ``steps`` that began at record ``seq`` or before."""
    return next((value for number, value in reversed(steps) if number <= seq), otherwise)


@dataclass(slots=True)
class History:
    """The organization after the newest record, and who could do what after each earlier one."""

    org: str
    head: str = ""  #: hex hash of the newest record
    numbers: dict[str, int] = field(default_factory=dict)  #: record hash -> number
    latest: int = 0  #: the latest instant of all
    instants: list[int] = field(default_factory=list)  #: of each record, microseconds UTC, as the server said
    identities: dict[str, Identity] = field(default_factory=dict)  #: by user id
    credentials: dict[str, KnownCredential] = field(default_factory=dict)  #: by credential uuid
    names: set[str] = field(default_factory=set)  #: credential ids of keys that are not deleted
    fingerprints: set[str] = field(default_factory=set)  #: of the same keys: one key belongs to one identity
    attested: set[str] = field(default_factory=set)  #: nonces of the challenges that added keys answered
    tokens: dict[str, KnownCredential] = field(default_factory=dict)  #: the keys of personal access tokens, by its id
    invitations: dict[str, dict[str, Any]] = field(default_factory=dict)  #: hash -> invitation not taken up yet
    permissions: dict[str, Permission] = field(default_factory=dict)  #: by id
    grants: dict[str, Grant] = field(default_factory=dict)  #: by assignment id; revoked ones included
    policies: dict[str, KnownPolicy] = field(default_factory=dict)  #: by id
    policy_sets: list[tuple[int, str]] = field(default_factory=list)  #: (record number, digest from then on)
    wallets: dict[str, KnownWallet] = field(default_factory=dict)  #: by id
    addresses: set[str] = field(default_factory=set)  #: of all wallets, lower case
    money_settings: dict[str, Any] = field(default_factory=dict)
    settings: list[tuple[int, dict[str, Any]]] = field(default_factory=list)  #: (record number, in force from then on)
    waiting: dict[str, Any] = field(default_factory=dict)  #: by change id: ``requests.Waiting``

    def signer(self, document: Mapping[str, Any], preimage: Preimage) -> KnownCredential:
        """Return the known credential that signed verified evidence.

        Raises:
            EvidenceBroken: another organization, a head that is not in the chain, a key that the chain did not know,
                had withdrawn, or nobody had vouched for when the signer saw that head.
        """
        if preimage.org != self.org:
            raise EvidenceBroken("signed for another organization", field="evidence.preimage.org")
        seq = self.numbers.get(preimage.records_head)
        if seq is None:
            raise EvidenceBroken(
                "signed over records that are not in this chain", field="evidence.preimage.recordsHead"
            )
        if preimage.issued < self.instants[seq] - CLOCKS_APART:
            raise EvidenceBroken("signed before the records it was signed over", field="evidence.preimage.issued")
        claimed, record = read_credential(document["credential"])
        known = self.credentials.get(claimed.uuid)
        if (
            known is None
            or known.fingerprint != fingerprint(claimed.public_key)
            or (known.credential.kind, known.credential.credential_id, known.credential.user_id)
            != (claimed.kind, claimed.credential_id, claimed.user_id)
            or known.credential.relying_party_id != claimed.relying_party_id
            or known.record != record
        ):
            raise EvidenceBroken("signed by a key that the records do not know", field="evidence.credential")
        if not known.usable_at(seq):
            raise EvidenceBroken(
                "signed by a key that was withdrawn or that nobody vouched for", field="evidence.credential"
            )
        if known.expires is not None and preimage.issued >= known.expires:
            raise EvidenceBroken("signed by a personal access token that had expired", field="evidence.credential")
        return known

    def key_may(self, known: KnownCredential, operation: str, seq: int) -> bool:
        """Tell whether a key could sign what needs ``operation`` right after record ``seq``.

        A person's or machine's own key may what its holder may, the key of a personal access token less.
        """
        if not self.may(known.credential.user_id, operation, seq):
            return False
        if known.token_id is None:
            return True
        limit = None if known.limit is None else _at(self.permissions[known.limit].operations, seq, frozenset())
        return operation in token_operations((operation,), limit)

    def forget(self, known: KnownCredential) -> None:
        """Note that a key was deleted: its name and the key itself are free again."""
        known.is_deleted = True
        self.names.discard(known.credential.credential_id)
        self.fingerprints.discard(known.fingerprint)

    def may(self, user_id: str, operation: str, seq: int) -> bool:
        """Tell whether an identity held ``operation`` right after record ``seq``."""
        return any(
            grant.since <= seq
            and (grant.until is None or grant.until > seq)
            and operation in _at(self.permissions[grant.permission_id].operations, seq, frozenset())
            for grant in self.identities[user_id].grants
        )

    def give(self, assignment_id: str | None, grant: Grant) -> None:
        """Note a grant; the genesis record's has no id, because nobody can revoke it."""
        self.identities[grant.identity_id].grants.append(grant)
        if assignment_id is not None:
            self.grants[assignment_id] = grant

    def policies_at(self, seq: int) -> dict[str, PolicyVersion]:
        """Return the policies in force right after record ``seq``, by id."""
        found = {}
        for policy_id, known in self.policies.items():
            newest = next((each for each in reversed(known.versions) if each.number <= seq), None)
            if newest is not None and newest.is_active:
                found[policy_id] = newest
        return found

    @property
    def is_governed(self) -> bool:
        """Whether changes of what policies let through wait for people."""
        return any(
            each.is_active and each.document["activityKind"] == POLICIES_MODIFY for each in self.policies.values()
        )

    def note_settings(self, seq: int) -> None:
        """Keep the money settings if record ``seq`` changed them."""
        if not self.settings or self.settings[-1][1] is not self.money_settings:
            self.settings.append((seq, self.money_settings))

    def settings_at(self, seq: int) -> dict[str, Any]:
        """Return the money settings in force right after record ``seq``."""
        return _at(self.settings, seq, {})

    def settings_since(self, seq: int) -> list[dict[str, Any]]:
        """Return the money settings in force right after record ``seq``, and all later ones."""
        return [self.settings_at(seq), *(settings for number, settings in self.settings if number > seq)]

    def note_policies(self, seq: int) -> None:
        """Compute the digest of the policies in force from record ``seq`` on."""
        active = [{"id": id, "version": each.version} for id, each in sorted(self.policies.items()) if each.is_active]
        self.policy_sets.append((seq, digest(active)))

    def check_policy_set(self, named: str, seq: int) -> None:
        """Refuse evidence that names policies which were never in force from record ``seq`` on.

        Raises:
            EvidenceBroken: they were not.
        """
        for number, known in reversed(self.policy_sets):
            if known == named:
                return
            if number <= seq:
                break
        raise EvidenceBroken("names policies that were not in force then", field="evidence.policySet")
'''

SOURCES["outlay.evidence.step"] = r'''"""One record on its way into the history, and what every kind of record is checked with."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from outlay.core import ids
from outlay.evidence.bundle import EvidenceBroken
from outlay.evidence.canonical import canonical
from outlay.evidence.challenge import Preimage
from outlay.evidence.record import RecordBroken
from outlay.evidence.state import History, KnownCredential


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One record on its way into the history."""

    history: History  #: as the records before leave it
    kind: str
    number: int
    at: int  #: microseconds UTC, as the server says
    digest: str  #: the record's own hash
    subject: str
    body: dict[str, Any]
    payload: dict[str, Any]  #: what was signed; of a record without action evidence, nothing
    method: str = ""
    path: str = ""
    signer: KnownCredential | None = None
    preimage: Preimage | None = None

    @property
    def by(self) -> KnownCredential:
        """Who signed."""
        assert self.signer is not None
        return self.signer

    def expect(self, body: Mapping[str, Any]) -> None:
        """Refuse any body but ``body``."""
        if canonical(self.body) != canonical(body):
            raise RecordBroken("the record does not say what was signed", field="record.body")

    def expect_payload(self, payload: Mapping[str, Any]) -> None:
        """Refuse any signed payload but ``payload``."""
        if canonical(self.payload) != canonical(payload):
            raise EvidenceBroken("the call signed does not bring this about", field="evidence.payload")

    def signed(self, name: str) -> str:
        """Return a text of the signed payload."""
        value = self.payload.get(name)
        if not isinstance(value, str):
            raise EvidenceBroken("the signed payload lacks a text", field=f"evidence.payload.{name}")
        return value

    def signed_texts(self, name: str) -> list[str]:
        """Return a list of texts of the signed payload."""
        value = self.payload.get(name)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise EvidenceBroken("the signed payload lacks a list of texts", field=f"evidence.payload.{name}")
        return value

    def made(self, name: str) -> Any:
        """Return a member of the body that the server made."""
        if name not in self.body:
            raise RecordBroken(f"lacks {name}", field=f"record.body.{name}")
        return self.body[name]

    def new_subject(self, prefix: str, known: Container[str]) -> str:
        """Return the subject, which must be a fresh identifier."""
        return fresh(self.subject, prefix, known, "record.subject")

    def require(self, operations: Iterable[str]) -> None:
        """Refuse a signer that lacks one of ``operations`` after the record before."""
        for operation in operations:
            if not self.history.key_may(self.by, operation, self.number - 1):
                raise EvidenceBroken(f"the signer was not permitted {operation}", field="evidence.credential")


def fresh(value: object, prefix: str, known: Container[str], field: str) -> str:
    """Return ``value`` if it is an identifier with ``prefix`` that is not ``known`` yet.

    Raises:
        RecordBroken: it is not.
    """
    if not isinstance(value, str) or not ids.is_id(value, prefix):
        raise RecordBroken(f"is not an identifier that begins with {prefix}-", field=field)
    if value in known:
        raise RecordBroken("is taken: an earlier record introduced it", field=field)
    return value
'''


class Embedded(MetaPathFinder, Loader):
    """Finds every module of Outlay here, and none anywhere else."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "outlay":
            return None
        if name not in SOURCES:
            raise ModuleNotFoundError(f"{name} is not part of the verifier", name=name)
        inside = any(other.startswith(name + ".") for other in SOURCES)
        return ModuleSpec(name, self, is_package=inside)

    def exec_module(self, module):
        name = module.__name__
        exec(compile(SOURCES[name], f"{__file__}: {name}", "exec"), module.__dict__)


if __name__ == "__main__":
    sys.meta_path.insert(0, Embedded())
    from outlay.evidence.audit import main

    sys.exit(main())
