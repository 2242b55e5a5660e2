"""The one reader of request bodies, for every route.

It refuses what a lenient parser would let through (other content types, oversized bodies, duplicate keys, deep
nesting, lone surrogates, numbers that other readers see differently) and keeps the parsed payload, because that is
what was signed.
"""

import re
from typing import Any

import msgspec
from litestar import Request
from litestar.datastructures import State

from outlay.core.errors import BodyTooLarge, InvalidInput, UnsupportedMediaType
from outlay.evidence.canonical import read_json

BODY_MAX = 64 * 1024
CHALLENGE_BODY_MAX = 512 * 1024
"""A challenge request carries the intended body as text, so it may be longer; the text itself may not."""
CHALLENGE_PATH = "/auth/action/init"

_PATH_IN_MESSAGE = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING_FIELD = re.compile(r"Object missing required field `(?P<name>[^`]*)`")


class StrictRequest(Request[Any, Any, State]):
    """A request whose body is read by our rules, once."""

    _payload: Any = None
    _payload_read = False

    async def body(self) -> bytes:
        """Return the raw body.

        Raises:
            BodyTooLarge: beyond the route's limit; the rest is not read.
        """
        if isinstance(self._body, bytes):
            return self._body
        limit = CHALLENGE_BODY_MAX if self.scope["path"] == CHALLENGE_PATH else BODY_MAX
        chunks, size = [], 0
        async for chunk in self.stream():
            size += len(chunk)
            if size > limit:
                raise BodyTooLarge(f"the body is larger than {limit} bytes")
            chunks.append(chunk)
        self._body = self._connection_state.body = b"".join(chunks)
        return self._body

    async def payload(self) -> dict[str, Any]:
        """Return the parsed body, a JSON object; absent is ``{}``.

        Raises:
            InvalidInput, UnsupportedMediaType, BodyTooLarge: nothing was done.
        """
        if not self._payload_read:
            raw = await self.body()
            if raw.strip(b" \t\r\n"):
                self._check_content_type()
                parsed = read_json(raw, field="body")
                if not isinstance(parsed, dict):
                    raise InvalidInput("the body must be a JSON object", field="body")
                self._payload = parsed
            else:
                self._payload = {}
            self._payload_read = True
        payload: dict[str, Any] = self._payload
        return payload

    def _check_content_type(self) -> None:
        kind, options = self.content_type
        charset = options.get("charset", "utf-8").strip('"').lower()
        if kind != "application/json" or charset not in ("utf-8", "utf8"):
            raise UnsupportedMediaType("send the body as content-type: application/json, in UTF-8")

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
        raise InvalidInput(text[:1].lower() + text[1:], field=path or "body") from None
