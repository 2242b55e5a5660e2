"""Whether one version of a policy is at least as strict as another, proven from the two alone.

The claim, where ``is_tighter`` says True: whatever other policies there are, a payout or change that the later version
lets through, the earlier one let through too; and people who are enough for the later one were enough for the earlier.
What is not proven is looser. A name, and the order of groups, of addresses and of ids, mean nothing.

What it does not claim: whoever is no longer asked can no longer deny. Fewer approvers is tighter all the same, because
those who remain could always have agreed without the others.
"""

from outlay.core.policy import (
    PER_BATCH,
    PER_ROW,
    WALLETS_SIGN,
    AlwaysTrigger,
    AmountLimit,
    AmountVelocity,
    Block,
    CountVelocity,
    Filters,
    Group,
    NoAction,
    NominalLimit,
    Policy,
    RecipientWhitelist,
    RequestApproval,
    Rule,
    Velocity,
)

_STRICTNESS = {NoAction.kind: 0, RequestApproval.kind: 1, Block.kind: 2}


def is_tighter(before: Policy, after: Policy, *, default: str | None = None) -> bool:
    """Tell whether ``after`` is proven to be as strict as ``before``, or stricter; two equal policies are.

    Args:
        before: the policy as it is.
        after: the policy as it shall be, of the same lineage.
        default: what happens to payouts that no policy matches, ``allow`` or ``block``; None: it could be either.
    """
    return (
        before.id == after.id
        and before.activity_kind == after.activity_kind
        and _covers(before.filters, after.filters)
        and (_covers(after.filters, before.filters) or _may_widen(after, default))
        and _rule_tighter(before.rule, after.rule)
        and _action_tighter(before, after)
    )


def _may_widen(after: Policy, default: str | None) -> bool:
    """Tell whether matching more keeps everything in that was kept in.

    Where the default is to block, a wallet's first policy opens it, unless all that policy does is to block.
    """
    if after.activity_kind != WALLETS_SIGN or default == "allow":
        return True
    return isinstance(after.rule, AlwaysTrigger) and isinstance(after.action, Block)


def _covers(inner: Filters, outer: Filters) -> bool:
    """Tell whether all that ``inner`` matches, whatever its tags are or become, ``outer`` matches too."""
    return (
        _lists_all(inner.wallet_ids, outer.wallet_ids)
        and _lists_all(inner.tags_any, outer.tags_any)
        and set(outer.tags_all or ()) <= set(inner.tags_all or ())
        and _lists_all(inner.policy_ids, outer.policy_ids)
        and _lists_all(inner.permission_ids, outer.permission_ids)
    )


def _lists_all(inner: tuple[str, ...] | None, outer: tuple[str, ...] | None) -> bool:
    """Tell whether ``outer`` holds every entry of ``inner``; None holds everything."""
    return outer is None or (inner is not None and set(inner) <= set(outer))


def _rule_tighter(before: Rule, after: Rule) -> bool:
    """Tell whether ``after`` triggers whenever ``before`` does."""
    match before, after:
        case _, AlwaysTrigger():
            return True
        case AmountLimit(), AmountLimit():
            return after.limit <= before.limit
        case NominalLimit(), NominalLimit():
            limits = {(each.network, each.tid): each.limit for each in after.assets}
            # What is listed in addition can only trigger more: a network's coin has one entry, and it is still there.
            return all(limits.get((each.network, each.tid), each.limit + 1) <= each.limit for each in before.assets)
        case AmountVelocity(), AmountVelocity():
            return _counts_as_much(before, after)
        case CountVelocity(), CountVelocity():
            return _counts_as_much(before, after)
        case RecipientWhitelist(), RecipientWhitelist():
            return after.addresses <= before.addresses
    return False


def _counts_as_much(before: Velocity, after: Velocity) -> bool:
    # A longer stretch holds all that the shorter one does. Another scope adds up other payouts.
    return after.scope is before.scope and after.limit <= before.limit and after.timeframe >= before.timeframe


def _action_tighter(before: Policy, after: Policy) -> bool:
    asked, asks = before.action, after.action
    if isinstance(asked, Block) and isinstance(asks, Block):
        # What is refused at once never goes; what waits goes later, and the longer it may wait the likelier.
        return asks.wait is None or (asked.wait is not None and asks.wait <= asked.wait)
    if isinstance(asked, RequestApproval) and isinstance(asks, Block) and asks.wait is not None:
        return False  # what waits for room goes in the end, and nobody was asked
    if not isinstance(asked, RequestApproval) or not isinstance(asks, RequestApproval):
        return _STRICTNESS[asks.kind] >= _STRICTNESS[asked.kind]
    if asks.per == PER_BATCH and asked.per == PER_ROW:
        return False  # one signature would do for many payouts
    # A decision counts in every group its author is in, so one group may stand for two.
    return _expires_as_soon(asked.auto_reject_timeout, asks.auto_reject_timeout) and all(
        any(_group_tighter(group, other) for other in asks.groups) for group in asked.groups
    )


def _expires_as_soon(before: int | None, after: int | None) -> bool:
    return before is None or (after is not None and after <= before)


def _group_tighter(before: Group, after: Group) -> bool:
    """Tell whether people who are enough for ``after`` are enough for ``before``."""
    if before.approvers is None:
        # Any person, but no service account, whatever the flag says.
        machines_kept_out = after.approvers is None or not after.service_accounts_can_approve
    else:
        machines_kept_out = before.service_accounts_can_approve or not after.service_accounts_can_approve
    return (
        after.quorum >= before.quorum
        and _lists_all(after.approvers, before.approvers)
        and (before.initiator_can_approve or not after.initiator_can_approve)
        and machines_kept_out
    )
