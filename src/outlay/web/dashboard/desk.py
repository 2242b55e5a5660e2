"""What every page is made with: the person who is signed in, one read of the database, a template, strict headers."""

import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

import jinja2
import structlog
from litestar import Request, Response

from outlay import __version__
from outlay.actions.act import Caller
from outlay.core.errors import NotAuthenticated, OutlayError
from outlay.store.database import Unit
from outlay.web.cookies import COOKIE, session_cookie
from outlay.web.dashboard import show
from outlay.web.gate import Gate

ROOT = "/dashboard"
SIGN_IN = f"{ROOT}/sign-in"
APPROVALS = f"{ROOT}/approvals"
PASSKEYS = f"{ROOT}/passkeys"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the navigation."""

    path: str
    title: str
    operations: frozenset[str]  #: somebody who may do none of them does not see it; empty: everybody sees it


NAVIGATION = (
    Entry(ROOT, "Home", frozenset()),
    Entry(APPROVALS, "Approvals", frozenset({"Policies:Evaluations:Read"})),
    Entry(f"{ROOT}/payouts", "Payouts", frozenset({"Wallets:Transfers:Read"})),
    Entry(f"{ROOT}/batches", "Batches", frozenset({"Wallets:Transfers:Read"})),
    Entry(f"{ROOT}/schedules", "Schedules", frozenset({"Mandates:Read"})),
    Entry(f"{ROOT}/wallets", "Wallets", frozenset({"Wallets:Read"})),
    Entry(f"{ROOT}/pools", "Pools", frozenset({"Pools:Read"})),
    Entry(f"{ROOT}/policies", "Policies", frozenset({"Policies:Read"})),
    Entry(f"{ROOT}/people", "People", frozenset({"Auth:Users:Read"})),
    Entry(f"{ROOT}/service-accounts", "Service accounts", frozenset({"Auth:ServiceAccounts:Read"})),
    Entry(f"{ROOT}/webhooks", "Webhooks", frozenset({"Webhooks:Read"})),
    Entry(f"{ROOT}/audit", "Audit log", frozenset({"Audit:Read"})),
)


def environment() -> jinja2.Environment:
    """Return what renders the templates: everything is escaped, and a name that is missing is an error."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("outlay.web.dashboard"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(show.FILTERS)
    return made


def headers_of(nonce: str) -> dict[str, str]:
    """Return the headers of a page: nothing but our own files, and no script but those that the page names."""
    return {
        "Content-Security-Policy": (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self' data:;"
            " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none';"
            " require-trusted-types-for 'script'; trusted-types 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "Cache-Control": "no-store",
    }


@dataclass(frozen=True, slots=True)
class Desk:
    """Makes pages."""

    gate: Gate
    templates: jinja2.Environment = field(default_factory=environment)

    async def page(
        self,
        request: Request[Any, Any, Any],
        template: str,
        operations: str | Collection[str] | None,
        load: Callable[[Unit, Caller], Mapping[str, Any]],
        *,
        title: str,
    ) -> Response[str]:
        """Return a page for whoever is signed in, or the page that says why not.

        Args:
            request: asks for it.
            template: its template's name.
            operations: what one must be permitted to see it, all of them; None: nothing.
            load: reads, in one unit, what the template shows.
            title: of the page.
        """

        path = request.scope["path"]
        if self.is_apart(request) and not path.startswith((APPROVALS, PASSKEYS)):
            return self._lead_from_apart(request)
        if path == PASSKEYS and self.gate.config.server.approval_url and not self.is_apart(request):
            # Whoever could add a key could decide with it: signed here, it would be refused.
            return _lead_to(f"{self.gate.config.server.decided_at}{PASSKEYS}")

        def run(unit: Unit, caller: Caller) -> dict[str, Any]:
            return {**load(unit, caller), "caller": caller}

        try:
            shown = await self.gate.read(request, operations, run)
        except NotAuthenticated:
            return self.ask_to_sign_in(request)
        except OutlayError as error:
            return await self.refuse(request, error)
        return self.render(request, template, title=title, **shown)

    def render(
        self, request: Request[Any, Any, Any], template: str, *, title: str, status: int = 200, **shown: Any
    ) -> Response[str]:
        """Return a page around what it shows; ``caller`` may be left out of it where nobody is signed in."""
        nonce, caller = secrets.token_urlsafe(18), shown.pop("caller", None)
        html = self.templates.get_template(template).render(
            title=title,
            nonce=nonce,
            caller=caller,
            may=frozenset() if caller is None else caller.operations,
            entries=[] if caller is None else self._entries(request, caller),
            path=request.scope["path"],
            query=request.query_params,
            version=__version__,
            relying_party=self.gate.config.server.relying_party,
            **shown,
        )
        return Response(html, status_code=status, headers=headers_of(nonce), media_type="text/html")

    def is_apart(self, request: Request[Any, Any, Any]) -> bool:
        """Tell whether a page is asked for at the address that is for decisions only."""
        apart = self.gate.config.server.approval_url
        return bool(apart) and request.headers.get("host", "").lower() == urlsplit(apart).netloc

    def _entries(self, request: Request[Any, Any, Any], caller: Caller) -> list[Entry]:
        seen = [each for each in NAVIGATION if _sees(caller, each)]
        return [each for each in seen if each.path == APPROVALS] if self.is_apart(request) else seen

    def _lead_from_apart(self, request: Request[Any, Any, Any]) -> Response[str]:
        """Lead to where a page is that has no place beside decisions: a hole in it must not reach them."""
        path = quote(request.scope["path"])
        elsewhere = f"{self.gate.config.server.public_url.rstrip('/')}{path}"
        return _lead_to(APPROVALS if path == ROOT else elsewhere)

    async def refuse(self, request: Request[Any, Any, Any], error: OutlayError) -> Response[str]:
        """Return the page that says why something is not shown."""
        if error.status >= 500:
            log.error("page_failed", path=request.scope["path"], code=error.code, exc_info=error)
        try:
            caller = await self.gate.read(request, None, lambda _unit, who: who)
        except OutlayError:
            caller = None
        name = HTTPStatus(error.status).phrase
        return self.render(request, "refused.html", title=name, status=error.status, error=error, caller=caller)

    def ask_to_sign_in(self, request: Request[Any, Any, Any]) -> Response[str]:
        """Return what leads to the sign-in page, and back from there.

        Whoever follows a link from a mail comes without the cookie, because it is sent with what our own pages ask
        for alone: so the page asks once more by itself, and then the browser sends it.
        """
        here = request.scope["path"]
        asked = request.scope["query_string"].decode("ascii", "replace")
        if request.headers.get("sec-fetch-site") not in (None, "none", "same-origin"):
            return self.render(request, "again.html", title="Outlay", again=f"{here}?{asked}" if asked else here)
        back = quote(f"{here}?{asked}" if asked else here, safe="/")
        answer = Response("", status_code=303, headers={"Location": f"{SIGN_IN}?next={back}"}, media_type="text/html")
        if COOKIE in request.cookies:
            answer.cookies.append(session_cookie("", life=0))
        return answer


def _lead_to(place: str) -> Response[str]:
    return Response("", status_code=303, headers={"Location": place}, media_type="text/html")


def place_after(text: str | None) -> str:
    """Return where to go after signing in: a page of the dashboard, whatever was asked for."""
    asked = text or ""
    is_ours = asked == ROOT or asked.startswith((f"{ROOT}/", f"{ROOT}?"))
    return asked if is_ours and asked.isprintable() and "\\" not in asked else ROOT


def _sees(caller: Caller, entry: Entry) -> bool:
    return not entry.operations or not entry.operations.isdisjoint(caller.operations)
