"""The signer's journal: what was ever signed, stopped and accepted, in a SQLite file that only the signer writes.

It keeps true, by constraints of the file as well as by checks: a slot (wallet and nonce) belongs to one transfer for
ever, a transfer to one slot, an ``externalId`` and each signed call to one transfer, a wallet to one chain; nothing is
paid from a slot that was voided. Entries are chained by hash, so that a lost or edited entry shows. A signature is in
the file before anybody sees it.

The tables are kept by ``journal_rows``; this module opens, binds and checks the file.
"""

import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from outlay.core.errors import InvalidInput, InvariantBroken, SignerUnavailable
from outlay.signer.journal_rows import GENESIS, SCHEMA, VERSION, Rows

__all__ = ["GENESIS", "Journal"]

_TAIL: Final = 1000


class Journal:
    """An open journal. Its methods block and may be called from any thread."""

    def __init__(self, connection: sqlite3.Connection, *, root: str, keystore_id: str, journal_id: str) -> None:
        """Wrap an open file; use ``create`` or ``open``."""
        self.root = root
        self.keystore_id = keystore_id
        self.journal_id = journal_id
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def create(
        cls, path: Path, *, root: str, keystore_id: str, journal_id: str | None = None, seeded: bool = True
    ) -> "Journal":
        """Make an empty journal, bound to an organization and to a keystore.

        Args:
            path: file to make, with mode 0600.
            root: fingerprint of the organization's genesis.
            keystore_id: the keystore whose signatures it records.
            journal_id: what a record names to put it in place after another was lost; unpredictable unless given.
            seeded: True only where nothing can have been signed before: when the keystore is made too.

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
        named = journal_id or secrets.token_hex(16)
        journal = cls(_connect(path), root=root, keystore_id=keystore_id, journal_id=named)
        with journal.unit() as rows:
            for statement in SCHEMA:
                rows.connection.execute(statement)
            pin = (VERSION, root, keystore_id, named, seeded)
            rows.connection.execute("INSERT INTO pin VALUES (1, ?, ?, ?, ?, ?)", pin)
        return journal

    @classmethod
    def open(cls, path: Path, *, keystore_id: str, root: str | None = None) -> "Journal":
        """Open an existing journal and check its end.

        A missing journal is never replaced by an empty one: the signer would forget what it has paid.

        Args:
            path: of the file.
            keystore_id: of the keys that will be signed with.
            root: fingerprint it must be bound to; None: whichever it was made for.

        Raises:
            SignerUnavailable: missing, unreadable, or of another version.
            InvariantBroken: it belongs to another organization or keystore, or its newest entries do not chain.
        """
        if not path.is_file():
            raise SignerUnavailable(f"the journal {path.name} is missing: restore it, never start with an empty one")
        connection = _connect(path)
        try:
            version = connection.execute("SELECT version FROM pin").fetchone()
            if version != (VERSION,):
                raise SignerUnavailable("the journal is of a version this program cannot open")
            pin = connection.execute("SELECT root, keystore_id, journal_id FROM pin").fetchone()
            if pin[:2] != (root or pin[0], keystore_id):
                raise InvariantBroken("the journal belongs to another organization or keystore")
            journal = cls(connection, root=pin[0], keystore_id=keystore_id, journal_id=pin[2])
            journal.verify(after=max(0, journal.position()[0] - _TAIL))
        except sqlite3.Error as error:
            connection.close()
            raise SignerUnavailable(f"the journal cannot be read: {error}") from None
        except BaseException:
            connection.close()
            raise
        return journal

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def unit(self) -> Iterator[Rows]:
        """Run statements as one durable unit: after it, they survive a power loss.

        Raises:
            SignerUnavailable: SQLite refused; nothing of the unit may be relied on.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield Rows(self._connection)
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                raise SignerUnavailable(f"the journal cannot be written: {error}") from error
            except BaseException:
                self._roll_back()
                raise

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        """Run statements that change nothing.

        Raises:
            SignerUnavailable: the journal cannot be read.
        """
        with self._lock:
            try:
                yield Rows(self._connection)
            except sqlite3.Error as error:
                raise SignerUnavailable(f"the journal cannot be read: {error}") from error

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            # The unit is already given up; the next BEGIN reports a connection that stays broken.
            return

    def position(self) -> tuple[int, str]:
        """Return number and hash of the newest entry; (0, ``GENESIS``) if there is none.

        Raises:
            SignerUnavailable: the journal cannot be read.
        """
        with self.reading() as rows:
            newest = rows.newest()
        return newest.seq, newest.hash

    def verify(self, *, after: int = 0) -> str:
        """Check that the entries that follow number ``after`` chain without gap; return the newest hash.

        Raises:
            InvariantBroken: an entry, or the slot it was written for, was changed or is missing.
            SignerUnavailable: the journal cannot be read.
        """
        with self.reading() as rows:
            seq, head = 0, GENESIS
            for before in rows.entries(after=after - 1, limit=1) if after else []:
                seq, head = before.seq, before.hash
            while page := rows.entries(after=seq):
                for entry in page:
                    chained = entry.seq == seq + 1 and entry.prev_hash == head
                    if not chained or entry.digest() != entry.hash or not rows.holds_what_is_said(entry):
                        raise InvariantBroken(f"entry {entry.seq} of the signer's journal does not fit the one before")
                    seq, head = entry.seq, entry.hash
        return head


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
