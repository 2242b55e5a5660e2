"""The signer's journal: what was ever signed, in a SQLite file of its own that only the signer writes.

It keeps true, by constraints of the file as well as by checks: a slot (wallet and nonce) belongs to one
transfer for ever, a transfer to one slot, an ``externalId`` to one transfer, a wallet to one chain. Entries
are chained by hash, so that a lost or edited entry shows. An entry is on disk before its signature exists.
"""

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from outlay.core.errors import InvalidInput, InvariantBroken, SignerRefused, SignerUnavailable
from outlay.core.seams import Instant
from outlay.evidence.canonical import canonical, digest

VERSION: Final = 1
GENESIS: Final = "0" * 64
"""What the first entry names as the hash before it."""

Derive = Callable[[int], tuple[str, str]]
"""Returns address and public key (hex) of a wallet index."""

_TAIL: Final = 1000

_SCHEMA = """
CREATE TABLE pin (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL,
    root TEXT NOT NULL,
    keystore_id TEXT NOT NULL
) STRICT;
CREATE TABLE key (
    wallet_id TEXT PRIMARY KEY,
    key_index INTEGER NOT NULL UNIQUE CHECK (key_index >= 0),
    address TEXT NOT NULL UNIQUE,
    public_key TEXT NOT NULL,
    chain_id INTEGER
) STRICT;
CREATE TABLE slot (
    wallet_id TEXT NOT NULL REFERENCES key (wallet_id),
    nonce INTEGER NOT NULL CHECK (nonce >= 0),
    transfer_id TEXT NOT NULL UNIQUE,
    external_id TEXT UNIQUE,
    intent_digest TEXT NOT NULL,
    fee_cap TEXT NOT NULL,
    PRIMARY KEY (wallet_id, nonce)
) STRICT;
CREATE TABLE entry (
    seq INTEGER PRIMARY KEY CHECK (seq >= 1),
    prev_hash TEXT NOT NULL UNIQUE,
    hash TEXT NOT NULL UNIQUE,
    transfer_id TEXT NOT NULL REFERENCES slot (transfer_id),
    intent_digest TEXT NOT NULL,
    external_id TEXT,
    wallet_id TEXT NOT NULL,
    nonce INTEGER NOT NULL,
    signing_hash TEXT NOT NULL,
    fields TEXT NOT NULL,
    at INTEGER NOT NULL,
    -- Two wallets may well sign equal transactions: the signing hash does not name the payer.
    UNIQUE (wallet_id, signing_hash),
    FOREIGN KEY (wallet_id, nonce) REFERENCES slot (wallet_id, nonce)
) STRICT;
CREATE INDEX entry_transfer ON entry (transfer_id);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """Which key a wallet has."""

    wallet_id: str
    index: int  #: wallet index under the master secret
    address: str
    public_key: str  #: compressed point, hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One transaction about to be signed."""

    transfer_id: str
    wallet_id: str
    chain_id: int
    nonce: int
    external_id: str | None
    intent_digest: str
    gas_limit: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int
    fee_cap: int  #: wei
    signing_hash: str  #: hex of the 32 bytes that will be signed; it fixes the transaction entirely
    fields: dict[str, Any]  #: the intent and the transaction's numbers as text: enough to build it again


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the journal."""

    seq: int
    prev_hash: str
    hash: str
    transfer_id: str
    intent_digest: str
    external_id: str | None
    wallet_id: str
    nonce: int
    signing_hash: str
    fields: dict[str, Any]
    at: Instant

    def document(self) -> dict[str, Any]:
        """Return what ``hash`` is the digest of."""
        return {
            "v": VERSION,
            "seq": self.seq,
            "prev": self.prev_hash,
            "transferId": self.transfer_id,
            "intentDigest": self.intent_digest,
            "externalId": self.external_id,
            "walletId": self.wallet_id,
            "nonce": self.nonce,
            "signingHash": self.signing_hash,
            "fields": self.fields,
            "at": self.at,
        }


class Journal:
    """An open journal. Its methods block and may be called from any thread."""

    def __init__(self, connection: sqlite3.Connection, *, root: str, keystore_id: str) -> None:
        """Wrap an open file; use ``create`` or ``open``."""
        self.root = root
        self.keystore_id = keystore_id
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: Path, *, root: str, keystore_id: str) -> "Journal":
        """Make an empty journal, bound to an organization and to a keystore.

        Args:
            path: file to make, with mode 0600.
            root: fingerprint of the organization's genesis.
            keystore_id: the keystore whose signatures it records.

        Raises:
            InvalidInput: the file exists.
            SignerUnavailable: it cannot be written.
        """
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            raise InvalidInput(f"{path.name} exists: a journal is never overwritten", field="path") from None
        except OSError as error:
            raise SignerUnavailable(f"the journal cannot be written: {error.strerror}") from None
        journal = cls(_connect(path), root=root, keystore_id=keystore_id)
        with journal._unit() as connection:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute("INSERT INTO pin VALUES (1, ?, ?, ?)", (VERSION, root, keystore_id))
        return journal

    @classmethod
    def open(cls, path: Path, *, root: str, keystore_id: str) -> "Journal":
        """Open an existing journal and check its end.

        A missing journal is never replaced by an empty one: the signer would forget what it has paid.

        Raises:
            SignerUnavailable: missing, unreadable, or of another version.
            InvariantBroken: it belongs to another organization or keystore, or its newest entries do not chain.
        """
        if not path.is_file():
            raise SignerUnavailable(f"the journal {path.name} is missing: restore it, never start with an empty one")
        journal = cls(_connect(path), root=root, keystore_id=keystore_id)
        try:
            row = journal._connection.execute("SELECT version, root, keystore_id FROM pin").fetchone()
        except sqlite3.Error as error:
            journal.close()
            raise SignerUnavailable(f"the journal cannot be read: {error}") from None
        if row is None or row[0] != VERSION:
            journal.close()
            raise SignerUnavailable("the journal is of a version this program cannot open")
        if (row[1], row[2]) != (root, keystore_id):
            journal.close()
            raise InvariantBroken("the journal belongs to another organization or keystore")
        try:
            journal.verify(after=max(0, journal.position()[0] - _TAIL))
        except InvariantBroken:
            journal.close()
            raise
        return journal

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _unit(self) -> Iterator[sqlite3.Connection]:
        """Run statements as one durable unit: after it, they survive a power loss.

        Raises:
            SignerUnavailable: SQLite refused; nothing of the unit may be relied on.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                raise SignerUnavailable(f"the journal cannot be written: {error}") from error
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            # The unit is already given up; the next BEGIN reports a connection that stays broken.
            return

    def allocate(self, wallet_id: str, derive: Derive) -> KeyRow:
        """Return the wallet's key, giving it the next free index on the first call.

        Args:
            wallet_id: the wallet.
            derive: returns (address, public key hex) of an index.

        Raises:
            SignerUnavailable: the journal cannot be written.
        """
        with self._unit() as connection:
            row = _key_row(connection, wallet_id)
            if row is None:
                (index,) = connection.execute("SELECT coalesce(max(key_index) + 1, 0) FROM key").fetchone()
                address, public_key = derive(index)
                connection.execute(
                    "INSERT INTO key (wallet_id, key_index, address, public_key) VALUES (?, ?, ?, ?)",
                    (wallet_id, index, address, public_key),
                )
                row = KeyRow(wallet_id=wallet_id, index=index, address=address, public_key=public_key)
        return row

    def keys(self, wallet_ids: Sequence[str]) -> dict[str, KeyRow]:
        """Return the key of each wallet that has one.

        Raises:
            SignerUnavailable: the journal cannot be read.
        """
        with self._reading() as connection:
            rows = {wallet_id: _key_row(connection, wallet_id) for wallet_id in set(wallet_ids)}
        return {wallet_id: row for wallet_id, row in rows.items() if row is not None}

    def append(self, attempts: Sequence[Attempt], now: Instant) -> list[SignerRefused | None]:
        """Record what is about to be signed, all in one durable unit; return None or the refusal of each.

        An attempt that is already recorded is not recorded again. Attempts see those before them.

        Raises:
            SignerUnavailable: the journal cannot be written; sign nothing.
        """
        outcomes: list[SignerRefused | None] = []
        with self._unit() as connection:
            seq, head = _position(connection)
            for attempt in attempts:
                refusal = _conflict(connection, attempt)
                outcomes.append(refusal)
                if refusal is None and not _recorded(connection, attempt):
                    seq, head = _write(connection, attempt, seq + 1, head, now)
        return outcomes

    def holds(self, transfer_ids: Sequence[str]) -> frozenset[str]:
        """Return which of these transfers have an entry.

        Raises:
            SignerUnavailable: the journal cannot be read.
        """
        with self._reading() as connection:
            query = "SELECT 1 FROM slot WHERE transfer_id = ?"
            return frozenset(t for t in set(transfer_ids) if connection.execute(query, (t,)).fetchone())

    def position(self) -> tuple[int, str]:
        """Return number and hash of the newest entry; (0, ``GENESIS``) if there is none.

        Raises:
            SignerUnavailable: the journal cannot be read.
        """
        with self._reading() as connection:
            return _position(connection)

    def key_count(self) -> int:
        """Return how many wallets have a key.

        Raises:
            SignerUnavailable: the journal cannot be read.
        """
        with self._reading() as connection:
            count: int = connection.execute("SELECT count(*) FROM key").fetchone()[0]
            return count

    def entries(self, *, after: int = 0, limit: int = 1000) -> list[Entry]:
        """Return up to ``limit`` entries that follow entry number ``after``, oldest first.

        Raises:
            SignerUnavailable: the journal cannot be read.
        """
        query = (
            "SELECT seq, prev_hash, hash, transfer_id, intent_digest, external_id, wallet_id, nonce,"
            " signing_hash, fields, at FROM entry WHERE seq > ? ORDER BY seq LIMIT ?"
        )
        with self._reading() as connection:
            return [_entry(row) for row in connection.execute(query, (after, limit))]

    def verify(self, *, after: int = 0) -> str:
        """Check that the entries that follow number ``after`` chain without gap; return the newest hash.

        Raises:
            InvariantBroken: an entry was changed or is missing.
            SignerUnavailable: the journal cannot be read.
        """
        seq, head = 0, GENESIS
        for before in self.entries(after=after - 1, limit=1) if after else []:
            seq, head = before.seq, before.hash
        while page := self.entries(after=seq):
            for entry in page:
                chained = entry.seq == seq + 1 and entry.prev_hash == head
                if not chained or digest(entry.document()) != entry.hash:
                    raise InvariantBroken(f"entry {entry.seq} of the signer's journal does not fit the one before")
                seq, head = entry.seq, entry.hash
        return head

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise SignerUnavailable(f"the journal cannot be read: {error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    try:
        # mode=rw: a file that vanished meanwhile is an error, not an empty journal.
        connection = sqlite3.connect(
            path.resolve().as_uri() + "?mode=rw",
            uri=True,
            timeout=10.0,
            isolation_level=None,
            check_same_thread=False,
        )
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "fullfsync = ON", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")
        return connection
    except sqlite3.Error as error:
        raise SignerUnavailable(f"the journal cannot be opened: {error}") from error


def _key_row(connection: sqlite3.Connection, wallet_id: str) -> KeyRow | None:
    query = "SELECT key_index, address, public_key FROM key WHERE wallet_id = ?"
    row = connection.execute(query, (wallet_id,)).fetchone()
    return None if row is None else KeyRow(wallet_id=wallet_id, index=row[0], address=row[1], public_key=row[2])


def _position(connection: sqlite3.Connection) -> tuple[int, str]:
    row = connection.execute("SELECT seq, hash FROM entry ORDER BY seq DESC LIMIT 1").fetchone()
    return (0, GENESIS) if row is None else (row[0], row[1])


def _entry(row: Sequence[Any]) -> Entry:
    try:
        fields = json.loads(row[9])
    except ValueError:
        raise InvariantBroken(f"entry {row[0]} of the signer's journal is damaged") from None
    return Entry(
        seq=row[0],
        prev_hash=row[1],
        hash=row[2],
        transfer_id=row[3],
        intent_digest=row[4],
        external_id=row[5],
        wallet_id=row[6],
        nonce=row[7],
        signing_hash=row[8],
        fields=fields,
        at=row[10],
    )


def _conflict(connection: sqlite3.Connection, attempt: Attempt) -> SignerRefused | None:
    """Return why the attempt contradicts the journal, or None."""
    key = connection.execute("SELECT chain_id FROM key WHERE wallet_id = ?", (attempt.wallet_id,)).fetchone()
    if key is None:
        return SignerRefused(f"wallet {attempt.wallet_id} has no key here")
    if key[0] not in (None, attempt.chain_id):
        return SignerRefused(f"wallet {attempt.wallet_id} has signed for chain {key[0]}: it pays on no other")
    query = (
        "SELECT wallet_id, nonce, transfer_id, external_id, intent_digest, fee_cap FROM slot"
        " WHERE (wallet_id = ? AND nonce = ?) OR transfer_id = ? OR (external_id IS NOT NULL AND external_id = ?)"
    )
    names = (attempt.wallet_id, attempt.nonce, attempt.transfer_id, attempt.external_id)
    slots = connection.execute(query, names).fetchall()
    for wallet_id, nonce, transfer_id, external_id, intent_digest, fee_cap in slots:
        if transfer_id != attempt.transfer_id:
            shared = "slot" if (wallet_id, nonce) == names[:2] else "externalId"
            return SignerRefused(f"this {shared} was signed for transfer {transfer_id}")
        if (wallet_id, nonce) != names[:2]:
            return SignerRefused(f"transfer {transfer_id} was signed at nonce {nonce} of wallet {wallet_id}")
        if (intent_digest, external_id) != (attempt.intent_digest, attempt.external_id):
            return SignerRefused(f"transfer {transfer_id} was signed with another intent")
        if attempt.fee_cap > int(fee_cap):
            return SignerRefused(f"the fee cap of transfer {transfer_id} was frozen at {fee_cap}")
    return _fee_conflict(connection, attempt) if slots else None


def _fee_conflict(connection: sqlite3.Connection, attempt: Attempt) -> SignerRefused | None:
    """Return why a further attempt for the same slot is neither a repetition nor a fee bump, or None."""
    if _recorded(connection, attempt):
        return None
    query = "SELECT fields FROM entry WHERE transfer_id = ?"
    for (text,) in connection.execute(query, (attempt.transfer_id,)):
        before = json.loads(text)
        if attempt.gas_limit != int(before["gasLimit"]):
            return SignerRefused(f"a fee bump of transfer {attempt.transfer_id} keeps the gas limit")
        raised = (
            attempt.max_fee_per_gas > int(before["maxFeePerGas"]),
            attempt.max_priority_fee_per_gas > int(before["maxPriorityFeePerGas"]),
        )
        if not all(raised):
            return SignerRefused(f"a fee bump of transfer {attempt.transfer_id} raises both fees")
    return None


def _recorded(connection: sqlite3.Connection, attempt: Attempt) -> bool:
    query = "SELECT 1 FROM entry WHERE wallet_id = ? AND signing_hash = ?"
    return connection.execute(query, (attempt.wallet_id, attempt.signing_hash)).fetchone() is not None


def _write(connection: sqlite3.Connection, attempt: Attempt, seq: int, prev_hash: str, now: Instant) -> tuple[int, str]:
    """Write slot and entry; return the new position."""
    claim = (
        "INSERT INTO slot (wallet_id, nonce, transfer_id, external_id, intent_digest, fee_cap)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (wallet_id, nonce) DO NOTHING"
    )
    names = (attempt.wallet_id, attempt.nonce, attempt.transfer_id, attempt.external_id)
    connection.execute(claim, (*names, attempt.intent_digest, str(attempt.fee_cap)))
    bind = "UPDATE key SET chain_id = ? WHERE wallet_id = ? AND chain_id IS NULL"
    connection.execute(bind, (attempt.chain_id, attempt.wallet_id))
    draft = Entry(
        seq=seq,
        prev_hash=prev_hash,
        hash="",
        transfer_id=attempt.transfer_id,
        intent_digest=attempt.intent_digest,
        external_id=attempt.external_id,
        wallet_id=attempt.wallet_id,
        nonce=attempt.nonce,
        signing_hash=attempt.signing_hash,
        fields=attempt.fields,
        at=now,
    )
    head = digest(draft.document())
    connection.execute(
        "INSERT INTO entry (seq, prev_hash, hash, transfer_id, intent_digest, external_id, wallet_id, nonce,"
        " signing_hash, fields, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            seq,
            prev_hash,
            head,
            attempt.transfer_id,
            attempt.intent_digest,
            attempt.external_id,
            attempt.wallet_id,
            attempt.nonce,
            attempt.signing_hash,
            canonical(attempt.fields).decode("ascii"),
            now,
        ),
    )
    return seq, head
