"""``outlay explain``: why a payout went, waited or was refused."""

from outlay.cli.output import wrapped
from outlay.cli.profile import FROM_PROFILE, Caller, path_of


def explain(payout: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Say why a payout went, waits or was refused: every policy, what it saw, who decided, and what was sent.

    Parameters
    ----------
    payout
        id of the payout.
    """
    found = caller.read(path_of("v1", "payouts", payout, "explanation"))
    caller.tell(found, lambda: wrapped(found["words"]))
