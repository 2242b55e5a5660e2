"""Base64url: one text for one value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.core.errors import InvalidInput
from outlay.evidence.base64url import from_base64url, to_base64url


@given(st.binary(max_size=40))
def test_bytes_read_back(data: bytes) -> None:
    """With and without the padding a client may add."""
    text = to_base64url(data)

    assert data == from_base64url(text, field="x")
    assert data == from_base64url(text + "=" * (-len(text) % 4), field="x", padded=True)


@given(st.text(st.sampled_from("AQgw_-=+/\n é"), max_size=9))
def test_only_one_text_is_accepted_for_a_value(text: str) -> None:
    """What is accepted is exactly what would be written."""
    try:
        data = from_base64url(text, field="x")
    except InvalidInput:
        return

    assert text == to_base64url(data)


@pytest.mark.parametrize("text", ["A", "AB", "AA=", "AA===", "A===", "=", "====", "AA==AA==", "A+A/", "AA\n=", "AAA=="])
def test_malformed_text_is_refused_even_where_padding_is_allowed(text: str) -> None:
    """Wrong length, wrong padding, other alphabets, set bits that mean nothing."""
    with pytest.raises(InvalidInput):
        from_base64url(text, field="x", padded=True)
