"""What people are asked, as a page shows it to one of them: the content that is signed, and what speaks for or against.

``content`` is exactly what a decision signs. All the rest helps to judge it, and no signature covers it.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from outlay.actions import present_changes
from outlay.actions.act import Caller
from outlay.actions.explain import explain
from outlay.actions.held import Whole, whole_for
from outlay.actions.judge import may_still_vote, people
from outlay.actions.notices import amount_of, payer_of
from outlay.actions.present import evaluations_of
from outlay.actions.present_batches import batch_now
from outlay.actions.submissions import submission_of
from outlay.config import Config
from outlay.core.address import checksum
from outlay.core.approval import counted_in, refusal
from outlay.core.errors import NotFound
from outlay.core.policy import RecipientWhitelist
from outlay.core.seams import DAY, Instant
from outlay.evidence.demand import VOTE
from outlay.store import approvals, changes, organizations, policies, recipients, submissions, transfers, users
from outlay.store.database import Row, Unit

FILES_MAX = 20
"""Files that wait that a list tells of."""

LARGE = 3
"""A payout more than so many times the largest before to the same recipient is unusual."""

MISSING = object()
"""Stands in a comparison where one side has no such member."""

_SEES_PAYOUTS = frozenset({"Wallets:Transfers:Read", VOTE})
"""Who may read payouts, or is to decide about them, is told what the same recipient got before."""


# The list


def board(
    unit: Unit, config: Config, caller: Caller, *, part: str, now: Instant, limit: int | None, token: str | None
) -> dict[str, Any]:
    """Return one page of what waits for the caller, for others only, or was decided."""
    rows, more = approvals.board_page(unit, part=part, user_id=caller.user_id, now=now, limit=limit, token=token)
    files = [] if part == approvals.DECIDED or token else list(files_waiting(unit, caller, part, now))
    return {"rows": [_line(unit, row, config) for row in rows], "files": files, "more": more}


def files_waiting(unit: Unit, caller: Caller, part: str, now: Instant) -> Iterator[dict[str, Any]]:
    """Yield the files of payouts about which the caller, or only others, may decide as a whole."""
    for row in submissions.with_waiting(unit, limit=FILES_MAX):
        whole = whole_for(unit, row.id, caller.user_id, now=now)
        is_mine = whole is not None and _why_not(unit, caller, whole.groups, row.initiator_id)["Approved"] is None
        if is_mine == (part == approvals.MINE):
            by = name_of(unit, row.initiator_id)
            yield {"id": row.id, "name": row.name, "by": by, "created": row.created_at, "count": row.row_count}


def _line(unit: Unit, row: Row, config: Config) -> dict[str, Any]:
    line = {
        "id": row.id,
        "status": row.status,
        "expires": row.expires_at,
        "created": row.created_at,
        "resolved": row.resolved_at,
        "by": name_of(unit, row.initiator_id),
    }
    if row.change_id is not None:
        change = changes.get(unit, row.change_id)
        kind, operation, _ = present_changes.NAMES[change.record_kind]
        return {**line, "change": f"{operation} {kind.lower()}", "subject": change.subject}
    paid = transfers.get(unit, row.transfer_id)
    return {**line, "amount": amount_of(config, paid), "recipient": paid.recipient, "value": paid.value}


def name_of(unit: Unit, user_id: str) -> str:
    """Return what somebody is called, or the id of who is not there."""
    found = users.find(unit, user_id)
    return user_id if found is None else str(found.username)


# One of them


def asked(unit: Unit, subject: str, config: Config, caller: Caller, now: Instant) -> dict[str, Any]:
    """Return what an approval, or a decision about a whole file of payouts, is about and how it stands.

    Args:
        unit: the database unit.
        subject: id of an approval, or of a file.
        config: names assets.
        caller: whom it is shown to.
        now: the current instant.

    Raises:
        NotFound: there is none.
    """
    row = approvals.find(unit, subject)
    if row is None:
        return _file(unit, subject, config, caller, now)
    if row.change_id is None:
        about = _payout(unit, transfers.get(unit, row.transfer_id), config, caller)
    else:
        about = _change(unit, changes.get(unit, row.change_id))
    is_late = row.expires_at is not None and now >= row.expires_at
    return {
        **about,
        "id": row.id,
        "status": "Expired" if row.status == "Pending" and is_late else row.status,
        "expires": row.expires_at,
        "resolved": row.resolved_at,
        "groups": row.groups,
        "asks": _asks(unit, row),
        "decisions": [_decision(unit, each, row) for each in approvals.decisions(unit, row.id)],
        "flags": [*about["flags"], *_flags_of_policies(unit, row.groups, now)],
        "may": _may(unit, caller, row, is_late=is_late),
        "path": f"/v2/policy-approvals/{row.id}/decisions",
    }


def _may(unit: Unit, caller: Caller, row: Row, *, is_late: bool) -> dict[str, str | None]:
    """Return by kind of decision why the caller may not decide so; None: may."""
    if row.status != "Pending":
        why = f"It is decided: {row.status.lower()}."
    elif is_late:
        why = "The time to decide has run out."
    else:
        decided = {
            each.user_id
            for each in approvals.decisions(unit, row.id)
            if each.groups_digest == row.groups_digest and users.is_in_use(unit, each.credential_id)
        }
        return _why_not(unit, caller, row.groups, row.initiator_id, decided=decided)
    return dict.fromkeys(("Approved", "Denied"), why)


def _why_not(
    unit: Unit, caller: Caller, groups: Sequence[Mapping[str, Any]], initiator_id: str, decided: Collection[str] = ()
) -> dict[str, str | None]:
    if VOTE not in caller.operations:
        return dict.fromkeys(("Approved", "Denied"), f"You may look, and not decide: you lack the permission {VOTE}.")
    found: dict[str, str | None] = {}
    for value in ("Approved", "Denied"):
        why = refusal(groups, caller.user_id, value, people=people(unit), initiator_id=initiator_id, decided=decided)
        found[value] = None if why is None else f"{why[0].upper()}{why[1:]}."
    return found


def _asks(unit: Unit, row: Row) -> list[dict[str, Any]]:
    """Return each group that is asked in words: of which policy, whom, how many, and who agreed."""
    everybody = people(unit)
    agreed = {
        each.user_id
        for each in approvals.decisions(unit, row.id)
        if each.value == "Approved"
        and each.groups_digest == row.groups_digest
        and may_still_vote(unit, each)
        and refusal(row.groups, each.user_id, each.value, people=everybody, initiator_id=row.initiator_id) is None
    }
    found = []
    for group in row.groups:
        counted = counted_in(group, agreed, everybody, row.initiator_id)
        found.append({**_group(unit, group), "agreed": [name_of(unit, each) for each in sorted(counted)]})
    return found


def _group(unit: Unit, group: Mapping[str, Any]) -> dict[str, Any]:
    policy = policies.find(unit, group["policyId"])
    listed = group["approvers"]["userId"]["in"] if group["approvers"] else None
    return {
        "name": group.get("name"),
        "policy": None if policy is None else policy.name,
        "policy_id": group["policyId"],
        "quorum": group["quorum"],
        "people": None if listed is None else [name_of(unit, each) for each in listed],
        "agreed": [],
    }


def _decision(unit: Unit, each: Row, row: Row) -> dict[str, Any]:
    void = None
    if each.groups_digest != row.groups_digest:
        void = "other groups were asked then: it does not count any more"
    elif not may_still_vote(unit, each):
        void = "the key was withdrawn, or the person may not vote any more: it does not count"
    return {
        "who": name_of(unit, each.user_id),
        "value": each.value,
        "reason": each.reason,
        "at": each.at,
        "void": void,
    }


def _flags_of_policies(unit: Unit, groups: Sequence[Mapping[str, Any]], now: Instant) -> Iterator[str]:
    for policy_id in sorted({group["policyId"] for group in groups}):
        policy = policies.find(unit, policy_id)
        if policy is not None and policy.version > 1 and now - policy.updated_at < DAY:
            yield f"The policy “{policy.name}”, which asks you, was changed within the last day."


# A payout


def _payout(unit: Unit, paid: Row, config: Config, caller: Caller) -> dict[str, Any]:
    asset = config.find_asset(paid.network, paid.asset)
    told = explain(unit, paid.id, config, caller.operations)
    before = None if _SEES_PAYOUTS.isdisjoint(caller.operations) else _before(unit, paid)
    return {
        "kind": "payout",
        "content": paid.intent,
        "payout_id": paid.id,
        "amount": amount_of(config, paid),
        "symbol": asset.symbol if asset else None,
        "decimals": asset.decimals if asset else None,
        "value": paid.value,
        "payer": payer_of(unit, paid),
        "by": name_of(unit, paid.initiator_id),
        "created": paid.requested_at,
        "batch_id": paid.batch_id,
        "held": list(_held(unit, paid)),
        "told": told["words"],
        "before": before,
        "listed": _listed(unit, paid.recipient),
        "flags": list(_flags(unit, paid, config, caller, before)),
    }


def _held(unit: Unit, paid: Row) -> Iterator[dict[str, Any]]:
    """Yield each policy that asks, with what it said first."""
    kept = [dict(each._mapping) for each in transfers.evaluations(unit, paid.id)]
    for each in evaluations_of(kept):
        if each["triggered"]:
            policy = policies.find(unit, each["policyId"])
            name = each["policyId"] if policy is None else policy.name
            yield {"policy_id": each["policyId"], "name": name, "why": each["reason"]}


def _before(unit: Unit, paid: Row) -> dict[str, Any]:
    """Return what was paid to this recipient in this asset before."""
    rows = recipients.paid_to(unit, network=paid.network, asset=paid.asset, recipient=paid.recipient)
    return {
        "count": len(rows),
        "is_all": len(rows) < recipients.SEEN_MAX,
        "total": sum(row.amount for row in rows),
        "largest": max((row.amount for row in rows), default=0),
        "last": rows[0].confirmed_at if rows else None,
    }


def _listed(unit: Unit, recipient: str) -> list[str]:
    """Return the names of the policies that list a recipient as one that is known."""
    active = policies.active_policies(unit)
    return [
        each.name for each in active if isinstance(each.rule, RecipientWhitelist) and recipient in each.rule.addresses
    ]


def _flags(unit: Unit, paid: Row, config: Config, caller: Caller, before: Mapping[str, Any] | None) -> Iterator[str]:
    if before is not None and before["count"] == 0:
        yield "Nothing was paid to this address before: this is the first payment to it in this asset."
    if before is not None and before["count"] and paid.amount > LARGE * before["largest"]:
        yield f"It is more than {LARGE} times the largest payment to this address before."
    if before is not None:
        for other in recipients.alike(unit, paid.recipient):
            yield f"It looks like another address that was paid before, and is not the same: {written(other)}"
    if paid.initiator_id == caller.user_id:
        yield "You asked for it yourself."
    if paid.value is None:
        yield "What it is worth in dollars is not known: there was no price."
    if config.find_asset(paid.network, paid.asset) is None:
        yield "The settings do not know this asset any more: its amount is in base units."
    asker = users.find(unit, paid.initiator_id)
    if asker is not None and not asker.is_active:
        yield "Who asked for it was switched off since."


def written(recipient: str) -> str:
    """Return an address with its checksum, where it has one."""
    return checksum(recipient) if recipient.startswith("0x") else recipient


# A change


def _change(unit: Unit, row: Row) -> dict[str, Any]:
    content = json.loads(row.content)
    kind, operation, _ = present_changes.NAMES[row.record_kind]
    return {
        "kind": "change",
        "content": content,
        "change": f"{operation} {kind.lower()}",
        "subject": row.subject,
        "named": _named(unit, row.subject),
        "by": name_of(unit, row.requester_id),
        "created": row.created_at,
        "loosens": row.loosens,
        "due": row.due_at,
        "ended": row.reason,
        "diff": list(differences(content["before"], content["after"])),
        "held": [],
        "flags": ["It loosens what is allowed, so it waits once more after enough people agreed."]
        if row.loosens
        else [],
    }


def _named(unit: Unit, subject: str) -> str | None:
    """Return what the policy or the person is called now that a change is about."""
    policy = policies.find(unit, subject)
    if policy is not None:
        return str(policy.name)
    person = users.find(unit, subject)
    return None if person is None else str(person.username)


def differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, str | None, str | None]]:
    """Yield each member that differs: its path, and what was and will be there as text, None where it is missing."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            inner = f"{path}.{name}" if path else name
            yield from differences(before.get(name, MISSING), after.get(name, MISSING), inner)
    elif isinstance(after, dict) and after and before in (None, MISSING):
        for name in sorted(after):
            yield from differences(MISSING, after[name], f"{path}.{name}" if path else name)
    elif before is MISSING or after is MISSING or before != after:
        yield path or "all of it", _text(before), _text(after)


def _text(value: Any) -> str | None:
    if value is MISSING:
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# A whole file


def _file(unit: Unit, batch_id: str, config: Config, caller: Caller, now: Instant) -> dict[str, Any]:
    row = submissions.find(unit, batch_id)
    if row is None:
        raise NotFound("no such approval")
    whole = whole_for(unit, batch_id, caller.user_id, now=now)
    if whole is None:
        may: dict[str, str | None] = dict.fromkeys(
            ("Approved", "Denied"), "Nothing in this batch waits for a decision of yours that may be about all of it."
        )
    else:
        may = _why_not(unit, caller, whole.groups, row.initiator_id)
    return {
        "kind": "batch",
        "content": submission_of(row).content(org=organizations.get(unit).id, initiator=row.initiator_id),
        "batch": batch_now(unit, row, config, user_id=caller.user_id, now=now),
        "by": name_of(unit, row.initiator_id),
        "created": row.created_at,
        "held": [],
        "flags": ["You asked for it yourself."] if row.initiator_id == caller.user_id else [],
        "id": row.id,
        "status": "Pending" if whole is not None else row.state,
        "waiting": 0 if whole is None else whole.waiting,
        "expires": None,
        "resolved": None,
        "groups": _groups(whole),
        "asks": [_group(unit, each) for each in _groups(whole)],
        "decisions": [],
        "may": may,
        "path": f"/v1/batches/{row.id}/decisions",
    }


def _groups(whole: Whole | None) -> Sequence[dict[str, Any]]:
    return () if whole is None else whole.groups
