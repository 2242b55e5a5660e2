"""Identifiers have the contract's shape and are as unpredictable as the bytes they are made of."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.core import ids

PREFIXES = sorted(
    value
    for name, value in vars(ids).items()
    # The contract gives change requests the prefix of credentials.
    if name.isupper() and not name.startswith("_") and name not in ("ID", "CHANGE")
)


class FixedEntropy:
    """Gives the same bytes each time."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def token(self, size: int) -> bytes:
        """Return the first ``size`` bytes."""
        assert size <= len(self.content)
        return self.content[:size]


tokens = st.binary(min_size=17, max_size=17)


@given(st.sampled_from(PREFIXES), tokens)
def test_an_identifier_has_the_shape_of_the_contract(prefix: str, content: bytes) -> None:
    text = ids.new_id(prefix, FixedEntropy(content))

    assert re.fullmatch(rf"{prefix}-[0-9a-z]{{5}}-[0-9a-z]{{5}}-[0-9a-z]{{16}}", text)
    assert ids.is_id(text, prefix)


@given(tokens)
def test_an_identifier_is_of_one_kind(content: bytes) -> None:
    for prefix in PREFIXES:  # one prefix begins with another, so every pair is tried
        text = ids.new_id(prefix, FixedEntropy(content))
        assert [other for other in PREFIXES if ids.is_id(text, other)] == [prefix]


@given(tokens, st.integers(min_value=0, max_value=133))
def test_each_of_134_bits_counts(content: bytes, bit: int) -> None:
    number = int.from_bytes(content, "big") % 36**26
    other = (number ^ (1 << bit)) % 36**26

    texts = {ids.new_id("wa", FixedEntropy(n.to_bytes(17, "big"))) for n in (number, other)}

    assert len(texts) == len({number, other})


def test_each_kind_has_a_prefix_of_its_own() -> None:
    assert len(PREFIXES) == len(set(PREFIXES)) > 15


@pytest.mark.parametrize(
    "text",
    [
        "",
        "wa",
        "wa-",
        "wa-12345-12345",
        "wa-12345-12345-1234567890123",
        "wa-12345-12345-12345678901234567",
        "wa-1234-12345-1234567890123456",
        "WA-12345-12345-1234567890123456",
        "wa-ABCDE-12345-1234567890123456",
        "wa-12345-12345-1234567890123456\n",
        " wa-12345-12345-1234567890123456",
        "wa-12345-12345-123456789012345\u0661",
        "wa-12345-12345-1234567890123/..",
        "wa-12345-12345-" + "1" * 5000,
    ],
)
def test_other_text_is_no_identifier(text: str) -> None:
    assert not ids.is_id(text, "wa")
