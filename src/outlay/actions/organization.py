"""The first record, the settings that decide about money, and the challenges that lead to signed calls."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from outlay.actions.act import CHALLENGE_LIFE, Act, Caller, issue_token, signing_keys
from outlay.actions.govern import is_governed
from outlay.actions.held import held_for, whole_for
from outlay.actions.policies import insert_policy
from outlay.config import Config, check_settings
from outlay.core import ids
from outlay.core.audit import RECORD, Entry
from outlay.core.errors import Conflict, InvalidInput, Unavailable
from outlay.core.operation import FULL_ADMIN, OPERATIONS
from outlay.core.policy_document import preset_policies
from outlay.core.seams import HOUR, Entropy, Instant
from outlay.evidence.attestation import fingerprint
from outlay.evidence.base64url import to_base64url
from outlay.evidence.batch import BATCH_DECISION_PATH
from outlay.evidence.canonical import canonical, digest, payload_digest
from outlay.evidence.challenge import Preimage
from outlay.evidence.record import build_record, record_hash
from outlay.evidence.submission import WHOLE_DECISION_PATH
from outlay.store import approvals, audit, changes, organizations, permissions, transfers, users
from outlay.store.database import Unit

ADMIN_TOKEN_LIFE: Instant = 24 * HOUR
_DECISION_PATH = re.compile(r"/v2/policy-approvals/([^/]+)/decisions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Founded:
    """What ``found`` made."""

    org_id: str
    user_id: str
    credential_uuid: str
    credential_id: str
    claims: dict[str, Any]  #: of the admin's first bearer token
    root: str  #: fingerprint of the genesis record, hex


_digested: tuple[Config, str] | None = None


def money_digest(config: Config) -> str:
    """Return the digest of the settings that decide about money."""
    global _digested
    # A configuration never changes, and each payout asks for its digest twice.
    known = _digested
    if known is None or known[0] is not config:
        known = _digested = (config, digest(config.money_settings()))
    return known[1]


def found(
    unit: Unit, *, now: Instant, entropy: Entropy, config: Config, admin: str, admin_public_key: str, preset: str
) -> Founded:
    """Create the organization: genesis record, first admin, preset policies.

    Args:
        unit: a unit on an empty database.
        now: the current instant.
        entropy: for the identifiers.
        config: its money settings become part of the genesis record.
        admin: username of the first admin.
        admin_public_key: PEM of the admin's key; the root of everything that follows.
        preset: name of the policies to start with.
    """
    org_id, user_id = ids.new_id(ids.ORGANIZATION, entropy), ids.new_id(ids.USER, entropy)
    credential_uuid = ids.new_id(ids.CREDENTIAL, entropy)
    credential_id = to_base64url(entropy.token(16))
    policies = [(ids.new_id(ids.POLICY, entropy), document) for document in preset_policies(preset)]
    permission_id = ids.new_id(ids.PERMISSION, entropy)
    genesis = build_record(
        org=org_id,
        seq=0,
        prev=None,
        kind="genesis",
        subject=org_id,
        at=now,
        body={
            "admin": {
                "userId": user_id,
                "username": admin,
                "credentialUuid": credential_uuid,
                "credentialId": credential_id,
                "publicKey": admin_public_key,
                "fingerprint": fingerprint(admin_public_key),
            },
            "permission": {"id": permission_id, "name": FULL_ADMIN, "operations": sorted(OPERATIONS)},
            "policies": [{"id": policy_id, **document} for policy_id, document in policies],
            "preset": preset,
            "moneySettings": config.money_settings(),
        },
        evidence=None,
    )
    root = record_hash(genesis)
    organizations.create(
        unit,
        org_id=org_id,
        root=root,
        genesis=canonical(genesis).decode(),
        money_settings=money_digest(config),
        now=now,
    )
    audit.add(unit, Entry(user_id, f"{RECORD}genesis", org_id, after={"record": 0}, evidence=root), now=now)
    store_admin(
        unit,
        user_id=user_id,
        username=admin,
        credential_uuid=credential_uuid,
        credential_id=credential_id,
        public_key=admin_public_key,
        root=root,
        now=now,
    )
    store_full_access(unit, entropy, permission_id=permission_id, user_id=user_id, now=now)
    for policy_id, document in policies:
        insert_policy(unit, policy_id, document, now=now, allow_empty=True)
    claims = issue_token(
        unit,
        entropy,
        org_id=org_id,
        user_id=user_id,
        credential_uuid=credential_uuid,
        kind="Token",
        name="first admin",
        now=now,
        life=ADMIN_TOKEN_LIFE,
    )
    return Founded(
        org_id=org_id,
        user_id=user_id,
        credential_uuid=credential_uuid,
        credential_id=credential_id,
        claims=claims,
        root=root,
    )


def store_admin(
    unit: Unit,
    *,
    user_id: str,
    username: str,
    credential_uuid: str,
    credential_id: str,
    public_key: str,
    root: str,
    now: Instant,
) -> None:
    """Store the first admin and the root key."""
    users.add(
        unit,
        id=user_id,
        username=username,
        name=username,
        is_service_account=False,
        is_active=True,
        is_registered=True,
        may_vote=True,
        created_at=now,
    )
    users.add_credential(
        unit,
        id=credential_uuid,
        credential_id=credential_id,
        user_id=user_id,
        kind="Key",
        name="root key",
        public_key=public_key,
        is_active=True,
        record=root,
        created_at=now,
    )


def store_full_access(unit: Unit, entropy: Entropy, *, permission_id: str, user_id: str, now: Instant) -> None:
    """Store the permission that holds every operation, and give it to the first admin for good."""
    permissions.add(
        unit,
        id=permission_id,
        name=FULL_ADMIN,
        operations=sorted(OPERATIONS),
        is_immutable=True,
        is_archived=False,
        created_at=now,
        updated_at=now,
    )
    permissions.assign(
        unit,
        id=ids.new_id(ids.ASSIGNMENT, entropy),
        permission_id=permission_id,
        identity_id=user_id,
        is_immutable=True,
        created_at=now,
        updated_at=now,
    )


def is_applied(unit: Unit, config: Config) -> bool:
    """Tell whether the settings in the file are the ones an admin signed."""
    return bool(organizations.get(unit).money_settings == money_digest(config))


def require_applied(unit: Unit, config: Config) -> None:
    """Admit nothing while the settings in the file are not the ones an admin signed, or the audit log is broken.

    Raises:
        Unavailable: so it is; says what to do.
    """
    broken = audit.why_broken(unit)
    if broken is not None:
        raise Unavailable(
            f"the audit log is not what was written ({broken}): nothing is paid until an admin has looked and lets it"
            " go on, see outlay audit --help",
            reason="audit_broken",
        )
    if not is_applied(unit, config):
        raise Unavailable(
            "the money settings of the configuration (prices, finality, assets, chain ids, fee caps, default verdict)"
            " are not the signed ones: restore the file, or have an admin run outlay settings apply",
            reason="money_settings_not_applied",
        )


def apply_config(act: Act, *, settings: dict[str, Any]) -> dict[str, Any]:
    """Make the money settings of the server's file the organization's, under an admin's signature.

    Args:
        act: the signed call.
        settings: what the admin saw and signed; must equal what the server has loaded when they take hold.
    """
    ours = act.config.money_settings()
    # While governed, the new settings wait for people, and the server pays under the old ones until they agreed.
    is_asked_for = act.agreed is None and is_governed(act.unit)
    if is_asked_for:
        ours = check_settings(settings)
    elif canonical(settings) != canonical(ours):
        raise Conflict(
            "the signed settings are not those this server has loaded: restart it with the same file",
            field="settings",
            loaded=digest(ours),
            signed=digest(settings),
        )
    record = act.record("config.applied", act.org.id, {"moneySettings": ours})
    organizations.apply_money_settings(act.unit, digest(ours))
    act.result_id = act.org.id
    return {"applied": True, "moneySettings": digest(ours), "record": record}


def open_action(
    unit: Unit, *, now: Instant, entropy: Entropy, caller: Caller, method: str, path: str, payload: Any
) -> Preimage:
    """Return the preimage of a challenge for one intended call.

    Raises:
        InvalidInput: the caller has no key that could sign.
    """
    org = organizations.get(unit)
    keys = signing_keys(unit, caller)
    if not keys:
        raise InvalidInput("this identity has no active credential to sign with", field="authorization")
    intent_digest = groups_digest = None
    decision = _DECISION_PATH.fullmatch(path)
    if decision is not None and method == "POST":
        approval = approvals.find(unit, decision.group(1))
        if approval is not None:
            about_change = approval.change_id is not None
            intent_digest = (
                changes.get(unit, approval.change_id).digest
                if about_change
                else transfers.get(unit, approval.transfer_id).intent_digest
            )
            groups_digest = approval.groups_digest
    of_batch = BATCH_DECISION_PATH.fullmatch(path)
    if of_batch is not None and method == "POST":
        held = held_for(unit, of_batch.group(1), caller.user_id, now=now)
        if held is not None:
            intent_digest, groups_digest = held.digest, held.groups_digest
    of_file = WHOLE_DECISION_PATH.fullmatch(path)
    if of_file is not None and method == "POST":
        whole = whole_for(unit, of_file.group(1), caller.user_id, now=now)
        if whole is not None:
            intent_digest, groups_digest = whole.digest, whole.groups_digest
    return Preimage(
        org=org.id,
        identity=caller.user_id,
        credentials=tuple(sorted(key.id for key in keys)),
        method=method,
        path=path,
        payload_digest=payload_digest(payload),
        intent_digest=intent_digest,
        groups_digest=groups_digest,
        records_head=org.head,
        nonce=to_base64url(entropy.token(24)),
        issued=now,
        expires=now + CHALLENGE_LIFE,
    )


def hash_code(code: str) -> str:
    """Return what is stored of a one-time code."""
    return hashlib.sha256(code.encode()).hexdigest()
