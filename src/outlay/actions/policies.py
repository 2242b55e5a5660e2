"""Policies: written, replaced, archived. Every change is a signed record and takes hold at once."""

from collections.abc import Collection
from typing import Any

from outlay.actions import changes, present
from outlay.actions.act import Act
from outlay.config import Config
from outlay.core import ids
from outlay.core.approval import merge_groups
from outlay.core.asset import NATIVE, NATIVE_TID
from outlay.core.errors import InvalidInput, NotFound
from outlay.core.policy import Block, NominalLimit, Policy, RequestApproval, Velocity, matches, required_groups
from outlay.core.policy_document import WAIT_MARGIN, parse_policy, stored_document
from outlay.core.seams import Instant
from outlay.evidence.canonical import digest
from outlay.store import approvals, policies, transfers, users, velocity, waiting, wallets
from outlay.store.database import Row, Unit
from outlay.store.policies import active_policies

ACTIVE, ARCHIVED = "Active", "Archived"


def insert_policy(
    unit: Unit, policy_id: str, document: dict[str, Any], *, now: Instant, allow_empty: bool = False
) -> Policy:
    """Store a new policy.

    Raises:
        InvalidInput: the document is not a policy.
    """
    policy = parse_policy(document, id=policy_id, version=1, allow_empty=allow_empty)
    policies.add(unit, id=policy_id, version=1, status=ACTIVE, created_at=now, updated_at=now, **_columns(policy))
    return policy


def _columns(policy: Policy) -> dict[str, Any]:
    stored = stored_document(policy)
    return {
        "name": policy.name,
        "activity_kind": policy.activity_kind,
        "rule": stored["rule"],
        "action": stored["action"],
        "filters": stored.get("filters"),
    }


def create(act: Act, document: dict[str, Any]) -> dict[str, Any]:
    """Create a policy; its velocity counters start with what has left already."""
    policy_id = act.new_id(ids.POLICY)
    policy = parse_policy(document, id=policy_id, version=1)
    check(act.unit, act.config, policy)
    act.record("policy.created", policy_id, {"version": 1, **stored_document(policy)})
    insert_policy(act.unit, policy_id, document, now=act.now)
    _rebuild(act.unit, policy, now=act.now)
    act.result_id = policy_id
    return present.policy(get(act.unit, policy_id))


def get(unit: Unit, policy_id: str) -> Row:
    """Return the policy, archived ones included.

    Raises:
        NotFound: there is none.
    """
    row = policies.find(unit, policy_id)
    if row is None:
        raise NotFound("no such policy")
    return row


def replace(act: Act, policy_id: str, document: dict[str, Any]) -> dict[str, Any]:
    """Replace a policy whole. A change of its groups reopens every vote that waits for them."""
    policy = read_replacement(act.unit, act.config, policy_id, document)
    version = policy.version
    act.record("policy.updated", policy_id, {"version": version, **stored_document(policy)})
    policies.update(act.unit, policy_id, version=version, updated_at=act.now, **_columns(policy))
    _rebuild(act.unit, policy, now=act.now)
    _reopen_votes(act, policy)
    act.result_id = policy_id
    return present.policy(get(act.unit, policy_id))


def read_replacement(unit: Unit, config: Config, policy_id: str, document: dict[str, Any]) -> Policy:
    """Return what a document would make of a policy that is in use.

    Raises:
        NotFound: no such policy is in use. InvalidInput: the document is none that could replace it.
    """
    row = get(unit, policy_id)
    if row.status != ACTIVE:
        raise NotFound("this policy was archived: create another")
    policy = parse_policy(document, id=policy_id, version=row.version + 1)
    if policy.activity_kind != row.activity_kind:
        raise InvalidInput("a policy keeps its kind: archive it and create another", field="activityKind")
    check(unit, config, policy)
    return policy


def archive(act: Act, policy_id: str) -> dict[str, Any]:
    """Take a policy out of use. What it held already stays held."""
    row = get(act.unit, policy_id)
    if row.status != ACTIVE:
        raise NotFound("this policy was archived before")
    act.record("policy.archived", policy_id, {"version": row.version})
    policies.update(act.unit, policy_id, status=ARCHIVED, updated_at=act.now)
    act.result_id = policy_id
    return present.policy(get(act.unit, policy_id))


def check(unit: Unit, config: Config, policy: Policy) -> None:
    """Check what a policy says against this server: its people, its networks, how long requests are good for.

    Raises:
        InvalidInput: it names what there is not, or would never do what it says.
    """
    _check_wait(config, policy)
    _check_approvers(unit, policy)
    _check_assets(config, policy)


def _check_wait(config: Config, policy: Policy) -> None:
    """What has waited must still be young enough for the signer to sign it."""
    wait = policy.action.wait if isinstance(policy.action, Block) else None
    most = config.signer.request_max_age_s // 60 - WAIT_MARGIN
    if wait is not None and wait > most:
        raise InvalidInput(
            f"is at most {max(0, most)}: the signer refuses requests after {config.signer.request_max_age_s} s"
            " (setting signer.request_max_age_s), and an hour is left for sending",
            field="action.wait",
        )


def _check_approvers(unit: Unit, policy: Policy) -> None:
    """Every listed approver must exist, and a service account must be allowed by its group."""
    if not isinstance(policy.action, RequestApproval):
        return
    for place, group in enumerate(policy.action.groups):
        for at, user_id in enumerate(group.approvers or ()):
            field = f"action.approvalGroups[{place}].approvers.userId.in[{at}]"
            user = users.find(unit, user_id)
            if user is None:
                raise InvalidInput("names no user", field=field)
            if user.is_service_account and not group.service_accounts_can_approve:
                raise InvalidInput("is a service account: set serviceAccountsCanApprove to let it vote", field=field)


def _check_assets(config: Config, policy: Policy) -> None:
    """A limit for a network or coin there is not would never apply. A token may be limited before it is listed."""
    for place, each in enumerate(policy.rule.assets if isinstance(policy.rule, NominalLimit) else ()):
        coin = config.find_asset(each.network, NATIVE)
        field = f"rule.configuration.assets[{place}]"
        if coin is None:
            raise InvalidInput("names no network of this server", field=f"{field}.network")
        if each.tid.startswith(NATIVE_TID) and each.tid != coin.tid:
            raise InvalidInput(f"the coin of {each.network} is {coin.tid}", field=f"{field}.tid")


def _reopen_votes(act: Act, policy: Policy) -> None:
    """Replace the policy's groups in every pending approval it triggered; earlier decisions cover other groups."""
    now_groups = required_groups([policy])
    for row in approvals.pending(act.unit):
        if not any(group["policyId"] == policy.id for group in row.groups):
            continue
        groups = list(merge_groups(row.groups, now_groups))
        if groups == row.groups:
            continue
        if row.change_id is not None:
            changes.reopen(act.work, row, groups)
            continue
        approvals.update(
            act.unit, row.id, groups=groups, groups_digest=digest(groups), updated_at=act.now, status="Pending"
        )
        transfers.annotate(act.unit, row.transfer_id, waiting_reason="the policy changed: everybody votes again")


def recount_velocity(unit: Unit, wallet_id: str, *, before: Collection[str], now: Instant) -> None:
    """Write anew the counters of every policy that judges this wallet since its tags changed, or did ``before``."""
    tags = wallets.tags(unit, wallet_id)
    for policy in active_policies(unit):
        kind = policy.activity_kind
        changed = matches(policy, wallet_id, before, activity=kind) != matches(policy, wallet_id, tags, activity=kind)
        if changed and isinstance(policy.rule, Velocity):
            _rebuild(unit, policy, now=now)


def _rebuild(unit: Unit, policy: Policy, *, now: Instant) -> None:
    matching = [
        wallet_id
        for wallet_id, tags in wallets.all_tags(unit).items()
        if matches(policy, wallet_id, tags, activity=policy.activity_kind)
    ]
    velocity.rebuild(unit, policy, wallets_matching_now=matching, now=now)
    if isinstance(policy.rule, Velocity):
        waiting.sort_again(unit, policy)
