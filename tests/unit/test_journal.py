"""The journal: one slot, one transfer, one externalId, for ever; and nothing is lost or edited unnoticed."""

import dataclasses
import sqlite3
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from outlay.core.errors import InvalidInput, InvariantBroken, SignerUnavailable
from outlay.evidence.canonical import digest
from outlay.signer.journal import GENESIS, Attempt, Journal

ROOT, KEYSTORE, CHAIN = "a" * 64, "b" * 32, 31337


def derive(index: int) -> tuple[str, str]:
    """Stand in for a keystore."""
    return "0x" + f"{index:040x}", f"{index:066x}"


def make_attempt(**changes: Any) -> Attempt:
    """Return a good attempt with some members changed; its signing hash follows from its content."""
    members: dict[str, Any] = {
        "transfer_id": "xfr-1",
        "wallet_id": "wa-1",
        "chain_id": CHAIN,
        "nonce": 0,
        "external_id": "order 1",
        "intent_digest": "d1",
        "gas_limit": 21000,
        "max_fee_per_gas": 100,
        "max_priority_fee_per_gas": 10,
        "fee_cap": 10_000_000,
        **changes,
    }
    content = [members[name] for name in ("nonce", "intent_digest", "gas_limit", "max_fee_per_gas")]
    members.setdefault("signing_hash", repr([*content, members["max_priority_fee_per_gas"]]))
    members["fields"] = {
        "intent": {"memo": "ü"},
        "gasLimit": str(members["gas_limit"]),
        "maxFeePerGas": str(members["max_fee_per_gas"]),
        "maxPriorityFeePerGas": str(members["max_priority_fee_per_gas"]),
    }
    return Attempt(**members)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the journal is."""
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Journal:
    """Return a journal with two wallets."""
    journal = Journal.create(path, root=ROOT, keystore_id=KEYSTORE)
    for wallet_id in ("wa-1", "wa-2"):
        journal.allocate(wallet_id, derive)
    return journal


def reopen(path: Path) -> Journal:
    """Open the journal as a fresh process would."""
    return Journal.open(path, root=ROOT, keystore_id=KEYSTORE)


def refusal(journal: Journal, attempt: Attempt) -> str:
    """Append one attempt and return the refusal's message; empty if it was recorded."""
    (outcome,) = journal.append([attempt], 1)
    return "" if outcome is None else outcome.message


def test_keys_are_allocated_once_and_in_order(journal: Journal, path: Path) -> None:
    again = journal.allocate("wa-2", derive)
    assert (again.index, again.address) == (1, derive(1)[0])
    assert reopen(path).allocate("wa-2", derive) == again
    assert reopen(path).allocate("wa-3", derive).index == 2
    assert {k: v.index for k, v in journal.keys(["wa-1", "wa-9", "wa-3"]).items()} == {"wa-1": 0, "wa-3": 2}
    assert journal.key_count() == 3


def test_parallel_allocations_of_one_wallet_make_one_key(path: Path) -> None:
    Journal.create(path, root=ROOT, keystore_id=KEYSTORE).close()
    journals = [reopen(path) for _ in range(4)]
    rows = []
    threads = [
        threading.Thread(target=lambda j=journal, w=f"wa-{n}": rows.append(j.allocate(w, derive)))
        for journal in journals
        for n in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows) == 20
    assert len({(row.wallet_id, row.index) for row in rows}) == 5
    assert {row.index for row in rows} == set(range(5))


def test_entries_survive_and_chain(journal: Journal, path: Path) -> None:
    attempts = [
        make_attempt(),
        make_attempt(transfer_id="xfr-2", nonce=1, external_id=None),
        make_attempt(transfer_id="xfr-3", nonce=2, external_id=None),
    ]
    assert journal.append(attempts, 77) == [None, None, None]
    other = reopen(path)
    entries = other.entries()
    assert [entry.seq for entry in entries] == [1, 2, 3]
    assert [entry.transfer_id for entry in entries] == ["xfr-1", "xfr-2", "xfr-3"]
    assert entries[0].prev_hash == GENESIS
    assert [e.prev_hash for e in entries[1:]] == [e.hash for e in entries[:2]]
    assert entries[0].at == 77
    assert entries[0].fields == attempts[0].fields
    assert other.position() == (3, entries[-1].hash)
    assert other.verify() == other.verify(after=2) == entries[-1].hash
    assert other.entries(after=2, limit=5) == entries[2:]
    assert other.holds(["xfr-2", "xfr-9"]) == {"xfr-2"}


def test_the_same_attempt_again_adds_nothing(journal: Journal) -> None:
    assert journal.append([make_attempt(), make_attempt()], 1) == [None, None]
    before = journal.position()
    assert refusal(journal, make_attempt()) == ""
    assert journal.position() == before
    assert before[0] == 1


CONFLICTS: list[tuple[dict[str, Any], str]] = [
    ({"transfer_id": "xfr-2", "external_id": None}, "slot was signed for transfer xfr-1"),
    ({"transfer_id": "xfr-2", "external_id": None, "intent_digest": "d2"}, "slot was signed"),
    ({"nonce": 1}, "signed at nonce 0"),
    ({"wallet_id": "wa-2"}, "signed at nonce 0 of wallet wa-1"),
    ({"intent_digest": "d2"}, "another intent"),
    ({"external_id": "order 2"}, "another intent"),
    ({"external_id": None}, "another intent"),
    ({"transfer_id": "xfr-2", "nonce": 1}, "externalId was signed for transfer xfr-1"),
    ({"transfer_id": "xfr-2", "nonce": 1, "intent_digest": "d2"}, "externalId was signed"),
    ({"transfer_id": "xfr-2", "wallet_id": "wa-2"}, "externalId was signed"),
    ({"chain_id": 1}, "has signed for chain 31337"),
    ({"transfer_id": "xfr-2", "nonce": 1, "external_id": None, "chain_id": 1}, "has signed for chain"),
    ({"transfer_id": "xfr-2", "wallet_id": "wa-9", "external_id": None}, "has no key"),
    ({"max_fee_per_gas": 101}, "raises both fees"),
    ({"max_priority_fee_per_gas": 11}, "raises both fees"),
    ({"max_fee_per_gas": 99, "max_priority_fee_per_gas": 11}, "raises both fees"),
    ({"max_fee_per_gas": 99, "max_priority_fee_per_gas": 9}, "raises both fees"),
    ({"gas_limit": 21001, "max_fee_per_gas": 101, "max_priority_fee_per_gas": 11}, "keeps the gas limit"),
    ({"fee_cap": 10_000_001}, "frozen at 10000000"),
    ({"fee_cap": 10_000_001, "max_fee_per_gas": 101, "max_priority_fee_per_gas": 11}, "frozen"),
]


@pytest.mark.parametrize(("changes", "message"), CONFLICTS)
def test_what_contradicts_an_entry_is_refused(journal: Journal, changes: dict[str, Any], message: str) -> None:
    assert refusal(journal, make_attempt()) == ""
    assert message in refusal(journal, make_attempt(**changes))
    assert journal.position()[0] == 1


@pytest.mark.parametrize(("changes", "message"), CONFLICTS)
def test_contradictions_inside_one_batch_are_refused_and_harm_no_neighbour(
    journal: Journal, changes: dict[str, Any], message: str
) -> None:
    last = make_attempt(transfer_id="xfr-7", nonce=7, external_id="order 7")
    first, second, third = journal.append([make_attempt(), make_attempt(**changes), last], 1)
    assert (first, third) == (None, None)
    assert second is not None
    assert message in second.message
    assert [entry.transfer_id for entry in journal.entries()] == ["xfr-1", "xfr-7"]


def test_a_fee_bump_is_journaled_and_all_attempts_stay_valid(journal: Journal) -> None:
    bump = {"max_fee_per_gas": 113, "max_priority_fee_per_gas": 12}
    second = {"max_fee_per_gas": 128, "max_priority_fee_per_gas": 14}
    for changes in ({}, bump, second, bump, {}):
        assert refusal(journal, make_attempt(**changes)) == ""
    assert [entry.fields["maxFeePerGas"] for entry in journal.entries()] == ["100", "113", "128"]
    between = {"max_fee_per_gas": 120, "max_priority_fee_per_gas": 13}
    assert "raises both fees" in refusal(journal, make_attempt(**between))


def test_two_wallets_may_sign_equal_transactions(journal: Journal) -> None:
    twin = make_attempt(transfer_id="xfr-2", wallet_id="wa-2", external_id=None)
    assert twin.signing_hash == make_attempt().signing_hash
    assert journal.append([make_attempt(), twin], 1) == [None, None]
    assert journal.position()[0] == 2


def test_transfers_without_external_id_do_not_meet(journal: Journal) -> None:
    attempts = [make_attempt(transfer_id=f"xfr-{n}", nonce=n, external_id=None) for n in range(3)]
    assert journal.append(attempts, 1) == [None, None, None]


@pytest.mark.parametrize(
    "insert",
    [
        "INSERT INTO slot VALUES ('wa-1', 0, 'xfr-2', NULL, 'd', '1')",
        "INSERT INTO slot VALUES ('wa-1', 1, 'xfr-1', NULL, 'd', '1')",
        "INSERT INTO slot VALUES ('wa-1', 1, 'xfr-2', 'order 1', 'd', '1')",
        "INSERT INTO slot VALUES ('wa-9', 1, 'xfr-2', NULL, 'd', '1')",
        "INSERT INTO key VALUES ('wa-3', 0, '0x3', '3', NULL)",
        "INSERT INTO key VALUES ('wa-3', 3, '0x" + "0" * 40 + "', '3', NULL)",
        "INSERT INTO pin VALUES (2, 1, 'r', 'k')",
        "INSERT INTO entry SELECT 2, prev_hash, 'h', transfer_id, intent_digest, external_id, wallet_id, nonce,"
        " 's', fields, at FROM entry",
    ],
)
def test_the_file_itself_refuses_a_second_owner(journal: Journal, insert: str) -> None:
    assert refusal(journal, make_attempt()) == ""
    with pytest.raises(sqlite3.IntegrityError):
        journal._connection.execute(insert)


def test_a_missing_journal_is_never_replaced_by_an_empty_one(path: Path) -> None:
    with pytest.raises(SignerUnavailable, match="never start with an empty one"):
        reopen(path)
    assert not path.exists()


def test_a_journal_is_never_overwritten(journal: Journal, path: Path) -> None:
    with pytest.raises(InvalidInput, match="never overwritten"):
        Journal.create(path, root=ROOT, keystore_id=KEYSTORE)
    assert journal.key_count() == 2


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
    journal.append([make_attempt()], 1)
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE entry SET transfer_id = 'xfr-2' WHERE seq = 2",
        "UPDATE entry SET fields = '{}' WHERE seq = 2",
        "UPDATE entry SET fields = '{' WHERE seq = 2",
        "UPDATE entry SET signing_hash = 'x' WHERE seq = 2",
        "UPDATE entry SET nonce = 9 WHERE seq = 2",
        "UPDATE entry SET at = 2 WHERE seq = 2",
        "UPDATE entry SET hash = 'x' WHERE seq = 3",
        "DELETE FROM entry WHERE seq = 2",
        "DELETE FROM entry WHERE seq = 1",
        "UPDATE entry SET seq = 5 WHERE seq = 3",
    ],
)
def test_an_edited_or_lost_entry_shows_when_the_journal_opens(journal: Journal, path: Path, damage: str) -> None:
    journal.append([make_attempt(transfer_id=f"xfr-{n}", nonce=n, external_id=None) for n in range(3)], 1)
    journal._connection.execute("PRAGMA foreign_keys = OFF")
    journal._connection.execute(damage)
    journal.close()
    with pytest.raises(InvariantBroken, match="journal"):
        reopen(path)


@pytest.mark.parametrize(("seq", "change"), [(2, {"nonce": 9}), (3, {"seq": 5})])
def test_an_entry_rewritten_with_its_hash_still_shows(
    journal: Journal, path: Path, seq: int, change: dict[str, int]
) -> None:
    journal.append([make_attempt(transfer_id=f"xfr-{n}", nonce=n, external_id=None) for n in range(3)], 1)
    forged = dataclasses.replace(journal.entries(after=seq - 1, limit=1)[0], **change)  # type: ignore[arg-type]
    journal._connection.execute("PRAGMA foreign_keys = OFF")
    journal._connection.execute(
        "UPDATE entry SET seq = ?, nonce = ?, hash = ? WHERE seq = ?",
        (forged.seq, forged.nonce, digest(forged.document()), seq),
    )
    journal.close()
    with pytest.raises(InvariantBroken, match="does not fit"):
        reopen(path)


def test_a_second_writer_waits_and_sees_what_the_first_wrote(journal: Journal, path: Path) -> None:
    other, outcomes, started = reopen(path), [], threading.Event()

    def write() -> None:
        started.set()
        outcomes.append(refusal(other, make_attempt(transfer_id="xfr-2", external_id=None)))

    thread = threading.Thread(target=write)
    with journal._unit() as connection:
        connection.execute("INSERT INTO slot VALUES ('wa-1', 0, 'xfr-1', NULL, 'd1', '1')")
        thread.start()
        started.wait(5)
        time.sleep(0.05)
    thread.join()
    assert outcomes == ["this slot was signed for transfer xfr-1"]


def test_a_unit_that_fails_leaves_nothing(journal: Journal) -> None:
    good = make_attempt()
    unwritable = dataclasses.replace(make_attempt(transfer_id="xfr-2", nonce=1, external_id=None), nonce=2**63)
    with pytest.raises((SignerUnavailable, OverflowError, InvalidInput)):
        journal.append([good, unwritable], 1)
    assert journal.position()[0] == 0
    assert refusal(journal, good) == ""


def test_commits_are_durable_at_once(journal: Journal) -> None:
    pragma = {
        name: journal._connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys")
    }
    assert pragma == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
