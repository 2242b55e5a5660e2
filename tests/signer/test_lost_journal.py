"""The journal is lost: the signer forgot what it has paid, and signs nothing before people put a new one in place."""

import dataclasses

import pytest

from outlay.actions.act import Act
from outlay.core.errors import SignerRefused
from outlay.signer import Scope, Signed, Why
from tests.actions.world import DOLLAR, Actor
from tests.signer.bank import DAY_S, Bank, usdc_cap
from tests.signer.conftest import Found

NEW = "the new journal"


def reseed(bank: Bank, nonces: dict[str, int], *, journal_id: str = NEW) -> None:
    """Let the admin sign that a new journal takes the place of the lost one."""
    payload = {"journalId": journal_id, "minNonces": nonces, "reason": "the disk broke"}

    def record(act: Act) -> None:
        act.record("signer.reseeded", act.org.id, payload)

    bank.world.call(bank.world.admin, "PUT", "/v1/signer/reseed", payload, "Signer:Reseed", record)
    bank.push()


@pytest.fixture
def payouts(bank: Bank, bot: Actor, wallet: str) -> list[str]:
    """Return two payouts, the first of them signed, from before the journal was lost."""
    made = [str(bank.world.pay(bot, wallet, 5)["id"]) for _ in range(2)]
    bank.sign(made[0])
    bank.lose_journal()
    return made


def test_a_new_journal_signs_nothing(bank: Bank, bot: Actor, wallet: str, payouts: list[str]) -> None:
    status = bank.core.status()
    assert (status.seeded, status.journal_id, status.keys, status.sequence) == (False, NEW, 0, 0)
    bank.refuse(payouts[1], Why.UNSEEDED, "signer.reseeded")
    with pytest.raises(SignerRefused) as refused:
        bank.core.create_key("wa-new")
    assert refused.value.why == Why.UNSEEDED
    reseed(bank, {wallet: 1}, journal_id="some other journal")
    assert not bank.core.status().seeded


def test_a_journal_with_keys_that_is_not_seeded_signs_nothing(bank: Bank, bot: Actor, wallet: str) -> None:
    payout = bank.world.pay(bot, wallet, 5)["id"]
    bank.journal._connection.execute("UPDATE pin SET seeded = 0")
    bank.restart()
    bank.refuse(payout, Why.UNSEEDED, "signer.reseeded")
    assert isinstance(bank.void(wallet, 0), SignerRefused)
    assert bank.core.freeze(Scope.ALL, "", "stopping always works").id


def test_after_people_agreed_new_requests_are_signed_and_old_ones_are_not(
    bank: Bank, bot: Actor, wallet: str, payouts: list[str]
) -> None:
    reseed(bank, {wallet: 1})
    status = bank.core.status()
    assert (status.seeded, status.keys) == (True, 1)
    for old, nonce in zip(payouts, (0, 1), strict=True):
        bank.refuse(old, Why.UNSEEDED if nonce == 0 else Why.EVIDENCE, nonce=nonce)
    fresh = bank.world.pay(bot, wallet, 6)["id"]
    bank.refuse(fresh, Why.UNSEEDED, "below 1", nonce=0)
    assert isinstance(bank.sign(fresh, nonce=1), Signed)
    bank.restart()
    assert bank.core.status().seeded
    bank.refuse(payouts[1], Why.EVIDENCE, "before the signer's journal was lost", nonce=2)
    assert isinstance(bank.void(wallet, 0), Signed), "what was under way can still be voided: a void never pays"


def test_wallets_have_the_keys_they_had(found: Found) -> None:
    bank = found()
    bot = bank.world.service_account("payouts bot")
    bank.core.create_key("wa-never-recorded")
    wallets = [bank.wallet() for _ in range(3)]
    bank.lose_journal()
    reseed(bank, dict.fromkeys(wallets, 0))
    for each in reversed(wallets):
        assert isinstance(bank.sign(bank.world.pay(bot, each, 5)["id"]), Signed)
    made = bank.core.create_key("wa-new")
    assert bank.core.status().keys == 4
    assert made.address not in {record["body"].get("address") for record in bank.records()}


def test_wallets_made_afterwards_begin_at_zero(bank: Bank, bot: Actor, wallet: str, payouts: list[str]) -> None:
    reseed(bank, {wallet: 1})
    fresh = bank.wallet()
    assert isinstance(bank.sign(bank.world.pay(bot, fresh, 5)["id"], nonce=0), Signed)


def test_the_windows_of_all_caps_count_as_spent_at_first(found: Found) -> None:
    bank = found(caps=[usdc_cap(total=100 * DOLLAR)])
    bot, wallet = bank.world.service_account("payouts bot"), bank.wallet()
    bank.lose_journal()
    reseed(bank, {wallet: 0})
    payout = bank.world.pay(bot, wallet, 1)["id"]
    bank.refuse(payout, Why.CAP, "count as spent")
    bank.restart()
    bank.world.clock.step(minutes=DAY_S / 60 - 1)
    bank.refuse(payout, Why.CAP, "count as spent")
    bank.world.clock.step(minutes=1)
    assert isinstance(bank.sign(payout), Signed)


def test_the_limit_of_one_payout_needs_no_window(found: Found) -> None:
    bank = found(caps=[usdc_cap(per_payout=10 * DOLLAR)])
    bot, wallet = bank.world.service_account("payouts bot"), bank.wallet()
    bank.lose_journal()
    reseed(bank, {wallet: 0})
    assert isinstance(bank.sign(bank.world.pay(bot, wallet, 10)["id"]), Signed)
    bank.refuse(bank.world.pay(bot, wallet, 11)["id"], Why.CAP)


def test_a_journal_is_put_in_place_once(bank: Bank, bot: Actor, wallet: str, payouts: list[str]) -> None:
    reseed(bank, {wallet: 5})
    reseed(bank, {wallet: 0})
    fresh = bank.world.pay(bot, wallet, 6)["id"]
    bank.refuse(fresh, Why.UNSEEDED, "below 5", nonce=4)
    assert isinstance(bank.sign(fresh, nonce=5), Signed)


def test_a_journal_that_was_never_lost_is_not_put_in_place(bank: Bank, bot: Actor, wallet: str) -> None:
    payout = bank.world.pay(bot, wallet, 5)["id"]
    reseed(bank, {wallet: 9}, journal_id="journal 1")
    assert isinstance(bank.sign(payout, nonce=0), Signed)


def test_the_proof_of_a_lost_journal_is_in_the_chain(bank: Bank, wallet: str, payouts: list[str]) -> None:
    reseed(bank, {wallet: 1})
    with bank.journal.reading() as rows:
        (entry,) = rows.entries()
    assert (entry.kind, entry.body["minNonces"], entry.body["journalId"]) == ("reseeded", {wallet: 1}, NEW)
    changed = dataclasses.replace(entry, text=entry.text.replace(":1", ":0", 1))
    assert changed.digest() != entry.hash
