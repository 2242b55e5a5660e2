"""The routes of the dashboard: who is signed in, files, the stream of changes, and every page."""

import hashlib
from functools import lru_cache
from importlib.resources import files
from typing import Any

from litestar import Controller, Request, Response, Router, get, post
from litestar.exceptions import HTTPException
from litestar.response import Redirect, Stream

from outlay.actions import people
from outlay.actions.people import LOGIN_LIFE
from outlay.core.errors import NotAuthenticated, NotFound, OutlayError, TooManyRequests
from outlay.web import errors
from outlay.web.body import StrictRequest
from outlay.web.cookies import session_cookie
from outlay.web.dashboard.accounts import AccountPages
from outlay.web.dashboard.approvals import ApprovalPages
from outlay.web.dashboard.audit import AuditPages
from outlay.web.dashboard.batches import BatchPages
from outlay.web.dashboard.desk import ROOT, Desk, place_after
from outlay.web.dashboard.home import HomePages
from outlay.web.dashboard.passkeys import PasskeyPages
from outlay.web.dashboard.payouts import PayoutPages
from outlay.web.dashboard.people import PeoplePages
from outlay.web.dashboard.policies import PolicyPages
from outlay.web.dashboard.pools import PoolPages
from outlay.web.dashboard.pulse import LISTENERS_MAX, Pulse
from outlay.web.dashboard.schedules import SchedulePages
from outlay.web.dashboard.wallets import WalletPages
from outlay.web.dashboard.webhooks import WebhookPages
from outlay.web.dfns.identity import Login, open_session
from outlay.web.gate import Gate

STATIC = f"{ROOT}/static"
KINDS = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}


@lru_cache(maxsize=64)
def _file(name: str) -> tuple[bytes, str, str]:
    """Return a file of the package, its media type and its tag."""
    suffix = name[name.rfind(".") :]
    source = files("outlay.web.dashboard") / "static" / name
    if "/" in name or "\\" in name or name.startswith(".") or suffix not in KINDS or not source.is_file():
        raise NotFound("no such file")
    content = source.read_bytes()
    return content, KINDS[suffix], f'"{hashlib.sha256(content).hexdigest()[:20]}"'


class SessionPages(Controller):
    """Signing in and out, and joining."""

    path = ROOT

    @get("/sign-in")
    async def sign_in(self, request: StrictRequest, desk: Desk) -> Response[str]:
        """Ask who it is; their passkey answers."""
        back = place_after(request.query_params.get("next"))
        return desk.render(request, "sign_in.html", title="Sign in", back=back)

    @get("/join")
    async def join(self, request: StrictRequest, desk: Desk) -> Response[str]:
        """Register a passkey with a code, which stands behind the ``#`` and so reaches no server and no log."""
        return desk.render(request, "join.html", title="Register a passkey")

    @post("/session", status_code=200)
    async def begin(self, data: Login, gate: Gate) -> Response[dict[str, Any]]:
        """Take an answered login challenge; the session's token goes into a cookie that no script can read."""
        claims = await open_session(gate, data)
        answer: Response[dict[str, Any]] = Response({}, headers={"Cache-Control": "no-store"})
        answer.cookies.append(session_cookie(gate.seals.sign_token(claims), life=LOGIN_LIFE))
        return answer

    @post("/sign-out", status_code=200)
    async def end(self, request: StrictRequest, gate: Gate) -> Response[dict[str, Any]]:
        """End this session."""
        await request.expect_empty()
        answer: Response[dict[str, Any]] = Response({}, headers={"Clear-Site-Data": '"cache", "storage"'})
        answer.cookies.append(session_cookie("", life=0))
        try:
            caller = await gate.read(request, None, lambda _unit, who: who)
        except NotAuthenticated:
            return answer  # it was over before; the browser shall forget it all the same
        await gate.db.write(
            lambda unit: people.log_out(unit, now=gate.clock.now(), user_id=caller.user_id, token_id=caller.token_id)
        )
        return answer


class FilePages(Controller):
    """Scripts and styles, and the stream that tells pages what changed."""

    path = ROOT

    @get("/static/{name:str}", sync_to_thread=False)
    def file(self, request: Request[Any, Any, Any], name: str) -> Response[bytes]:
        """Return a file of the package."""
        content, kind, tag = _file(name)
        headers = {"ETag": tag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        if request.headers.get("if-none-match") == tag:
            return Response(b"", status_code=304, headers=headers, media_type=kind)
        return Response(content, headers=headers, media_type=kind)

    @get("/stream")
    async def stream(self, request: StrictRequest, gate: Gate, pulse: Pulse) -> Stream:
        """Tell which kinds of things change, as server-sent events, while the caller is signed in."""
        await gate.read(request, None, lambda _unit, _caller: None)
        if pulse.listeners >= LISTENERS_MAX:
            raise TooManyRequests("too many pages listen: reload in a while", retry_after_s=10)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return Stream(pulse.listen(request), media_type="text/event-stream", headers=headers)


@get("/", include_in_schema=False, sync_to_thread=False)
def lead_in() -> Redirect:
    """Lead to the dashboard."""
    return Redirect(ROOT, status_code=303)


@get(f"{ROOT}/{{rest:path}}", include_in_schema=False)
async def nothing_here(request: Request[Any, Any, Any], desk: Desk) -> Response[str]:
    """Answer a page that there is not."""
    return await desk.refuse(request, NotFound("there is no such page"))


CONTROLLERS = (
    SessionPages,
    FilePages,
    HomePages,
    PayoutPages,
    AuditPages,
    ApprovalPages,
    PeoplePages,
    AccountPages,
    PasskeyPages,
    WebhookPages,
    BatchPages,
    PolicyPages,
    WalletPages,
    PoolPages,
    SchedulePages,
)


def on_crash(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Answer what nobody foresaw: a page as a page, under the id that the log has it under."""
    answer = errors.on_unexpected(request, error)
    if request.method != "GET" or "text/html" not in request.headers.get("accept", ""):
        return answer
    told = OutlayError(f"{answer.content['error']['message']} ({answer.content['error']['id']})")
    desk: Desk = request.app.state.desk
    return desk.render(request, "refused.html", title="Something went wrong", status=500, error=told)


def router() -> Router:
    """Return every route of the dashboard; none of them is part of the API."""
    return Router(
        path="/",
        route_handlers=[*CONTROLLERS, lead_in, nothing_here],
        include_in_schema=False,
        # What the API answers for as errors it goes on answering so.
        exception_handlers={
            Exception: on_crash,
            OutlayError: errors.on_outlay_error,
            HTTPException: errors.on_http_exception,
        },
    )
