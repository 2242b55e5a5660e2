"""Governance on the server: the gate every record passes, and the rule that nobody is locked out.

What is gated, and why, is ``evidence.governance``'s; it judges the same when the chain is replayed.
"""

import json
from collections.abc import Mapping
from typing import Any

from outlay.core.approval import Person
from outlay.core.errors import Conflict, NotPermitted, PreconditionFailed
from outlay.core.policy import GOVERNING, POLICIES_MODIFY, Group, Policy, RequestApproval
from outlay.core.policy_document import read_policy
from outlay.core.seams import Instant
from outlay.evidence import governance
from outlay.evidence import record as records
from outlay.evidence.governance import LETTING_GO, VOTE, Change, Ruling, is_restored, judge_change
from outlay.store import changes, permissions, users, wallets
from outlay.store import policies as policy_rows
from outlay.store.database import Row, Unit

_WEAKENING = frozenset(
    {
        records.USER_DEACTIVATED,
        records.USER_DELETED,
        records.USER_RECOVERED,
        records.CREDENTIAL_DEACTIVATED,
        records.CREDENTIAL_DELETED,
        records.PERMISSION_UPDATED,
        records.PERMISSION_ARCHIVED,
        records.PERMISSION_REVOKED,
    }
)
"""Kinds of records after which somebody may no longer be able to decide."""

_WRITING = frozenset({records.POLICY_CREATED, records.POLICY_UPDATED})


class NeedsApproval(Exception):
    """A change that people have to agree to first; nothing was done."""

    def __init__(self, change: Change, ruling: Ruling) -> None:
        """Keep what was asked for and what the governing policies say."""
        super().__init__(change.kind)
        self.change, self.ruling = change, ruling


def is_governed(unit: Unit) -> bool:
    """Tell whether changes of what policies let through wait for people: a ``Policies:Modify`` policy is active."""
    return any(row.activity_kind == POLICIES_MODIFY for row in policy_rows.active(unit))


def must_ask(unit: Unit, permission_id: str) -> bool:
    """Tell whether giving a permission is for people to agree to, or blocked."""
    row = permissions.find(unit, permission_id)
    operations = () if row is None else row.operations
    return governance.must_ask(policy_rows.active_policies(unit), permission_id, operations)


def judge_record(
    unit: Unit, *, kind: str, subject: str, body: Mapping[str, Any], now: Instant
) -> tuple[Change, Ruling] | None:
    """Return what governance says about a change that is about to be recorded; None: nothing is governed."""
    if not any(row.activity_kind in GOVERNING for row in policy_rows.active(unit)):
        return None
    change = describe(unit, kind=kind, subject=subject, body=body, now=now)
    # The signed settings, not the file's: whoever replays the chain knows no others.
    default = str(changes.money_settings(unit)["default"])
    return change, judge_change(change, policy_rows.active_policies(unit), default=default)


def check_record(unit: Unit, *, kind: str, subject: str, body: Mapping[str, Any], now: Instant) -> None:
    """Let a change pass that nobody has to agree to.

    Raises:
        NeedsApproval: people have to agree first. NotPermitted: a policy blocks it. Conflict: one like it waits.
    """
    judged = judge_record(unit, kind=kind, subject=subject, body=body, now=now)
    if judged is None:
        return
    change, ruling = judged
    if ruling.blocking:
        raise NotPermitted(f"the policy {ruling.blocking[0].name!r} blocks this change", policyId=ruling.blocking[0].id)
    if not ruling.holding:
        return
    if change.policy_after is not None:
        _check_filled(change.policy_after, voters(unit))
    for waiting in changes.pending_about(unit, subject):
        if _is_about_the_same(waiting, kind, body):
            raise Conflict(
                "a change of this waits for approval already: have it decided first", changeRequestId=waiting.id
            )
    raise NeedsApproval(change, ruling)


_BESIDE_OTHERS: Mapping[str, tuple[str, ...]] = {
    records.PERMISSION_ASSIGNED: ("identityId",),
    records.PERMISSION_REVOKED: ("identityId",),
    records.WALLET_UNFROZEN: (),
    records.ASSET_UNFROZEN: ("network", "asset"),
    records.NETWORK_UNFROZEN: ("network",),
    records.STOP_LIFTED: ("freezeId",),
    records.SIGNER_RESEEDED: (),
}
"""Kinds that wait beside others about the same subject, and the members by which two of a kind are about the same."""


def _is_about_the_same(waiting: Row, kind: str, body: Mapping[str, Any]) -> bool:
    """Tell whether a change may not be asked for while ``waiting`` is."""
    named = _BESIDE_OTHERS.get(kind)
    if named is None:
        return waiting.record_kind not in LETTING_GO and waiting.record_kind != records.SIGNER_RESEEDED
    after = json.loads(waiting.content)["after"]
    return waiting.record_kind == kind and all(after[name] == body[name] for name in named)


def describe(unit: Unit, *, kind: str, subject: str, body: Mapping[str, Any], now: Instant) -> Change:
    """Return a change as governance looks at it, with the state it would replace."""
    if kind in (records.POLICY_CREATED, records.POLICY_UPDATED, records.POLICY_ARCHIVED):
        return _describe_policy(unit, kind, subject, body, now)
    before: Any = None
    tags: dict[str, Any] = {}
    if kind in (records.PERMISSION_UPDATED, records.PERMISSION_ARCHIVED):
        row = permissions.find(unit, subject)
        before = None if row is None else {"name": row.name, "operations": row.operations}
    elif kind == records.PERMISSION_ASSIGNED:
        given = permissions.find(unit, subject)
        tags = {"operations": () if given is None else given.operations}
    elif kind == records.USER_ACTIVATED:
        user = users.find(unit, subject)
        before = None if user is None else {"isActive": user.is_active}
    elif kind == records.WALLET_CREATED:
        tags = {"tags_after": frozenset(body["tags"]), "wallets": wallets.all_tags(unit)}
    elif kind == records.WALLET_TAGS_MODIFIED:
        held = wallets.tags(unit, subject)
        before = sorted(held)
        tags = {"tags_before": held, "tags_after": (set(held) | set(body["added"])) - set(body["removed"])}
    elif kind == records.CONFIG_APPLIED:
        before = {"digest": changes.money_settings_digest(unit)}
    return Change(kind=kind, subject=subject, before=before, after=body, **tags)


def _describe_policy(unit: Unit, kind: str, subject: str, body: Mapping[str, Any], now: Instant) -> Change:
    row = policy_rows.find(unit, subject)
    was = None if row is None else policy_rows.policy_of(row)
    wanted = None if kind == records.POLICY_ARCHIVED else _policy(subject, body)
    return Change(
        kind=kind,
        subject=subject,
        before=None if row is None else policy_body(row),
        after=body,
        policy_before=was,
        policy_after=wanted,
        restores=kind != records.POLICY_CREATED and is_restored(_versions(unit, subject), wanted, now=now),
    )


def policy_body(row: Any) -> dict[str, Any]:
    """Return what the record of a policy's newest version says."""
    document = {name: getattr(row, name) for name in ("name", "rule", "action", "version")}
    filters = {} if row.filters is None else {"filters": row.filters}
    return {**document, "activityKind": row.activity_kind, **filters}


def _policy(policy_id: str, body: Mapping[str, Any]) -> Policy:
    document = {name: value for name, value in body.items() if name != "version"}
    return read_policy(document, id=policy_id, version=body["version"])


def _versions(unit: Unit, policy_id: str) -> list[tuple[Instant, Policy | None]]:
    """Return everything a policy has said, as its records tell it."""
    found: list[tuple[Instant, Policy | None]] = []
    for record in changes.records_of(unit, policy_id):
        kind, body = record["kind"], record["body"]
        if kind == records.GENESIS:
            bodies = [each for each in body["policies"] if each["id"] == policy_id]
            found += [(record["at"], _of_genesis(each)) for each in bodies]
            continue
        if kind == records.CHANGE_APPLIED:
            kind, body = body["kind"], body["body"]
        if kind in _WRITING:
            found.append((record["at"], _policy(policy_id, body)))
        elif kind == records.POLICY_ARCHIVED:
            found.append((record["at"], None))
    return found


def _of_genesis(document: Mapping[str, Any]) -> Policy:
    bare = {name: value for name, value in document.items() if name != "id"}
    return read_policy(bare, id=document["id"], version=1)


# Nobody is locked out


def voters(unit: Unit) -> dict[str, Person]:
    """Return who could decide about a change now: people with a key in use and the permission to vote."""
    return {
        row.id: Person(
            is_active=row.is_active
            and row.is_registered
            and row.deleted_at is None
            and VOTE in permissions.operations_of(unit, row.id)
            and bool(users.own_keys_of(unit, row.id, active_only=True)),
            is_service_account=row.is_service_account,
            may_vote=row.may_vote,
        )
        for row in users.everyone(unit)
    }


def eligible(group: Group, people: Mapping[str, Person]) -> int:
    """Return how many of a group could decide now."""
    found = 0
    for user_id, person in people.items():
        listed = group.approvers is None or user_id in group.approvers
        machine_may = group.approvers is not None and group.service_accounts_can_approve
        found += listed and person.is_active and person.may_vote and (not person.is_service_account or machine_may)
    return found


Counts = dict[tuple[str, int], int]


def counts_before(unit: Unit, kind: str) -> Counts | None:
    """Return how many could decide in each governing group, before a change that may make them fewer."""
    if kind not in _WEAKENING and kind not in _WRITING:
        return None
    return {place: count for place, (count, _, _) in _counts(unit).items()}


def _counts(unit: Unit) -> dict[tuple[str, int], tuple[int, Group, Policy]]:
    governing = [each for each in policy_rows.active_policies(unit) if each.activity_kind in GOVERNING]
    if not governing:
        return {}
    people = voters(unit)
    return {
        (policy.id, place): (eligible(group, people), group, policy)
        for policy in governing
        if isinstance(policy.action, RequestApproval)
        for place, group in enumerate(policy.action.groups)
    }


def check_quorums(unit: Unit, kind: str, subject: str, before: Counts) -> None:
    """Refuse a change after which a governing group could never agree to anything again.

    Raises:
        PreconditionFailed: too few are left.
    """
    if kind in _WRITING:
        written = policy_rows.find(unit, subject)
        if written is not None and written.activity_kind in GOVERNING:
            _check_filled(policy_rows.policy_of(written), voters(unit))
    for place, (count, group, policy) in _counts(unit).items():
        if count < group.quorum and count < before.get(place, count):
            raise PreconditionFailed(
                f"{_name(policy, place[1])} would be left with {count} who can decide and needs {group.quorum}:"
                " change the policy first",
                eligible=count,
            )
    _check_askers(unit)


def _check_askers(unit: Unit) -> None:
    """Keep somebody who can ask for a change of the guards, and enough others to agree to it.

    Raises:
        PreconditionFailed: whoever could ask is needed for a quorum.
    """
    groups = [
        group
        for policy in policy_rows.active_policies(unit)
        if policy.activity_kind == POLICIES_MODIFY and isinstance(policy.action, RequestApproval)
        for group in policy.action.groups
    ]
    people = voters(unit)
    for row in users.everyone(unit) if groups else ():
        if row.deleted_at is not None or not row.is_active or not row.may_vote:
            continue
        if "Policies:Update" not in permissions.operations_of(unit, row.id) or not users.own_keys_of(
            unit, row.id, active_only=True
        ):
            continue
        others = {key: person for key, person in people.items() if key != row.id}
        if all(eligible(each, people if each.initiator_can_approve else others) >= each.quorum for each in groups):
            return
    if groups:
        raise PreconditionFailed(
            "nobody would be left who can ask for a change and is not needed to agree to it: who asks does not count."
            " List more approvers, or permit somebody outside of the groups Policies:Update"
        )


def _check_filled(policy: Policy, people: Mapping[str, Person]) -> None:
    """Let a governing policy take hold only where one more than its quorum can decide: who asks does not count.

    Raises:
        PreconditionFailed: fewer can.
    """
    if policy.activity_kind not in GOVERNING or not isinstance(policy.action, RequestApproval):
        return
    for place, group in enumerate(policy.action.groups):
        count = eligible(group, people)
        if count < group.quorum + 1:
            raise PreconditionFailed(
                f"{_name(policy, place)} needs {group.quorum + 1} people who can decide, one more than its quorum, and"
                f" has {count}: invite and activate people, give them the permission to vote, and list them",
                eligible=count,
            )


def _name(policy: Policy, place: int) -> str:
    assert isinstance(policy.action, RequestApproval)
    return f"group {policy.action.groups[place].name or place + 1} of the policy {policy.name!r}"
