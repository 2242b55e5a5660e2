"""Approvals: who may decide, and what decisions add up to (design section 6)."""

from typing import Any

import pytest

from outlay.core.approval import Decision, Person, merge_groups, outcome, refusal, shortest_timeout
from outlay.core.policy import AlwaysTrigger, Block, Filters, Group, Policy, RequestApproval

HUMAN = Person(is_active=True, is_service_account=False, may_vote=True)
MACHINE = Person(is_active=True, is_service_account=True, may_vote=True)
GONE = Person(is_active=False, is_service_account=False, may_vote=True)
UNVOUCHED = Person(is_active=True, is_service_account=False, may_vote=False)
PEOPLE = {
    "ann": HUMAN,
    "bob": HUMAN,
    "cat": HUMAN,
    "boss": HUMAN,
    "bot": MACHINE,
    "gone": GONE,
    "new": UNVOUCHED,
}


def group(
    *approvers: str, quorum: int = 1, policy_id: str = "plc-1", any_person: bool = False, **flags: bool
) -> dict[str, Any]:
    return {
        "policyId": policy_id,
        "quorum": quorum,
        "approvers": {} if any_person else {"userId": {"in": list(approvers)}},
        "initiatorCanApprove": flags.get("initiator", False),
        "serviceAccountsCanApprove": flags.get("machines", False),
    }


def why(groups: list[dict[str, Any]], user: str, value: str = "Approved", **options: Any) -> str | None:
    return refusal(groups, user, value, people=PEOPLE, initiator_id="boss", **options)


def result(
    groups: list[dict[str, Any]], *decisions: tuple[str, str] | Decision, people: dict[str, Person] | None = None
) -> str:
    votes = [each if isinstance(each, Decision) else Decision(*each) for each in decisions]
    return outcome(groups, votes, people=people or PEOPLE, initiator_id="boss")


YES, NO = "Approved", "Denied"


# --- who may decide --------------------------------------------------------------------------------------------


def test_only_members_of_a_group_decide() -> None:
    assert why([group("ann")], "ann") is None
    assert "none of the groups" in (why([group("ann")], "bob") or "")
    assert why([group("ann"), group("bob", policy_id="plc-2")], "bob", NO) is None


def test_one_decision_a_person() -> None:
    assert "already" in (why([group("ann")], "ann", decided={"ann"}) or "")


def test_the_initiator_may_deny_without_being_in_a_group() -> None:
    assert why([group("ann")], "boss", NO) is None


def test_the_initiator_may_not_approve_unless_the_group_says_so() -> None:
    assert "initiator" in (why([group("boss", "ann")], "boss") or "")
    assert why([group("boss", "ann", initiator=True)], "boss") is None
    assert "initiator" in (why([group(any_person=True)], "boss") or "")


def test_an_initiator_in_two_groups_approves_only_in_the_one_that_allows_it() -> None:
    open_group = group("boss", initiator=True)
    closed = group("boss", "ann", policy_id="plc-2")
    assert why([open_group, closed], "boss") is None
    assert result([open_group, closed], ("boss", YES)) == "Pending"
    assert result([open_group, closed], ("boss", YES), ("ann", YES)) == "Approved"


def test_service_accounts_decide_only_if_listed_and_the_group_allows_it() -> None:
    assert why([group("bot", machines=True)], "bot") is None
    assert "service accounts" in (why([group("bot")], "bot") or "")
    assert why([group("ann", machines=True)], "bot") is not None
    assert why([group(any_person=True, machines=True)], "bot") is not None


def test_any_person_means_every_active_human() -> None:
    assert why([group(any_person=True)], "cat") is None
    assert why([group(any_person=True)], "gone") is not None


@pytest.mark.parametrize("value", [YES, NO])
def test_a_person_whose_key_is_not_vouched_for_cannot_decide_yet(value: str) -> None:
    assert "activate" in (why([group("new")], "new", value) or "")


@pytest.mark.parametrize("user", ["gone", "nobody"])
@pytest.mark.parametrize("value", [YES, NO])
def test_removed_and_unknown_users_cannot_decide(user: str, value: str) -> None:
    assert "not active" in (why([group(user)], user, value) or "")


def test_other_words_than_approved_and_denied_are_refused() -> None:
    assert why([group("ann")], "ann", "approved") is not None


def test_an_empty_preset_group_is_satisfied_by_nobody() -> None:
    empty = group(machines=True, initiator=True)
    assert all(why([empty], user) is not None for user in PEOPLE)
    assert result([empty], *((user, YES) for user in PEOPLE)) == "Pending"


# --- what decisions add up to ----------------------------------------------------------------------------------


def test_all_groups_must_reach_quorum() -> None:
    groups = [group("ann", "bob", quorum=2), group("cat", policy_id="plc-2")]
    assert result(groups) == "Pending"
    assert result(groups, ("ann", YES), ("bob", YES)) == "Pending"
    assert result(groups, ("ann", YES), ("cat", YES)) == "Pending"
    assert result(groups, ("ann", YES), ("bob", YES), ("cat", YES)) == "Approved"


def test_one_decision_counts_in_every_group_the_person_is_in() -> None:
    assert result([group("ann"), group("ann", "bob", policy_id="plc-2")], ("ann", YES)) == "Approved"


def test_one_denial_ends_it() -> None:
    groups = [group("ann", "bob"), group("cat", policy_id="plc-2")]
    assert result(groups, ("cat", NO)) == "Denied"
    assert result([group("ann", "bob", "cat")], ("ann", YES), ("bob", NO)) == "Denied"
    assert result(groups, ("boss", NO)) == "Denied"


def test_a_person_counts_once_towards_a_quorum() -> None:
    assert result([group("ann", "bob", quorum=2)], ("ann", YES), ("ann", YES)) == "Pending"


def test_decisions_of_people_removed_meanwhile_do_not_count() -> None:
    removed = {**PEOPLE, "ann": GONE}
    assert result([group("ann", "bob")], ("ann", YES), people=removed) == "Pending"
    assert result([group("ann", "bob")], ("ann", NO), people=removed) == "Pending"
    assert result([group("bob")], ("ann", YES)) == "Pending"
    demoted = {**PEOPLE, "ann": UNVOUCHED}
    assert result([group("ann")], ("ann", YES), people=demoted) == "Pending"


def test_a_decision_over_other_groups_does_not_count() -> None:
    assert result([group("ann")], Decision("ann", YES, counts=False)) == "Pending"
    assert result([group("ann")], Decision("ann", NO, counts=False)) == "Pending"
    assert result([group("ann")], Decision("ann", NO, counts=False), Decision("ann", YES)) == "Approved"


def test_without_groups_nothing_is_approved() -> None:
    assert result([], ("ann", YES)) == "Pending"


def test_votes_of_those_who_may_not_vote_do_not_count() -> None:
    assert result([group("ann")], ("bob", NO)) == "Pending"
    assert result([group("bot", "ann")], ("bot", YES)) == "Pending"
    assert result([group("bot", machines=True)], ("bot", YES)) == "Approved"
    assert result([group("bot", "ann", machines=True)], ("bot", NO), ("ann", YES)) == "Denied"


# --- the stricter of then and now ------------------------------------------------------------------------------


def test_an_edit_of_a_triggered_policys_groups_replaces_them() -> None:
    assert merge_groups([group("ann")], [group("bob")]) == (group("bob"),)


def test_groups_of_then_stay_when_their_policy_no_longer_triggers() -> None:
    assert merge_groups([group("ann")], []) == (group("ann"),)


def test_groups_of_now_are_added() -> None:
    old, new = group("ann", policy_id="plc-2"), group("bob", policy_id="plc-1")
    assert merge_groups([old], [new, old]) == (new, old)
    assert merge_groups([old], [new]) == (new, old)


def test_groups_keep_their_places_within_a_policy() -> None:
    places = [group("cat"), group("ann")]
    assert merge_groups(places, places) == tuple(places)


# --- time ------------------------------------------------------------------------------------------------------


def holding(timeout: int | None) -> Policy:
    action = RequestApproval(timeout, (Group(name=None, quorum=1, approvers=None),))
    return Policy(id="plc-1", version=1, name="p", rule=AlwaysTrigger(), action=action, filters=Filters())


def test_the_shortest_timeout_of_the_triggered_policies_wins() -> None:
    block = Policy(id="plc-2", version=1, name="b", rule=AlwaysTrigger(), action=Block(), filters=Filters())
    assert shortest_timeout([holding(1440), holding(None), holding(60), block]) == 60
    assert shortest_timeout([holding(None), block]) is None
    assert shortest_timeout([]) is None
