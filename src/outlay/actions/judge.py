"""Judging a transfer under the policies: once when it is requested, and again before a nonce is bound."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from outlay.actions import present
from outlay.actions.act import key_operations
from outlay.actions.change import emit_approval
from outlay.actions.work import Work
from outlay.config import Config
from outlay.core import ids
from outlay.core.approval import Decision, Person, merge_groups, outcome, shortest_timeout
from outlay.core.policy import Evaluation, Facts, Policy, Verdict, evaluate, matches, required_groups, verdict
from outlay.core.seams import MINUTE
from outlay.evidence.canonical import digest
from outlay.evidence.demand import REQUEST, VOTE
from outlay.store import approvals, permissions, policies, transfers, users, velocity, wallets, webhooks
from outlay.store.database import Row, Unit
from outlay.store.policies import active_policies, policy_of

ADMISSION, BINDING = "admission", "binding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the policies say about a transfer now."""

    verdict: Verdict
    evaluations: tuple[Evaluation, ...]
    holding: tuple[Policy, ...]  #: triggered policies that ask people
    active: tuple[Policy, ...]  #: every active policy, those that do not match included
    tags: tuple[str, ...]  #: of the wallet


def judge(
    work: Work,
    *,
    wallet_id: str,
    recipient: str,
    initiator_id: str,
    facts: Facts,
    before_admitted: int | None = None,
    also: Collection[str] = (),
) -> Judgement:
    """Evaluate every active policy that matches, always all.

    Args:
        work: a money unit; the organization's lock is held.
        wallet_id: who would pay.
        recipient: canonical address of who would be paid.
        initiator_id: who asked.
        facts: value, recipient and price as fixed at the request.
        before_admitted: for judging again, the transfer's place in the order of admission.
        also: ids of policies that judge whatever their filters say now: those that matched at admission.
    """
    tags = wallets.tags(work.unit, wallet_id)
    active = tuple(active_policies(work.unit))
    matching = [policy for policy in active if policy.id in also or matches(policy, wallet_id, tags)]
    windows = velocity.windows(
        work.unit,
        matching,
        wallet_id=wallet_id,
        recipient=recipient,
        initiator_id=initiator_id,
        now=work.now,
        before_admitted=before_admitted,
    )
    evaluations = tuple(evaluate(policy, facts, windows.get(policy.id)) for policy in matching)
    said = verdict(evaluations, default=work.config.policies.default)
    holding = tuple(policy for policy in matching if policy.id in said.holding)
    return Judgement(verdict=said, evaluations=evaluations, holding=holding, active=active, tags=tags)


def keep(work: Work, judgement: Judgement, row: Row, *, moment: str, announce: bool = True) -> None:
    """Store every evaluation of a transfer; where ``announce``, raise policy.triggered for each that triggered."""
    kept = [
        {
            "id": ids.new_id(ids.EVALUATION, work.entropy),
            "transfer_id": row.id,
            "moment": moment,
            "policy_id": evaluation.policy_id,
            "policy_version": evaluation.version,
            "action": evaluation.action,
            "triggered": evaluation.triggered,
            "reason": evaluation.reason,
            "context": evaluation.context,
            "at": work.now,
        }
        for evaluation in judgement.evaluations
    ]
    transfers.add_evaluations(work.unit, kept)
    for values in kept:
        if values["triggered"] and announce:
            policy_row = policies.find(work.unit, values["policy_id"])
            assert policy_row is not None
            webhooks.emit(
                work.unit,
                kind="policy.triggered",
                subject=row.id,
                data=present.policy_triggered(values, policy_row, row, work.config),
                now=work.now,
                entropy=work.entropy,
            )


def open_approval(work: Work, row: Row, groups: Sequence[dict[str, Any]], holding: Sequence[Policy]) -> str:
    """Ask people about a transfer: open its approval, or open it again with other groups; return its id."""
    timeout = shortest_timeout(holding)
    expires_at = None if timeout is None else work.now + timeout * MINUTE
    values = {
        "status": "Pending",
        "groups": list(groups),
        "groups_digest": digest(list(groups)),
        "expires_at": expires_at,
        "updated_at": work.now,
        "resolved_at": None,
    }
    found = approvals.find_of(work.unit, row.id)
    if found is not None:
        approvals.update(work.unit, found.id, **values)
        approval_id: str = found.id
    else:
        approval_id = ids.new_id(ids.APPROVAL, work.entropy)
        approvals.add(
            work.unit,
            id=approval_id,
            transfer_id=row.id,
            initiator_id=row.initiator_id,
            created_at=work.now,
            **values,
        )
    transfers.annotate(work.unit, row.id, approval_id=approval_id)
    emit_approval(work, approval_id, "policy.approval.pending")
    return approval_id


def people(unit: Unit) -> dict[str, Person]:
    """Return what decides whether each user's vote counts, as of now."""
    return {
        row.id: Person(
            is_active=row.is_active and row.is_registered and row.deleted_at is None,
            is_service_account=row.is_service_account,
            may_vote=row.may_vote,
        )
        for row in users.everyone(unit)
    }


def may_still_vote(unit: Unit, decision: Row) -> bool:
    """Tell whether a decision's key is still in use and its person still permitted to vote."""
    return users.is_in_use(unit, decision.credential_id) and VOTE in permissions.operations_of(unit, decision.user_id)


def decided(unit: Unit, approval: Row, groups: Sequence[dict[str, Any]]) -> str:
    """Return Pending, Approved or Denied: what the decisions come to under ``groups``, the people and keys of now."""
    covered = digest(list(groups))
    return outcome(
        groups,
        [
            Decision(
                row.user_id,
                row.value,
                counts=row.groups_digest == covered and may_still_vote(unit, row),
            )
            for row in approvals.decisions(unit, approval.id)
        ],
        people=people(unit),
        initiator_id=approval.initiator_id,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejudgement:
    """Whether a ready transfer may still go: go, hold (with the groups to ask) or block (with reasons)."""

    kind: str
    judgement: Judgement
    groups: tuple[dict[str, Any], ...] = ()
    asking: tuple[Policy, ...] = ()


def judge_again(work: Work, row: Row) -> Rejudgement:
    """Judge a ready transfer once more, under the stricter of then and now.

    What triggered at admission still asks, even if its policy is gone; what triggers now asks too, with its groups
    of now. Decisions count only if they covered exactly these groups and their people are still eligible.
    """
    entry = velocity.find_entry(work.unit, row.id)
    judgement = judge(
        work,
        wallet_id=row.wallet_id,
        recipient=row.recipient,
        initiator_id=row.initiator_id,
        facts=facts_of(row, work.config),
        before_admitted=entry.admitted if entry is not None else None,
        also={each.policy_id for each in transfers.evaluations(work.unit, row.id, moment=ADMISSION)},
    )
    why_not = _refuse_initiator(work.unit, row)
    if why_not is not None:
        gone = Verdict(kind="block", reasons=(why_not,))
        return Rejudgement(kind="block", judgement=replace(judgement, verdict=gone))
    if judgement.verdict.kind == "block":
        return Rejudgement(kind="block", judgement=judgement)
    approval = approvals.find_of(work.unit, row.id)
    then_groups = approval.groups if approval is not None else []
    then = {group["policyId"] for group in then_groups}
    asking = {policy.id: policy for policy in judgement.holding}
    for policy_id in then - set(asking):
        policy_row = policies.find(work.unit, policy_id)
        if policy_row is not None and policy_row.status == "Active":
            asking[policy_id] = policy_of(policy_row)
    groups = merge_groups(then_groups, required_groups(asking.values()))
    if not groups:
        return Rejudgement(kind="go", judgement=judgement)
    if approval is not None and decided(work.unit, approval, groups) == "Approved":
        return Rejudgement(kind="go", judgement=judgement)
    return Rejudgement(kind="hold", judgement=judgement, groups=groups, asking=tuple(asking.values()))


def _refuse_initiator(unit: Unit, row: Row) -> str | None:
    """Return why a payout may not go because of who asked, or None."""
    initiator = people(unit).get(row.initiator_id)
    if initiator is None or not initiator.is_active or not initiator.may_vote:
        return "Who asked for this payout was switched off or removed."
    key = users.find_credential(unit, row.credential_id) if users.is_in_use(unit, row.credential_id) else None
    if key is None:
        return "The key that signed the request of this payout was withdrawn."
    if REQUEST not in key_operations(unit, key):
        return "Who asked for this payout is no longer permitted to."
    return None


def facts_of(row: Row, config: Config) -> Facts:
    """Return what policies look at, as it was fixed when the transfer was requested; the settings name the asset."""
    price = row.price or {}
    asset = config.find_asset(row.network, row.asset)
    return Facts(
        value=row.value,
        recipient=row.recipient,
        price=price.get("price"),
        price_source=price.get("source"),
        price_at=price.get("at"),
        network=row.network,
        tid=None if asset is None else asset.tid,
        amount=row.amount,
    )
