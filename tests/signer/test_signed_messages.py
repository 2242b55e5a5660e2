"""Payouts asked for with signed HTTP messages: the signer checks them as it checks everything else, row by row."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from outlay.core.seams import MINUTE, SECOND
from outlay.evidence import merkle
from outlay.evidence.canonical import canonical
from outlay.evidence.http_signature import content_digest
from outlay.signer import Why
from tests.actions.documents import BLOCK, ask, group, over
from tests.actions.messages import head_of, item, message, pay, pay_batch
from tests.actions.world import ALICE, BOB, DOLLAR, Actor
from tests.signer.bank import Bank, paid

Document = dict[str, Any]


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    """Return an organization and its signer, both empty but for an admin."""
    opened = Bank(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def bot(bank: Bank) -> Actor:
    return bank.world.service_account("payouts bot")


@pytest.fixture
def wallet(bank: Bank) -> str:
    return bank.wallet("payouts")


@pytest.fixture
def payout(bank: Bank, bot: Actor, wallet: str) -> str:
    """Return a payout of 5 USDC, asked for with one message."""
    return str(pay(bank.world, bot, item(wallet))["id"])


@pytest.fixture
def rows(bank: Bank, bot: Actor, wallet: str) -> list[str]:
    """Return five payouts of 1 to 5 USDC of one batch."""
    answer = pay_batch(bank.world, bot, [item(wallet, number, external_id=f"row-{number}") for number in range(1, 6)])
    return [each["payout"]["id"] for each in answer["items"]]


def edit(bank: Bank, subject: str, change: Any) -> None:
    """Change stored evidence."""
    document = copy.deepcopy(bank.evidence(subject))
    change(document)
    bank.write_evidence(subject, document)


# What is honest


def test_a_message_is_signed_for(bank: Bank, payout: str) -> None:
    assert paid(bank.sign(payout)) == (ALICE, 5 * DOLLAR)


def test_a_message_that_names_no_records_is_signed_for(bank: Bank, bot: Actor, wallet: str) -> None:
    bank.world.clock.step(micros=SECOND)
    made = pay(bank.world, bot, item(wallet), names_head=False)
    assert paid(bank.sign(made["id"])) == (ALICE, 5 * DOLLAR)


def test_each_row_of_a_batch_is_signed_for_without_the_others(bank: Bank, rows: list[str]) -> None:
    for number, each in enumerate(rows, start=1):
        call = bank.demand(each).payout
        assert len(json.dumps(call)) < 2_000 and call["row"]["count"] == 5
        assert paid(bank.sign(each)) == (ALICE, number * DOLLAR)


@pytest.mark.parametrize("asset", ["USDC", "ETH", "native"])
def test_a_symbol_means_what_the_signed_settings_say(bank: Bank, bot: Actor, wallet: str, asset: str) -> None:
    made = pay(bank.world, bot, item(wallet, 1, asset=asset))
    assert made["asset"] == ("native" if asset != "USDC" else bank.world.row(made["id"]).asset)
    bank.sign(made["id"])


def test_a_held_row_is_signed_for_once_people_agreed(bank: Bank, bot: Actor, wallet: str) -> None:
    one = bank.world.person("one@example.com")
    bank.world.policy(over(3), ask(group(one)))
    answer = pay_batch(bank.world, bot, [item(wallet, n, external_id=f"row-{n}") for n in (1, 4)])
    small, large = (each["payout"] for each in answer["items"])
    assert (small["state"], large["state"]) == ("ready", "held")
    bank.sign(small["id"])
    bank.refuse(large["id"], Why.NOT_AGREED, "quorum")
    bank.world.decide(one, large["id"])
    assert paid(bank.sign(large["id"])) == (ALICE, 4 * DOLLAR)


def test_a_key_on_p256_signs_messages_too(bank: Bank, wallet: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    person = bank.world.person("one@example.com")
    token, _ = bank.world.personal_token(person, "Wallets:Transfers:Create", public_key=public.decode())
    made = pay(bank.world, replace(token, private_key=private), item(wallet))
    assert paid(bank.sign(made["id"])) == (ALICE, 5 * DOLLAR)


# Whoever owns the database


@pytest.mark.parametrize(
    "change",
    [
        lambda call: call.update(body=call["body"].replace('"5000000"', '"6000000"')),
        lambda call: call.update(body=call["body"].replace(ALICE, BOB)),
        lambda call: call.update(body=call["body"] + " "),
        lambda call: call.update(body=""),
        lambda call: call.pop("body"),
        lambda call: call["message"].pop("contentDigest"),
        lambda call: call["message"].update(contentDigest=content_digest(b"{}")),
        lambda call: call["message"].update(method="PUT"),
        lambda call: call["message"].update(targetUri="http://localhost:8000/v1/payouts/batch"),
        lambda call: call["message"].update(targetUri="http://elsewhere.example/v1/payouts"),
        lambda call: call["message"].update(targetUri="http://localhost:8000/v1/payouts?x=1"),
        lambda call: call["message"].update(recordsHead="0" * 64),
        lambda call: call["message"].pop("recordsHead"),
        lambda call: call["message"].update(batchDigest="0" * 64),
        lambda call: call["message"].update(parameters=call["message"]["parameters"].replace(' "content-digest"', "")),
        lambda call: call["message"].update(parameters=call["message"]["parameters"].replace("keyid", "alg")),
        lambda call: call.update(v=2),
        lambda call: call["message"].update(extra="x"),
        lambda call: call["message"].update(signature="_-" + call["message"]["signature"][2:]),
        lambda call: call["message"].update(signature=call["message"]["signature"] + "="),
    ],
)
def test_an_edited_message_is_refused(bank: Bank, payout: str, change: Any) -> None:
    edit(bank, payout, change)
    answer = bank.ask(payout)
    assert getattr(answer, "why", None) in (Why.EVIDENCE, Why.BEHIND), answer


def test_the_whole_request_changed_with_its_digest_does_not_verify(bank: Bank, payout: str) -> None:
    def change(call: Document) -> None:
        call["body"] = call["body"].replace('"5000000"', '"6000000"')
        call["message"]["contentDigest"] = content_digest(call["body"].encode())

    edit(bank, payout, change)
    bank.refuse(payout, Why.EVIDENCE, "does not verify")


def test_the_key_of_another_person_is_refused(bank: Bank, bot: Actor, payout: str) -> None:
    other = bank.world.service_account("another bot")
    text = bank.evidence(payout)["message"]["parameters"]
    renamed = text.replace(f'keyid="{bot.credential_id}"', f'keyid="{other.credential_id}"')
    assert renamed != text
    edit(bank, payout, lambda call: call["message"].update(parameters=renamed))
    bank.refuse(payout, Why.EVIDENCE, "does not verify")


def test_the_stored_name_of_the_key_is_not_believed(bank: Bank, bot: Actor, payout: str) -> None:
    edit(bank, payout, lambda call: call["credential"].update(publicKey="x", userId="us-x", uuid="cr-x"))
    assert paid(bank.sign(payout)) == (ALICE, 5 * DOLLAR)


def test_a_key_the_records_do_not_know_is_refused(bank: Bank, bot: Actor, payout: str) -> None:
    text = bank.evidence(payout)["message"]["parameters"].replace(bot.credential_id, "x" + bot.credential_id[1:])
    edit(bank, payout, lambda call: call["message"].update(parameters=text))
    bank.refuse(payout, Why.EVIDENCE, "do not know")


def test_a_message_without_the_permission_is_refused(bank: Bank, wallet: str, payout: str) -> None:
    world = bank.world
    reader = world.service_account("reader", permission_id=world.permission("Wallets:Read"))
    forged = message(world, reader, "/v1/payouts", item(wallet, external_id="forged"))
    bank.write_evidence(payout, {**bank.evidence(payout), **forged.proof()})
    bank.refuse(payout, Why.EVIDENCE, "not permitted")


def test_a_message_to_another_route_is_no_request(bank: Bank, bot: Actor, wallet: str, payout: str) -> None:
    world = bank.world
    for path in ("/v1/payouts/x/cancel", "/v1/pools", "/v2/policy-approvals/ap-x/decisions", "/v1/payouts/batch"):
        forged = message(world, bot, path, item(wallet, external_id="forged"))
        bank.write_evidence(payout, {**bank.evidence(payout), **forged.proof()})
        bank.refuse(payout, Why.EVIDENCE, "not a request of a payout")


def test_a_message_from_the_future_and_one_that_is_too_old_are_refused(bank: Bank, bot: Actor, wallet: str) -> None:
    world = bank.world
    made = pay(world, bot, item(wallet))["id"]
    bank.world.clock.step(minutes=-11)
    bank.refuse(made, Why.EVIDENCE, "in the future")
    bank.world.clock.step(minutes=11 + 7 * 24 * 60 + 1)
    bank.refuse(made, Why.EVIDENCE, "seconds ago")


def test_a_message_over_records_of_before_a_policy_is_refused(bank: Bank, bot: Actor, wallet: str) -> None:
    """Who names an older record picks the rules to be judged by."""
    world = bank.world
    old = head_of(world)
    world.clock.step(minutes=1)
    world.policy(over(3), BLOCK)
    world.clock.step(minutes=20)
    made = pay(world, bot, item(wallet, 1))["id"]
    forged = message(world, bot, "/v1/payouts", item(wallet, 5), records_head=old)
    bank.write_evidence(made, {**bank.evidence(made), **forged.proof()})
    bank.refuse(made, Why.EVIDENCE, "not the newest")


def test_a_message_that_names_no_records_is_judged_by_those_of_when_it_was_made(
    bank: Bank, bot: Actor, wallet: str
) -> None:
    """A policy that blocks now blocks, also what was asked for before."""
    world = bank.world
    world.clock.step(micros=SECOND)
    made = pay(world, bot, item(wallet), names_head=False)["id"]
    world.clock.step(minutes=1)
    world.policy(over(3), BLOCK)
    bank.refuse(made, Why.NOT_AGREED, "blocks")


def test_a_message_pays_once(bank: Bank, payout: str) -> None:
    bank.sign(payout)
    bank.refuse(payout, Why.CONFLICT, "was signed at nonce", nonce=1)
    bank.sql("UPDATE transfer SET id = 'xfr-copy' WHERE id = :id", id=payout)
    bank.sql("UPDATE evidence SET subject = 'xfr-copy' WHERE subject = :id", id=payout)
    bank.refuse("xfr-copy", Why.CONFLICT, "externalId")


# Rows of batches


def test_a_row_pays_once_and_its_neighbours_still_pay(bank: Bank, rows: list[str]) -> None:
    bank.sign(rows[0])
    edit(bank, rows[1], lambda call: call.update(row=bank.evidence(rows[0])["row"]))
    bank.refuse(rows[1], Why.CONFLICT, "externalId")
    bank.sign(rows[2])


def test_a_row_signed_without_external_id_pays_once(bank: Bank, bot: Actor, wallet: str, rows: list[str]) -> None:
    """The signed row itself is spent, not only its id."""
    world = bank.world
    items = [item(wallet, 1, external_id=None), item(wallet, 2, external_id=None)]
    leaves = [merkle.leaf(canonical(each)) for each in items]
    digest = merkle.digest_of(leaves)
    forged = message(world, bot, "/v1/payouts/batch", {"items": items}, batch_digest=digest).proof()
    for at in (0, 1):
        row = {"index": at, "count": 2, "path": merkle.paths_of(leaves)[at], "item": items[at]}
        call = {**bank.evidence(rows[at]), "message": forged["message"], "row": row}
        bank.write_evidence(rows[at], call)
        bank.sign(rows[at])
        bank.write_evidence(rows[at + 2], call)
        bank.refuse(rows[at + 2], Why.CONFLICT, "has paid already")


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row["item"].update(amount="9000000"),
        lambda row: row["item"].update(recipient=BOB),
        lambda row: row["item"].update(memo="x"),
        lambda row: row.update(index=row["index"] + 1),
        lambda row: row.update(index=-1),
        lambda row: row.update(count=row["count"] + 1),
        lambda row: row.update(count=1, path=[]),
        lambda row: row["path"].pop(),
        lambda row: row["path"].append(row["path"][0]),
        lambda row: row["path"].reverse(),
        lambda row: row.update(path=[each.upper() for each in row["path"]]),
        lambda row: row.update(extra="x"),
    ],
)
def test_an_edited_row_is_refused(bank: Bank, rows: list[str], change: Any) -> None:
    edit(bank, rows[1], lambda call: change(call["row"]))
    bank.refuse(rows[1], Why.EVIDENCE)


def test_a_row_moved_to_another_batch_is_refused(bank: Bank, bot: Actor, wallet: str, rows: list[str]) -> None:
    others = pay_batch(bank.world, bot, [item(wallet, n, external_id=f"other-{n}") for n in range(1, 6)])
    moved = others["items"][2]["payout"]["id"]
    theirs = bank.evidence(moved)
    edit(bank, rows[2], lambda call: call.update(message=theirs["message"]))
    bank.refuse(rows[2], Why.EVIDENCE, "not in the batch")
    edit(bank, rows[3], lambda call: call["row"].update(path=theirs["row"]["path"]))
    bank.refuse(rows[3], Why.EVIDENCE, "not in the batch")


def test_a_single_request_is_no_row_and_a_row_no_single_request(
    bank: Bank, payout: str, rows: list[str], wallet: str
) -> None:
    single, row = bank.evidence(payout), bank.evidence(rows[0])
    alone = item(wallet, 1, external_id="alone")
    leaf = merkle.leaf(canonical(alone))
    as_row = {"index": 0, "count": 1, "path": [], "item": alone}
    bank.write_evidence(payout, {**{k: v for k, v in single.items() if k != "body"}, "row": as_row})
    bank.refuse(payout, Why.EVIDENCE)
    assert merkle.digest_of([leaf]) != row["message"]["batchDigest"]
    bank.write_evidence(rows[0], {**{k: v for k, v in row.items() if k != "row"}, "body": json.dumps(alone)})
    bank.refuse(rows[0], Why.EVIDENCE)
    bank.write_evidence(rows[1], {**bank.evidence(rows[1]), "body": json.dumps(alone)})
    bank.refuse(rows[1], Why.EVIDENCE)


def test_the_body_of_a_batch_is_no_request(bank: Bank, bot: Actor, wallet: str, payout: str) -> None:
    """Nor is a message to the batch route whose body is one payout, with or without a digest of items."""
    one = item(wallet, external_id="forged")
    for digest in (None, merkle.digest_of([merkle.leaf(canonical(one))])):
        forged = message(bank.world, bot, "/v1/payouts/batch", one, batch_digest=digest)
        bank.write_evidence(payout, {**bank.evidence(payout), **forged.proof()})
        bank.refuse(payout, Why.EVIDENCE)


def test_a_row_of_a_batch_posted_to_the_single_route_is_no_request(
    bank: Bank, bot: Actor, wallet: str, payout: str
) -> None:
    one = item(wallet, external_id="forged")
    leaf = merkle.leaf(canonical(one))
    forged = message(bank.world, bot, "/v1/payouts", one, batch_digest=merkle.digest_of([leaf])).proof()
    row = {"index": 0, "count": 1, "path": [], "item": one}
    kept = {k: v for k, v in bank.evidence(payout).items() if k != "body"}
    bank.write_evidence(payout, {**kept, "message": forged["message"], "row": row})
    bank.refuse(payout, Why.EVIDENCE, "not a request of a payout")


# People decide in the other way


def test_a_decision_is_no_message(bank: Bank, bot: Actor, wallet: str) -> None:
    world = bank.world
    one = world.person("one@example.com")
    world.policy(over(3), ask(group(one)))
    held = pay(world, bot, item(wallet))["id"]
    world.decide(one, held)
    demand = bank.demand(held)
    path = demand.decisions[0]["preimage"]["path"]
    said = message(world, one, path, {"value": "Approved"})
    bank.refuse(held, Why.EVIDENCE, "unknown member 'kind'", demand=replace(demand, decisions=[said.proof()]))
    bank.sign(held)


def test_messages_expire(bank: Bank, bot: Actor, wallet: str) -> None:
    """What was accepted stays good; how long a message may travel is the server's to check."""
    made = pay(bank.world, bot, item(wallet), life_s=1)["id"]
    bank.world.clock.step(micros=MINUTE)
    assert paid(bank.sign(made)) == (ALICE, 5 * DOLLAR)
