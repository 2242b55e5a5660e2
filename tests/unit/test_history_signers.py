"""Records against a hostile insider: somebody with a good key who was not permitted, or not any more."""

import dataclasses

import pytest

from outlay.core import ids
from outlay.core.operation import OPERATIONS
from outlay.core.seams import DAY, MINUTE
from outlay.evidence.attestation import fingerprint, new_key_pair
from outlay.evidence.bundle import EvidenceBroken
from outlay.evidence.changes import CHANGES
from outlay.evidence.record import RecordBroken
from tests.actions.documents import BLOCK, over, policy_document
from tests.unit.forged import Forger, Signer, told

STORY = told()
ADMIN = STORY.admin
BROKEN = (EvidenceBroken, RecordBroken)
POLICY = policy_document(over(10), BLOCK)
STORED = {**POLICY, "rule": {"kind": POLICY["rule"]["kind"], "configuration": {"limit": "10", "currency": "USD"}}}
SIGNED_KINDS = sorted({each["kind"] for each in STORY.records if each["evidence"] is not None})


@pytest.fixture
def forger() -> Forger:
    """Return a forger at the end of the story."""
    return Forger(STORY)


def policy(forger: Forger, by: Signer) -> Forger:
    """Append a policy that ``by`` signs."""
    body = {"version": 1, **STORED}
    return forger.say(by, "POST", "/v2/policies", POLICY, "policy.created", forger.new_id(ids.POLICY), body)


def may(forger: Forger, by: Signer) -> bool:
    """Tell whether a policy signed by ``by`` would be accepted now; leaves the chain as it is."""
    policy(forger, by)
    try:
        forger.verify()
    except EvidenceBroken:
        return False
    finally:
        forger.undo()
    return True


@pytest.mark.parametrize("kind", [kind for kind in SIGNED_KINDS if any(each.operation for each in CHANGES[kind][0])])
def test_the_signer_must_hold_the_operation(kind: str) -> None:
    """Whoever holds every operation but the one that is needed is refused; with it, they are not."""
    number = STORY.of(kind)
    record = STORY.records[number]
    (operation,) = {route.operation for route in CHANGES[kind][0] if route.operation} & needed(kind)
    for operations in (None, [each for each in OPERATIONS if each != operation]):
        forger = Forger(STORY, number)
        forger.repeat(record, forger.person(operations))
        if operations is None:
            forger.verify()
        else:
            with pytest.raises(EvidenceBroken, match=f"not permitted {operation}"):
                forger.verify()


def needed(kind: str) -> set[str]:
    """Return the operations that the first record of the story of this kind may need, by its call."""
    signed = STORY.records[STORY.of(kind)]["evidence"]["preimage"]
    if "/auth/service-accounts" in signed["path"]:
        return {each for each in OPERATIONS if each.startswith("Auth:ServiceAccounts:")}
    if kind == "wallet.tags.modified":
        return {"Wallets:Tags:Add"}
    return {each for each in OPERATIONS if not each.startswith("Auth:ServiceAccounts:")}


def test_the_way_out_needs_its_own_operation() -> None:
    """Taking tags off is not putting them on; people are not machines."""
    number = max(at for at, each in enumerate(STORY.records) if each["kind"] == "wallet.tags.modified")
    assert STORY.records[number]["evidence"]["preimage"]["method"] == "DELETE"
    forger = Forger(STORY, number)
    without = [each for each in OPERATIONS if each != "Wallets:Tags:Remove"]
    forger.repeat(STORY.records[number], forger.person(without))
    with pytest.raises(EvidenceBroken, match="not permitted Wallets:Tags:Remove"):
        forger.verify()


def test_a_machine_is_not_switched_by_the_call_for_people() -> None:
    """So the operation for people is of no use against a service account."""
    number = STORY.of("user.deactivated")
    record = STORY.records[number]
    assert "service-accounts" in record["evidence"]["preimage"]["path"]
    forger, user_id = Forger(STORY, number), record["subject"]
    forger.say(ADMIN, "PUT", f"/auth/users/{user_id}/deactivate", {}, "user.deactivated", user_id, {})

    with pytest.raises(EvidenceBroken, match="does not bring about"):
        forger.verify()


def test_a_transfer_request_does_not_archive_a_policy() -> None:
    """The other attack that started this: a payer's transfer signature behind policy.archived."""
    number = STORY.of("policy.archived")
    path, payload = "/wallets/wa-1/transfers", {"kind": "Native", "to": "0x" + "ab" * 20, "amount": "1"}
    archived = Forger(STORY, number)
    payer = archived.person(["Wallets:Transfers:Create"])
    record = STORY.records[number]
    archived.say(payer, "POST", path, payload, "policy.archived", record["subject"], record["body"])

    with pytest.raises(EvidenceBroken, match="does not bring about"):
        archived.verify()


@pytest.mark.parametrize("how", ["revoked", "archived", "updated", "deactivated", "deleted"])
def test_a_permission_ends_with_the_record_that_ends_it(forger: Forger, how: str) -> None:
    """Before it counts, afterwards it does not; what was signed before stays good."""
    signer = forger.person([])
    permission = forger.permission(["Policies:Create"])
    assert not may(forger, signer)
    assignment = forger.assign(permission, signer.user_id)
    policy(forger, signer)
    assert may(forger, signer)

    path = f"/permissions/{permission}"
    if how == "revoked":
        body = {"assignmentId": assignment, "identityId": signer.user_id}
        forger.say(ADMIN, "DELETE", f"{path}/assignments/{assignment}", {}, "permission.revoked", permission, body)
    elif how == "archived":
        forger.say(ADMIN, "PUT", path + "/archive", {"isArchived": True}, "permission.archived", permission, {})
    elif how == "updated":
        payload = {"operations": ["Policies:Read"]}
        forger.say(ADMIN, "PUT", path, payload, "permission.updated", permission, {"name": permission, **payload})
    else:
        forger.switch(signer, how[:-1])

    assert not may(forger, signer)
    forger.verify()


def test_a_person_switched_on_again_may_again(forger: Forger) -> None:
    signer = forger.person()
    forger.switch(signer, "deactivate")
    assert not may(forger, signer)
    forger.switch(signer, "activate")
    assert may(forger, signer)


def test_whoever_was_deleted_stays_deleted(forger: Forger) -> None:
    signer = forger.person()
    forger.switch(signer, "delete")
    for state in ("activate", "deactivate", "delete"):
        forger.switch(signer, state)
        with pytest.raises(RecordBroken, match="nobody there is"):
            forger.verify()
        forger.undo()


def test_an_unvouched_person_may_nothing(forger: Forger) -> None:
    """Whoever holds the invitation's code; until an admin signs over the record that holds the key."""
    signer = forger.person(vouched=False)
    assert not may(forger, signer)
    stranger = fingerprint(new_key_pair()[1])
    for fingerprints in ([], [stranger], sorted([stranger, fingerprint(signer.public_key)])):
        forger.switch(signer, "activate", fingerprints=fingerprints)
        with pytest.raises(RecordBroken):
            forger.verify()
        forger.undo()
    forger.switch(signer, "activate")
    assert may(forger, signer)


def test_a_key_that_is_not_on_record_signs_nothing(forger: Forger) -> None:
    """A key of the database owner's, under the admin's name or their own; with the admin's record or none."""
    private, public = new_key_pair()
    own = forger.key(ADMIN.user_id)
    for signer in (
        own,
        dataclasses.replace(own, record=ADMIN.record),
        dataclasses.replace(ADMIN, private_key=private, public_key=public),
        dataclasses.replace(ADMIN, user_id=forger.new_id(ids.USER)),
    ):
        assert not may(forger, signer)
    assert may(forger, ADMIN)


def test_every_record_signed_again_with_a_new_key_is_refused() -> None:
    """The forger rewrites the whole chain: it hangs from another root, or from a key that the root does not know."""
    private, public = new_key_pair()
    forger = Forger(STORY, 1)
    admin = dataclasses.replace(ADMIN, private_key=private, public_key=public)
    policy(forger, admin)
    with pytest.raises(EvidenceBroken):
        forger.verify()

    first = Forger(STORY, 1)
    first.records[0]["body"]["admin"] |= {"publicKey": public, "fingerprint": fingerprint(public)}
    with pytest.raises(RecordBroken, match="root"):
        first.verify()


def test_a_signature_over_an_older_head_is_refused(forger: Forger) -> None:
    signer, head = forger.person(), forger.records[-2]["prev"]
    evidence = forger.evidence(ADMIN, "POST", "/v2/policies", POLICY, records_head=head)
    forger.append("policy.created", forger.new_id(ids.POLICY), {"version": 1, **STORED}, evidence)
    with pytest.raises(EvidenceBroken, match="another head"):
        forger.verify()
    assert signer.record is not None


def test_evidence_names_the_policies_of_its_moment(forger: Forger) -> None:
    before = forger.verify().policy_sets[-1][1]
    policy(forger, ADMIN)
    evidence = forger.evidence(ADMIN, "POST", "/v2/policies", POLICY, policy_set=before)
    forger.append("policy.created", forger.new_id(ids.POLICY), {"version": 1, **STORED}, evidence)
    with pytest.raises(EvidenceBroken, match="policies that were not in force"):
        forger.verify()


def test_what_somebody_was_permitted_is_known_for_each_head(forger: Forger) -> None:
    """For evidence that was signed over an earlier one."""
    signer = forger.person(["Wallets:Read"])
    last = len(forger.records) - 1
    found = forger.verify()
    assert found.may(signer.user_id, "Wallets:Read", last)
    assert not found.may(signer.user_id, "Wallets:Read", last - 1)
    assert not found.may(signer.user_id, "Wallets:Create", last)


@pytest.mark.parametrize("kind", ["policy.archived", "permission.archived", "permission.revoked", "user.deleted"])
def test_a_call_that_takes_no_body_has_none(kind: str) -> None:
    """Whoever signed something more, or said no, meant something else."""
    number = STORY.of(kind)
    record = STORY.records[number]
    signed, forger = record["evidence"]["preimage"], Forger(STORY, number)
    for payload in ({"x": 1}, {"isArchived": False}):
        named = (kind, record["subject"], record["body"])
        forger.say(ADMIN, signed["method"], signed["path"], payload, *named)
        with pytest.raises(EvidenceBroken, match="does not bring this about"):
            forger.verify()
        forger.undo()


# Giving


def test_nobody_gives_what_they_do_not_hold(forger: Forger) -> None:
    """Not by a new permission, an update, an assignment, or a machine."""
    full = STORY.records[0]["body"]["permission"]["id"]
    held = ["Permissions:Create", "Permissions:Update", "Permissions:Assign", "Auth:ServiceAccounts:Create"]
    signer = forger.person(held)
    permission = forger.permission(held, signer)
    forger.assign(permission, ADMIN.user_id, signer)
    forger.verify()
    start = len(forger.records)

    forger.permission([*held, "Policies:Delete"], signer)
    with pytest.raises(EvidenceBroken, match="not permitted Policies:Delete"):
        forger.verify()
    del forger.records[start:]
    payload = {"operations": ["Policies:Delete"]}
    body = {"name": permission, **payload}
    forger.say(signer, "PUT", f"/permissions/{permission}", payload, "permission.updated", permission, body)
    with pytest.raises(EvidenceBroken, match="not permitted Policies:Delete"):
        forger.verify()
    del forger.records[start:]
    forger.assign(full, signer.user_id, signer)
    with pytest.raises(EvidenceBroken, match="not permitted"):
        forger.verify()
    del forger.records[start:]
    machine(forger, signer, full)
    with pytest.raises(EvidenceBroken, match="not permitted"):
        forger.verify()


def machine(forger: Forger, by: Signer, permission: str | None) -> Signer:
    """Append a service account that ``by`` signs for."""
    made = forger.key(forger.new_id(ids.USER))
    payload = {"name": made.uuid, "publicKey": made.public_key}
    if permission is not None:
        payload["permissionId"] = permission
    body = {
        "name": made.uuid,
        "credentialUuid": made.uuid,
        "credentialId": made.credential_id,
        "publicKey": made.public_key,
        "permissionId": permission,
        "assignmentId": None if permission is None else forger.new_id(ids.ASSIGNMENT),
    }
    path, kind = "/auth/service-accounts", "serviceAccount.created"
    forger.say(by, "POST", path, payload, kind, made.user_id, body)
    return dataclasses.replace(made, record=forger.head)


def test_a_machine_is_given_a_permission_by_who_may_assign(forger: Forger) -> None:
    narrow = forger.permission(["Wallets:Read"])
    without = forger.person(["Wallets:Read", "Auth:ServiceAccounts:Create"])
    machine(forger, without, None)
    forger.verify()
    machine(forger, without, narrow)
    with pytest.raises(EvidenceBroken, match="not permitted Permissions:Assign"):
        forger.verify()


def test_an_assignment_without_a_permission_is_refused(forger: Forger) -> None:
    """And the other way round."""
    for permission, assignment in ((None, forger.new_id(ids.ASSIGNMENT)), (forger.permission(["Wallets:Read"]), None)):
        machine(forger, ADMIN, permission)
        forger.verify()
        forger.records[-1]["body"]["assignmentId"] = assignment
        with pytest.raises(RecordBroken):
            forger.verify()
        forger.undo()


def test_a_machine_makes_no_machines(forger: Forger) -> None:
    bot = machine(forger, ADMIN, STORY.records[0]["body"]["permission"]["id"])
    assert may(forger, bot)
    machine(forger, bot, None)
    with pytest.raises(EvidenceBroken, match="cannot create service accounts"):
        forger.verify()


def test_a_wallet_with_tags_needs_the_permission_to_tag() -> None:
    number = STORY.of("wallet.created")
    forger = Forger(STORY, number)
    assert STORY.records[number]["body"]["tags"]
    forger.repeat(STORY.records[number], forger.person(["Wallets:Create"]))
    with pytest.raises(EvidenceBroken, match="not permitted Wallets:Tags:Add"):
        forger.verify()


# What cannot be, whoever signs


def test_what_cannot_be_is_refused_whoever_signs(forger: Forger) -> None:
    """The server refuses these calls, so no record follows from them."""
    by_kind = {kind: STORY.records[STORY.of(kind)] for kind in SIGNED_KINDS}
    for kind in ("wallet.created", "permission.created", "serviceAccount.created", "user.invited", "policy.created"):
        forger.repeat(by_kind[kind], ADMIN)
        with pytest.raises(RecordBroken, match="is taken"):
            forger.verify()
        forger.undo()
    for kind in ("policy.archived", "policy.updated", "permission.revoked", "permission.archived", "user.deleted"):
        forger.repeat(by_kind[kind], ADMIN)
        with pytest.raises(RecordBroken, match="there is"):
            forger.verify()
        forger.undo()
    forger.switch(ADMIN, "deactivate")
    with pytest.raises(EvidenceBroken, match="switch themselves off"):
        forger.verify()


def test_the_first_permission_cannot_be_changed_or_archived(forger: Forger) -> None:
    full = STORY.records[0]["body"]["permission"]["id"]
    payload = {"operations": ["Wallets:Read"]}
    body = {"name": "ManagedFullAdminAccess", **payload}
    forger.say(ADMIN, "PUT", f"/permissions/{full}", payload, "permission.updated", full, body)
    with pytest.raises(RecordBroken, match="cannot be changed"):
        forger.verify()
    forger.undo()
    forger.say(ADMIN, "DELETE", f"/permissions/{full}", {}, "permission.archived", full, {})
    with pytest.raises(RecordBroken, match="cannot be changed"):
        forger.verify()


def test_two_wallets_do_not_share_an_address(forger: Forger) -> None:
    made = STORY.records[STORY.of("wallet.created")]
    payload, body = made["evidence"]["payload"], made["body"]
    for address in (body["address"], body["address"].upper().replace("0X", "0x")):
        wallet = forger.new_id(ids.WALLET)
        forger.say(ADMIN, "POST", "/wallets", payload, "wallet.created", wallet, {**body, "address": address})
        with pytest.raises(RecordBroken, match="another wallet"):
            forger.verify()
        forger.undo()


def test_an_invitation_is_taken_up_while_it_is_open(forger: Forger) -> None:
    """At the last moment, not afterwards; once; not by somebody who was deleted meanwhile."""
    signer = forger.person([])
    email = forger.records[-1]["body"]["username"]
    forger.undo()
    expires = forger.records[-1]["body"]["expires"] = forger.records[-1]["at"] + MINUTE
    invitation = forger.head

    forger.register(signer, email, invitation, issued=expires - 1)
    forger.verify()
    again = dataclasses.replace(forger.key(signer.user_id), private_key=signer.private_key)
    forger.register(dataclasses.replace(again, public_key=signer.public_key), email, invitation)
    with pytest.raises(EvidenceBroken, match="open invitation"):
        forger.verify()
    forger.undo()
    forger.undo()
    forger.register(signer, email, invitation, issued=expires)
    with pytest.raises(EvidenceBroken, match="open invitation"):
        forger.verify()
    forger.undo()
    forger.switch(signer, "deactivate")
    forger.register(signer, email, invitation)
    with pytest.raises(EvidenceBroken, match="somebody else"):
        forger.verify()
    forger.undo()
    forger.switch(signer, "delete")
    forger.register(signer, email, invitation)
    with pytest.raises(RecordBroken, match="nobody there is"):
        forger.verify()


def test_the_instant_is_that_of_the_signature(forger: Forger) -> None:
    policy(forger, ADMIN)
    at = forger.records[-1]["at"]
    for shift, fits in ((0, True), (5 * MINUTE, True), (-5 * MINUTE, True), (DAY, False), (-DAY, False)):
        forger.records[-1]["at"] = at + shift
        if fits:
            forger.verify()
        else:
            with pytest.raises(RecordBroken, match="instant"):
                forger.verify()
