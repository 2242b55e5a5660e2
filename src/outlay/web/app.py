"""The ASGI application: routes, one error envelope, one body reader, and the description of it all."""

import itertools
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import structlog
from litestar import Litestar, MediaType, Request, Response, Router, get
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException

from outlay.core.errors import InvalidInput, OutlayError, Unavailable
from outlay.evidence.challenge import normalize_path
from outlay.signer import KeyMaker
from outlay.web import contract, errors, openapi
from outlay.web.body import LIMITS, StrictRequest
from outlay.web.dashboard import routes as dashboard
from outlay.web.dashboard.desk import Desk
from outlay.web.dashboard.home import Lately
from outlay.web.dashboard.pulse import Pulse
from outlay.web.dfns.action import ActionController
from outlay.web.dfns.credential import CredentialController, PatController
from outlay.web.dfns.identity import ServiceAccountController, SessionController, UserController
from outlay.web.dfns.network import Chains, NetworkController
from outlay.web.dfns.permission import PermissionController
from outlay.web.dfns.policy import ApprovalController, PolicyController
from outlay.web.dfns.wallet import WalletController
from outlay.web.dfns.webhook import Courier, WebhookController
from outlay.web.gate import STANDING, ChangeWaits, Gate
from outlay.web.health import HEALTH, HealthController
from outlay.web.v1.audit import AuditController
from outlay.web.v1.batches import BatchController
from outlay.web.v1.changes import ChangeController
from outlay.web.v1.events import EventController
from outlay.web.v1.evidence import EvidenceController
from outlay.web.v1.explanations import ExplanationController
from outlay.web.v1.mandates import MandateController
from outlay.web.v1.organization import OrganizationController
from outlay.web.v1.payouts import PayoutController
from outlay.web.v1.pools import PoolController
from outlay.web.v1.recovery import RecoveryController
from outlay.web.v1.signer import Reconciler, SignerController
from outlay.web.v1.stops import StopController

CONTROLLERS = (
    ActionController,
    SessionController,
    CredentialController,
    PatController,
    UserController,
    ServiceAccountController,
    PermissionController,
    WalletController,
    NetworkController,
    PolicyController,
    ApprovalController,
    WebhookController,
    EventController,
    HealthController,
    OrganizationController,
    EvidenceController,
    ChangeController,
    StopController,
    SignerController,
    MandateController,
    PayoutController,
    BatchController,
    ExplanationController,
    PoolController,
    RecoveryController,
    AuditController,
)

READING = frozenset({"GET", "HEAD", "OPTIONS", errors.ASK_METHODS})


REQUEST = "outlay.request"
"""Where a request's scope holds its id: that of its answer's ``x-request-id`` and of its lines in the log."""

_PREFIX, _NUMBERS = f"req-{secrets.token_hex(6)}-", itertools.count(1)
"""Request ids: a process's own prefix, and a number."""

OnCall = Callable[[str, str | None, int, float], None]
"""Is told of each call: method, route, status, seconds until its answer began."""


class Api(Litestar):
    """The application; HEAD is GET without the body, OPTIONS tells the methods of any path."""

    on_call: OnCall | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request, or the life of the server."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        method, began = scope["method"], time.perf_counter()
        name = f"{_PREFIX}{next(_NUMBERS):06x}"

        async def send_on(message: Any) -> None:
            if message["type"] == "http.response.start":
                standing = scope.get(STANDING)
                more = [(b"x-request-id", name.encode()), *(standing.headers() if standing is not None else ())]
                message = {**message, "headers": [*message["headers"], *more]}
                if self.on_call is not None:
                    route = scope.get("path_template")
                    self.on_call(method, route, message["status"], time.perf_counter() - began)
            await send(message)

        meant = {"HEAD": "GET", "OPTIONS": errors.ASK_METHODS}.get(method, method)
        scope = {**scope, "method": meant, REQUEST: name}
        structlog.contextvars.bind_contextvars(request=name)  # of this request's own task, which ends with it
        await super().__call__(scope, receive, send_on)


async def check_path(request: Request[Any, Any, Any]) -> None:
    """Refuse a path that was matched only because the router tidied it: what is signed is the path as it is.

    Raises:
        NotOffered: it has empty or dot segments, a slash at the end, or escapes that hide one.
    """
    try:
        plain = normalize_path(request.scope["raw_path"].decode("ascii"), field="path")
    except (InvalidInput, UnicodeDecodeError):
        raise errors.not_offered(request) from None
    if plain != request.scope["path"] or (request.method, plain) in contract.SHADOWED:
        raise errors.not_offered(request)


def on_change_waits(_request: Request[Any, Any, Any], waits: ChangeWaits) -> Response[dict[str, Any]]:
    """Answer a change that waits for people."""
    return Response(waits.request, status_code=202, media_type=MediaType.JSON)


def describe() -> dict[str, Any]:
    """Return the OpenAPI document of the whole API."""
    return openapi.document(_router())


def _router() -> Router:
    return Router(path="/", route_handlers=list(CONTROLLERS))


def create_app(
    gate: Gate,
    signer: KeyMaker,
    courier: Courier,
    chains: Chains,
    reconciler: Reconciler,
    *,
    on_startup: Sequence[Callable[..., Any]] = (),
    on_shutdown: Sequence[Callable[..., Any]] = (),
    on_call: OnCall | None = None,
) -> Litestar:
    """Return the application around its parts."""
    description = msgspec.json.encode(describe())

    async def let_in(request: Request[Any, Any, Any]) -> None:
        assert isinstance(request, StrictRequest)
        await check_path(request)
        # Who watches is not limited, nor is what a page is made of: what these cost is bounded.
        if not request.scope["path"].startswith((HEALTH, dashboard.STATIC)):
            await gate.count_at_the_door(request)
        if request.method not in READING and not gate.is_open():
            raise Unavailable("the server is recovering: nothing was done, repeat the call in a while")

    @get("/openapi.json", media_type=MediaType.JSON, sync_to_thread=False)
    def read_description() -> bytes:
        return description

    desk, pulse, lately = Desk(gate), Pulse(gate), Lately()
    api = Api(
        route_handlers=[_router(), read_description, dashboard.router()],
        state=State({"desk": desk}),
        request_class=StrictRequest,
        request_max_body_size=max(LIMITS.values()),
        before_request=let_in,
        dependencies={
            "gate": Provide(lambda: gate, sync_to_thread=False, use_cache=True),
            "signer": Provide(lambda: signer, sync_to_thread=False, use_cache=True),
            "courier": Provide(lambda: courier, sync_to_thread=False, use_cache=True),
            "chains": Provide(lambda: chains, sync_to_thread=False, use_cache=True),
            "reconciler": Provide(lambda: reconciler, sync_to_thread=False, use_cache=True),
            "desk": Provide(lambda: desk, sync_to_thread=False, use_cache=True),
            "pulse": Provide(lambda: pulse, sync_to_thread=False, use_cache=True),
            "lately": Provide(lambda: lately, sync_to_thread=False, use_cache=True),
        },
        exception_handlers={
            OutlayError: errors.on_outlay_error,
            HTTPException: errors.on_http_exception,
            ChangeWaits: on_change_waits,
            Exception: errors.on_unexpected,
        },
        openapi_config=None,
        on_startup=list(on_startup),
        on_shutdown=list(on_shutdown),
        logging_config=None,
    )
    api.on_call = on_call
    return api
