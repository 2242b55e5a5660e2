"""Key derivation against eth-account, and what a key shows of itself."""

import copy
import hashlib
import pickle

import pytest
from eth_account import Account
from eth_account.hdaccount import key_from_seed
from hypothesis import given
from hypothesis import strategies as st

from outlay.core.errors import InvalidInput
from outlay.signer.keys import INDEX_MAX, MasterKey, SigningKey

INDEXES = st.integers(0, INDEX_MAX)


@given(st.binary(min_size=64, max_size=64), INDEXES)
def test_wallet_keys_agree_with_eth_account(master_secret: bytes, index: int) -> None:
    expected = Account.from_key(key_from_seed(master_secret, f"m/44'/60'/0'/0/{index}"))
    assert MasterKey(master_secret).wallet(index).address == expected.address.lower()


def test_the_well_known_development_mnemonic_gives_its_well_known_address() -> None:
    # BIP-39 seed of "test test test test test test test test test test test junk", whose accounts anvil funds.
    words = b"test test test test test test test test test test test junk"
    seed = hashlib.pbkdf2_hmac("sha512", words, b"mnemonic", 2048)
    assert MasterKey(seed).wallet(0).address == "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
    assert MasterKey(seed).wallet(1).address == "0x70997970c51812dc3a010c7d01b50e0d17dc79c8"


@given(st.binary(min_size=32, max_size=32))
def test_signatures_are_deterministic_low_and_recoverable(digest: bytes) -> None:
    key = SigningKey(b"\x07" * 32)
    signature = key.sign(digest)
    assert signature == key.sign(digest)
    assert len(signature) == 65
    assert signature[64] in (0, 1)
    assert 0 < int.from_bytes(signature[32:64], "big") <= 2**255
    assert Account._recover_hash(digest, signature=signature).lower() == key.address


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_a_master_secret_has_one_length(size: int) -> None:
    with pytest.raises(InvalidInput):
        MasterKey(b"\x01" * size)


@pytest.mark.parametrize("index", [-1, INDEX_MAX + 1])
def test_wallet_indexes_have_a_range(index: int) -> None:
    with pytest.raises(InvalidInput):
        MasterKey(b"\x01" * 64).wallet(index)


def test_a_key_shows_nothing_of_itself() -> None:
    secret = bytes(range(1, 33))
    key, master = SigningKey(secret), MasterKey(secret * 2)
    shown = f"{key!r}{key}{[key]}{master!r}{master}"
    for spelling in (secret.hex(), str(int.from_bytes(secret, "big")), repr(secret)):
        assert spelling not in shown
    for thing in (key, master):
        assert not hasattr(thing, "__dict__")
        with pytest.raises(TypeError, match="does not leave"):
            pickle.dumps(thing)
        with pytest.raises(TypeError, match="does not leave"):
            copy.copy(thing)
