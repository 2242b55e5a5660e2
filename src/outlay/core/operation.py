"""The names of what an identity may be permitted to do, as the contract spells them."""

from collections.abc import Iterable

from outlay.core.errors import InvalidInput

OPERATIONS: tuple[str, ...] = (
    "Audit:Read",
    "Auth:Pats:Create",
    "Auth:ServiceAccounts:Activate",
    "Auth:ServiceAccounts:Create",
    "Auth:ServiceAccounts:Deactivate",
    "Auth:ServiceAccounts:Delete",
    "Auth:ServiceAccounts:Read",
    "Auth:ServiceAccounts:Update",
    "Auth:Users:Activate",
    "Auth:Users:Create",
    "Auth:Users:Deactivate",
    "Auth:Users:Delete",
    "Auth:Users:Read",
    "Auth:Users:Update",
    "Config:Apply",
    "Mandates:Archive",
    "Mandates:Create",
    "Mandates:Read",
    "Outlay:Unfreeze",
    "Permissions:Assign",
    "Permissions:Assignments:Read",
    "Permissions:Create",
    "Permissions:Delete",
    "Permissions:Read",
    "Permissions:Revoke",
    "Permissions:Update",
    "Policies:Create",
    "Policies:Delete",
    "Policies:Evaluations:Read",
    "Policies:Evaluations:Vote",
    "Policies:Read",
    "Policies:Update",
    "Pools:Archive",
    "Pools:Create",
    "Pools:Read",
    "Signer:Reseed",
    "Wallets:Create",
    "Wallets:Drain",
    "Wallets:Read",
    "Wallets:Tags:Add",
    "Wallets:Tags:Remove",
    "Wallets:Transactions:Create",
    "Wallets:Transfers:Abort",
    "Wallets:Transfers:Create",
    "Wallets:Transfers:Read",
    "Wallets:Unfreeze",
    "Wallets:Update",
    "Webhooks:Create",
    "Webhooks:Delete",
    "Webhooks:Events:Read",
    "Webhooks:Ping",
    "Webhooks:Read",
    "Webhooks:Update",
)
"""Every operation Outlay offers. ``Audit:Read``, ``Config:Apply``, ``Mandates:*``, ``Outlay:Unfreeze``, ``Pools:*``,
``Signer:Reseed``, ``Wallets:Drain`` and ``Wallets:Unfreeze`` are ours, the others the contract's."""

ALIASES = {
    "Permissions:Archive": "Permissions:Delete",
    "PermissionAssignments:Create": "Permissions:Assign",
    "PermissionAssignments:Read": "Permissions:Assignments:Read",
    "PermissionAssignments:Revoke": "Permissions:Revoke",
    "Policies:Archive": "Policies:Delete",
    "Policies:Approvals:Read": "Policies:Evaluations:Read",
    "Policies:Approvals:Approve": "Policies:Evaluations:Vote",
    "Wallets:Tags:Delete": "Wallets:Tags:Remove",
}
"""Older spellings that clients may still send; stored under the canonical name."""

FULL_ADMIN = "ManagedFullAdminAccess"
"""Name of the immutable permission that holds every operation."""


def parse_operations(names: Iterable[str], *, field: str = "operations") -> list[str]:
    """Return the canonical names, sorted, each once.

    Raises:
        InvalidInput: none given, or a name Outlay does not offer.
    """
    found = set()
    for index, name in enumerate(names):
        canonical = ALIASES.get(name, name)
        if canonical not in OPERATIONS:
            raise InvalidInput(
                f"{name!r} is not an operation of this server; see the list in the reference",
                field=f"{field}[{index}]",
            )
        found.add(canonical)
    if not found:
        raise InvalidInput("name at least one operation", field=field)
    return sorted(found)
