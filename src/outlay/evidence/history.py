"""The walk from the root fingerprint to any signature: root, registration, credential, assertion.

``verify_history`` replays the chain of records. Every record after the genesis record must be signed by a key that the
records before it introduced and somebody vouched for, over exactly the head it follows. So a database re-signed
with new keys fails, and so does a record added, dropped or moved. What a signer was *permitted* to do is not judged
here; ``verify_bundle`` judges evidence of transfers and decisions against such a history.

What the bodies must hold (further members are free; *key* stands for ``credentialUuid``, ``credentialId`` and
``publicKey``), and what must have been signed (``_ROUTES``):

* ``genesis``: ``admin: {userId, key}``
* ``user.invited`` (subject: the user): ``publicKey`` if the invitation names it
* ``user.registered`` (subject: the user): key, ``preimage``, ``attestation``
* ``user.activated``, ``.deactivated``, ``.deleted`` (subject: the user or service account); the first also
  ``fingerprints`` of the keys vouched for
* ``serviceAccount.created`` (subject: the account), ``credential.created`` (the signer's own): key
* ``credential.activated``, ``.deactivated``, ``.deleted``: ``credentialUuid``
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from outlay.core.errors import InvalidInput
from outlay.evidence import record as records
from outlay.evidence.assertion import KEY, Credential
from outlay.evidence.attestation import verify_attestation
from outlay.evidence.base64url import from_base64url
from outlay.evidence.bundle import (
    EvidenceBroken,
    read_credential,
    verify_evidence,
    verify_registration,
)
from outlay.evidence.canonical import read_json
from outlay.evidence.challenge import Preimage
from outlay.evidence.keys import fingerprint
from outlay.evidence.record import RecordBroken, check_record, record_hash, verify_chain
from outlay.evidence.shape import check_texts, members

_USER_STATES = {records.USER_ACTIVATED: True, records.USER_DEACTIVATED: False, records.USER_DELETED: False}
_CREDENTIAL_STATES = {
    records.CREDENTIAL_ACTIVATED: True,
    records.CREDENTIAL_DEACTIVATED: False,
    records.CREDENTIAL_DELETED: False,
}

# Which signed call may bring about which record: a signature for one thing must not stand behind another.
_PEOPLE = ("/auth/users/{subject}", "/auth/service-accounts/{subject}")
_ROUTES: dict[str, tuple[str, tuple[str, ...]]] = {
    records.USER_INVITED: ("POST", ("/auth/users",)),
    records.USER_ACTIVATED: ("PUT", tuple(path + "/activate" for path in _PEOPLE)),
    records.USER_DEACTIVATED: ("PUT", tuple(path + "/deactivate" for path in _PEOPLE)),
    records.USER_DELETED: ("DELETE", _PEOPLE),
    records.SERVICE_ACCOUNT_CREATED: ("POST", ("/auth/service-accounts",)),
    records.CREDENTIAL_CREATED: ("POST", ("/auth/credentials",)),
    records.CREDENTIAL_ACTIVATED: ("PUT", ("/auth/credentials/activate",)),
    records.CREDENTIAL_DEACTIVATED: ("PUT", ("/auth/credentials/deactivate",)),
    records.CREDENTIAL_DELETED: ("DELETE", ("/auth/credentials/{credential}",)),
}


@dataclass(slots=True)
class KnownCredential:
    """A key the records introduced, and when it could sign."""

    credential: Credential
    record: str  #: hex hash of the record that introduced it
    fingerprint: str  #: hex SHA-256 of the SPKI bytes
    vouched_since: int | None  #: number of the record by which somebody vouched for it; None: nobody yet
    user_states: list[tuple[int, bool]] = field(default_factory=list)  #: (record number, active from then on)
    key_states: list[tuple[int, bool]] = field(default_factory=list)  #: the same of the key itself

    def usable_at(self, seq: int) -> bool:
        """Tell whether the key was active and vouched for right after record ``seq``."""
        if self.vouched_since is None or self.vouched_since > seq:
            return False
        # Switching a person on again does not bring back a key that was withdrawn for itself.
        return _state_at(self.user_states, seq) and _state_at(self.key_states, seq)


def _state_at(states: list[tuple[int, bool]], seq: int) -> bool:
    return next((active for number, active in reversed(states) if number <= seq), True)


@dataclass(slots=True)
class History:
    """What a verified chain of records says about keys."""

    org: str
    head: str = ""  #: hex hash of the newest record
    numbers: dict[str, int] = field(default_factory=dict)  #: record hash -> number
    credentials: dict[str, KnownCredential] = field(default_factory=dict)  #: by credential uuid
    invitations: dict[str, dict[str, Any]] = field(default_factory=dict)  #: hash -> invitation not taken up yet

    def signer(self, document: Mapping[str, Any], preimage: Preimage) -> KnownCredential:
        """Return the known credential that signed verified evidence.

        Raises:
            EvidenceBroken: another organization, a head that is not in the chain, a key that the chain did not know,
                had withdrawn, or nobody had vouched for when the signer saw that head.
        """
        if preimage.org != self.org:
            raise EvidenceBroken("signed for another organization", field="evidence.preimage.org")
        seq = self.numbers.get(preimage.records_head)
        if seq is None:
            raise EvidenceBroken(
                "signed over records that are not in this chain", field="evidence.preimage.recordsHead"
            )
        claimed, record = read_credential(document["credential"])
        known = self.credentials.get(claimed.uuid)
        if (
            known is None
            or known.fingerprint != fingerprint(claimed.public_key)
            or (known.credential.kind, known.credential.credential_id, known.credential.user_id)
            != (claimed.kind, claimed.credential_id, claimed.user_id)
            or known.credential.relying_party_id != claimed.relying_party_id
            or known.record != record
        ):
            raise EvidenceBroken("signed by a key that the records do not know", field="evidence.credential")
        if not known.usable_at(seq):
            raise EvidenceBroken(
                "signed by a key that was withdrawn or that nobody vouched for", field="evidence.credential"
            )
        return known


def verify_history(documents: Iterable[dict[str, Any]], root: str) -> History:
    """Replay the records and return what they say about keys.

    Args:
        documents: all records in order, as ``read_canonical`` returned them.
        root: hex hash of the genesis record, from outside of the database.

    Raises:
        RecordBroken: as ``verify_chain``, or a body does not fit its kind or its evidence.
        EvidenceBroken: a record's evidence does not verify or was made by a key that could not sign it.
    """
    chain = list(documents)
    verify_chain(chain, root)
    history = History(org=chain[0]["org"])
    for document in chain:
        number = document["seq"]
        try:
            _replay(history, check_record(document))
        except (RecordBroken, EvidenceBroken) as error:
            raise type(error)(f"record {number}: {error.message}", field=error.field) from error
        except InvalidInput as error:
            raise RecordBroken(f"record {number}: {error.message}", field=error.field) from error
    return history


def verify_bundle(document: object, root: str) -> list[Preimage]:
    """Check exported evidence offline, from the root fingerprint to each signature.

    Args:
        document: ``{"v": 1, "records": [all records in order], "evidence": [action evidence]}``.
        root: hex hash of the genesis record, as ``outlay init`` printed it.

    Returns:
        The preimages of the evidence, in order.

    Raises:
        RecordBroken: as ``verify_history``.
        EvidenceBroken: as ``verify_history``, for a record or for a piece of evidence.
    """
    given = members(document, "bundle", {"v": int, "records": list, "evidence": list})
    if given["v"] != 1:
        raise EvidenceBroken(f"version {given['v']} of bundles is not known here", field="bundle.v")
    history = verify_history(given["records"], root)
    preimages = []
    for evidence in given["evidence"]:
        preimage = verify_evidence(evidence)
        history.signer(evidence, preimage)
        preimages.append(preimage)
    return preimages


def _replay(history: History, document: dict[str, Any]) -> None:
    kind, number, evidence = document["kind"], document["seq"], document["evidence"]
    digest = record_hash(document)
    if kind == records.GENESIS:
        admin = document["body"].get("admin")
        if not isinstance(admin, dict) or not isinstance(admin.get("userId"), str):
            raise RecordBroken("names no admin", field="record.body.admin")
        _introduce(history, document, admin, admin["userId"], vouched=True)
    elif kind == records.USER_REGISTERED:
        _register(history, document)
    else:
        preimage = verify_evidence(evidence)
        if preimage.records_head != document["prev"]:
            raise EvidenceBroken("signed over another head of the records", field="evidence.preimage.recordsHead")
        signer = history.signer(evidence, preimage)
        _apply(history, document, preimage, signer)
    if kind == records.USER_INVITED:
        history.invitations[digest] = document
    history.numbers[digest] = number
    history.head = digest


def _apply(history: History, document: dict[str, Any], preimage: Preimage, signer: KnownCredential) -> None:
    kind, body, subject = document["kind"], document["body"], document["subject"]
    payload = document["evidence"]["payload"]
    _check_route(kind, preimage, subject=subject, credential=str(body.get("credentialUuid")))
    if kind in (records.USER_INVITED, records.SERVICE_ACCOUNT_CREATED, records.CREDENTIAL_CREATED):
        if not isinstance(payload, dict):
            raise EvidenceBroken("the payload is not an object", field="evidence.payload")
        signed = payload.get("publicKey")
        if kind == records.CREDENTIAL_CREATED:
            signed = _attested_key(payload.get("credentialInfo"))
        _same_key(body.get("publicKey"), signed)
    if kind == records.SERVICE_ACCOUNT_CREATED:
        _introduce(history, document, body, subject, vouched=True)
    elif kind == records.CREDENTIAL_CREATED:
        _introduce(history, document, body, signer.credential.user_id, vouched=True)
    elif kind in _USER_STATES:
        _switch_user(history, document)
    elif kind in _CREDENTIAL_STATES:
        named = history.credentials.get(str(body.get("credentialUuid")))
        if named is None:
            raise RecordBroken("names a credential that is not known", field="record.body.credentialUuid")
        if kind != records.CREDENTIAL_DELETED and payload != {"credentialUuid": body["credentialUuid"]}:
            raise EvidenceBroken("signed for another credential", field="evidence.payload.credentialUuid")
        named.key_states.append((document["seq"], _CREDENTIAL_STATES[kind]))


def _check_route(kind: str, preimage: Preimage, *, subject: str, credential: str) -> None:
    if kind not in _ROUTES:
        return
    method, paths = _ROUTES[kind]
    allowed = [path.format(subject=subject, credential=credential) for path in paths]
    if preimage.method != method or preimage.path not in allowed:
        raise EvidenceBroken(f"the call signed does not bring about {kind}", field="evidence.preimage.path")


def _switch_user(history: History, document: dict[str, Any]) -> None:
    kind, seq = document["kind"], document["seq"]
    vouched = document["body"].get("fingerprints", []) if kind == records.USER_ACTIVATED else []
    check_texts(vouched, "record.body.fingerprints")
    for known in history.credentials.values():
        if known.credential.user_id == document["subject"]:
            known.user_states.append((seq, _USER_STATES[kind]))
            if known.fingerprint in vouched and known.vouched_since is None:
                known.vouched_since = seq


def _register(history: History, document: dict[str, Any]) -> None:
    body = document["body"]
    preimage, cred_id, public_key = verify_registration(body.get("preimage"), body.get("attestation"))
    if preimage.org != history.org or preimage.user_id != document["subject"]:
        raise EvidenceBroken("the registration is of somebody else", field="record.body.preimage")
    invitation = history.invitations.pop(preimage.invitation, None)
    if invitation is None or invitation["subject"] != preimage.user_id:
        raise EvidenceBroken("there is no such open invitation", field="record.body.preimage")
    invited_key = invitation["body"].get("publicKey")
    known = _introduce(history, document, body, preimage.user_id, vouched=invited_key is not None)
    _same_key(known.credential.public_key, public_key)
    if known.credential.credential_id != cred_id:
        raise RecordBroken("the record names another credential", field="record.body.credentialId")
    if invited_key is not None:
        _same_key(invited_key, public_key)


def _introduce(
    history: History, document: dict[str, Any], body: Mapping[str, Any], user_id: str, *, vouched: bool
) -> KnownCredential:
    names = ("credentialUuid", "credentialId", "publicKey")
    key = members({name: body[name] for name in names if name in body}, "record.body", dict.fromkeys(names, str))
    if key["credentialUuid"] in history.credentials:
        raise RecordBroken("introduces a credential a second time", field="record.body.credentialUuid")
    credential = Credential(
        uuid=key["credentialUuid"],
        credential_id=key["credentialId"],
        user_id=user_id,
        kind=KEY,
        public_key=key["publicKey"],
    )
    seq = document["seq"]
    known = KnownCredential(
        credential=credential,
        record=record_hash(document),
        fingerprint=fingerprint(credential.public_key),
        vouched_since=seq if vouched else None,
    )
    history.credentials[credential.uuid] = known
    return known


def _same_key(recorded: object, signed: object) -> None:
    both = isinstance(recorded, str) and isinstance(signed, str)
    if not (recorded is None and signed is None) and not (
        both and fingerprint(str(recorded)) == fingerprint(str(signed))
    ):
        raise RecordBroken("the recorded key is not the one signed for", field="record.body")


def _attested_key(credential_info: object) -> str:
    """Return the key in an attestation that is covered by a signed payload, whatever challenge it answered."""
    if not isinstance(credential_info, dict) or not isinstance(credential_info.get("clientData"), str):
        raise RecordBroken("the payload holds no attestation", field="evidence.payload.credentialInfo")
    field_name = "evidence.payload.credentialInfo.clientData"
    client_data = read_json(
        from_base64url(credential_info["clientData"], field=field_name, padded=True), field=field_name
    )
    challenge = client_data.get("challenge") if isinstance(client_data, dict) else None
    return verify_attestation(credential_info, challenge if isinstance(challenge, str) else "")
