"""``outlay schedules``: payouts that recur, under a mandate that people sign once."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from outlay.cli.output import WrongUsage, Yes, facts, said, table, units, when
from outlay.cli.payouts import in_base_units, listed
from outlay.cli.profile import FROM_PROFILE, Caller, path_of
from outlay.core.address import checksum, parse_address
from outlay.core.calendar import WEEKDAYS
from outlay.core.money import parse_amount
from outlay.core.recurring import RECURRING, parse_recurring

schedules = App(name="schedules")

_UNSIGNED = "sc-aaaaa-aaaaa-aaaaaaaaaaaaaaaa"
"""Stands for the id that the server is going to give."""


@schedules.command(name="list")
def list_schedules(
    *,
    archived: Annotated[bool, Parameter(negative=())] = False,
    limit: int = 100,
    caller: Caller = FROM_PROFILE,
) -> None:
    """List recurring payouts, the newest first.

    Parameters
    ----------
    archived
        also those that are over.
    limit
        how many at most.
    """
    status = None if archived else "Active"
    found = list(caller.items("/v1/mandates", limit=limit, kind=RECURRING, status=status))
    settings = caller.read("/v1/config")["moneySettings"] if found else {}
    columns = ("schedule", "name", "pays", "to", "when", "status")
    rows = (
        (each["id"], each["name"], _pays(each, settings), checksum(each["recipient"]), _calendar(each), each["status"])
        for each in found
    )
    caller.tell({"items": found}, lambda: table(columns, rows, nothing="no recurring payouts"))


@schedules.command
def show(schedule: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Print a recurring payout and its next five dates.

    Parameters
    ----------
    schedule
        id of the recurring payout.
    """
    found = caller.read(path_of("v1", "mandates", schedule))
    settings = caller.read("/v1/config")["moneySettings"]
    caller.tell(found, lambda: _told(found, settings) + "\n" + _coming(found["next"]))


@schedules.command
def runs(
    schedule: str,
    /,
    *,
    status: Literal["Due", "Made", "Missed"] | None = None,
    limit: int = 50,
    caller: Caller = FROM_PROFILE,
) -> None:
    """List what became of each date, the newest first, and why one was missed.

    Parameters
    ----------
    schedule
        id of the recurring payout.
    status
        only those.
    limit
        how many at most.
    """
    path = path_of("v1", "mandates", schedule, "runs")
    found = list(caller.items(path, limit=limit, status=status))
    coming = caller.read(path, limit=1)["next"]
    columns = ("date", "due", "status", "payout", "reason")
    rows = (
        (each["date"], when(each["dateDue"]), _state(each), each.get("payoutId"), each.get("reason")) for each in found
    )
    caller.tell(
        {"items": found, "next": coming},
        lambda: table(columns, rows, nothing="nothing was due yet") + "\n" + _coming(coming),
    )


@schedules.command
def create(
    *,
    name: str,
    recipient: str,
    asset: str,
    every: Literal["day", "week", "month"],
    at: str,
    time_zone: str,
    first: Annotated[str, Parameter(name="--from")],
    amount: str | None = None,
    base_units: str | None = None,
    wallet: str | None = None,
    pool: str | None = None,
    days: str | None = None,
    day: str | None = None,
    adjust: Literal["none", "next", "previous"] = "none",
    leave_out: str | None = None,
    until: str | None = None,
    runs_max: int | None = None,
    catch_up: int = 720,
    memo: str | None = None,
    yes: Yes = False,
    caller: Caller = FROM_PROFILE,
) -> None:
    """Allow a payout to be made again and again, after showing it.

    Each run is judged by the policies of its day, as if somebody had asked for it then.

    Parameters
    ----------
    name
        what people call it.
    recipient
        address to pay.
    asset
        symbol of a listed asset, native, or a token's contract.
    every
        how often.
    at
        time of day, e.g. 09:00.
    time_zone
        whose clocks show that time, e.g. Europe/Berlin.
    first
        no run is before this date, e.g. 2030-01-31.
    amount
        of each run, as people write it, e.g. 12.50.
    base_units
        instead of --amount: in the asset's smallest unit.
    wallet
        id of the wallet that pays; or
    pool
        a pool, one of whose wallets pays.
    days
        of a week, e.g. Monday,Thursday.
    day
        of a month, 1 to 31 or last; a shorter month has it on its last day.
    adjust
        where a run goes whose date is a weekend or left out: it stays (or is left out), or moves to a weekday.
    leave_out
        dates without a run, e.g. 2030-12-25,2030-12-26.
    until
        no run is after this date.
    runs_max
        so many dates at most; those that are missed count.
    catch_up
        minutes after which a run that could not be asked for is missed.
    memo
        what people should read beside each.
    """
    if (wallet is None) == (pool is None):
        raise WrongUsage("name the wallet that pays, or the pool", field="wallet")
    if (amount is None) == (base_units is None):
        raise WrongUsage("give --amount, or --base-units", field="amount")
    calendar: dict[str, Any] = {"every": every, "at": at, "adjust": adjust, "leaveOut": _list(leave_out)}
    if days is not None:
        calendar["days"] = _list(days)
    if day is not None:
        calendar["day"] = int(day) if day.isascii() and day.isdigit() else day
    caller.expect_key()
    network = caller.read(path_of("wallets", wallet) if wallet else path_of("v1", "pools", str(pool)))["network"]
    settings = caller.read("/v1/config")["moneySettings"]
    about = listed(settings, network, asset)
    exact = parse_amount(base_units, field="base-units") if base_units else in_base_units(str(amount), about, asset)
    wanted = {
        "name": name,
        "kind": RECURRING,
        "network": network,
        "asset": about.get("contract") or asset,
        "amount": str(exact),
        "recipient": parse_address(recipient, field="recipient"),
        "memo": memo or "",
        "walletId": wallet,
        "poolId": pool,
        "calendar": calendar,
        "timeZone": time_zone,
        "from": first,
        "until": until,
        "runsMax": runs_max,
        "missed": {"catchUpMinutes": catch_up},
    }
    # Read here as the server reads it: what is wrong is said before anybody is asked.
    wanted = parse_recurring(wanted, id=_UNSIGNED).document()
    caller.note(_told(wanted, settings) + "\n")
    caller.confirm("Allow this?", yes=yes)
    made = caller.write("POST", "/v1/mandates", wanted)
    caller.tell(made, lambda: said(made, f"created {made.get('id')}"))


@schedules.command
def archive(schedule: str, /, *, yes: Yes = False, caller: Caller = FROM_PROFILE) -> None:
    """End a recurring payout: what waits under it is withdrawn, what was signed goes on.

    Parameters
    ----------
    schedule
        id of the recurring payout.
    """
    caller.confirm(f"Archive {schedule}?", yes=yes)
    made = caller.write("POST", path_of("v1", "mandates", schedule, "archive"))
    caller.tell(made, said(made, f"{schedule} is archived"))


def _list(text: str | None) -> list[str]:
    return [] if text is None else [each.strip() for each in text.split(",") if each.strip()]


def _pays(schedule: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    about = listed(settings, schedule["network"], schedule["asset"])
    return units(schedule["amount"], about.get("decimals"), about.get("symbol"))


def _calendar(schedule: Mapping[str, Any]) -> str:
    """Return a calendar in words."""
    calendar = schedule["calendar"]
    day = calendar.get("day")
    which = {
        "day": "each day",
        "week": "each " + ", ".join(calendar.get("days", WEEKDAYS)),
        "month": "the last day of each month" if day == "last" else f"day {day} of each month",
    }[calendar["every"]]
    moved = {"none": "", "next": ", or the next weekday", "previous": ", or the weekday before"}[calendar["adjust"]]
    return f"{which}{moved} at {calendar['at']} {schedule['timeZone']}"


def _told(schedule: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    payer = f"wallet {schedule['walletId']}" if "walletId" in schedule else f"pool {schedule['poolId']}"
    return facts(
        [
            ("schedule", schedule.get("id")),
            ("name", schedule["name"]),
            ("status", schedule.get("status")),
            ("pays", _pays(schedule, settings)),
            ("which is", f"{int(schedule['amount']):,} base units of {schedule['asset']}"),
            ("to", checksum(schedule["recipient"])),
            ("on", schedule["network"]),
            ("from", payer),
            ("memo", schedule["memo"] or None),
            ("when", _calendar(schedule)),
            ("leaves out", ", ".join(schedule["calendar"]["leaveOut"]) or None),
            ("first", schedule["from"]),
            ("last", schedule.get("until")),
            ("dates at most", schedule.get("runsMax")),
            ("missed after", f"{schedule['missed']['catchUpMinutes']} minutes"),
            ("created", when(schedule.get("dateCreated"))),
            ("archived", when(schedule.get("dateArchived"))),
        ]
    )


def _coming(coming: list[dict[str, Any]]) -> str:
    rows = ((each["date"], each["local"], when(each["dateDue"])) for each in coming)
    return table(("next", "there", "due"), rows, nothing="nothing is due any more")


def _state(run: Mapping[str, Any]) -> str:
    return f"{run['status']}: {run['payoutState']}" if "payoutState" in run else str(run["status"])
