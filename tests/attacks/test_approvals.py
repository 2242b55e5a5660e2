"""Attacks on approvals: votes that are not one's own, votes about something else, votes at the wrong moment."""

import concurrent.futures
from dataclasses import replace
from typing import Any

import pytest

from outlay.actions import decide as decisions
from outlay.actions import people, permissions
from outlay.core.errors import (
    ActionReplayed,
    ActionSignatureInvalid,
    ApprovalChanged,
    InvalidInput,
    NotAuthenticated,
    NotPermitted,
    PreconditionFailed,
)
from outlay.evidence.challenge import action_challenge
from outlay.evidence.sign import sign_challenge
from outlay.store import permissions as permission_rows
from outlay.store.schema import decision
from tests.actions.documents import ALWAYS, BLOCK, ask, group, known, over
from tests.actions.world import ALICE, BOB, Actor, World
from tests.door import Door, transfer

VOTE = "Policies:Evaluations:Vote"


def held(world: World, by: Actor, *groups: dict[str, Any], timeout: int | None = None) -> str:
    """Return the id of a payout that waits for these groups."""
    wallet = world.wallet()
    world.policy(ALWAYS, ask(*groups, timeout=timeout), only=[wallet])
    paid = world.pay(by, wallet, 5)
    assert paid["status"] == "Pending"
    return str(paid["id"])


def vote(world: World, by: Actor, transfer_id: str, value: str = "Approved") -> Any:
    """Return a signed vote, to be used later."""
    return world.sign(by, "POST", target(world, transfer_id), {"value": value})


def target(world: World, transfer_id: str) -> str:
    return f"/v2/policy-approvals/{world.approval(transfer_id).id}/decisions"


def use(world: World, by: Actor, call: Any, transfer_id: str, value: str = "Approved") -> Any:
    """Use a signed vote for a payout."""
    approval_id = world.approval(transfer_id).id
    return world.send(
        by,
        call,
        "POST",
        target(world, transfer_id),
        {"value": value},
        VOTE,
        lambda act: decisions.decide(act, approval_id, value=value, reason=None),
    )


# Whose vote it is


def test_the_initiator_approves_with_a_second_key(world: World, one: Actor, two: Actor) -> None:
    """The attacker asks for a payout and approves it with another key of theirs: the person counts (F48)."""
    paid = held(world, one, group(one, two))
    with pytest.raises(NotPermitted, match="you asked for this payout"):
        world.decide(world.second_key(one), paid)
    assert (world.state(paid), world.count(decision)) == ("held", 0)


def test_a_machine_approves_what_it_asked_for(world: World, bot: Actor) -> None:
    """The attacker stole the key of a machine that may ask and may vote (F48)."""
    paid = held(world, bot, group(bot, serviceAccountsCanApprove=True))
    with pytest.raises(NotPermitted, match="you asked for this payout"):
        world.decide(bot, paid)
    assert world.state(paid) == "held"


def test_a_quorum_is_made_of_machines_nobody_listed(world: World, bot: Actor, one: Actor) -> None:
    """The attacker, one approver of two, lets service accounts vote as "anybody" (F48)."""
    helpers = [world.service_account(f"helper {number}") for number in range(3)]
    paid = held(world, bot, group(quorum=2, serviceAccountsCanApprove=True))
    world.decide(one, paid)
    for helper in helpers:
        with pytest.raises(NotPermitted, match="none of the groups"):
            world.decide(helper, paid)
    assert world.state(paid) == "held"


def test_an_approver_makes_a_second_self(world: World, bot: Actor, one: Actor) -> None:
    """The attacker, an approver, has a friend invited who registers the attacker's second key: nobody vouches (F48)."""
    paid = held(world, bot, group(quorum=2))
    world.decide(one, paid)
    puppet = world.person("second.self@example.com", vouched=False)
    with pytest.raises(NotPermitted, match="vouches"):
        world.decide(puppet, paid)
    assert world.state(paid) == "held"


def test_an_approver_votes_again_after_being_switched_off_and_on(world: World, bot: Actor, one: Actor) -> None:
    """The attacker is switched off and on again and votes a second time: the first vote counts again, once (F49)."""
    paid = held(world, bot, group(quorum=2))
    world.decide(one, paid)
    world.deactivate(one)
    world.call(
        world.admin,
        "PUT",
        f"/auth/users/{one.user_id}/activate",
        {},
        "Auth:Users:Activate",
        lambda act: people.activate(act, one.user_id, service_account=False),
    )
    with pytest.raises(NotPermitted, match="decided already"):
        world.decide(one, paid)
    assert (world.state(paid), world.count(decision)) == ("held", 1)


def test_somebody_elses_vote_is_sent_in(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    """The attacker, an approver, intercepts a colleague's signed vote and sends it as a second of their own (F50)."""
    paid = held(world, bot, group(one, two, quorum=2))
    world.decide(one, paid)
    stolen = vote(world, two, paid)
    with pytest.raises(ActionSignatureInvalid):
        use(world, one, stolen, paid)
    with pytest.raises(NotAuthenticated):  # the vote without the colleague's bearer token
        use(world, replace(two, claims={**one.claims, "sub": two.user_id}), stolen, paid)
    assert (world.state(paid), world.count(decision)) == ("held", 1)


# What the vote is about


def test_a_denial_is_sent_in_as_an_approval(world: World, bot: Actor, one: Actor) -> None:
    """The attacker holds a signed denial and sends it with the other word (F50)."""
    paid = held(world, bot, group(one))
    with pytest.raises(ActionSignatureInvalid, match="the body is not"):
        use(world, one, vote(world, one, paid, "Denied"), paid)
    assert (world.state(paid), world.count(decision)) == ("held", 0)


def test_an_approval_of_one_payout_is_sent_in_for_another(world: World, bot: Actor, one: Actor) -> None:
    """The attacker, in the middle, uses a signed approval of a small payout for a large one (F50)."""
    small, large = held(world, bot, group(one)), held(world, bot, group(one))
    with pytest.raises(ActionSignatureInvalid, match="was signed for"):
        use(world, one, vote(world, one, small), large)
    assert world.state(large) == "held"


@pytest.mark.parametrize("bound", ["another intent", "other groups", "nothing"])
def test_a_vote_is_asked_for_under_a_false_label(world: World, bot: Actor, one: Actor, bound: str) -> None:
    """The attacker owns the server's sealing key and has the approver sign a challenge made for something else.

    The path names the large payout, so the approver's client shows it; what is bound is the intent (F50, F133).
    """
    small, large = held(world, bot, group(one)), held(world, bot, group(one))
    honest = vote(world, one, large).preimage
    digests = {
        "another intent": {"intent_digest": vote(world, one, small).preimage.intent_digest},
        "other groups": {"groups_digest": "ab" * 32},
        "nothing": {"intent_digest": None, "groups_digest": None},
    }[bound]
    false = replace(honest, **digests)
    call = vote(world, one, large)
    factor = sign_challenge(one.private_key, one.credential_id, action_challenge(false))
    signed = replace(call, preimage=false, assertion=type(call.assertion).from_document(factor))
    with pytest.raises(ApprovalChanged):
        use(world, one, signed, large)
    assert (world.state(large), world.count(decision)) == ("held", 0)


def test_a_signed_vote_is_moved_to_another_payout_by_whoever_can_seal(world: World, bot: Actor, one: Actor) -> None:
    """The attacker owns the sealing key and rewrites path and digests of a vote; the signature covers them (F124)."""
    small, large = held(world, bot, group(one)), held(world, bot, group(one))
    signed = vote(world, one, small)
    moved = vote(world, one, large).preimage
    forged = replace(signed, preimage=replace(signed.preimage, path=moved.path, intent_digest=moved.intent_digest))
    with pytest.raises(ActionSignatureInvalid):
        use(world, one, forged, large)
    assert world.state(large) == "held"


def test_a_vote_signed_before_joining_the_group_counts_after(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    """The attacker signs a vote early and lets somebody add them to the group; it covers the old groups (F46)."""
    wallet = world.wallet()
    policy = world.policy(ALWAYS, ask(group(one)), only=[wallet])
    paid = world.pay(bot, wallet, 5)["id"]
    early = vote(world, two, paid)
    world.replace_policy(policy, ALWAYS, ask(group(one, two)), only=[wallet])
    with pytest.raises(ApprovalChanged):
        use(world, two, early, paid)
    assert world.state(paid) == "held"


def test_a_used_vote_is_used_again_when_the_vote_reopens(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    """The attacker keeps an approver's vote and sends it again after an edit made everybody vote anew (F50)."""
    wallet = world.wallet()
    policy = world.policy(ALWAYS, ask(group(one, two, quorum=2)), only=[wallet])
    paid = world.pay(bot, wallet, 5)["id"]
    kept = vote(world, one, paid)
    use(world, one, kept, paid)
    world.replace_policy(policy, ALWAYS, ask(group(one)), only=[wallet])
    with pytest.raises(ActionReplayed):
        use(world, one, kept, paid)
    assert world.state(paid) == "held"


@pytest.mark.parametrize("value", ["approved", "APPROVED", "Approved ", "Approve", "Yes", "", "Approv\u0435d"])
def test_a_vote_in_another_spelling_is_read_as_an_approval(door: Door, value: str) -> None:
    """The attacker sends a word that one reader takes for a denial and another for an approval (F50)."""
    held_path = "/v2/policy-approvals/ap-00000-00000-0000000000000000/decisions"
    answer = door.write(door.admin, "POST", held_path, {"value": value})
    assert (answer.status, answer.field) == (400, "value")


# When the vote comes


def test_an_allowed_recipient_is_taken_off_the_list_before_it_is_paid(world: World, bot: Actor, one: Actor) -> None:
    """The attacker's payout went through while the recipient was listed; it is judged again at binding (F46, F54)."""
    wallet = world.wallet()
    policy = world.policy(known(ALICE), ask(group(one)), only=[wallet])
    paid = world.pay(bot, wallet, 5, to=ALICE)["id"]
    assert world.state(paid) == "ready"
    world.replace_policy(policy, known(BOB), ask(group(one)), only=[wallet])
    assert world.bind(paid) == "held"


def test_the_list_is_edited_after_the_approval(world: World, bot: Actor, one: Actor) -> None:
    """The attacker edits the list after people approved; what they approved is an address, not an entry (F54)."""
    wallet = world.wallet()
    policy = world.policy(known(ALICE), ask(group(one)), only=[wallet])
    paid = world.pay(bot, wallet, 5, to=BOB)["id"]
    signed = vote(world, one, paid).preimage.intent_digest
    world.decide(one, paid)
    world.replace_policy(policy, known(ALICE, "0x" + "cc" * 20), ask(group(one)), only=[wallet])
    assert world.bind(paid) == "assigned"
    row = world.row(paid)
    assert (row.recipient, row.intent["recipient"], row.intent_digest) == (BOB, BOB, signed)


def test_a_block_arrives_between_approval_and_payment(world: World, bot: Actor, one: Actor) -> None:
    """The attacker has an approval in hand when the rules are tightened: approved is not paid (F46)."""
    wallet = world.wallet()
    world.policy(ALWAYS, ask(group(one)), only=[wallet])
    paid = world.pay(bot, wallet, 500)["id"]
    world.decide(one, paid)
    world.policy(over(100), BLOCK)
    assert world.bind(paid) == "rejected"


def test_an_approval_follows_an_abort(world: World, one: Actor, two: Actor) -> None:
    """The attacker holds a signed approval of a payout that its initiator took back (F45)."""
    paid = held(world, one, group(two))
    kept = vote(world, two, paid)
    world.withdraw(one, paid)
    with pytest.raises(PreconditionFailed):
        use(world, two, kept, paid)
    assert (world.state(paid), world.approval(paid).status) == ("canceled", "Denied")


def test_an_abort_follows_the_payment(world: World, one: Actor, two: Actor) -> None:
    """The attacker takes back what is signed already, to be paid and to get the limit back as well (F45, F53)."""
    paid = held(world, one, group(two))
    world.decide(two, paid)
    world.leave(paid)
    with pytest.raises(PreconditionFailed, match="signed"):
        world.withdraw(one, paid)
    assert world.state(paid) == "signed"


def test_approve_deny_and_abort_race(door: Door) -> None:
    """The attacker fires approval, denial and abort of one payout at once: the first to commit decides (F45)."""
    voters = ["Policies:Evaluations:Vote", "Wallets:Transfers:Abort", "Wallets:Transfers:Create"]
    asker, first, second = [door.person(f"racer-{number}@example.com", voters) for number in range(3)]
    wallet = door.wallet("raced")["id"]
    approvers = {"userId": {"in": [first.user_id, second.user_id]}}
    action = {"kind": "RequestApproval", "approvalGroups": [{"quorum": 1, "approvers": approvers}]}
    policy = {"name": "race", "activityKind": "Wallets:Sign", "rule": {"kind": "AlwaysTrigger"}, "action": action}
    door.write(door.admin, "POST", "/v2/policies", {**policy, "filters": {"walletTags": {"hasAny": ["raced"]}}}).ok()
    for _ in range(8):
        paid = door.write(asker, "POST", f"/wallets/{wallet}/transfers", transfer()).ok()
        votes = f"/v2/policy-approvals/{paid['approvalId']}/decisions"
        moves = [
            (first, "POST", votes, {"value": "Approved"}),
            (second, "POST", votes, {"value": "Denied"}),
            (asker, "PUT", f"/wallets/{wallet}/transfers/{paid['id']}/abort", None),
        ]
        signed = [(move, door.sign(*move)) for move in moves]
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            answers = list(
                pool.map(
                    lambda each: door.call(*each[0][1:], token=each[0][0].token, action=each[1]),
                    signed,
                )
            )
        approved, denied, aborted = (answer.status == 200 for answer in answers)
        assert all(answer.status in (200, 412) for answer in answers)
        state = door.rows("SELECT state FROM transfer WHERE id = ?", paid["id"])[0][0]
        status = door.rows("SELECT status FROM approval WHERE id = ?", paid["approvalId"])[0][0]
        ways = door.rows("SELECT event FROM transition WHERE transfer_id = ?", paid["id"])
        assert not (approved and denied)
        # Taken back after the approval it ends too, but only before a nonce is bound to it.
        assert state == ("canceled" if aborted else "rejected" if denied else "ready")
        assert status == ("Approved" if approved else "Denied")
        assert len(ways) == len(set(ways))


def test_an_empty_group_is_met_by_nobody(world: World, bot: Actor, one: Actor) -> None:
    """The attacker, an admin, writes a policy whose group lists nobody, hoping that nobody has to agree (F55)."""
    wallet = world.wallet()
    for groups in ([], [{"quorum": 1, "approvers": {"userId": {"in": []}}}], [group(one, quorum=0)]):
        with pytest.raises(InvalidInput):
            world.policy(ALWAYS, ask(*groups), only=[wallet])
    with pytest.raises(InvalidInput):
        world.policy(ALWAYS, ask(group(one, one)), only=[wallet])
    assert world.pay(bot, wallet, 5)["status"] == "Executing"  # none of them became a policy


def test_a_vote_of_somebody_who_may_not_vote_any_more(world: World) -> None:
    """F47: an approver was found out and lost the permission to vote while the payout was held.

    Defence: a decision counts only while its person is permitted to vote; permitted again, it counts again.
    """
    bot, one, two = world.service_account("bot"), world.person("one@example.com"), world.person("two@example.com")
    wallet = world.wallet()
    world.policy(ALWAYS, ask(group(one, two, quorum=2)), only=[wallet])
    paid = world.pay(bot, wallet, 5)["id"]
    world.decide(one, paid)
    with world.unit() as unit:
        (held,) = permission_rows.held_by(unit, one.user_id)
    path = f"/permissions/{held.permission_id}/assignments/{held.assignment_id}"
    world.call(
        world.admin,
        "DELETE",
        path,
        {},
        "Permissions:Revoke",
        lambda act: permissions.revoke(act, held.permission_id, held.assignment_id),
    )
    world.decide(two, paid)
    assert world.state(paid) == "held"
    world.permit(one)
    assert world.state(paid) == "ready"
