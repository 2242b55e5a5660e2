"""The tree of errors. The class answers one question: what must the caller do?

``Refused``        tell the caller; repeating the same call will not help (4xx).
``Unavailable``    nothing has happened; try the same call again later (503).
``OutcomeUnknown`` it may have happened; look before doing anything.
``InvariantBroken`` our fault or the world's: stop, and wake a person.

Codes are stable; ``docs/reference/errors.md`` lists them all.
"""

from collections.abc import Mapping
from typing import Any


class OutlayError(Exception):
    """Base of every error Outlay raises on purpose."""

    code = "internal"
    status = 500

    def __init__(self, message: str, *, field: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.details: Mapping[str, Any] = {**({"field": field} if field else {}), **details}


class Refused(OutlayError):
    """The call is wrong or not allowed; nothing was done."""

    code = "refused"
    status = 400


class InvalidInput(Refused):
    """A field of the request is wrong; ``field`` names it and the message says what to do."""

    code = "invalid_input"


class NotAuthenticated(Refused):
    """The bearer token is missing, malformed, expired or revoked."""

    code = "not_authenticated"
    status = 401


class NotPermitted(Refused):
    """The caller is known but may not do this."""

    code = "not_permitted"
    status = 403


class ActionSignatureInvalid(NotPermitted):
    """The user-action token or the assertion in it does not cover this call."""

    code = "action_signature_invalid"


class ActionReplayed(NotPermitted):
    """The signed challenge was used before; ``details.resultId`` names what it did."""

    code = "action_replayed"


class NotFound(Refused):
    """No such object, or not this caller's."""

    code = "not_found"
    status = 404


class NotOffered(Refused):
    """This path or method is not part of Outlay."""

    code = "not_offered"
    status = 404


class MethodNotAllowed(Refused):
    """The path exists, the method on it does not."""

    code = "method_not_allowed"
    status = 405


class Conflict(Refused):
    """The request contradicts something that already exists."""

    code = "conflict"
    status = 409


class HeadMoved(Conflict):
    """Somebody changed the organization's records since this change was signed: sign it again."""

    code = "head_moved"


class ApprovalChanged(Conflict):
    """The policy's groups changed since this decision was signed: read the approval and decide again."""

    code = "approval_changed"


class PreconditionFailed(Refused):
    """The object is in a state that forbids this operation."""

    code = "precondition_failed"
    status = 412


class BodyTooLarge(Refused):
    """The request body is larger than this route accepts."""

    code = "body_too_large"
    status = 413


class UnsupportedMediaType(Refused):
    """The request body is not declared as JSON."""

    code = "unsupported_media_type"
    status = 415


class TooManyRequests(Refused):
    """More than this server takes now; nothing was stored. Wait ``retry_after_s`` seconds and send the same again."""

    code = "too_many_requests"
    status = 429

    def __init__(self, message: str, *, retry_after_s: int = 1, **details: Any) -> None:
        """Keep how long to wait, whole seconds."""
        super().__init__(message, **details)
        self.retry_after_s = retry_after_s


class HeadTooLarge(Refused):
    """Request line and headers are larger than this server reads."""

    code = "head_too_large"
    status = 431


class MalformedRequest(Refused):
    """The bytes on the connection are not an HTTP request."""

    code = "malformed_request"


class Unavailable(OutlayError):
    """Nothing has happened; the same call may be repeated later."""

    code = "unavailable"
    status = 503


class ChainUnavailable(Unavailable):
    """No configured RPC endpoint gave a usable answer."""

    code = "chain_unavailable"


class SignerUnavailable(Unavailable):
    """The signer is locked or gone."""

    code = "signer_unavailable"


class OutcomeUnknown(OutlayError):
    """It may have happened. Look (``details.ids``) before doing anything."""

    code = "outcome_unknown"
    status = 503


class SignerRefused(OutlayError):
    """The signer's own checks or journal forbid this signature; ``why`` says what to do about it."""

    code = "signer_refused"

    def __init__(self, message: str, *, field: str | None = None, why: str = "invalid") -> None:
        """Keep the reason: one of ``outlay.signer.Why``."""
        super().__init__(message, field=field, why=why)
        self.why = why


class InvariantBroken(OutlayError):
    """Something that must always hold does not. Stop this wallet and wake a person."""

    code = "invariant_broken"


class IllegalTransition(InvariantBroken):
    """An event arrived in a state that does not accept it."""

    code = "illegal_transition"
