"""Judging a transfer under the policies: once when it is requested, and again before a nonce is bound."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from outlay.actions import present
from outlay.actions.change import emit_approval
from outlay.actions.work import Work
from outlay.config import Config
from outlay.core import ids
from outlay.core.approval import Decision, Person, outcome, shortest_timeout
from outlay.core.mandate import activity_of
from outlay.core.policy import (
    WALLETS_SIGN,
    Evaluation,
    Facts,
    Policy,
    Verdict,
    evaluate,
    matches,
    verdict,
)
from outlay.core.seams import MINUTE
from outlay.evidence.canonical import digest
from outlay.evidence.demand import VOTE
from outlay.store import approvals, permissions, policies, transfers, users, velocity, wallets, webhooks
from outlay.store.database import Row, Unit
from outlay.store.policies import active_policies

ADMISSION, BINDING = "admission", "binding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the policies say about a transfer now."""

    verdict: Verdict
    evaluations: tuple[Evaluation, ...]
    holding: tuple[Policy, ...]  #: triggered policies that ask people
    active: tuple[Policy, ...]  #: every active policy, those that do not match included
    tags: tuple[str, ...]  #: of the wallet it counts for
    full: frozenset[tuple[str, str]] = frozenset()  #: counters it may wait for, by policy id and scope key


def judge(
    work: Work,
    *,
    wallet_ids: Sequence[str],
    recipient: str,
    initiator_id: str,
    facts: Facts,
    before_admitted: int | None = None,
    also: Collection[str] = (),
) -> Judgement:
    """Evaluate every active policy that matches, always all; of several wallets the strictest answer counts.

    Of each policy one evaluation is kept: the first that triggers, else that of the first wallet it matches.

    Args:
        work: a money unit; the organization's lock is held.
        wallet_ids: who may pay; the first is the one the payout counts for.
        recipient: canonical address of who would be paid.
        initiator_id: who asked.
        facts: value, recipient and price as fixed at the request.
        before_admitted: for judging again, the transfer's place in the order of admission.
        also: ids of policies that judge whatever their filters say now: those that matched at admission.
    """
    active = tuple(active_policies(work.unit))
    activity = activity_of(initiator_id)
    tags = {wallet_id: wallets.tags(work.unit, wallet_id) for wallet_id in wallet_ids}
    found: dict[str, Evaluation] = {}
    for wallet_id in wallet_ids:
        matching = [
            policy
            for policy in active
            if policy.id in also or matches(policy, wallet_id, tags[wallet_id], activity=activity)
        ]
        windows = velocity.windows(
            work.unit,
            matching,
            wallet_id=wallet_id,
            recipient=recipient,
            initiator_id=initiator_id,
            now=work.now,
            before_admitted=before_admitted,
        )
        for policy in matching:
            if policy.id not in found or not found[policy.id].triggered:
                answer = evaluate(policy, facts, windows.get(policy.id))
                if policy.id not in found or answer.triggered:
                    found[policy.id] = answer
    evaluations = tuple(found[policy.id] for policy in active if policy.id in found)
    # A mandate is what lets a refill go; policies only bound it.
    default = work.config.policies.default if activity == WALLETS_SIGN else "allow"
    said = verdict(evaluations, default=default)
    holding = tuple(policy for policy in active if policy.id in said.holding)
    return Judgement(verdict=said, evaluations=evaluations, holding=holding, active=active, tags=tags[wallet_ids[0]])


def keep(work: Work, judgement: Judgement, row: Row, *, moment: str) -> None:
    """Store every evaluation of a transfer, and raise policy.triggered for each that triggered."""
    for values in keep_many(work, [(judgement, row)], moment=moment):
        if values["triggered"]:
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


def keep_many(work: Work, judged: Sequence[tuple[Judgement, Row]], *, moment: str) -> list[dict[str, Any]]:
    """Store every evaluation of transfers, without events; return them."""
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
        for judgement, row in judged
        for evaluation in judgement.evaluations
    ]
    transfers.add_evaluations(work.unit, kept)
    return kept


def approval_values(work: Work, groups: Sequence[dict[str, Any]], holding: Sequence[Policy]) -> dict[str, Any]:
    """Return the columns of an approval that asks ``groups`` from now on."""
    timeout = shortest_timeout(holding)
    return {
        "status": "Pending",
        "groups": list(groups),
        "groups_digest": digest(list(groups)),
        "expires_at": None if timeout is None else work.now + timeout * MINUTE,
        "updated_at": work.now,
        "resolved_at": None,
    }


def open_approval(work: Work, row: Row, groups: Sequence[dict[str, Any]], holding: Sequence[Policy]) -> str:
    """Ask people about a transfer: open its approval, or open it again with other groups; return its id."""
    values = approval_values(work, groups, holding)
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
