"""Errors on the wire: one envelope, always JSON."""

import secrets
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException, ValidationException

from outlay.core.errors import (
    BodyTooLarge,
    InvalidInput,
    MethodNotAllowed,
    NotAuthenticated,
    NotOffered,
    OutlayError,
    TooManyRequests,
)
from outlay.web import contract

FIELD_MAX, MESSAGE_MAX = 200, 1000
"""Characters of what the caller sent that an answer repeats at most."""

ASK_METHODS = "*"
"""What the application turns OPTIONS into: no route has it, so that the router tells which methods there are."""

log = structlog.get_logger()


def envelope(error: OutlayError) -> dict[str, Any]:
    """Return the contract's error object; ``message`` also on top, where older clients look."""
    message, details = error.message, dict(error.details)
    if error.field is not None:
        details["field"] = error.field[:FIELD_MAX]
        if not message.startswith(error.field):
            message = f"{details['field']}: {message}"
    if len(message) > MESSAGE_MAX:
        message = message[:MESSAGE_MAX] + "…"
    return {
        "error": {
            "id": f"err-{secrets.token_hex(8)}",
            "status": error.status,
            "code": error.code,
            "message": message,
            "details": details,
        },
        "message": message,
    }


def answer(error: OutlayError, headers: dict[str, str] | None = None) -> Response[dict[str, Any]]:
    """Return the response for an error."""
    given = dict(headers or {})
    if isinstance(error, NotAuthenticated):
        given["WWW-Authenticate"] = "Bearer"
    if isinstance(error, BodyTooLarge):
        given["Connection"] = "close"  # else the server would go on reading what nobody wants
    if error.status == 503:
        given["Retry-After"] = "1"
    if isinstance(error, TooManyRequests):
        given["Retry-After"] = str(error.retry_after_s)
    return Response(envelope(error), status_code=error.status, headers=given, media_type="application/json")


def on_outlay_error(_request: Request[Any, Any, Any], error: OutlayError) -> Response[dict[str, Any]]:
    """Answer an error that Outlay raised on purpose."""
    if error.status >= 500 and error.status != 503:
        log.error("request_failed", code=error.code, message=error.message, exc_info=error)
    return answer(error)


def on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    """Answer what the framework refused by itself."""
    if isinstance(error, MethodNotAllowedException):
        return _wrong_method(request, error)
    if isinstance(error, NotFoundException):
        return answer(not_offered(request))
    if error.status_code == BodyTooLarge.status:
        return answer(BodyTooLarge("is too large: send less", field="body"))
    if error.status_code >= 500:
        return on_unexpected(request, error)
    # What it says of our own parameters would tell about the inside.
    detail = "" if isinstance(error, ValidationException) else str(error.detail)
    return answer(InvalidInput(detail or "cannot be read", field="request"))


def not_offered(request: Request[Any, Any, Any]) -> NotOffered:
    """Return the error for a path that is not part of Outlay."""
    path = request.scope["raw_path"].decode("ascii", "replace")
    why = contract.why_not(request.method, request.scope["path"])
    return NotOffered(f"{request.method} {path} is not offered by this server" + (f": {why}" if why else ""))


def _wrong_method(request: Request[Any, Any, Any], error: MethodNotAllowedException) -> Response[Any]:
    """Answer with the methods the path has; to OPTIONS, that is all that was asked."""
    if contract.why_not(request.method, request.scope["path"]):
        return answer(not_offered(request))
    offered = {name for name in (error.headers or {}).get("allow", "").split(", ") if name} | {"OPTIONS"}
    if "GET" in offered:
        offered.add("HEAD")
    allow = {"Allow": ", ".join(sorted(offered))}
    if request.scope["method"] == ASK_METHODS:
        return Response(None, status_code=204, headers=allow)
    return answer(MethodNotAllowed(f"{request.method} is not offered on this path: use {allow['Allow']}"), allow)


def on_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """Answer what nobody foresaw, without telling what it was; the log has it under the same id."""
    known = OutlayError("internal error: nothing you sent can be said to have happened; look before you repeat it")
    body = envelope(known)
    log.error("request_crashed", id=body["error"]["id"], path=request.url.path, exc_info=error)
    return Response(body, status_code=500, media_type="application/json")
