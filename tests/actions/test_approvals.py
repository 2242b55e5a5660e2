"""Design section 6, decisions: who may decide, what ends a vote, and what makes everybody vote again."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from outlay.actions.decide import decide
from outlay.core.errors import ApprovalChanged, InvalidInput, NotPermitted, PreconditionFailed
from outlay.core.seams import MINUTE
from outlay.store.schema import decision, event
from tests.actions.documents import ALWAYS, BLOCK, REPORT, ask, group, over
from tests.actions.world import Actor, World


def held(world: World, bot: Actor, *actions: dict[str, object]) -> str:
    """Return the id of a payout that these policies hold."""
    wallet = world.wallet()
    for action in actions:
        world.policy(ALWAYS, dict(action))
    answer = world.pay(bot, wallet, 2)
    assert answer["status"] == "Pending"
    return str(answer["id"])


def resolutions(world: World, transfer_id: str) -> list[str]:
    """Return the status in each policy.approval.resolved of a payout."""
    approval_id = world.approval(transfer_id).id
    with world.unit() as unit:
        rows = unit.execute(
            sa.select(event.c.data).where(event.c.subject == approval_id, event.c.kind == "policy.approval.resolved")
        ).all()
    return [row.data["approval"]["status"] for row in rows]


def test_a_hold_opens_an_approval_and_says_so(world: World, bot: Actor, one: Actor) -> None:
    paid = held(world, bot, ask(group(one)))
    approval = world.approval(paid)
    assert world.row(paid).approval_id == approval.id
    assert (approval.status, approval.initiator_id) == ("Pending", bot.user_id)
    assert world.events(approval.id) == ["policy.approval.pending"]
    world.decide(one, paid)
    assert world.events(approval.id) == ["policy.approval.pending", "policy.approval.resolved"]
    assert world.approval(paid).status == "Approved"
    assert world.row(paid).resolved_at == world.clock.now()


def test_one_decision_a_person(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    paid = held(world, bot, ask(group(one, two, quorum=2)))
    world.decide(one, paid)
    for again in ("Approved", "Denied"):
        with pytest.raises(NotPermitted, match="decided already"):
            world.decide(one, paid, again)
    assert world.state(paid) == "held"
    assert world.count(decision) == 1


def test_two_keys_of_one_person_are_one_vote(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    paid = held(world, bot, ask(group(one, two, quorum=2)))
    other_key = world.second_key(one)
    world.decide(one, paid)
    with pytest.raises(NotPermitted, match="decided already"):
        world.decide(other_key, paid)
    assert world.state(paid) == "held"


def test_one_person_in_two_groups_counts_once_in_each(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    paid = held(world, bot, ask(group(one), group(one, two, quorum=2)))
    world.decide(one, paid)
    assert world.state(paid) == "held"
    world.decide(two, paid)
    assert world.state(paid) == "ready"


def test_the_initiator_may_deny(world: World, one: Actor, two: Actor) -> None:
    paid = held(world, one, ask(group(two)))
    world.decide(one, paid, "Denied")
    assert world.state(paid) == "rejected"


def test_the_initiator_may_not_approve_unless_allowed(world: World, one: Actor, two: Actor) -> None:
    forbidden = held(world, one, ask(group(one, two)))
    with pytest.raises(NotPermitted, match="you asked for this payout"):
        world.decide(one, forbidden)
    allowed = held(world, one, ask(group(one, two, initiatorCanApprove=True)))
    assert len(world.approval(allowed).groups) == 2
    with_first = world.decide(one, allowed)
    assert with_first["status"] == "Pending"  # counted in the group that allows it, not in the other
    world.decide(two, allowed)
    assert world.state(allowed) == "ready"


def test_a_service_account_votes_only_if_listed_and_allowed(world: World, bot: Actor, one: Actor) -> None:
    guard = world.service_account("guard")
    with pytest.raises(InvalidInput, match="service account"):
        world.policy(ALWAYS, ask(group(guard)))
    anybody = held(world, bot, ask(group()))
    with pytest.raises(NotPermitted, match="none of the groups"):
        world.decide(guard, anybody)
    unlisted = held(world, bot, ask(group(one, serviceAccountsCanApprove=True)))
    with pytest.raises(NotPermitted, match="none of the groups"):
        world.decide(guard, unlisted)
    listed = held(world, bot, ask(group(guard, serviceAccountsCanApprove=True)))
    answer = world.decide(guard, listed)
    assert [each["userId"] for each in answer["decisions"]] == [guard.user_id]


def test_somebody_in_no_group_may_not_decide(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    paid = held(world, bot, ask(group(one)))
    for value in ("Approved", "Denied"):
        with pytest.raises(NotPermitted, match="none of the groups"):
            world.decide(two, paid, value)


def test_a_person_nobody_vouched_for_signs_nothing(world: World, bot: Actor) -> None:
    stranger = world.person("stranger@example.com", vouched=False)
    paid = held(world, bot, ask(group()))
    with pytest.raises(NotPermitted, match="vouches"):
        world.decide(stranger, paid)


def test_a_preset_group_that_lists_nobody_is_satisfied_by_nobody(tmp_path: Path) -> None:
    world = World(tmp_path, preset="standard")
    wallet = world.wallet("payouts")
    paid = world.pay(world.admin, wallet, 1)
    assert paid["status"] == "Pending"
    voter = world.person("approver@example.com")
    with pytest.raises(NotPermitted):
        world.decide(voter, paid["id"])
    world.close()


def test_after_the_end_nothing_is_left_to_decide(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    paid = held(world, bot, ask(group(one, two)))
    world.decide(one, paid)
    with pytest.raises(PreconditionFailed, match="Approved"):
        world.decide(two, paid, "Denied")
    assert world.state(paid) == "ready"


# --- time --------------------------------------------------------------------------------------------------------


def test_the_shortest_auto_reject_timeout_of_the_triggered_policies_wins(world: World, bot: Actor, one: Actor) -> None:
    world.policy(over(1000), ask(group(one), timeout=1))  # not triggered
    paid = held(world, bot, ask(group(one)), ask(group(one), timeout=90), ask(group(one), timeout=60))
    assert world.approval(paid).expires_at == world.clock.now() + 60 * MINUTE


def test_without_a_timeout_it_waits_for_ever(world: World, bot: Actor, one: Actor) -> None:
    paid = held(world, bot, ask(group(one)))
    assert world.approval(paid).expires_at is None
    world.clock.step(minutes=10**6)
    world.expire()
    assert world.state(paid) == "held"


def test_the_time_to_decide_is_half_open_at_the_instant(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    """One microsecond before, a decision counts; at the instant itself it is too late."""
    paid = held(world, bot, ask(group(one, two, quorum=2), timeout=60))
    world.clock.step(minutes=60, micros=-1)
    one, two = world.log_in(one), world.log_in(two)
    world.expire()
    world.decide(one, paid)
    world.clock.step(micros=1)
    with pytest.raises(PreconditionFailed, match="time"):
        world.decide(two, paid)
    assert world.state(paid) == "held"
    assert world.expire()
    assert world.state(paid) == "expired"


def test_expiry_gives_approval_expired_and_transfer_rejected(world: World, bot: Actor, one: Actor) -> None:
    paid = held(world, bot, ask(group(one), timeout=60))
    world.expire()
    assert world.state(paid) == "held"
    world.clock.step(minutes=60)
    assert world.expire()
    assert world.approval(paid).status == "Expired"
    assert resolutions(world, paid) == ["Expired"]
    assert world.events(paid)[-1] == "wallet.transfer.rejected"
    with world.unit() as unit:
        told = unit.execute(
            sa.select(event.c.data).where(event.c.subject == paid, event.c.kind == "wallet.transfer.rejected")
        ).scalar_one()
    assert told["transferRequest"]["status"] == "Rejected"
    assert told["transferRequest"]["reason"] == "Nobody decided in time."
    assert not world.expire(), "what has ended does not end again"


def test_a_held_payout_its_initiator_takes_back_leaves_no_vote_open(world: World, bot: Actor, one: Actor) -> None:
    paid = held(world, bot, ask(group(one)))
    with pytest.raises(NotPermitted):
        world.withdraw(one, paid)
    world.withdraw(bot, paid)
    assert world.state(paid) == "canceled"
    assert resolutions(world, paid) == ["Denied"]
    with pytest.raises(PreconditionFailed):
        world.decide(one, paid)


# --- the vote is reopened ----------------------------------------------------------------------------------------


def test_a_policy_edit_of_its_groups_reopens_the_vote(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    wallet, three = world.wallet(), world.person("approver.three@example.com")
    policy = world.policy(ALWAYS, ask(group(one, two, quorum=2)))
    paid = world.pay(bot, wallet, 2)["id"]
    world.decide(one, paid)
    world.replace_policy(policy, ALWAYS, ask(group(one, three, quorum=2)))
    assert [each["approvers"] for each in world.approval(paid).groups] == [
        {"userId": {"in": sorted([one.user_id, three.user_id])}}
    ]
    with pytest.raises(NotPermitted):
        world.decide(two, paid)
    world.decide(three, paid)
    assert world.state(paid) == "held", "the first approval covered other groups"
    world.decide(one, paid)
    assert world.state(paid) == "ready"


def test_an_edit_that_keeps_the_groups_reopens_nothing(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    wallet = world.wallet()
    policy = world.policy(over(1), ask(group(one, two, quorum=2)))
    paid = world.pay(bot, wallet, 2)["id"]
    world.decide(one, paid)
    world.replace_policy(policy, over(1000), ask(group(one, two, quorum=2)))
    world.decide(two, paid)
    assert world.state(paid) == "ready"


def test_an_old_signed_decision_gets_approval_changed(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    wallet = world.wallet()
    policy = world.policy(ALWAYS, ask(group(one)))
    paid = world.pay(bot, wallet, 2)["id"]
    approval_id = world.approval(paid).id
    path, payload = f"/v2/policy-approvals/{approval_id}/decisions", {"value": "Approved"}
    signed = world.sign(one, "POST", path, payload)
    world.replace_policy(policy, ALWAYS, ask(group(one, two)))

    def vote() -> object:
        return world.send(
            one,
            signed,
            "POST",
            path,
            payload,
            "Policies:Evaluations:Vote",
            lambda act: decide(act, approval_id, value="Approved", reason=None),
        )

    with pytest.raises(ApprovalChanged) as refused:
        vote()
    assert (refused.value.status, refused.value.code) == (409, "approval_changed")
    assert world.state(paid) == "held" and world.count(decision) == 0
    world.decide(one, paid)
    assert world.state(paid) == "ready"


@pytest.mark.parametrize("action", [BLOCK, REPORT])
def test_an_edit_to_an_action_that_asks_nobody_lets_nothing_go(
    world: World, bot: Actor, one: Actor, action: dict[str, object]
) -> None:
    wallet = world.wallet()
    policy = world.policy(over(1), ask(group(one)))
    paid = world.pay(bot, wallet, 2)["id"]
    world.replace_policy(policy, over(1000), dict(action))
    assert (world.state(paid), world.approval(paid).status) == ("held", "Pending")
    world.decide(one, paid)
    assert world.state(paid) == "ready"
