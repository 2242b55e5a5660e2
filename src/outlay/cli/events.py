"""``outlay events``: what happened, as it happens."""

from typing import Annotated, Any

from cyclopts import App, Parameter

from outlay.cli.output import when
from outlay.cli.profile import FROM_PROFILE, Caller, Opaque
from outlay.core.message import one_line

events = App(name="events")

PAGE = 100
WAIT_S = 20
RARE = "audit.broken"


@events.command
def tail(
    *,
    after: Opaque | None = None,
    kind: str | None = None,
    payout: str | None = None,
    all_: Annotated[bool, Parameter(name="--from-start", negative=())] = False,
    once: Annotated[bool, Parameter(negative=())] = False,
    caller: Caller = FROM_PROFILE,
) -> None:
    """Print events as they happen, until interrupted; with --json a line for each.

    Where a line names a cursor, --after goes on behind it.

    Parameters
    ----------
    after
        begin after this cursor.
    kind
        only of this kind.
    payout
        only about this payout.
    all_
        begin with the first event there ever was.
    once
        end where nothing new is there.
    """
    cursor = after
    if cursor is None and payout is None and not all_:
        cursor = _newest(caller)
    while True:
        page = caller.read(
            "/v1/events", after=cursor, limit=PAGE, kind=kind, payoutId=payout, wait=None if once else WAIT_S
        )
        cursor = page["cursor"] or cursor
        for number, each in enumerate(page["items"], start=1):
            is_last = number == len(page["items"])
            caller.tell_each({**each, **({"cursor": cursor} if is_last else {})}, _line(each))
        if once and page["isLast"]:
            return


def _newest(caller: Caller) -> str | None:
    """Return the cursor behind the newest event: a kind that hardly ever happens makes the steps long."""
    cursor: str | None = None
    while True:
        page = caller.read("/v1/events", after=cursor, limit=PAGE, kind=RARE)
        cursor = page["cursor"] or cursor
        if page["isLast"]:
            return cursor


def _line(event: dict[str, Any]) -> str:
    about = event["data"].get("transferRequest", event["data"])
    reason = about.get("reason") if isinstance(about, dict) else None
    told = [when(event["date"]), event["kind"], event["subject"], reason]
    return "  ".join(one_line(each) for each in told if each) + "\n"
