"""Approvals: who may decide about a held payout, and what the decisions add up to.

A person decides once, and the decision counts in every group the person is in. One denial ends it. Whether a
decision counts is judged again each time, with the people as they are now: a person who was removed since, or whose
groups changed since, no longer counts.

Groups are documents as ``core.policy.required_groups`` returns them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from outlay.core.policy import Policy, RequestApproval

Value = Literal["Approved", "Denied"]
Outcome = Literal["Pending", "Approved", "Denied"]
GroupDocument = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """What matters about a user, human or machine, when decisions are counted."""

    is_active: bool  #: exists, is registered, and was not deactivated or removed
    is_service_account: bool
    may_vote: bool  #: the key is vouched for; see ``store.schema.user``


@dataclass(frozen=True, slots=True)
class Decision:
    """One person's vote."""

    user_id: str
    value: str  #: Approved or Denied
    counts: bool = True  #: it was signed over the groups as they are now


def refusal(
    groups: Sequence[GroupDocument],
    user_id: str,
    value: str,
    *,
    people: Mapping[str, Person],
    initiator_id: str,
    decided: Collection[str] = (),
) -> str | None:
    """Return why this user may not decide so, or None if the user may.

    Args:
        groups: the groups that must agree.
        user_id: who wants to decide.
        value: ``Approved`` or ``Denied``.
        people: every user concerned, by id; an unknown one may not decide.
        initiator_id: who asked for the payout.
        decided: users whose decision about these groups is recorded already.
    """
    person = people.get(user_id)
    if value not in ("Approved", "Denied"):
        return "a decision is Approved or Denied"
    if person is None or not person.is_active:
        return "this user is not active"
    if user_id in decided:
        return "you have decided already; a decision cannot be changed"
    if user_id == initiator_id and value == "Denied":
        return None
    mine = [group for group in groups if _is_member(group, user_id, person)]
    if not mine:
        if person.is_service_account and any(user_id in (_listed(group) or ()) for group in groups):
            return "this group does not let service accounts decide: serviceAccountsCanApprove is false"
        return "you are in none of the groups that are asked"
    if not person.may_vote:
        return "your key is not vouched for yet: ask an administrator to activate your user"
    if user_id == initiator_id and not any(group["initiatorCanApprove"] is True for group in mine):
        return "you asked for this payout, and none of your groups lets the initiator approve"
    return None


def outcome(
    groups: Sequence[GroupDocument],
    decisions: Iterable[Decision],
    *,
    people: Mapping[str, Person],
    initiator_id: str,
) -> Outcome:
    """Return what the decisions add up to, with the groups and people as they are now.

    Without any group it stays pending: nothing that was held is let go because a list is empty.
    """
    valid = [
        each
        for each in decisions
        if each.counts and refusal(groups, each.user_id, each.value, people=people, initiator_id=initiator_id) is None
    ]
    if any(each.value == "Denied" for each in valid):
        return "Denied"
    agreed = {each.user_id for each in valid}
    if groups and all(_quorum_reached(group, agreed, people, initiator_id) for group in groups):
        return "Approved"
    return "Pending"


def merge_groups(then: Sequence[GroupDocument], now: Sequence[GroupDocument]) -> tuple[dict[str, Any], ...]:
    """Return the groups that must agree under the stricter of two judgements.

    A policy that triggers now asks its groups of now, so an edit of its groups replaces the old ones. A policy that
    triggered then and does not now (its price fell, it was edited or archived) keeps asking the groups of then.
    """
    current = {group["policyId"] for group in now}
    kept = [dict(group) for group in then if group["policyId"] not in current]
    # A stable sort: within one policy the groups keep their places.
    return tuple(sorted([*kept, *(dict(group) for group in now)], key=lambda group: str(group["policyId"])))


def shortest_timeout(policies: Iterable[Policy]) -> int | None:
    """Return the shortest ``autoRejectTimeout`` of the triggered policies in minutes; None: wait for ever."""
    timeouts = [
        policy.action.auto_reject_timeout
        for policy in policies
        if isinstance(policy.action, RequestApproval) and policy.action.auto_reject_timeout is not None
    ]
    return min(timeouts, default=None)


def _listed(group: GroupDocument) -> list[str] | None:
    """Return the user ids of a group; None where any person of the organization may decide."""
    approvers = group["approvers"]
    return list(approvers["userId"]["in"]) if approvers else None


def _is_member(group: GroupDocument, user_id: str, person: Person) -> bool:
    listed = _listed(group)
    if listed is None:
        return not person.is_service_account
    return user_id in listed and (not person.is_service_account or group["serviceAccountsCanApprove"] is True)


def counted_in(
    group: GroupDocument, agreed: Collection[str], people: Mapping[str, Person], initiator_id: str
) -> set[str]:
    """Return who of those that agreed counts in a group."""
    return {
        user_id
        for user_id in agreed
        if _is_member(group, user_id, people[user_id])
        and (user_id != initiator_id or group["initiatorCanApprove"] is True)
    }


def _quorum_reached(
    group: GroupDocument, agreed: Collection[str], people: Mapping[str, Person], initiator_id: str
) -> bool:
    counted = counted_in(group, agreed, people, initiator_id)
    return len(counted) >= int(group["quorum"])
