"""The ASGI application: routes, one error envelope, one body reader."""

from collections.abc import Callable, Sequence
from typing import Any

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, Reference, SecurityScheme

from outlay import __version__
from outlay.core.errors import OutlayError
from outlay.signer import Signer
from outlay.web import errors
from outlay.web.body import CHALLENGE_BODY_MAX, StrictRequest
from outlay.web.dfns.action import ActionController
from outlay.web.dfns.identity import ServiceAccountController, SessionController, UserController
from outlay.web.dfns.permission import PermissionController
from outlay.web.dfns.policy import ApprovalController, PolicyController
from outlay.web.dfns.wallet import WalletController
from outlay.web.dfns.webhook import Courier, WebhookController
from outlay.web.gate import Gate
from outlay.web.v1.organization import OrganizationController

CONTROLLERS = (
    ActionController,
    SessionController,
    UserController,
    ServiceAccountController,
    PermissionController,
    WalletController,
    PolicyController,
    ApprovalController,
    WebhookController,
    OrganizationController,
)


def create_app(
    gate: Gate,
    signer: Signer,
    courier: Courier,
    *,
    on_startup: Sequence[Callable[..., Any]] = (),
    on_shutdown: Sequence[Callable[..., Any]] = (),
) -> Litestar:
    """Return the application around its parts."""
    security: dict[str, SecurityScheme | Reference] = {
        "bearer": SecurityScheme(type="http", scheme="bearer"),
        "userAction": SecurityScheme(type="apiKey", name="X-DFNS-USERACTION", security_scheme_in="header"),
    }
    return Litestar(
        route_handlers=[Router(path="/", route_handlers=list(CONTROLLERS))],
        request_class=StrictRequest,
        request_max_body_size=CHALLENGE_BODY_MAX,
        dependencies={
            "gate": Provide(lambda: gate, sync_to_thread=False, use_cache=True),
            "signer": Provide(lambda: signer, sync_to_thread=False, use_cache=True),
            "courier": Provide(lambda: courier, sync_to_thread=False, use_cache=True),
        },
        exception_handlers={
            OutlayError: errors.on_outlay_error,
            HTTPException: errors.on_http_exception,
            Exception: errors.on_unexpected,
        },
        openapi_config=OpenAPIConfig(
            title="Outlay",
            version=__version__,
            path="/",
            render_plugins=[JsonRenderPlugin(path="openapi.json")],
            components=Components(security_schemes=security),
        ),
        on_startup=list(on_startup),
        on_shutdown=list(on_shutdown),
        logging_config=None,
    )
