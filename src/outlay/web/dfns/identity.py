"""Users, service accounts, registration and login."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Controller, delete, get, post, put

from outlay.actions import people, present
from outlay.actions.decoy import made_up_login
from outlay.core.errors import InvalidInput, NotAuthenticated, NotFound, Refused
from outlay.evidence.assertion import parse_assertion
from outlay.evidence.challenge import (
    LoginPreimage,
    RegistrationPreimage,
    login_challenge,
    registration_challenge,
)
from outlay.evidence.passkey import ALGORITHMS as PASSKEY_ALGORITHMS
from outlay.store import organizations, users
from outlay.store.database import Unit
from outlay.web.body import Label, StrictRequest
from outlay.web.dfns.action import challenge_answer
from outlay.web.gate import LOGIN, REGISTRATION, Gate, page_arguments, query_text

ALGORITHMS = (-8, -7, -47, -257)
"""COSE numbers of Ed25519, ECDSA on P-256 and on secp256k1, and RSA PKCS#1 with SHA-256."""

SELECTION = {"residentKey": "required", "requireResidentKey": True, "userVerification": "required"}
"""What a passkey's authenticator must do: keep it, and check who uses it."""

USER_KINDS = ("CustomerEmployee", "EndUser", "TenantUser")
"""Kinds of people in the contract. Here everybody is of the first."""


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A body without unknown members."""


class CreateServiceAccount(Body):
    """A machine identity to be made."""

    name: Label
    publicKey: str
    permissionId: str | None = None
    externalId: Label | None = None
    daysValid: int | None = None


class UpdateServiceAccount(Body):
    """What may change of a service account."""

    name: Label | None = None
    externalId: Label | None = None


class CreateUser(Body):
    """A person to be invited."""

    email: str
    kind: str
    publicKey: str | None = None
    externalId: Label | None = None
    isSSORequired: bool | None = None


class Force(Body):
    """Accepted for compatibility and without effect."""

    force: bool | None = None


class RegistrationInit(Body):
    """Who takes up which invitation."""

    username: str
    registrationCode: str
    orgId: str | None = None
    tenantId: str | None = None


class NewCredential(Body):
    """A key and its attestation."""

    credentialKind: str
    credentialInfo: dict[str, Any]
    credentialName: Label | None = None
    encryptedPrivateKey: str | None = None


class Registration(Body):
    """The new person's first credential."""

    firstFactorCredential: NewCredential


class LoginInit(Body):
    """Who wants to log in."""

    username: str
    orgId: str | None = None
    tenantId: str | None = None


class Login(Body):
    """A signed login challenge."""

    challengeIdentifier: str
    firstFactor: dict[str, Any]


class Logout(Body):
    """Which sessions to end."""

    allSessions: bool | None = None


class ServiceAccountController(Controller):
    """``/auth/service-accounts``."""

    path = "/auth/service-accounts"
    tags = ("Service accounts",)

    @get(summary="List service accounts")
    async def list_(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return every service account, newest first."""

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            org = organizations.get(unit)
            found = users.all_service_accounts(unit)
            return {"items": [present.service_account(unit, row, org.id) for row in found]}

        return await gate.read(request, "Auth:ServiceAccounts:Read", read)

    @post(status_code=200, summary="Create a service account")
    async def create(self, request: StrictRequest, data: CreateServiceAccount, gate: Gate) -> dict[str, Any]:
        """Create a machine identity with one key; its token is in this answer and never again."""
        document, claims = await gate.write(
            request,
            "Auth:ServiceAccounts:Create",
            lambda act: people.create_service_account(
                act,
                name=data.name,
                public_key=data.publicKey,
                permission_id=data.permissionId,
                days_valid=data.daysValid,
                external_id=data.externalId,
            ),
        )
        document["accessTokens"][0]["accessToken"] = gate.seals.sign_token(claims)
        return document

    @get("/{user_id:str}", summary="Read a service account")
    async def read(self, request: StrictRequest, user_id: str, gate: Gate) -> dict[str, Any]:
        """Return one service account."""

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            row = users.find(unit, user_id)
            if row is None or not row.is_service_account:
                raise NotFound("no such service account")
            return present.service_account(unit, row, organizations.get(unit).id)

        return await gate.read(request, "Auth:ServiceAccounts:Read", read)

    @put("/{user_id:str}", summary="Rename a service account")
    async def update(
        self, request: StrictRequest, user_id: str, data: UpdateServiceAccount, gate: Gate
    ) -> dict[str, Any]:
        """Change a service account's name or correlation id."""
        return await gate.write(
            request,
            "Auth:ServiceAccounts:Update",
            lambda act: people.rename_service_account(act, user_id, name=data.name, external_id=data.externalId),
        )

    @put("/{user_id:str}/activate", summary="Switch a service account on")
    async def activate(self, request: StrictRequest, user_id: str, gate: Gate) -> dict[str, Any]:
        """Switch a service account on again."""
        await request.expect_empty()
        return await gate.write(
            request,
            "Auth:ServiceAccounts:Activate",
            lambda act: people.activate(act, user_id, service_account=True),
        )

    @put("/{user_id:str}/deactivate", summary="Switch a service account off")
    async def deactivate(self, request: StrictRequest, user_id: str, gate: Gate) -> dict[str, Any]:
        """Switch a service account off at once."""
        _read_force(await request.payload())
        return await gate.write(
            request,
            "Auth:ServiceAccounts:Deactivate",
            lambda act: people.deactivate(act, user_id, service_account=True),
        )

    @delete("/{user_id:str}", status_code=200, summary="Archive a service account")
    async def archive(self, request: StrictRequest, user_id: str, gate: Gate) -> dict[str, Any]:
        """Remove a service account for good."""
        await request.expect_empty()
        return await gate.write(
            request,
            "Auth:ServiceAccounts:Delete",
            lambda act: people.delete(act, user_id, service_account=True),
        )


def _read_force(payload: dict[str, Any]) -> None:
    for name, value in payload.items():
        if name != "force" or not isinstance(value, bool):
            raise InvalidInput("this call takes no body but {force: true or false}", field=name)


def _read_compared(payload: dict[str, Any]) -> list[str] | None:
    """Return the fingerprints that whoever vouches for keys compared, if the call names them."""
    for name, value in payload.items():
        if name != "fingerprints" or not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise InvalidInput("this call takes no body but {fingerprints: [those that were compared]}", field=name)
    return payload.get("fingerprints")


class UserController(Controller):
    """``/auth/users``."""

    path = "/auth/users"
    tags = ("Users",)

    @get(summary="List users")
    async def list_(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return one page of people."""
        page, kind = page_arguments(request), query_text(request, "kind")
        if kind is not None and kind not in USER_KINDS:
            raise InvalidInput(f"must be one of {', '.join(USER_KINDS)}", field="kind")

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            org = organizations.get(unit)
            rows, token = users.list_page(unit, service_accounts=False, **page)
            if kind not in (None, USER_KINDS[0]):
                rows, token = [], None
            return present.page([present.user(unit, row, org.id) for row in rows], token)

        return await gate.read(request, "Auth:Users:Read", read)

    @post(status_code=200, summary="Invite a person")
    async def invite(self, request: StrictRequest, data: CreateUser, gate: Gate) -> dict[str, Any]:
        """Invite a person; the registration code is in this answer and never again."""
        if data.kind != USER_KINDS[0]:
            raise InvalidInput('only "CustomerEmployee" is offered', field="kind")
        if data.isSSORequired:
            raise InvalidInput("single sign-on is not offered", field="isSSORequired")
        return await gate.write(
            request,
            "Auth:Users:Create",
            lambda act: people.invite(act, email=data.email, public_key=data.publicKey, external_id=data.externalId),
        )

    @get("/{user_id:str}", summary="Read a user")
    async def read(self, request: StrictRequest, user_id: str, gate: Gate) -> dict[str, Any]:
        """Return one person."""

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            row = users.find(unit, user_id)
            if row is None or row.is_service_account:
                raise NotFound("User not found")
            return present.user(unit, row, organizations.get(unit).id)

        return await gate.read(request, "Auth:Users:Read", read)

    @put("/{user_id:str}/activate", summary="Switch a user on and vouch for their keys")
    async def activate(self, request: StrictRequest, user_id: str, gate: Gate) -> dict[str, Any]:
        """Switch a person on; from now on their votes count."""
        compared = _read_compared(await request.payload())
        return await gate.write(
            request,
            "Auth:Users:Activate",
            lambda act: people.activate(act, user_id, service_account=False, compared=compared),
        )

    @put("/{user_id:str}/deactivate", summary="Switch a user off")
    async def deactivate(self, request: StrictRequest, user_id: str, gate: Gate) -> dict[str, Any]:
        """Switch a person off at once; their votes on open approvals stop counting."""
        await request.expect_empty()
        return await gate.write(
            request, "Auth:Users:Deactivate", lambda act: people.deactivate(act, user_id, service_account=False)
        )

    @delete("/{user_id:str}", status_code=200, summary="Remove a user")
    async def remove(self, request: StrictRequest, user_id: str, gate: Gate) -> dict[str, Any]:
        """Remove a person for good."""
        await request.expect_empty()
        return await gate.write(
            request, "Auth:Users:Delete", lambda act: people.delete(act, user_id, service_account=False)
        )


async def open_session(gate: Gate, data: Login) -> dict[str, Any]:
    """Return the claims of a new session's token, for an answered login challenge.

    Raises:
        Refused: the answer is wrong, too late, or was used.
    """
    preimage = LoginPreimage.from_document(gate.seals.open(LOGIN, data.challengeIdentifier))
    assertion = parse_assertion(data.firstFactor)
    # Verified in a read first: of wrong answers only a few get to the one writer, as entries of the audit log.
    try:
        await gate.db.read(
            lambda unit: people.check_login(
                unit,
                now=gate.clock.now(),
                preimage=preimage,
                assertion=assertion,
                origins=gate.config.server.origins,
            )
        )
    except Refused:
        await gate.failed_logins.note(preimage.identity)
        raise
    return await gate.db.write(
        lambda unit: people.log_in(
            unit,
            now=gate.clock.now(),
            entropy=gate.entropy,
            preimage=preimage,
            assertion=assertion,
            origins=gate.config.server.origins,
        )
    )


class SessionController(Controller):
    """Registration and login."""

    path = "/auth"
    tags = ("Sessions",)

    @post("/registration/init", status_code=200, summary="Begin a registration")
    async def begin_registration(self, request: StrictRequest, data: RegistrationInit, gate: Gate) -> dict[str, Any]:
        """Return the challenge for the key of an invited person."""
        preimage, row = await gate.db.read(
            lambda unit: people.begin_registration(
                unit,
                now=gate.clock.now(),
                entropy=gate.entropy,
                org_id=data.orgId,
                username=data.username,
                code=data.registrationCode,
            )
        )
        return {
            "temporaryAuthenticationToken": gate.seals.seal(
                REGISTRATION, {"preimage": preimage.document(), "code": data.registrationCode}
            ),
            "user": {"id": row.id, "name": row.username, "displayName": row.name},
            "challenge": registration_challenge(preimage),
            "rp": {"id": gate.config.server.relying_party, "name": "Outlay"},
            "supportedCredentialKinds": {"firstFactor": ["Key", "Fido2"], "secondFactor": []},
            "authenticatorSelection": SELECTION,
            "attestation": "none",
            "pubKeyCredParams": [{"type": "public-key", "alg": number} for number in PASSKEY_ALGORITHMS],
            "excludeCredentials": [],
            "otpUrl": "",
        }

    @post("/registration", status_code=200, summary="Finish a registration")
    async def register(self, request: StrictRequest, data: Registration, gate: Gate) -> dict[str, Any]:
        """Store the new person's key; the bearer is the temporary token of the first call."""
        text = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        try:
            sealed = gate.seals.open(REGISTRATION, text)
            preimage = RegistrationPreimage.from_document(sealed["preimage"])
        except Refused as error:
            raise NotAuthenticated("send the temporary token of /auth/registration/init as bearer") from error
        offered = data.firstFactorCredential
        return await gate.db.write(
            lambda unit: people.register(
                unit,
                now=gate.clock.now(),
                entropy=gate.entropy,
                preimage=preimage,
                code=sealed["code"],
                server=gate.config.server,
                credential_kind=offered.credentialKind,
                credential_info=offered.credentialInfo,
                credential_name=offered.credentialName,
            )
        )

    @post("/login/init", status_code=200, summary="Begin a login")
    async def begin_login(self, request: StrictRequest, data: LoginInit, gate: Gate) -> dict[str, Any]:
        """Return a login challenge; a name that nobody has gets one too, which nobody can answer."""
        now = gate.clock.now()

        def begin(unit: Unit) -> tuple[LoginPreimage, Sequence[Any]]:
            try:
                return people.begin_login(
                    unit, now=now, entropy=gate.entropy, username=data.username, org_id=data.orgId
                )
            except NotAuthenticated:
                org = organizations.get(unit)
                return made_up_login(
                    gate.seals.derive, org=org.id, username=data.username, now=now, entropy=gate.entropy
                )

        preimage, keys = await gate.db.read(begin)
        identifier = gate.seals.seal(LOGIN, preimage.document())
        return challenge_answer(login_challenge(preimage), identifier, keys, gate.config.server.relying_party)

    @post("/login", status_code=200, summary="Log in")
    async def log_in(self, request: StrictRequest, data: Login, gate: Gate) -> dict[str, Any]:
        """Return a bearer token that lives eight hours."""
        return {"token": gate.seals.sign_token(await open_session(gate, data))}

    @put("/logout", status_code=200, summary="Log out")
    async def log_out(self, request: StrictRequest, data: Logout, gate: Gate) -> dict[str, Any]:
        """End this session, or all sessions of the caller; tokens that no login made stay as they are."""
        caller = await gate.read(request, None, lambda _unit, who: who)
        token_id = None if data.allSessions else caller.token_id
        await gate.db.write(
            lambda unit: people.log_out(unit, now=gate.clock.now(), user_id=caller.user_id, token_id=token_id)
        )
        return {"message": "logged out"}
