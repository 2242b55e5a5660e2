"""Votes by passkeys before the signer and in proofs, and somebody who writes what they like into the database.

The signer knows a passkey from the records alone: whom it belongs to, what it is bound to, and who vouched for it.
"""

import json
from typing import Any

import pytest

from outlay.core import ids
from outlay.evidence.assertion import Assertion
from outlay.evidence.attestation import fingerprint
from outlay.evidence.canonical import canonical, digest, payload_digest
from outlay.evidence.challenge import Preimage, RegistrationPreimage, action_challenge, registration_challenge
from outlay.evidence.payout import verify_payout
from outlay.evidence.record import build_record
from outlay.signer import Demand, SignerRefused, Why
from outlay.store import organizations, users
from tests.actions import joining
from tests.actions.documents import ask, group, over
from tests.actions.proof import Stage
from tests.actions.world import ALICE, DOLLAR, Actor
from tests.passkeys import KINDS, PRESENT, Passkey
from tests.signer.bank import Bank, paid
from tests.signer.conftest import Found


@pytest.fixture
def one(bank: Bank) -> Actor:
    """Return an approver with a passkey."""
    return joining.join(bank.world, "phone@example.com", joining.passkey())


@pytest.fixture
def held(bank: Bank, bot: Actor, one: Actor, wallet: str) -> str:
    """Return a payout that the approver has to agree to."""
    bank.world.policy(over(10_000), ask(group(one)))
    return str(bank.world.pay(bot, wallet, 20_000)["id"])


def vote(bank: Bank, held: str, by: Actor, *, made: Passkey | None = None) -> dict[str, Any]:
    """Return a vote really signed by a passkey, over a challenge that the server's owner made up."""
    world, approval = bank.world, bank.world.approval(held)
    now, payload = world.clock.step(micros=1), {"value": "Approved"}
    preimage = Preimage(
        org=world.org_id,
        identity=by.user_id,
        credentials=(by.credential_uuid,),
        method="POST",
        path=f"/v2/policy-approvals/{approval.id}/decisions",
        payload_digest=payload_digest(payload),
        intent_digest=digest(world.row(held).intent),
        groups_digest=digest(approval.groups),
        records_head=digest(bank.records()[-1]),
        nonce=f"nonce {now}",
        issued=now,
        expires=now + 1000,
    )
    challenge = action_challenge(preimage)
    factor = by.sign(challenge) if made is None else made.used(challenge)
    assertion = Assertion.from_document(factor).document()
    return {"v": 1, "preimage": preimage.document(), "payload": payload, "assertion": assertion}


def refuse_vote(bank: Bank, held: str, by: Actor, said: str = "", *, made: Passkey | None = None) -> None:
    """Check that a vote is worth nothing to the signer."""
    bank.edit_row(held, state="ready")
    whole = bank.demand(held)
    demand = Demand(payout=whole.payout, asked=whole.asked, decisions=[vote(bank, held, by, made=made)])
    answer = bank.ask(held, demand=demand)
    assert isinstance(answer, SignerRefused), "this was signed"
    assert answer.why in (Why.EVIDENCE, Why.NOT_AGREED)
    assert said in answer.message, answer.message


def refuse_records(bank: Bank, held: str, by: Actor, said: str) -> None:
    """Check that the signer takes no vote, because it does not take the records."""
    with pytest.raises(SignerRefused, match=said) as caught:
        refuse_vote(bank, held, by)
    assert caught.value.why == Why.EVIDENCE


def swap(bank: Bank, uuid: str, key: Passkey) -> None:
    """Put another key in the place of the one that the newest record registers; the row that pages show stays."""
    newest = bank.records()[-1]
    assert newest["kind"] in ("credential.registered", "user.registered")
    preimage = RegistrationPreimage.from_document(newest["body"]["preimage"])
    other = {
        "credentialId": key.cred_id,
        "publicKey": key.public_pem,
        "fingerprint": fingerprint(key.public_pem),
        "attestation": key.created(registration_challenge(preimage)),
    }
    rewrite(bank, {**newest, "body": {**newest["body"], **other}})
    bank.sql("UPDATE credential SET record = :h WHERE id = :u", h=digest(bank.records()[-1]), u=uuid)


def rewrite(bank: Bank, record: dict[str, Any]) -> None:
    """Put another record in the place of the newest, as whoever owns the database can while nothing covers it."""
    text, hash_ = canonical(record).decode(), digest(record)
    bank.sql("UPDATE record SET hash = :h, document = :d WHERE seq = :s", h=hash_, d=text, s=record["seq"])
    bank.sql("UPDATE organization SET head = :h", h=hash_)


def shown(bank: Bank, uuid: str) -> str:
    """Return the fingerprint that pages and the command line show of a key, which is the one they send."""
    with bank.world.unit() as unit:
        row = users.find_credential(unit, uuid)
        assert row is not None
        return fingerprint(row.public_key)


def test_a_key_that_was_put_in_the_place_of_the_one_compared_gets_no_vote(bank: Bank, one: Actor, held: str) -> None:
    phone, other = joining.passkey(), joining.passkey()
    added = joining.take_up(bank.world, one, joining.code_of(bank.world, one), phone)
    swap(bank, added.credential_uuid, other)
    compared = shown(bank, added.credential_uuid)
    assert compared == fingerprint(phone.public_pem)
    joining.activate_compared(bank.world, one, added.credential_uuid, compared)
    stolen, newest = joining.holding(one, other, added.credential_uuid), bank.records()[-1]
    assert newest["body"] == {"credentialUuid": added.credential_uuid, "fingerprint": compared}
    refuse_records(bank, held, stolen, "does not say what was signed")
    rewrite(bank, {**newest, "body": {**newest["body"], "fingerprint": fingerprint(other.public_pem)}})
    refuse_records(bank, held, stolen, "does not bring this about")
    rewrite(bank, {**newest, "body": {"credentialUuid": added.credential_uuid}})
    refuse_records(bank, held, stolen, "does not say what was signed")


def test_nor_does_one_that_was_swapped_after_a_recovery(bank: Bank, one: Actor, held: str) -> None:
    phone, other = joining.passkey(), joining.passkey()
    back = joining.take_up(bank.world, one, joining.recover(bank.world, one), phone)
    swap(bank, back.credential_uuid, other)
    joining.vouch(bank.world, back, compared=[shown(bank, back.credential_uuid)])
    newest = bank.records()[-1]
    assert newest["kind"] == "user.activated"
    rewrite(bank, {**newest, "body": {"fingerprints": [fingerprint(other.public_pem)]}})
    stolen = joining.holding(one, other, back.credential_uuid)
    refuse_records(bank, held, stolen, "other keys than these were compared")


@pytest.mark.parametrize("kind", KINDS)
def test_what_passkeys_agreed_to_is_signed(bank: Bank, bot: Actor, wallet: str, kind: str) -> None:
    people = [joining.join(bank.world, f"{name}@example.com", joining.passkey(kind)) for name in ("one", "two")]
    bank.world.policy(over(10_000), ask(group(*people, quorum=2)))
    held = str(bank.world.pay(bot, wallet, 20_000)["id"])
    bank.world.decide(people[0], held)
    bank.refuse(held, Why.NOT_AGREED)
    bank.world.decide(people[1], held)
    assert paid(bank.sign(held)) == (ALICE, 20_000 * DOLLAR)


def test_what_a_recovered_person_agreed_to_is_signed(bank: Bank, one: Actor, held: str) -> None:
    world = bank.world
    added = joining.take_up(world, one, joining.code_of(world, one), joining.passkey("Ed25519"))
    refuse_vote(bank, held, added, "nobody vouched for")
    bank.edit_row(held, state="held")
    back = joining.take_up(world, one, joining.recover(world, one), joining.passkey())
    refuse_vote(bank, held, back, "nobody vouched for")
    bank.edit_row(held, state="held")
    joining.vouch(world, back)
    world.decide(world.log_in(back), held)
    assert paid(bank.sign(held)) == (ALICE, 20_000 * DOLLAR)


def test_a_proof_of_a_payout_holds_with_passkeys(tmp_path: Any) -> None:
    """What ``outlay evidence verify`` does, from the root to the vote."""
    stage = Stage(tmp_path)
    try:
        phone = joining.join(stage.world, "phone@example.com", joining.passkey("Ed25519"))
        stage.world.policy(over(1000), ask(group(phone)), tags=("payouts",))
        data = stage.export(stage.pay(5000, phone))
        (approval,) = verify_payout(data, stage.world.root).approvals
        assert approval.by.name == "phone@example.com"
        assert phone.passkey is not None and approval.by.fingerprint == fingerprint(phone.passkey.public_pem)
        document = json.loads(data)
        document["decisions"][0]["assertion"]["credentialAssertion"]["authenticatorData"] = "AAAA"
        with pytest.raises(Exception, match="authenticator data is malformed"):
            verify_payout(canonical(document), stage.world.root)
    finally:
        stage.world.close()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"flags": PRESENT}, "did not verify the user"),
        ({"relying_party": "evil.example"}, "another relying party"),
    ],
)
def test_a_vote_of_a_page_that_is_not_ours_is_refused(
    bank: Bank, one: Actor, held: str, changes: dict[str, Any], said: str
) -> None:
    assert one.passkey is not None
    refuse_vote(bank, held, one, said, made=one.passkey.but(**changes))


# Somebody owns the database


def registered(bank: Bank, user_id: str, code: str, key: Passkey) -> dict[str, Any]:
    """Return the record that whoever owns the database makes of their own passkey, with a code's record."""
    newest, uuid = bank.records()[-1], ids.new_id(ids.CREDENTIAL, bank.world.entropy)
    at = bank.world.clock.now()
    preimage = RegistrationPreimage(
        org=bank.world.org_id, user_id=user_id, invitation=code, nonce="n", issued=at, expires=at + 1000
    )
    return build_record(
        org=bank.world.org_id,
        seq=newest["seq"] + 1,
        prev=digest(newest),
        kind="credential.registered",
        subject=uuid,
        at=at,
        body={
            "credentialUuid": uuid,
            "credentialId": key.cred_id,
            "publicKey": key.public_pem,
            "kind": "Fido2",
            "relyingPartyId": joining.PARTY,
            "fingerprint": fingerprint(key.public_pem),
            "preimage": preimage.document(),
            "attestation": key.created(registration_challenge(preimage)),
        },
        evidence=None,
    )


def put(bank: Bank, record: dict[str, Any]) -> None:
    """Write a record into the database, and the credential it is about."""
    text, hashed, body = canonical(record).decode(), digest(record), record["body"]
    with bank.world.unit() as unit:
        organizations.append_record(
            unit,
            seq=record["seq"],
            hash=hashed,
            prev=record["prev"],
            kind=record["kind"],
            subject=record["subject"],
            document=text,
            now=record["at"],
        )
    bank.sql(
        "INSERT INTO credential (id, credential_id, user_id, kind, name, public_key, is_active, record,"
        " relying_party_id, created_at) VALUES (:id, :name, :user, 'Fido2', 'x', :key, TRUE, :record, :party, 1)",
        id=body["credentialUuid"],
        name=body["credentialId"],
        user=body["preimage"]["userId"],
        key=body["publicKey"],
        record=hashed,
        party=joining.PARTY,
    )


def as_their_own(bank: Bank, who: Actor, code: str) -> Actor:
    """Take up somebody's code with a passkey of the attacker's, behind the server's back."""
    key = joining.passkey()
    record = registered(bank, who.user_id, code, key)
    put(bank, record)
    return joining.holding(who, key, record["subject"])


def newest(bank: Bank, kind: str) -> str:
    """Return the hash of the newest record of a kind."""
    return digest([each for each in bank.records() if each["kind"] == kind][-1])


def test_a_code_that_nobody_asked_for_registers_nothing(bank: Bank, one: Actor, held: str) -> None:
    bank.push()
    for code in ("0" * 64, digest(bank.records()[-1]), newest(bank, "user.invited")):
        record = registered(bank, one.user_id, code, joining.passkey())
        with pytest.raises(SignerRefused, match="no such open code"):
            bank.core.accept_records([canonical(record).decode()])


def test_the_attackers_passkey_on_an_open_code_counts_for_nothing(bank: Bank, one: Actor, held: str) -> None:
    joining.code_of(bank.world, one)
    refuse_vote(bank, held, as_their_own(bank, one, newest(bank, "code.created")), "nobody vouched for")


def test_the_attackers_passkey_in_a_recovery_counts_for_nothing(bank: Bank, one: Actor, held: str) -> None:
    """The rows say that somebody vouched for it."""
    joining.recover(bank.world, one)
    stolen = as_their_own(bank, one, newest(bank, "user.recovered"))
    bank.sql('UPDATE "user" SET may_vote = TRUE')
    refuse_vote(bank, held, stolen, "nobody vouched for")


def test_rows_that_skip_the_vouching_change_nothing(bank: Bank, one: Actor, held: str) -> None:
    world = bank.world
    back = joining.take_up(world, one, joining.recover(world, one), joining.passkey())
    bank.sql('UPDATE "user" SET may_vote = TRUE')
    bank.sql("UPDATE credential SET is_active = TRUE")
    world.decide(world.log_in(back), held)
    assert world.state(held) == "ready"
    bank.refuse(held, Why.EVIDENCE, "nobody vouched for")


def test_rows_that_bring_back_an_old_passkey_change_nothing(bank: Bank, one: Actor, held: str) -> None:
    world = bank.world
    joining.recover(world, one)
    bank.sql('UPDATE "user" SET may_vote = TRUE')
    bank.sql("UPDATE token SET is_active = TRUE, deleted_at = NULL")
    bank.sql(
        "UPDATE credential SET is_active = TRUE, deleted_at = NULL, withdrawn_at = NULL, credential_id = :name"
        " WHERE id = :id",
        name=one.credential_id,
        id=one.credential_uuid,
    )
    world.decide(world.log_in(one), held)
    assert world.state(held) == "ready"
    bank.refuse(held, Why.EVIDENCE, "withdrawn")


def test_a_vote_before_the_recovery_does_not_count_after_it(bank: Bank, one: Actor, held: str) -> None:
    bank.world.decide(one, held)
    demand = bank.demand(held)
    joining.recover(bank.world, one)
    bank.edit_row(held, state="ready")
    bank.refuse(held, Why.NOT_AGREED, "", demand=demand)


def test_a_dropped_recovery_is_missed(bank: Bank, one: Actor, held: str, found: Found) -> None:
    """The chain goes on without it: the signer has seen the record."""
    bank.push()
    short = bank.records()
    joining.recover(bank.world, one)
    bank.push()
    bank.sql("DELETE FROM record WHERE seq = :seq", seq=len(short))
    bank.sql("UPDATE organization SET head = :head, head_seq = :seq", head=digest(short[-1]), seq=len(short) - 1)
    bank.sql("UPDATE credential SET is_active = TRUE, deleted_at = NULL")
    refuse_vote(bank, held, one)
