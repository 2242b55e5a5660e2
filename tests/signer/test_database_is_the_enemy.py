"""Somebody writes whatever they like into the database. Each test is one attack on the signer through it.

The engine asks as ever, with what the rows say. Either nothing is signed and the refusal says why, or what is signed is
what a person or machine really asked for, once. What remains is within the signer's own caps (``test_caps``).
"""

import copy
import dataclasses
import json
from typing import Any

import pytest

from outlay.actions import organization, permissions
from outlay.config import parse
from outlay.core.errors import SignerRefused
from outlay.core.seams import DAY
from outlay.evidence.assertion import Assertion
from outlay.evidence.attestation import fingerprint
from outlay.evidence.canonical import canonical, digest, payload_digest
from outlay.evidence.challenge import Preimage, action_challenge
from outlay.evidence.keys import new_key_pair
from outlay.signer import Demand, Signed, Why
from tests.actions.documents import ALWAYS, BLOCK, ask, group, known, over
from tests.actions.world import ALICE, BOB, DOLLAR, FEE_CAP, NETWORK, SETTINGS, USDC, Actor
from tests.signer.bank import Bank, paid, usdc_cap
from tests.signer.conftest import Found

MALLORY = "0x" + "66" * 20


@pytest.fixture
def one(bank: Bank) -> Actor:
    """Return a person who may approve."""
    return bank.world.person("approver.one@example.com")


@pytest.fixture
def two(bank: Bank) -> Actor:
    """Return another person who may approve."""
    return bank.world.person("approver.two@example.com")


@pytest.fixture
def payout(bank: Bank, bot: Actor, wallet: str) -> str:
    """Return a payout of five dollars to Alice that may go."""
    return str(bank.world.pay(bot, wallet, 5, external_id="order-1")["id"])


@pytest.fixture
def held(bank: Bank, bot: Actor, one: Actor, two: Actor, wallet: str) -> str:
    """Return a payout of 20,000 dollars that two people have to approve."""
    bank.world.policy(over(10_000), ask(group(one, two, quorum=2)))
    return str(bank.world.pay(bot, wallet, 20_000)["id"])


def signed_call(bank: Bank, actor: Actor, method: str, path: str, payload: Any, **changes: Any) -> dict[str, Any]:
    """Let somebody sign a call whose challenge the server made up, with any members of the preimage changed."""
    now = bank.world.clock.step(micros=1)
    members: dict[str, Any] = {
        "org": bank.world.org_id,
        "identity": actor.user_id,
        "credentials": (actor.credential_uuid,),
        "method": method,
        "path": path,
        "payload_digest": payload_digest(payload),
        "records_head": digest(bank.records()[-1]),
        "nonce": f"nonce {now}",
        "issued": now,
        "expires": now + 1000,
        **changes,
    }
    preimage = Preimage(**members)
    answer = actor.sign(action_challenge(preimage))
    assertion = Assertion.from_document(answer).document()
    return {"v": 1, "preimage": preimage.document(), "payload": payload, "assertion": assertion}


# --- the transfer's row ---------------------------------------------------------------------------------------------


ROWS: list[dict[str, Any]] = [
    {"recipient": MALLORY},
    {"amount": str(10**9 * DOLLAR).zfill(78)},
    {"asset": "native", "kind": "Native"},
    {"asset": MALLORY},
    {"network": "Base"},
    {"initiator_id": "us-other"},
    {"external_id": "order-2"},
    {"intent_digest": "0" * 64},
    {"value": "1".zfill(78)},
    {"state": "ready", "policy_set": "0" * 64},
]


@pytest.mark.parametrize("columns", ROWS, ids=lambda columns: ",".join(columns))
def test_an_edited_row_changes_nothing_that_is_paid(bank: Bank, payout: str, columns: dict[str, Any]) -> None:
    """Recipient, amount, asset, network, initiator, externalId: the signer reads none of them from the row."""
    intent = bank.world.row(payout).intent
    bank.edit_row(payout, **columns)
    stated = {**intent, **{name: columns[name] for name in ("recipient", "asset", "network") if name in columns}}
    bank.edit_row(payout, intent=json.dumps(stated))
    assert paid(bank.sign(payout)) == (ALICE, 5 * DOLLAR)
    (slot,) = bank.core.slots()
    assert (slot.external_id, slot.intent) == ("order-1", intent)


def test_another_wallet_in_the_row_is_refused(bank: Bank, payout: str) -> None:
    bank.edit_row(payout, wallet_id=bank.wallet())
    bank.refuse(payout, Why.EVIDENCE, "about another wallet")


@pytest.mark.parametrize(
    "change",
    [
        {"to": MALLORY},
        {"amount": str(6 * DOLLAR)},
        {"contract": MALLORY},
        {"kind": "Native", "contract": None},
        {"externalId": "order-2"},
        {"externalId": None},
        {"priority": "Fast"},
    ],
    ids=lambda change: ",".join(change),
)
def test_an_edited_request_is_refused(bank: Bank, payout: str, change: dict[str, Any]) -> None:
    evidence = bank.evidence(payout)
    payload = {name: value for name, value in {**evidence["payload"], **change}.items() if value is not None}
    bank.write_evidence(payout, {**evidence, "payload": payload})
    bank.refuse(payout, Why.EVIDENCE, "not the one signed")


def test_an_edited_request_with_its_digest_is_refused(bank: Bank, payout: str) -> None:
    evidence = bank.evidence(payout)
    evidence["payload"]["to"] = MALLORY
    evidence["preimage"]["payloadDigest"] = payload_digest(evidence["payload"])
    bank.write_evidence(payout, evidence)
    bank.refuse(payout, Why.EVIDENCE, "requester")


@pytest.mark.parametrize("name", ["identity", "path", "method", "org", "nonce", "issued", "credentials"])
def test_an_edited_preimage_is_refused(bank: Bank, bot: Actor, payout: str, name: str) -> None:
    admin, evidence = bank.world.admin, bank.evidence(payout)
    evidence["preimage"][name] = {
        "identity": admin.user_id,
        "path": f"/wallets/{bank.wallet()}/transfers",
        "method": "PUT",
        "org": "or-other",
        "nonce": "another",
        "issued": evidence["preimage"]["issued"] - 1,
        "credentials": sorted([admin.credential_uuid, bot.credential_uuid]),
    }[name]
    bank.write_evidence(payout, evidence)
    bank.refuse(payout, Why.EVIDENCE)


def test_a_request_signed_by_a_key_that_the_records_do_not_know_is_refused(bank: Bank, bot: Actor, payout: str) -> None:
    private, _ = new_key_pair()
    mallory = dataclasses.replace(bot, private_key=private)
    payload = {"kind": "Erc20", "contract": USDC, "to": MALLORY, "amount": "5"}
    path = bank.evidence(payout)["preimage"]["path"]
    for actor in (mallory, dataclasses.replace(mallory, credential_uuid="cr-other")):
        demand = Demand(payout=signed_call(bank, actor, "POST", path, payload))
        bank.refuse(payout, Why.EVIDENCE, "requester", demand=demand)


def test_a_swapped_public_key_in_the_credential_row_changes_nothing(bank: Bank, bot: Actor, payout: str) -> None:
    """The server would take Mallory's signature; the signer looks the key up in the records."""
    private, public = new_key_pair()
    bank.sql("UPDATE credential SET public_key = :key WHERE id = :id", key=public, id=bot.credential_uuid)
    mallory = dataclasses.replace(bot, private_key=private)
    forged = bank.world.pay(mallory, bank.world.row(payout).wallet_id, 1000, to=MALLORY)
    bank.refuse(forged["id"], Why.EVIDENCE, "requester")


def test_a_request_for_something_else_is_not_one_to_pay(bank: Bank, bot: Actor, payout: str) -> None:
    wallet = bank.world.row(payout).wallet_id
    payload = {"kind": "Erc20", "contract": USDC, "to": MALLORY, "amount": "5"}
    for path in (f"/wallets/{wallet}/transactions", f"/wallets/{wallet}/transfers/{payout}/abort", "/wallets"):
        demand = Demand(payout=signed_call(bank, bot, "POST", path, payload))
        bank.refuse(payout, Why.EVIDENCE, "request", demand=demand)


# --- states and second payments -------------------------------------------------------------------------------------


def test_a_blocked_payout_flipped_to_ready_is_refused(bank: Bank, bot: Actor, wallet: str) -> None:
    bank.world.policy(over(10), BLOCK)
    transfer = bank.world.pay(bot, wallet, 11)["id"]
    assert bank.world.state(transfer) == "rejected"
    bank.edit_row(transfer, state="ready")
    bank.refuse(transfer, Why.NOT_AGREED, "blocks this payout")


@pytest.mark.parametrize("end", ["denied", "expired", "canceled", "held"])
def test_a_held_payout_flipped_to_ready_is_refused(
    bank: Bank, bot: Actor, one: Actor, two: Actor, held: str, end: str
) -> None:
    bank.world.decide(one, held)
    if end == "denied":
        bank.world.decide(two, held, "Denied")
    elif end == "canceled":
        bank.world.withdraw(bot, held)
    elif end == "expired":
        bank.sql("UPDATE approval SET expires_at = 1")
        bank.world.expire()
    bank.edit_row(held, state="ready")
    bank.refuse(held, Why.NOT_AGREED, "did not reach its quorum")


def test_a_payout_of_last_month_is_not_paid_today(bank: Bank, payout: str) -> None:
    """A payout that its initiator gave up while it was ready has nothing else to show that it may not go."""
    bank.edit_row(payout, state="ready")
    bank.world.clock.step(minutes=7 * 24 * 60 + 1)
    bank.refuse(payout, Why.EVIDENCE, "ask again")


def test_a_paid_payout_is_not_paid_again_at_another_nonce(bank: Bank, payout: str) -> None:
    bank.sign(payout)
    bank.edit_row(payout, state="ready", transaction_id=None)
    bank.refuse(payout, Why.CONFLICT, "was signed at nonce 0", nonce=1)


def test_a_paid_row_under_a_new_id_is_not_paid_again(bank: Bank, payout: str) -> None:
    bank.sign(payout)
    bank.sql("UPDATE evidence SET subject = 'xfr-copy' WHERE subject = :id", id=payout)
    bank.edit_row(payout, id="xfr-copy", state="ready", external_id=None)
    bank.refuse("xfr-copy", Why.CONFLICT, "externalId order-1 was signed")


def test_a_paid_request_without_external_id_is_not_paid_again_under_a_new_id(
    bank: Bank, bot: Actor, wallet: str
) -> None:
    payload = {"kind": "Erc20", "contract": USDC, "to": ALICE, "amount": "5"}
    demand = Demand(payout=signed_call(bank, bot, "POST", f"/wallets/{wallet}/transfers", payload))
    transfer = bank.world.pay(bot, wallet, 1)["id"]
    bank.sign(transfer, demand=demand)
    bank.sql("UPDATE transfer SET id = 'xfr-copy' WHERE id = :id", id=transfer)
    bank.refuse("xfr-copy", Why.CONFLICT, "the signed request has paid already", demand=demand)


def test_two_payouts_do_not_share_an_external_id(bank: Bank, bot: Actor, payout: str) -> None:
    wallet = bank.world.row(payout).wallet_id
    payload = {"kind": "Erc20", "contract": USDC, "to": ALICE, "amount": "7", "externalId": "order-1"}
    second = bank.world.pay(bot, wallet, 7, external_id="order-2")["id"]
    bank.sign(payout)
    demand = Demand(payout=signed_call(bank, bot, "POST", f"/wallets/{wallet}/transfers", payload))
    bank.refuse(second, Why.CONFLICT, f"was signed for transfer {payout}", demand=demand)


def test_two_payouts_do_not_share_a_nonce(bank: Bank, bot: Actor, payout: str) -> None:
    second = bank.world.pay(bot, bank.world.row(payout).wallet_id, 7)["id"]
    bank.sign(payout)
    bank.refuse(second, Why.CONFLICT, f"was signed for transfer {payout}", nonce=0)


def test_a_voided_payout_is_not_paid_at_another_nonce(bank: Bank, payout: str) -> None:
    """Whether the void was mined is only known on the chain, which the database could lie about."""
    bank.sign(payout)
    assert isinstance(bank.void(bank.world.row(payout).wallet_id, 0), Signed)
    bank.edit_row(payout, state="ready", transaction_id=None)
    bank.refuse(payout, Why.CONFLICT, "was signed at nonce 0", nonce=1)


# --- approvals ------------------------------------------------------------------------------------------------------


def approve(bank: Bank, held: str, *people: Actor) -> None:
    """Let people approve."""
    for each in people:
        bank.world.decide(each, held)


def test_what_people_agreed_to_is_signed(bank: Bank, one: Actor, two: Actor, held: str) -> None:
    bank.refuse(held, Why.NOT_AGREED, "did not reach its quorum")
    approve(bank, held, one)
    bank.refuse(held, Why.NOT_AGREED, "did not reach its quorum")
    approve(bank, held, two)
    assert paid(bank.sign(held)) == (ALICE, 20_000 * DOLLAR)


def test_an_approval_that_was_deleted_from_the_rows_leaves_everybody_unasked(bank: Bank, held: str) -> None:
    bank.sql("DELETE FROM approval")
    bank.edit_row(held, state="ready", approval_id=None)
    bank.refuse(held, Why.NOT_AGREED, "asks for approval, and was not asked")


def test_a_decision_copied_to_a_second_person_is_refused(bank: Bank, one: Actor, two: Actor, held: str) -> None:
    """The row says that somebody else decided; the signature says who did."""
    approve(bank, held, one)
    bank.sql(
        "INSERT INTO decision SELECT 'dec-copy', approval_id, :two, value, reason, groups_digest, :key, evidence_id, at"
        " FROM decision",
        two=two.user_id,
        key=two.credential_uuid,
    )
    bank.sql(
        "INSERT INTO evidence SELECT 'evi-copy', 'dec-copy', document, at FROM evidence WHERE subject LIKE 'dec-%'"
    )
    bank.edit_row(held, state="ready")
    bank.refuse(held, Why.EVIDENCE, "out of order, or given twice")


def test_a_denial_rewritten_as_an_approval_is_refused(bank: Bank, one: Actor, two: Actor, held: str) -> None:
    approve(bank, held, one)
    bank.world.decide(two, held, "Denied")
    bank.sql("UPDATE decision SET value = 'Approved'")
    bank.edit_row(held, state="ready")
    bank.refuse(held, Why.EVIDENCE, "does not approve")


def test_the_decisions_of_another_payout_are_refused(bank: Bank, bot: Actor, one: Actor, two: Actor, held: str) -> None:
    approve(bank, held, one, two)
    other = bank.world.pay(bot, bank.world.row(held).wallet_id, 30_000, to=MALLORY)["id"]
    bank.sql(
        "UPDATE decision SET approval_id = (SELECT id FROM approval WHERE transfer_id = :other)",
        other=other,
    )
    bank.edit_row(other, state="ready")
    bank.refuse(other, Why.EVIDENCE, "decides about another payout")


def test_the_decisions_of_an_equal_payout_count_once(bank: Bank, bot: Actor, one: Actor, two: Actor, held: str) -> None:
    """Two requests of the same content have one intent, so the approvals of one fit the other: but they pay once."""
    wallet = bank.world.row(held).wallet_id
    payload = {"kind": "Erc20", "contract": USDC, "to": ALICE, "amount": str(20_000 * DOLLAR)}
    path = f"/wallets/{wallet}/transfers"
    first, second = (signed_call(bank, bot, "POST", path, payload) for _ in range(2))
    whole = bank.demand(held)
    intent = {**bank.world.row(held).intent, "externalId": None}
    bound = {"intent_digest": digest(intent), "groups_digest": digest(bank.world.approval(held).groups)}
    path, value = "/v2/policy-approvals/ap-x/decisions", {"value": "Approved"}
    decisions = [signed_call(bank, each, "POST", path, value, **bound) for each in (one, two)]
    approved = Demand(payout=first, asked=whole.asked, decisions=decisions)
    assert isinstance(bank.ask(held, demand=approved), Signed)
    again = dataclasses.replace(approved, payout=second)
    bank.refuse(held, Why.CONFLICT, "a signed approval has paid already", demand=again, transfer_id="xfr-second")


def test_an_approver_removed_since_does_not_count(bank: Bank, one: Actor, two: Actor, held: str) -> None:
    """The rows are set back to how they were; the record that removed the person is there and signed."""
    approve(bank, held, one, two)
    demand = bank.demand(held)
    bank.world.deactivate(two)
    bank.sql('UPDATE "user" SET is_active = 1')
    bank.edit_row(held, state="ready")
    bank.refuse(held, Why.NOT_AGREED, "switched off since", demand=demand)


def test_an_approver_who_may_no_longer_vote_does_not_count(bank: Bank, one: Actor, two: Actor, held: str) -> None:
    approve(bank, held, one, two)
    demand = bank.demand(held)
    bank.world.forbid(two)
    bank.refuse(held, Why.NOT_AGREED, "no longer permitted", demand=demand)


def test_one_person_with_two_keys_is_one_person(bank: Bank, one: Actor, two: Actor, held: str) -> None:
    second = bank.world.second_key(one)
    approve(bank, held, one)
    value, approval = {"value": "Approved"}, bank.world.approval(held)
    bound = {"intent_digest": digest(bank.world.row(held).intent), "groups_digest": digest(approval.groups)}
    path = f"/v2/policy-approvals/{approval.id}/decisions"
    whole = bank.demand(held)
    more = signed_call(bank, second, "POST", path, value, **bound)
    demand = dataclasses.replace(whole, decisions=[*whole.decisions, more])
    bank.refuse(held, Why.NOT_AGREED, "decided already", demand=demand)


def test_the_initiator_does_not_approve_what_it_asked_for(bank: Bank, bot: Actor, one: Actor, wallet: str) -> None:
    world = bank.world
    world.policy(ALWAYS, ask(group(bot, one, serviceAccountsCanApprove=True)))
    transfer = world.pay(bot, wallet, 5)["id"]
    approval = world.approval(transfer)
    bound = {"intent_digest": digest(world.row(transfer).intent), "groups_digest": digest(approval.groups)}
    path = f"/v2/policy-approvals/{approval.id}/decisions"
    vote = signed_call(bank, bot, "POST", path, {"value": "Approved"}, **bound)
    demand = dataclasses.replace(bank.demand(transfer), decisions=[vote])
    bank.refuse(transfer, Why.NOT_AGREED, "lets the initiator approve", demand=demand)


def test_an_approver_added_to_the_group_by_hand_is_nobody(
    bank: Bank, bot: Actor, one: Actor, two: Actor, held: str
) -> None:
    mallory = bank.world.person("mallory@example.com")
    approve(bank, held, one)
    groups = copy.deepcopy(bank.world.approval(held).groups)
    groups[0]["approvers"]["userId"]["in"].append(mallory.user_id)
    bank.sql(
        "UPDATE approval SET groups = :groups, groups_digest = :digest",
        groups=json.dumps(groups),
        digest=digest(groups),
    )
    bank.world.decide(mallory, held)
    bank.edit_row(held, state="ready")
    bank.refuse(held, Why.NOT_AGREED)
    whole = bank.demand(held)
    bank.refuse(held, Why.NOT_AGREED, demand=dataclasses.replace(whole, asked=current(bank)))


def current(bank: Bank) -> list[dict[str, Any]]:
    """Return the only policy, at the version that the records have."""
    (record,) = [each for each in bank.records() if each["kind"] == "policy.created"]
    return [{"policyId": record["subject"], "version": 1}]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM policy",
        "UPDATE policy SET status = 'Archived'",
        'UPDATE policy SET action = \'{"kind":"NoAction"}\'',
        "UPDATE policy SET rule = json_set(rule, '$.configuration.limit', 999999999)",
        'UPDATE policy SET filters = \'{"walletId":{"in":["wa-other"]}}\'',
    ],
)
def test_a_policy_deleted_or_loosened_in_its_row_still_asks(
    bank: Bank, bot: Actor, one: Actor, two: Actor, wallet: str, statement: str
) -> None:
    bank.world.policy(over(10_000), ask(group(one, two)))
    bank.sql(statement)
    transfer = bank.world.pay(bot, wallet, 20_000)["id"]
    assert bank.world.state(transfer) == "ready"
    bank.refuse(transfer, Why.NOT_AGREED, "asks for approval, and was not asked")


def test_a_policy_loosened_after_the_request_asks_what_it_asked_then(
    bank: Bank, bot: Actor, one: Actor, wallet: str
) -> None:
    """The edit is signed and in force: payouts that were asked for before it are judged as of then too."""
    policy = bank.world.policy(over(10), ask(group(one)))
    transfer = bank.world.pay(bot, wallet, 20)["id"]
    bank.world.replace_policy(policy, over(1000), ask(group(one)))
    bank.sql("DELETE FROM approval")
    bank.edit_row(transfer, state="ready", approval_id=None)
    bank.refuse(transfer, Why.NOT_AGREED, "was not asked")


def test_a_policy_tightened_after_the_request_asks_what_it_asks_now(
    bank: Bank, bot: Actor, one: Actor, payout: str
) -> None:
    bank.world.policy(known(BOB), ask(group(one)))
    bank.refuse(payout, Why.NOT_AGREED, "was not asked")


def test_a_policy_at_a_version_that_nobody_signed_is_refused(bank: Bank, one: Actor, two: Actor, held: str) -> None:
    approve(bank, held, one, two)
    whole = bank.demand(held)
    for asked in ([{**whole.asked[0], "version": 2}], [{"policyId": "plc-other", "version": 1}], []):
        demand = dataclasses.replace(whole, asked=asked)
        bank.refuse(held, Why.NOT_AGREED, "policies", demand=demand)


# --- people, permissions, tokens ------------------------------------------------------------------------------------


def test_who_was_switched_off_pays_nobody(bank: Bank, bot: Actor, one: Actor, wallet: str) -> None:
    transfer = bank.world.pay(one, wallet, 5)["id"]
    bank.world.deactivate(one)
    bank.sql('UPDATE "user" SET is_active = 1')
    bank.refuse(transfer, Why.NOT_AGREED, "switched off since")


def test_a_permission_that_only_the_rows_give_is_none(bank: Bank, wallet: str) -> None:
    permission = bank.world.permission("Wallets:Read")
    reader = bank.world.service_account("reader", permission_id=permission)
    bank.sql(
        "UPDATE permission SET operations = :all WHERE id = :id",
        all=json.dumps(["Wallets:Read", "Wallets:Transfers:Create"]),
        id=permission,
    )
    transfer = bank.world.pay(reader, wallet, 5, to=MALLORY)["id"]
    bank.refuse(transfer, Why.EVIDENCE, "was not permitted")


def test_a_permission_that_was_taken_back_is_gone(bank: Bank, wallet: str) -> None:
    world = bank.world
    permission = world.permission("Wallets:Transfers:Create")
    payer = world.service_account("payer", permission_id=permission)
    transfer = world.pay(payer, wallet, 5)["id"]
    payload = {"name": "nothing", "operations": ["Wallets:Read"]}
    world.call(
        world.admin,
        "PUT",
        f"/permissions/{permission}",
        payload,
        "Permissions:Update",
        lambda act: permissions.update(act, permission, name="nothing", operations=["Wallets:Read"]),
    )
    bank.refuse(transfer, Why.NOT_AGREED, "no longer permitted")


def test_a_personal_token_pays_within_its_limit_only(bank: Bank, wallet: str) -> None:
    reader, _ = bank.world.personal_token(bank.world.admin, "Wallets:Read")
    payload = {"kind": "Erc20", "contract": USDC, "to": MALLORY, "amount": "5"}
    call = signed_call(bank, reader, "POST", f"/wallets/{wallet}/transfers", payload)
    transfer = bank.world.pay(bank.world.admin, wallet, 5)["id"]
    bank.refuse(transfer, Why.EVIDENCE, "was not permitted", demand=Demand(payout=call))


def test_a_personal_token_does_not_vote(bank: Bank, one: Actor, two: Actor, held: str) -> None:
    token, _ = bank.world.personal_token(two)
    approve(bank, held, one)
    approval = bank.world.approval(held)
    bound = {"intent_digest": digest(bank.world.row(held).intent), "groups_digest": digest(approval.groups)}
    path = f"/v2/policy-approvals/{approval.id}/decisions"
    whole = bank.demand(held)
    vote = signed_call(bank, token, "POST", path, {"value": "Approved"}, **bound)
    demand = dataclasses.replace(whole, decisions=[*whole.decisions, vote])
    bank.refuse(held, Why.EVIDENCE, "was not permitted", demand=demand)


def test_the_evidence_of_another_organization_is_worth_nothing(found: Found, bank: Bank, payout: str) -> None:
    other = found()
    bot, wallet = other.world.service_account("payouts bot"), other.wallet()
    theirs = other.world.pay(bot, wallet, 5, to=MALLORY)["id"]
    bank.refuse(payout, Why.BEHIND, "has not seen", demand=other.demand(theirs))
    head = digest(bank.records()[-1])
    payload = {"kind": "Erc20", "contract": USDC, "to": MALLORY, "amount": "5"}
    path = f"/wallets/{bank.world.row(payout).wallet_id}/transfers"
    for org in (bank.world.org_id, other.world.org_id):
        call = signed_call(bank, bot, "POST", path, payload, records_head=head, org=org)
        bank.refuse(payout, Why.EVIDENCE, "requester", demand=Demand(payout=call))


# --- records --------------------------------------------------------------------------------------------------------


def accept(bank: Bank, records: list[dict[str, Any]]) -> SignerRefused:
    """Send records that are refused; return why."""
    before = bank.core.status()
    with pytest.raises(SignerRefused) as refused:
        bank.core.accept_records([canonical(each).decode() for each in records])
    assert bank.core.status() == before
    assert refused.value.why == Why.EVIDENCE
    return refused.value


def resigned(record: dict[str, Any], prev: str, actor: Actor, **body: Any) -> dict[str, Any]:
    """Return a record made again by somebody over another head, with members of its body changed."""
    forged = copy.deepcopy({**record, "prev": prev})
    forged["body"].update(body)
    preimage = {**record["evidence"]["preimage"], "recordsHead": prev}
    answer = actor.sign(action_challenge(Preimage.from_document(preimage)))
    forged["evidence"].update(preimage=preimage, assertion=Assertion.from_document(answer).document())
    return forged


def test_records_rolled_back_are_not_followed(bank: Bank, bot: Actor, one: Actor, wallet: str) -> None:
    """The approver is removed; the attacker takes the record away and forges on from before it."""
    world = bank.world
    world.policy(ALWAYS, ask(group(one)))
    transfer = world.pay(bot, wallet, 5)["id"]
    world.decide(one, transfer)
    demand, short = bank.demand(transfer), bank.records()
    world.deactivate(one)
    bank.push()
    bank.sql("DELETE FROM record WHERE seq = :seq", seq=len(short))
    bank.sql("UPDATE organization SET head = :head, head_seq = :seq", head=digest(short[-1]), seq=len(short) - 1)
    bank.edit_row(transfer, state="ready")
    bank.refuse(transfer, Why.NOT_AGREED, "switched off since", demand=demand)
    assert bank.core.status().record_seq == len(short)
    world.person("somebody@example.com")
    assert "accepted another record" in accept(bank, bank.records()).message


def test_a_truncated_chain_does_not_bring_back_an_old_policy(bank: Bank, bot: Actor, one: Actor, wallet: str) -> None:
    bank.push()
    short = bank.records()
    bank.world.policy(ALWAYS, ask(group(one)))
    bank.push()
    bank.sql("DELETE FROM policy")
    bank.sql("DELETE FROM record WHERE seq >= :seq", seq=len(short))
    bank.sql("UPDATE organization SET head = :head, head_seq = :seq", head=digest(short[-1]), seq=len(short) - 1)
    transfer = bank.world.pay(bot, wallet, 5)["id"]
    assert bank.world.state(transfer) == "ready"
    bank.refuse(transfer, Why.NOT_AGREED, "was not asked")


def test_a_record_added_with_a_key_of_the_attackers_is_refused(bank: Bank, bot: Actor, one: Actor) -> None:
    """An approver is invited, a policy loosened: by a key that the records do not know."""
    private, _ = new_key_pair()
    mallory = dataclasses.replace(bank.world.admin, private_key=private)
    bank.world.policy(over(10), ask(group(one)))
    records = bank.records()
    for record in (each for each in records if each["evidence"] is not None):
        forged = resigned({**record, "seq": len(records)}, digest(records[-1]), mallory)
        bank.push()
        assert "record" in accept(bank, [forged]).message


def test_a_chain_signed_again_with_new_keys_is_refused(bank: Bank) -> None:
    """Whoever owns the database can make a whole organization of their own: not one with this root."""
    records = bank.records()
    private, public = new_key_pair()
    forged = copy.deepcopy(records[0])
    forged["body"]["admin"].update(publicKey=public, fingerprint=fingerprint(public))
    mallory = dataclasses.replace(bank.world.admin, private_key=private)
    chain = [forged]
    for record in records[1:]:
        chain.append(resigned(record, digest(chain[-1]), mallory))
    bank.lose_journal()
    fresh = Bank.__new__(Bank)
    fresh.core = bank.core
    assert "another record 0" in accept(bank, chain).message


@pytest.mark.parametrize("member", ["seq", "prev", "kind", "subject", "at", "body", "org", "evidence"])
def test_an_edited_record_is_refused(bank: Bank, bot: Actor, member: str) -> None:
    bank.push()
    bank.wallet()
    record = bank.records()[-1]
    edited: Any = {
        "seq": record["seq"] + 1,
        "prev": "0" * 64,
        "kind": "policy.archived",
        "subject": "plc-aaaaa-aaaaa-aaaaaaaaaaaaaaaa",
        "at": 1,
        "body": {**record["body"], "address": MALLORY, "publicKey": "02" + "11" * 32, "extra": 1},
        "org": "or-other",
        "evidence": None,
    }[member]
    accept(bank, [{**record, member: edited}])
    bank.push()
    assert bank.core.status().record_seq == record["seq"]


def test_records_out_of_order_or_with_a_gap_are_refused(bank: Bank, bot: Actor, wallet: str) -> None:
    records = bank.records()
    last = len(records) - 1
    bank.core.accept_records([canonical(each).decode() for each in records[:-2]])
    accept(bank, [records[last]])
    with pytest.raises(SignerRefused):
        bank.core.accept_records([canonical(records[last - 1]).decode(), "{}"])
    assert bank.core.status().record_seq == last - 1
    bank.push()
    assert bank.core.status().record_seq == last


def test_a_record_in_another_spelling_is_refused(bank: Bank) -> None:
    genesis = bank.records()[0]
    with pytest.raises(SignerRefused, match="canonical"):
        bank.core.accept_records([json.dumps(genesis)])
    for text in ("", "{", "[]", "null", '{"seq":"0"}', '{"seq":-1}', '{"seq":true}', "\ud800"):
        with pytest.raises(SignerRefused):
            bank.core.accept_records([text])


# --- wallets, networks, settings ------------------------------------------------------------------------------------


def test_a_wallet_with_a_key_of_the_attackers_is_not_signed_for(bank: Bank, bot: Actor) -> None:
    """A server that names its own address for a wallet gets deposits there, but no signature."""
    wallet = bank.world.wallet()
    bank.core.create_key(wallet)
    transfer = bank.world.pay(bot, wallet, 5)["id"]
    bank.refuse(transfer, Why.EVIDENCE, "names another key")


def test_a_wallet_without_a_record_is_not_signed_for(bank: Bank, bot: Actor, payout: str) -> None:
    key = bank.core.create_key("wa-made-up")
    payload = {"kind": "Erc20", "contract": USDC, "to": MALLORY, "amount": "5"}
    call = signed_call(bank, bot, "POST", "/wallets/wa-made-up/transfers", payload)
    changes = {"wallet_id": "wa-made-up", "demand": Demand(payout=call)}
    bank.refuse(payout, Why.EVIDENCE, "know no such wallet", **changes)
    assert key.address


def test_a_network_pointed_at_another_chain_is_not_signed_for(bank: Bank, bot: Actor, payout: str) -> None:
    """In the rows it changes nothing; in signed settings, what was created for the one chain stays there."""
    bank.sql("UPDATE wallet SET chain_id = 1, network = 'Base'")
    assert paid(bank.sign(payout)) == (ALICE, 5 * DOLLAR)
    apply(bank, SETTINGS.replace("31337", "1337"))
    late = bank.world.row(payout)
    payload = {"kind": "Erc20", "contract": USDC, "to": ALICE, "amount": "5"}
    call = signed_call(bank, bot, "POST", f"/wallets/{late.wallet_id}/transfers", payload)
    demand = Demand(payout=call)
    bank.refuse(payout, Why.NOT_AGREED, "do not mean", demand=demand, transfer_id="xfr-late")


def apply(bank: Bank, settings: str) -> None:
    """Let the admin sign other money settings."""
    world = bank.world
    world.config = parse(settings)
    signed = world.config.money_settings()
    world.call(
        world.admin,
        "PUT",
        "/v1/config",
        {"moneySettings": signed},
        "Config:Apply",
        lambda act: organization.apply_config(act, settings=signed),
    )


def test_decimals_and_prices_of_the_configuration_file_are_not_believed(
    bank: Bank, bot: Actor, one: Actor, wallet: str
) -> None:
    """Whoever edits the server's settings makes 20,000 dollars worth two cents; the signer has the signed ones."""
    bank.world.policy(over(10_000), ask(group(one)))
    bank.world.config = parse(SETTINGS.replace("decimals = 6", "decimals = 12"))
    bank.sql("UPDATE organization SET money_settings = :d", d=digest(bank.world.config.money_settings()))
    transfer = bank.world.pay(bot, wallet, 20_000)["id"]
    assert bank.world.state(transfer) == "ready"
    bank.refuse(transfer, Why.NOT_AGREED, "asks for approval, and was not asked")


def test_an_asset_that_only_the_rows_know_is_not_paid(bank: Bank, bot: Actor, payout: str) -> None:
    payload = {"kind": "Erc20", "contract": MALLORY, "to": MALLORY, "amount": "5"}
    call = signed_call(bank, bot, "POST", f"/wallets/{bank.world.row(payout).wallet_id}/transfers", payload)
    bank.refuse(payout, Why.NOT_AGREED, "do not list this asset", demand=Demand(payout=call))


def test_a_raised_fee_cap_is_refused(bank: Bank, payout: str) -> None:
    """Fees go to whoever makes the block: a raised cap is a way to pay the attacker."""
    bank.refuse(payout, Why.NOT_AGREED, "cap the fees", fee_cap=FEE_CAP + 1)
    assert isinstance(bank.sign(payout, fee_cap=FEE_CAP), Signed)


def test_a_fee_cap_of_an_asset_goes_before_that_of_its_network(found: Found) -> None:
    settings = SETTINGS.replace('symbol = "USDC"', f'symbol = "USDC"\nfee_cap = "{FEE_CAP * 2}"')
    bank = found(settings=settings)
    bot, wallet = bank.world.service_account("payouts bot"), bank.wallet()
    token, native = bank.world.pay(bot, wallet, 5)["id"], bank.world.pay(bot, wallet, 0, units=5, native=True)["id"]
    bank.refuse(native, Why.NOT_AGREED, "cap the fees", fee_cap=FEE_CAP + 1)
    bank.refuse(token, Why.NOT_AGREED, "cap the fees", fee_cap=FEE_CAP * 2 + 1)
    assert isinstance(bank.sign(token, fee_cap=FEE_CAP * 2), Signed)


def test_voids_and_bumps_burn_no_more_than_the_frozen_caps(bank: Bank, payout: str) -> None:
    wallet = bank.world.row(payout).wallet_id
    bank.sign(payout, fee_cap=FEE_CAP // 2)
    for fee in (10**4, 10**6, 10**9):
        answer = bank.void(wallet, 0, max_fee_per_gas=fee, max_priority_fee_per_gas=fee, fee_cap=21_000 * fee)
        assert isinstance(answer, SignerRefused)
    assert isinstance(bank.void(wallet, 9), SignerRefused)
    assert bank.core.status().sequence == 1


# --- everything at once ---------------------------------------------------------------------------------------------


def test_with_everything_stolen_the_signer_keeps_its_own_caps(found: Found) -> None:
    """The attacker owns the database and the initiator's key, and no policy is in the way: caps are what is left."""
    bank = found(caps=[usdc_cap(total=100 * DOLLAR, per_payout=30 * DOLLAR, per_recipient=50 * DOLLAR, count=5)])
    bot, wallet = bank.world.service_account("payouts bot"), bank.wallet()
    taken = 0
    for attempt in range(30):
        payload = {
            "kind": "Erc20",
            "contract": USDC,
            "to": "0x" + f"{0x60 + attempt % 3:02x}" * 20,
            "amount": str((20 + attempt % 4 * 10) * DOLLAR),
        }
        call = signed_call(bank, bot, "POST", f"/wallets/{wallet}/transfers", payload)
        bank.push()
        anything = bank.world.pay(bot, wallet, 1)["id"]
        answer = bank.ask(anything, demand=Demand(payout=call))
        if isinstance(answer, Signed):
            taken += paid(answer)[1]
        else:
            assert answer.why == Why.CAP, answer
    assert 0 < taken <= 100 * DOLLAR


def test_the_wallets_network_is_the_one_that_was_signed(bank: Bank, payout: str) -> None:
    bank.sign(payout)
    (slot,) = bank.core.slots()
    assert slot.intent is not None
    assert (slot.intent["network"], slot.intent["chainId"]) == (NETWORK, 31337)


# --- rules to choose from --------------------------------------------------------------------------------------------

FORTUNE = 900_000


def ask_for_a_fortune(bank: Bank, bot: Actor, wallet: str, head: str) -> Signed | SignerRefused:
    """Return what the signer says to a request for more than the policies let go, signed over ``head``."""
    payload = {"kind": "Erc20", "contract": USDC, "to": MALLORY, "amount": str(FORTUNE * DOLLAR)}
    call = signed_call(bank, bot, "POST", f"/wallets/{wallet}/transfers", payload, records_head=head)
    some = bank.world.pay(bot, wallet, 1)["id"]
    return bank.ask(some, demand=Demand(payout=call), transfer_id="xfr-fortune")


@pytest.mark.parametrize("action", ["ask", "block"])
def test_a_request_over_an_old_head_is_refused(bank: Bank, bot: Actor, wallet: str, action: str) -> None:
    """A price changed since. Over a head of before, two prices were in force, and the value was nobody's."""
    bank.world.policy(over(10_000), ask(group(bank.world.admin)) if action == "ask" else BLOCK)
    old = digest(bank.records()[-1])
    apply(bank, SETTINGS.replace('USDC = "1"', 'USDC = "0.9999"'))
    bank.world.clock.step(micros=90 * DAY)
    for head in (old, digest(bank.records()[-1])):
        answer = ask_for_a_fortune(bank, bot, wallet, head)
        assert isinstance(answer, SignerRefused)
        assert ("not the newest then" in answer.message) == (head == old)


@pytest.mark.parametrize("action", ["ask", "block"])
def test_a_policy_that_cannot_tell_the_value_asks(found: Found, action: str) -> None:
    bank = found(settings=SETTINGS.replace('USDC = "1"\n', ""))
    bot, wallet = bank.world.service_account("payouts bot"), bank.wallet()
    bank.world.policy(over(10_000), ask(group(bank.world.admin)) if action == "ask" else BLOCK)
    answer = ask_for_a_fortune(bank, bot, wallet, digest(bank.records()[-1]))
    assert isinstance(answer, SignerRefused)
    assert answer.why == Why.NOT_AGREED
