"""Values no specification asks for: texts, numbers and shapes that readers are known to stumble over."""

import copy
import json
import random
from typing import Any

TEXTS = (
    *("", " ", "\x00", "\t", "0", "-1", "1e3", "NaN", "null", "true", "[]", "{}", "__proto__", "constructor"),
    *("\ud800", "\U0001f4b8", "e\u0301", "\u202e", "\ufeff", "\u0665", "\uff11", "A" * 70_000, "../..", "%2e%2e", "'"),
    *('"', "0x", "0x" + "0" * 40, "0X" + "f" * 40, "1" * 78, "9" * 400, "2026-01-01T00:00:00Z", "us-", "\\"),
)
NUMBERS = (0, -0.0, -1, 1, 0.1, 1e-7, 5e-324, 2**31, 2**53 - 1, 2**53, 2**53 + 1, 2**64, 10**30, 1e300, 10**400)
VALUES: tuple[Any, ...] = (
    *TEXTS,
    *NUMBERS,
    True,
    False,
    None,
    [],
    {},
    [[]],
    [{}],
    [None],
    {"": ""},
    {"a": {"a": {"a": []}}},
)
LITERALS = (
    *(b"1e999", b"-1e999", b"1e-999", b"NaN", b"Infinity", b"-", b"01", b"+1", b".5", b"5.", b"0x10", b"1_0"),
    *(b"9007199254740993", b"9007199254740993.0", b"1.0000000000000000000001", b"9" * 5000, b"1e" + b"9" * 400),
    *(b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\n"', b'"\\x"', b"tru"),
    *(b"[" * 40 + b"]" * 40, b"[" * 20_000, b'{"a":' * 20_000, b'{"a":1,"a":2}', b'{"a":1,"\\u0061":2}', b"/**/1"),
)
"""JSON values, or almost, as bytes."""


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every member and item, however deep."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in inner for place in ((*path, key), *places(each, (*path, key)))]


def mutate(value: Any, dice: random.Random) -> Any:
    """Return a copy with one place removed, replaced, renamed, repeated or exchanged with another."""
    made = copy.deepcopy(value)
    found = places(made)
    if not found:
        return dice.choice(VALUES)
    *outer, last = dice.choice(found)
    parent = made
    for step in outer:
        parent = parent[step]
    kind = dice.randrange(6)
    if kind == 0:
        del parent[last]
    elif kind == 1 and isinstance(parent, dict):
        parent[str(last) + dice.choice(("", "x", "\x00", "s"))] = dice.choice(VALUES)
    elif kind == 2 and isinstance(parent[last], str):
        parent[last] = bend(parent[last], dice)
    elif kind == 3:
        parent[last] = [parent[last]] * dice.choice((1, 2, 200))
    elif kind == 4:
        *other, key = dice.choice(found)
        source = made
        for step in other:
            source = source[step]
        parent[last] = copy.deepcopy(source[key])
    else:
        parent[last] = dice.choice(VALUES)
    return made


def bend(text: str, dice: random.Random) -> str:
    """Return a text with one character changed, added or taken away, or the case or the length changed."""
    at = dice.randrange(len(text) + 1)
    odd = dice.choice(("\x00", "\u200b", "\u0301", "é", "0", "a", "Z", "-", "/", ".", " ", "\n", "\ud800"))
    return dice.choice(
        (text[:at] + odd + text[at:], text[:at] + text[at + 1 :], text.swapcase(), text * 2, text[:at], text + odd)
    )


def bend_bytes(raw: bytes, dice: random.Random) -> bytes:
    """Return a body with bytes flipped, cut or doubled, or with a JSON value in it replaced by a hostile literal."""
    kind, at = dice.randrange(6), dice.randrange(len(raw) + 1)
    if kind == 0:
        return raw[:at] + bytes([dice.randrange(256)]) + raw[at + 1 :]
    if kind == 1:
        return raw[:at]
    if kind == 2:
        return raw + dice.choice((b"{}", b"\x00", b" ", b"]", b"\xef\xbb\xbf"))
    if kind == 3 and raw.startswith(b"{") and len(raw) > 2:
        return b"{" + raw[1:-1] + b"," + raw[1:]  # every member twice
    if kind == 4 and b":" in raw:
        cuts = [place for place, byte in enumerate(raw) if byte == ord(":")]
        cut = dice.choice(cuts) + 1
        return raw[:cut] + dice.choice(LITERALS) + b"," + raw[cut:]
    return dice.choice(LITERALS)


def compact(value: Any) -> bytes:
    """Return a body as SDKs send it."""
    return json.dumps(value, separators=(",", ":")).encode()
