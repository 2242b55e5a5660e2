"""The journal's file: one slot, one transfer, one externalId, for ever; and nothing is lost or edited unnoticed."""

import dataclasses
import sqlite3
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from outlay.core.errors import InvalidInput, InvariantBroken, SignerUnavailable
from outlay.signer import Freeze, Purpose, Scope
from outlay.signer.journal import GENESIS, Journal
from outlay.signer.journal_rows import ATTEMPT, FREEZE, Entry, KeyRow, Rows, SlotRow

ROOT, KEYSTORE = "a" * 64, "b" * 32


def key_row(wallet_id: str, index: int) -> KeyRow:
    """Return a key."""
    return KeyRow(
        wallet_id=wallet_id,
        index=index,
        reference=str(index),
        address=f"0x{index:040x}",
        public_key=f"{index:066x}",
    )


def write(rows: Rows, nonce: int, *, transfer: str | None = "xfr", purpose: str = "payout", **changes: Any) -> Entry:
    """Write an attempt for a slot of ``wa-1``, and the slot if it is the first."""
    wallet = changes.pop("wallet_id", "wa-1")
    before = rows.newest()
    body: dict[str, Any] = {"purpose": purpose, "transferId": None, "raw": "aa", "hash": f"0x{nonce}"}
    body |= {"gasLimit": 21000, "maxFeePerGas": "100", "maxPriorityFeePerGas": "1", "legacy": False, "nonce": nonce}
    if rows.slot(wallet, nonce) is None:
        named = None if transfer is None else f"{transfer}-{nonce}"
        slot = SlotRow(
            wallet_id=wallet,
            nonce=nonce,
            network="EthereumSepolia",
            fee_cap=10**7,
            transfer_id=named,
            external_id=named,
            intent=None if named is None else {"memo": "ü"},
            demand=None if named is None else "{}",
            first_seq=before.seq + 1,
            first_at=77,
        )
        rows.add_slot(slot, [f"challenge {wallet} {nonce}"])
        body |= {"slot": slot.document(), "transferId": named}
    signing_hash = changes.get("signing_hash", f"hash {nonce} {before.seq}")
    return rows.add_entry(
        before, ATTEMPT, body, at=77, slot=(wallet, nonce), purpose=purpose, signing_hash=signing_hash
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the journal is."""
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Journal:
    """Return a journal with two wallets."""
    journal = Journal.create(path, root=ROOT, keystore_id=KEYSTORE)
    with journal.unit() as rows:
        rows.add_key(key_row("wa-1", 0))
        rows.add_key(key_row("wa-2", 1))
    return journal


def reopen(path: Path) -> Journal:
    """Open the journal as a fresh process would."""
    return Journal.open(path, root=ROOT, keystore_id=KEYSTORE)


def fill(journal: Journal) -> list[Entry]:
    """Write three attempts and a freeze."""
    with journal.unit() as rows:
        entries = [write(rows, nonce) for nonce in range(3)]
        made = Freeze(id="frz-1", scope=Scope.ALL, subject="", reason="drill", at=78)
        entries.append(rows.add_entry(entries[-1], FREEZE, {"freezeId": made.id}, at=78))
        rows.add_freeze(made)
    return entries


def test_entries_survive_and_chain(journal: Journal, path: Path) -> None:
    written = fill(journal)
    other = reopen(path)
    with other.reading() as rows:
        entries = rows.entries()
        assert entries == written
        assert rows.entries(after=2, limit=5) == entries[2:]
        assert [each.seq for each in rows.entries_of("wa-1", 1)] == [2]
        assert [each.kind for each in entries] == [ATTEMPT] * 3 + [FREEZE]
        assert [each.subject for each in rows.freezes()] == [""]
        assert rows.slot_of_transfer("xfr-1") == ("wa-1", 1)
        assert rows.slot_of_transfer("xfr-9") is None
        assert rows.transfer_of("xfr-2") == "xfr-2"
        assert rows.is_used("challenge wa-1 2")
        assert not rows.is_used("challenge wa-1 3")
        assert (rows.highest_nonce("wa-1"), rows.highest_nonce("wa-2")) == (2, -1)
        slot = rows.slot("wa-1", 0)
        assert slot is not None
        assert (slot.intent, slot.demand, slot.fee_cap) == ({"memo": "ü"}, "{}", 10**7)
    assert entries[0].prev_hash == GENESIS
    assert [e.prev_hash for e in entries[1:]] == [e.hash for e in entries[:-1]]
    assert other.position() == (4, entries[-1].hash)
    assert other.verify() == other.verify(after=2) == entries[-1].hash


def test_an_attempt_is_read_back_as_it_was_written(journal: Journal) -> None:
    with journal.unit() as rows:
        attempt = write(rows, 5).attempt()
    assert (attempt.purpose, attempt.raw, attempt.max_fee_per_gas, attempt.at) == (Purpose.PAYOUT, b"\xaa", 100, 77)


def test_the_pin_is_kept(path: Path) -> None:
    Journal.create(path, root=ROOT, keystore_id=KEYSTORE, journal_id="mine", seeded=False).close()
    journal = Journal.open(path, keystore_id=KEYSTORE)
    assert (journal.root, journal.journal_id) == (ROOT, "mine")
    with journal.reading() as rows:
        assert not rows.was_made_seeded()


def test_every_journal_has_an_id_of_its_own(tmp_path: Path) -> None:
    made = [Journal.create(tmp_path / str(n), root=ROOT, keystore_id=KEYSTORE).journal_id for n in range(2)]
    assert made[0] != made[1]


@pytest.mark.parametrize(
    "insert",
    [
        "INSERT INTO slot VALUES ('wa-1', 0, 'n', '1', 'xfr-9', NULL, '{}', '{}', 9, 1)",
        "INSERT INTO slot VALUES ('wa-1', 9, 'n', '1', 'xfr-0', NULL, '{}', '{}', 9, 1)",
        "INSERT INTO slot VALUES ('wa-2', 9, 'n', '1', 'xfr-0', NULL, '{}', '{}', 9, 1)",
        "INSERT INTO slot VALUES ('wa-1', 9, 'n', '1', 'xfr-9', 'xfr-0', '{}', '{}', 9, 1)",
        "INSERT INTO slot VALUES ('wa-9', 9, 'n', '1', 'xfr-9', NULL, '{}', '{}', 9, 1)",
        "INSERT INTO slot VALUES ('wa-1', 9, 'n', '1', 'xfr-9', NULL, '{}', '{}', 1, 1)",
        "INSERT INTO slot VALUES ('wa-1', 9, 'n', '1', 'xfr-9', NULL, NULL, '{}', 9, 1)",
        "INSERT INTO slot VALUES ('wa-1', 9, 'n', '1', NULL, 'order', NULL, NULL, 9, 1)",
        "INSERT INTO used VALUES ('challenge wa-1 0', 'wa-1', 1)",
        "INSERT INTO used VALUES ('another', 'wa-1', 9)",
        "INSERT INTO key VALUES ('wa-3', 0, '3', '0x3', '3', NULL, 0)",
        "INSERT INTO key VALUES ('wa-3', 3, '0', '0x3', '3', NULL, 0)",
        "INSERT INTO key VALUES ('wa-3', 3, '3', '0x" + "0" * 40 + "', '3', NULL, 0)",
        "INSERT INTO pin VALUES (2, 2, 'r', 'k', 'j', 1)",
        "INSERT INTO freeze VALUES ('frz-2', 'all', '', 'r', 1)",
        "INSERT INTO entry SELECT 9, prev_hash, 'h', kind, body, at, wallet_id, nonce, purpose, 's' FROM entry"
        " WHERE seq = 1",
        "INSERT INTO entry SELECT 9, 'p', 'h', kind, body, at, wallet_id, nonce, purpose, signing_hash FROM entry"
        " WHERE seq = 1",
        "INSERT INTO entry VALUES (9, 'p', 'h', 'attempt', '{}', 1, 'wa-1', 9, 'payout', 's')",
        "INSERT INTO entry VALUES (9, 'p', 'h', 'attempt', '{}', 1, 'wa-1', 0, 'refill', 's')",
        "INSERT INTO entry VALUES (9, 'p', 'h', 'attempt', '{}', 1, NULL, NULL, NULL, NULL)",
        "INSERT INTO entry VALUES (9, 'p', 'h', 'other', '{}', 1, NULL, NULL, NULL, NULL)",
    ],
)
def test_the_file_itself_refuses_a_second_owner(journal: Journal, insert: str) -> None:
    fill(journal)
    with pytest.raises(sqlite3.IntegrityError):
        journal._connection.execute(insert)


def test_the_file_itself_refuses_a_payment_after_a_void(journal: Journal) -> None:
    with journal.unit() as rows:
        write(rows, 0)
        write(rows, 0, purpose="void")
        write(rows, 0, purpose="void")
        write(rows, 1, transfer=None, purpose="void")
    for nonce in (0, 1):
        with pytest.raises(SignerUnavailable, match="this slot was voided"), journal.unit() as rows:
            write(rows, nonce)


def test_two_wallets_may_sign_equal_transactions(journal: Journal) -> None:
    with journal.unit() as rows:
        write(rows, 0, signing_hash="same")
        write(rows, 0, signing_hash="same", wallet_id="wa-2", transfer="other")
    assert journal.position()[0] == 2


def test_fences_and_chains_never_go_back(journal: Journal) -> None:
    with journal.unit() as rows:
        rows.set_fence("wa-1", 5)
        rows.set_fence("wa-1", 4)
        rows.bind_chain("wa-1", 1)
        rows.bind_chain("wa-1", 2)
        known = rows.keys()["wa-1"]
    assert (known.fence, known.chain_id) == (5, 1)


def test_a_missing_journal_is_never_replaced_by_an_empty_one(path: Path) -> None:
    with pytest.raises(SignerUnavailable, match="never start with an empty one"):
        reopen(path)
    assert not path.exists()


def test_a_journal_is_never_overwritten(journal: Journal, path: Path) -> None:
    with pytest.raises(InvalidInput, match="never overwritten"):
        Journal.create(path, root=ROOT, keystore_id=KEYSTORE)
    with journal.reading() as rows:
        assert len(rows.keys()) == 2


@pytest.mark.parametrize("changes", [{"root": "c" * 64}, {"keystore_id": "c" * 32}])
def test_a_journal_belongs_to_one_organization_and_keystore(
    journal: Journal, path: Path, changes: dict[str, str]
) -> None:
    with pytest.raises(InvariantBroken, match="another organization or keystore"):
        Journal.open(path, **{"root": ROOT, "keystore_id": KEYSTORE, **changes})


@pytest.mark.parametrize("content", [b"", b"no database" * 100])
def test_a_file_that_is_no_journal_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(SignerUnavailable):
        reopen(path)


def test_only_the_owner_can_read_the_journal(journal: Journal, path: Path) -> None:
    fill(journal)
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE entry SET body = '{}' WHERE seq = 2",
        "UPDATE entry SET body = '{' WHERE seq = 2",
        "UPDATE entry SET body = replace(body, '100', '101') WHERE seq = 2",
        "UPDATE entry SET body = replace(body, 'aa', 'ab') WHERE seq = 2",
        "UPDATE entry SET kind = 'lifted', wallet_id = NULL, nonce = NULL, purpose = NULL, signing_hash = NULL"
        " WHERE seq = 2",
        "UPDATE entry SET signing_hash = 'x' WHERE seq = 2",
        "UPDATE entry SET purpose = 'void' WHERE seq = 2",
        "UPDATE entry SET wallet_id = 'wa-2' WHERE seq = 2",
        "UPDATE entry SET nonce = 9 WHERE seq = 2",
        "UPDATE entry SET at = 2 WHERE seq = 2",
        "UPDATE entry SET hash = 'x' WHERE seq = 3",
        "DELETE FROM entry WHERE seq = 2",
        "DELETE FROM entry WHERE seq = 1",
        "UPDATE entry SET seq = 9 WHERE seq = 3",
        "UPDATE slot SET transfer_id = 'xfr-9' WHERE nonce = 1",
        "UPDATE slot SET external_id = 'order 9' WHERE nonce = 1",
        "UPDATE slot SET external_id = NULL WHERE nonce = 1",
        "UPDATE slot SET fee_cap = '1' WHERE nonce = 1",
        "UPDATE slot SET network = 'Base' WHERE nonce = 1",
        "UPDATE slot SET intent = '{}' WHERE nonce = 1",
        "UPDATE slot SET demand = '[]' WHERE nonce = 1",
        "UPDATE slot SET first_at = 1 WHERE nonce = 1",
        "UPDATE slot SET nonce = 9 WHERE nonce = 1",
        "DELETE FROM slot WHERE nonce = 1",
    ],
)
def test_an_edited_or_lost_entry_shows_when_the_journal_opens(journal: Journal, path: Path, damage: str) -> None:
    fill(journal)
    journal._connection.execute("PRAGMA foreign_keys = OFF")
    assert journal._connection.execute(damage).rowcount == 1
    journal.close()
    with pytest.raises(InvariantBroken, match="journal"):
        reopen(path)


@pytest.mark.parametrize(("seq", "change"), [(2, {"nonce": 9}), (4, {"seq": 9})])
def test_an_entry_rewritten_with_its_hash_still_shows(
    journal: Journal, path: Path, seq: int, change: dict[str, int]
) -> None:
    forged = dataclasses.replace(fill(journal)[seq - 1], **change)  # type: ignore[arg-type]
    journal._connection.execute("PRAGMA foreign_keys = OFF")
    journal._connection.execute(
        "UPDATE entry SET seq = ?, nonce = ?, hash = ? WHERE seq = ?", (forged.seq, forged.nonce, forged.digest(), seq)
    )
    journal.close()
    with pytest.raises(InvariantBroken, match="does not fit"):
        reopen(path)


def test_a_second_writer_waits_and_sees_what_the_first_wrote(journal: Journal, path: Path) -> None:
    other, seen, started = reopen(path), [], threading.Event()

    def look() -> None:
        started.set()
        with other.unit() as rows:
            seen.append(rows.newest().seq)

    thread = threading.Thread(target=look)
    with journal.unit() as rows:
        write(rows, 0)
        thread.start()
        started.wait(5)
        time.sleep(0.05)
    thread.join()
    assert seen == [1]


def test_what_another_connection_wrote_shows_in_the_version(journal: Journal, path: Path) -> None:
    with journal.unit() as rows:
        first = rows.version()
        write(rows, 0)
    with journal.reading() as rows:
        assert rows.version() == first
    with reopen(path).unit() as rows:
        write(rows, 1)
    with journal.reading() as rows:
        assert rows.version() != first


def test_a_unit_that_fails_leaves_nothing(journal: Journal) -> None:
    for problem in (InvalidInput("stop"), KeyboardInterrupt()):
        with pytest.raises(type(problem)), journal.unit() as rows:
            write(rows, 0)
            raise problem
    with pytest.raises((SignerUnavailable, OverflowError)), journal.unit() as rows:
        write(rows, 0)
        write(rows, 2**63)
    assert journal.position()[0] == 0
    fill(journal)


def test_commits_are_durable_at_once(journal: Journal) -> None:
    pragma = {
        name: journal._connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys")
    }
    assert pragma == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
