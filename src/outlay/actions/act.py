"""One signed request being carried out: who asks, what they signed, and the unit it happens in.

``verify`` checks the signature again inside the unit and re-reads the bearer, the identity, the credential and the
permission; ``perform`` (its own module) carries the action out.
"""

import functools
import hashlib
import hmac
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from outlay.actions import govern
from outlay.actions.signed_message import SignedMessage, check_times
from outlay.actions.work import Work
from outlay.config import Config
from outlay.core import ids
from outlay.core.audit import CALL, ENGINE, RECORD, SESSION_OPENED, Entry
from outlay.core.errors import (
    ActionReplayed,
    ActionSignatureInvalid,
    HeadMoved,
    NotAuthenticated,
    NotPermitted,
    PreconditionFailed,
    Unavailable,
)
from outlay.core.personal_token import token_operations
from outlay.core.seams import MINUTE, SECOND, Entropy, Instant
from outlay.evidence.assertion import Assertion, Credential, verify_assertion
from outlay.evidence.base64url import to_base64url
from outlay.evidence.bundle import credential_document, evidence_document
from outlay.evidence.canonical import canonical, digest, payload_digest
from outlay.evidence.challenge import Preimage, action_challenge
from outlay.evidence.http_call import nonce_of
from outlay.evidence.http_signature import Message
from outlay.evidence.record import CHANGE_APPLIED, CLOCKS_APART, build_record, record_hash
from outlay.store import audit, evidence, organizations, permissions, policies, users
from outlay.store.database import Row, Unit
from outlay.store.identities import Identities

CHALLENGE_LIFE: Instant = 15 * MINUTE
TOKEN_LIFE: Instant = 5 * MINUTE
PAT = "Pat"
"""Kind of a personal access token's row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who holds the bearer token of a request."""

    user_id: str
    token_id: str
    username: str
    is_service_account: bool
    is_vouched: bool  #: an admin stands for the key: only then may it sign anything
    operations: frozenset[str]
    pat_key: str | None = None  #: uuid of the one key that may sign; None: the bearer is no personal access token

    def require(self, *operations: str) -> None:
        """Refuse a caller that lacks one of ``operations``.

        Raises:
            NotPermitted: with the missing operation's name.
        """
        for operation in operations:
            if operation not in self.operations:
                raise NotPermitted(
                    f"{self.username} lacks the permission {operation}: an admin can assign it", operation=operation
                )

    def require_to_give(self, operations: Collection[str]) -> None:
        """Refuse to let a caller hand out what it does not hold itself.

        Raises:
            NotPermitted: with the operations that are missing.
        """
        missing = sorted(set(operations) - self.operations)
        if missing:
            raise NotPermitted(f"nobody can give what they do not hold: {', '.join(missing)}", operations=missing)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCall:
    """A user-action token, opened: what was signed and the signature. Nothing in it is trusted yet."""

    preimage: Preimage
    assertion: Assertion
    credential_uuid: str
    token_expires: Instant
    checked: Credential | None = None
    """The key the signature was found good with before the unit; that counts while the key is still exactly this."""

    @property
    def nonce(self) -> str:
        """What the effect spends."""
        return self.preimage.nonce

    def check_signature(self, credential: Credential, *, origins: Collection[str]) -> None:
        """Check that ``credential`` signed this call.

        Raises:
            ActionSignatureInvalid: it did not.
        """
        if credential.uuid not in self.preimage.credentials:
            raise ActionSignatureInvalid("the credential that signed this was not offered by the challenge")
        if self.checked != credential:
            verify_assertion(self.assertion, credential, action_challenge(self.preimage), origins=origins)


@dataclass(frozen=True, slots=True)
class Agreed:
    """A change request whose people agreed."""

    change_id: str
    kind: str
    subject: str
    body: dict[str, Any]  #: of the record, as people saw it

    def named(self, prefix: str) -> str:
        """Return the identifier with ``prefix`` that the request names."""
        texts = (self.subject, *(value for value in self.body.values() if isinstance(value, str)))
        return next(text for text in texts if ids.is_id(text, prefix))

    def record(self, act: "Act", kind: str, subject: str, body: dict[str, Any]) -> str:
        """Append the record that carries out what was agreed on, and nothing else.

        Raises:
            PreconditionFailed: it would not be what people saw.
        """
        if (kind, subject) != (self.kind, self.subject) or canonical(body) != canonical(self.body):
            raise PreconditionFailed("what it would change has changed since it was asked for: ask again")
        return append_record(
            act.unit,
            organizations.get(act.unit),
            kind=CHANGE_APPLIED,
            subject=subject,
            body={"change": self.change_id, "kind": kind, "body": body},
            evidence=None,
            now=act.now,
        )


@dataclass(slots=True, kw_only=True)
class Act:
    """One write: its unit, instant, caller and evidence. Actions set ``result_id``."""

    unit: Unit
    now: Instant
    entropy: Entropy
    config: Config
    org: Row
    caller: Caller
    call: SignedCall | SignedMessage
    credential: Credential
    credential_record: str | None
    payload: Any
    result_id: str | None = None
    agreed: Agreed | None = None  #: set where a change is carried out that people agreed on
    weakened: tuple[str, str, govern.Counts] | None = None  #: kind and subject of what may leave too few people

    @property
    def work(self) -> Work:
        """The unit as functions that need no caller take it."""
        return Work(unit=self.unit, now=self.now, entropy=self.entropy, config=self.config, actor=self.caller.user_id)

    def new_id(self, prefix: str) -> str:
        """Return a fresh identifier; of a change that was agreed on, the one people saw."""
        if self.agreed is not None:
            return self.agreed.named(prefix)
        return ids.new_id(prefix, self.entropy)

    def evidence(self, *, policy_set: str | None = None) -> dict[str, Any]:
        """Return the evidence document of this call, naming the policies in force (``policy_set``, if it is known)."""
        if isinstance(self.call, SignedMessage):
            return {**self.call.proof(), **self.named_with(policy_set)}
        return evidence_document(
            preimage=self.call.preimage,
            assertion=self.call.assertion,
            credential=self.credential,
            credential_record=self.credential_record,
            payload=self.payload,
            policy_set=policy_set or policy_set_digest(self.unit),
            origins=origins_for(self.call.preimage, self.config),
        )

    def named_with(self, policy_set: str | None = None) -> dict[str, Any]:
        """Return what is stored beside a signed message: whose key it was, and the policies in force."""
        return {
            "credential": credential_document(self.credential, self.credential_record),
            "policySet": policy_set or policy_set_digest(self.unit),
        }

    def keep_evidence(self, subject: str) -> str:
        """Store this call's evidence for ``subject`` and return its id."""
        evidence_id = self.new_id(ids.EVIDENCE)
        text = canonical(self.evidence()).decode()
        evidence.keep(self.unit, evidence_id=evidence_id, subject=subject, document=text, now=self.now)
        return evidence_id

    def record(self, kind: str, subject: str, body: dict[str, Any]) -> str:
        """Append a record of this change to the organization's chain and return its hash.

        Nothing may have been changed before: a change that people have to agree to ends here, for now.

        Raises:
            HeadMoved: the chain grew since the change was signed.
            NeedsApproval, NotPermitted, Conflict: as ``govern.check_record``.
        """
        counts = govern.counts_before(self.unit, kind)
        if counts is not None:
            self.weakened = (kind, subject, counts)
        if self.agreed is not None:
            return self.agreed.record(self, kind, subject, body)
        if self.call.preimage.records_head != self.org.head:
            raise HeadMoved(
                "somebody changed the organization's settings after this change was signed: read them and sign again"
            )
        govern.check_record(self.unit, kind=kind, subject=subject, body=body, now=self.now)
        return append_record(
            self.unit, self.org, kind=kind, subject=subject, body=body, evidence=self.evidence(), now=self.now
        )

    def log(
        self, action: str, subject: str, *, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
    ) -> None:
        """Write a change into the audit log that no record and no payout's state tells of."""
        entry = Entry(self.caller.user_id, action, subject, before=before, after=after, request=self.call.nonce)
        audit.add(self.unit, entry, now=self.now)

    def log_call(self, method: str, path: str, *, is_waiting: bool) -> None:
        """Write into the audit log that this call was carried out, or waits for people."""
        proof = digest(self.evidence())
        after = {"method": method, "path": path, "payload": payload_digest(self.payload), "waits": is_waiting}
        subject, request = self.result_id or "", self.call.nonce
        entry = Entry(self.caller.user_id, CALL, subject, after=after, evidence=proof, request=request)
        audit.add(self.unit, entry, now=self.now)

    def check_quorums(self) -> None:
        """Refuse what leaves too few people to govern; called once the change is made.

        Raises:
            PreconditionFailed: see ``govern.check_quorums``.
        """
        if self.weakened is not None:
            govern.check_quorums(self.unit, *self.weakened)


def policy_set_digest(unit: Unit) -> str:
    """Return the digest of the active policies: which, at which version."""
    return digest_of_set((row.id, row.version) for row in policies.active_versions(unit))


def digest_of_set(versions: Iterable[tuple[str, int]]) -> str:
    """Return the digest of policies, given by id and version and in the order of their ids."""
    return _digest_of_set(tuple(versions))


@functools.lru_cache(maxsize=64)
def _digest_of_set(versions: tuple[tuple[str, int], ...]) -> str:
    return digest([{"id": policy_id, "version": version} for policy_id, version in versions])


def append_record(
    unit: Unit,
    org: Row,
    *,
    kind: str,
    subject: str,
    body: dict[str, Any],
    evidence: dict[str, Any] | None,
    now: Instant,
    actor: str = ENGINE,
) -> str:
    """Append one record after the head of ``org`` and return its hash.

    ``actor`` is who the audit log names where no evidence does.

    Raises:
        Unavailable: the clock has been set back since the newest record.
    """
    if now < organizations.latest_record_at(unit) - CLOCKS_APART:
        raise Unavailable("the server's clock lies well before the newest record: set it right")
    document = build_record(
        org=org.id,
        seq=org.head_seq + 1,
        prev=org.head,
        kind=kind,
        subject=subject,
        at=now,
        body=body,
        evidence=evidence,
    )
    digest = record_hash(document)
    organizations.append_record(
        unit,
        seq=org.head_seq + 1,
        hash=digest,
        prev=org.head,
        kind=kind,
        subject=subject,
        document=canonical(document).decode(),
        now=now,
    )
    actor = actor if evidence is None else str(evidence["credential"]["userId"])
    after = {"record": org.head_seq + 1}
    audit.add(unit, Entry(actor, f"{RECORD}{kind}", subject, after=after, evidence=digest), now=now)
    return digest


def issue_token(
    unit: Unit,
    entropy: Entropy,
    *,
    org_id: str,
    user_id: str,
    credential_uuid: str,
    kind: str,
    name: str,
    now: Instant,
    life: Instant,
    token_id: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Store a new bearer token's row (``more`` are further columns) and return its claims, to be signed.

    The claims hold a secret of which only the hash is stored, so a leaked sealing key cannot make a token. Clients
    that set an organization look for the namespaced claim.
    """
    token_id, secret = token_id or ids.new_id(ids.TOKEN, entropy), to_base64url(entropy.token(24))
    users.add_token(
        unit,
        id=token_id,
        user_id=user_id,
        credential_id=credential_uuid,
        secret_hash=_hash(secret),
        kind=kind,
        name=name,
        **{"is_active": True, **more},
        created_at=now,
        expires_at=now + life,
    )
    after = {"credential": credential_uuid, "kind": kind, "until": now + life}
    audit.add(unit, Entry(user_id, SESSION_OPENED, token_id, after=after), now=now)
    return {
        "jti": token_id,
        "sub": user_id,
        "exp": (now + life) // SECOND,
        "secret": secret,
        "https://custom/app_metadata": {"orgId": org_id, "userId": user_id, "tokenId": token_id},
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def authenticate(unit: Unit, claims: dict[str, Any], *, now: Instant, known: Identities | None = None) -> Caller:
    """Return who a bearer token belongs to, as the database stands now.

    Args:
        unit: the unit the answer is used in.
        claims: the verified content of the token.
        now: the current instant.
        known: what the unit has read so far.

    Raises:
        NotAuthenticated: unknown, expired or revoked token, or an inactive identity or credential.
    """
    known = known or Identities(unit)
    row = known.token(str(claims.get("jti")))
    if (
        row is None
        or row.user_id != claims.get("sub")
        or not row.is_active
        or not hmac.compare_digest(row.secret_hash, _hash(str(claims.get("secret"))))
    ):
        raise NotAuthenticated("this token was revoked or is not known here: log in again")
    if now >= row.expires_at:
        raise NotAuthenticated("this token has expired: log in again")
    user = known.user(row.user_id)
    if user is None or not user.is_active:
        raise NotAuthenticated("User account has been deactivated.")
    held = None if row.credential_id is None else known.credential(row.credential_id)
    is_pat = row.kind == PAT
    if (is_pat or row.credential_id is not None) and (held is None or not held.is_active):
        raise NotAuthenticated("the credential of this token was deactivated")
    operations = _pat_operations(unit, held) if is_pat and held is not None else known.operations_of(user.id)
    return Caller(
        user_id=user.id,
        token_id=row.id,
        username=user.username,
        is_service_account=user.is_service_account,
        is_vouched=user.may_vote,
        operations=operations,
        pat_key=row.credential_id if is_pat else None,
    )


def key_operations(unit: Unit, key: Row) -> frozenset[str]:
    """Return what calls that a key signs may do, as the database stands now."""
    is_of_a_pat = users.is_of_a_pat(unit, key.id)
    return _pat_operations(unit, key) if is_of_a_pat else permissions.operations_of(unit, key.user_id)


def _pat_operations(unit: Unit, key: Row) -> frozenset[str]:
    limit = None if key.permission_id is None else permissions.operations_in(unit, key.permission_id)
    return token_operations(permissions.operations_of(unit, key.user_id), limit)


def signing_keys(unit: Unit, caller: Caller) -> list[Row]:
    """Return the keys that may sign the caller's calls: of a personal access token only its own, else all but those."""
    if caller.pat_key is None:
        return list(users.own_keys_of(unit, caller.user_id, active_only=True))
    key = users.find_credential(unit, caller.pat_key)
    return [] if key is None or not key.is_active else [key]


def origins_for(preimage: Preimage, config: Config) -> tuple[str, ...]:
    """Return where a passkey may have signed this: decisions, and keys for them, perhaps on pages of their own only."""
    gives_key = (preimage.method, preimage.path) in _GIVES_KEY
    return config.server.origins_for(decides=preimage.intent_digest is not None or gives_key)


_GIVES_KEY = frozenset(
    {
        ("POST", "/auth/credentials"),
        ("POST", "/auth/credentials/code"),
        ("PUT", "/auth/credentials/activate"),
        ("POST", "/auth/pats"),
    }
)
"""Calls after which another key decides for the same person: who could have them signed could decide."""


def credential_of(row: Row, *, origins: Collection[str]) -> Credential:
    """Return a stored credential in the form that assertions are verified with."""
    return Credential(
        uuid=row.id,
        credential_id=row.credential_id,
        user_id=row.user_id,
        kind=row.kind,
        public_key=row.public_key,
        relying_party_id=row.relying_party_id,
        origins=tuple(origins),
        sign_count=row.sign_count or 0,
    )


def verify(
    unit: Unit,
    *,
    now: Instant,
    entropy: Entropy,
    config: Config,
    claims: dict[str, Any],
    call: SignedCall | SignedMessage,
    method: str,
    path: str,
    payload: Any,
    operations: Collection[str],
    org: Row | None = None,
    known: Identities | None = None,
) -> Act:
    """Check that a signed call may be carried out now, and change nothing.

    A unit that verifies several calls gives the organization it has locked, and what it knows of their callers.

    Raises:
        NotAuthenticated, NotPermitted: it may not.
    """
    org, known = org or organizations.lock_shared(unit), known or Identities(unit)
    if isinstance(call, SignedMessage):
        caller = holder_of(unit, known, call.credential_uuid, now=now)
    else:
        caller = authenticate(unit, claims, now=now, known=known)
        _check_binding(call, org, caller, now=now, method=method, path=path, digest=payload_digest(payload))
    spent = known.spent(call.nonce)
    if spent is not None:
        raise ActionReplayed(
            "user action has already been used: request a new challenge",
            **({"resultId": spent.result_id} if spent.result_id else {}),
        )
    row, credential = _check_signature(known, call, caller, config)
    if isinstance(call, SignedMessage):
        call = call.opened(known, org, now=now)
    else:
        _check_head(unit, org, call.preimage)
    if not caller.is_vouched:
        raise NotPermitted(
            f"nobody vouches for the key of {caller.username} yet: an admin compares its fingerprint and activates"
            f" the user (PUT /auth/users/{caller.user_id}/activate)"
        )
    if caller.pat_key is not None and not operations:
        raise NotPermitted("a personal access token manages no keys and no tokens: log in")
    caller.require(*operations)
    return Act(
        unit=unit,
        now=now,
        entropy=entropy,
        config=config,
        org=org,
        caller=caller,
        call=call,
        credential=credential,
        credential_record=row.record,
        payload=payload,
    )


def _check_binding(
    call: SignedCall,
    org: Row,
    caller: Caller,
    *,
    now: Instant,
    method: str,
    path: str,
    digest: str,
) -> None:
    """The token must have been made for exactly this call, by this identity, and still be fresh."""
    preimage = call.preimage
    if now < preimage.issued - CLOCKS_APART:  # a record of that instant would not verify
        raise ActionSignatureInvalid("this challenge was made in the future: the servers' clocks differ")
    if now >= call.token_expires:
        raise ActionSignatureInvalid("this user action token has expired: request a new challenge")
    if preimage.org != org.id or preimage.identity != caller.user_id:
        raise ActionSignatureInvalid("this user action token was made for another identity")
    if preimage.method != method or preimage.path != path:
        raise ActionSignatureInvalid(f"this user action token was signed for {preimage.method} {preimage.path}")
    if preimage.payload_digest != digest:
        raise ActionSignatureInvalid("the body is not the one that was signed")


def holder_of(unit: Unit, known: Identities, uuid: str, *, now: Instant) -> Caller:
    """Return whose key signed a message: it needs no bearer token, for ``keyid`` names the key.

    Raises:
        NotAuthenticated: the key, its holder or its personal access token was switched off, or has expired.
    """
    key = known.credential(uuid)
    user = None if key is None else known.user(key.user_id)
    if key is None or not key.is_active or user is None or not user.is_active:
        raise NotAuthenticated("the key that keyid names, or who holds it, was deactivated")
    is_pat = known.is_of_a_pat(uuid)
    token = users.token_of_key(unit, uuid) if is_pat else None
    if is_pat and (token is None or not token.is_active or now >= token.expires_at):
        raise NotAuthenticated("the personal access token of this key was revoked or has expired")
    return Caller(
        user_id=user.id,
        token_id="",
        username=user.username,
        is_service_account=user.is_service_account,
        is_vouched=user.may_vote,
        operations=_pat_operations(unit, key) if is_pat else known.operations_of(user.id),
        pat_key=uuid if is_pat else None,
    )


def sender_of(unit: Unit, message: Message, *, credential_uuid: str, now: Instant) -> str:
    """Return the id of whose call a message is that this key has signed: a new one that is good now.

    Raises:
        NotAuthenticated: the key or its holder was switched off.
        ActionSignatureInvalid, ActionReplayed: it has expired, is of the future, or came before.
    """
    known = Identities(unit)
    caller = holder_of(unit, known, credential_uuid, now=now)
    check_times(message, now=now)
    if known.spent(nonce_of(message, credential_uuid)) is not None:
        raise ActionReplayed("this HTTP message has already been used")
    return caller.user_id


def _check_signature(
    known: Identities, call: SignedCall | SignedMessage, caller: Caller, config: Config
) -> tuple[Row, Credential]:
    """Verify the assertion again, with the credential as it stands now."""
    row = known.credential(call.credential_uuid)
    if row is None or not row.is_active or row.user_id != caller.user_id:
        raise ActionSignatureInvalid("the credential that signed this was deactivated or is not yours")
    if row.id != caller.pat_key and (caller.pat_key is not None or known.is_of_a_pat(row.id)):
        raise ActionSignatureInvalid("a personal access token and its key go together, and with no other")
    # What an HTTP message signs it signs with a key, which has no origin.
    origins = origins_for(call.preimage, config) if isinstance(call, SignedCall) else config.server.origins
    credential = credential_of(row, origins=origins)
    call.check_signature(credential, origins=origins)
    return row, credential


def _check_head(unit: Unit, org: Row, preimage: Preimage) -> None:
    """The head in the challenge must be one this organization had within the challenge's life."""
    if preimage.records_head == org.head:
        return
    record = organizations.find_record(unit, preimage.records_head)
    after = organizations.record_after(unit, record.seq) if record is not None else None
    if after is None or after.at < preimage.issued - SECOND:
        raise ActionSignatureInvalid("the challenge names a state of the organization that is too old")
