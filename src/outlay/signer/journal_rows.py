"""The tables of the signer's journal, and every statement over them."""

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from outlay.core.errors import InvariantBroken
from outlay.core.seams import Instant
from outlay.evidence.canonical import canonical, digest
from outlay.signer import Freeze, Purpose, Scope, SignedAttempt

VERSION: Final = 2
GENESIS: Final = "0" * 64
"""What the first entry names as the hash before it."""

ATTEMPT, FREEZE, LIFTED, RESEEDED = "attempt", "freeze", "lifted", "reseeded"
"""Kinds of entries."""

SCHEMA: Final = (
    """CREATE TABLE pin (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        version INTEGER NOT NULL,
        root TEXT NOT NULL,
        keystore_id TEXT NOT NULL,
        journal_id TEXT NOT NULL,
        seeded INTEGER NOT NULL CHECK (seeded IN (0, 1))
    ) STRICT""",
    """CREATE TABLE key (
        wallet_id TEXT PRIMARY KEY,
        key_index INTEGER NOT NULL UNIQUE CHECK (key_index >= 0),
        reference TEXT NOT NULL UNIQUE,
        address TEXT NOT NULL UNIQUE,
        public_key TEXT NOT NULL,
        chain_id INTEGER,
        fence INTEGER NOT NULL DEFAULT 0 CHECK (fence >= 0)
    ) STRICT""",
    """CREATE TABLE slot (
        wallet_id TEXT NOT NULL REFERENCES key (wallet_id),
        nonce INTEGER NOT NULL CHECK (nonce >= 0),
        network TEXT NOT NULL,
        fee_cap TEXT NOT NULL,
        transfer_id TEXT UNIQUE,
        external_id TEXT UNIQUE,
        intent TEXT,
        demand TEXT,
        first_seq INTEGER NOT NULL UNIQUE,
        first_at INTEGER NOT NULL,
        PRIMARY KEY (wallet_id, nonce),
        CHECK ((transfer_id IS NULL) = (intent IS NULL) AND (transfer_id IS NULL) = (demand IS NULL)),
        CHECK (external_id IS NULL OR transfer_id IS NOT NULL)
    ) STRICT""",
    # A signed call pays once, and approves one payment: a row that was copied brings no second one about.
    """CREATE TABLE used (
        challenge TEXT PRIMARY KEY,
        wallet_id TEXT NOT NULL,
        nonce INTEGER NOT NULL,
        FOREIGN KEY (wallet_id, nonce) REFERENCES slot (wallet_id, nonce)
    ) STRICT""",
    """CREATE TABLE entry (
        seq INTEGER PRIMARY KEY CHECK (seq >= 1),
        prev_hash TEXT NOT NULL UNIQUE,
        hash TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL CHECK (kind IN ('attempt', 'freeze', 'lifted', 'reseeded')),
        body TEXT NOT NULL,
        at INTEGER NOT NULL,
        wallet_id TEXT,
        nonce INTEGER,
        purpose TEXT CHECK (purpose IN ('payout', 'void')),
        signing_hash TEXT,
        -- Two wallets may well sign equal transactions: the signing hash does not name the payer.
        UNIQUE (wallet_id, signing_hash),
        FOREIGN KEY (wallet_id, nonce) REFERENCES slot (wallet_id, nonce),
        CHECK ((kind = 'attempt') = (wallet_id IS NOT NULL) AND (kind = 'attempt') = (nonce IS NOT NULL)),
        CHECK ((kind = 'attempt') = (purpose IS NOT NULL) AND (kind = 'attempt') = (signing_hash IS NOT NULL))
    ) STRICT""",
    "CREATE INDEX entry_slot ON entry (wallet_id, nonce, seq)",
    """CREATE TRIGGER nothing_after_a_void BEFORE INSERT ON entry WHEN NEW.purpose = 'payout' AND EXISTS (
        SELECT 1 FROM entry WHERE wallet_id = NEW.wallet_id AND nonce = NEW.nonce AND purpose = 'void'
    ) BEGIN SELECT RAISE(ABORT, 'this slot was voided'); END""",
    "CREATE TABLE record (seq INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, document TEXT NOT NULL) STRICT",
    """CREATE TABLE freeze (
        id TEXT PRIMARY KEY,
        scope TEXT NOT NULL,
        subject TEXT NOT NULL,
        reason TEXT NOT NULL,
        at INTEGER NOT NULL,
        UNIQUE (scope, subject)
    ) STRICT""",
)

_SELECT_SLOT = (
    "SELECT wallet_id, nonce, network, fee_cap, transfer_id, external_id, intent, demand, first_seq, first_at FROM slot"
)
_SELECT_ENTRY = "SELECT seq, prev_hash, hash, kind, body, at, wallet_id, nonce, purpose, signing_hash FROM entry"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """Which key a wallet has, and whom it follows."""

    wallet_id: str
    index: int
    reference: str  #: what the back-end finds the key by
    address: str
    public_key: str  #: compressed point, hex
    chain_id: int | None = None  #: the one chain it ever signed for; None: nothing yet
    fence: int = 0  #: the highest seen


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotRow:
    """What a slot was first signed for."""

    wallet_id: str
    nonce: int
    network: str
    fee_cap: int  #: wei
    transfer_id: str | None = None
    external_id: str | None = None
    intent: Mapping[str, Any] | None = None
    demand: str | None = None  #: canonical text
    first_seq: int = 0
    first_at: Instant = 0

    def document(self) -> dict[str, Any]:
        """Return what the slot's first entry says about it."""
        return {
            "network": self.network,
            "feeCap": str(self.fee_cap),
            "externalId": self.external_id,
            "intent": self.intent,
            "demandDigest": None if self.demand is None else hashlib.sha256(self.demand.encode()).hexdigest(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the journal."""

    seq: int
    prev_hash: str
    hash: str
    kind: str
    text: str  #: of the body, canonical
    at: Instant
    wallet_id: str | None = None
    nonce: int | None = None
    purpose: str | None = None
    signing_hash: str | None = None

    def digest(self) -> str:
        """Return what ``hash`` must be."""
        columns = [self.wallet_id, self.nonce, self.purpose, self.signing_hash]
        body = hashlib.sha256(self.text.encode()).hexdigest()
        return digest([VERSION, self.seq, self.prev_hash, self.kind, body, self.at, *columns])

    @property
    def body(self) -> dict[str, Any]:
        """What it says.

        Raises:
            InvariantBroken: it is damaged.
        """
        try:
            body = json.loads(self.text)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise InvariantBroken(f"entry {self.seq} of the signer's journal is damaged")
        return body

    def attempt(self) -> SignedAttempt:
        """Return what was signed, of an entry of kind ``ATTEMPT``."""
        body = self.body
        return SignedAttempt(
            sequence=self.seq,
            purpose=Purpose(body["purpose"]),
            gas_limit=body["gasLimit"],
            max_fee_per_gas=int(body["maxFeePerGas"]),
            max_priority_fee_per_gas=int(body["maxPriorityFeePerGas"]),
            legacy=body["legacy"],
            raw=bytes.fromhex(body["raw"]),
            hash=body["hash"],
            at=self.at,
        )


class Rows:
    """The tables, within one unit."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Work on an open connection."""
        self.connection = connection

    def version(self) -> int:
        """Return a number that changes when another connection has written."""
        number: int = self.connection.execute("PRAGMA data_version").fetchone()[0]
        return number

    # --- keys -----------------------------------------------------------------------------------------------------

    def keys(self) -> dict[str, KeyRow]:
        """Return every key, by wallet id."""
        query = "SELECT wallet_id, key_index, reference, address, public_key, chain_id, fence FROM key"
        found = (
            KeyRow(
                wallet_id=row[0],
                index=row[1],
                reference=row[2],
                address=row[3],
                public_key=row[4],
                chain_id=row[5],
                fence=row[6],
            )
            for row in self.connection.execute(query)
        )
        return {row.wallet_id: row for row in found}

    def add_key(self, row: KeyRow) -> None:
        """Keep a wallet's key."""
        self.connection.execute(
            "INSERT INTO key (wallet_id, key_index, reference, address, public_key) VALUES (?, ?, ?, ?, ?)",
            (row.wallet_id, row.index, row.reference, row.address, row.public_key),
        )

    def set_fence(self, wallet_id: str, fence: int) -> None:
        """Keep the highest fence seen for a wallet; never goes back."""
        self.connection.execute("UPDATE key SET fence = ? WHERE wallet_id = ? AND fence < ?", (fence, wallet_id, fence))

    def bind_chain(self, wallet_id: str, chain_id: int) -> None:
        """Keep the chain a wallet first signed for."""
        self.connection.execute(
            "UPDATE key SET chain_id = ? WHERE wallet_id = ? AND chain_id IS NULL", (chain_id, wallet_id)
        )

    # --- slots ----------------------------------------------------------------------------------------------------

    def slot(self, wallet_id: str, nonce: int) -> SlotRow | None:
        """Return a slot."""
        query = f"{_SELECT_SLOT} WHERE wallet_id = ? AND nonce = ?"
        row = self.connection.execute(query, (wallet_id, nonce)).fetchone()
        return None if row is None else _slot(row)

    def slots(self, *, after: int, limit: int) -> list[SlotRow]:
        """Return slots whose first entry has a number above ``after``, in that order."""
        query = f"{_SELECT_SLOT} WHERE first_seq > ? ORDER BY first_seq LIMIT ?"
        return [_slot(row) for row in self.connection.execute(query, (after, limit))]

    def touched(self, *, after: int, limit: int) -> list[SlotRow]:
        """Return the slot of each attempt with a number above ``after``, in the order of attempts."""
        query = "SELECT wallet_id, nonce FROM entry WHERE seq > ? AND kind = ? ORDER BY seq LIMIT ?"
        found = [self.slot(*row) for row in self.connection.execute(query, (after, ATTEMPT, limit)).fetchall()]
        return [slot for slot in found if slot is not None]

    def slots_since(self, at: Instant) -> list[SlotRow]:
        """Return slots first signed after ``at``, in the order of signing."""
        query = f"{_SELECT_SLOT} WHERE first_at > ? ORDER BY first_seq"
        return [_slot(row) for row in self.connection.execute(query, (at,))]

    def slots_named(self, prefix: str, *, after: Instant) -> list[SlotRow]:
        """Return slots whose ``externalId`` begins with ``prefix`` (ending in "/"), first signed after ``after``."""
        end = prefix.removesuffix("/") + "0"  # the character after the slash
        query = f"{_SELECT_SLOT} WHERE external_id >= ? AND external_id < ? AND first_at > ? ORDER BY first_seq"
        return [_slot(row) for row in self.connection.execute(query, (prefix, end, after))]

    def highest_nonce(self, wallet_id: str) -> int:
        """Return the highest nonce ever signed for a wallet; -1: none."""
        query = "SELECT coalesce(max(nonce), -1) FROM slot WHERE wallet_id = ?"
        nonce: int = self.connection.execute(query, (wallet_id,)).fetchone()[0]
        return nonce

    def lowest_nonce(self, wallet_id: str) -> int:
        """Return the lowest nonce ever signed for a wallet; -1: none."""
        query = "SELECT coalesce(min(nonce), -1) FROM slot WHERE wallet_id = ?"
        nonce: int = self.connection.execute(query, (wallet_id,)).fetchone()[0]
        return nonce

    def slot_of_transfer(self, transfer_id: str) -> tuple[str, int] | None:
        """Return wallet and nonce that a transfer was signed at."""
        query = "SELECT wallet_id, nonce FROM slot WHERE transfer_id = ?"
        row = self.connection.execute(query, (transfer_id,)).fetchone()
        return None if row is None else (row[0], row[1])

    def transfer_of(self, external_id: str) -> str | None:
        """Return the transfer that was signed under an ``externalId``."""
        row = self.connection.execute("SELECT transfer_id FROM slot WHERE external_id = ?", (external_id,)).fetchone()
        return None if row is None else str(row[0])

    def is_used(self, challenge: str) -> bool:
        """Tell whether the signature that answers a challenge has paid already."""
        return self.connection.execute("SELECT 1 FROM used WHERE challenge = ?", (challenge,)).fetchone() is not None

    def add_slot(self, slot: SlotRow, challenges: Sequence[str]) -> None:
        """Take a slot for a transfer, or for a void of a gap, and spend the signatures behind it."""
        self.connection.execute(
            "INSERT INTO slot (wallet_id, nonce, network, fee_cap, transfer_id, external_id, intent, demand,"
            " first_seq, first_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                slot.wallet_id,
                slot.nonce,
                slot.network,
                str(slot.fee_cap),
                slot.transfer_id,
                slot.external_id,
                None if slot.intent is None else canonical(slot.intent).decode("ascii"),
                slot.demand,
                slot.first_seq,
                slot.first_at,
            ),
        )
        self.connection.executemany(
            "INSERT INTO used VALUES (?, ?, ?)", [(each, slot.wallet_id, slot.nonce) for each in challenges]
        )

    # --- entries --------------------------------------------------------------------------------------------------

    def newest(self) -> Entry:
        """Return the newest entry; one with number 0 and hash ``GENESIS`` if there is none."""
        newest = self._entries("ORDER BY seq DESC LIMIT 1", ())
        return newest[0] if newest else Entry(seq=0, prev_hash="", hash=GENESIS, kind="", text="{}", at=0)

    def entries(self, *, after: int = 0, limit: int = 1000) -> list[Entry]:
        """Return up to ``limit`` entries that follow entry number ``after``, oldest first."""
        return self._entries("WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit))

    def entries_of(self, wallet_id: str, nonce: int) -> list[Entry]:
        """Return the entries of a slot, oldest first."""
        return self._entries("WHERE wallet_id = ? AND nonce = ? ORDER BY seq", (wallet_id, nonce))

    def entries_of_kind(self, kind: str) -> list[Entry]:
        """Return every entry of a kind that is rare, oldest first."""
        return self._entries("WHERE kind = ? ORDER BY seq", (kind,))

    def _entries(self, tail: str, values: Sequence[object]) -> list[Entry]:
        return [
            Entry(
                seq=row[0],
                prev_hash=row[1],
                hash=row[2],
                kind=row[3],
                text=row[4],
                at=row[5],
                wallet_id=row[6],
                nonce=row[7],
                purpose=row[8],
                signing_hash=row[9],
            )
            for row in self.connection.execute(f"{_SELECT_ENTRY} {tail}", tuple(values))
        ]

    def add_entry(
        self,
        before: Entry,
        kind: str,
        body: Mapping[str, Any],
        *,
        at: Instant,
        slot: tuple[str, int] | None = None,
        purpose: str | None = None,
        signing_hash: str | None = None,
    ) -> Entry:
        """Write the entry that follows ``before``."""
        wallet_id, nonce = slot or (None, None)
        draft = Entry(
            seq=before.seq + 1,
            prev_hash=before.hash,
            hash="",
            kind=kind,
            text=canonical(dict(body)).decode("ascii"),
            at=at,
            wallet_id=wallet_id,
            nonce=nonce,
            purpose=purpose,
            signing_hash=signing_hash,
        )
        values = (draft.seq, draft.prev_hash, draft.digest(), kind, draft.text, at, *(slot or (None, None)))
        self.connection.execute(
            "INSERT INTO entry (seq, prev_hash, hash, kind, body, at, wallet_id, nonce, purpose, signing_hash)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, purpose, signing_hash),
        )
        return Entry(
            seq=draft.seq,
            prev_hash=draft.prev_hash,
            hash=values[2],
            kind=kind,
            text=draft.text,
            at=at,
            wallet_id=wallet_id,
            nonce=nonce,
            purpose=purpose,
            signing_hash=signing_hash,
        )

    def holds_what_is_said(self, entry: Entry) -> bool:
        """Tell whether the slot that a first attempt was written for still says the same."""
        said = entry.body.get("slot")
        if said is None:
            return True
        slot = self.slot(str(entry.wallet_id), int(entry.nonce or 0))
        return (
            slot is not None
            and slot.document() == said
            and (slot.transfer_id, slot.first_seq, slot.first_at) == (entry.body["transferId"], entry.seq, entry.at)
        )

    # --- freezes --------------------------------------------------------------------------------------------------

    def freezes(self) -> list[Freeze]:
        """Return what is stopped, oldest first."""
        query = "SELECT id, scope, subject, reason, at FROM freeze ORDER BY at, id"
        return [
            Freeze(id=row[0], scope=Scope(row[1]), subject=row[2], reason=row[3], at=row[4])
            for row in self.connection.execute(query)
        ]

    def add_freeze(self, freeze: Freeze) -> None:
        """Keep what is stopped."""
        self.connection.execute(
            "INSERT INTO freeze VALUES (?, ?, ?, ?, ?)",
            (freeze.id, freeze.scope.value, freeze.subject, freeze.reason, freeze.at),
        )

    def remove_freeze(self, freeze_id: str) -> None:
        """Let go what was stopped."""
        self.connection.execute("DELETE FROM freeze WHERE id = ?", (freeze_id,))

    # --- records and the pin --------------------------------------------------------------------------------------

    def records(self, *, after: int = -1, limit: int = -1) -> list[str]:
        """Return the texts of accepted records with a number above ``after``, in order; no limit if negative."""
        query = "SELECT document FROM record WHERE seq > ? ORDER BY seq LIMIT ?"
        return [row[0] for row in self.connection.execute(query, (after, limit))]

    def record_hash(self, seq: int) -> str | None:
        """Return the hash of an accepted record."""
        row = self.connection.execute("SELECT hash FROM record WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else str(row[0])

    def add_record(self, seq: int, hash: str, document: str) -> None:
        """Keep an accepted record."""
        self.connection.execute("INSERT INTO record VALUES (?, ?, ?)", (seq, hash, document))

    def was_made_seeded(self) -> bool:
        """Tell whether the journal was made together with its keys."""
        return bool(self.connection.execute("SELECT seeded FROM pin").fetchone()[0])


def _slot(row: Sequence[Any]) -> SlotRow:
    return SlotRow(
        wallet_id=row[0],
        nonce=row[1],
        network=row[2],
        fee_cap=int(row[3]),
        transfer_id=row[4],
        external_id=row[5],
        intent=None if row[6] is None else json.loads(row[6]),
        demand=row[7],
        first_seq=row[8],
        first_at=row[9],
    )
