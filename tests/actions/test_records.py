"""Design section 5: every change is a signed record, and what was signed can be checked without the server."""

import copy
import json
from typing import Any

import pytest

from outlay.actions import organization, people, permissions
from outlay.config import parse
from outlay.core.errors import InvalidInput
from outlay.evidence.bundle import EvidenceBroken, verify_evidence
from outlay.evidence.canonical import digest
from outlay.evidence.challenge import Preimage
from outlay.evidence.history import History, verify_history
from outlay.evidence.record import RecordBroken, verify_chain
from outlay.store import approvals, evidence, organizations
from tests.actions.documents import ALWAYS, BLOCK, REPORT, ask, cap, group, over
from tests.actions.world import SETTINGS, Actor, World


def records(world: World) -> list[dict[str, Any]]:
    with world.unit() as unit:
        return list(organizations.read_records(unit))


def evidence_of(world: World, subject: str) -> dict[str, Any]:
    with world.unit() as unit:
        (document,) = evidence.of(unit, subject)
    return document


def manage(world: World) -> None:
    """Change everything that can be changed once."""
    full = world.admin
    made = world.call(
        full,
        "POST",
        "/permissions",
        {"name": "payers", "operations": ["Wallets:Transfers:Create"]},
        "Permissions:Create",
        lambda act: permissions.create(act, name="payers", operations=["Wallets:Transfers:Create"]),
    )
    path = f"/permissions/{made['id']}"
    world.call(
        full,
        "PUT",
        path,
        {"name": "payers of small sums"},
        "Permissions:Update",
        lambda act: permissions.update(act, made["id"], name="payers of small sums", operations=None),
    )
    world.call(
        full,
        "PUT",
        path + "/archive",
        {"isArchived": True},
        "Permissions:Delete",
        lambda a: permissions.archive(a, made["id"]),
    )
    wallet = world.wallet("payouts")
    world.tag(wallet, "europe")
    world.untag(wallet, "europe")
    policy = world.policy(over(10), BLOCK)
    world.replace_policy(policy, cap(10), REPORT)
    world.archive_policy(policy)
    gone = world.person("gone@example.com")
    world.deactivate(gone)
    world.call(
        full,
        "PUT",
        f"/auth/users/{gone.user_id}/activate",
        {},
        "Auth:Users:Activate",
        lambda act: people.activate(act, gone.user_id, service_account=False),
    )
    world.call(
        full,
        "DELETE",
        f"/auth/users/{gone.user_id}",
        {},
        "Auth:Users:Delete",
        lambda act: people.delete(act, gone.user_id, service_account=False),
    )
    world.config = parse(SETTINGS.replace('ETH = "2000"', 'ETH = "2500"'))
    settings = world.config.money_settings()
    world.call(
        full,
        "PUT",
        "/v1/config",
        {"moneySettings": settings},
        "Config:Apply",
        lambda act: organization.apply_config(act, settings=settings),
    )


def test_the_records_of_a_rich_history_verify(world: World, bot: Actor, one: Actor) -> None:
    manage(world)
    late = world.person("late@example.com", vouched=False)
    world.call(
        world.admin,
        "PUT",
        f"/auth/users/{late.user_id}/activate",
        {},
        "Auth:Users:Activate",
        lambda act: people.activate(act, late.user_id, service_account=False),
    )
    world.policy(ALWAYS, ask(group(late)))
    documents = records(world)
    with world.unit() as unit:
        org = organizations.get(unit)
    assert verify_chain(documents, world.root) == org.head
    history = verify_history(documents, world.root)
    assert isinstance(history, History) and history.head == org.head
    kinds = {each["kind"] for each in documents}
    assert kinds == {
        "genesis",
        "user.invited",
        "user.registered",
        "user.activated",
        "user.deactivated",
        "user.deleted",
        "serviceAccount.created",
        "permission.created",
        "permission.updated",
        "permission.archived",
        "permission.assigned",
        "wallet.created",
        "wallet.tags.modified",
        "policy.created",
        "policy.updated",
        "policy.archived",
        "config.applied",
    }
    assert org.head_seq == len(documents) - 1


@pytest.mark.parametrize("how", ["changed", "dropped", "moved", "root"])
def test_later_edits_of_the_records_fail(world: World, how: str) -> None:
    world.wallet("payouts")
    world.policy(over(10), BLOCK)
    world.policy(over(20), BLOCK)
    documents = copy.deepcopy(records(world))
    if how == "changed":
        documents[-2]["body"]["rule"]["configuration"]["limit"] = "1000"
    elif how == "dropped":
        del documents[-2]
    elif how == "moved":
        documents[-2:] = reversed(documents[-2:])
    with pytest.raises(RecordBroken):
        verify_chain(documents, "ab" * 32 if how == "root" else world.root)


def decided(world: World, bot: Actor, one: Actor) -> tuple[str, str]:
    """Return the ids of an approved payout and of the decision."""
    wallet = world.wallet()
    world.policy(ALWAYS, ask(group(one)))
    paid = world.pay(bot, wallet, 5)["id"]
    world.decide(one, paid, reason="checked")
    approval_id = world.approval(paid).id
    with world.unit() as unit:
        (decision,) = approvals.decisions(unit, approval_id)
    return paid, decision.id


def test_the_evidence_of_a_transfer_covers_its_intent(world: World, bot: Actor, one: Actor) -> None:
    paid, _ = decided(world, bot, one)
    document = evidence_of(world, paid)
    preimage = verify_evidence(document)
    row = world.row(paid)
    assert (preimage.identity, preimage.path) == (bot.user_id, f"/wallets/{row.wallet_id}/transfers")
    assert document["payload"] == row.request_body
    assert document["payload"]["amount"] == str(row.amount)
    assert document["policySet"] == row.policy_set


def test_the_evidence_of_a_decision_covers_the_intent_and_the_groups(world: World, bot: Actor, one: Actor) -> None:
    paid, decision = decided(world, bot, one)
    preimage = verify_evidence(evidence_of(world, decision))
    assert preimage.identity == one.user_id
    assert preimage.intent_digest == digest(world.row(paid).intent) == world.row(paid).intent_digest
    assert preimage.groups_digest == digest(world.approval(paid).groups)


def test_evidence_verifies_offline_from_the_root_to_the_signature(world: World, bot: Actor, one: Actor) -> None:
    paid, decision = decided(world, bot, one)
    found = [evidence_of(world, paid), evidence_of(world, decision)]
    history = verify_history(json.loads(json.dumps(records(world))), world.root)
    for each in found:
        assert check(history, json.loads(json.dumps(each))).records_head in history.numbers


def check(history: History, document: Any) -> Preimage:
    """Verify evidence by the records."""
    preimage = verify_evidence(document)
    history.signer(document, preimage)
    return preimage


def leaves(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every text and number in a document."""
    if isinstance(document, dict):
        return [leaf for key, value in document.items() for leaf in leaves(value, (*path, key))]
    if isinstance(document, list):
        return [leaf for at, value in enumerate(document) for leaf in leaves(value, (*path, at))]
    return [path]


def change(document: Any, path: tuple[Any, ...]) -> Any:
    """Return the document with one byte of one leaf changed."""
    changed = copy.deepcopy(document)
    place = changed
    for step in path[:-1]:
        place = place[step]
    old = place[path[-1]]
    if isinstance(old, str):
        middle = len(old) // 2
        place[path[-1]] = old[:middle] + ("B" if old[middle : middle + 1] != "B" else "C") + old[middle + 1 :]
    else:
        place[path[-1]] = (old or 0) + 1
    return changed


UNSIGNED = {("policySet",), ("origins", 0)}
"""What the server adds: origins matter for passkeys only, and the policy set names what was in force."""


def test_evidence_fails_when_any_byte_changes(world: World, bot: Actor, one: Actor) -> None:
    paid, decision = decided(world, bot, one)
    history = verify_history(records(world), world.root)
    for subject in (paid, decision):
        document = evidence_of(world, subject)
        paths = [path for path in leaves(document) if path not in UNSIGNED]
        assert len(paths) > 20
        for path in paths:
            with pytest.raises((EvidenceBroken, InvalidInput)):
                check(history, change(document, path))
                pytest.fail(f"nobody noticed a change of {path}")


def test_every_record_carries_the_policy_set_of_its_moment(world: World) -> None:
    world.policy(over(10), BLOCK)
    world.policy(over(20), BLOCK)
    sets = [each["evidence"]["policySet"] for each in records(world)[1:]]
    assert sets[0] == digest([])
    assert len(set(sets)) == 2
