"""The caller's own keys and personal access tokens."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Controller, delete, get, post, put

from outlay.actions import codes, credentials, pats, present
from outlay.actions.act import PAT, Act, Caller
from outlay.core.errors import InvalidInput, NotAuthenticated, Refused
from outlay.evidence.assertion import FIDO2
from outlay.evidence.challenge import (
    CredentialPreimage,
    RegistrationPreimage,
    credential_challenge,
    registration_challenge,
)
from outlay.evidence.passkey import ALGORITHMS as PASSKEY_ALGORITHMS
from outlay.store import organizations, users
from outlay.store.database import Row, Unit
from outlay.web.body import Label, StrictRequest
from outlay.web.dfns.action import named
from outlay.web.dfns.identity import ALGORITHMS, SELECTION
from outlay.web.gate import CREDENTIAL, Gate

CODE = "credential-code"
"""What challenges that begin with a code are sealed for."""

OWN: tuple[str, ...] = ()
"""Calls about the caller's own keys and tokens need no operation; personal access tokens may not make them."""


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A body without unknown members."""


class CredentialInit(Body):
    """Which kind of key is to be added."""

    kind: str


class CreateCredential(Body):
    """A new key of the caller's own and its attestation."""

    credentialKind: str
    credentialInfo: dict[str, Any]
    challengeIdentifier: str
    credentialName: Label | None = None
    encryptedPrivateKey: str | None = None


class CreateCode(Body):
    """Until when a code shall be good: a date, or seconds since 1970."""

    expiration: str | int


class CodeInit(Body):
    """A code, and which kind of credential is to be registered with it."""

    credentialKind: str
    code: str


class CredentialName(Body):
    """One of the caller's own keys."""

    credentialUuid: str


class ActivateCredential(CredentialName):
    """The same, and the fingerprint that its holder compared."""

    fingerprint: str | None = None


class CreatePat(Body):
    """A personal access token to be made."""

    name: Label
    publicKey: str
    permissionId: str | None = None
    externalId: Label | None = None
    daysValid: int | None = None
    secondsValid: int | None = None


class UpdatePat(Body):
    """What may change of a personal access token."""

    name: Label | None = None
    externalId: Label | None = None


def _parameters(kind: str) -> list[dict[str, Any]]:
    """Return what a new credential of a kind may sign with, as the contract lists it."""
    numbers = PASSKEY_ALGORITHMS if kind == FIDO2 else ALGORITHMS
    return [{"type": "public-key", "alg": number} for number in numbers]


def _challenge_answer(
    gate: Gate, kind: str, user: Row, held: Sequence[Row], *, challenge: str, identifier: str
) -> dict[str, Any]:
    """Return what a new credential of ``user``, who has ``held``, answers."""
    answer = {
        "kind": kind,
        "user": {"id": user.id, "name": user.username, "displayName": user.name},
        "challengeIdentifier": identifier,
        "temporaryAuthenticationToken": identifier,  # its deprecated name
        "challenge": challenge,
        "rp": {"id": gate.config.server.relying_party, "name": "Outlay"},
        "attestation": "none",
        "pubKeyCredParams": _parameters(kind),
    }
    if kind == FIDO2:
        answer |= {"authenticatorSelection": SELECTION, "excludeCredentials": named(held, FIDO2)}
    return answer


class CredentialController(Controller):
    """``/auth/credentials``."""

    path = "/auth/credentials"
    tags = ("Credentials",)

    @get(summary="List the caller's credentials")
    async def list_(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return the caller's own credentials, without those of personal access tokens."""
        return await gate.read(
            request,
            None,
            lambda unit, caller: {
                "items": [present.credential(row) for row in users.own_keys_of(unit, caller.user_id)]
            },
        )

    @post("/init", status_code=200, summary="Begin to add a credential")
    async def begin(self, request: StrictRequest, data: CredentialInit, gate: Gate) -> dict[str, Any]:
        """Return the challenge that the new key has to answer."""
        if data.kind not in credentials.KINDS:
            raise InvalidInput("must be Key or Fido2", field="kind")

        def begin(unit: Unit, caller: Caller) -> tuple[CredentialPreimage, Row, Sequence[Row]]:
            preimage, user = credentials.begin(unit, now=gate.clock.now(), entropy=gate.entropy, caller=caller)
            return preimage, user, users.own_keys_of(unit, user.id)

        preimage, user, held = await gate.read(request, None, begin)
        identifier = gate.seals.seal(CREDENTIAL, preimage.document())
        challenge = credential_challenge(preimage)
        return _challenge_answer(gate, data.kind, user, held, challenge=challenge, identifier=identifier)

    @post(status_code=200, summary="Add a credential")
    async def create(self, request: StrictRequest, data: CreateCredential, gate: Gate) -> dict[str, Any]:
        """Add a key of the caller's own: this call is signed by one they have, the attestation by the new one."""

        def create(act: Act) -> dict[str, Any]:
            preimage = CredentialPreimage.from_document(gate.seals.open(CREDENTIAL, data.challengeIdentifier))
            return credentials.create(
                act,
                preimage=preimage,
                kind=data.credentialKind,
                info=data.credentialInfo,
                name=data.credentialName,
            )

        return await gate.write(request, OWN, create)

    @post("/code", status_code=200, summary="Get a code for another device")
    async def create_code(self, request: StrictRequest, data: CreateCode, gate: Gate) -> dict[str, Any]:
        """Give a one-time code by which the caller registers a credential on another device; it is told once."""
        return await gate.write(request, OWN, lambda act: codes.create(act, expiration=data.expiration))

    @post("/code/init", status_code=200, summary="Begin to add a credential with a code")
    async def begin_with_code(self, request: StrictRequest, data: CodeInit, gate: Gate) -> dict[str, Any]:
        """Return the challenge that the new credential has to answer, to whoever holds a code."""
        if data.credentialKind not in credentials.KINDS:
            raise InvalidInput("must be Key or Fido2", field="credentialKind")

        def begin(unit: Unit) -> tuple[RegistrationPreimage, Row, Sequence[Row]]:
            preimage, user = codes.begin(unit, now=gate.clock.now(), entropy=gate.entropy, code=data.code)
            return preimage, user, users.own_keys_of(unit, user.id)

        preimage, user, held = await gate.db.read(begin)
        identifier = gate.seals.seal(CODE, {"preimage": preimage.document(), "code": data.code})
        challenge = registration_challenge(preimage)
        return _challenge_answer(gate, data.credentialKind, user, held, challenge=challenge, identifier=identifier)

    @post("/code/verify", status_code=200, summary="Add a credential with a code")
    async def create_with_code(self, request: StrictRequest, data: CreateCredential, gate: Gate) -> dict[str, Any]:
        """Register a credential, switched off: another of its holder's, or an admin, switches it on."""
        try:
            sealed = gate.seals.open(CODE, data.challengeIdentifier)
        except Refused as error:
            raise NotAuthenticated("begin with POST /auth/credentials/code/init") from error
        preimage = RegistrationPreimage.from_document(sealed["preimage"])
        return await gate.db.write(
            lambda unit: codes.take_up(
                unit,
                now=gate.clock.now(),
                entropy=gate.entropy,
                preimage=preimage,
                code=sealed["code"],
                server=gate.config.server,
                kind=data.credentialKind,
                info=data.credentialInfo,
                name=data.credentialName,
            )
        )

    @put("/activate", summary="Switch a credential on")
    async def activate(self, request: StrictRequest, data: ActivateCredential, gate: Gate) -> dict[str, Any]:
        """Switch a key of the caller's on; with its fingerprint, only if that is the key's."""
        return await gate.write(
            request, OWN, lambda act: credentials.activate(act, data.credentialUuid, compared=data.fingerprint)
        )

    @put("/deactivate", summary="Switch a credential off")
    async def deactivate(self, request: StrictRequest, data: CredentialName, gate: Gate) -> dict[str, Any]:
        """Switch a key of the caller's off at once; another of their keys signs this."""
        return await gate.write(request, OWN, lambda act: credentials.deactivate(act, data.credentialUuid))

    @delete("/{credential_uuid:str}", status_code=200, summary="Remove a credential")
    async def remove(self, request: StrictRequest, credential_uuid: str, gate: Gate) -> dict[str, Any]:
        """Remove a key of the caller's for good; another of their keys signs this."""
        await request.expect_empty()
        return await gate.write(request, OWN, lambda act: credentials.delete(act, credential_uuid))


class PatController(Controller):
    """``/auth/pats``."""

    path = "/auth/pats"
    tags = ("Personal access tokens",)

    @get(summary="List the caller's personal access tokens")
    async def list_(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return the caller's own tokens."""

        def read(unit: Any, caller: Any) -> dict[str, Any]:
            org = organizations.get(unit)
            rows = users.tokens_of(unit, caller.user_id, kind=PAT)
            return {"items": [present.personal_token(unit, row, org.id) for row in rows]}

        return await gate.read(request, None, read)

    @post(status_code=200, summary="Create a personal access token")
    async def create(self, request: StrictRequest, data: CreatePat, gate: Gate) -> dict[str, Any]:
        """Make a token with a key of its own; its text is in this answer and never again."""
        document, claims = await gate.write(
            request,
            "Auth:Pats:Create",
            lambda act: pats.create(
                act,
                name=data.name,
                public_key=data.publicKey,
                permission_id=data.permissionId,
                days_valid=data.daysValid,
                seconds_valid=data.secondsValid,
                external_id=data.externalId,
            ),
        )
        return {**document, "accessToken": gate.seals.sign_token(claims)}

    @get("/{token_id:str}", summary="Read a personal access token")
    async def read(self, request: StrictRequest, token_id: str, gate: Gate) -> dict[str, Any]:
        """Return one of the caller's tokens."""

        def read(unit: Any, caller: Any) -> dict[str, Any]:
            row = pats.get(unit, caller.user_id, token_id)
            return present.personal_token(unit, row, organizations.get(unit).id)

        return await gate.read(request, None, read)

    @put("/{token_id:str}", summary="Rename a personal access token")
    async def update(self, request: StrictRequest, token_id: str, data: UpdatePat, gate: Gate) -> dict[str, Any]:
        """Change a token's name or correlation id."""
        return await gate.write(
            request, OWN, lambda act: pats.rename(act, token_id, name=data.name, external_id=data.externalId)
        )

    @put("/{token_id:str}/activate", summary="Switch a personal access token on")
    async def activate(self, request: StrictRequest, token_id: str, gate: Gate) -> dict[str, Any]:
        """Switch a token and its key on again."""
        await request.expect_empty()
        return await gate.write(request, OWN, lambda act: pats.activate(act, token_id))

    @put("/{token_id:str}/deactivate", summary="Switch a personal access token off")
    async def deactivate(self, request: StrictRequest, token_id: str, gate: Gate) -> dict[str, Any]:
        """Switch a token and its key off at once."""
        await request.expect_empty()
        return await gate.write(request, OWN, lambda act: pats.deactivate(act, token_id))

    @delete("/{token_id:str}", status_code=200, summary="Remove a personal access token")
    async def remove(self, request: StrictRequest, token_id: str, gate: Gate) -> dict[str, Any]:
        """Remove a token and its key for good."""
        await request.expect_empty()
        return await gate.write(request, OWN, lambda act: pats.delete(act, token_id))
