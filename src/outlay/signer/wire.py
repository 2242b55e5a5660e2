"""What goes over the signer's socket: frames of canonical JSON, read as the types of the protocol and nothing else.

A frame is its length in 4 bytes, big endian, then that many bytes. A request is ``{method, params, v}``, an answer
``{result, v}`` or ``{error, v}``. Integers travel as decimal text (amounts are larger than JSON's integers), octets
as hex; documents as they are.
"""

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from outlay.core import errors
from outlay.core.errors import InvalidInput, OutlayError, SignerRefused, SignerUnavailable
from outlay.evidence.canonical import canonical, read_json
from outlay.signer import Signer

VERSION: Final = 1
FRAME_MAX: Final = 2**20
"""Bytes of one frame, its length not counted."""

LENGTH_SIZE: Final = 4
DEPTH_MAX: Final = 48
"""Nesting of a message: stored documents may be 32 deep, what wraps them is not."""

METHODS: Final = (
    "create_key",
    "accept_records",
    "sign",
    "journaled",
    "slots",
    "touched",
    "records",
    "freeze",
    "status",
)
"""Every method the socket offers. Parameters and answers are those of ``Signer``."""

TOO_LARGE: Final = "answer_too_large"
"""Code of an error that ``Signer`` does not have: ask for less at a time."""

_INTEGER: Final = re.compile(r"-?[1-9][0-9]{0,77}|0")
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*")


class FrameTooLargeError(Exception):
    """The message does not fit into a frame."""


def frame(message: Mapping[str, Any]) -> bytes:
    """Return a message as it goes over the socket.

    Raises:
        FrameTooLargeError: it is larger than ``FRAME_MAX``.
    """
    return framed(canonical(dict(message)))


def framed(content: bytes) -> bytes:
    """Put the length before the bytes of a message.

    Raises:
        FrameTooLargeError: they are more than ``FRAME_MAX``.
    """
    if len(content) > FRAME_MAX:
        raise FrameTooLargeError
    return len(content).to_bytes(LENGTH_SIZE, "big") + content


def read_message(content: bytes, members: frozenset[str]) -> dict[str, Any]:
    """Read a frame's content as an object with exactly these members and this version.

    Raises:
        InvalidInput: it is something else.
    """
    message = read_json(content, max_depth=DEPTH_MAX, field="message")
    if not isinstance(message, dict) or message.keys() != members | {"v"} or message["v"] != VERSION:
        raise InvalidInput(f"the message does not have exactly {', '.join(sorted(members))} and v", field="message")
    return message


@functools.cache
def parameters(method: str) -> Mapping[str, Any]:
    """Return name and type of each parameter of a method."""
    function = getattr(Signer, method)
    hints = typing.get_type_hints(function)
    return {name: hints[name] for name in inspect.signature(function).parameters if name != "self"}


@functools.cache
def answer_type(method: str) -> Any:
    """Return the type of a method's answer."""
    return typing.get_type_hints(getattr(Signer, method))["return"]


# Writing


def pack(value: Any) -> Any:
    """Return a value of the protocol as JSON."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, SignerRefused):
        return {"field": value.field, "message": value.message, "why": value.why}
    if dataclasses.is_dataclass(value):
        return {each.name: pack(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)  # a document
    if isinstance(value, frozenset):
        return sorted(pack(item) for item in value)
    return [pack(item) for item in value]


def pack_error(error: OutlayError) -> dict[str, Any]:
    """Return an error as JSON."""
    return {
        "code": error.code,
        "field": error.field,
        "message": error.message,
        "why": error.why if isinstance(error, SignerRefused) else None,
    }


# Reading


def unpack(kind: Any, value: Any, field: str) -> Any:
    """Read JSON as a value of the type ``kind``.

    Raises:
        InvalidInput: it is something else; unknown and missing members are.
    """
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return _unpack_union(typing.get_args(kind), value, field)
    if origin is not None and issubclass(origin, Mapping):
        return _of(dict, value, field)
    if origin is not None and issubclass(origin, (Sequence, frozenset)):
        items = [unpack(typing.get_args(kind)[0], item, field) for item in _of(list, value, field)]
        return items if origin in (list, Sequence) else origin(items)
    if kind is SignerRefused:
        return _unpack_refusal(value, field)
    if dataclasses.is_dataclass(kind):
        return _unpack_members(kind, value, field)
    return _unpack_plain(kind, value, field)


def unpack_error(value: Any) -> OutlayError:
    """Return the error an answer tells; one of an unknown kind is a signer that cannot be asked."""
    told = _of(dict, value, "error")
    message, field = str(told.get("message")), told.get("field")
    if told.get("code") == SignerRefused.code:
        return SignerRefused(message, field=field, why=str(told.get("why")))
    kinds = (errors.InvariantBroken, errors.InvalidInput, SignerUnavailable)
    kind = next((each for each in kinds if each.code == told.get("code")), SignerUnavailable)
    if kind is SignerUnavailable:
        return SignerUnavailable(message, field=field, reason=told.get("code"))
    return kind(message, field=field)


def _unpack_plain(kind: Any, value: Any, field: str) -> Any:
    if kind is bool or kind is types.NoneType:
        return _of(kind, value, field)
    text: str = _of(str, value, field)
    if kind is str:
        return text
    if kind is int:
        return int(_matching(_INTEGER, text, field))
    if kind is bytes:
        return bytes.fromhex(_matching(_HEX, text, field))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        if text not in set(kind):
            raise InvalidInput(f"{field} is none of {', '.join(kind)}", field=field)
        return kind(text)
    raise TypeError(f"the signer's protocol has no {kind}")


def _unpack_union(kinds: tuple[Any, ...], value: Any, field: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    rest = [kind for kind in kinds if kind is not types.NoneType]
    if len(rest) > 1:  # told apart by their members
        names = _of(dict, value, field).keys()
        rest = [kind for kind in rest if _member_names(kind) == names]
    if not rest:
        raise InvalidInput(f"{field} has unknown or missing members", field=field)
    return unpack(rest[0], value, field)


def _unpack_members(kind: Any, value: Any, field: str) -> Any:
    if _of(dict, value, field).keys() != _member_names(kind):
        raise InvalidInput(f"{field} does not have exactly the members of {kind.__name__}", field=field)
    hints = _hints(kind)
    return kind(**{name: unpack(hints[name], value[name], f"{field}.{name}") for name in value})


def _unpack_refusal(value: Any, field: str) -> SignerRefused:
    named = _of((str, types.NoneType), value["field"], field)
    return SignerRefused(_of(str, value["message"], field), field=named, why=_of(str, value["why"], field))


@functools.cache
def _member_names(kind: Any) -> frozenset[str]:
    if kind is SignerRefused:
        return frozenset({"field", "message", "why"})
    return frozenset(each.name for each in dataclasses.fields(kind))


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _of(kind: Any, value: Any, field: str) -> Any:
    if not isinstance(value, kind):
        raise InvalidInput(f"{field} is of another type", field=field)
    return value


def _matching(pattern: re.Pattern[str], text: str, field: str) -> str:
    if pattern.fullmatch(text) is None:
        raise InvalidInput(f"{field} is malformed", field=field)
    return text
