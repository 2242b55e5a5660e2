"""Personal access tokens: what one may do of what its holder may, and how long it lives.

The server and the replay of the records both ask here, so they cannot disagree.
"""

from collections.abc import Collection

from outlay.core.errors import InvalidInput
from outlay.core.seams import DAY, SECOND, Instant

DAYS_MAX = 730

PEOPLE_ONLY = frozenset(
    {
        "Auth:Pats:Create",
        "Auth:ServiceAccounts:Activate",
        "Auth:ServiceAccounts:Create",
        "Auth:ServiceAccounts:Deactivate",
        "Auth:ServiceAccounts:Delete",
        "Auth:ServiceAccounts:Update",
        "Auth:Users:Activate",
        "Auth:Users:Create",
        "Auth:Users:Deactivate",
        "Auth:Users:Delete",
        "Auth:Users:Update",
        "Config:Apply",
        "Outlay:Unfreeze",
        "Permissions:Assign",
        "Permissions:Create",
        "Permissions:Delete",
        "Permissions:Revoke",
        "Permissions:Update",
        "Policies:Evaluations:Vote",
        "Signer:Reseed",
    }
)
"""Operations no token ever has: to vote, to let go what was stopped, and to decide who may do what. A leaked token is
then no way to another."""


def token_operations(held: Collection[str], limit: Collection[str] | None) -> frozenset[str]:
    """Return what a token may do.

    Args:
        held: the operations of its holder.
        limit: the operations of the permission it was limited to; None: no limit of its own.
    """
    within = frozenset(held) - PEOPLE_ONLY
    return within if limit is None else within & frozenset(limit)


def token_life(days: int | None, seconds: int | None) -> Instant:
    """Return how long a token lives, in microseconds; 730 days unless it is said.

    Raises:
        InvalidInput: both are given, or less than a second or more than 730 days.
    """
    if days is not None and seconds is not None:
        raise InvalidInput("give daysValid or secondsValid, not both", field="secondsValid")
    if seconds is None:
        if not 1 <= (found := DAYS_MAX if days is None else days) <= DAYS_MAX:
            raise InvalidInput(f"must be 1 to {DAYS_MAX}", field="daysValid")
        return found * DAY
    if not 1 <= seconds <= DAYS_MAX * DAY // SECOND:
        raise InvalidInput(f"must be 1 to {DAYS_MAX * DAY // SECOND}", field="secondsValid")
    return seconds * SECOND
