"""CBOR as authenticators write it, read strictly: enough for passkeys, bounded, and nothing else."""

from dataclasses import dataclass
from typing import Any

from outlay.core.errors import InvalidInput

_DEPTH = 8
_SIMPLE: dict[int, bool | None] = {20: False, 21: True, 22: None}


def read_cbor(data: bytes, *, field: str) -> Any:
    """Return the one value that ``data`` is: whole numbers, byte strings, texts, lists, maps, true, false, null.

    Args:
        data: definite lengths only; a number or length may be written longer than it has to be.
        field: named in the error.

    Raises:
        InvalidInput: anything else (tags, floats, indefinite lengths), more than 8 levels, a map that has a key twice
            or one that is neither number nor text, data that ends early or goes on.

    Source: RFC 8949.
    """
    value, end = read_cbor_prefix(data, 0, field=field)
    if end != len(data):
        raise InvalidInput(f"{field} goes on after its end", field=field)
    return value


def read_cbor_prefix(data: bytes, at: int, *, field: str) -> tuple[Any, int]:
    """Return the value that begins at ``at``, and where it ends.

    Raises:
        InvalidInput: as ``read_cbor``, but for data that goes on.
    """
    reader = _Reader(data, at, field)
    return reader.value(0), reader.at


@dataclass(slots=True)
class _Reader:
    data: bytes
    at: int
    field: str

    def value(self, depth: int) -> Any:
        if depth > _DEPTH:
            raise self.broken("is nested too deeply")
        first = self.take(1)[0]
        kind, short = first >> 5, first & 31
        if kind == 7:
            if short not in _SIMPLE:
                raise self.broken("holds a value that no passkey needs")
            return _SIMPLE[short]
        size = self.number(short)
        if kind == 0:
            return size
        if kind == 1:
            return -1 - size
        if kind == 2:
            return self.take(size)
        if kind == 3:
            return self.text(size)
        if kind == 4:
            self.bound(size)
            return [self.value(depth + 1) for _ in range(size)]
        if kind == 5:
            return self.map(size, depth)
        raise self.broken("holds a tag")

    def number(self, short: int) -> int:
        if short < 24:
            return short
        if short > 27:
            raise self.broken("has an indefinite length")
        return int.from_bytes(self.take(1 << (short - 24)), "big")

    def text(self, size: int) -> str:
        try:
            return self.take(size).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.broken("holds a text that is not UTF-8") from error

    def map(self, size: int, depth: int) -> dict[int | str, Any]:
        self.bound(size)
        found: dict[int | str, Any] = {}
        for _ in range(size):
            key = self.value(depth + 1)
            if type(key) not in (int, str) or key in found:
                raise self.broken("has a key twice, or one that is neither number nor text")
            found[key] = self.value(depth + 1)
        return found

    def bound(self, size: int) -> None:
        """Refuse more members than there are bytes left, before anything is made for them."""
        if size > len(self.data) - self.at:
            raise self.broken("ends early")

    def take(self, size: int) -> bytes:
        self.bound(size)
        self.at += size
        return self.data[self.at - size : self.at]

    def broken(self, why: str) -> InvalidInput:
        return InvalidInput(f"{self.field} {why}", field=self.field)
