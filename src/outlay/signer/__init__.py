"""The signer: the only holder of keys. It builds what it signs from what people and machines signed, checks it
against its own copy of the organization's records, journals, and only then lets a signature out.

This module is the protocol the engine knows; it imports no key code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from outlay.core.errors import SignerRefused
from outlay.core.seams import Instant

__all__ = [
    "Demand",
    "Freeze",
    "JournalSlot",
    "KeyMaker",
    "PublicKey",
    "Purpose",
    "Scope",
    "SignRequest",
    "Signed",
    "SignedAttempt",
    "Signer",
    "SignerRefused",
    "SignerStatus",
    "Why",
]


class Purpose(StrEnum):
    """What a transaction is for."""

    PAYOUT = "payout"
    VOID = "void"  #: nothing to oneself: takes the slot, so that what else was signed for it can never be mined


class Why(StrEnum):
    """Why the signer refuses: what its caller has to do about it."""

    BEHIND = "behind"  #: signed over records the signer has not seen: send them and ask again
    FROZEN = "frozen"  #: somebody stopped this; nothing new is signed until it is let go
    CAP = "cap"  #: over one of the signer's own limits: it may pass later
    NOT_AGREED = "not_agreed"  #: by the records of now it may not go: judge it again
    EVIDENCE = "evidence"  #: what should prove the request does not
    CONFLICT = "conflict"  #: the journal holds this slot, transfer or externalId for something else
    FENCED = "fenced"  #: another worker leads this lane since
    AFTER_REFUSAL = "after_refusal"  #: a lower nonce of the same wallet was refused in this batch: nothing looked at
    UNSEEDED = "unseeded"  #: the journal was lost and has not been put in place again
    INVALID = "invalid"  #: malformed or out of range


class Scope(StrEnum):
    """What a freeze stops."""

    ALL = "all"
    WALLET = "wallet"
    NETWORK = "network"
    IDENTITY = "identity"  #: what this person or service account asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """The public side of a wallet's key."""

    key_id: str
    address: str  #: 0x and 40 hex digits, lower case
    public_key_hex: str  #: compressed secp256k1 point, 66 hex digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What justifies a payout: signed calls, as ``evidence.demand.portable`` gives them.

    Bound to the intent by their own signatures; nothing in it is believed because it was sent.
    """

    payout: Mapping[str, Any]  #: the signed request
    asked: Sequence[Mapping[str, Any]] = ()  #: ``{policyId, version}`` whose groups had to agree, by policy id
    decisions: Sequence[Mapping[str, Any]] = ()  #: the signed approvals that count, in the order of signing


@dataclass(frozen=True, slots=True, kw_only=True)
class SignRequest:
    """One slot of a lane, to be signed. The transaction itself is built by the signer."""

    wallet_id: str
    nonce: int  #: 0 to 2**53 - 1
    fence: int  #: of the lane's lease; the signer follows only the highest it has seen
    gas_limit: int  #: gas, 21000 to 2**53 - 1
    max_fee_per_gas: int  #: wei per gas; of a legacy transaction the gas price
    max_priority_fee_per_gas: int  #: wei per gas, 0 to ``max_fee_per_gas``; of a legacy transaction the same
    fee_cap: int  #: wei; gas_limit * max_fee_per_gas may not exceed it; frozen by the slot's first signature
    purpose: Purpose = Purpose.PAYOUT
    transfer_id: str | None = None  #: of a payout
    demand: Demand | None = None  #: of a payout's first attempt; later ones repeat what the journal holds
    legacy: bool = False  #: a transaction without EIP-1559 fees (EIP-155)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A signed transaction."""

    raw: bytes  #: as sent to a node
    hash: str  #: 0x and 64 hex digits
    sequence: int = 0  #: number of the journal entry that holds it


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """A stop that the signer keeps until a signed ``stop.lifted`` record names it."""

    id: str
    scope: Scope
    subject: str  #: wallet id, network name, user id; empty for ``ALL``
    reason: str
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedAttempt:
    """One attempt the journal holds."""

    sequence: int
    purpose: Purpose
    gas_limit: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int
    legacy: bool
    raw: bytes
    hash: str
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSlot:
    """One slot the journal holds, with everything needed to know it again."""

    wallet_id: str
    nonce: int
    transfer_id: str | None  #: None: a void of a slot that nothing was signed for before
    external_id: str | None
    intent: Mapping[str, Any] | None  #: ``core.intent`` document
    demand: Demand | None
    fee_cap: int
    attempts: tuple[SignedAttempt, ...]  #: in the order of signing, at least one

    def next_after(self, sequence: int) -> int:
        """Return the number of its first attempt above ``sequence``, which has to have one."""
        return next(each.sequence for each in self.attempts if each.sequence > sequence)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerStatus:
    """What the signer says about itself."""

    root: str  #: fingerprint of the organization's genesis, pinned in the journal
    keystore_id: str
    journal_id: str  #: made with the journal; a new journal has another
    seeded: bool  #: False: the journal is a new one and nothing is signed before a ``signer.reseeded`` record
    keys: int  #: wallet keys allocated
    sequence: int  #: journal entries so far
    head: str  #: hash of the newest journal entry, 64 hex digits
    record_seq: int  #: number of the newest record it accepted; -1: none yet
    record_head: str  #: hash of that record, empty: none yet
    freezes: tuple[Freeze, ...] = field(default=())


class KeyMaker(Protocol):
    """What the API needs of a signer: a key for a new wallet."""

    async def create_key(self, wallet_id: str) -> PublicKey:
        """Return the key of ``wallet_id``, allocating it on the first call. Repeating gives the same key.

        Raises:
            SignerUnavailable: it cannot be reached, or its journal cannot be written.
        """
        ...


class Signer(KeyMaker, Protocol):
    """Whoever signs: in this process, or in one of its own.

    Every method raises ``SignerUnavailable`` when the signer cannot be reached or its journal cannot be written;
    for ``sign`` that means: nothing new was let out, ask again with the same requests.
    """

    async def accept_records(self, documents: Sequence[str]) -> SignerStatus:
        """Take the records that follow the newest one it has, as canonical texts in order; known ones are skipped.

        Raises:
            SignerRefused: they do not follow, or one is not signed by who was entitled to it; those before it stay.
        """
        ...

    async def sign(self, requests: Sequence[SignRequest]) -> list[Signed | SignerRefused]:
        """Check, sign, journal (one commit for all), then answer; one answer each, in order.

        The same request again gives the same bytes, whatever has changed since. Requests of one wallet stand in the
        order of their nonces; after a refusal nothing of that wallet is looked at (``Why.AFTER_REFUSAL``).
        """
        ...

    async def journaled(self, wallet_id: str, fence: int, transfer_ids: Sequence[str]) -> frozenset[str]:
        """Return which of these transfers the journal holds, that is, which may have been signed.

        From then on no request with a lower fence is followed for this wallet: so the others surely were not signed.

        Raises:
            SignerRefused: ``Why.FENCED``, the fence is lower than one it has seen.
        """
        ...

    async def slots(self, *, after: int = 0, limit: int = 100) -> list[JournalSlot]:
        """Return slots whose first attempt has a number above ``after``, in that order."""
        ...

    async def touched(self, *, after: int = 0, limit: int = 100) -> list[JournalSlot]:
        """Return the slot of each attempt with a number above ``after``, in the order of attempts."""
        ...

    async def records(self, *, after: int = -1, limit: int = 100) -> list[str]:
        """Return the canonical texts of the records it keeps with a number above ``after``, in order."""
        ...

    async def freeze(self, scope: Scope, subject: str, reason: str) -> Freeze:
        """Stop signing for ``scope`` at once, durably. Repeating gives the same freeze."""
        ...

    async def status(self) -> SignerStatus:
        """Return the signer's identity, its positions and what it stopped."""
        ...
