"""The body reader: what is not plainly one JSON object of known members is refused, and the member is named."""

import json
import unicodedata
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outlay.core.errors import InvalidInput
from outlay.web.body import Label, read_object, read_struct


class Inner(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A part of a body."""

    quorum: int


class Sample(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A body."""

    name: Label
    groups: list[Inner] = []
    enabled: bool | None = None
    size: int | None = None


class Cat(msgspec.Struct, tag_field="kind", tag="Cat", forbid_unknown_fields=True, kw_only=True):
    """One of two bodies."""

    to: str


class Dog(msgspec.Struct, tag_field="kind", tag="Dog", forbid_unknown_fields=True, kw_only=True):
    """The other one."""

    to: str


def refusal(raw: bytes) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        read_object(raw, field="body")
    return caught.value


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\xff\xfe{}", id="not UTF-8"),
        pytest.param(b'{"a":"\xc0\xaf"}', id="an overlong escape"),
        pytest.param(b"\xef\xbb\xbf{}", id="a byte order mark"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"{}{}", id="two objects"),
        pytest.param(b"{'a':1}", id="single quotes"),
        pytest.param(b'{"a":1,}', id="a trailing comma"),
        pytest.param(b'{"a":01}', id="a leading zero"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"text"', id="a text"),
        pytest.param(b'{"a":1,"a":1}', id="a member twice"),
        pytest.param(b'{"a":1,"\\u0061":1}', id="a member twice, spelled differently"),
        pytest.param(b'{"a":{"b":1,"b":2}}', id="an inner member twice"),
        pytest.param(b'{"a":' * 17 + b"1" + b"}" * 17, id="17 deep"),
        pytest.param(b'{"a":' + b"[" * 16 + b"]" * 16 + b"}", id="17 deep, lists"),
        pytest.param(b"[" * 100_000, id="100,000 deep"),
        pytest.param(b'{"a":' * 100_000, id="100,000 objects deep"),
        pytest.param(b'{"a":"\\ud800"}', id="half a surrogate pair"),
        pytest.param(b'{"\\udc00":1}', id="half a surrogate pair as a name"),
        pytest.param(b'{"a":9007199254740993}', id="2^53 + 1"),
        pytest.param(b'{"a":9007199254740993.0}', id="2^53 + 1 with a point"),
        pytest.param(b'{"a":1e999}', id="1e999"),
        pytest.param(b'{"a":-1e999}', id="-1e999"),
        pytest.param(b'{"a":1e30}', id="1e30"),
        pytest.param(b'{"a":NaN}', id="NaN"),
        pytest.param(b'{"a":Infinity}', id="Infinity"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", id="5000 digits"),
        pytest.param(b'{"a":0.' + b"1" * 5000 + b"}", id="5000 decimal places"),
        pytest.param(b'{"a":1e' + b"9" * 5000 + b"}", id="an exponent of 5000 digits"),
    ],
)
def test_what_two_readers_could_understand_differently_is_refused(raw: bytes) -> None:
    assert refusal(raw).field == "body"


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x7f", "\x85", "\u200b", "\u202e", "\u2028", "\ufeff"])
def test_characters_that_do_not_show_are_refused_and_the_member_is_named(character: str) -> None:
    raw = json.dumps({"a": [{"b": f"x{character}y"}]}).encode()
    error = refusal(raw)
    assert error.field == "a[0].b"
    assert f"U+{ord(character):04X}" in error.message
    assert refusal(json.dumps({"a": {f"x{character}": 1}}).encode()).field == "a"


def test_text_that_looks_like_another_spelling_of_itself_is_refused() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert unicodedata.normalize("NFC", decomposed) == composed
    assert read_object(json.dumps({"name": composed}).encode(), field="body") == {"name": composed}
    assert refusal(json.dumps({"name": decomposed}).encode()).field == "name"


def test_a_member_without_a_name_is_refused() -> None:
    assert refusal(b'{"":1}').field == "body"
    assert refusal(b'{"a":[{"":1}]}').field == "a[0]"


def test_lines_and_every_script_are_kept() -> None:
    body = {"key": "-----BEGIN PUBLIC KEY-----\nMCow\r\n", "name": "支払い Ünïté 💸 שלום", "tab": "a\tb"}
    assert read_object(json.dumps(body, ensure_ascii=False).encode(), field="body") == body


@given(st.binary(max_size=200))
@example(b'{"a":1.0}')
def test_any_bytes_are_an_object_or_refused(raw: bytes) -> None:
    try:
        value = read_object(raw, field="body")
    except InvalidInput as error:
        assert error.field
    else:
        assert value == json.loads(raw)


plain_text = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=20).map(
    lambda text: unicodedata.normalize("NFC", text)
)
member_names = plain_text.filter(bool)
plain_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | plain_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(member_names, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(member_names, plain_json, max_size=4))
def test_an_ordinary_object_comes_back_as_it_was_sent(body: dict[str, Any]) -> None:
    assert read_object(json.dumps(body).encode(), field="body") == body


@pytest.mark.parametrize(
    ("body", "field", "advice"),
    [
        ({}, "name", "is missing"),
        ({"name": "x", "status": "Done"}, "status", "leave it out"),
        ({"name": "x", "groups": [{"quorum": 1, "id": "g"}]}, "groups[0].id", "leave it out"),
        ({"name": "x", "groups": [{"quorum": 1}, {}]}, "groups[1].quorum", "is missing"),
        ({"name": "x", "groups": [{"quorum": "1"}]}, "groups[0].quorum", "must be a whole number, not a string"),
        ({"name": "x", "groups": [{"quorum": True}]}, "groups[0].quorum", "must be a whole number"),
        ({"name": "x", "groups": [{"quorum": 1.5}]}, "groups[0].quorum", "must be a whole number, not a number"),
        ({"name": "x", "groups": {}}, "groups", "must be a list, not an object"),
        ({"name": 5}, "name", "must be a string, not a whole number"),
        ({"name": None}, "name", "must be a string, not null"),
        ({"name": ""}, "name", "at least 1 character"),
        ({"name": "x" * 201}, "name", "at most 200 characters"),
        ({"name": "x", "enabled": 1}, "enabled", "must be true or false or null, not a whole number"),
        ({"name": "x", "enabled": "true"}, "enabled", "must be true or false"),
        ({"name": "x", "size": "5"}, "size", "must be a whole number or null, not a string"),
    ],
)
def test_a_wrong_member_is_named_with_what_to_do(body: dict[str, Any], field: str, advice: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_struct(body, Sample)
    assert caught.value.field == field
    assert advice in caught.value.message


@pytest.mark.parametrize("kind", ["Fish", "cat", ""])
def test_an_unknown_kind_is_told_the_kinds_there_are(kind: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_struct({"kind": kind, "to": "x"}, Cat | Dog)
    assert (caught.value.field, caught.value.message) == ("kind", "must be one of Cat, Dog")


def test_nothing_is_coerced() -> None:
    read = read_struct({"name": "x", "groups": [{"quorum": 2}], "enabled": False, "size": 3}, Sample)
    assert read == Sample(name="x", groups=[Inner(quorum=2)], enabled=False, size=3)
