"""The end of the process at each labelled point, and a back-end that fails: nothing leaves before it is on disk."""

import sqlite3
from typing import Any

import pytest

from outlay.core.errors import SignerUnavailable
from outlay.signer import Signed, SignRequest
from outlay.signer.journal_rows import Rows
from outlay.signer.keystore import Keystore
from outlay.store import organizations
from tests.actions.world import DOLLAR, Actor
from tests.signer.bank import Bank, bumped, usdc_cap
from tests.signer.conftest import Found


class CrashError(BaseException):
    """Stands for the end of the process."""


def requests(bank: Bank, bot: Actor, wallet: str) -> list[SignRequest]:
    """Return two payouts to be signed together."""
    made = [bank.request(bank.world.pay(bot, wallet, 5)["id"], nonce=nonce) for nonce in range(2)]
    bank.push()
    return made


def crash_at(wanted: str) -> Any:
    """Return a hook that ends the process at a label."""

    def crash(label: str) -> None:
        if label == wanted:
            raise CrashError

    return crash


def test_signatures_are_on_disk_before_anybody_sees_them(bank: Bank, bot: Actor, wallet: str, hook: Any) -> None:
    seen: list[tuple[str, int]] = []

    def look(label: str) -> None:
        with sqlite3.connect(f"file:{bank.path}?mode=ro", uri=True) as other:
            seen.append((label, other.execute("SELECT count(*) FROM entry").fetchone()[0]))

    hook(look)
    batch = requests(bank, bot, wallet)
    seen.clear()
    bank.core.sign(batch)
    assert seen == [("signer.before_journal", 0), ("signer.after_journal", 2)]
    seen.clear()
    bank.core.sign(batch)
    assert seen == []


def test_a_commit_that_fails_lets_nothing_out(bank: Bank, bot: Actor, wallet: str, hook: Any) -> None:
    batch = requests(bank, bot, wallet)

    def undo(label: str) -> None:
        if label == "signer.before_journal":
            bank.journal._connection.execute("ROLLBACK")

    hook(undo)
    with pytest.raises(SignerUnavailable):
        bank.core.sign(batch)
    hook(None)
    assert bank.core.slots() == []


@pytest.mark.parametrize(("label", "entries"), [("signer.before_journal", 0), ("signer.after_journal", 2)])
def test_after_a_crash_the_same_requests_give_the_same_bytes(
    bank: Bank, bot: Actor, wallet: str, hook: Any, label: str, entries: int
) -> None:
    batch = requests(bank, bot, wallet)
    hook(crash_at(label))
    with pytest.raises(CrashError):
        bank.core.sign(batch)
    hook(None)
    held = [slot.attempts[0].raw for slot in bank.core.slots()]
    bank.restart()
    assert bank.core.status().sequence == entries
    named = [str(each.transfer_id) for each in batch]
    assert bank.core.journaled(wallet, 1, named) == frozenset(named[:entries])
    answers = bank.core.sign(batch)
    raws = [each.raw for each in answers if isinstance(each, Signed)]
    assert len(raws) == 2
    assert held in ([], raws)
    assert bank.core.sign(batch) == answers


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_unit_that_fails_takes_nothing_into_account(found: Found, hook: Any, is_restarted: bool) -> None:
    bank = found(caps=[usdc_cap(total=10 * DOLLAR)])
    bot, wallet = bank.world.service_account("payouts bot"), bank.wallet()
    batch = requests(bank, bot, wallet)
    hook(crash_at("signer.before_journal"))
    for _ in range(3):
        with pytest.raises(CrashError):
            bank.core.sign(batch)
    hook(None)
    if is_restarted:
        bank.restart()
    assert all(isinstance(each, Signed) for each in bank.core.sign(batch))
    bank.journal.verify()


def test_a_back_end_that_fails_half_way_lets_nothing_out(
    bank: Bank, bot: Actor, wallet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, sign = requests(bank, bot, wallet), Keystore.sign
    asked: list[bytes] = []

    def fails(keys: Keystore, reference: str, digest: bytes) -> bytes:
        asked.append(digest)
        if len(asked) == 2:
            raise SignerUnavailable("the key service does not answer")
        return sign(keys, reference, digest)

    monkeypatch.setattr(Keystore, "sign", fails)
    with pytest.raises(SignerUnavailable):
        bank.core.sign(batch)
    assert bank.core.status().sequence == 0
    assert all(isinstance(each, Signed) for each in bank.core.sign(batch))


def test_the_same_bytes_come_from_the_journal_and_not_from_the_key(
    bank: Bank, bot: Actor, wallet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every back-end gives the same signature twice."""
    batch = requests(bank, bot, wallet)
    answers = bank.core.sign(batch)

    def never(*_: object) -> bytes:
        raise AssertionError("signed again")

    monkeypatch.setattr(Keystore, "sign", never)
    assert bank.core.sign(batch) == answers
    bank.restart()
    assert bank.core.sign(batch) == answers


@pytest.mark.parametrize("label", ["signer.before_journal", "signer.after_journal"])
def test_a_crash_in_a_bump_leaves_the_first_attempt(bank: Bank, bot: Actor, wallet: str, hook: Any, label: str) -> None:
    first, _ = requests(bank, bot, wallet)
    (answer,) = bank.core.sign([first])
    hook(crash_at(label))
    with pytest.raises(CrashError):
        bank.core.sign([bumped(first)])
    hook(None)
    bank.restart()
    assert bank.core.sign([first]) == [answer]
    (again,) = bank.core.sign([bumped(first)])
    assert isinstance(again, Signed)
    assert [each.raw for each in bank.core.slots()[0].attempts] == [answer.raw, again.raw]  # type: ignore[union-attr]


def test_records_that_did_not_reach_the_disk_are_taken_again(
    bank: Bank, wallet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bank.world.unit() as unit:
        texts = organizations.record_texts(unit, after=-1, limit=100)
    keep = Rows.add_record

    def is_full(rows: Rows, seq: int, hash: str, document: str) -> None:
        if seq == 1:
            raise sqlite3.OperationalError("database or disk is full")
        keep(rows, seq, hash, document)

    monkeypatch.setattr(Rows, "add_record", is_full)
    with pytest.raises(SignerUnavailable, match="disk is full"):
        bank.core.accept_records(texts)
    monkeypatch.setattr(Rows, "add_record", keep)
    assert bank.core.status().record_seq == -1
    bank.core.accept_records(texts)
    bank.restart()
    assert bank.core.status().record_seq == len(texts) - 1
