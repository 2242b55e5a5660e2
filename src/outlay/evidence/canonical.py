"""Canonical JSON: one byte string for one value, the same in Python and in ECMAScript.

RFC 8785 (members ordered by UTF-16 code units, numbers as ECMAScript prints doubles), then every character
above U+007F escaped as ``\\uxxxx`` in lower case: the result is ASCII. What two readers could understand
differently is refused: duplicate members, lone surrogates, integers beyond 2**53 - 1 in any spelling, numbers
with more digits than a double keeps. So a value read here and its canonical bytes say exactly the same.
"""

import hashlib
import json
import math
import re
from json.encoder import encode_basestring_ascii
from typing import Any

from outlay.core.errors import InvalidInput

MAX_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader holds exactly."""

MAX_DEPTH = 16
"""Nesting allowed in a request body."""

STORED_DEPTH = 32
"""Nesting allowed in a stored document, which wraps request bodies."""

_WRITE_DEPTH = 64
_DOUBLE_DIGITS = 17  # no double needs more significant digits to be told from its neighbours
_NUMBER = re.compile(r"(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?)(\d+))?", re.ASCII)


class CanonicalError(InvalidInput):
    """The value has no canonical form."""


class JsonNumber(float):
    """A number with a fraction, as a double; ``text`` is the literal that was sent.

    ``Decimal(number.text)`` is the exact value, and equals the decimal that ``canonical`` prints.
    """

    __slots__ = ("text",)

    text: str

    def __new__(cls, text: str) -> "JsonNumber":
        """Read ``text``, a JSON number literal."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]  # copies are made from the literal
        """Return what a copy is made from."""
        return (self.text,)


class _MalformedError(ValueError):
    """Raised inside the JSON reader's hooks, which do not know the name of the field."""


# Writing


def canonical(value: object) -> bytes:
    """Return the canonical bytes of a JSON value.

    Args:
        value: None, booleans, integers within +-(2**53 - 1), finite floats below 2**53, strings, lists, tuples and
            dicts with string keys; nested at most 64 deep.

    Returns:
        ASCII bytes, equal for equal values whatever the order of members.

    Raises:
        CanonicalError: the value holds something else.

    Source: RFC 8785; ECMA-262 Number::toString for numbers.
    """
    parts: list[str] = []
    _write(value, parts, 0)
    return "".join(parts).encode("ascii")


def digest(value: object) -> str:
    """Return the SHA-256 of the canonical bytes of ``value``, in lower-case hex.

    Raises:
        CanonicalError: as ``canonical``.
    """
    return hashlib.sha256(canonical(value)).hexdigest()


def payload_object(payload: object) -> object:
    """Return the payload a signature covers: absent, empty text and ``{}`` are all ``{}``.

    Source: dfns-api.md 2.7; the Python and JavaScript SDKs differ in which of the three they sign.
    """
    return {} if payload is None or payload == "" else payload


def payload_digest(payload: object) -> str:
    """Return the digest of a parsed request body; absent, ``""`` and ``{}`` have the same.

    Raises:
        CanonicalError: as ``canonical``.
    """
    return digest(payload_object(payload))


def _write(value: object, parts: list[str], depth: int) -> None:
    if depth > _WRITE_DEPTH:
        raise CanonicalError("the value is nested too deeply", field="value")
    if isinstance(value, str):
        parts.append(_quoted(value))
    elif value is None:
        parts.append("null")
    elif isinstance(value, bool):
        parts.append("true" if value else "false")
    elif isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise CanonicalError("an integer beyond 2**53 - 1: write it as a string", field="value")
        parts.append(str(int(value)))
    elif isinstance(value, float):
        if not math.isfinite(value) or abs(value) > MAX_INTEGER:
            raise CanonicalError("a number that is not finite or beyond 2**53 - 1", field="value")
        parts.append(number_text(value))
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            parts.append("," if position else "[")
            _write(item, parts, depth + 1)
        parts.append("]" if value else "[]")
    elif isinstance(value, dict):
        _write_object(value, parts, depth)
    else:
        raise CanonicalError(f"{type(value).__name__} is not a JSON value", field="value")


def _write_object(value: dict[Any, Any], parts: list[str], depth: int) -> None:
    try:
        # Of ASCII, which nearly all names are, code points and code units are the same.
        names = sorted(value) if "".join(value).isascii() else sorted(value, key=_code_units)
    except TypeError:
        raise CanonicalError("every member name must be a string", field="value") from None
    for position, key in enumerate(names):
        parts.append("," if position else "{")
        parts.append(_quoted(key))
        parts.append(":")
        _write(value[key], parts, depth + 1)
    parts.append("}" if value else "{}")


def _code_units(text: str) -> bytes:
    # Big-endian UTF-16 bytes order as the 16-bit code units do; code points would order astral keys otherwise.
    try:
        return text.encode("utf-16-be")
    except UnicodeEncodeError as error:
        raise CanonicalError("a string holds half of a surrogate pair", field="value") from error


def _quoted(text: str) -> str:
    if not text.isascii():
        _code_units(text)
    if "\x7f" not in text:
        return encode_basestring_ascii(text)
    # The standard encoder also escapes U+007F; RFC 8785 leaves it as it is.
    return '"' + "\x7f".join(encode_basestring_ascii(part)[1:-1] for part in text.split("\x7f")) + '"'


def number_text(value: float) -> str:
    """Return a finite double as ECMAScript prints it: the shortest digits that read back, -0 as ``0``.

    Source: ECMA-262 Number::toString, radix 10.
    """
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    _, digits, scale = _decomposed(repr(abs(float(value))))
    count, point = len(digits), len(digits) + scale
    if count <= point <= 21:
        return f"{sign}{digits}{'0' * (point - count)}"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if count > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{'+' if point > 0 else '-'}{abs(point - 1)}"


def _decomposed(literal: str) -> tuple[bool, str, int]:
    """Split a number literal into sign, digits without outer zeros, and the power of ten of the last digit."""
    match = _NUMBER.fullmatch(literal)
    if match is None:
        raise _MalformedError("a number is malformed")
    minus, whole, fraction, exponent_sign, exponent = match.groups(default="")
    digits = (whole + fraction).lstrip("0")
    exponent = exponent.lstrip("0")
    if not digits:
        return bool(minus), "", 0
    if len(exponent) > 6:  # far outside of any double; int() on thousands of digits would raise or stall
        raise _MalformedError(f"the number {literal[:40]} is out of range")
    power = int(f"{exponent_sign}{exponent or '0'}") - len(fraction)
    shortened = digits.rstrip("0")
    return bool(minus), shortened, power + len(digits) - len(shortened)


# Reading


def read_json(text: bytes, *, max_depth: int = MAX_DEPTH, field: str = "body") -> object:
    """Read JSON so that nobody could read the same bytes as another value.

    Args:
        text: UTF-8 without a byte order mark.
        max_depth: arrays and objects within each other; at least 1.
        field: named in the error.

    Returns:
        None, bool, int, ``JsonNumber``, str, list or dict. Integral numbers are int in every spelling (``1.0``,
        ``1e3``), ``-0`` is 0. ``canonical`` accepts every value returned.

    Raises:
        InvalidInput: not UTF-8, not JSON, a duplicate member, nesting deeper than ``max_depth``, half a surrogate
            pair, an integer beyond 2**53 - 1, a number that is not finite or holds more digits than a double.
    """
    try:
        value = _DECODER.decode(text.decode("utf-8"))
        _check(value, max_depth)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{field} is not UTF-8", field=field) from error
    except json.JSONDecodeError as error:
        message = f"{field} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise InvalidInput(message, field=field) from error
    except RecursionError as error:
        raise InvalidInput(f"{field} is nested deeper than {max_depth}", field=field) from error
    except _MalformedError as error:
        raise InvalidInput(f"{field}: {error}", field=field) from error
    return value


def read_canonical(text: bytes, *, field: str = "document") -> object:
    """Read a stored document and refuse any bytes but its canonical ones.

    Raises:
        InvalidInput: as ``read_json`` (32 levels), or the bytes are another spelling of the value.
    """
    value = read_json(text, max_depth=STORED_DEPTH, field=field)
    if canonical(value) != text:
        raise InvalidInput(f"{field} is not in canonical form", field=field)
    return value


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _MalformedError(f"the member {key[:60]!r} is given twice")
            seen.add(key)
    return value


def _number(literal: str) -> int | JsonNumber:
    if len(literal) <= 15 and literal.lstrip("-").isdigit():
        return int(literal)
    minus, digits, scale = _decomposed(literal)
    if not digits:
        return 0
    if scale >= 0:
        magnitude = int(digits) * 10**scale if len(digits) + scale <= 16 else MAX_INTEGER + 1
        if magnitude > MAX_INTEGER:
            raise _MalformedError(f"the number {literal[:40]} is beyond 2**53 - 1: write it as a string")
        return -magnitude if minus else magnitude
    if len(digits) <= _DOUBLE_DIGITS:
        number = JsonNumber(literal)
        # A literal that rounds would let two different texts share one digest.
        if float(number) != 0 and _decomposed(repr(abs(float(number)))) == (False, digits, scale):
            return number
    raise _MalformedError(f"the number {literal[:40]} has more digits than a double keeps")


def _constant(name: str) -> object:
    raise _MalformedError(f"{name} is not a JSON number")


def _check(value: object, depth_left: int) -> None:
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, list | dict):
        if depth_left == 0:
            raise _MalformedError("arrays and objects are nested too deeply")
        if isinstance(value, dict):
            for key, item in value.items():
                _check_text(key)
                _check(item, depth_left - 1)
        else:
            for item in value:
                _check(item, depth_left - 1)


def _check_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _MalformedError("a string holds half of a surrogate pair") from error


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_number, parse_float=_number, parse_constant=_constant
)
