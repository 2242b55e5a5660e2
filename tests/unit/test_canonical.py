"""Canonical JSON: the vectors, in Python and in Node, and what must hold for every value."""

import base64
import json
import random
import struct
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from outlay.core.errors import InvalidInput
from outlay.evidence.canonical import (
    MAX_INTEGER,
    CanonicalError,
    JsonNumber,
    canonical,
    digest,
    number_text,
    payload_digest,
    payload_object,
    read_canonical,
    read_json,
)

VECTORS = Path(__file__).parents[1] / "vectors"


def load(name: str) -> list[dict[str, Any]]:
    """Return the vectors of one file."""
    vectors: list[dict[str, Any]] = json.loads((VECTORS / name).read_text("ascii"))
    return vectors


def bytes_of(vector: dict[str, Any]) -> bytes:
    """Return the bytes a vector starts from."""
    if "input_hex" in vector:
        return bytes.fromhex(vector["input_hex"])
    return str(vector["input"]).encode("utf-8", "surrogatepass")


GOOD = [vector for vector in load("canonical.json") if not vector.get("error")]
BAD = [vector for vector in load("canonical.json") if vector.get("error")]


@pytest.mark.parametrize("vector", GOOD, ids=lambda vector: vector["name"])
def test_vector_has_its_canonical_bytes_and_digest(vector: dict[str, Any]) -> None:
    """Every accepted text has the bytes written down, and those bytes are their own canonical form."""
    value = read_json(bytes_of(vector))

    assert vector["canonical"].encode("ascii") == canonical(value)
    assert vector["digest"] == digest(value)
    assert vector["canonical"].encode("ascii") == canonical(read_canonical(vector["canonical"].encode("ascii")))


@pytest.mark.parametrize("vector", BAD, ids=lambda vector: vector["name"])
def test_vector_is_refused_as_bad_input(vector: dict[str, Any]) -> None:
    """What two readers could take for two values is refused, and with nothing but InvalidInput."""
    with pytest.raises(InvalidInput) as caught:
        read_json(bytes_of(vector), field="body")

    assert caught.value.field == "body"


@pytest.mark.parametrize("vector", load("numbers.json"), ids=lambda vector: vector["double"])
def test_double_prints_as_ecmascript_prints_it(vector: dict[str, Any]) -> None:
    """Node checks the same list with its own String()."""
    (number,) = struct.unpack(">d", bytes.fromhex(vector["double"]))

    assert vector["text"] == number_text(number)
    assert number == float(vector["text"])


def node(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the Node checker."""
    command = ["node", str(VECTORS / "check.mjs"), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def test_node_agrees_with_every_vector() -> None:
    """The second implementation reads all the files; a machine without node fails here."""
    ran = node()

    assert ran.returncode == 0, ran.stderr
    assert f"canonical.json: {len(GOOD) + len(BAD)} vectors" in ran.stdout
    assert f"numbers.json: {len(load('numbers.json'))} vectors" in ran.stdout


def random_text(rng: random.Random, depth: int = 0) -> str:
    """Return a random JSON text, now and then a malformed or ambiguous one."""
    kind = rng.randrange(7 if depth < 4 else 5)
    if kind == 0:
        return rng.choice(["null", "true", "false", "0", "-0.0", "1e3", "1.50", "NaN", "01"])
    if kind == 1:
        return repr(struct.unpack(">d", rng.randbytes(8))[0])
    if kind == 2:
        return f"{rng.randrange(-(10 ** rng.randrange(1, 18)), 10**17)}" + rng.choice(["", ".0", ".25", "e-3"])
    if kind in (3, 4):
        points = rng.choices([0x22, 0x5C, 0x7F, 0x80, 0xE9, 0xD7FF, 0xFB33, 0x1F600, 0x61, 0x0A], k=4)
        text = "".join(map(chr, points))
        return json.dumps(text, ensure_ascii=rng.random() < 0.5)
    items = [random_text(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 5:
        return "[" + " , ".join(items) + "]"
    names = [rng.choice(['"a"', '"\\u0061"', '"b"', '"é"', '"😀"', '"\\ufb33"', '"10"', '"9"']) for _ in items]
    return "{" + ",".join(f"{name} :{item}" for name, item in zip(names, items, strict=True)) + "}"


def test_node_and_python_read_random_texts_alike() -> None:
    """Both accept the same texts and write the same bytes."""
    rng = random.Random(20240817)
    texts = [random_text(rng).encode("utf-8") for _ in range(1500)]

    def here(text: bytes) -> str:
        try:
            return canonical(read_json(text)).decode("ascii")
        except InvalidInput:
            return "refused"

    expected = [here(text) for text in texts]
    ran = node("canonical", stdin="\n".join(base64.b64encode(text).decode() for text in texts))

    assert ran.returncode == 0, ran.stderr
    assert expected == ran.stdout.split("\n")[:-1]
    assert 200 < expected.count("refused") < 1300


finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-MAX_INTEGER, max_value=MAX_INTEGER)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | finite | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def loose_text(value: Any, rng: random.Random) -> str:
    """Write ``value`` as JSON with its members shuffled, spaces sprinkled and strings escaped at random."""
    space = "".join(rng.choices(" \t\n\r", k=rng.randrange(3)))
    if isinstance(value, dict):
        members = [f"{loose_text(key, rng)}:{loose_text(item, rng)}" for key, item in value.items()]
        rng.shuffle(members)
        return f"{space}{{{space}{','.join(members)}}}{space}"
    if isinstance(value, list):
        return f"{space}[{','.join(loose_text(item, rng) for item in value)}{space}]{space}"
    if isinstance(value, str):
        return space + json.dumps(value, ensure_ascii=rng.random() < 0.5) + space
    return space + json.dumps(value) + space


@settings(max_examples=200, deadline=None)
@given(values, st.randoms(use_true_random=False))
@example({"\U0001f600": 1, "\ufb33": 2}, random.Random(1))
def test_canonical_bytes_do_not_depend_on_order_space_or_escapes(value: Any, rng: random.Random) -> None:
    """However a value is written, its canonical bytes are the same."""
    assert canonical(value) == canonical(read_json(loose_text(value, rng).encode("utf-8"), max_depth=40))


@settings(max_examples=200, deadline=None)
@given(values)
def test_canonical_bytes_read_back_equal(value: Any) -> None:
    """The bytes are ASCII JSON for the same value, and canonical themselves."""
    written = canonical(value)

    assert written.isascii()
    assert value == json.loads(written)
    assert written == canonical(read_json(written, max_depth=40))


@settings(max_examples=300, deadline=None)
@given(st.from_regex(r"-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_accepted_number_keeps_its_exact_decimal_value(text: str) -> None:
    """No accepted literal is rounded: its text, its digest and its value say the same decimal."""
    try:
        value = read_json(text.encode())
    except InvalidInput:
        return

    assert Decimal(text) == Decimal(canonical(value).decode())
    assert isinstance(value, int) == (Decimal(text) % 1 == 0)
    if isinstance(value, JsonNumber):
        assert text == value.text


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_reading_any_bytes_gives_a_value_or_bad_input(data: bytes) -> None:
    """No other exception leaves the reader, and every value it returns has a canonical form."""
    try:
        value = read_json(data)
    except InvalidInput:
        return

    canonical(value)


@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 100_000, b"-" + b"0." + b"1" * 50_000, b"1e" + b"9" * 5000]
)
def test_hostile_size_is_bad_input(data: bytes) -> None:
    """Neither RecursionError nor the interpreter's limit on digits shows."""
    with pytest.raises(InvalidInput):
        read_json(data)


@pytest.mark.parametrize(
    "value",
    [
        2**53,
        -(2**53),
        2.0**53,
        1e30,
        float("nan"),
        float("inf"),
        float("-inf"),
        "\ud800",
        {"\udc00": 1},
        {1: 2},
        {None: 1},
        {1.5},
        b"bytes",
        Decimal(1),
        ...,
    ],
    ids=repr,
)
def test_value_without_canonical_form_is_refused(value: object) -> None:
    """Refused wherever it stands."""
    with pytest.raises(CanonicalError):
        canonical(value)
    with pytest.raises(CanonicalError):
        canonical({"a": [value]})


def test_endless_value_is_refused() -> None:
    """A list that holds itself is refused, not followed."""
    endless: list[object] = []
    endless.append(endless)

    with pytest.raises(CanonicalError):
        canonical(endless)


def test_booleans_are_not_numbers() -> None:
    """``true`` and 1 are equal in Python and must not be in a digest."""
    assert canonical([True, 1, False, 0]) == b"[true,1,false,0]"
    assert digest({"a": True}) != digest({"a": 1})


def test_absent_empty_and_braces_are_one_payload() -> None:
    """The two SDKs sign different spellings of "no body"."""
    empty = payload_digest({})

    assert empty == payload_digest(None) == payload_digest("")
    assert {} == payload_object(None) == payload_object("") == payload_object({})
    assert empty not in {payload_digest([]), payload_digest(False), payload_digest(0), payload_digest({"a": None})}


def test_integral_numbers_become_integers_and_others_keep_their_text() -> None:
    """Limits are read as decimals from the text that was sent."""
    value = read_json(b'[1.0, 1e3, -0.0, 0.50, "x"]')

    assert isinstance(value, list)
    assert [int, int, int, JsonNumber, str] == [type(item) for item in value]
    assert value[3].text == "0.50"
    assert canonical(value) == b'[1,1000,0,0.5,"x"]'


def test_stored_document_must_be_in_canonical_form() -> None:
    """A document kept for evidence has one spelling."""
    assert read_canonical(b'{"a":1,"b":2}') == {"a": 1, "b": 2}
    for other in (b'{"b":2,"a":1}', b'{"a": 1,"b":2}', b'{"a":1.0,"b":2}', '{"a":"é"}'.encode()):
        with pytest.raises(InvalidInput):
            read_canonical(other)


def test_depth_counts_arrays_and_objects() -> None:
    """The limit is inclusive and can be lowered."""
    assert read_json(b"[[1]]", max_depth=2)
    assert read_json(b"1", max_depth=0) == 1
    with pytest.raises(InvalidInput):
        read_json(b'[{"a":[]}]', max_depth=2)
