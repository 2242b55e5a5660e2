"""The door of the API: opens tokens, runs reads and signed writes, and holds what routes need."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeVar

from litestar import Request

from outlay.actions.act import Act, Caller, SignedCall, authenticate, verify
from outlay.actions.perform import Outcome, perform
from outlay.config import Config
from outlay.core.asset import Asset
from outlay.core.errors import ActionSignatureInvalid, InvalidInput, NotAuthenticated, OutcomeUnknown
from outlay.core.faultpoint import fault
from outlay.core.price import Quote
from outlay.core.seams import Clock, Entropy, Instant
from outlay.evidence.assertion import Assertion
from outlay.evidence.challenge import Preimage, normalize_path
from outlay.evidence.seal import SealingKeys
from outlay.store.database import Database, Unit
from outlay.store.paging import LIMIT_MAX
from outlay.web.body import StrictRequest

T = TypeVar("T")
CHALLENGE, ACTION_TOKEN = "challenge", "user-action"
LOGIN, REGISTRATION, CREDENTIAL = "login", "registration", "credential"


class ChangeWaits(Exception):
    """A change that waits for people: answered 202 with its change request, whatever the route answers else."""

    def __init__(self, request: dict[str, Any]) -> None:
        """Keep the change request as it is answered."""
        super().__init__("the change waits for approval")
        self.request = request


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What stands between the network and the actions."""

    db: Database
    seals: SealingKeys
    config: Config
    clock: Clock
    entropy: Entropy
    price_of: Callable[[Asset, Instant], Quote | None]
    webhook_public_key: str  #: what ``v1a`` webhook signatures are verified with
    is_open: Callable[[], bool] = lambda: True  #: False while the database may be an older copy: no writes then

    def claims(self, request: Request[Any, Any, Any]) -> dict[str, Any]:
        """Return the verified content of the bearer token.

        Raises:
            NotAuthenticated: missing, malformed or not ours.
        """
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise NotAuthenticated("send your token as authorization: Bearer TOKEN")
        return self.seals.read_token(text.strip())

    async def read(
        self,
        request: Request[Any, Any, Any],
        operations: str | Collection[str] | None,
        function: Callable[[Unit, Caller], T],
    ) -> T:
        """Run a read for a caller who may do all of ``operations`` (None: anybody who is logged in)."""
        claims, now = self.claims(request), self.clock.now()
        needed = (operations,) if isinstance(operations, str) else operations or ()

        def run(unit: Unit) -> T:
            caller = authenticate(unit, claims, now=now)
            caller.require(*needed)
            return function(unit, caller)

        return await self.db.read(run)

    def signed_call(self, request: Request[Any, Any, Any]) -> SignedCall:
        """Return what the user-action token of this request carries.

        Raises:
            ActionSignatureInvalid: missing, or not made by this server.
        """
        text = request.headers.get("x-dfns-useraction", "")
        if not text:
            raise ActionSignatureInvalid(
                "user action signature is missing or invalid: sign this call (POST /auth/action/init, then"
                " POST /auth/action) and send the token as X-DFNS-USERACTION"
            )
        sealed = self.seals.open(ACTION_TOKEN, text)
        return SignedCall(
            preimage=Preimage.from_document(sealed["preimage"]),
            assertion=Assertion.from_document(sealed["assertion"]),
            credential_uuid=sealed["credential"],
            token_expires=sealed["expires"],
        )

    async def write(self, request: StrictRequest, operations: str | Collection[str], action: Callable[[Act], T]) -> T:
        """Carry out a signed call: one unit, with its evidence.

        Args:
            request: its method, path and body are what must have been signed.
            operations: what the caller must be permitted.
            action: makes the change; runs inside the unit.
        """
        arguments = await self._arguments(request, operations)

        def run(unit: Unit) -> Outcome:
            return perform(unit, now=self.clock.now(), action=action, **arguments)

        try:
            outcome = await self.db.write(run)
        except OutcomeUnknown as error:
            payload = arguments["payload"]
            raise OutcomeUnknown(
                error.message, ids=[value for value in [payload.get("externalId")] if value]
            ) from error
        fault("admit.after_commit")
        if outcome.refusal is not None:
            raise outcome.refusal
        if outcome.is_waiting:
            raise ChangeWaits(outcome.result)
        result: T = outcome.result
        return result

    async def check(self, request: StrictRequest, operations: str | Collection[str]) -> None:
        """Check that a signed call may be carried out, before something outside the database is asked for it."""
        arguments = await self._arguments(request, operations)
        await self.db.read(lambda unit: verify(unit, now=self.clock.now(), **arguments))

    async def _arguments(self, request: StrictRequest, operations: str | Collection[str]) -> dict[str, Any]:
        return {
            "entropy": self.entropy,
            "config": self.config,
            "claims": self.claims(request),
            "call": self.signed_call(request),
            "method": request.method,
            "path": normalize_path(request.scope["raw_path"].decode("ascii", "replace"), field="path"),
            "payload": await request.payload(),
            "operations": (operations,) if isinstance(operations, str) else operations,
        }


def page_arguments(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Return ``limit`` and ``token`` of a list call, in either spelling that clients send.

    Raises:
        InvalidInput: the limit is not a whole number from 1 to 500.
    """
    limit = request.query_params.get("limit")
    token = request.query_params.get("paginationToken") or request.query_params.get("pagination_token")
    if limit is None:
        return {"limit": None, "token": token}
    is_whole = limit.isascii() and limit.isdecimal() and len(limit) <= 9
    if not is_whole or not 1 <= int(limit) <= LIMIT_MAX:
        raise InvalidInput(f"must be a whole number from 1 to {LIMIT_MAX}", field="limit")
    return {"limit": int(limit), "token": token}


def query_flag(request: Request[Any, Any, Any], *names: str) -> bool | None:
    """Return the first of the named query parameters that was given, read as clients of any language write it.

    Raises:
        InvalidInput: neither true nor false; the first name is the field.
    """
    text = query_text(request, *names)
    if text is not None and text.lower() not in ("true", "false"):
        raise InvalidInput("is true or false", field=names[0])
    return None if text is None else text.lower() == "true"


def query_text(request: Request[Any, Any, Any], *names: str) -> str | None:
    """Return the first of the named query parameters that was given."""
    for name in names:
        value = request.query_params.get(name)
        if value:
            return str(value)
    return None
