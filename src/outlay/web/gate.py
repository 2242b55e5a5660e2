"""The door of the API: opens tokens, runs reads and signed writes, and holds what routes need."""

import time
import unicodedata
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from litestar import Request

from outlay.actions.act import Act, Caller, SignedCall, authenticate, credential_of, sender_of, verify
from outlay.actions.admit import Order
from outlay.actions.payouts import Networks
from outlay.actions.perform import Outcome, PayoutCall, perform, perform_payouts
from outlay.actions.signed_message import SignedMessage
from outlay.config import Config
from outlay.core.asset import Asset
from outlay.core.errors import (
    ActionSignatureInvalid,
    BodyTooLarge,
    InvalidInput,
    NotAuthenticated,
    NotPermitted,
    OutcomeUnknown,
)
from outlay.core.faultpoint import fault
from outlay.core.price import Quote
from outlay.core.seams import Clock, Entropy, Instant
from outlay.evidence.assertion import Assertion
from outlay.evidence.challenge import Preimage, normalize_path
from outlay.evidence.seal import SealingKeys
from outlay.store import users
from outlay.store.database import Database, Unit
from outlay.store.paging import LIMIT_MAX
from outlay.web.body import StrictRequest
from outlay.web.cookies import cookie_token
from outlay.web.limits import Limiter, OverLimit
from outlay.web.messages import KEYS_MAX, REMEMBERED, Keys, Received, is_message, read_message, receive_message
from outlay.web.places import Places
from outlay.web.refusals import FailedLogins

T = TypeVar("T")
CHALLENGE, ACTION_TOKEN = "challenge", "user-action"
LOGIN, REGISTRATION, CREDENTIAL = "login", "registration", "credential"
STANDING = "outlay.standing"
"""Where a request's scope holds how its caller stands with the rate limits."""
RECEIVED = "outlay.received"
"""Where it holds the message that it is."""


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
    limiter: Limiter | None = None  #: None: any number of calls is answered
    keys: Keys = field(default_factory=dict)  #: that signed HTTP messages, by credential id
    signers: Keys = field(default_factory=dict)  #: that answered challenges, by credential uuid
    networks: Networks = field(default_factory=dict)
    places: Places = field(init=False)  #: of requests that wait to be admitted
    failed_logins: FailedLogins = field(init=False)
    is_open: Callable[[], bool] = lambda: True  #: False while the database may be an older copy: no writes then
    is_live: Callable[[], bool] = lambda: True  #: False once this process does not turn any more
    is_ready: Callable[[], Awaitable[bool]] | None = None  #: whether all is as it has to be; None: as ``is_open`` says
    on_admitted: Callable[[str, str | None, float], None] | None = None
    """Is told of each request of a payout that was answered: the payout, the caller's trace, seconds it took."""

    def __post_init__(self) -> None:
        """Make as many places as are configured."""
        object.__setattr__(self, "places", Places(self.config.api.queue_max))
        object.__setattr__(self, "failed_logins", FailedLogins(self.db, self.clock))

    def claims(self, request: Request[Any, Any, Any]) -> dict[str, Any]:
        """Return the verified content of the bearer token, sent as a header or, by our own pages, as a cookie.

        Raises:
            NotAuthenticated: missing, malformed or not ours.
        """
        header = request.headers.get("authorization")
        if header is None and (token := cookie_token(request, origins=self.config.server.origins)):
            return self.seals.read_token(token)
        scheme, _, text = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise NotAuthenticated("send your token as authorization: Bearer TOKEN")
        return self.seals.read_token(text.strip())

    async def count(self, request: Request[Any, Any, Any], identity: str | None = None) -> None:
        """Count a call for the rate limits; its standing goes into the answer's headers.

        Args:
            request: the call.
            identity: who is known to have made it; None: nobody is, so that it counts for an address.

        Raises:
            OverLimit: it is one too many.
        """
        if self.limiter is None:
            return
        scope: Any = request.scope
        address = "" if request.client is None else request.client.host
        try:
            scope[STANDING] = await self.limiter.hit(
                method=scope["method"], path=scope["path"], identity=identity, address=address
            )
        except OverLimit as error:
            scope[STANDING] = error.standing
            raise

    async def count_at_the_door(self, request: StrictRequest) -> None:
        """Count a call for who certainly makes it now, or else for its address, whatever is wrong with it.

        So nobody uses up what others may do: not with a token that was switched off, and not by sending again what
        somebody has signed.

        Raises:
            OverLimit: it is one too many. BodyTooLarge, InvalidInput: as reading the body.
        """
        if self.limiter is None:
            return
        identity, unreadable = None, None
        try:
            identity = await self._who_calls(request)
        except (NotAuthenticated, NotPermitted):
            pass  # said to the caller where the call is carried out
        except (BodyTooLarge, InvalidInput) as error:
            unreadable = error
        await self.count(request, identity)
        if unreadable is not None:
            raise unreadable

    async def _who_calls(self, request: StrictRequest) -> str:
        """Return the id of who makes a call, as the database stands now."""
        now = self.clock.now()
        if is_message(request):
            received = await self._receive(request)
            uuid = received.credential.uuid
            return await self.db.read(lambda unit: sender_of(unit, received.message, credential_uuid=uuid, now=now))
        claims = self.claims(request)
        return await self.db.read(lambda unit: authenticate(unit, claims, now=now).user_id)

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
            raise _about(error, arguments["payload"]) from error
        result: T = _kept(outcome)
        return result

    async def admit(
        self, request: StrictRequest, operations: str | Collection[str], order: Callable[[Act], Order]
    ) -> dict[str, Any]:
        """Carry out a signed call for one payout, together with all others that wait.

        Args:
            request: its method, path and body are what must have been signed.
            operations: what the caller must be permitted.
            order: what it asks for; runs inside the unit.

        Raises:
            TooManyRequests: too many wait; nothing was stored, and the same signed call may be sent again.
        """
        began = time.perf_counter()
        with self.places.take():
            arguments = await self._arguments(request, operations)
            names = ("claims", "call", "method", "path", "payload", "operations")
            call = PayoutCall(order=order, **{name: arguments[name] for name in names})
            if isinstance(call.call, SignedCall):
                call = replace(call, call=await self._checked(call.call))
            try:
                outcome = await self.db.write_item(self._admit_together, call)
            except OutcomeUnknown as error:
                raise _about(error, call.payload) from error
        result: dict[str, Any] = _kept(outcome)
        if self.on_admitted is not None:
            trace = request.headers.get("traceparent")
            self.on_admitted(str(result["id"]), trace, time.perf_counter() - began)
        return result

    def _admit_together(self, unit: Unit, calls: Sequence[PayoutCall]) -> list[Outcome | Exception]:
        return perform_payouts(unit, calls, now=self.clock.now(), entropy=self.entropy, config=self.config)

    async def _checked(self, call: SignedCall) -> SignedCall:
        """Return a call whose signature was verified already, if it is good: in the unit others wait meanwhile."""
        now, origins = self.clock.now(), self.config.server.origins
        credential, read_at = self.signers.get(call.credential_uuid, (None, now))
        if credential is None or now >= read_at + REMEMBERED:
            row = await self.db.read(lambda unit: users.find_credential(unit, call.credential_uuid))
            if row is None:
                return call
            credential = credential_of(row, origins=origins)
            if len(self.signers) >= KEYS_MAX:
                self.signers.clear()
            self.signers[call.credential_uuid] = (credential, now)
        try:
            call.check_signature(credential, origins=origins)
        except ActionSignatureInvalid:
            return call  # the unit says why, with the key as it is then
        return replace(call, checked=credential)

    async def check(self, request: StrictRequest, operations: str | Collection[str]) -> None:
        """Check that a signed call may be carried out, before something outside the database is asked for it."""
        arguments = await self._arguments(request, operations)
        await self.db.read(lambda unit: verify(unit, now=self.clock.now(), **arguments))

    async def _receive(self, request: StrictRequest) -> Received:
        """Return a call signed as one HTTP message; its signature is verified once."""
        scope: Any = request.scope
        if RECEIVED not in scope:
            server = self.config.server
            scope[RECEIVED] = await receive_message(
                request,
                public_url=server.public_url,
                origins=server.origins,
                db=self.db,
                keys=self.keys,
                now=self.clock.now(),
            )
        received: Received = scope[RECEIVED]
        return received

    async def _arguments(self, request: StrictRequest, operations: str | Collection[str]) -> dict[str, Any]:
        claims: dict[str, Any] = {}
        call: SignedCall | SignedMessage
        if is_message(request):
            call = await read_message(request, await self._receive(request))
        else:
            claims, call = self.claims(request), self.signed_call(request)
        return {
            "entropy": self.entropy,
            "config": self.config,
            "claims": claims,
            "call": call,
            "method": request.method,
            "path": normalize_path(request.scope["raw_path"].decode("ascii", "replace"), field="path"),
            "payload": await request.payload(),
            "operations": (operations,) if isinstance(operations, str) else operations,
        }


def _kept(outcome: Outcome) -> Any:
    """Return what a unit kept; raise what it refused, or that it waits for people."""
    fault("admit.after_commit")
    if outcome.refusal is not None:
        raise outcome.refusal
    if outcome.is_waiting:
        raise ChangeWaits(outcome.result)
    return outcome.result


def _about(error: OutcomeUnknown, payload: Any) -> OutcomeUnknown:
    """Return the error with what the caller can look for."""
    return OutcomeUnknown(error.message, ids=[value for value in [payload.get("externalId")] if value])


def page_arguments(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Return ``limit`` and ``token`` of a list call, in either spelling that clients send.

    Raises:
        InvalidInput: the limit is not a whole number from 1 to 500.
    """
    limit = request.query_params.get("limit")
    token = query_text(request, "paginationToken", "pagination_token")
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
    """Return the first of the named query parameters that was given.

    Raises:
        InvalidInput: it holds a control character, which no value has and PostgreSQL does not take in some.
    """
    for name in names:
        value = request.query_params.get(name)
        if value:
            text = str(value)
            if any(unicodedata.category(each) in ("Cc", "Cs") for each in text):
                raise InvalidInput("holds a control character", field=name)
            return text
    return None
