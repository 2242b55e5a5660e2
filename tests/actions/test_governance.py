"""Changes that people have to agree to: asked for, decided, waited for, made; and the chain proves all of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from outlay.actions import carry, organization, permissions, policies, present_changes, wallets
from outlay.actions.decide import decide
from outlay.config import parse
from outlay.core.errors import Conflict, HeadMoved, InvalidInput, NotPermitted, PreconditionFailed
from outlay.core.seams import SECOND
from outlay.store import changes as change_rows
from outlay.store import permissions as permission_rows
from outlay.store import wallets as wallet_rows
from tests.actions.council import DAY_S, Council, ask, limit, written
from tests.actions.world import SETTINGS

ALWAYS = {"kind": "AlwaysTrigger"}
VOTE = "Policies:Evaluations:Vote"


@pytest.fixture
def council(tmp_path: Path) -> Iterator[Council]:
    opened = Council(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def ungoverned(tmp_path: Path) -> Iterator[Council]:
    opened = Council(tmp_path, guarded=False)
    yield opened
    opened.close()


# Waiting


def test_without_a_guard_a_change_takes_hold_at_once(ungoverned: Council) -> None:
    ungoverned.set_cap(100_000)
    assert ungoverned.limit_now() == "100000"
    ungoverned.replayed()


def test_a_loosening_waits_for_its_quorum_and_then_a_day(council: Council) -> None:
    change = council.set_cap(1000)
    assert (change["kind"], change["operationKind"], change["status"]) == ("Policy", "Update", "Pending")
    assert change["loosens"] is True
    council.vote(change, council.first)
    council.wait(DAY_S)
    assert council.limit_now() == "100", "one of two"
    council.vote(change, council.second)
    council.wait(DAY_S - 1)
    assert (council.limit_now(), council.status(change)) == ("100", "Pending")
    council.wait(1)
    assert (council.limit_now(), council.status(change)) == ("1000", "Applied")
    assert council.replayed().policies[council.cap].version == 2


def test_a_tightening_needs_the_quorum_and_no_delay(council: Council) -> None:
    change = council.set_cap(10)
    assert change["loosens"] is False
    council.vote(change, council.first)
    assert council.limit_now() == "100"
    answer = council.vote(change, council.second)
    assert (council.limit_now(), answer["status"]) == ("10", "Approved")
    council.replayed()


def test_what_was_tightened_is_had_back_without_delay_for_72_hours(council: Council) -> None:
    council.agree(council.set_cap(10))
    council.wait(70 * 3600)
    back = council.set_cap(100)
    assert back["loosens"] is False
    council.agree(back)
    assert council.limit_now() == "100"
    council.replayed()


def test_more_than_what_was_tightened_waits(council: Council) -> None:
    council.agree(council.set_cap(10))
    assert council.set_cap(101)["loosens"] is True


def test_after_72_hours_the_old_rules_are_a_loosening(council: Council) -> None:
    council.agree(council.set_cap(10))
    council.wait(72 * 3600 + 1)
    assert council.set_cap(100)["loosens"] is True


def test_a_restoration_agreed_on_too_late_waits_like_a_loosening(council: Council) -> None:
    """It was asked for in time, so nobody saw that it would loosen."""
    council.agree(council.set_cap(10))
    council.wait(71 * 3600)
    back = council.set_cap(100)
    council.wait(2 * 3600)
    council.agree(back)
    assert council.limit_now() == "10"
    council.wait(DAY_S)
    assert council.limit_now() == "100"
    council.replayed()


def test_a_policy_made_lately_goes_again_without_delay(council: Council) -> None:
    fresh = council.create(written("Wallets:Sign", limit(1), {"kind": "Block"}))
    change = council.archive(fresh)
    assert change["loosens"] is False
    council.agree(change)
    assert council.status(change) == "Applied"
    council.replayed()


def test_the_delay_is_the_signed_setting(tmp_path: Path) -> None:
    council = Council(tmp_path, settings=SETTINGS + "\n[governance]\nloosening_delay_s = 60\n")
    change = council.set_cap(1000)
    council.agree(change)
    council.wait(59)
    assert council.limit_now() == "100"
    council.wait(1)
    assert council.limit_now() == "1000"
    council.replayed()
    council.close()


# Who decides


def test_one_denial_ends_it_also_during_the_wait(council: Council) -> None:
    change = council.set_cap(1000)
    council.agree(change)
    council.vote(change, council.third, "Denied")
    assert council.status(change) == "Rejected"
    council.wait(DAY_S)
    assert council.limit_now() == "100"
    council.replayed()


def test_who_asks_may_deny_and_not_approve(council: Council) -> None:
    change = council.set_cap(1000, by=council.first)
    with pytest.raises(NotPermitted, match="initiator"):
        council.vote(change, council.first)
    council.vote(change, council.first, "Denied")
    assert council.status(change) == "Rejected"


def test_a_vote_of_somebody_switched_off_meanwhile_does_not_count(council: Council) -> None:
    change = council.set_cap(1000)
    council.agree(change)
    council.switch(council.second.user_id, on=False)
    council.clock.at += DAY_S * 10**6
    council.expire()
    assert (council.limit_now(), council.status(change)) == ("100", "Pending")
    council.admin, council.third = council.log_in(council.admin), council.log_in(council.third)
    council.vote(change, council.third)
    council.clock.at += DAY_S * 10**6
    council.expire()
    assert council.limit_now() == "1000"
    council.replayed()


def test_a_change_of_somebody_switched_off_meanwhile_fails(ungoverned: Council) -> None:
    council = ungoverned
    helper = council.person("helper@admins.example")
    council.guard_all()
    change = council.set_cap(1000, by=helper)
    council.agree(change)
    council.switch(helper.user_id, on=False)
    council.wait(DAY_S)
    assert (council.limit_now(), council.status(change)) == ("100", "Failed")
    council.replayed()


def test_nobody_decides_in_time(tmp_path: Path) -> None:
    council = Council(tmp_path, guarded=False)
    council.guard = council.create(written("Policies:Modify", ALWAYS, ask(*council.approvers, quorum=2, timeout=60)))
    council.wait(72 * 3600 + 1)  # within 72 hours the guard itself would be a tightening to take back
    late, agreed = council.set_cap(1000), council.archive(council.guard)
    council.agree(agreed)
    council.wait(3600)
    assert council.status(late) == "Rejected"
    assert council.status(agreed) == "Pending", "agreed on in time: it waits for its day"
    council.replayed()
    council.close()


def test_a_decision_about_a_change_is_signed_over_the_newest_records(council: Council) -> None:
    change = council.set_cap(1000)
    path = f"/v2/policy-approvals/{change['approvalId']}/decisions"
    call = council.sign(council.first, "POST", path, {"value": "Approved"})
    council.tag(council.paying, "asia")
    with pytest.raises(HeadMoved):
        council.send(
            council.first,
            call,
            "POST",
            path,
            {"value": "Approved"},
            "Policies:Evaluations:Vote",
            lambda act: decide(act, change["approvalId"], value="Approved", reason=None),
        )


# What is governed


def test_two_changes_of_one_policy_do_not_wait_side_by_side(council: Council) -> None:
    council.set_cap(1000)
    with pytest.raises(Conflict, match="waits for approval already"):
        council.set_cap(2000)


def test_a_guard_guards_itself_also_where_its_filter_does_not_name_it(ungoverned: Council) -> None:
    council = ungoverned
    guard = council.create(
        written("Policies:Modify", ALWAYS, ask(*council.approvers, quorum=2), policyId={"in": [council.cap]})
    )
    assert council.archive(guard)["status"] == "Pending"
    council.replayed()


def test_another_guard_needs_those_there_are(council: Council) -> None:
    """Otherwise one admin could have everything wait for people of their own, for ever."""
    puppets = [council.person(f"{n}@puppets.example").user_id for n in ("a", "b")]
    document = written("Policies:Modify", ALWAYS, ask(*puppets))
    with pytest.raises(PreconditionFailed, match="has 0"):
        council.create(document)
    mine = written("Policies:Modify", ALWAYS, ask(*council.approvers))
    change = council.call(
        council.admin, "POST", "/v2/policies", mine, "Policies:Create", lambda act: policies.create(act, mine)
    )
    assert (change["status"], change["loosens"]) == ("Pending", False)
    council.agree(change)
    assert council.status(change) == "Applied"
    assert len(council.replayed().policies) == 3


def test_a_new_limit_needs_nobody(council: Council) -> None:
    """Whoever sees something wrong stops it at once."""
    council.create(written("Wallets:Sign", ALWAYS, {"kind": "Block"}))
    assert len(council.replayed().policies) == 3


def test_where_the_default_blocks_a_new_policy_may_open(tmp_path: Path) -> None:
    council = Council(tmp_path, settings=SETTINGS.replace('default = "allow"', 'default = "block"'))
    document = written("Wallets:Sign", limit(5), {"kind": "Block"})
    change = council.call(
        council.admin, "POST", "/v2/policies", document, "Policies:Create", lambda act: policies.create(act, document)
    )
    assert (change["status"], change["loosens"]) == ("Pending", True)
    council.create(written("Wallets:Sign", ALWAYS, {"kind": "Block"}))
    council.agree(change)
    council.wait(DAY_S)
    council.replayed()
    council.close()


def test_new_groups_of_a_guard_are_asked_about_what_waits(council: Council) -> None:
    change = council.set_cap(1000)
    council.vote(change, council.first)
    easier = council.replace(council.guard, written("Policies:Modify", ALWAYS, ask(*council.approvers[1:], quorum=1)))
    assert easier["loosens"] is True
    council.agree(easier)
    council.wait(DAY_S)
    assert council.status(easier) == "Applied"
    council.vote(change, council.third)
    council.wait(DAY_S)
    assert council.limit_now() == "1000", "one of the two is enough now"
    council.replayed()


def test_taking_a_wallet_out_of_a_guarded_policy_waits(council: Council) -> None:
    change = council.untag(council.paying, "payouts")
    assert (change["kind"], change["loosens"]) == ("Wallet", True)
    council.tag(council.paying, "asia")  # nothing escapes by that
    assert council.replayed().wallets[council.paying].tags == {"payouts", "asia"}
    council.vote(change, council.first)
    assert council.status(change) == "Failed", "its tags are others than those people were shown"
    council.replayed()


def test_an_untagging_that_was_agreed_on_takes_hold(council: Council) -> None:
    change = council.untag(council.paying, "payouts")
    council.agree(change)
    council.wait(DAY_S)
    assert council.replayed().wallets[council.paying].tags == frozenset()


def test_a_wallet_under_no_guarded_policy_waits(council: Council) -> None:
    def make(*tags: str) -> object:
        wallet_id, payload = wallets.new_wallet_id(council.entropy), {"network": "EthereumSepolia", "tags": list(tags)}
        number = council.entropy.token(20).hex()
        return council.call(
            council.admin,
            "POST",
            "/wallets",
            payload,
            "Wallets:Create",
            lambda act: wallets.create(
                act,
                wallet_id=wallet_id,
                network="EthereumSepolia",
                key_id="key-abcde-abcde-abcdeabcdeabcd",
                address="0x" + number,
                public_key="02" + "ab" * 32,
                name=None,
                external_id=None,
                tags=tags,
            ),
        )

    inside, outside = make("payouts"), make("elsewhere")
    assert isinstance(inside, dict)
    assert isinstance(outside, dict)
    assert inside["status"] == "Active"
    assert (outside["kind"], outside["status"]) == ("Wallet", "Pending")
    council.agree(outside)
    council.wait(DAY_S)
    assert len(council.replayed().wallets) == 3


def test_people_are_vouched_for_by_agreement(council: Council) -> None:
    """An invitation that names a key would be a way around it; so it is not enough while changes are governed."""
    newcomer = council.person("new@approvers.example")
    change = council.switch(newcomer.user_id, on=True)
    assert (change["kind"], change["loosens"]) == ("User", True)
    assert council.replayed().identities[newcomer.user_id].keys[0].vouched_since is None
    council.agree(change)
    council.wait(DAY_S)
    assert council.replayed().identities[newcomer.user_id].keys[0].vouched_since is not None


def test_a_service_account_starts_switched_off(council: Council) -> None:
    bot = council.service_account("payouts bot", permission_id=council.permission("Wallets:Transfers:Create"))
    change = council.switch(bot.user_id, on=True, machine=True)
    assert change["status"] == "Pending"
    assert not council.replayed().identities[bot.user_id].is_active
    council.agree(change)
    council.wait(DAY_S)
    assert council.replayed().identities[bot.user_id].is_active


def test_settings_wait_and_the_server_pays_under_the_old_ones(council: Council) -> None:
    looser = parse(SETTINGS.replace('default = "allow"', 'default = "block"')).money_settings()
    change = council.call(
        council.admin,
        "PUT",
        "/v1/config",
        {"moneySettings": looser},
        "Config:Apply",
        lambda act: organization.apply_config(act, settings=looser),
    )
    assert (change["kind"], change["loosens"]) == ("Configuration", True)
    council.agree(change)
    council.wait(DAY_S)
    with council.unit() as unit:
        organization.require_applied(unit, council.config)
    assert council.status(change) == "Pending", "the server has not loaded them yet"
    council.config = parse(SETTINGS.replace('default = "allow"', 'default = "block"'))
    council.wait(5)
    assert council.status(change) == "Applied"
    assert council.replayed().money_settings == looser


def test_settings_that_no_file_says_are_refused(council: Council) -> None:
    with pytest.raises(InvalidInput):
        council.call(
            council.admin,
            "PUT",
            "/v1/config",
            {"moneySettings": {"default": "allow"}},
            "Config:Apply",
            lambda act: organization.apply_config(act, settings={"default": "allow"}),
        )


def test_an_assignment_waits_for_its_own_policy(ungoverned: Council) -> None:
    council = ungoverned
    with council.unit() as unit:
        full = permission_rows.find_by_name(unit, "ManagedFullAdminAccess")
    assert full is not None
    council.create(
        written("Permissions:Assign", ALWAYS, ask(*council.approvers, quorum=1), permissionId={"in": [full.id]})
    )
    with pytest.raises(PreconditionFailed, match="without it first"):
        council.service_account("payouts bot")
    newcomer, code = council.invite("new@admins.example")
    assert code
    change = council.assign(full.id, newcomer)
    assert (change["kind"], change["operationKind"], change["loosens"]) == ("Assignment", "Create", True)
    with pytest.raises(Conflict):
        council.assign(full.id, newcomer)
    council.agree(change, council.first)
    assert not council.replayed().may(newcomer, "Wallets:Read", 10**6)
    council.wait(DAY_S)
    assert council.replayed().may(newcomer, "Wallets:Read", 10**6)
    assert council.replayed().grants[change["entityId"]].identity_id == newcomer


def test_an_assignment_can_be_blocked(ungoverned: Council) -> None:
    council = ungoverned
    with council.unit() as unit:
        full = permission_rows.find_by_name(unit, "ManagedFullAdminAccess")
    assert full is not None
    council.create(written("Permissions:Assign", ALWAYS, {"kind": "Block"}))
    newcomer, _ = council.invite("new@admins.example")
    with pytest.raises(NotPermitted, match="blocks"):
        council.assign(full.id, newcomer)
    council.replayed()


def test_whatever_may_wait_can_be_made_later_and_shown() -> None:
    assert set(carry.AGAIN) == set(present_changes.NAMES)


# Nobody is locked out


def test_governance_takes_hold_only_with_one_more_than_its_quorum(ungoverned: Council) -> None:
    with pytest.raises(PreconditionFailed, match="one more than its quorum"):
        ungoverned.create(written("Policies:Modify", ALWAYS, ask(*ungoverned.approvers, quorum=3)))
    unvouched = ungoverned.person("new@approvers.example", vouched=False)
    group = [*ungoverned.approvers[:2], unvouched.user_id]
    with pytest.raises(PreconditionFailed, match="has 2"):
        ungoverned.create(written("Policies:Modify", ALWAYS, ask(*group, quorum=2)))


def test_nobody_is_removed_below_the_quorum(council: Council) -> None:
    council.switch(council.third.user_id, on=False)
    with pytest.raises(PreconditionFailed, match="would be left with 1"):
        council.switch(council.second.user_id, on=False)
    council.replayed()


def test_an_approver_of_payouts_can_always_be_switched_off(ungoverned: Council) -> None:
    council = ungoverned
    council.create(written("Wallets:Sign", ALWAYS, ask(council.first.user_id)))
    council.switch(council.first.user_id, on=False)
    assert not council.replayed().identities[council.first.user_id].is_active


def test_a_key_withdrawn_meanwhile_takes_its_request_and_its_votes_along(ungoverned: Council) -> None:
    council = ungoverned
    spare, mine = council.second_key(council.second), council.second_key(council.admin)
    council.guard_all()
    council.wait(72 * 3600 + 1)
    spare, mine = council.log_in(spare), council.log_in(mine)
    voted, asked = council.set_cap(1000), council.archive(council.guard, by=mine)
    council.agree(voted)
    council.agree(asked, council.first, council.third)
    council.switch_key(spare, council.second.credential_uuid, "deactivate")
    council.switch_key(council.admin, mine.credential_uuid, "deactivate")
    council.clock.at += DAY_S * SECOND
    council.expire()
    assert (council.status(voted), council.limit_now()) == ("Pending", "100")
    assert council.status(asked) == "Failed"
    council.replayed()
    council.second = council.log_in(spare)
    council.vote(voted, council.second)
    council.clock.at += DAY_S * SECOND
    council.expire()
    assert council.status(voted) == "Applied"
    council.replayed()


def test_where_the_default_blocks_a_tag_may_open_a_wallet(tmp_path: Path) -> None:
    council = Council(tmp_path, settings=SETTINGS.replace('default = "allow"', 'default = "block"'))
    change = council.untag(council.paying, "payouts")
    assert change == {}, "under no policy it cannot pay"
    back = council.call(
        council.admin,
        "PUT",
        f"/wallets/{council.paying}/tags",
        {"tags": ["payouts"]},
        "Wallets:Tags:Add",
        lambda act: wallets.add_tags(act, council.paying, ["payouts"]),
    )
    assert (back["kind"], back["loosens"]) == ("Wallet", True)
    council.replayed()
    council.close()


def test_time_to_decide_cannot_be_cut_to_nothing(ungoverned: Council) -> None:
    """Who had to agree within a minute could never agree to more time."""
    with pytest.raises(InvalidInput, match="60"):
        ungoverned.create(written("Policies:Modify", ALWAYS, ask(*ungoverned.approvers, timeout=59)))


# Told


def test_every_admin_is_told(council: Council) -> None:
    change = council.set_cap(1000)
    with council.unit() as unit:
        row = unit.execute(
            sa.text("SELECT data FROM event WHERE kind = 'change.requested' AND subject = :id"), {"id": change["id"]}
        ).one()
    told = json.loads(row.data)
    assert council.admin.user_id in {each["userId"] for each in told["admins"]}
    assert set(council.approvers) <= {each["userId"] for each in told["admins"]}
    assert told["changeRequest"]["after"]["rule"]["configuration"]["limit"] == "1000"
    council.agree(change)
    council.wait(DAY_S)
    assert council.events(change["id"]) == ["policy.triggered", "change.requested", "change.resolved"]


# What only the order of things shows


def edit_permission(council: Council, permission_id: str, *operations: str) -> Any:
    payload = {"operations": list(operations)}
    return council.call(
        council.admin,
        "PUT",
        f"/permissions/{permission_id}",
        payload,
        "Permissions:Update",
        lambda act: permissions.update(act, permission_id, name=None, operations=list(operations)),
    )


def test_a_permission_that_its_own_voters_hold_is_changed_once(ungoverned: Council) -> None:
    council = ungoverned
    held = council.permission(VOTE, "Wallets:Read")
    council.assign(held, council.first.user_id)
    council.create(written("Permissions:Modify", ALWAYS, ask(*council.approvers, quorum=2)))
    change = edit_permission(council, held, VOTE)
    assert change["loosens"] is False
    council.agree(change)
    assert council.status(change) == "Applied"
    council.replayed()


def test_a_guard_that_comes_meanwhile_asks_its_people_too_also_once_it_is_gone(council: Council) -> None:
    change = council.set_cap(1000)
    council.vote(change, council.first)
    document = written("Policies:Modify", ALWAYS, ask(council.third.user_id, council.admin.user_id))
    second = council.call(
        council.admin,
        "POST",
        "/v2/policies",
        document,
        "Policies:Create",
        lambda act: policies.create(act, document),
    )
    council.agree(second)
    assert council.status(second) == "Applied"
    council.vote(change, council.second)  # counted over the old groups: now the vote starts again
    assert len(approval_of(council, change).groups) == 2
    assert council.events(change["approvalId"]).count("policy.approval.pending") == 2
    archived = council.archive(second["entityId"])
    council.agree(archived, council.second, council.third)
    council.agree(change, council.first, council.second, council.third)
    council.wait(DAY_S)
    assert council.status(change) == "Applied"
    council.replayed()


def approval_of(council: Council, change: dict[str, Any]) -> Any:
    with council.unit() as unit:
        return change_rows.approval_of(unit, change["id"])


def test_votes_do_not_come_back_with_the_groups_they_were_about(council: Council) -> None:
    change = council.set_cap(1000)
    wider = written("Policies:Modify", ALWAYS, ask(*council.approvers, council.admin.user_id, quorum=2))
    edit = council.replace(council.guard, wider)
    council.agree(edit)
    council.clock.at += 3600 * SECOND
    council.agree(change)
    council.wait(DAY_S - 3600)
    assert council.status(edit) == "Applied"
    back = council.replace(council.guard, written("Policies:Modify", ALWAYS, ask(*council.approvers, quorum=2)))
    council.agree(back)
    assert council.status(back) == "Applied"
    council.wait(2 * DAY_S)
    council.vote(change, council.third)
    assert (council.status(change), council.limit_now()) == ("Pending", "100")
    council.vote(change, council.first)
    council.wait(DAY_S)
    assert council.status(change) == "Applied"
    council.replayed()


def test_two_changes_due_together_of_which_one_ends_the_other(ungoverned: Council) -> None:
    council = ungoverned
    council.guard_all()
    spare = council.second_key(council.first)  # off, while changes are governed
    key = council.switch_key(council.first, spare.credential_uuid, "activate")
    tags = council.untag(council.paying, "payouts")
    council.agree(key, council.second, council.third)
    council.agree(tags, council.first, council.second)
    council.tag(council.paying, "asia")
    council.wait(DAY_S)
    assert (council.status(key), council.status(tags)) == ("Applied", "Failed")
    council.replayed()


def test_a_wallet_is_no_way_out_by_a_policy_made_for_it(council: Council) -> None:
    council.create(written("Wallets:Sign", ALWAYS, {"kind": "NoAction"}))
    with council.unit() as unit:
        before = len(wallet_rows.everything(unit))
    council.wallet(dollars=0)
    with council.unit() as unit:
        assert len(wallet_rows.everything(unit)) == before, "it waits"
    council.replayed()


def test_somebody_who_can_ask_is_left_beside_those_who_must_agree(tmp_path: Path) -> None:
    council = Council(tmp_path, guarded=False)
    council.switch(council.third.user_id, on=False)
    inside = [council.admin.user_id, council.first.user_id, council.second.user_id]
    council.create(written("Policies:Modify", ALWAYS, ask(*inside, quorum=2)))
    with pytest.raises(PreconditionFailed, match="who can ask"):
        council.switch(council.second.user_id, on=False)
    council.replayed()
    council.close()


def test_nobody_becomes_a_voter_without_those_there_are(tmp_path: Path) -> None:
    council = Council(tmp_path, guarded=False)
    clerk = council.person("clerk@office.example", permitted=False)
    anybody = {"quorum": 2, "approvers": {}}
    action = {"kind": "RequestApproval", "autoRejectTimeout": None, "approvalGroups": [anybody]}
    council.create(written("Policies:Modify", ALWAYS, action))
    voting, reading = council.permission(VOTE), council.permission("Wallets:Read")
    assert council.assign(voting, clerk.user_id)["status"] == "Pending"
    council.assign(reading, clerk.user_id)
    assert edit_permission(council, reading, "Wallets:Read", VOTE)["status"] == "Pending"
    with pytest.raises(PreconditionFailed, match="without it first"):
        council.service_account("puppet", permission_id=voting)
    council.replayed()
    council.close()


def test_a_change_that_cannot_be_made_before_it_is_agreed_on_was_not_approved(council: Council) -> None:
    change = council.untag(council.paying, "payouts")
    council.tag(council.paying, "asia")
    council.vote(change, council.first)
    assert (council.status(change), approval_of(council, change).status) == ("Failed", "Denied")
