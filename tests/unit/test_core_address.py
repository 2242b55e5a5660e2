"""An address with a wrong checksum is never paid."""

import pytest
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from outlay.core.address import ZERO, checksum, parse_address
from outlay.core.errors import InvalidInput

addresses = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())

# The examples of EIP-55.
VECTORS = [
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
    "0xde709f2102306220921060314715629080e2fb77",
    "0x27b1fdb04752bbc536007a920d24acb045561c26",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]


@pytest.mark.parametrize("address", VECTORS)
def test_checksums_of_the_standard(address: str) -> None:
    assert checksum(address.lower()) == address
    assert parse_address(address, field="to") == address.lower()


@given(addresses)
def test_checksums_agree_with_another_implementation(address: str) -> None:
    assert checksum(address) == to_checksum_address(address)


@given(addresses)
def test_every_right_spelling_is_the_same_address(address: str) -> None:
    spellings = {address, "0x" + address[2:].upper(), checksum(address)}

    assert {parse_address(spelling, field="to") for spelling in spellings} == {address}


@given(addresses, st.integers(min_value=2, max_value=41))
def test_one_letter_in_the_wrong_case_is_refused(address: str, position: int) -> None:
    right = checksum(address)
    wrong = right[:position] + right[position].swapcase() + right[position + 1 :]
    if wrong == right or wrong[2:] in (wrong[2:].lower(), wrong[2:].upper()):
        return  # a digit has no case; a text in one case carries no checksum

    with pytest.raises(InvalidInput, match="checksum") as refusal:
        parse_address(wrong, field="body.to")
    assert refusal.value.field == "body.to"


@pytest.mark.parametrize(
    "value",
    [
        *("", "0x", "0x" + "1" * 39, "0x" + "1" * 41, "1" * 40, "0X" + "1" * 40, "0x" + "g" * 40),
        *(" 0x" + "1" * 40, "0x" + "1" * 40 + "\n", "0x" + "\uff11" * 40, "vitalik.eth"),
        *(None, 1, b"0x" + b"1" * 40, ["0x" + "1" * 40]),
    ],
)
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="40 hexadecimal digits"):
        parse_address(value, field="to")


def test_the_zero_address_has_the_shape_of_an_address() -> None:
    assert parse_address(ZERO, field="to") == ZERO
