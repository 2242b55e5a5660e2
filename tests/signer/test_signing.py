"""What the signer signs, that it signs it once, and what it refuses whatever the evidence says."""

import dataclasses
from typing import Any

import pytest
from eth_abi.abi import encode as abi_encode
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from outlay.codec.signed import read_signed
from outlay.core.errors import InvariantBroken, SignerRefused, SignerUnavailable
from outlay.core.ids import KEY, is_id
from outlay.signer import Demand, Purpose, Scope, Signed, SignRequest, Why
from outlay.signer.batch import GAP_MAX
from outlay.signer.core import SignerCore
from outlay.signer.journal import Journal
from outlay.signer.keys import MasterKey, SigningKey
from outlay.signer.keystore import Keystore
from tests.actions.world import ALICE, DOLLAR, FEE_CAP, USDC, Actor
from tests.signer.bank import GAS, MASTER, Bank, bumped, paid

PAYER = MasterKey(MASTER).wallet(0).address


def pay(bank: Bank, bot: Actor, wallet: str, dollars: int = 5, **changes: Any) -> str:
    """Request a payout and return its id; the signer gets the records."""
    made: str = bank.world.pay(bot, wallet, dollars, **changes)["id"]
    bank.push()
    return made


def sign(bank: Bank, *requests: SignRequest) -> list[Signed | SignerRefused]:
    """Ask for a batch."""
    return bank.core.sign(requests)


def refused(bank: Bank, request: SignRequest) -> SignerRefused:
    """Ask for one that is refused without a trace."""
    before = bank.core.status().sequence
    (answer,) = sign(bank, request)
    assert isinstance(answer, SignerRefused), "this was signed"
    assert bank.core.status().sequence == before
    return answer


# --- the transaction -----------------------------------------------------------------------------------------------


def test_a_native_payment_is_what_was_asked_for(bank: Bank, bot: Actor, wallet: str) -> None:
    transfer = pay(bank, bot, wallet, units=77, native=True)
    answer = bank.sign(transfer, nonce=7)
    fields: dict[str, Any] = TypedTransaction.from_bytes(HexBytes(answer.raw)).as_dict()
    wanted = {"chainId": 31337, "nonce": 7, "value": 77, "gas": GAS, "maxFeePerGas": 100, "maxPriorityFeePerGas": 10}
    assert {name: fields[name] for name in wanted} == wanted
    assert (bytes(fields["data"]), list(fields["accessList"])) == (b"", [])
    assert "0x" + bytes(fields["to"]).hex() == ALICE
    assert Account.recover_transaction(answer.raw).lower() == PAYER
    assert answer.hash == "0x" + keccak(answer.raw).hex()
    assert answer.sequence == 1


def test_a_token_payment_calls_transfer_on_the_token(bank: Bank, bot: Actor, wallet: str) -> None:
    answer = bank.sign(pay(bank, bot, wallet, 12, units=1))
    fields: dict[str, Any] = TypedTransaction.from_bytes(HexBytes(answer.raw)).as_dict()
    assert ("0x" + bytes(fields["to"]).hex(), fields["value"]) == (USDC, 0)
    expected = keccak(text="transfer(address,uint256)")[:4] + abi_encode(
        ["address", "uint256"], [ALICE, 12 * DOLLAR + 1]
    )
    assert bytes(fields["data"]) == expected


def test_a_legacy_transaction_pays_the_same_for_one_gas_price(bank: Bank, bot: Actor, wallet: str) -> None:
    answer = bank.sign(pay(bank, bot, wallet), legacy=True, max_fee_per_gas=50, max_priority_fee_per_gas=50)
    assert answer.raw[0] >= 0xC0
    assert Account.recover_transaction(answer.raw).lower() == PAYER
    transaction = read_signed(answer.raw).transaction
    assert (transaction.chain_id, transaction.max_fee_per_gas, paid(answer)) == (31337, 50, (ALICE, 5 * DOLLAR))


# --- once ----------------------------------------------------------------------------------------------------------


def test_the_same_request_gives_the_same_bytes_for_ever(bank: Bank, bot: Actor, wallet: str) -> None:
    request = bank.request(pay(bank, bot, wallet))
    (first,) = sign(bank, request)
    assert isinstance(first, Signed)
    bank.core.freeze(Scope.ALL, "", "drill")
    bank.world.clock.step(minutes=60 * 24 * 365)
    bank.restart()
    again = dataclasses.replace(request, demand=None, fence=0)
    for asked in (request, again, dataclasses.replace(again, demand=Demand(payout={}))):
        assert sign(bank, asked) == [first]
    assert bank.core.status().sequence == 2  # the signature, the freeze


def test_the_same_request_twice_in_a_batch_is_signed_once(bank: Bank, bot: Actor, wallet: str) -> None:
    request = bank.request(pay(bank, bot, wallet))
    first, second = sign(bank, request, request)
    assert first == second
    assert bank.core.status().sequence == 1


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"nonce": 1}, "was signed at nonce 0"),
    ({"transfer_id": "xfr-other"}, "was signed for transfer"),
    ({"transfer_id": "xfr-other", "nonce": 1}, "externalId order-1 was signed"),
    ({"max_fee_per_gas": 112, "max_priority_fee_per_gas": 12}, "12.5 %"),
    ({"max_fee_per_gas": 200}, "12.5 %"),
    ({"max_priority_fee_per_gas": 20}, "12.5 %"),
    ({"max_fee_per_gas": 99, "max_priority_fee_per_gas": 9}, "12.5 %"),
    ({"gas_limit": GAS + 1, "max_fee_per_gas": 113, "max_priority_fee_per_gas": 12}, "keeps the gas limit"),
    ({"fee_cap": FEE_CAP, "max_fee_per_gas": 113, "max_priority_fee_per_gas": 12}, "frozen at"),
]


@pytest.mark.parametrize(("changes", "said"), CONTRADICTIONS)
def test_what_contradicts_the_journal_is_refused(
    bank: Bank, bot: Actor, wallet: str, changes: dict[str, Any], said: str
) -> None:
    request = bank.request(pay(bank, bot, wallet, external_id="order-1"), fee_cap=FEE_CAP // 2)
    second = dataclasses.replace(request, **changes)
    first, inside = sign(bank, request, second)
    assert isinstance(inside, SignerRefused)
    bank.restart()
    answer = refused(bank, second)
    assert (answer.why, said in answer.message) == (Why.CONFLICT, True), answer
    assert answer.message == inside.message
    assert sign(bank, request) == [first]


def test_a_fee_bump_keeps_nonce_and_payment(bank: Bank, bot: Actor, wallet: str) -> None:
    request = bank.request(pay(bank, bot, wallet))
    second = bumped(request)
    third = bumped(second)
    answers = sign(bank, request, second)
    answers += sign(bank, third)
    read = [read_signed(answer.raw).transaction for answer in answers if isinstance(answer, Signed)]
    assert [(each.nonce, each.to, each.gas_limit) for each in read] == [(0, USDC, GAS)] * 3
    assert {each.data for each in read} == {read[0].data}
    assert [each.max_fee_per_gas for each in read] == [100, 113, 128]
    assert sign(bank, second) == [answers[1]]
    assert (
        refused(bank, dataclasses.replace(request, max_fee_per_gas=120, max_priority_fee_per_gas=13)).why == "conflict"
    )
    assert [len(slot.attempts) for slot in bank.core.slots()] == [3]


def test_a_bump_may_reach_the_frozen_fee_cap_exactly(bank: Bank, bot: Actor, wallet: str) -> None:
    request = bank.request(pay(bank, bot, wallet), fee_cap=GAS * 200)
    sign(bank, request)
    at_cap = dataclasses.replace(request, max_fee_per_gas=200, max_priority_fee_per_gas=20)
    over = dataclasses.replace(at_cap, max_fee_per_gas=201)
    assert refused(bank, over).field == "fee_cap"
    assert isinstance(sign(bank, at_cap)[0], Signed)


# --- voids ---------------------------------------------------------------------------------------------------------


def test_a_void_outbids_and_pays_nobody(bank: Bank, bot: Actor, wallet: str) -> None:
    request = bank.request(pay(bank, bot, wallet))
    sign(bank, request)
    answer = bank.void(wallet, 0, max_fee_per_gas=113, max_priority_fee_per_gas=12)
    assert isinstance(answer, Signed)
    transaction = read_signed(answer.raw).transaction
    assert (transaction.to, transaction.value, transaction.data) == (PAYER, 0, b"")
    assert (transaction.nonce, transaction.gas_limit) == (0, 21_000)
    assert bank.void(wallet, 0, max_fee_per_gas=113, max_priority_fee_per_gas=12) == answer
    assert isinstance(bank.void(wallet, 0, max_fee_per_gas=128, max_priority_fee_per_gas=14), Signed)


def test_nothing_is_paid_from_a_slot_that_was_voided(bank: Bank, bot: Actor, wallet: str) -> None:
    request = bank.request(pay(bank, bot, wallet))
    (first,) = sign(bank, request)
    assert isinstance(bank.void(wallet, 0), Signed)
    answer = refused(bank, bumped(request, percent=1100))
    assert (answer.why, "voided" in answer.message) == (Why.CONFLICT, True)
    # What was signed before is known to whoever reads the journal: it may as well be told again.
    assert sign(bank, request) == [first]
    assert refused(bank, dataclasses.replace(request, nonce=1)).why == Why.CONFLICT


def test_a_gap_is_closed_and_stays_closed(bank: Bank, bot: Actor, wallet: str) -> None:
    for other in (wallet, "wa-none"):
        assert isinstance(bank.void(other, 0), SignerRefused)
    bank.sign(pay(bank, bot, wallet), nonce=2)
    bank.sign(pay(bank, bot, wallet), nonce=5)
    for nonce in (3, 4):
        assert isinstance(bank.void(wallet, nonce), Signed)
    for nonce in (0, 1, 6):
        outside = bank.void(wallet, nonce)
        assert isinstance(outside, SignerRefused) and outside.why == Why.CONFLICT
    late = bank.request(pay(bank, bot, wallet), nonce=4)
    assert refused(bank, late).message == "this slot was signed for a void"
    gap = bank.core.slots()[2]
    assert (gap.transfer_id, gap.intent, gap.demand, gap.nonce) == (None, None, None, 3)
    assert [each.purpose for each in gap.attempts] == [Purpose.VOID]


def test_one_payment_far_ahead_opens_no_hundred_gaps_to_burn_fees_in(bank: Bank, bot: Actor, wallet: str) -> None:
    bank.sign(pay(bank, bot, wallet), nonce=2)
    ahead = refused(bank, bank.request(pay(bank, bot, wallet), nonce=2 + GAP_MAX + 1))
    assert (ahead.why, ahead.field) == (Why.CONFLICT, "nonce")
    bank.sign(pay(bank, bot, wallet), nonce=2 + GAP_MAX)


VOIDS: list[tuple[int, dict[str, Any], Why]] = [
    (6, {}, Why.CONFLICT),
    (10**6, {}, Why.CONFLICT),
    (5, {"max_fee_per_gas": 112, "max_priority_fee_per_gas": 12}, Why.CONFLICT),
    (5, {"transfer_id": "xfr-other"}, Why.CONFLICT),
    (5, {"fee_cap": FEE_CAP + 1}, Why.CONFLICT),
    (4, {"fee_cap": FEE_CAP + 1}, Why.NOT_AGREED),
    (4, {"gas_limit": 21_001}, Why.INVALID),
    (4, {"gas_limit": 20_999}, Why.INVALID),
    (4, {"demand": Demand(payout={})}, Why.INVALID),
    (4, {"max_fee_per_gas": FEE_CAP // 21_000 + 1}, Why.INVALID),
]


def test_a_void_has_its_limits(bank: Bank, bot: Actor, wallet: str) -> None:
    for nonce in (3, 5):
        bank.sign(pay(bank, bot, wallet), nonce=nonce)
    for nonce, changes, why in VOIDS:
        answer = bank.void(wallet, nonce, **changes)
        assert isinstance(answer, SignerRefused), changes
        assert answer.why == why, changes
    assert bank.core.status().sequence == 2


# --- shape ---------------------------------------------------------------------------------------------------------

MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"wallet_id": "wa-9"}, "wallet_id"),
    ({"wallet_id": ""}, "wallet_id"),
    ({"wallet_id": ["wa-9"]}, "wallet_id"),
    ({"transfer_id": None}, "transfer_id"),
    ({"transfer_id": ""}, "transfer_id"),
    ({"transfer_id": "xfr-\n"}, "transfer_id"),
    ({"transfer_id": "x" * 129}, "transfer_id"),
    ({"nonce": -1}, "nonce"),
    ({"nonce": True}, "nonce"),
    ({"nonce": 2**53}, "nonce"),
    ({"fence": -1}, "fence"),
    ({"fence": "1"}, "fence"),
    ({"gas_limit": 20_999}, "gas_limit"),
    ({"gas_limit": 2**53}, "gas_limit"),
    ({"max_fee_per_gas": 0}, "max_fee_per_gas"),
    ({"max_fee_per_gas": 100.0}, "max_fee_per_gas"),
    ({"max_priority_fee_per_gas": 101}, "max_priority_fee_per_gas"),
    ({"max_priority_fee_per_gas": -1}, "max_priority_fee_per_gas"),
    ({"fee_cap": GAS * 100 - 1}, "fee_cap"),
    ({"fee_cap": 0}, "fee_cap"),
    ({"legacy": True}, "legacy"),
    ({"legacy": 1}, "purpose"),
    ({"purpose": "payout"}, "purpose"),
    ({"purpose": "refill"}, "purpose"),
    ({"demand": None}, "demand"),
]


def test_a_malformed_request_is_refused_and_leaves_no_trace(bank: Bank, bot: Actor, wallet: str) -> None:
    request = bank.request(pay(bank, bot, wallet))
    for changes, field in MALFORMED:
        answer = refused(bank, dataclasses.replace(request, **changes))
        assert (answer.field, answer.why) == (field, Why.INVALID), changes
    assert isinstance(sign(bank, request)[0], Signed)


@pytest.mark.parametrize("to", ["0x" + "00" * 20, PAYER, USDC])
def test_nobody_the_payer_and_the_token_are_not_paid(bank: Bank, bot: Actor, wallet: str, to: str) -> None:
    transfer = bank.world.pay(bot, wallet, 5)["id"]
    evidence = bank.evidence(transfer)
    payload = {**evidence["payload"], "to": to}
    call = bank.world.sign(bot, "POST", f"/wallets/{wallet}/transfers", payload)
    demand = Demand(
        payout={
            "v": 1,
            "preimage": call.preimage.document(),
            "payload": payload,
            "assertion": call.assertion.document(),
        }
    )
    bank.refuse(transfer, Why.INVALID, "zero address, the token or the payer", demand=demand)


# --- batches -------------------------------------------------------------------------------------------------------


def test_a_refusal_ends_its_wallet_and_no_other(bank: Bank, bot: Actor, wallet: str) -> None:
    other = bank.wallet()
    mine = [pay(bank, bot, wallet) for _ in range(3)]
    theirs = [pay(bank, bot, other) for _ in range(2)]
    good = [bank.request(each, nonce=nonce) for nonce, each in enumerate(mine)]
    bad = dataclasses.replace(good[1], transfer_id=None)
    others = [bank.request(each, nonce=nonce) for nonce, each in enumerate(theirs)]
    answers = sign(bank, good[0], others[0], bad, good[2], others[1])
    assert [isinstance(each, Signed) for each in answers] == [True, True, False, False, True]
    assert [each.why for each in answers if isinstance(each, SignerRefused)] == [Why.INVALID, Why.AFTER_REFUSAL]
    assert [slot.nonce for slot in bank.core.slots() if slot.wallet_id == wallet] == [0]


def test_a_batch_holds_the_nonces_of_a_wallet_in_order(bank: Bank, bot: Actor, wallet: str) -> None:
    first, second = (bank.request(pay(bank, bot, wallet), nonce=nonce) for nonce in (1, 0))
    answers = sign(bank, first, second)
    assert isinstance(answers[1], SignerRefused)
    assert (answers[1].why, answers[1].field) == (Why.INVALID, "nonce")


def test_an_empty_batch_has_no_answers(bank: Bank) -> None:
    assert sign(bank) == []


def test_contradictions_within_a_batch_see_those_before_them(bank: Bank, bot: Actor, wallet: str) -> None:
    other = bank.wallet()
    request = bank.request(pay(bank, bot, wallet))
    elsewhere = dataclasses.replace(request, wallet_id=other)
    same_call = dataclasses.replace(request, transfer_id="xfr-copy", nonce=1)
    answers = sign(bank, request, elsewhere, same_call)
    assert [getattr(each, "why", None) for each in answers] == [None, Why.EVIDENCE, Why.CONFLICT]


# --- keys and files ------------------------------------------------------------------------------------------------


def test_create_key_is_idempotent_and_derives_from_the_keystore(bank: Bank) -> None:
    made = [bank.core.create_key(f"wa-{n}") for n in range(3)]
    bank.restart()
    assert [bank.core.create_key(f"wa-{n}") for n in range(3)] == made
    wallets = [MasterKey(MASTER).wallet(n) for n in range(3)]
    assert [key.address for key in made] == [wallet.address for wallet in wallets]
    assert [key.public_key_hex for key in made] == [wallet.public_key.hex() for wallet in wallets]
    assert len({key.key_id for key in made}) == 3
    assert all(is_id(key.key_id, KEY) for key in made)
    assert bank.core.status().keys == 3


@pytest.mark.parametrize("wallet_id", ["", "wa\n", "wä-1", "w" * 129])
def test_a_wallet_id_has_limits(bank: Bank, wallet_id: str) -> None:
    with pytest.raises(SignerRefused):
        bank.core.create_key(wallet_id)


def test_two_signers_on_one_file_see_what_the_other_wrote(bank: Bank, bot: Actor, wallet: str) -> None:
    """There is never more than one: but if there were, they would not contradict each other."""
    journal = Journal.open(bank.path, keystore_id=bank.keys.id)
    other = SignerCore(bank.keys, journal, settings=bank.settings, clock=bank.world.clock)
    assert [core.create_key(w).address for w in ("wa-a", "wa-b") for core in (bank.core, other)] == [
        MasterKey(MASTER).wallet(n).address for n in (1, 1, 2, 2)
    ]
    one, two = (bank.request(pay(bank, bot, wallet), nonce=0) for _ in range(2))
    (first,) = other.sign([one])
    assert sign(bank, one) == [first]
    assert refused(bank, two).why == Why.CONFLICT
    other.freeze(Scope.ALL, "", "drill")
    assert refused(bank, dataclasses.replace(two, nonce=1)).why == Why.FROZEN
    assert bank.core.status() == other.status()
    journal.close()


def test_a_journal_that_names_another_address_stops_the_signer(bank: Bank, bot: Actor, wallet: str) -> None:
    request = bank.request(pay(bank, bot, wallet))
    bank.journal._connection.execute(f"UPDATE key SET address = '{ALICE}'")
    bank.restart()
    with pytest.raises(InvariantBroken, match="not this keystore's"):
        sign(bank, request)


def test_a_wallet_that_has_signed_for_one_chain_signs_for_no_other(bank: Bank, bot: Actor, wallet: str) -> None:
    """Records may come to say anything about a wallet: its journal knows where it has paid."""
    bank.sign(pay(bank, bot, wallet))
    bank.journal._connection.execute("UPDATE key SET chain_id = 5")
    bank.restart()
    bank.refuse(pay(bank, bot, wallet), Why.CONFLICT, "has signed for chain 5")


def test_keystore_and_journal_must_belong_together(bank: Bank) -> None:
    with pytest.raises(InvariantBroken, match="another keystore"):
        SignerCore(Keystore("other", MASTER), bank.journal, settings=bank.settings, clock=bank.world.clock)


def test_status_tells_the_position(bank: Bank, bot: Actor, wallet: str) -> None:
    bank.sign(pay(bank, bot, wallet))
    status, records = bank.core.status(), bank.records()
    assert (status.root, status.keystore_id, status.journal_id) == (bank.world.root, "keystore 1", "journal 1")
    assert (status.seeded, status.keys, status.freezes) == (True, 1, ())
    assert (status.sequence, status.head) == bank.journal.position() == (1, bank.journal.verify())
    assert status.record_seq == len(records) - 1
    assert len(bank.core.records(after=0, limit=2)) == 2


def test_slots_tell_everything_that_is_needed_to_know_them_again(bank: Bank, bot: Actor, wallet: str) -> None:
    transfer = pay(bank, bot, wallet, external_id="order-1")
    request = bank.request(transfer)
    answers = sign(bank, request, bumped(request))
    (slot,) = bank.core.slots()
    assert (slot.wallet_id, slot.nonce, slot.transfer_id, slot.external_id) == (wallet, 0, transfer, "order-1")
    assert slot.intent == bank.world.row(transfer).intent
    assert slot.demand == request.demand
    assert [each.raw for each in slot.attempts] == [each.raw for each in answers if isinstance(each, Signed)]
    assert [each.sequence for each in slot.attempts] == [1, 2]
    assert bank.core.slots(after=1) == []


def test_a_journal_that_cannot_be_written_refuses_everything(bank: Bank, bot: Actor, wallet: str) -> None:
    request = bank.request(pay(bank, bot, wallet))
    bank.journal._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(SignerUnavailable, match="journal cannot be written"):
        sign(bank, request)
    with pytest.raises(SignerUnavailable):
        bank.core.create_key("wa-3")
    bank.journal._connection.execute("PRAGMA query_only = OFF")
    assert isinstance(sign(bank, request)[0], Signed)
    bank.journal.close()
    with pytest.raises(SignerUnavailable):
        sign(bank, request)


def test_a_signature_that_does_not_verify_never_leaves() -> None:
    other = SigningKey(b"\x09" * 32)
    key = SigningKey(b"\x08" * 32)
    key._key = other._key  # as a flipped bit in memory would have it
    with pytest.raises(InvariantBroken, match="does not verify"):
        key.sign(b"\x01" * 32)
