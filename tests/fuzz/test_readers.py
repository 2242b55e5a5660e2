"""What comes from outside as text: bodies, canonical documents, numbers, addresses, amounts. Read exactly, or refused.

Whatever a reader is given, it gives a value or an ``InvalidInput`` that names a field; nothing else ever leaves it.
"""

import json
import random
import re
import struct
import subprocess
import types
import typing
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from eth_utils.address import is_checksum_formatted_address, is_hex_address, to_checksum_address
from hypothesis import example, given
from hypothesis import strategies as st

from outlay.core.address import checksum, parse_address
from outlay.core.errors import InvalidInput
from outlay.core.money import AMOUNT_MAX, VALUE_UNIT, limit_value, parse_amount, parse_decimal
from outlay.evidence.canonical import canonical, digest, number_text, read_canonical, read_json
from outlay.evidence.shape import check_digest, check_texts, members
from outlay.web.app import CONTROLLERS
from outlay.web.body import read_object, read_struct
from tests import tools
from tests.fuzz.junk import almost_json, bent, bent_text, readable, sized, values

PRINT_AS_NODE = """
const lines = require('fs').readFileSync(0, 'latin1').split('\\n').filter(Boolean)
const read = {
  d: (hex) => JSON.stringify(Buffer.from(hex, 'hex').readDoubleBE()),
  t: (hex) => JSON.stringify(Buffer.from(hex, 'hex').toString('utf8')),
}
process.stdout.write(lines.map((line) => read[line[0]](line.slice(1)) + '\\n').join(''))
"""
"""Prints doubles (``d`` and 8 bytes in hex) and texts (``t`` and UTF-8 in hex), one a line, as ECMAScript does."""


def clear(error: InvalidInput) -> None:
    """Check that a refusal says where and what, and does not repeat all of what was sent."""
    assert error.field
    assert error.message
    assert len(error.message) < 4000


# Bodies


def _no_member_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


def texts_of(value: Any) -> Iterator[str]:
    """Yield every text in a value, names of members included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from texts_of(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts_of(each)


@sized(300)
@given(almost_json)
def test_a_body_is_one_object_for_every_reader_or_refused(raw: bytes) -> None:
    try:
        value = read_object(raw, field="body")
    except InvalidInput as error:
        clear(error)
        return
    again = canonical(value)
    assert read_object(again, field="body") == value
    assert digest(read_json(again, max_depth=32)) == digest(value)
    assert json.loads(raw, object_pairs_hook=_no_member_twice) == value
    assert all(unicodedata.is_normalized("NFC", text) for text in texts_of(value))


@sized(200)
@given(almost_json)
def test_stored_bytes_are_the_canonical_ones_or_refused(raw: bytes) -> None:
    for each in (raw, raw.strip()):
        try:
            value = read_canonical(each)
        except InvalidInput as error:
            clear(error)
        else:
            assert canonical(value) == each


def declared_bodies() -> dict[str, Any]:
    """Return the type of every body that a route reads, by name."""
    found = {}
    for controller in CONTROLLERS:
        for handler in vars(controller).values():
            kind = typing.get_type_hints(getattr(handler, "fn", None) or (lambda: None)).get("data")
            if kind is not None:
                found[str(getattr(kind, "__name__", kind))] = kind
    return found


BODIES = declared_bodies()


def _fields(kind: Any) -> list[str]:
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    names = [field.encode_name for each in kinds for field in msgspec.structs.fields(each)]
    tags = [str(each.__struct_config__.tag_field) for each in kinds if each.__struct_config__.tag_field]
    return [*dict.fromkeys([*names, *tags])]


def test_every_route_with_a_body_is_tried() -> None:
    assert len(BODIES) >= 20


@pytest.mark.parametrize("name", sorted(BODIES))
@sized(25)
@given(data=st.data())
def test_any_members_are_the_declared_body_or_refused_by_name(name: str, data: st.DataObject) -> None:
    kind = BODIES[name]
    member = st.sampled_from([*_fields(kind), "other"])
    payload = data.draw(st.dictionaries(member, values | st.sampled_from(["Native", "Erc20", "Key"]), max_size=6))
    try:
        read_struct(payload, kind)
    except InvalidInput as error:
        clear(error)
        first = re.split(r"[.\[]", str(error.field))[0]
        assert first in {*_fields(kind), "other", "body"}


# Canonical form


def _doubles(dice: random.Random, count: int) -> list[float]:
    """Return doubles of every size, most near a power of two or ten, where printing is hardest."""
    found: list[float] = [0.0, -0.0, 5e-324, 2.2250738585072014e-308, 1e21, 1e-7, 1e-6, 123456789012345680000.0]
    while len(found) < count:
        kind = dice.randrange(4)
        if kind == 0:
            (number,) = struct.unpack(">d", dice.randbytes(8))
        elif kind == 1:
            number = float(f"1e{dice.randrange(-323, 309)}") * dice.choice((1, 5, 9.999999999999999, dice.random()))
        elif kind == 2:
            bits = struct.unpack(">q", struct.pack(">d", 2.0 ** dice.randrange(-1022, 1023)))[0]
            (number,) = struct.unpack(">d", struct.pack(">q", bits + dice.randrange(-2, 3)))
        else:
            number = dice.randrange(10**17) / 10 ** dice.randrange(20)
        if number - number == 0:
            found.append(number if dice.random() < 0.5 else -number)
    return found


def test_numbers_and_texts_are_written_as_node_writes_them(request: pytest.FixtureRequest) -> None:
    dice, count = random.Random(int(request.config.getoption("--hypothesis-seed"))), tools.examples(10_000)
    doubles = _doubles(dice, count)
    points = [*range(0x80), 0x7F, 0x80, 0xFF, 0x2028, 0xD7FF, 0xE000, 0xFB33, 0xFFFF, 0x10000, 0x1F600, 0x10FFFF]
    texts = ["".join(map(chr, dice.choices(points, k=dice.randrange(1, 9)))) for _ in range(count)]
    lines = [f"d{struct.pack('>d', each).hex()}" for each in doubles] + [f"t{each.encode().hex()}" for each in texts]
    ran = subprocess.run(
        ["node", "-e", PRINT_AS_NODE], input="\n".join(lines), capture_output=True, text=True, timeout=120, check=True
    )
    # Node writes text as UTF-8, we escape what is not ASCII; nothing else differs.
    expected = [
        re.sub("[^\x00-\x7f]", lambda match: json.dumps(match[0])[1:-1], line) for line in ran.stdout.split("\n")[:-1]
    ]
    written = [number_text(each) for each in doubles] + [canonical(each).decode() for each in texts]
    assert len(expected) == len(lines)
    assert written == expected
    print(f"\n{len(doubles)} numbers and {len(texts)} texts compared with Node")


# Members


@sized(200)
@given(values, st.dictionaries(st.sampled_from("abc"), st.sampled_from([str, int, dict, list, bool, object])))
def test_members_are_all_there_and_of_their_types_or_named(value: Any, wanted: dict[str, type]) -> None:
    try:
        given = members(value, "place", wanted)
    except InvalidInput as error:
        clear(error)
        assert str(error.field).startswith("place")
        return
    assert set(given) == set(wanted)
    assert all(isinstance(given[name], kind) for name, kind in wanted.items())
    assert not any(kind is int and isinstance(given[name], bool) for name, kind in wanted.items())


@sized(100)
@given(values)
def test_digests_and_lists_of_texts_are_told_from_all_else(value: Any) -> None:
    for check in (check_digest, check_texts):
        try:
            check(value, "place")
        except InvalidInput as error:
            assert error.field == "place"


# Addresses and amounts

addresses = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
spelled = addresses.flatmap(lambda text: st.sampled_from([text, checksum(text), "0x" + text[2:].upper()]))


@sized(300)
@given(spelled.flatmap(bent_text) | spelled.map(lambda text: "0x" + text[2:].swapcase()) | spelled)
def test_an_address_is_what_another_implementation_takes_for_one(text: str) -> None:
    is_right = is_hex_address(text) and text.startswith("0x") and text.isascii()
    if is_right and is_checksum_formatted_address(text):
        is_right = to_checksum_address(text) == text
    try:
        address = parse_address(text, field="to")
    except InvalidInput as error:
        clear(error)
        assert not is_right
    else:
        assert is_right
        assert to_checksum_address(address) == to_checksum_address(text)


numerals = st.from_regex(r"-?[0-9]{0,4}([._][0-9]{1,12})?([eE][+-]?[0-9]{1,3})?", fullmatch=True) | st.integers(
    0, 2**257
).map(str)
odd_numerals = (
    numerals | numerals.flatmap(bent_text) | st.text(st.characters(categories=["Nd", "No", "Zs", "Pc"]), max_size=6)
)


@sized(250)
@given(odd_numerals)
@example("\u0661")
@example("1_000")
@example(" 1")
@example("1\n")
def test_amounts_prices_and_limits_are_what_their_digits_say(text: str) -> None:
    plain = re.fullmatch(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", text, re.ASCII)
    for read, unit in (
        (lambda: parse_amount(text), 1),
        (lambda: parse_decimal(text, field="price"), 1),
        (lambda: limit_value(text, field="limit"), VALUE_UNIT),
    ):
        try:
            number = read()
        except InvalidInput as error:
            clear(error)
        else:
            assert plain, f"{text!r} was read as {number}"
            assert Fraction(text) * unit == Fraction(number)
            assert 0 <= number <= AMOUNT_MAX


@sized(100)
@given(bent({"amount": "5", "to": "0x" + "1a" * 20}), readable)
def test_what_is_no_text_is_no_amount_and_no_address(document: Any, _more: str) -> None:
    for each in document.values() if isinstance(document, dict) else [document]:
        for read in (lambda value: parse_amount(value), lambda value: parse_address(value, field="to")):
            try:
                read(each)
            except InvalidInput as error:
                clear(error)
            else:
                assert isinstance(each, str)
