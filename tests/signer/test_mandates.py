"""Whoever owns the server asks the signer for refills that nobody allowed."""

from collections.abc import Callable
from typing import Any

import pytest

from outlay.actions import admit, wallets
from outlay.actions.act import Act
from outlay.core.errors import SignerRefused
from outlay.core.seams import SECOND
from outlay.evidence.mandated import mandate_call
from outlay.signer import Demand, Scope, Why
from outlay.signer.keystore import Keystore
from tests import mandated
from tests.actions.documents import ALWAYS, BLOCK, ask, group
from tests.actions.world import ALICE, DOLLAR, NETWORK, Actor
from tests.mandated import REFILLS, between, document, window
from tests.signer.bank import Bank, bumped, paid, usdc_cap
from tests.signer.test_lost_journal import NEW, reseed


@pytest.fixture
def hot(bank: Bank) -> str:
    """Return a wallet that has nothing."""
    made = bank.wallet()
    empty(bank, made)
    return made


def empty(bank: Bank, wallet_id: str) -> None:
    """Make a wallet look empty."""
    bank.sql("UPDATE account SET credits = debits WHERE owner = :owner AND asset != 'native'", owner=wallet_id)


def refill(bank: Bank, mandate_id: str) -> str:
    """Let the server decide on a refill, and return its transfer."""
    assert mandated.fill(bank.world) == 1
    return str(mandated.refills(bank.world, mandate_id)[-1].id)


def end(bank: Bank, transfer_id: str) -> None:
    """Make the server believe that a refill never was: what it would take to have it do another."""
    bank.edit_row(transfer_id, state="failed", requested_at=0, resolved_at=0, signed_at=None)


def edited(bank: Bank, transfer_id: str, **changes: Any) -> Demand:
    """Return the demand of a refill with members of its intent changed."""
    row = bank.world.row(transfer_id)
    return Demand(payout=mandate_call(row.mandate_id, {**row.intent, **changes}), asked=[], decisions=[])


def address(bank: Bank, wallet_id: str) -> str:
    """Return a wallet's address."""
    return mandated.address(bank.world, wallet_id)


def test_a_refill_is_signed_once_and_bumped(bank: Bank, wallet: str, hot: str) -> None:
    made = mandated.create(bank.world, document(**between(wallet, hot)))
    transfer = refill(bank, made)
    request = bank.request(transfer)
    answer = bank.sign(transfer)
    assert paid(answer) == (address(bank, hot), 500 * DOLLAR)
    assert bank.core.sign([request]) == [answer]
    (raised,) = bank.core.sign([bumped(request)])
    assert paid(raised) == (address(bank, hot), 500 * DOLLAR)


def test_nobody_else_is_paid(bank: Bank, wallet: str, hot: str) -> None:
    stranger = bank.wallet()  # of the organization, but not of the mandate
    transfer = refill(bank, mandated.create(bank.world, document(**between(wallet, hot))))
    for recipient in (ALICE, address(bank, stranger), address(bank, wallet)):
        demand = edited(bank, transfer, recipient=recipient)
        bank.refuse(transfer, Why.EVIDENCE, "none of the wallets", demand=demand)


@pytest.mark.parametrize(
    "changes",
    [
        {"asset": "native"},
        {"network": "Ethereum"},
        {"chainId": 1},
        {"initiator": "us-aaaaa-aaaaa-aaaaaaaaaaaaaaaa"},
        {"org": "or-aaaaa-aaaaa-aaaaaaaaaaaaaaaa"},
        {"priority": "Fast"},
        {"more": 1},
        {"amount": str(1001 * DOLLAR)},
        {"amount": "0500000000"},
        {"amount": 500000000},
        {"externalId": None},
        {"externalId": "refill/md-aaaaa-aaaaa-aaaaaaaaaaaaaaaa/1"},
        {"externalId": "invoice-1"},
    ],
)
def test_every_member_of_the_intent_follows_from_the_mandate(
    bank: Bank, wallet: str, hot: str, changes: dict[str, Any]
) -> None:
    transfer = refill(bank, mandated.create(bank.world, document(**between(wallet, hot))))
    bank.refuse(transfer, Why.EVIDENCE, demand=edited(bank, transfer, **changes))
    bank.sign(transfer)


def test_another_treasury_does_not_pay(bank: Bank, wallet: str, hot: str) -> None:
    other = bank.wallet()
    transfer = refill(bank, mandated.create(bank.world, document(**between(wallet, hot))))
    bank.refuse(transfer, Why.EVIDENCE, "another wallet", wallet_id=other)
    demand = edited(bank, transfer, wallet=other)
    bank.refuse(transfer, Why.EVIDENCE, "treasury", demand=demand, wallet_id=other)


def test_the_window_is_the_signers_own(bank: Bank, wallet: str, hot: str) -> None:
    """The server's tables may say that nothing was refilled."""
    made = mandated.create(bank.world, document(**between(wallet, hot), window=window(1200, 10)))
    for _ in range(2):
        transfer = refill(bank, made)
        bank.sign(transfer)
        end(bank, transfer)
    third = refill(bank, made)
    bank.refuse(third, Why.CAP, "1200000000 base units within 60 minutes")
    bank.sign(third, demand=edited(bank, third, amount=str(200 * DOLLAR)))
    bank.restart()
    end(bank, third)
    fourth = refill(bank, made)
    bank.refuse(fourth, Why.CAP)
    bank.world.clock.step(micros=3600 * SECOND)
    bank.sign(fourth)


def test_the_number_of_refills_is_bounded_too(bank: Bank, wallet: str, hot: str) -> None:
    made = mandated.create(bank.world, document(**between(wallet, hot), window=window(5000, 1)))
    first = refill(bank, made)
    bank.sign(first)
    end(bank, first)
    bank.refuse(refill(bank, made), Why.CAP, "1 refills within 60 minutes")


def test_the_same_external_id_pays_once(bank: Bank, wallet: str, hot: str) -> None:
    made = mandated.create(bank.world, document(**between(wallet, hot)))
    first = refill(bank, made)
    bank.sign(first)
    end(bank, first)
    second = refill(bank, made)
    again = edited(bank, second, externalId=bank.world.row(first).external_id)
    bank.refuse(second, Why.CONFLICT, "was signed for transfer", demand=again)


def test_an_archived_mandate_allows_nothing(bank: Bank, wallet: str, hot: str) -> None:
    made = mandated.create(bank.world, document(**between(wallet, hot)))
    transfer = refill(bank, made)
    mandated.archive(bank.world, made)
    bank.refuse(transfer, Why.NOT_AGREED, "archived")


def test_a_mandate_that_is_not_on_record_is_asked_for_again_and_never_taken(bank: Bank, wallet: str, hot: str) -> None:
    transfer = refill(bank, mandated.create(bank.world, document(**between(wallet, hot))))
    row = bank.world.row(transfer)
    made_up = Demand(payout=mandate_call("md-aaaaa-aaaaa-aaaaaaaaaaaaaaaa", {**row.intent}), asked=[], decisions=[])
    bank.refuse(transfer, Why.BEHIND, "no such mandate", demand=made_up)


def test_a_payout_is_no_refill(bank: Bank, bot: Actor, wallet: str, hot: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocked payout does not go because it is called a refill; one that is named like a refill counts as none."""
    made = mandated.create(bank.world, document(**between(wallet, hot), window=window(1000, 1)))
    bank.world.policy(ALWAYS, BLOCK, only=[hot])
    with monkeypatch.context() as patch:
        patch.setattr(admit, "EXTERNAL_PREFIX", "/")  # a server that lets callers use such ids
        transfer = bank.world.pay(bot, wallet, 5, external_id=f"refill/{made}/7")["id"]
    row = bank.world.row(transfer)
    bank.push()
    bank.refuse(transfer, Why.EVIDENCE, demand=Demand(payout=mandate_call(made, row.intent), asked=[], decisions=[]))
    bank.sign(transfer)
    bank.sign(refill(bank, made))


def test_what_was_tagged_away_is_not_filled(bank: Bank, wallet: str, hot: str) -> None:
    bank.world.tag(hot, "filled")
    given = document(treasury={"walletId": wallet}, wallets={"tag": "filled"})
    transfer = refill(bank, mandated.create(bank.world, given))
    bank.world.untag(hot, "filled")
    bank.refuse(transfer, Why.EVIDENCE, "none of the wallets")
    bank.world.tag(hot, "filled")
    bank.sign(transfer)


def test_policies_about_refills_are_checked(bank: Bank, wallet: str, hot: str) -> None:
    person, made = (
        bank.world.person("approver@example.com"),
        mandated.create(bank.world, document(**between(wallet, hot))),
    )
    bank.world.policy(ALWAYS, BLOCK, only=[wallet])  # about payouts
    transfer = refill(bank, made)
    asked = bank.world.policy(ALWAYS, ask(group(person)), kind=REFILLS)
    bank.refuse(transfer, Why.NOT_AGREED, "was not asked")
    bank.world.archive_policy(asked)
    bank.world.policy(ALWAYS, BLOCK, kind=REFILLS)
    bank.refuse(transfer, Why.NOT_AGREED, "blocks")


def test_approvals_of_a_refill_cover_its_intent(bank: Bank, wallet: str, hot: str) -> None:
    person, made = (
        bank.world.person("approver@example.com"),
        mandated.create(bank.world, document(**between(wallet, hot))),
    )
    bank.world.policy(ALWAYS, ask(group(person)), kind=REFILLS)
    transfer = refill(bank, made)
    bank.world.decide(person, transfer)
    demand = bank.demand(transfer)
    other = {**demand.payout["intent"], "amount": str(501 * DOLLAR)}
    changed = Demand(payout=mandate_call(made, other), asked=demand.asked, decisions=demand.decisions)
    bank.refuse(transfer, Why.EVIDENCE, "another payout", demand=changed)
    without = Demand(payout=demand.payout, asked=demand.asked, decisions=[])
    bank.refuse(transfer, Why.NOT_AGREED, "quorum", demand=without)
    bank.sign(transfer)


@pytest.mark.parametrize("which", ["the mandate", "the wallet that is filled", "the treasury"])
def test_stops_hold_refills(bank: Bank, wallet: str, hot: str, which: str) -> None:
    made = mandated.create(bank.world, document(**between(wallet, hot)))
    transfer = refill(bank, made)
    bank.push()
    scope, subject = {
        "the mandate": (Scope.IDENTITY, made),
        "the wallet that is filled": (Scope.WALLET, hot),
        "the treasury": (Scope.WALLET, wallet),
    }[which]
    bank.core.freeze(scope, subject, "looked odd")
    bank.refuse(transfer, Why.FROZEN, subject)


def test_the_signers_own_caps_count_refills(found: Callable[..., Bank]) -> None:
    bank = found(caps=[usdc_cap(total=600 * DOLLAR)])
    wallet, hot = bank.wallet(), bank.wallet()
    empty(bank, hot)
    made = mandated.create(bank.world, document(**between(wallet, hot)))
    first = refill(bank, made)
    bank.sign(first)
    end(bank, first)
    bank.refuse(refill(bank, made), Why.CAP, "own limit")


def test_a_lost_journal_counts_the_window_as_spent(bank: Bank, wallet: str, hot: str) -> None:
    made = mandated.create(bank.world, document(**between(wallet, hot)))
    bank.sign(refill(bank, made))
    bank.lose_journal(journal_id=NEW)
    reseed(bank, {wallet: 1, hot: 0})
    end(bank, mandated.refills(bank.world, made)[-1].id)
    second = refill(bank, made)
    bank.refuse(second, Why.CAP, "the journal was lost", nonce=1)
    bank.world.clock.step(micros=3600 * SECOND)
    bank.sign(second, nonce=1)


def test_a_wallet_whose_address_the_server_made_up_is_not_filled(bank: Bank) -> None:
    """The record of a wallet holds an address that no person signed: only a key says that it is ours."""
    treasury, world = bank.wallet(), bank.world
    made = mandated.create(world, document(treasury={"walletId": treasury}, wallets={"tag": "filled"}))
    thief = Keystore("thief", bytes(64)).make("stolen", 0)
    wallet_id = wallets.new_wallet_id(world.entropy)

    def record(act: Act) -> Any:
        return wallets.create(
            act,
            wallet_id=wallet_id,
            network=NETWORK,
            key_id="key-thief",
            address=thief.address,
            public_key=thief.public_key_hex,
            name=None,
            external_id=None,
            tags=["filled"],
        )

    world.call(world.admin, "POST", "/wallets", {"network": NETWORK, "tags": ["filled"]}, "Wallets:Create", record)
    empty(bank, wallet_id)
    mandated.fill(world)
    (asked,) = mandated.refills(world, made)
    assert asked.recipient == thief.address.lower()
    with pytest.raises(SignerRefused, match="no key of the wallet to be filled"):
        raise_refusal(bank.ask(asked.id))


def raise_refusal(answer: object) -> None:
    if isinstance(answer, Exception):
        raise answer
