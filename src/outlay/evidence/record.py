"""Records: every change to people, keys, permissions, policies, wallets and money settings, in one hash chain.

A record is ``{v, org, seq, prev, kind, subject, at, body, evidence}``; its hash is the SHA-256 of its canonical bytes
and the next record's ``prev``. The first is the genesis record, whose hash is the root fingerprint. This module
knows links only; what each kind says is ``changes``'s, and who signed what is ``history``'s.
"""

from collections.abc import Iterable
from typing import Any

from outlay.core.errors import InvalidInput
from outlay.core.seams import MINUTE, Instant
from outlay.evidence.canonical import digest
from outlay.evidence.shape import check_digest, members

VERSION = 1

CLOCKS_APART: Instant = 10 * MINUTE
"""How far a record's instant may lie outside of the life of the challenge behind it."""

# Every kind there is. ``changes`` says for each which signed call brings it about and what its body holds.
GENESIS = "genesis"
USER_INVITED = "user.invited"
USER_REGISTERED = "user.registered"
USER_ACTIVATED = "user.activated"
USER_DEACTIVATED = "user.deactivated"
USER_DELETED = "user.deleted"
USER_RENAMED = "user.renamed"
USER_RECOVERED = "user.recovered"
SERVICE_ACCOUNT_CREATED = "serviceAccount.created"
CODE_CREATED = "code.created"
CREDENTIAL_CREATED = "credential.created"
CREDENTIAL_REGISTERED = "credential.registered"
CREDENTIAL_ACTIVATED = "credential.activated"
CREDENTIAL_DEACTIVATED = "credential.deactivated"
CREDENTIAL_DELETED = "credential.deleted"
PAT_CREATED = "pat.created"
PAT_RENAMED = "pat.renamed"
PERMISSION_CREATED = "permission.created"
PERMISSION_UPDATED = "permission.updated"
PERMISSION_ARCHIVED = "permission.archived"
PERMISSION_ASSIGNED = "permission.assigned"
PERMISSION_REVOKED = "permission.revoked"
POLICY_CREATED = "policy.created"
POLICY_UPDATED = "policy.updated"
POLICY_ARCHIVED = "policy.archived"
WALLET_CREATED = "wallet.created"
WALLET_RENAMED = "wallet.renamed"
WALLET_TAGS_MODIFIED = "wallet.tags.modified"
WALLET_UNFROZEN = "wallet.unfrozen"
WALLET_DRAINED = "wallet.drained"
WALLET_RESUMED = "wallet.resumed"
POOL_CREATED = "pool.created"
POOL_ARCHIVED = "pool.archived"
MANDATE_CREATED = "mandate.created"
MANDATE_ARCHIVED = "mandate.archived"
ASSET_UNFROZEN = "asset.unfrozen"
NETWORK_UNFROZEN = "network.unfrozen"
STOP_LIFTED = "stop.lifted"
SIGNER_RESEEDED = "signer.reseeded"
CONFIG_APPLIED = "config.applied"
CHANGE_REQUESTED = "change.requested"
CHANGE_DECIDED = "change.decided"
CHANGE_APPLIED = "change.applied"
CHANGE_CLOSED = "change.closed"

PROVED_BY_BODY = frozenset({GENESIS, USER_REGISTERED, CREDENTIAL_REGISTERED, CHANGE_APPLIED, CHANGE_CLOSED})
"""Kinds without action evidence: the root is pinned, a new key attests itself in the body, a change that people
agreed on is proved by the records of its request and its decisions, and closing one lets nothing through."""


class RecordBroken(InvalidInput):
    """The chain of records has been cut, changed or does not start at the pinned root."""

    code = "record_broken"


def build_record(
    *,
    org: str,
    seq: int,
    prev: str | None,
    kind: str,
    subject: str,
    at: Instant,
    body: dict[str, Any],
    evidence: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return one record document.

    Args:
        org: organization id.
        seq: 0 for the genesis record, then without a gap.
        prev: hex hash of the record before; None for the genesis record only.
        kind: noun and past tense, e.g. ``policy.created``.
        subject: id of what changed.
        at: microseconds UTC.
        body: the new state, as JSON values.
        evidence: action evidence; None for the kinds in ``PROVED_BY_BODY`` only.

    Raises:
        RecordBroken: the arguments contradict each other.
    """
    document = {
        "v": VERSION,
        "org": org,
        "seq": seq,
        "prev": prev,
        "kind": kind,
        "subject": subject,
        "at": at,
        "body": body,
        "evidence": evidence,
    }
    check_record(document)
    return document


def record_hash(document: dict[str, Any]) -> str:
    """Return the hash of a record: hex SHA-256 of its canonical bytes.

    Raises:
        CanonicalError: the document has no canonical form.
    """
    return digest(document)


def check_record(document: object) -> dict[str, Any]:
    """Return ``document`` if it has the form of a record.

    Raises:
        RecordBroken: it has not; ``field`` names the member.
    """
    try:
        given = members(
            document,
            "record",
            {
                "v": int,
                "org": str,
                "seq": int,
                "prev": object,
                "kind": str,
                "subject": str,
                "at": int,
                "body": dict,
                "evidence": object,
            },
        )
        if given["prev"] is not None:
            check_digest(given["prev"], "record.prev")
    except RecordBroken:
        raise
    except InvalidInput as error:
        raise RecordBroken(error.message, field=error.field) from error
    first = given["seq"] == 0
    if given["v"] != VERSION or given["seq"] < 0:
        raise RecordBroken("the record's version or number is not known here", field="record.v")
    if first != (given["prev"] is None) or first != (given["kind"] == GENESIS):
        raise RecordBroken("only the genesis record has number 0 and no predecessor", field="record.prev")
    bare = given["kind"] in PROVED_BY_BODY
    if bare != (given["evidence"] is None) or not (bare or isinstance(given["evidence"], dict)):
        raise RecordBroken("this kind of record carries evidence, or must not", field="record.evidence")
    return given


def check_instant(at: Instant, issued: Instant, expires: Instant) -> None:
    """Refuse an instant that is not the one at which a challenge can have been used.

    Raises:
        RecordBroken: it lies before the challenge was made, or long after it expired.
    """
    if not issued - CLOCKS_APART <= at <= expires + CLOCKS_APART:
        raise RecordBroken("the instant is not that of what was signed", field="record.at")


def check_order(at: Instant, latest: Instant) -> None:
    """Refuse an instant well before that of a record that came earlier: one of the two is made up.

    Raises:
        RecordBroken: it is.
    """
    if at < latest - CLOCKS_APART:
        raise RecordBroken("the instant lies before that of an earlier record", field="record.at")


def verify_chain(documents: Iterable[dict[str, Any]], root: str) -> str:
    """Follow the chain from its root and return the hash of its newest record.

    Args:
        documents: all records in order, as ``read_canonical`` returned them.
        root: hex hash of the genesis record, from outside of the database.

    Raises:
        RecordBroken: no records, another root, a gap, a changed or malformed record, another organization.
    """
    head: str | None = None
    org = ""
    for seq, document in enumerate(documents):
        head = check_next(document, seq=seq, head=head, org=org, root=root)
        org = document["org"]
    if head is None:
        raise RecordBroken("there are no records", field="records")
    return head


def check_next(document: dict[str, Any], *, seq: int, head: str | None, org: str, root: str) -> str:
    """Return the hash of a record, once it is known to follow the one before.

    Args:
        document: the record.
        seq: the number it must have.
        head: hash of the record before; None before the genesis record.
        org: the organization of the records before; not looked at before the genesis record.
        root: as of ``verify_chain``.

    Raises:
        RecordBroken: it does not follow.
    """
    given = check_record(document)
    if given["seq"] != seq or given["prev"] != head:
        raise RecordBroken(f"record {seq} does not follow the one before it", field="record.prev")
    found = record_hash(given)
    if seq == 0 and found != root:
        raise RecordBroken("the first record is not the root you named: check the fingerprint", field="root")
    if seq and given["org"] != org:
        raise RecordBroken(f"record {seq} is of another organization", field="record.org")
    return found
