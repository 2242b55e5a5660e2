"""Evidence and history: from the pinned root to each signature, and nothing re-signed gets through."""

import copy
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from outlay.core.errors import InvalidInput
from outlay.core.operation import OPERATIONS
from outlay.evidence.assertion import Credential, parse_assertion
from outlay.evidence.attestation import fingerprint, key_attestation, new_key_pair
from outlay.evidence.bundle import EvidenceBroken, evidence_document, verify_evidence
from outlay.evidence.canonical import STORED_DEPTH, canonical, digest, payload_digest, read_json
from outlay.evidence.challenge import (
    CredentialPreimage,
    Preimage,
    RegistrationPreimage,
    action_challenge,
    credential_challenge,
    registration_challenge,
)
from outlay.evidence.history import History, verify_history
from outlay.evidence.record import RecordBroken, build_record, record_hash
from outlay.evidence.sign import sign_challenge

TRANSFER_PATH = "/wallets/wa-1/transfers"
TRANSFER = {"kind": "Native", "to": "0x" + "ab" * 20, "amount": "1000", "externalId": "café-1"}


@dataclasses.dataclass
class Person:
    """Somebody with a key."""

    credential: Credential
    private: str
    record: str | None = None


def named(prefix: str, name: str) -> str:
    """Return an identifier in the shape of ours that shows whose it is."""
    return f"{prefix}-00000-00000-{name:0>16}"


def us(name: str) -> str:
    return named("us", name)


def cr(name: str) -> str:
    return named("cr", name)


class Organization:
    """Builds records and evidence as the server does."""

    def __init__(self) -> None:
        """Start with a genesis record for one admin."""
        self.records: list[dict[str, Any]] = []
        self.admin = self.person("admin")
        self.append("genesis", "or-1", genesis_body(self.admin), None)
        self.admin.record = self.root = self.head

    @property
    def head(self) -> str:
        """The hash of the newest record."""
        return record_hash(self.records[-1])

    def person(self, name: str) -> Person:
        """Return somebody who is not on record yet."""
        private, public = new_key_pair()
        return Person(
            Credential(
                uuid=cr(name),
                credential_id=f"name-{name}",
                user_id=us(name),
                kind="Key",
                public_key=public,
                origins=("https://pay.example",),
            ),
            private,
        )

    def append(self, kind: str, subject: str, body: dict[str, Any], evidence: dict[str, Any] | None) -> str:
        """Append a record and return its hash."""
        self.records.append(
            build_record(
                org="or-1",
                seq=len(self.records),
                prev=self.head if self.records else None,
                kind=kind,
                subject=subject,
                at=len(self.records),
                body=body,
                evidence=evidence,
            )
        )
        return self.head

    def evidence(self, signer: Person, method: str, path: str, payload: object, **changes: Any) -> dict[str, Any]:
        """Return evidence of one signed call, over the present head."""
        fields: dict[str, Any] = {
            "org": "or-1",
            "identity": signer.credential.user_id,
            "credentials": (signer.credential.uuid,),
            "method": method,
            "path": path,
            "payload_digest": payload_digest(payload),
            "records_head": self.head,
            "nonce": f"n{len(self.records)}",
            "issued": 1,
            "expires": 2,
        }
        preimage = Preimage(**{**fields, **changes})
        answer = sign_challenge(signer.private, signer.credential.credential_id, action_challenge(preimage))
        return evidence_document(
            preimage=preimage,
            assertion=parse_assertion(answer),
            credential=signer.credential,
            credential_record=signer.record,
            payload=payload,
            policy_set=digest([]),
            origins=["https://pay.example"],
        )

    def change(
        self, signer: Person, method: str, path: str, payload: object, kind: str, subject: str, body: dict[str, Any]
    ) -> str:
        """Append the record of a signed change."""
        return self.append(kind, subject, body, self.evidence(signer, method, path, payload))

    def service_account(self, name: str, signer: Person | None = None) -> Person:
        """Create a machine."""
        bot = self.person(name)
        payload = {"name": name, "publicKey": bot.credential.public_key}
        bot.record = self.change(
            signer or self.admin,
            "POST",
            "/auth/service-accounts",
            payload,
            "serviceAccount.created",
            bot.credential.user_id,
            {"name": name, **key_of(bot), "permissionId": None, "assignmentId": None},
        )
        return bot

    def invite(self, person: Person, *, with_key: bool) -> str:
        """Invite somebody and return the invitation's hash."""
        payload = {"email": "a@example.com", "kind": "CustomerEmployee"}
        body = {"username": "a@example.com", "publicKey": None, "code": "0" * 64, "expires": 10**9}
        if with_key:
            payload["publicKey"] = body["publicKey"] = person.credential.public_key
        return self.change(self.admin, "POST", "/auth/users", payload, "user.invited", person.credential.user_id, body)

    def register(self, person: Person, invitation: str) -> None:
        """Take up an invitation."""
        preimage = RegistrationPreimage(
            org="or-1", user_id=person.credential.user_id, invitation=invitation, nonce="r", issued=1, expires=2
        )
        attestation = key_attestation(
            person.private, registration_challenge(preimage), cred_id=person.credential.credential_id
        )
        body = {
            "username": "a@example.com",
            **key_of(person),
            "fingerprint": fingerprint(person.credential.public_key),
            "preimage": preimage.document(),
            "attestation": attestation,
        }
        person.record = self.append("user.registered", person.credential.user_id, body, None)

    def member(self, name: str, *, with_key: bool = True) -> Person:
        """Invite and register somebody."""
        person = self.person(name)
        self.register(person, self.invite(person, with_key=with_key))
        return person

    def switch(self, person: Person, state: str, *, place: str = "users", fingerprints: list[str] | None = None) -> str:
        """Activate or deactivate somebody."""
        user = person.credential.user_id
        keys = [fingerprint(person.credential.public_key)] if fingerprints is None else fingerprints
        body = {"fingerprints": keys} if state == "activate" else {}
        return self.change(self.admin, "PUT", f"/auth/{place}/{user}/{state}", {}, f"user.{state}d", user, body)

    def second_key(self, holder: Person, name: str) -> Person:
        """Add a key of the holder's own."""
        second = self.person(name)
        second.credential = dataclasses.replace(second.credential, user_id=holder.credential.user_id)
        preimage = CredentialPreimage(org="or-1", user_id=holder.credential.user_id, nonce=name, issued=1, expires=2)
        challenge = credential_challenge(preimage)
        info = key_attestation(second.private, challenge, cred_id=second.credential.credential_id)
        payload = {"credentialKind": "Key", "credentialInfo": info, "credentialName": name}
        body = {**key_of(second), "preimage": preimage.document()}
        second.record = self.change(
            holder, "POST", "/auth/credentials", payload, "credential.created", second.credential.uuid, body
        )
        return second

    def history(self) -> History:
        """Verify the chain, as read back from storage."""
        return verify_history(self.stored(), self.root)

    def stored(self) -> list[dict[str, Any]]:
        """Return the records as a database returns them."""
        read = read_json(canonical(self.records), max_depth=STORED_DEPTH)
        assert isinstance(read, list)
        return read

    def check(self, *evidence: dict[str, Any]) -> list[Preimage]:
        """Verify evidence with this organization's records, through JSON text."""
        history = self.history()
        preimages = []
        for document in json.loads(canonical(list(evidence))):
            preimages.append(verify_evidence(document))
            history.signer(document, preimages[-1])
            history.check_policy_set(document["policySet"], history.numbers[preimages[-1].records_head])
        return preimages

    def pay(self, signer: Person, **changes: Any) -> dict[str, Any]:
        """Return evidence of a transfer request."""
        return self.evidence(signer, "POST", TRANSFER_PATH, TRANSFER, **changes)


def key_of(person: Person) -> dict[str, Any]:
    """Return the members by which a record introduces a key."""
    credential = person.credential
    return {
        "credentialUuid": credential.uuid,
        "credentialId": credential.credential_id,
        "publicKey": credential.public_key,
    }


def genesis_body(admin: Person) -> dict[str, Any]:
    """Return the body of a first record without policies."""
    public_key = admin.credential.public_key
    return {
        "admin": {
            "userId": us("admin"),
            "username": "admin",
            **key_of(admin),
            "fingerprint": fingerprint(public_key),
        },
        "permission": {"id": named("pm", "all"), "name": "ManagedFullAdminAccess", "operations": sorted(OPERATIONS)},
        "policies": [],
        "preset": "none",
        "moneySettings": {"networks": {"EthereumSepolia": {"chainId": 31337}}},
    }


@pytest.fixture
def org() -> Organization:
    """Return a new organization."""
    return Organization()


# Evidence in itself


def test_evidence_verifies_after_being_stored(org: Organization) -> None:
    """The document alone is enough, and returns what was signed."""
    document = org.pay(org.admin)

    preimage = verify_evidence(json.loads(canonical(document)))

    assert preimage.path == TRANSFER_PATH
    assert preimage.payload_digest == digest(TRANSFER)


def test_payload_without_members_verifies_in_every_spelling(org: Organization) -> None:
    """Absent, empty and braces are the same payload, stored as braces."""
    spellings: list[object] = [None, "", {}]
    for payload in spellings:
        document = org.evidence(org.admin, "DELETE", "/x", payload)
        assert document["payload"] == {}
        verify_evidence(document)


def leaves(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every leaf of a document."""
    if isinstance(document, dict) and document:
        return [leaf for key, value in document.items() for leaf in leaves(value, (*path, key))]
    if isinstance(document, list) and document:
        return [leaf for at, value in enumerate(document) for leaf in leaves(value, (*path, at))]
    return [path]


def replaced(document: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """Return a copy of the document with one leaf changed."""
    copied = copy.deepcopy(document)
    place = copied
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = change(place[path[-1]])
    return copied


def test_every_leaf_of_evidence_is_covered(org: Organization) -> None:
    """A change of any leaf breaks it, except what the records or the policy decide: those have checks of their own."""
    document = org.pay(org.admin, intent_digest="1" * 64, groups_digest="2" * 64)
    checked_elsewhere = {("credential", "record"), ("origins", 0), ("policySet",)}
    verify_evidence(document)

    for path in leaves(document):
        for change in (lambda value: value + 1 if isinstance(value, int) else f"{value}x", lambda value: [value]):
            if path in checked_elsewhere:
                continue
            with pytest.raises(EvidenceBroken):
                verify_evidence(replaced(document, path, change))


def test_missing_and_unknown_members_are_noticed(org: Organization) -> None:
    """Evidence has exactly its members."""
    document = org.pay(org.admin)
    for name in document:
        with pytest.raises(EvidenceBroken):
            verify_evidence({key: value for key, value in document.items() if key != name})
    others: list[object] = [{**document, "x": 1}, {**document, "v": 2}, {**document, "policySet": "x"}, None, []]
    for broken in others:
        with pytest.raises(EvidenceBroken):
            verify_evidence(broken)


def test_evidence_signed_by_a_credential_that_was_not_offered_is_noticed(org: Organization) -> None:
    """The challenge names the credentials and the identity it was made for."""
    other = org.person("other")
    for changes in ({"credentials": (cr("x"),)}, {"identity": us("x")}, {"credentials": ()}):
        with pytest.raises(EvidenceBroken):
            verify_evidence(org.pay(other, **changes))


# The walk from the root


def test_history_knows_everybody_the_chain_introduced(org: Organization) -> None:
    """Admin, machine, person with a named key, person vouched for later."""
    bot, invited, later = org.service_account("bot"), org.member("invited"), org.member("later", with_key=False)
    assert not org.history().credentials[cr("later")].usable_at(len(org.records) - 1)

    org.switch(later, "activate")

    history = org.history()
    last = len(org.records) - 1
    assert set(history.credentials) == {cr("admin"), cr("bot"), cr("invited"), cr("later")}
    assert all(known.usable_at(last) for known in history.credentials.values())
    assert history.head == org.head
    assert len(org.check(*(org.pay(person) for person in (org.admin, bot, invited, later)))) == 4


def test_evidence_over_an_earlier_head_is_judged_as_things_stood_then(org: Organization) -> None:
    """A later withdrawal does not undo what was signed before; an earlier signature does not outlive it."""
    bot = org.service_account("bot")
    before = org.pay(bot)
    org.switch(bot, "deactivate", place="service-accounts")

    assert org.check(before)
    with pytest.raises(EvidenceBroken, match="withdrawn"):
        org.check(org.pay(bot))
    org.switch(bot, "activate", place="service-accounts")
    assert org.check(org.pay(bot))


def test_withdrawn_key_does_not_come_back_with_its_holder(org: Organization) -> None:
    """Switching a machine on again leaves the key off."""
    bot = org.service_account("bot")
    spare = org.second_key(bot, "spare")
    body = {"credentialUuid": cr("bot")}
    org.change(spare, "PUT", "/auth/credentials/deactivate", body, "credential.deactivated", cr("bot"), body)
    keys = sorted(fingerprint(each.credential.public_key) for each in (bot, spare))
    org.switch(bot, "activate", place="service-accounts", fingerprints=keys)
    with pytest.raises(EvidenceBroken):
        org.check(org.pay(bot))
    org.change(spare, "PUT", "/auth/credentials/activate", body, "credential.activated", cr("bot"), body)
    assert org.check(org.pay(bot))

    org.change(spare, "DELETE", f"/auth/credentials/{cr('bot')}", {}, "credential.deleted", cr("bot"), body)
    with pytest.raises(EvidenceBroken):
        org.check(org.pay(bot))
    org.change(spare, "PUT", "/auth/credentials/activate", body, "credential.activated", cr("bot"), body)
    with pytest.raises(RecordBroken):
        org.history()


def test_nobody_withdraws_the_key_of_another(org: Organization) -> None:
    """These calls are about the caller's own keys, and need no permission."""
    bot, body = org.service_account("bot"), {"credentialUuid": cr("admin")}
    org.change(bot, "PUT", "/auth/credentials/deactivate", body, "credential.deactivated", cr("admin"), body)

    with pytest.raises(RecordBroken, match="of the signer"):
        org.history()


def test_own_second_key_counts_once_it_is_on_record(org: Organization) -> None:
    """A signed call with an attestation introduces it."""
    second = org.second_key(org.admin, "second")
    assert org.check(org.pay(second))

    org.records[-1]["body"]["publicKey"] = new_key_pair()[1]
    with pytest.raises(RecordBroken):
        org.history()


def test_person_whose_key_nobody_vouched_for_cannot_sign(org: Organization) -> None:
    """Whoever held the invitation's code may not be whom it was meant for."""
    person = org.member("person", with_key=False)
    with pytest.raises(EvidenceBroken, match="vouched"):
        org.check(org.pay(person))

    for fingerprints in ([], ["0" * 64], [fingerprint(org.admin.credential.public_key)]):
        org.switch(person, "activate", fingerprints=fingerprints)
        with pytest.raises(RecordBroken):
            org.history()
        org.records.pop()


def test_evidence_names_policies_that_were_in_force(org: Organization) -> None:
    """Of its head or of a later one, because a call may be used after another change."""
    evidence = org.pay(org.admin)
    org.service_account("bot")
    assert org.check(evidence)
    for named in ("", "0" * 64):
        with pytest.raises(EvidenceBroken, match="not in force"):
            org.check({**evidence, "policySet": named})


def test_evidence_of_strangers_is_refused(org: Organization) -> None:
    """Unknown key, known name with another key, another organization, unknown head, wrong record."""
    bot, twin, stranger = org.service_account("bot"), org.person("bot"), org.person("stranger")
    twin.record = bot.record
    misplaced = dataclasses.replace(bot, record=org.admin.record)

    for evidence in (
        org.pay(stranger),
        org.pay(twin),
        org.pay(misplaced),
        org.pay(bot, org="or-2"),
        org.pay(bot, records_head="0" * 64),
    ):
        verify_evidence(evidence)
        with pytest.raises(EvidenceBroken):
            org.check(evidence)


def test_database_signed_again_with_new_keys_fails(org: Organization) -> None:
    """A forger who rewrites every record and signature still lacks the root, or a key that the root leads to."""
    forged = Organization()
    forged.service_account("bot")
    with pytest.raises(RecordBroken):
        verify_history(forged.records, org.root)

    org.admin = dataclasses.replace(org.person("admin"), record=org.root)
    org.service_account("bot")
    with pytest.raises(EvidenceBroken):
        org.history()


def test_last_record_changed_after_signing_is_noticed(org: Organization) -> None:
    """The newest record has no successor to hold its hash; its evidence still holds the key it introduces."""
    org.service_account("bot")
    last = org.records[-1]
    last["body"] = {**last["body"], "publicKey": new_key_pair()[1]}

    with pytest.raises(RecordBroken):
        org.history()


def test_signature_stands_behind_one_record_only(org: Organization) -> None:
    """Used again at the next place, or behind another kind or subject, it fails."""
    bot, _ = org.service_account("bot"), org.service_account("other")
    vouch = {"fingerprints": [fingerprint(bot.credential.public_key)]}
    invited = {"username": "a", "publicKey": None, "code": "0" * 64, "expires": 10**9}
    machine = {"name": "new", **key_of(org.person("new")), "permissionId": None, "assignmentId": None}
    evidence = org.evidence(org.admin, "PUT", f"/auth/service-accounts/{us('bot')}/deactivate", {})
    cases: list[tuple[str, str, dict[str, Any]]] = [
        ("user.activated", us("bot"), vouch),
        ("user.deactivated", us("other"), {}),
        ("user.deleted", us("bot"), {}),
        ("user.invited", us("new"), invited),
        ("serviceAccount.created", us("new"), machine),
        ("credential.deleted", cr("admin"), {"credentialUuid": cr("admin")}),
        ("credential.deactivated", cr("admin"), {"credentialUuid": cr("admin")}),
    ]
    for kind, subject, body in cases:
        org.append(kind, subject, body, evidence)
        with pytest.raises(EvidenceBroken, match="does not bring about"):
            org.history()
        org.records.pop()
    org.append("user.deactivated", us("bot"), {}, evidence)
    org.history()
    org.append("user.deactivated", us("bot"), {}, evidence)
    with pytest.raises(EvidenceBroken, match="another head"):
        org.history()


def test_record_needs_the_method_that_brings_it_about(org: Organization) -> None:
    """Renaming somebody is not deleting them, though the path is the same."""
    org.service_account("bot")
    path = f"/auth/service-accounts/{us('bot')}"
    org.change(org.admin, "PUT", path, {"name": "x"}, "user.deleted", us("bot"), {})
    with pytest.raises(EvidenceBroken, match="does not bring about"):
        org.history()

    org.records.pop()
    org.change(org.admin, "DELETE", path, {}, "user.deleted", us("bot"), {})
    org.history()


def test_key_cannot_sign_over_records_from_before_it_was_vouched_for(org: Organization) -> None:
    """A signature made with a back-dated head does not count."""
    bot = org.service_account("bot")

    with pytest.raises(EvidenceBroken):
        org.check(org.pay(bot, records_head=org.root))


def test_record_over_an_older_head_is_refused(org: Organization) -> None:
    """So order and completeness of the records are under people's signatures."""
    evidence = org.evidence(org.admin, "POST", "/v2/policies", {"name": "x"})
    org.service_account("bot")
    org.append("policy.created", "plc-1", {}, evidence)

    with pytest.raises(EvidenceBroken, match="another head"):
        org.history()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("credentialUuid", cr("admin")),
        ("credentialUuid", None),
        ("credentialId", "another"),
        ("publicKey", new_key_pair()[1]),
        ("publicKey", "x"),
        ("preimage", None),
        ("attestation", {}),
    ],
)
def test_registration_record_must_be_what_the_new_key_proved(org: Organization, name: str, value: Any) -> None:
    """Each member against the attestation."""
    org.member("person", with_key=False)
    org.records[-1]["body"][name] = value

    with pytest.raises((EvidenceBroken, RecordBroken)):
        org.history()


def test_invitation_is_taken_up_once_by_the_one_it_names(org: Organization) -> None:
    """Not twice, not by another user, not by another key, not by a hash that is no invitation."""
    named, other = org.person("named"), org.person("other")
    invitation = org.invite(named, with_key=True)
    impostor = dataclasses.replace(org.person("named"))

    for person, taken in ((other, invitation), (impostor, invitation), (named, org.root)):
        org.register(person, taken)
        with pytest.raises((EvidenceBroken, RecordBroken)):
            org.history()
        org.records.pop()
    org.register(named, invitation)
    org.history()
    again = dataclasses.replace(named, credential=dataclasses.replace(named.credential, uuid=cr("again")))
    org.register(again, invitation)
    with pytest.raises(EvidenceBroken, match="invitation"):
        org.history()


def test_invitation_names_the_key_the_admin_signed(org: Organization) -> None:
    """A server cannot add a key of its own to an invitation."""
    person = org.person("person")
    org.invite(person, with_key=False)
    org.records[-1]["body"]["publicKey"] = person.credential.public_key
    with pytest.raises(RecordBroken):
        org.history()

    org.records.pop()
    org.invite(person, with_key=True)
    org.records[-1]["body"]["publicKey"] = None
    with pytest.raises(RecordBroken):
        org.history()


def test_malformed_first_records_are_bad_input(org: Organization) -> None:
    """Whatever a file holds, the verifier names it."""
    bodies: list[dict[str, Any]] = [{}, {"admin": None}, {"admin": {}}, {"admin": {"userId": 1, **key_of(org.admin)}}]
    for records in ([], [None]):
        with pytest.raises(InvalidInput):
            verify_history(records, org.root)  # type: ignore[arg-type]
    for body in bodies:
        genesis = {**org.records[0], "body": body}
        with pytest.raises(InvalidInput):
            verify_history([genesis], record_hash(genesis))
