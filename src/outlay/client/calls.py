"""One HTTP call: what is sent, what an answer means, and when nothing is known of what became of it."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from outlay.core.errors import InvalidInput, OutcomeUnknown, OutlayError

TIMEOUT_S = 30.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the bearer token to wherever it points, and turn a write into a read."""

    def redirect_request(self, *_arguments: Any, **_named: Any) -> None:
        """Follow nothing: the answer is an error like any other."""


_OPENER = urllib.request.build_opener(_NoRedirect)


class ApiError(OutlayError):
    """The server refused; ``status``, ``code`` and ``details`` are its own."""

    def __init__(self, status: int, body: dict[str, Any], *, retry_after_s: float | None = None) -> None:
        """Keep what an error answer says.

        Args:
            status: HTTP status.
            body: the JSON object of the answer; empty if it was none.
            retry_after_s: what the header ``Retry-After`` asks for.
        """
        said = body.get("error")
        error = said if isinstance(said, dict) else {}
        super().__init__(str(error.get("message") or body.get("message") or f"HTTP {status}"))
        self.status = status
        self.code = str(error.get("code") or "api_error")
        details = error.get("details")
        self.details = dict(details) if isinstance(details, dict) else {}
        self.retry_after_s = retry_after_s


def call(
    url: str,
    method: str,
    path: str,
    body: Any = None,
    *,
    token: str = "",
    user_action: str = "",
    signed: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Make one HTTP call and return the JSON object it answers.

    Args:
        url: base URL of the server.
        method: in capitals.
        path: begins with a slash.
        body: what is sent as JSON; bytes go as they are.
        token: bearer token.
        user_action: what signs the call, by the handshake.
        signed: headers that sign the call, as one message.

    Raises:
        ApiError: an error answer. OutcomeUnknown: no answer; a write may have happened.
    """
    if not url.startswith(("http://", "https://")):
        raise InvalidInput("is an http or https URL", field="url")
    headers = {"content-type": "application/json", "user-agent": "outlay-client"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    if user_action:
        headers["x-dfns-useraction"] = user_action
    headers.update(signed or {})
    data = body if body is None or isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
    request = urllib.request.Request(url.rstrip("/") + path, data, headers, method=method)  # noqa: S310  checked
    try:
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            wait_s = _seconds(error.headers.get("retry-after"))
            raise error_of(error.code, _object(error.read()), is_write=method != "GET", retry_after_s=wait_s) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise OutcomeUnknown(f"no usable answer from {url}: {error}") from error


def error_of(status: int, body: dict[str, Any], *, is_write: bool, retry_after_s: float | None = None) -> OutlayError:
    """Return what an error answer means: one that is not the server's own says nothing of what became of a write."""
    said = body.get("error")
    code = said.get("code") if isinstance(said, dict) else None
    if is_write and (code == OutcomeUnknown.code or (status >= 500 and code is None)):
        return OutcomeUnknown(f"the answer {status} does not say whether it happened: look before you repeat it")
    return ApiError(status, body, retry_after_s=retry_after_s)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _seconds(header: str | None) -> float | None:
    """Return the seconds of a ``Retry-After``; dates are not read, our server sends none."""
    return float(header) if header is not None and header.isascii() and header.isdigit() and len(header) < 7 else None
