"""User-action signing: a challenge derived from the intended call, exchanged for a single-use token."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from litestar import Controller, post

from outlay.actions.act import CHALLENGE_LIFE, TOKEN_LIFE, credential_of, origins_for, signing_keys
from outlay.actions.organization import open_action
from outlay.core.errors import ActionSignatureInvalid, BodyTooLarge, InvalidInput
from outlay.evidence.assertion import FIDO2, KEY, Assertion, parse_assertion, verify_assertion
from outlay.evidence.challenge import METHODS, Preimage, action_challenge, normalize_path
from outlay.store import users
from outlay.store.database import Unit
from outlay.web.body import BODY_MAX, StrictRequest, read_object
from outlay.web.gate import ACTION_TOKEN, CHALLENGE, Gate

PAYLOAD_MAX = BODY_MAX


class ActionInit(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What the caller intends to call."""

    userActionHttpMethod: str
    userActionHttpPath: str
    userActionPayload: str = ""
    userActionServerKind: str | None = None


class ActionSign(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The signed challenge."""

    challengeIdentifier: str
    firstFactor: dict[str, Any]
    secondFactor: dict[str, Any] | None = None


def named(keys: Iterable[Any], kind: str) -> list[dict[str, str]]:
    """Return the credentials of one kind as the contract lists them."""
    return [{"type": "public-key", "id": key.credential_id} for key in keys if key.kind == kind]


def challenge_answer(challenge: str, identifier: str, keys: Sequence[Any], relying_party: str) -> dict[str, Any]:
    """Return the contract's challenge object; ``keys`` may answer it."""
    return {
        "challenge": challenge,
        "challengeIdentifier": identifier,
        "rp": {"id": relying_party, "name": "Outlay"},
        "supportedCredentialKinds": [
            {"kind": kind, "factor": "first", "requiresSecondFactor": False} for kind in (KEY, FIDO2)
        ],
        "userVerification": "required",
        "attestation": "none",
        "allowCredentials": {"key": named(keys, KEY), "webauthn": named(keys, FIDO2)},
        "externalAuthenticationUrl": "",
    }


def read_payload(text: str) -> Any:
    """Return the intended body; the empty text is no body.

    Raises:
        InvalidInput: it is not a JSON object by the reader's rules. BodyTooLarge: beyond the body limit.
    """
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) > PAYLOAD_MAX:
        raise BodyTooLarge(f"is larger than {PAYLOAD_MAX} bytes: send less", field="userActionPayload")
    if not text.strip(" \t\r\n"):
        return {}
    return read_object(raw, field="userActionPayload")


class ActionController(Controller):
    """``/auth/action``."""

    tags = ("Signing",)

    @post("/auth/action/init", status_code=200, summary="Open a user action")
    async def init(self, request: StrictRequest, data: ActionInit, gate: Gate) -> dict[str, Any]:
        """Return the challenge that stands for one intended call by this caller."""
        method = data.userActionHttpMethod
        if method not in METHODS:
            raise InvalidInput("is POST, PUT, DELETE or GET", field="userActionHttpMethod")
        path = normalize_path(data.userActionHttpPath, field="userActionHttpPath")
        payload = read_payload(data.userActionPayload)

        def open_(unit: Unit, caller: Any) -> tuple[Preimage, list[Any]]:
            preimage = open_action(
                unit,
                now=gate.clock.now(),
                entropy=gate.entropy,
                caller=caller,
                method=method,
                path=path,
                payload=payload,
            )
            return preimage, signing_keys(unit, caller)

        preimage, keys = await gate.read(request, None, open_)
        identifier = gate.seals.seal(CHALLENGE, {"preimage": preimage.document()})
        answer = challenge_answer(action_challenge(preimage), identifier, keys, gate.config.server.relying_party)
        # What the challenge is the hash of: whoever signs can compare it with what they mean to sign.
        return {**answer, "preimage": preimage.document()}

    @post("/auth/action", status_code=200, summary="Exchange a signed challenge for a token")
    async def sign(self, request: StrictRequest, data: ActionSign, gate: Gate) -> dict[str, Any]:
        """Return the single-use token for the call the challenge stands for."""
        gate.claims(request)
        preimage = Preimage.from_document(gate.seals.open(CHALLENGE, data.challengeIdentifier)["preimage"])
        assertion = parse_assertion(data.firstFactor)
        now = gate.clock.now()
        if now >= preimage.expires:
            raise ActionSignatureInvalid("this challenge has expired: request a new one")

        def check(unit: Unit, caller: Any) -> str:
            return _check(unit, caller.user_id, preimage, assertion, gate)

        credential_uuid = await gate.read(request, None, check)
        token = {
            "preimage": preimage.document(),
            "assertion": assertion.document(),
            "credential": credential_uuid,
            "expires": min(now + TOKEN_LIFE, preimage.issued + CHALLENGE_LIFE + TOKEN_LIFE),
        }
        return {"userAction": gate.seals.seal(ACTION_TOKEN, token)}


def _check(unit: Unit, user_id: str, preimage: Preimage, assertion: Assertion, gate: Gate) -> str:
    """Verify the assertion now, so that a wrong key is told at once; it is verified again at use."""
    if preimage.identity != user_id:
        raise ActionSignatureInvalid("this challenge was issued to another identity")
    key = users.find_credential_by_name(unit, assertion.cred_id)
    if key is None or key.user_id != user_id or not key.is_active or key.id not in preimage.credentials:
        raise ActionSignatureInvalid("this credential was not offered by the challenge")
    origins = origins_for(preimage, gate.config)
    verify_assertion(assertion, credential_of(key, origins=origins), action_challenge(preimage), origins=origins)
    uuid: str = key.id
    return uuid
