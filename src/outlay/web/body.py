"""The one reader of request bodies, for every route.

It refuses what a lenient parser would let through (other content types, oversized bodies, duplicate keys, deep
nesting, lone surrogates, numbers that other readers see differently, characters that do not show) and keeps the
parsed payload, because that is what was signed.
"""

import re
import types
import typing
import unicodedata
from typing import Annotated, Any

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.exceptions import InternalServerException

from outlay.core.errors import BodyTooLarge, InvalidInput, UnsupportedMediaType
from outlay.evidence.canonical import read_json

BODY_MAX = 64 * 1024
CHALLENGE_BODY_MAX = 512 * 1024
"""A challenge request carries the intended body as text, so it may be longer; the text itself may not."""
CHALLENGE_PATH = "/auth/action/init"
BATCH_BODY_MAX = 2 * 1024 * 1024
"""A thousand payouts with the longest of everything take less."""
BATCH_PATH = "/v1/payouts/batch"

Label = Annotated[str, msgspec.Meta(min_length=1, max_length=200, description="a name for people to read")]
"""A name or a correlation id that a caller chooses."""

_PATH_IN_MESSAGE = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING_FIELD = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_LENGTH = re.compile(r"Expected `\w+` of length (?P<sign>[<>])= (?P<bound>\d+)")
_KIND = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `(?P<given>[^`]*)`")
_KIND_NAMES = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_HIDDEN = frozenset({"Cc", "Cf", "Zl", "Zp"})
"""Unicode categories of characters that do not show: controls, zero widths, changes of direction, separators."""


LIMITS = {CHALLENGE_PATH: CHALLENGE_BODY_MAX, BATCH_PATH: BATCH_BODY_MAX, "/v1/batches/check": BATCH_BODY_MAX}
"""Bytes of the bodies that may be longer than others, by path."""

_ROWS_PATH = re.compile(r"/v1/batches/[^/]+/rows")


def limit_of(path: str) -> int:
    """Return how many bytes a body may have that is sent to ``path``."""
    return BATCH_BODY_MAX if _ROWS_PATH.fullmatch(path) else LIMITS.get(path, BODY_MAX)


class StrictRequest(Request[Any, Any, State]):
    """A request whose body is read by our rules, once."""

    _payload: Any = None
    _payload_read = False
    _is_absent = False

    async def body(self) -> bytes:
        """Return the raw body; of a request without one, an empty object.

        Raises:
            BodyTooLarge: beyond the route's limit; the rest is not read. InvalidInput: it ended early.
        """
        if isinstance(self._body, bytes):
            return self._body
        limit = limit_of(self.scope["path"])
        too_large = BodyTooLarge(f"is larger than {limit} bytes: send less", field="body")
        if (self.content_length or 0) > limit:
            raise too_large
        chunks, size = [], 0
        try:
            async for chunk in self.stream():
                size += len(chunk)
                if size > limit:
                    raise too_large
                chunks.append(chunk)
        except InternalServerException as error:  # the framework's name for a client that hung up
            raise InvalidInput("ended before it was complete", field="body") from error
        sent = b"".join(chunks)
        self._is_absent = not sent.strip(b" \t\r\n")
        self._body = self._connection_state.body = b"{}" if self._is_absent else sent
        return self._body

    async def sent(self) -> bytes:
        """Return the body exactly as it was sent.

        Raises:
            BodyTooLarge, InvalidInput: as ``body``.
        """
        raw = await self.body()
        return b"" if self._is_absent else raw

    async def payload(self) -> dict[str, Any]:
        """Return the parsed body, a JSON object; absent is ``{}``.

        Raises:
            InvalidInput, UnsupportedMediaType, BodyTooLarge: nothing was done.
        """
        if not self._payload_read:
            raw = await self.body()
            if not self._is_absent:
                self._check_content_type()
            self._payload = read_object(raw, field="body")
            self._payload_read = True
        payload: dict[str, Any] = self._payload
        return payload

    def _check_content_type(self) -> None:
        kind, options = self.content_type
        charset = options.get("charset", "utf-8").strip('"').lower()
        if kind.lower() != "application/json" or charset not in ("utf-8", "utf8"):
            raise UnsupportedMediaType("send the body as application/json, in UTF-8", field="content-type")
        if self.headers.get("content-encoding", "identity").lower() != "identity":
            raise UnsupportedMediaType("send the body uncompressed", field="content-encoding")

    async def json(self) -> Any:
        """Return the body in the type the route declares; the framework calls this for its ``data``."""
        payload = await self.payload()
        declared = self.route_handler.parsed_data_field
        return payload if declared is None else read_struct(payload, declared.annotation)

    async def expect_empty(self) -> dict[str, Any]:
        """Return ``{}`` for a call that takes no body.

        Raises:
            InvalidInput: there is one.
        """
        payload = await self.payload()
        for name in payload:
            raise InvalidInput("this call takes no body: leave it out", field=name)
        return payload


def read_object(raw: bytes, *, field: str) -> dict[str, Any]:
    """Return the JSON object in ``raw``, every text in it fit to be shown and signed.

    Args:
        raw: UTF-8.
        field: named in the error when no member can be.

    Raises:
        InvalidInput: not JSON by our rules, not an object, or a text that could not be read as what it is.
    """
    payload = read_json(raw, field=field)
    if not isinstance(payload, dict):
        raise InvalidInput("must be a JSON object", field=field)
    _check_texts(payload, "", field)
    return payload


def _check_texts(value: object, path: str, field: str) -> None:
    if isinstance(value, str):
        _check_text(value, path or field)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_texts(item, f"{path}[{index}]", field)
    elif isinstance(value, dict):
        for name, item in value.items():
            if not name:
                raise InvalidInput("holds a member without a name: leave it out", field=path or field)
            _check_text(name, path or field)
            _check_texts(item, f"{path}.{name}" if path else name, field)


def _check_text(text: str, field: str) -> None:
    """Refuse a text that people cannot tell from another one by looking at it."""
    if text.isascii() and text.isprintable():
        return
    for character in text:
        if character not in "\t\n\r" and unicodedata.category(character) in _HIDDEN:
            raise InvalidInput(f"holds a character that does not show (U+{ord(character):04X}): remove it", field=field)
    if not unicodedata.is_normalized("NFC", text):
        raise InvalidInput("is not in Unicode's composed form (NFC): normalize it", field=field)


def read_struct(payload: object, kind: Any) -> Any:
    """Return ``payload`` as the declared type, unknown members refused, no value coerced.

    Raises:
        InvalidInput: ``field`` names the member.
    """
    try:
        return msgspec.convert(payload, kind, strict=True)
    except msgspec.ValidationError as error:
        message = str(error)
        found = _PATH_IN_MESSAGE.search(message)
        path = found.group("path") if found else ""
        text = message[: found.start()] if found else message
        for pattern, advice in ((_UNKNOWN_FIELD, "is not known here: leave it out"), (_MISSING_FIELD, "is missing")):
            match = pattern.fullmatch(text)
            if match is not None:
                name = match.group("name")
                raise InvalidInput(advice, field=f"{path}.{name}" if path else name) from None
        raise InvalidInput(_advice(text, kind), field=path or "body") from None


def _advice(text: str, kind: Any) -> str:
    """Say in our words what the converter says of one value."""
    if match := _LENGTH.fullmatch(text):
        return f"must be at {'least' if match['sign'] == '>' else 'most'} {match['bound']} characters long"
    if match := _KIND.fullmatch(text):
        wanted = [_KIND_NAMES.get(name, name) for name in match["wanted"].split(" | ")]
        return f"must be {' or '.join(wanted)}, not {_KIND_NAMES.get(match['given'], match['given'])}"
    tags = _tags(kind)
    return f"must be one of {', '.join(tags)}" if tags and text.startswith("Invalid value") else text.lower()


def _tags(kind: Any) -> list[str]:
    """Return the values that tell the members of a union of bodies apart."""
    members = typing.get_args(kind) if isinstance(kind, types.UnionType) else ()
    return sorted(str(each.__struct_config__.tag) for each in members if hasattr(each, "__struct_config__"))
