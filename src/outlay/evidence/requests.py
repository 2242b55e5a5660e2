"""The kinds of records about changes that people have to agree to: asked for, decided, made, closed.

Replaying them judges every change again: by the policies in force then, the people and keys of then, and the wait.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from outlay.core import ids
from outlay.core.approval import Decision, Person, merge_groups, refusal, shortest_timeout
from outlay.core.errors import InvalidInput
from outlay.core.policy import GOVERNING, Policy, required_groups
from outlay.core.policy_document import read_policy
from outlay.core.seams import MINUTE, SECOND, Instant
from outlay.evidence import record as records
from outlay.evidence.bundle import EvidenceBroken
from outlay.evidence.canonical import canonical, digest
from outlay.evidence.changes import CHANGES, check_route
from outlay.evidence.governance import (
    VOTE,
    Change,
    Ruling,
    agreed_at,
    content,
    delay_of,
    groups_digest,
    is_restored,
    judge_change,
    must_ask,
)
from outlay.evidence.record import RecordBroken
from outlay.evidence.shape import members
from outlay.evidence.state import History, KnownCredential, PolicyVersion
from outlay.evidence.step import Step


@dataclass(slots=True)
class Waiting:
    """A change that was asked for and neither made nor closed."""

    step: Step  #: the call that asked for it, as the record it would lead to
    content: dict[str, Any]
    approval: str
    groups: list[dict[str, Any]]  #: as its own governing policies leave them
    expires: Instant | None
    votes: list["Vote"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Vote:
    """One decision, and the key that signed it."""

    user_id: str
    value: str
    groups_digest: str
    key: KnownCredential
    at: Instant


def check_agreed(step: Step) -> None:
    """Refuse a change that was made without the people who had to agree to it.

    Raises:
        EvidenceBroken: governing policies asked somebody, or blocked it.
    """
    ruling = _judge(step.history, step.kind, step.subject, step.body, step.at)
    if ruling is not None and (ruling[1].holding or ruling[1].blocking):
        raise EvidenceBroken("this change needed an approval and has none", field="record.kind")
    permission_id = step.body.get("permissionId")
    if step.kind == records.SERVICE_ACCOUNT_CREATED and isinstance(permission_id, str):
        held = step.history.permissions.get(permission_id)
        operations = frozenset() if held is None else held.operations[-1][1]
        if must_ask(_active(step.history), permission_id, operations):
            raise EvidenceBroken("assigning this permission needed an approval", field="record.body.permissionId")


def requested(step: Step) -> None:
    """A change is asked for; nothing changes yet."""
    history = step.history
    shape: dict[str, type] = {"approval": str, "content": dict, "groups": list, "expires": object}
    body = members(step.body, "record.body", shape)
    change_id = step.new_subject(ids.CHANGE, history.waiting)
    if change_id in history.credentials or not ids.is_id(body["approval"], ids.APPROVAL):
        raise RecordBroken("is not a new change request", field="record.subject")
    kind, subject, after = (body["content"].get(name) for name in ("kind", "subject", "after"))
    if not isinstance(kind, str) or not isinstance(subject, str) or not isinstance(after, dict):
        raise RecordBroken("does not say what would change", field="record.body.content")
    inner = replace(step, kind=kind, subject=subject, body=after)
    assert step.preimage is not None
    check_route(inner, step.preimage)
    judged = _judge(history, kind, subject, after, step.at)
    if judged is None or not judged[1].holding or judged[1].blocking:
        raise RecordBroken("no policy asks anybody about this change", field="record.body.content")
    change, ruling = judged
    expected = content(
        org=history.org,
        change_id=change_id,
        requester=step.by.credential.user_id,
        change=change,
        loosens=ruling.loosens,
    )
    groups, timeout = list(required_groups(ruling.holding)), shortest_timeout(ruling.holding)
    expires = None if timeout is None else step.at + timeout * MINUTE
    step.expect({**body, "content": expected, "groups": groups, "expires": expires})
    history.waiting[change_id] = Waiting(inner, expected, body["approval"], groups, expires)


def decided(step: Step) -> None:
    """Somebody approves or denies a change; the signature covers what it is and whom it asks."""
    history, waiting = step.history, _waiting(step.history, step.subject)
    approval, user_id = waiting.approval, step.by.credential.user_id
    if (step.method, step.path) != ("POST", f"/v2/policy-approvals/{approval}/decisions"):
        raise EvidenceBroken("the call signed is not a decision about this", field="evidence.preimage.path")
    step.require([VOTE])
    said = {"approval": approval, "value": step.signed("value"), "reason": step.payload.get("reason")}
    groups = step.made("groups")
    step.expect({**said, "groups": groups})
    signed = step.preimage
    assert signed is not None
    # More may be asked than when the change was asked for, since a guard came into force; never fewer.
    if not isinstance(groups, list) or any(each not in groups for each in waiting.groups):
        raise RecordBroken("leaves out somebody who has to agree", field="record.body.groups")
    covered = groups_digest(groups)
    if signed.intent_digest != digest(waiting.content) or signed.groups_digest != covered:
        raise EvidenceBroken("the decision was about something else", field="evidence.preimage.intentDigest")
    if groups != waiting.groups:
        waiting.groups, waiting.votes = groups, []
    why_not = refusal(
        waiting.groups,
        user_id,
        step.body["value"],
        people=_people(history),
        initiator_id=waiting.step.by.credential.user_id,
    )
    if why_not is not None:
        raise EvidenceBroken(f"this decision could not be made: {why_not}", field="evidence.credential")
    if step.body["value"] == "Denied":
        del history.waiting[step.subject]
    else:
        waiting.votes.append(Vote(user_id, "Approved", covered, step.by, step.at))


def applied(step: Step) -> None:
    """A change is made: enough people agreed, still do, and it has waited as long as it must.

    Raises:
        EvidenceBroken: not so.
    """
    body = members(step.body, "record.body", {"change": str, "kind": str, "body": dict})
    history, waiting = step.history, _waiting(step.history, body["change"])
    asked, last = waiting.step, step.number - 1
    if (body["kind"], step.subject) != (asked.kind, asked.subject):
        raise RecordBroken("is not what was asked for", field="record.body.kind")
    if canonical(body["body"]) != canonical(waiting.content["after"]):
        raise RecordBroken("is not what was agreed on", field="record.body.body")
    if not asked.by.usable_at(last):
        raise EvidenceBroken("who asked for it was switched off", field="record.body.change")
    groups, loosens = list(waiting.groups), bool(waiting.content["loosens"])
    judged = _judge(history, asked.kind, asked.subject, asked.body, step.at)
    if judged is not None:
        change, ruling = judged
        if ruling.blocking or canonical(change.before) != canonical(waiting.content["before"]):
            raise EvidenceBroken("a policy blocks it, or what it changes has changed", field="record.body.change")
        loosens = loosens or ruling.loosens
        groups = list(merge_groups(groups, required_groups(ruling.holding)))
    when = _agreed(history, waiting, groups, last)
    if when is None or (waiting.expires is not None and when >= waiting.expires):
        raise EvidenceBroken("not enough people agreed to this change", field="record.body.change")
    if step.at < when + (delay_of(history.money_settings) * SECOND if loosens else 0):
        raise EvidenceBroken("this change loosens, and has not waited long enough", field="record.at")
    _make(step, asked)
    del history.waiting[body["change"]]


def _make(step: Step, asked: Step) -> None:
    """Replay a change that was agreed on as the record it stands for."""
    inner = replace(asked, number=step.number, at=step.at, digest=step.digest, body=step.body["body"])
    assert asked.preimage is not None
    check_route(inner, asked.preimage)  # also: who asked is still permitted
    CHANGES[asked.kind][1](inner)
    follow_policy(inner)


def closed(step: Step) -> None:
    """A change request ends without effect."""
    body = members(step.body, "record.body", {"change": str, "status": str, "reason": str})
    if body["change"] != step.subject or body["status"] not in ("Failed", "Rejected"):
        raise RecordBroken("closes no change request", field="record.body")
    _waiting(step.history, step.subject)
    del step.history.waiting[step.subject]


def follow_policy(step: Step) -> None:
    """Ask the groups a governing policy has now, wherever it asked its earlier ones."""
    if step.kind != records.POLICY_UPDATED:
        return
    known = step.history.policies[step.subject].versions[-1]
    now = required_groups([_policy(step.subject, known)])
    for waiting in step.history.waiting.values():
        if not any(group["policyId"] == step.subject for group in waiting.groups):
            continue
        groups = list(merge_groups(waiting.groups, now))
        if groups != waiting.groups:
            waiting.groups, waiting.votes = groups, []


def _waiting(history: History, change_id: str) -> Waiting:
    found = history.waiting.get(change_id)
    if not isinstance(found, Waiting):
        raise RecordBroken("names no change that waits", field="record.subject")
    return found


def _agreed(history: History, waiting: Waiting, groups: list[dict[str, Any]], last: int) -> Instant | None:
    covered = groups_digest(groups)
    votes = [
        (
            Decision(
                vote.user_id,
                vote.value,
                counts=vote.groups_digest == covered
                and vote.key.usable_at(last)
                and history.may(vote.user_id, VOTE, last),
            ),
            vote.at,
        )
        for vote in waiting.votes
    ]
    return agreed_at(groups, votes, people=_people(history), initiator_id=waiting.step.by.credential.user_id)


def _people(history: History) -> Mapping[str, Person]:
    """Return what decides whether each identity's decisions count after the newest record."""
    return {
        user_id: Person(
            is_active=identity.is_active and bool(identity.keys),
            is_service_account=identity.is_machine,
            may_vote=any(key.vouched_since is not None for key in identity.keys),
        )
        for user_id, identity in history.identities.items()
    }


# What governance looks at


def _policy(policy_id: str, version: PolicyVersion) -> Policy:
    return read_policy(version.document, id=policy_id, version=version.version)


def _active(history: History) -> list[Policy]:
    return [_policy(key, each.versions[-1]) for key, each in sorted(history.policies.items()) if each.is_active]


def _judge(
    history: History, kind: str, subject: str, body: Mapping[str, Any], at: Instant
) -> tuple[Change, Ruling] | None:
    """Return what the governing policies in force say about a change; None: there are none."""
    if not any(each.is_active and each.document["activityKind"] in GOVERNING for each in history.policies.values()):
        return None
    default = str(history.money_settings.get("default", "block"))
    try:
        change = _describe(history, kind, subject, body, at)
        return change, judge_change(change, _active(history), default=default)
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordBroken("does not say what would change", field="record.body") from error
    except InvalidInput as error:
        raise RecordBroken(error.message, field=error.field) from error


def _describe(history: History, kind: str, subject: str, body: Mapping[str, Any], at: Instant) -> Change:
    """Return a change as governance looks at it; the server's own ``actions.govern.describe`` says the same."""
    if kind in (records.POLICY_CREATED, records.POLICY_UPDATED, records.POLICY_ARCHIVED):
        return _describe_policy(history, kind, subject, body, at)
    before: Any = None
    tags: dict[str, Any] = {}
    if kind in (records.PERMISSION_UPDATED, records.PERMISSION_ARCHIVED):
        held = history.permissions.get(subject)
        before = None if held is None else {"name": held.name, "operations": sorted(held.operations[-1][1])}
    elif kind == records.PERMISSION_ASSIGNED:
        given = history.permissions.get(subject)
        tags = {"operations": frozenset() if given is None else given.operations[-1][1]}
    elif kind == records.USER_ACTIVATED:
        identity = history.identities.get(subject)
        before = None if identity is None else {"isActive": identity.is_active}
    elif kind == records.WALLET_CREATED:
        known = {key: each.tags for key, each in history.wallets.items()}
        tags = {"tags_after": frozenset(body["tags"]), "wallets": known}
    elif kind == records.WALLET_TAGS_MODIFIED:
        wallet = history.wallets.get(subject)
        had = frozenset() if wallet is None else wallet.tags
        before = sorted(had)
        tags = {"tags_before": had, "tags_after": (had | set(body["added"])) - set(body["removed"])}
    elif kind == records.CONFIG_APPLIED:
        before = {"digest": digest(history.money_settings)}
    return Change(kind=kind, subject=subject, before=before, after=body, **tags)


def _describe_policy(history: History, kind: str, subject: str, body: Mapping[str, Any], at: Instant) -> Change:
    known = history.policies.get(subject)
    newest = None if known is None else known.versions[-1]
    wanted = None
    if kind != records.POLICY_ARCHIVED:
        document = {name: value for name, value in body.items() if name != "version"}
        wanted = read_policy(document, id=subject, version=body["version"])
    said = [] if known is None else list(_said(subject, known.versions))
    return Change(
        kind=kind,
        subject=subject,
        before=None if newest is None else {**newest.document, "version": newest.version},
        after=body,
        policy_before=None if newest is None else _policy(subject, newest),
        policy_after=wanted,
        restores=kind != records.POLICY_CREATED and is_restored(said, wanted, now=at),
    )


def _said(policy_id: str, versions: list[PolicyVersion]) -> Iterator[tuple[Instant, Policy | None]]:
    for version in versions:
        yield version.at, _policy(policy_id, version) if version.is_active else None


REQUESTS: Mapping[str, Callable[[Step], None]] = {
    records.CHANGE_REQUESTED: requested,
    records.CHANGE_DECIDED: decided,
}
"""Kinds that are signed; the call is the one that asks for the change, or a decision."""

MADE: Mapping[str, Callable[[Step], None]] = {
    records.CHANGE_APPLIED: applied,
    records.CHANGE_CLOSED: closed,
}
"""Kinds that follow from the records before."""
