"""When a transfer may be canceled or sped up, by whom, at what price, and what is answered and kept.

No engine runs: what was signed and sent is written into the rows by hand, and stays as a test left it.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from outlay.core.fees import Offer, ceiling_per_gas
from outlay.store import lanes, schema
from tests.door import GWEI, NETWORK, PAYER, RECIPIENT, TOKEN, Answer, Door, Who, check_refusal, open_door, transfer

REPLACER = (*PAYER, "Wallets:Transactions:Create")
FEE_CAP = 5 * 10**16
FIRST = Offer(gas_limit=60_000, max_fee_per_gas=8 * GWEI, max_priority_fee_per_gas=2 * GWEI)

_numbers = itertools.count()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_door(tmp_path_factory.mktemp("door")) as opened:
        yield opened


@pytest.fixture
def door(shared: Door) -> Iterator[Door]:
    """Give a chain that answers at its usual prices."""
    usual = shared.chains.prices
    yield shared
    shared.chains.prices, shared.chains.beside_gas, shared.chains.is_dead = usual, 0, False


@pytest.fixture(scope="module")
def bot(shared: Door) -> Who:
    return shared.service_account("payouts bot", REPLACER)


@pytest.fixture(scope="module")
def wallet(shared: Door) -> Any:
    return shared.wallet()


def asked(door: Door, bot: Who, wallet: Any, **body: Any) -> Any:
    """Return a payout that was asked for and stays ready, for nobody sends it."""
    return door.write(bot, "POST", f"/wallets/{wallet['id']}/transfers", transfer(**body)).ok()


def under_way(door: Door, bot: Who, wallet: Any, *, state: str = "broadcast", slot: str = "sent", **body: Any) -> Any:
    """Return a payout whose slot is in the given states, with one signed attempt."""
    paid = asked(door, bot, wallet, **body)
    slot_id = paid["id"].replace("xfr-", "tx-")
    nonce = next(_numbers)

    def write(unit: Any) -> None:
        values = {"id": slot_id, "wallet_id": wallet["id"], "nonce": nonce, "transfer_id": paid["id"], "state": slot}
        unit.execute(sa.insert(schema.transaction).values(**values, fee_cap=FEE_CAP, created_at=1))
        add(unit, slot_id, FIRST, purpose="payout")
        changes = {"state": state, "transaction_id": slot_id, "broadcast_at": door.clock.now()}
        unit.execute(sa.update(schema.transfer).where(schema.transfer.c.id == paid["id"]).values(changes))

    door.run_write(write)
    return paid


def add(unit: Any, slot_id: str, offer: Offer, *, purpose: str, signed: bool = True) -> str:
    """Add an attempt to a slot, signed and sent unless told otherwise; return its hash."""
    number = len(lanes.attempts(unit, slot_id)) + 1
    attempt_id = slot_id if number == 1 else f"{slot_id[:-2]}{number:02d}"
    lanes.add_attempt(
        unit,
        id=attempt_id,
        transaction_id=slot_id,
        number=number,
        purpose=purpose,
        offer=offer,
        legacy=False,
        now=1,
    )
    digest = f"0x{number:02d}" + slot_id.encode().hex().ljust(62, "0")[:62]
    if signed:
        sign(unit, attempt_id, digest)
    return digest


def sign(unit: Any, attempt_id: str, digest: str) -> None:
    """Note that an attempt was signed and sent."""
    lanes.keep_signed(unit, [(attempt_id, b"\x02", digest)], now=2)
    lanes.touch_attempt(unit, attempt_id, first_sent_at=3_000, sent_at=3_000)


def call(door: Door, who: Who, paid: Any, verb: str) -> Answer:
    """Make a signed call about a payout."""
    return door.write(who, "POST", f"/wallets/{paid['walletId']}/transfers/{paid['id']}/{verb}")


def read(door: Door, paid: Any) -> Any:
    """Return a payout as it is now."""
    return door.get(f"/wallets/{paid['walletId']}/transfers/{paid['id']}").ok()


def refused(answer: Answer, status: int, says: str) -> None:
    """Check a refusal."""
    check_refusal(answer)
    assert (answer.status, says in answer.message) == (status, True), answer.raw


# What is asked for


def test_a_cancellation_is_a_void_of_the_same_nonce_that_outbids_what_was_sent(
    door: Door, bot: Who, wallet: Any
) -> None:
    paid = under_way(door, bot, wallet)
    nonce = read(door, paid)["details"]["nonce"]
    void = call(door, bot, paid, "cancel").ok()
    assert void == {
        "id": void["id"],
        "walletId": wallet["id"],
        "network": NETWORK,
        "requester": {"userId": bot.user_id},
        "requestBody": {
            "kind": "Eip1559",
            "to": wallet["address"],
            "value": "0",
            "nonce": nonce,
            "gasLimit": "21000",
            "maxFeePerGas": str(11 * GWEI),  # twice the base fee and the tip: more than 8 gwei and an eighth
            "maxPriorityFeePerGas": str(5 * GWEI),  # the level Fast: more than 2 gwei and an eighth
        },
        "status": "Executing",
        "dateRequested": void["dateRequested"],
        "details": {"transferId": paid["id"], "purpose": "void"},
    }
    now = read(door, paid)
    assert (now["status"], now["replacementId"]) == ("Broadcasted", void["id"])
    assert [each["purpose"] for each in now["details"]["attempts"]] == ["payout", "void"]
    ((reason, by),) = door.rows(
        'SELECT t.void_reason, a.asked_by FROM "transaction" t JOIN attempt a ON a.transaction_id = t.id'
        " WHERE t.transfer_id = ? AND a.number = 2",
        paid["id"],
    )
    assert (reason, by) == ("Canceled by payouts bot", bot.user_id)


def test_a_speed_up_pays_the_same_with_higher_fees(door: Door, bot: Who, wallet: Any) -> None:
    paid = under_way(door, bot, wallet, kind="Erc20", contract=TOKEN, amount="7")
    faster = call(door, bot, paid, "speed-up").ok()
    assert (faster["status"], faster["details"]) == ("Executing", {"transferId": paid["id"], "purpose": "payout"})
    body = faster["requestBody"]
    assert (body["to"], body["value"], body["gasLimit"]) == (TOKEN, "0", "60000")
    assert (body["maxFeePerGas"], body["maxPriorityFeePerGas"]) == (str(11 * GWEI), str(5 * GWEI))
    assert read(door, paid)["replacementId"] == faster["id"]
    plain = under_way(door, bot, wallet, amount="9")
    body = call(door, bot, plain, "speed-up").ok()["requestBody"]
    assert (body["to"], body["value"]) == (RECIPIENT, "9")


def test_where_the_network_is_cheap_fees_rise_by_an_eighth(door: Door, bot: Who, wallet: Any) -> None:
    door.chains.prices = type(door.chains.prices)(block_number=7, base_fee=1, tip_slow=1, tip_standard=1, tip_fast=1)
    for verb in ("cancel", "speed-up"):
        body = call(door, bot, under_way(door, bot, wallet), verb).ok()["requestBody"]
        assert (body["maxFeePerGas"], body["maxPriorityFeePerGas"]) == (str(9 * GWEI), str(9 * GWEI // 4))


def test_the_signed_call_is_kept_as_evidence_of_what_it_asked_for(door: Door, bot: Who, wallet: Any) -> None:
    paid = under_way(door, bot, wallet)
    made = call(door, bot, paid, "speed-up").ok()
    ((document,),) = door.rows("SELECT document FROM evidence WHERE subject = ?", made["id"])
    assert f"/transfers/{paid['id']}/speed-up" in document
    assert len(door.rows("SELECT 1 FROM evidence WHERE subject = ?", paid["id"])) == 1, "that of the request itself"


def test_canceling_again_answers_the_same_transaction_whatever_became_of_it(door: Door, bot: Who, wallet: Any) -> None:
    paid = under_way(door, bot, wallet)
    void = call(door, bot, paid, "cancel").ok()
    assert call(door, door.admin, paid, "cancel").ok() == void, "also to others"
    slot_id = paid["id"].replace("xfr-", "tx-")
    digest = "0x" + "ab" * 32
    door.run_write(lambda unit: sign(unit, void["id"], digest))
    sent = call(door, bot, paid, "cancel").ok()
    assert (sent["id"], sent["status"], sent["txHash"]) == (void["id"], "Broadcasted", digest)
    assert sent["dateBroadcasted"] == "1970-01-01T00:00:00.003Z"

    raised = Offer(gas_limit=21_000, max_fee_per_gas=20 * GWEI, max_priority_fee_per_gas=9 * GWEI)
    higher = door.run_write(lambda unit: add(unit, slot_id, raised, purpose="void"))
    again = call(door, bot, paid, "cancel").ok()
    assert (again["id"], again["txHash"], again["requestBody"]["maxFeePerGas"]) == (void["id"], higher, str(20 * GWEI))
    assert read(door, paid)["replacementId"] == void["id"], "a raise of its fees is no other cancellation"
    assert len(read(door, paid)["details"]["attempts"]) == 3

    for mined, status in ((digest, "Confirmed"), (higher, "Confirmed"), ("0x" + "cd" * 32, "Failed")):
        door.execute("UPDATE \"transaction\" SET state = 'final', mined_hash = ? WHERE id = ?", mined, slot_id)
        ended = call(door, bot, paid, "cancel").ok()
        assert (ended["id"], ended["status"]) == (void["id"], status)
        assert ended["txHash"] == (mined if status == "Confirmed" else higher)


def test_a_second_speed_up_replaces_the_first(door: Door, bot: Who, wallet: Any) -> None:
    paid = under_way(door, bot, wallet)
    first = call(door, bot, paid, "speed-up").ok()
    refused(call(door, bot, paid, "speed-up"), 409, "just being signed")
    refused(call(door, bot, paid, "cancel"), 409, "just being signed")
    door.run_write(lambda unit: sign(unit, first["id"], "0x" + "ee" * 32))
    second = call(door, bot, paid, "speed-up").ok()
    fees = [int(each["requestBody"]["maxPriorityFeePerGas"]) for each in (first, second)]
    assert fees[1] == -(-fees[0] * 9 // 8)
    assert read(door, paid)["replacementId"] == second["id"]


# When not


@pytest.mark.parametrize(
    ("state", "slot", "says"),
    [
        ("held", None, "abort takes it back"),
        ("ready", None, "abort takes it back"),
        ("assigned", "bound", "about to be sent"),
        ("signed", "signed", "about to be sent"),
        ("mined", "mined", "already in a block"),
        ("confirmed", "final", "it is confirmed"),
        ("failed", "final", "it is failed"),
        ("canceled", None, "it is canceled"),
        ("rejected", None, "it is rejected"),
        ("expired", None, "it is expired"),
    ],
)
@pytest.mark.parametrize("verb", ["cancel", "speed-up"])
def test_only_what_was_sent_and_is_in_no_block_is_replaced(
    door: Door, bot: Who, wallet: Any, verb: str, state: str, slot: str | None, says: str
) -> None:
    if slot is None:
        paid = asked(door, bot, wallet)
        door.execute("UPDATE transfer SET state = ? WHERE id = ?", state, paid["id"])
    else:
        paid = under_way(door, bot, wallet, state=state, slot=slot)
    before = door.stored()
    refused(call(door, bot, paid, verb), 412, says)
    assert door.stored() == before


def test_what_is_being_canceled_is_not_sped_up(door: Door, bot: Who, wallet: Any) -> None:
    paid = under_way(door, bot, wallet)
    void = call(door, bot, paid, "cancel").ok()
    refused(call(door, bot, paid, "speed-up"), 412, "being canceled")
    door.run_write(lambda unit: sign(unit, void["id"], "0x" + "ab" * 32))
    refused(call(door, bot, paid, "speed-up"), 412, "being canceled")
    door.execute("UPDATE \"transaction\" SET state = 'mined' WHERE transfer_id = ?", paid["id"])
    refused(call(door, bot, paid, "speed-up"), 412, "already in a block")


@pytest.mark.parametrize("verb", ["cancel", "speed-up"])
def test_the_frozen_fee_cap_is_never_exceeded(door: Door, bot: Who, wallet: Any, verb: str) -> None:
    gas_limit = FIRST.gas_limit if verb == "speed-up" else 21_000
    ceiling = ceiling_per_gas(fee_cap=FEE_CAP, gas_limit=gas_limit) if verb == "speed-up" else FEE_CAP // gas_limit
    for offered, is_possible in ((ceiling * 8 // 9, True), (ceiling * 8 // 9 + 1, False)):
        paid = under_way(door, bot, wallet)
        door.execute("UPDATE attempt SET max_fee_per_gas = ? WHERE id = ?", f"{offered:078d}", slot_of(paid))
        answer = call(door, bot, paid, verb)
        if is_possible:
            assert int(answer.ok()["requestBody"]["maxFeePerGas"]) <= ceiling
        else:
            refused(answer, 412, "its fee cap does not allow that")


@pytest.mark.parametrize("verb", ["cancel", "speed-up"])
def test_what_a_rollup_takes_beside_gas_is_part_of_the_cap(door: Door, bot: Who, wallet: Any, verb: str) -> None:
    door.chains.beside_gas = FEE_CAP - 21_000 * 9 * GWEI + 1
    refused(call(door, bot, under_way(door, bot, wallet), verb), 412, "its fee cap does not allow that")


def slot_of(paid: Any) -> str:
    """Return the id of a payout's slot, which is that of its first attempt too."""
    return str(paid["id"]).replace("xfr-", "tx-")


@pytest.mark.parametrize("verb", ["cancel", "speed-up"])
def test_what_is_frozen_signs_nothing_new(door: Door, bot: Who, verb: str) -> None:
    wallet = door.wallet()
    paid = under_way(door, bot, wallet)
    door.execute("UPDATE wallet SET frozen_reason = 'a test' WHERE id = ?", wallet["id"])
    refused(call(door, bot, paid, verb), 412, "the wallet is frozen: a test")
    door.execute("UPDATE wallet SET frozen_reason = NULL WHERE id = ?", wallet["id"])
    for scope, subject in (("all", ""), ("wallet", wallet["id"]), ("network", NETWORK), ("identity", bot.user_id)):
        door.execute("INSERT INTO stop (id, scope, subject, reason, at) VALUES ('f', ?, ?, 'look', 1)", scope, subject)
        refused(call(door, bot, paid, verb), 412, "frozen: look")
        door.execute("DELETE FROM stop")
    call(door, bot, paid, verb).ok()


def test_a_frozen_asset_is_canceled_but_not_paid_sooner(door: Door, bot: Who, wallet: Any) -> None:
    paid = under_way(door, bot, wallet, kind="Erc20", contract=TOKEN)
    door.execute("INSERT INTO frozen_asset (network, asset, reason, at) VALUES (?, ?, 'odd', 1)", NETWORK, TOKEN)
    try:
        refused(call(door, bot, paid, "speed-up"), 412, "the asset is frozen: odd")
        call(door, bot, paid, "cancel").ok()
    finally:
        door.execute("DELETE FROM frozen_asset")


@pytest.mark.parametrize("verb", ["cancel", "speed-up"])
def test_a_chain_that_does_not_answer_spends_nothing(door: Door, bot: Who, wallet: Any, verb: str) -> None:
    paid, spent = under_way(door, bot, wallet), door.spent
    door.chains.is_dead = True
    answer = call(door, bot, paid, verb)
    assert (answer.status, answer.code, door.spent) == (503, "chain_unavailable", spent)


# Who


@pytest.mark.parametrize("verb", ["cancel", "speed-up"])
def test_both_operations_are_needed_and_no_more(door: Door, bot: Who, wallet: Any, verb: str) -> None:
    paid = under_way(door, bot, wallet)
    for missing in ("Wallets:Transactions:Create", "Wallets:Transfers:Read"):
        held = [each for each in REPLACER if each != missing]
        who = door.service_account(f"without {missing} for {verb}", held)
        answer = call(door, who, paid, verb)
        refused(answer, 403, missing)
    enough = door.service_account(f"operator of {verb}", ["Wallets:Transactions:Create", "Wallets:Transfers:Read"])
    call(door, enough, paid, verb).ok()


@pytest.mark.parametrize("verb", ["cancel", "speed-up"])
def test_a_transfer_is_found_under_its_own_wallet_only(door: Door, bot: Who, wallet: Any, verb: str) -> None:
    paid, other = under_way(door, bot, wallet), door.wallet()
    refused(call(door, bot, {**paid, "walletId": other["id"]}, verb), 404, "no such transfer")
    unknown = {"id": "xfr-00000-00000-0000000000000000", "walletId": "wa-00000-00000-0000000000000000"}
    refused(call(door, bot, unknown, verb), 404, "no such transfer")
    assert read(door, paid)["details"]["attempts"][1:] == []


@pytest.mark.parametrize("verb", ["cancel", "speed-up"])
def test_it_takes_no_body(door: Door, bot: Who, wallet: Any, verb: str) -> None:
    paid = under_way(door, bot, wallet)
    path = f"/wallets/{paid['walletId']}/transfers/{paid['id']}/{verb}"
    answer = door.refused(bot, "POST", path, {"maxFeePerGas": "1"})
    assert (answer.status, answer.field) == (400, "maxFeePerGas")
    assert door.write(bot, "POST", path, {}).status == 200, "one of the SDKs sends an empty object"


# Who answers and events agree


def test_lists_repeats_and_reads_tell_the_same(door: Door, bot: Who) -> None:
    wallet = door.wallet()
    body = transfer()
    paid = door.write(bot, "POST", f"/wallets/{wallet['id']}/transfers", body).ok()
    assert "details" not in paid
    assert "replacementId" not in paid
    moved = under_way(door, bot, wallet, externalId="told-the-same")
    call(door, bot, moved, "cancel").ok()
    now = read(door, moved)
    listed = door.get(f"/wallets/{wallet['id']}/transfers").ok()["items"]
    assert [now, read(door, paid)] == sorted(listed, key=lambda each: each["id"] != moved["id"])
    again = door.write(bot, "POST", f"/wallets/{wallet['id']}/transfers", transfer(externalId="told-the-same")).ok()
    assert again == now
