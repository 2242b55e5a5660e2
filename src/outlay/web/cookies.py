"""The session cookie of the dashboard: a bearer token that only the browser holds, and only our own pages send.

Three things keep other sites from using it: the browser sends it with requests of our own origin alone
(``SameSite=Strict``), no sub-domain can set it (``__Host-``), and a call that it comes with has to say that it was made
by a page of ours. What moves money is signed besides, so that the cookie alone pays nobody.
"""

from collections.abc import Collection
from typing import Any

from litestar import Request
from litestar.datastructures import Cookie

from outlay.core.errors import NotAuthenticated
from outlay.core.seams import SECOND, Instant

COOKIE = "__Host-outlay"

_READING = frozenset({"GET", "HEAD"})


def cookie_token(request: Request[Any, Any, Any], *, origins: Collection[str]) -> str:
    """Return the token of the session cookie; empty if there is none.

    Args:
        request: the call.
        origins: of our own pages.

    Raises:
        NotAuthenticated: there is one, but no page of ours made the call.
    """
    token = request.cookies.get(COOKIE, "")
    if not token:
        return ""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if request.method in _READING:
        is_ours = site in (None, "none", "same-origin") and origin in (None, *origins)
    else:
        is_ours = origin in origins and site in (None, "same-origin")
    if not is_ours:
        raise NotAuthenticated("the session of the dashboard is good for calls of its own pages only")
    return token


def session_cookie(token: str, *, life: Instant) -> Cookie:
    """Return the cookie that holds a session's token; an empty token ends it."""
    return Cookie(
        key=COOKIE,
        value=token,
        path="/",
        max_age=life // SECOND if token else 0,
        secure=True,
        httponly=True,
        samesite="strict",
    )
