"""Strategies: JSON values of any kind, right documents bent out of shape, and bytes that are almost JSON."""

import copy
import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from tests import tools
from tests.fuzz.bodies import LITERALS, TEXTS, places

SAFE = 2**53 - 1


def sized(usual: int) -> settings:
    """Return the settings of a test of ``usual`` cases; with OUTLAY_SEEDS it has 2.5 times as many for each seed."""
    seeds = tools.examples(1)
    return settings(max_examples=usual if seeds == 1 else usual * seeds * 5 // 2, deadline=None)


readable = st.characters(exclude_categories=["Cs"])
numbers = (
    st.integers(-SAFE, SAFE)
    | st.sampled_from([0, 1, -1, 0.5, 1e-7, SAFE, -SAFE])
    | st.floats(-SAFE, SAFE, allow_nan=False)
)
hostile_texts = st.sampled_from([text for text in TEXTS if "\ud800" not in text and len(text) < 1000])
scalars = st.none() | st.booleans() | numbers | st.text(readable, max_size=8) | hostile_texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(readable, max_size=6), inner, max_size=3),
    max_leaves=8,
)
"""Every kind of value that can be signed."""


@st.composite
def bent(draw: st.DrawFn, document: Any, odd: st.SearchStrategy[Any] = hostile_texts) -> Any:
    """A copy of ``document`` (anything ``json`` can write) with up to three places changed, some to ``odd`` values."""
    made = copy.deepcopy(document)
    for _ in range(draw(st.integers(0, 3))):
        found = places(made)
        if not found:
            return draw(values | odd)
        *outer, last = draw(st.sampled_from(found))
        parent = made
        for step in outer:
            parent = parent[step]
        kind = draw(st.sampled_from(["drop", "add", "text", "wrap", "swap", "set", "odd"]))
        if kind == "drop":
            del parent[last]
        elif kind == "add" and isinstance(parent, dict):
            parent[draw(st.text(readable, max_size=6))] = draw(values)
        elif kind == "text" and isinstance(parent[last], str):
            parent[last] = draw(bent_text(parent[last]))
        elif kind == "wrap":
            parent[last] = [parent[last]] * draw(st.integers(0, 3))
        elif kind == "swap":
            parent[last] = copy.deepcopy(_at(made, draw(st.sampled_from(found))))
        else:
            parent[last] = draw(values if kind == "set" else odd)
    return made


def _at(document: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


@st.composite
def bent_text(draw: st.DrawFn, text: str) -> str:
    """A copy of ``text`` with a stretch of it replaced."""
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 3)))
    return text[:start] + draw(st.text(readable, max_size=3) | hostile_texts) + text[end:]


@st.composite
def bent_bytes(draw: st.DrawFn, raw: bytes) -> bytes:
    """A copy of ``raw`` with up to three stretches of it replaced by bytes or by a hostile literal."""
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(raw)))
        end = draw(st.integers(start, min(len(raw), start + 8)))
        raw = raw[:start] + draw(st.binary(max_size=4) | st.sampled_from(LITERALS)) + raw[end:]
    return raw


_PIECES = [*LITERALS, *(b"{", b"}", b"[", b"]", b",", b":", b" ", b"\n", b'"a"', b'"\\u0061"', b'"b"', b"1", b"0.5")]
_MEMBERS = st.lists(
    st.tuples(st.sampled_from([b'"a"', b'"\\u0061"', b'"b"', b'""', b'"\xc3\xa9"', b'"e\xcc\x81"']), values), max_size=4
)


def _object(members: list[tuple[bytes, Any]]) -> bytes:
    return b"{" + b",".join(name + b":" + json.dumps(value).encode() for name, value in members) + b"}"


almost_json = (
    st.lists(st.sampled_from(_PIECES), max_size=8).map(b"".join)
    | _MEMBERS.map(_object)
    | st.dictionaries(st.text(readable, max_size=6), values, max_size=4).map(
        lambda value: json.dumps(value, ensure_ascii=False).encode()
    )
)
almost_json |= almost_json.flatmap(bent_bytes)
"""Bytes that are JSON, or nearly: members repeated, numbers nobody reads alike, broken UTF-8, endless nesting."""
