"""One entry of the audit log: what is written, how it is hashed, and the names of everything that is written down.

The hash of an entry covers the hash of the entry before it, so the newest hash stands for the whole log.
"""

import hashlib
import json
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, NamedTuple

from outlay.core.transfer import Event

DOMAIN = b"outlay.audit.v1\n"
"""What every hash begins with: no other text of ours hashes to the same."""

NO_ENTRY = "0" * 64
"""The hash before the first entry."""

ENGINE, SIGNER, NOBODY = "engine", "signer", "nobody"
"""Who did it, where no identity did: a step of the engine, the signer, somebody who could not show who they are."""

BEGUN, CONTINUED, LOST, BROKEN, ANCHORED, EXPORTED = (
    "log.begun",
    "log.continued",
    "log.lost",
    "log.broken",
    "log.anchored",
    "log.exported",
)
CALL, SESSION_OPENED, SESSION_CLOSED, SESSION_REFUSED = (
    "call.carried_out",
    "session.opened",
    "session.closed",
    "session.refused",
)
WEBHOOK_CHANGED = "webhook.changed"
FROZEN, LIFTED, NETWORK_FROZEN = "stop.set", "stop.gone", "network.frozen"
PAYOUT_REQUESTED = "payout.requested"
RECORD = "record."
"""Before the kind of a signed record."""

TOLD = "event."
"""Before the kind of an event."""

TOLD_KINDS = frozenset(
    {
        "payout.effect_mismatch",
        "policy.approval.pending",
        "policy.approval.resolved",
        "reconciliation.difference",
        "wallet.blockchainevent.detected",
        "wallet.frozen",
        "wallet.unfrozen",
        "webhook.disabled",
    }
)
"""Events that are written down as well: what they tell is no change of a payout's state, no record and no call."""

ACTIONS: Mapping[str, str] = {
    BEGUN: "The log begins; says which organization's it is, and why it begins.",
    CONTINUED: "A person let the server go on although the log is broken; says how, and what is missing.",
    LOST: "The database was made anew out of the signer's journal; names the newest anchor of the log that is gone.",
    BROKEN: "A check found that the log was changed behind the server's back; nothing is admitted from then on.",
    ANCHORED: "The newest hash was kept in a second place.",
    EXPORTED: "Somebody took a part of the log along.",
    CALL: "A signed call was carried out; names its digest and what it is about.",
    SESSION_OPENED: "A bearer token was made: a login, a registration, a service account, a personal access token.",
    SESSION_CLOSED: "A person logged out.",
    SESSION_REFUSED: "Logins that failed; says how many, and no more than some entries a minute are written.",
    WEBHOOK_CHANGED: "An endpoint was added, changed or removed.",
    FROZEN: "The signer stopped signing for something.",
    LIFTED: "The signer no longer stops it.",
    NETWORK_FROZEN: "A network was stopped: its final blocks changed.",
    PAYOUT_REQUESTED: "A payout, or a refill, was asked for and judged.",
    **{f"payout.{each}": f"A payout's state changed: {each.replace('_', ' ')}." for each in Event},
    f"{RECORD}*": "A signed record was added: people, keys, permissions, policies, wallets, settings.",
    **{f"{TOLD}{kind}": "The event of this name was raised." for kind in sorted(TOLD_KINDS)},
}
"""What an entry may be called -> what it says."""


class Entry(NamedTuple):
    """What is to be written down. No secret, no text that somebody else chose: digests stand for those."""

    actor: str  #: id of an identity or mandate, or one of the names above
    action: str
    subject: str  #: id of what it is about
    before: Mapping[str, Any] | str | None = None  #: small; or its canonical text
    after: Mapping[str, Any] | str | None = None
    evidence: str | None = None  #: SHA-256 of what was signed for it, or the hash of its record
    request: str | None = None  #: nonce of the signed call that it is a part of


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def is_told(kind: str, data: Mapping[str, Any]) -> bool:
    """Tell whether an event is written down as well; coins that leave are told by their payout's own entries."""
    return kind in TOLD_KINDS and data.get("blockchainEvent", {}).get("direction") != "Out"


def small_json(value: Mapping[str, Any] | str | None) -> str | None:
    """Return a small object as canonical text: member names are ASCII, numbers are integers below 2**53."""
    return value if value is None or isinstance(value, str) else _encode(value)


def standing(state: str, version: int, *, tx_hash: str | None = None, detail: Mapping[str, Any] | None = None) -> str:
    """Return how a payout stands, as canonical text: written by hand, because there are so many.

    ``detail`` holds reasons, which people may have written: its digest stands for it.
    """
    because = "" if not detail else f'"detail":"{hashlib.sha256(_encode(detail).encode("ascii")).hexdigest()}",'
    as_what = "" if tx_hash is None else f'"txHash":{_quoted(tx_hash)},'
    return f'{{{because}"state":"{state}",{as_what}"version":{version}}}'


def entry_text(
    *,
    seq: int,
    at: int,
    actor: str,
    action: str,
    subject: str,
    before: str | None,
    after: str | None,
    evidence: str | None,
    request: str | None,
) -> str:
    """Return the canonical text of an entry whose ``before`` and ``after`` are canonical texts already."""
    return (
        f'{{"action":{_quoted(action)},"actor":{_quoted(actor)},"after":{after or "null"},"at":{at}'
        f',"before":{before or "null"},"evidence":{_text(evidence)},"request":{_text(request)}'
        f',"seq":{seq},"subject":{_quoted(subject)}}}'
    )


def entry_hash(prev: str, text: str) -> str:
    """Return the hash of the entry with this canonical text that follows the one with hash ``prev``; hex."""
    return hashlib.sha256(DOMAIN + bytes.fromhex(prev) + text.encode("ascii")).hexdigest()


def _text(value: str | None) -> str:
    return "null" if value is None else _quoted(value)
