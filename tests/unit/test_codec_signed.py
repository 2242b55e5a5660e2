"""Signed transactions read back: exactly what was written, by exactly who signed."""

import importlib
import random
from typing import Any

import pytest
from coincurve import PublicKey
from eth_account import Account

from outlay.codec.evm import Eip1559, Legacy, address_of
from outlay.codec.signed import read_signed
from outlay.core.address import checksum
from outlay.core.errors import InvalidInput
from outlay.signer.keys import SigningKey
from tests import tools

rlp: Any = importlib.import_module("rlp")  # untyped
KEY = SigningKey(b"\x05" * 32)


def transaction(**changes: Any) -> Eip1559:
    return Eip1559(
        **{
            "chain_id": 31337,
            "nonce": 3,
            "max_priority_fee_per_gas": 1,
            "max_fee_per_gas": 100,
            "gas_limit": 21_000,
            "to": "0x" + "a1" * 20,
            "value": 10**18,
            **changes,
        }
    )


def legacy(**changes: Any) -> Legacy:
    return Legacy(
        **{
            "chain_id": 31337,
            "nonce": 3,
            "gas_price": 100,
            "gas_limit": 21_000,
            "to": "0x" + "a1" * 20,
            "value": 10**18,
            **changes,
        }
    )


def signed(unsigned: Eip1559 | Legacy, key: SigningKey = KEY) -> bytes:
    return unsigned.encode(key.sign(unsigned.signing_hash()))


def test_what_was_written_is_read_and_its_key_is_found() -> None:
    seed = random.SystemRandom().randrange(2**32)
    dice = random.Random(seed)
    for _ in range(tools.examples(20)):
        key = SigningKey(dice.randbytes(32))
        unsigned = transaction(
            chain_id=dice.choice([1, 31337, 2**40]),
            nonce=dice.choice([0, 1, 127, 128, 2**32]),
            max_priority_fee_per_gas=dice.choice([0, 1, 100]),
            value=dice.choice([0, 1, 10**18, 2**255]),
            data=dice.choice([b"", b"\x00", b"\x80", dice.randbytes(68)]),
        )
        found = read_signed(signed(unsigned, key))
        assert found.transaction == unsigned, seed
        assert found.compressed_key == key.public_key, seed
        assert PublicKey(key.public_key).format(compressed=False) == found.public_key, seed
        assert address_of(found.public_key) == key.address, seed


def test_a_transaction_of_another_library_is_read() -> None:
    account = Account.from_key(b"\x06" * 32)
    fields = {
        "type": 2,
        "chainId": 5,
        "nonce": 0,
        "maxPriorityFeePerGas": 2,
        "maxFeePerGas": 3,
        "gas": 21_000,
        "to": checksum("0x" + "a1" * 20),
        "value": 7,
        "data": b"",
    }
    raw = bytes(account.sign_transaction(fields).raw_transaction)
    found = read_signed(raw)
    assert found.transaction == transaction(chain_id=5, nonce=0, max_priority_fee_per_gas=2, max_fee_per_gas=3, value=7)
    assert address_of(found.public_key) == account.address.lower()


def test_legacy_transactions_are_read_and_their_key_is_found() -> None:
    seed = random.SystemRandom().randrange(2**32)
    dice = random.Random(seed)
    for _ in range(tools.examples(20)):
        key = SigningKey(dice.randbytes(32))
        unsigned = legacy(
            chain_id=dice.choice([1, 56, 31337, 2**40]),
            nonce=dice.choice([0, 1, 127, 128, 2**32]),
            gas_price=dice.choice([0, 1, 2**200]),
            data=dice.choice([b"", b"\x00", b"\x80", dice.randbytes(68)]),
        )
        found = read_signed(signed(unsigned, key))
        assert found.transaction == unsigned, seed
        assert address_of(found.public_key) == key.address, seed


def test_a_legacy_transaction_of_another_library_is_read() -> None:
    account = Account.from_key(b"\x06" * 32)
    to = checksum("0x" + "a1" * 20)
    fields = {"chainId": 5, "nonce": 0, "gasPrice": 3, "gas": 21_000, "to": to, "value": 7, "data": b""}
    found = read_signed(bytes(account.sign_transaction(fields).raw_transaction))
    assert found.transaction == legacy(chain_id=5, nonce=0, gas_price=3, value=7)
    assert address_of(found.public_key) == account.address.lower()


def test_a_legacy_transaction_that_binds_no_chain_is_refused() -> None:
    account = Account.from_key(b"\x06" * 32)
    to = checksum("0x" + "a1" * 20)
    fields = {"nonce": 0, "gasPrice": 3, "gas": 21_000, "to": to, "value": 7, "data": b""}
    with pytest.raises(InvalidInput, match="chain_id"):
        read_signed(bytes(account.sign_transaction(fields).raw_transaction))


@pytest.mark.parametrize("make", [transaction, legacy])
def test_no_byte_can_change(make: Any) -> None:
    """Either the bytes are refused, or somebody else signed them."""
    raw, seed = signed(make(data=b"\x01" * 20)), random.SystemRandom().randrange(2**32)
    dice = random.Random(seed)
    for at in range(len(raw)):
        flipped = bytearray(raw)
        flipped[at] ^= 1 << dice.randrange(8)
        try:
            found = read_signed(bytes(flipped))
        except InvalidInput:
            continue
        assert found.compressed_key != KEY.public_key, (seed, at)


def legacy_spelled(**changes: Any) -> bytes:
    """Return the signed legacy transaction with members replaced, by number (``m0`` ...)."""
    changed: list[Any] = rlp.decode(signed(legacy()))
    for name, value in changes.items():
        changed[int(name[1:])] = value
    return bytes(rlp.encode(changed))


@pytest.mark.parametrize(
    "raw",
    [
        signed(legacy()) + b"\x00",
        signed(legacy())[:-1],
        b"\x80",
        b"\xb8\x40" + b"\x01" * 64,
        b"\xc0",
        legacy_spelled(m0=b"\x00\x03"),  # a leading zero
        legacy_spelled(m3=b""),  # creates a contract
        legacy_spelled(m3=b"\x01" * 19),
        legacy_spelled(m5=[]),
        legacy_spelled(m6=b""),
        legacy_spelled(m6=b"\x1b"),  # binds no chain
        legacy_spelled(m7=b""),
        legacy_spelled(m7=b"\x01" * 33),
        legacy_spelled(m8=b"\xff" * 32),
        b"\xf8" * 100_000,
    ],
)
def test_other_legacy_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_signed(bytes(raw))


def members() -> list[Any]:
    decoded: list[Any] = rlp.decode(signed(transaction())[1:])
    return decoded


ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def spelled(**changes: Any) -> bytes:
    """Return the signed transaction with members replaced, by number (``m0`` ...)."""
    changed = members()
    for name, value in changes.items():
        changed[int(name[1:])] = value
    return b"\x02" + bytes(rlp.encode(changed))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x02",
        b"\x01" + signed(transaction())[1:],
        signed(transaction()) + b"\x00",
        signed(transaction())[:-1],
        b"\x02" + b"\xf8\x00",
        b"\x02" + b"\xc1" * 100_000,
        b"\x02" + b"\xff" * 9,
        b"\x02" + rlp.encode(members()[:11]),
        b"\x02" + rlp.encode([*members(), b""]),
        b"\x02" + rlp.encode(b"text"),
        spelled(m0=b"\x00\x7a\x69"),  # a leading zero
        spelled(m1=b"\x00"),
        spelled(m5=b""),  # creates a contract
        spelled(m5=b"\x01" * 19),
        spelled(m8=[[b"\x01" * 20, []]]),  # an access list
        spelled(m8=b""),
        spelled(m3=[b"\x01"]),
        spelled(m9=b"\x02"),  # parity
        spelled(m10=b""),
        spelled(m10=b"\x01" * 33),
        spelled(m11=(ORDER - int.from_bytes(members()[11], "big")).to_bytes(32, "big")),  # the upper half
        spelled(m4=b""),
        spelled(m2=b"\x65"),  # the tip above the fee
    ],
)
def test_other_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_signed(bytes(raw))


def test_lists_within_lists_do_not_exhaust_the_stack() -> None:
    item = b"\xc0"
    for _ in range(10_000):
        size = len(item).to_bytes(4, "big").lstrip(b"\0")
        item = (bytes([0xC0 + len(item)]) if len(item) < 56 else bytes([0xF7 + len(size)]) + size) + item
    with pytest.raises(InvalidInput, match="access list"):
        read_signed(b"\x02" + item)


def test_long_spellings_of_lengths_are_refused() -> None:
    raw = signed(transaction())
    assert raw[1:3] == bytes([0xF8, len(raw) - 3])
    with pytest.raises(InvalidInput, match="another spelling"):
        read_signed(b"\x02\xf9\x00" + raw[2:])


def test_a_number_that_is_no_point_is_nobodys_signature() -> None:
    """About every other r is the x of no point."""
    with pytest.raises(InvalidInput, match="nobody's"):
        for number in range(1, 40):
            read_signed(spelled(m10=bytes([number])))
