"""Errors on the wire: one envelope, always JSON."""

import secrets
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException

from outlay.core.errors import InvalidInput, MethodNotAllowed, NotAuthenticated, NotOffered, OutlayError

log = structlog.get_logger()


def envelope(error: OutlayError) -> dict[str, Any]:
    """Return the contract's error object; ``message`` also on top, where older clients look."""
    message = error.message if error.field is None else f"{error.field}: {error.message}"
    return {
        "error": {
            "id": f"err-{secrets.token_hex(8)}",
            "status": error.status,
            "code": error.code,
            "message": message,
            "details": dict(error.details),
        },
        "message": message,
    }


def answer(error: OutlayError, headers: dict[str, str] | None = None) -> Response[dict[str, Any]]:
    """Return the response for an error."""
    if isinstance(error, NotAuthenticated):
        headers = {**(headers or {}), "WWW-Authenticate": "Bearer"}
    if error.status == 503:
        headers = {**(headers or {}), "Retry-After": "1"}
    return Response(envelope(error), status_code=error.status, headers=headers, media_type="application/json")


def on_outlay_error(_request: Request[Any, Any, Any], error: OutlayError) -> Response[dict[str, Any]]:
    """Answer an error that Outlay raised on purpose."""
    if error.status >= 500 and error.status != 503:
        log.error("request_failed", code=error.code, message=error.message, exc_info=error)
    return answer(error)


def on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, Any]]:
    """Answer what the framework refused by itself."""
    if isinstance(error, MethodNotAllowedException):
        allow = {"Allow": ", ".join(_allowed(request))}
        return answer(MethodNotAllowed(f"{request.method} is not offered on this path"), allow)
    if isinstance(error, NotFoundException):
        return answer(NotOffered(f"{request.method} {request.url.path} is not offered by this server"))
    if error.status_code >= 500:
        return on_unexpected(request, error)
    return answer(InvalidInput(str(error.detail) or "the request cannot be read", field="request"))


def _allowed(request: Request[Any, Any, Any]) -> list[str]:
    """Return the methods the requested path has."""
    app = request.app
    found = set()
    for method in ("GET", "POST", "PUT", "DELETE"):
        try:
            app.asgi_router.handle_routing(path=request.scope["path"], method=method)
        except HTTPException:
            continue
        found.add(method)
    return sorted(found)


def on_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """Answer what nobody foresaw, without telling what it was; the log has it under the same id."""
    known = OutlayError("internal error: nothing you sent can be said to have happened; look before you repeat it")
    body = envelope(known)
    log.error("request_crashed", id=body["error"]["id"], path=request.url.path, exc_info=error)
    return Response(body, status_code=500, media_type="application/json")
