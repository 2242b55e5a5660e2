"""Why a payout went, waited or was refused: every policy that was there, what it looked at, and who decided.

Nothing is judged here. What policies said is read as it was kept; those that had nothing to say are found in the
records, with the reason why they had not.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outlay.actions import present, present_payouts
from outlay.actions.act import digest_of_set
from outlay.actions.explain_words import words_of
from outlay.actions.judge import ADMISSION, may_still_vote, people
from outlay.actions.present import only_given, when
from outlay.config import Config
from outlay.core.approval import Decision, counted_in, refusal
from outlay.core.errors import NotFound
from outlay.core.event import iso
from outlay.core.mandate import activity_of
from outlay.core.policy import Policy
from outlay.core.policy_document import read_policy, wire_document
from outlay.store import approvals, lanes, policy_history, transfers, users
from outlay.store.database import Row, Unit
from outlay.store.policy_history import Written

NEEDED = ("Policies:Read", "Policies:Evaluations:Read")
"""Who lacks one of these is told the payout with its ``reason``, verdicts and kinds.

Hidden are names, thresholds and sums of policies, tags, groups and decisions. ``reason`` is not: it tells whoever may
read the payout why it was stopped, and with that the limit of the policy, or the person, that stopped this very payout.
"""

NEAR = 16
"""Records about policies that are looked at on each side of a payout's instant, where the clock alone misleads."""

TRIGGERED, PASSED, NOT_MATCHING, NOT_KEPT = "triggered", "passed", "not_matching", "not_kept"


@dataclass(frozen=True, slots=True)
class _Known:
    """The policies that were in force when a payout was judged first."""

    seq: int  #: of the newest record then, as far as it is known
    policies: dict[str, Policy]  #: by id
    is_certain: bool  #: they are those whose digest was kept with the payout


def explain(unit: Unit, payout_id: str, config: Config, operations: Collection[str]) -> dict[str, Any]:
    """Return why a payout stands where it stands, with ``words`` that say it in plain English.

    Args:
        unit: the database unit.
        payout_id: which.
        config: names assets.
        operations: what the caller may do; see ``NEEDED``.

    Raises:
        NotFound: no such payout.
    """
    row = transfers.find(unit, payout_id)
    if row is None:
        raise NotFound("no such payout")
    is_whole = all(name in operations for name in NEEDED)
    kept = transfers.evaluations(unit, payout_id)
    steps = transfers.transitions(unit, payout_id)
    known = _in_force(unit, row)
    told = only_given(
        payout=present_payouts.payout(row, config),
        redacted=not is_whole,
        verdict=_verdict(row, kept, steps, is_whole=is_whole),
        price=_price(row),
        policySet=row.policy_set if is_whole else None,
        policiesAreCertain=known.is_certain,
        policies=_policies(unit, row, kept, known, is_whole=is_whole),
        approval=_approval(unit, row, is_whole=is_whole),
        history=[_step(each, is_whole=is_whole) for each in steps],
        **_on_chain(unit, row),
    )
    return {"words": words_of(told), **told}


def _price(row: Row) -> dict[str, Any] | None:
    """Return the price a payout was valued with when it was requested."""
    if row.price is None:
        return None
    at = row.price.get("at")
    return only_given(usd=row.price["price"], source=row.price.get("source"), date=when(at))


def _verdict(row: Row, kept: Sequence[Row], steps: Sequence[Row], *, is_whole: bool) -> dict[str, Any]:
    """Return what all policies said together when the payout was requested."""
    first = [each for each in kept if each.moment == ADMISSION]
    triggered = [each for each in first if each.triggered and each.action != "NoAction"]
    event = steps[0].event if steps else ""
    kind = {"allowed": "allow", "held": "hold", "blocked": "block"}.get(event, "unknown")
    if kind == "hold" and any(each.action == "Block" for each in triggered):
        kind = "wait"  # for room under a cap; a block that cannot wait would have blocked
    return only_given(
        kind=kind,
        date=iso(steps[0].at) if steps else None,
        byDefault=not first,
        reasons=[each.reason for each in triggered] if is_whole else None,
    )


# Policies


def _in_force(unit: Unit, row: Row) -> _Known:
    """Return the policies in force when a payout was requested, as the records tell it.

    Two records of one instant, or clocks that differ a little, leave open which came first: the digest that was kept
    with the payout decides, among the records nearest to its instant.
    """
    newest = policy_history.newest_before(unit, row.requested_at)
    by_clock = policy_history.standing(unit, newest)
    if _is_set(row, by_clock):
        return _known(newest, by_clock, is_certain=True)
    for seq in policy_history.earlier(unit, newest, NEAR):
        before = policy_history.standing(unit, seq - 1)
        if _is_set(row, before):
            return _known(newest, before, is_certain=True)
    state = dict(by_clock)
    for each in policy_history.later(unit, newest, NEAR):
        state[each.policy_id] = each
        if each.document is None:
            del state[each.policy_id]
        if _is_set(row, state):
            return _known(each.seq, state, is_certain=True)
    return _known(newest, by_clock, is_certain=not by_clock)


def _is_set(row: Row, state: Mapping[str, Written]) -> bool:
    versions = sorted((policy_id, each.version) for policy_id, each in state.items())
    return bool(digest_of_set(versions) == row.policy_set)


def _known(seq: int, state: Mapping[str, Written], *, is_certain: bool) -> _Known:
    policies = {
        policy_id: read_policy(each.document, id=policy_id, version=each.version)
        for policy_id, each in state.items()
        if each.document is not None
    }
    return _Known(seq, policies, is_certain)


def _policies(unit: Unit, row: Row, kept: Sequence[Row], known: _Known, *, is_whole: bool) -> list[dict[str, Any]]:
    """Return every policy that was there at the request, or was asked later, and what became of it."""
    activity = activity_of(row.initiator_id)
    tags = policy_history.tags_at(unit, row.wallet_id, known.seq)
    said: dict[str, list[Row]] = {}
    for each in kept:
        said.setdefault(each.policy_id, []).append(each)
    found = []
    for policy_id in sorted(known.policies.keys() | said.keys()):
        policy, evaluations = known.policies.get(policy_id), said.get(policy_id, [])
        if evaluations:
            result = TRIGGERED if any(each.triggered for each in evaluations) else PASSED
            why = next((each.reason for each in evaluations if each.triggered), None)
        elif policy is not None:
            why = _why_not(policy, row.wallet_id, tags, activity)
            # Whether it matched by a wallet of its pool is not told by this wallet's tags.
            result = NOT_KEPT if why is None else NOT_MATCHING
        found.append(_one(policy_id, policy, evaluations, result, why, is_whole=is_whole))
    return found


def _why_not(policy: Policy, wallet_id: str, tags: Sequence[str], activity: str) -> str | None:
    """Return why a policy was not about a payout, or None if it was."""
    if policy.activity_kind != activity:
        return f"It is about {policy.activity_kind}, and this is {activity}."
    filters = policy.filters
    mine = ", ".join(tags) or "none"
    if filters.wallet_ids is not None and wallet_id not in filters.wallet_ids:
        return f"It is about other wallets than {wallet_id}."
    if filters.tags_any is not None and not any(tag in tags for tag in filters.tags_any):
        return (
            f"It is about wallets with one of the tags {', '.join(filters.tags_any)}; this wallet's tags were: {mine}."
        )
    if filters.tags_all is not None and not all(tag in tags for tag in filters.tags_all):
        return (
            f"It is about wallets with all of the tags {', '.join(filters.tags_all)}; this wallet's tags were: {mine}."
        )
    return None


def _one(
    policy_id: str,
    policy: Policy | None,
    evaluations: Sequence[Row],
    result: str,
    why: str | None,
    *,
    is_whole: bool,
) -> dict[str, Any]:
    rule = policy.rule.kind if policy is not None else evaluations[0].context.get("rule")
    action = policy.action.kind if policy is not None else evaluations[0].action
    if not is_whole:
        return only_given(rule=rule, action=action, result=result)
    return only_given(
        policyId=policy_id,
        name=None if policy is None else policy.name,
        version=evaluations[0].policy_version if evaluations else policy.version if policy else None,
        activityKind=None if policy is None else policy.activity_kind,
        rule=rule,
        action=action,
        result=result,
        why=why,
        policy=None if policy is None else wire_document(policy),
        evaluations=[
            only_given(
                id=each.id,
                moment=each.moment,
                date=iso(each.at),
                version=each.policy_version,
                triggered=each.triggered,
                reason=each.reason,
                context=each.context,
            )
            for each in evaluations
        ],
    )


# People


def _approval(unit: Unit, row: Row, *, is_whole: bool) -> dict[str, Any] | None:
    """Return who was asked about a payout, and what they said."""
    approval = approvals.find_of(unit, row.id)
    if approval is None:
        return None
    about = only_given(
        status=approval.status,
        dateCreated=iso(approval.created_at),
        dateResolved=when(approval.resolved_at),
        expirationDate=when(approval.expires_at),
    )
    if not is_whole:
        return about
    everybody, said = people(unit), approvals.decisions(unit, approval.id)
    counts = {each.id: _why_void(unit, each, approval, everybody) for each in said}
    agreed = [each.user_id for each in said if each.value == "Approved" and counts[each.id] is None]
    return {
        "id": approval.id,
        **about,
        "groups": [
            {**group, "agreed": sorted(counted_in(group, agreed, everybody, approval.initiator_id))}
            for group in approval.groups
        ],
        "decisions": [
            only_given(
                userId=each.user_id,
                username=_name(unit, each.user_id),
                value=each.value,
                reason=each.reason,
                date=iso(each.at),
                counts=counts[each.id] is None,
                whyNot=counts[each.id],
            )
            for each in said
        ],
    }


def _why_void(unit: Unit, decision: Row, approval: Row, everybody: dict[str, Any]) -> str | None:
    """Return why a decision does not count, with the groups, people and keys of now; None: it does."""
    if decision.groups_digest != approval.groups_digest:
        return "it was about other groups"
    given = Decision(decision.user_id, decision.value)
    why = refusal(approval.groups, given.user_id, given.value, people=everybody, initiator_id=approval.initiator_id)
    if why is not None:
        return why
    return None if may_still_vote(unit, decision) else "its key was withdrawn, or its person may not vote any more"


def _name(unit: Unit, user_id: str) -> str | None:
    found = users.find(unit, user_id)
    return None if found is None else str(found.username)


# What happened


def _step(step: Row, *, is_whole: bool) -> dict[str, Any]:
    return only_given(
        event=step.event,
        **{"from": step.from_state},
        to=step.to_state,
        date=iso(step.at),
        detail=step.detail if is_whole else None,
    )


def _on_chain(unit: Unit, row: Row) -> dict[str, Any]:
    """Return what was signed for a payout, and what of it the chain has."""
    if row.transaction_id is None:
        return {}
    slot = lanes.find_transaction(unit, row.transaction_id)
    attempts = lanes.attempts(unit, row.transaction_id)
    if slot is None or not attempts:
        return {}
    mined = None
    if slot.mined_hash is not None:
        mined = only_given(
            hash=slot.mined_hash,
            blockNumber=slot.block_number,
            blockHash=slot.block_hash,
            isFinal=slot.state == "final",
        )
    return only_given(construction=present.construction(attempts), transaction=mined)
