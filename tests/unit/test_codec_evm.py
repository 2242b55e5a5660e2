"""EVM bytes against independent encoders: rlp, eth-abi and eth-account."""

from typing import Any

import pytest
from eth_abi.abi import encode as abi_encode
from eth_account import Account
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st
from rlp import codec as rlp_library

from outlay.codec.evm import (
    TRANSFER_TOPIC,
    Eip1559,
    Legacy,
    Log,
    RlpItem,
    address_of,
    erc20_balance_of,
    erc20_transfer,
    parse_transfer_log,
    rlp_encode,
    tx_hash,
)
from outlay.core.errors import InvalidInput
from outlay.signer.keys import SigningKey

UINT256 = st.integers(0, 2**256 - 1)
ADDRESSES = st.binary(min_size=20, max_size=20).map(lambda octets: "0x" + octets.hex())
ITEMS: st.SearchStrategy[RlpItem] = st.recursive(
    st.binary(max_size=70) | st.integers(0, 2**300), lambda inner: st.lists(inner, max_size=6), max_leaves=30
)


def expected_rlp(item: RlpItem) -> bytes:
    """Return what the rlp library makes of ``item``."""
    encoded: bytes = rlp_library.encode(item)  # type: ignore[no-untyped-call]  # the library has no types
    return encoded


@given(ITEMS)
def test_rlp_agrees_with_the_rlp_library(item: RlpItem) -> None:
    assert rlp_encode(item) == expected_rlp(item)


@pytest.mark.parametrize("size", [0, 1, 55, 56, 255, 256, 65535, 65536])
def test_rlp_lengths_at_every_border(size: int) -> None:
    assert rlp_encode(b"\x80" * size) == expected_rlp(b"\x80" * size)
    assert rlp_encode([b""] * size) == expected_rlp([b""] * size)


@pytest.mark.parametrize("item", [-1, True, "text", bytearray(b"x"), None, 1.0, [[True]]])
def test_rlp_refuses_other_types(item: Any) -> None:
    with pytest.raises(InvalidInput):
        rlp_encode(item)


@st.composite
def transactions(draw: st.DrawFn) -> Eip1559:
    max_fee = draw(UINT256)
    return Eip1559(
        chain_id=draw(st.integers(1, 2**64)),
        nonce=draw(st.integers(0, 2**64 - 2)),
        max_priority_fee_per_gas=draw(st.integers(0, max_fee)),
        max_fee_per_gas=max_fee,
        gas_limit=draw(st.integers(1, 2**64 - 1)),
        to=draw(ADDRESSES),
        value=draw(UINT256),
        data=draw(st.binary(max_size=100)),
    )


@given(transactions(), st.binary(min_size=32, max_size=32).filter(lambda s: 0 < int.from_bytes(s, "big") < 2**255))
def test_transactions_agree_with_eth_account_byte_for_byte(transaction: Eip1559, secret: bytes) -> None:
    signed = Account.sign_transaction(
        {
            "type": 2,
            "chainId": transaction.chain_id,
            "nonce": transaction.nonce,
            "maxPriorityFeePerGas": transaction.max_priority_fee_per_gas,
            "maxFeePerGas": transaction.max_fee_per_gas,
            "gas": transaction.gas_limit,
            "to": bytes.fromhex(transaction.to[2:]),
            "value": transaction.value,
            "data": transaction.data,
        },
        secret,
    )
    key = SigningKey(secret)
    raw = transaction.encode(key.sign(transaction.signing_hash()))
    assert raw == bytes(signed.raw_transaction)
    assert tx_hash(raw) == "0x" + bytes(signed.hash).hex()
    assert Account.recover_transaction(raw).lower() == key.address


GOOD: dict[str, Any] = {
    "chain_id": 1,
    "nonce": 0,
    "max_priority_fee_per_gas": 1,
    "max_fee_per_gas": 2,
    "gas_limit": 21000,
    "to": "0x" + "11" * 20,
    "value": 1,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chain_id", 0),
        ("chain_id", True),
        ("nonce", -1),
        ("nonce", 2**64 - 1),
        ("max_fee_per_gas", 2**256),
        ("max_priority_fee_per_gas", 3),
        ("gas_limit", 0),
        ("gas_limit", 2**64),
        ("value", 2**256),
        ("value", -1),
        ("to", ""),
        ("to", "0x" + "11" * 19),
        ("to", None),
    ],
)
def test_transactions_refuse_members_out_of_range(name: str, value: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        Eip1559(**{**GOOD, name: value})
    assert refused.value.field == name


ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def test_signatures_that_nodes_refuse_are_refused() -> None:
    transaction = Eip1559(**GOOD)
    good = SigningKey(b"\x01" * 32).sign(transaction.signing_hash())
    s = int.from_bytes(good[32:64], "big")
    high = good[:32] + (ORDER - s).to_bytes(32, "big") + bytes([1 - good[64]])
    for bad in (good[:64], good[:64] + b"\x1b", high, b"\0" * 32 + good[32:], good[:32] + b"\0" * 32 + good[64:]):
        with pytest.raises(InvalidInput):
            transaction.encode(bad)


@given(ADDRESSES, UINT256)
def test_calls_agree_with_eth_abi(recipient: str, amount: int) -> None:
    selector = keccak(text="transfer(address,uint256)")[:4]
    assert erc20_transfer(recipient, amount) == selector + abi_encode(["address", "uint256"], [recipient, amount])
    assert erc20_balance_of(recipient) == keccak(text="balanceOf(address)")[:4] + abi_encode(["address"], [recipient])


@pytest.mark.parametrize("amount", [-1, 2**256, True, 1.0])
def test_calls_refuse_amounts_out_of_range(amount: Any) -> None:
    with pytest.raises(InvalidInput):
        erc20_transfer("0x" + "11" * 20, amount)


@given(st.binary(min_size=32, max_size=32).filter(lambda s: 0 < int.from_bytes(s, "big") < 2**255))
def test_addresses_agree_with_eth_account(secret: bytes) -> None:
    assert SigningKey(secret).address == Account.from_key(secret).address.lower()


def test_an_address_needs_an_uncompressed_point() -> None:
    for octets in (b"\x02" + b"\x11" * 32, b"\x04" + b"\x11" * 63, b"\x05" + b"\x11" * 64):
        with pytest.raises(InvalidInput):
            address_of(octets)


TOKEN, PAYER, PAYEE = "0x" + "aa" * 20, "0x" + "0b" * 20, "0x" + "0c" * 20


def word(address: str) -> bytes:
    """Return an address as an indexed topic."""
    return abi_encode(["address"], [address])


def transfer_log(**changes: Any) -> Log:
    """Return a good Transfer log with some members changed."""
    topics = (keccak(text="Transfer(address,address,uint256)"), word(PAYER), word(PAYEE))
    members = {"address": TOKEN, "topics": topics, "data": (5).to_bytes(32, "big"), **changes}
    return Log(**members)


def test_a_transfer_log_reads_as_contract_payer_payee_amount() -> None:
    assert parse_transfer_log(transfer_log()) == (TOKEN, PAYER, PAYEE, 5)


@given(ADDRESSES, ADDRESSES, UINT256)
def test_transfer_logs_keep_every_amount(sender: str, recipient: str, amount: int) -> None:
    log = transfer_log(topics=(TRANSFER_TOPIC, word(sender), word(recipient)), data=abi_encode(["uint256"], [amount]))
    assert parse_transfer_log(log) == (TOKEN, sender, recipient, amount)


@pytest.mark.parametrize(
    "changes",
    [
        {"topics": ()},
        {"topics": (TRANSFER_TOPIC, word(PAYER))},
        {"topics": (TRANSFER_TOPIC, word(PAYER), word(PAYEE), b"\0" * 32)},  # ERC-721: the amount is indexed
        {"topics": (b"\0" * 32, word(PAYER), word(PAYEE))},
        {"topics": (TRANSFER_TOPIC, b"\x01" + word(PAYER)[1:], word(PAYEE))},
        {"topics": (TRANSFER_TOPIC, word(PAYER), word(PAYEE)[:31])},
        {"data": b""},
        {"data": b"\0" * 33},
        {"data": b"\0" * 64},
    ],
)
def test_other_logs_are_no_transfer(changes: dict[str, Any]) -> None:
    assert parse_transfer_log(transfer_log(**changes)) is None


@st.composite
def legacy_transactions(draw: st.DrawFn) -> Legacy:
    """Any legacy transaction within the ranges."""
    return Legacy(
        chain_id=draw(st.integers(1, 2**64)),
        nonce=draw(st.integers(0, 2**64 - 2)),
        gas_price=draw(UINT256),
        gas_limit=draw(st.integers(1, 2**64 - 1)),
        to=draw(ADDRESSES),
        value=draw(UINT256),
        data=draw(st.binary(max_size=100)),
    )


@given(
    legacy_transactions(), st.binary(min_size=32, max_size=32).filter(lambda s: 0 < int.from_bytes(s, "big") < 2**255)
)
def test_legacy_transactions_agree_with_eth_account_byte_for_byte(transaction: Legacy, secret: bytes) -> None:
    signed = Account.sign_transaction(
        {
            "chainId": transaction.chain_id,
            "nonce": transaction.nonce,
            "gasPrice": transaction.gas_price,
            "gas": transaction.gas_limit,
            "to": bytes.fromhex(transaction.to[2:]),
            "value": transaction.value,
            "data": transaction.data,
        },
        secret,
    )
    key = SigningKey(secret)
    raw = transaction.encode(key.sign(transaction.signing_hash()))
    assert raw == bytes(signed.raw_transaction)
    assert tx_hash(raw) == "0x" + bytes(signed.hash).hex()
    assert Account.recover_transaction(raw).lower() == key.address
    assert transaction.max_fee_per_gas == transaction.max_priority_fee_per_gas == transaction.gas_price


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chain_id", 0),
        ("chain_id", 2**255),
        ("nonce", 2**64 - 1),
        ("gas_price", -1),
        ("gas_price", True),
        ("gas_limit", 0),
        ("value", 2**256),
        ("to", None),
    ],
)
def test_legacy_transactions_refuse_members_out_of_range(name: str, value: object) -> None:
    good: dict[str, Any] = {
        "chain_id": 1,
        "nonce": 0,
        "gas_price": 2,
        "gas_limit": 21000,
        "to": "0x" + "11" * 20,
        "value": 1,
    }
    with pytest.raises(InvalidInput) as refused:
        Legacy(**{**good, name: value})
    assert refused.value.field == name
