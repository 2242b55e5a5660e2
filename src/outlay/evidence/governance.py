"""Governance: which changes of settings wait for people, and how long.

The same rules judge a change when somebody asks for it and when the chain of records is replayed, so whoever owns the
database cannot leave out the people who had to agree. A ``Policies:Modify`` policy is about every edit of the policies
it matches and of itself, and about whatever else could let more through: keys and people that are switched on, wallets
that escape, the money settings. What is not proven tighter loosens; what loosens waits after its quorum too.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outlay.core.approval import Decision, GroupDocument, Person, outcome
from outlay.core.policy import (
    GOVERNING,
    PAYING,
    PERMISSIONS_ASSIGN,
    PERMISSIONS_MODIFY,
    POLICIES_MODIFY,
    UNFREEZE,
    WALLETS_SIGN,
    AlwaysTrigger,
    Block,
    Policy,
    RequestApproval,
    Velocity,
    governs,
    matches,
)
from outlay.core.seams import HOUR, Instant
from outlay.core.tighter import is_tighter
from outlay.core.velocity import Scope
from outlay.evidence import record as records
from outlay.evidence.canonical import digest

RESTORE_WITHIN: Instant = 72 * HOUR
"""How long after a tightening the rules of before can be had back without waiting."""

DELAY_S = 24 * 3600
"""Seconds a loosening waits where the signed settings do not say."""

VOTE = "Policies:Evaluations:Vote"

_LOOSENING = frozenset(
    {records.USER_ACTIVATED, records.CREDENTIAL_ACTIVATED, records.CONFIG_APPLIED, records.MANDATE_CREATED}
)

LETTING_GO = frozenset({records.WALLET_UNFROZEN, records.ASSET_UNFROZEN, records.NETWORK_UNFROZEN, records.STOP_LIFTED})
"""Kinds of records after which something that was stopped pays again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of settings, as far as governance looks at it."""

    kind: str  #: of the record it leads to
    subject: str
    before: Any  #: what it replaces, as ``content`` shows it
    after: Mapping[str, Any]  #: the record's body
    policy_before: Policy | None = None
    policy_after: Policy | None = None
    tags_before: Collection[str] = ()
    tags_after: Collection[str] = ()
    wallets: Mapping[str, Collection[str]] = field(default_factory=dict)  #: of a new wallet: all there are, with tags
    operations: Collection[str] = ()  #: of an assignment: what it gives
    restores: bool = False  #: see ``is_restored``


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What the governing policies say about a change."""

    holding: tuple[Policy, ...] = ()  #: whose groups must agree
    blocking: tuple[Policy, ...] = ()
    loosens: bool = False


def judge_change(change: Change, policies: Collection[Policy], *, default: str) -> Ruling:
    """Return which governing policies a change meets and whether it loosens.

    Args:
        change: what is about to be recorded.
        policies: every active policy.
        default: what happens to a payout that no policy matches: allow or block.
    """
    governing, loosens = _governing(change, policies, default)
    return Ruling(
        holding=tuple(each for each in governing if isinstance(each.action, RequestApproval)),
        blocking=tuple(each for each in governing if isinstance(each.action, Block)),
        loosens=loosens,
    )


def _governing(change: Change, policies: Collection[Policy], default: str) -> tuple[list[Policy], bool]:
    guards = [each for each in policies if each.activity_kind == POLICIES_MODIFY]
    kind, subject = change.kind, change.subject
    if kind in (records.POLICY_UPDATED, records.POLICY_ARCHIVED):
        # A guard that does not name itself would guard nothing: it could be edited away first.
        found = [each for each in guards if each.id == subject or governs(each, policy_id=subject)]
        return found, not change.restores and not _is_policy_tighter(change, default)
    if kind == records.POLICY_CREATED:
        if change.policy_after is None or change.policy_after.activity_kind in GOVERNING:
            return guards, False  # it lets nothing through, but its groups could stop everything for good
        opens = change.policy_after.activity_kind == WALLETS_SIGN and _opens(change.policy_after)
        return (guards, True) if default == "block" and opens else ([], False)
    if kind in _LOOSENING:
        return guards, True
    if kind in LETTING_GO:
        return [each for each in policies if each.activity_kind == UNFREEZE], False  # no policy lets through more
    if kind == records.SIGNER_RESEEDED:
        return guards, False  # until then nothing is paid at all, so waiting would protect nobody
    if kind == records.WALLET_CREATED:
        return (guards, True) if _is_uncovered(change, guards, policies, default) else ([], False)
    if kind == records.WALLET_TAGS_MODIFIED:
        return _escaped(change, guards, policies, default), True
    about = _PERMISSION_KINDS.get(kind)
    if about is None:
        return [], False
    found = [each for each in policies if each.activity_kind == about and governs(each, permission_id=subject)]
    return [*found, *(guards if _makes_voters(change) else ())], _is_permission_wider(change)


_PERMISSION_KINDS = {
    records.PERMISSION_UPDATED: PERMISSIONS_MODIFY,
    records.PERMISSION_ARCHIVED: PERMISSIONS_MODIFY,
    records.PERMISSION_ASSIGNED: PERMISSIONS_ASSIGN,
    records.PERMISSION_REVOKED: PERMISSIONS_ASSIGN,
}


def _is_policy_tighter(change: Change, default: str) -> bool:
    before, after = change.policy_before, change.policy_after
    return before is not None and after is not None and is_tighter(before, after, default=default)


def _opens(policy: Policy) -> bool:
    """Tell whether a policy that is added can let something through where the default is to block."""
    return not (isinstance(policy.rule, AlwaysTrigger) and isinstance(policy.action, Block))


def _makes_voters(change: Change) -> bool:
    """Tell whether a change lets more people decide: then those who can must agree."""
    if change.kind == records.PERMISSION_ASSIGNED:
        return VOTE in change.operations
    return change.kind == records.PERMISSION_UPDATED and VOTE in set(change.after["operations"]) - set(
        change.before["operations"]
    )


def must_ask(policies: Collection[Policy], permission_id: str, operations: Collection[str]) -> bool:
    """Tell whether giving a permission with ``operations`` is for people to agree to, or blocked."""
    return any(
        (each.activity_kind == PERMISSIONS_ASSIGN and governs(each, permission_id=permission_id))
        or (each.activity_kind == POLICIES_MODIFY and VOTE in operations)
        for each in policies
    )


def _is_permission_wider(change: Change) -> bool:
    if change.kind == records.PERMISSION_UPDATED:
        return not set(change.after["operations"]) <= set(change.before["operations"])
    return change.kind == records.PERMISSION_ASSIGNED


def _guarded(guards: Collection[Policy], policies: Collection[Policy]) -> list[Policy]:
    """Return the policies about payouts that somebody guards."""
    return [
        each
        for each in policies
        if each.activity_kind == WALLETS_SIGN and any(governs(guard, policy_id=each.id) for guard in guards)
    ]


def _is_uncovered(change: Change, guards: list[Policy], policies: Collection[Policy], default: str) -> bool:
    """Tell whether a new wallet escapes what the others are under, or gets a cap of its own beside theirs.

    It does not where it is under every guarded policy, or under all that some other wallet is under.
    """
    guarded = _guarded(guards, policies)
    over = [each for each in guarded if matches(each, change.subject, change.tags_after)]
    if any(isinstance(each.rule, Velocity) and each.rule.scope is Scope.WALLET for each in over):
        return True
    if default != "allow" and not any(matches(each, change.subject, change.tags_after) for each in policies):
        return False  # it cannot pay
    known = [{each.id for each in guarded if matches(each, key, tags)} for key, tags in change.wallets.items()]
    mine = {each.id for each in over}
    return not any(theirs <= mine for theirs in [{each.id for each in guarded}, *known])


def _escaped(change: Change, guards: list[Policy], policies: Collection[Policy], default: str) -> list[Policy]:
    """Return the guards of what a wallet escapes by its new tags."""

    def under(each: Policy, tags: Collection[str]) -> bool:
        return matches(each, change.subject, tags)

    lost = [
        each
        for each in policies
        if each.activity_kind in PAYING
        and each.filters.match(change.subject, change.tags_before)
        and not each.filters.match(change.subject, change.tags_after)
    ]
    pays = default == "allow" or any(under(each, change.tags_after) for each in policies)
    paid = default == "allow" or any(under(each, change.tags_before) for each in policies)
    if not pays:
        lost = [each for each in lost if each.activity_kind != WALLETS_SIGN]  # a mandate needs no policy to pay
    elif not paid:
        return guards
    return [guard for guard in guards if any(governs(guard, policy_id=each.id) for each in lost)]


def is_restored(versions: Sequence[tuple[Instant, Policy | None]], wanted: Policy | None, *, now: Instant) -> bool:
    """Tell whether a change only takes back what was tightened within the last 72 hours.

    Args:
        versions: what the policy has said so far, oldest first, each with its instant; None: it was not in force.
        wanted: what it shall say; None: it shall not be in force.
        now: the current instant.
    """
    steps = [(0, None), *versions]
    for (_, before), (at, after) in zip(reversed(steps[:-1]), reversed(steps[1:]), strict=True):
        was_tightened = before is None or (after is not None and is_tighter(before, after))
        if not was_tightened or at < now - RESTORE_WITHIN:
            return False
        if _says_the_same(before, wanted):
            return True
    return False


def _says_the_same(left: Policy | None, right: Policy | None) -> bool:
    if left is None or right is None:
        return left is right
    return (left.activity_kind, left.rule, left.action, left.filters) == (
        right.activity_kind,
        right.rule,
        right.action,
        right.filters,
    )


def content(*, org: str, change_id: str, requester: str, change: Change, loosens: bool) -> dict[str, Any]:
    """Return what people sign when they decide about a change: who wants what to become what."""
    return {
        "v": 1,
        "org": org,
        "change": change_id,
        "requester": requester,
        "kind": change.kind,
        "subject": change.subject,
        "before": change.before,
        "after": dict(change.after),
        "loosens": loosens,
    }


def agreed_at(
    groups: Sequence[GroupDocument],
    decisions: Sequence[tuple[Decision, Instant]],
    *,
    people: Mapping[str, Person],
    initiator_id: str,
) -> Instant | None:
    """Return when the quorum that holds now was reached, or None while it is not, or somebody denies.

    Args:
        groups: the groups that must agree.
        decisions: oldest first, each with its instant.
        people: as they are now.
        initiator_id: who asked for the change.
    """
    said = [decision for decision, _ in decisions]
    if outcome(groups, said, people=people, initiator_id=initiator_id) != "Approved":
        return None
    for count, (_, at) in enumerate(decisions, start=1):
        if outcome(groups, said[:count], people=people, initiator_id=initiator_id) == "Approved":
            return at
    return None


def delay_of(money_settings: Mapping[str, Any]) -> int:
    """Return how many seconds a loosening waits under these signed settings."""
    governance = money_settings.get("governance")
    found = governance.get("looseningDelay") if isinstance(governance, Mapping) else None
    return found if type(found) is int and found >= 0 else DELAY_S


def groups_digest(groups: Sequence[GroupDocument]) -> str:
    """Return the digest that a decision about these groups signs."""
    return digest([dict(each) for each in groups])
