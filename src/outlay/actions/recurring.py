"""Recurring payouts: what is due is asked for like any payout, and what could not be asked for in time is told of.

What becomes of a date is written in the unit that decides it, so a crash leaves both or neither; and a date whose
``externalId`` some payout has is never asked for again.
"""

import functools
from collections.abc import Callable, Sequence
from datetime import UTC, date, timedelta
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from outlay.actions import present
from outlay.actions.admission import CAP, Admissions
from outlay.actions.admit import check_payable
from outlay.actions.change import change
from outlay.actions.judge import ADMISSION, Judgement, keep, open_approval
from outlay.actions.organization import is_applied
from outlay.actions.under_mandate import add_payment
from outlay.actions.work import Work
from outlay.config import Config
from outlay.core import ids
from outlay.core.asset import Asset
from outlay.core.calendar import local_time
from outlay.core.errors import InvalidInput, NotFound, Refused
from outlay.core.intent import Intent
from outlay.core.money import value_of
from outlay.core.policy import Facts, required_groups
from outlay.core.pool import Route
from outlay.core.price import Quote
from outlay.core.recurring import GOOD_FOR, Recurring, run_named
from outlay.core.seams import MINUTE, Instant
from outlay.core.transfer import Event
from outlay.core.velocity import countable
from outlay.evidence.recurring import run_intent
from outlay.store import audit, mandates, organizations, recurring, transfers, webhooks
from outlay.store.counters import Opening
from outlay.store.database import Row, Unit

RETRY: Instant = MINUTE
"""How long a run that nobody can pay now waits before it is tried again."""

RUNS_MAX = 50
"""Runs that are settled in one unit."""

NEXT_SHOWN = 5
"""Runs to come that are shown."""

LATE = "It could not be asked for in time: the server was not running, or admitted nothing."
ARCHIVED = "The mandate of this payment was archived."
RESTORED = (
    "The database was restored from an older copy: what became of it since is not known. Ask for it if it is owed."
)

QuoteOf = Callable[[Asset], Quote | None]


@functools.cache
def zone_named(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        InvalidInput: this server knows none of that name, or only this machine gives it its meaning.
    """
    try:
        if name not in _zone_names():
            raise ValueError(name)
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInput("is no time zone that this server knows, e.g. Europe/Berlin", field="timeZone") from error


@functools.cache
def _zone_names() -> frozenset[str]:
    """Return the names that mean the same on every machine."""
    return frozenset(files("tzdata").joinpath("zones").read_text("ascii").split()) - {"Factory"}


# Following calendars


def is_due(unit: Unit, config: Config, *, now: Instant, is_thorough: bool) -> bool:
    """Tell whether a unit that writes has anything to do.

    Args:
        unit: only read from.
        config: money settings that have to be the signed ones.
        now: the current instant.
        is_thorough: also look whether payouts wait for too long, or were restored.
    """
    if not _may_ask(unit, config):
        return False
    if recurring.to_follow(unit, now=now) or recurring.waiting(unit, now=now):
        return True
    return is_thorough and any(_why_withdrawn(unit, row, now) for row in recurring.unsigned(unit))


def _may_ask(unit: Unit, config: Config) -> bool:
    """Tell whether anything is admitted at all, see ``organization.require_applied``."""
    return is_applied(unit, config) and audit.why_broken(unit) is None


def run_due(work: Work, quote_of: QuoteOf, on_unknown_zone: Callable[[Recurring], None]) -> int:
    """Ask for what is due, or say why it was missed; return how many dates were settled or tried.

    Args:
        work: one unit for all of it.
        quote_of: gives the price of an asset, or None.
        on_unknown_zone: told of each mandate that has to wait because this machine does not know its time zone.
    """
    if not _may_ask(work.unit, work.config):
        return 0
    for row in recurring.unsigned(work.unit):
        why = _why_withdrawn(work.unit, row, work.now)
        if why is not None:
            _withdraw(work, row, why)
    done = 0
    for waiting in recurring.waiting(work.unit, now=work.now):
        found = mandates.find(work.unit, waiting.mandate_id)
        assert found is not None
        mandate, on = recurring.mandate_of(found), date.fromisoformat(waiting.on_date)
        if found.status == mandates.ACTIVE:
            _settle(work, mandate, on, waiting.due_at, quote_of)
        else:
            miss(work, mandate, on, waiting.due_at, ARCHIVED)
        done += 1
    for row in recurring.to_follow(work.unit, now=work.now):
        if done >= RUNS_MAX:
            break
        mandate = recurring.mandate_of(row)
        try:
            zone = zone_named(mandate.zone)
        except InvalidInput as error:
            # What one mandate lacks stops none of the others.
            _put_off(work, row, mandate, error.message)
            on_unknown_zone(mandate)
            done += 1
            continue
        done += _follow(work, row, mandate, zone, quote_of, RUNS_MAX - done)
    return done


def _put_off(work: Work, row: Row, mandate: Recurring, reason: str) -> None:
    """Keep due what is due of a mandate whose time zone is not known here, and look again later."""
    if row.next_on is not None and recurring.find(work.unit, mandate.id, row.next_on) is None:
        # Nothing was put off before, so this is the instant at which the date was found to be due.
        _wait(work, mandate, date.fromisoformat(row.next_on), row.next_at, reason)
    recurring.follow(work.unit, mandate.id, next_on=row.next_on, next_at=work.now + RETRY)


def _follow(work: Work, row: Row, mandate: Recurring, zone: ZoneInfo, quote_of: QuoteOf, limit: int) -> int:
    """Settle what is due of one mandate, ``limit`` dates at most, and note what is next; return how many it were."""
    since = local_time(row.created_at, zone).date() if row.next_on is None else date.fromisoformat(row.next_on)
    today = local_time(work.now, zone).date()
    done = 0
    for on in mandate.dates(since, today + timedelta(days=1)):
        due = mandate.calendar.instant(on, zone)
        if due <= row.created_at:
            continue  # it was due before people allowed it: nobody's to pay
        if due > work.now or done >= limit:
            recurring.follow(work.unit, mandate.id, next_on=on.isoformat(), next_at=due)
            return done
        _settle(work, mandate, on, due, quote_of)
        done += 1
    coming = mandate.next_date(max(since, today + timedelta(days=2)))
    next_at = None if coming is None else mandate.calendar.instant(coming, zone)
    recurring.follow(work.unit, mandate.id, next_on=None if coming is None else coming.isoformat(), next_at=next_at)
    return done


def _settle(work: Work, mandate: Recurring, on: date, due: Instant, quote_of: QuoteOf) -> None:
    """Ask for the run of a date, unless it was asked for before; say so if it cannot be, or not any more."""
    known = transfers.find_by_external_id(work.unit, mandate.external_id(on))
    if known is not None:
        _keep(work, mandate, on, due, recurring.MADE, transfer_id=known.id)
        return
    before = recurring.find(work.unit, mandate.id, on.isoformat())
    if before is not None and before.status != recurring.DUE:
        return  # settled while the mandate's time zone was not known here
    if work.now > due + mandate.catch_up * MINUTE:
        miss(work, mandate, on, due, LATE if before is None else f"It could not be asked for in time: {before.reason}")
        return
    try:
        zone_named(mandate.zone)
        row = _ask(work, mandate, on, quote_of)
    except Refused as refused:
        _wait(work, mandate, on, due, refused.message)
        return
    _keep(work, mandate, on, due, recurring.MADE, transfer_id=row.id)


def _wait(work: Work, mandate: Recurring, on: date, due: Instant, reason: str) -> None:
    """Write why the run of a date cannot be asked for now; it is tried again."""
    again = work.now + RETRY
    recurring.keep(
        work.unit, mandate.id, on.isoformat(), due_at=due, status=recurring.DUE, reason=reason, retry_at=again
    )


def _keep(work: Work, mandate: Recurring, on: date, due: Instant, status: str, **values: Any) -> Row:
    return recurring.keep(
        work.unit, mandate.id, on.isoformat(), due_at=due, status=status, settled_at=work.now, **values
    )


def miss(work: Work, mandate: Recurring, on: date, due: Instant, reason: str, *, payout: Row | None = None) -> None:
    """Write that the run of a date was missed, and tell of it."""
    transfer_id = None if payout is None else payout.id
    row = _keep(work, mandate, on, due, recurring.MISSED, reason=reason, transfer_id=transfer_id)
    webhooks.emit(
        work.unit,
        kind="mandate.run.missed",
        subject=mandate.id,
        data={"run": {**run_document(mandate, row, None), "name": mandate.name}},
        now=work.now,
        entropy=work.entropy,
    )


def _why_withdrawn(unit: Unit, row: Row, now: Instant) -> str | None:
    """Return why a payout that waits is taken back, or None."""
    if recurring.is_restored(row):
        return RESTORED
    named = run_named(row.external_id)
    run = None if named is None else recurring.find(unit, named[0], named[1].isoformat())
    found = mandates.find(unit, row.mandate_id)
    if run is None or found is None:
        return None
    mandate = recurring.mandate_of(found)
    is_late = now > run.due_at + mandate.catch_up * MINUTE + GOOD_FOR
    return "It waited for too long: the signer would not sign it any more." if is_late else None


def _withdraw(work: Work, row: Row, reason: str) -> None:
    """Take a payout back that waits; its run was missed."""
    found, named = mandates.find(work.unit, row.mandate_id), run_named(row.external_id)
    ended = change(work, row, Event.WITHDRAWN, reason=reason)
    if found is None or named is None:
        return
    mandate, on = recurring.mandate_of(found), named[1]
    run = recurring.find(work.unit, mandate.id, on.isoformat())
    due = mandate.latest_due(on) if run is None else run.due_at
    miss(work, mandate, on, due, reason, payout=ended)


# Asking


def _ask(work: Work, mandate: Recurring, on: date, quote_of: QuoteOf) -> Row:
    """Admit the run of a date as a payout is admitted: under the policies of now, and counted in their windows.

    Raises:
        Refused: it cannot be paid now, whatever policies say.
    """
    admissions = Admissions(work)
    intent, payers, columns = _read(work, admissions, mandate, on)
    asset = check_payable(admissions, work.config, intent, payers)
    quote = quote_of(asset)
    value = None if quote is None else value_of(mandate.amount, decimals=asset.decimals, price=quote.price)
    opening = Opening(
        transfer_id=ids.new_id(ids.TRANSFER, work.entropy),
        wallet_id=payers[0].id,
        recipient=intent.recipient,
        initiator_id=mandate.id,
        value=countable(value),
    )
    admissions.expect_counters([(payers, opening)])
    facts = Facts(
        value=value,
        recipient=intent.recipient,
        price=None if quote is None else format(quote.price, "f"),
        price_source=None if quote is None else quote.source,
        price_at=None if quote is None else quote.at,
        network=intent.network,
        tid=asset.tid,
        amount=mandate.amount,
    )
    judgement = admissions.judge(payers, facts, opening)
    row = add_payment(
        work,
        id=opening.transfer_id,
        mandate_id=mandate.id,
        wallet_id=payers[0].id,
        intent=intent.document(),
        quote=quote,
        decimals=asset.decimals,
        policy_set=admissions.policy_set,
        requested_at=work.now,
        **columns,
    )
    webhooks.emit(
        work.unit,
        kind="wallet.transfer.requested",
        subject=row.id,
        data={"transferRequest": present.transfer(row, work.config)},
        now=work.now,
        entropy=work.entropy,
    )
    keep(work, judgement, row, moment=ADMISSION)
    admissions.count(judgement, opening)
    admissions.write_counters()
    return _apply(work, row, judgement)


def _read(
    work: Work, admissions: Admissions, mandate: Recurring, on: date
) -> tuple[Intent, Sequence[Row], dict[str, Any]]:
    """Return what is to be paid, the wallets that may pay it, and what a pool's payout has beside."""
    config, org = work.config, organizations.get(work.unit).id
    if config.network(mandate.network) is None:
        raise InvalidInput(f"network {mandate.network} is not configured on this server", field="network")
    if mandate.pool_id is None:
        wallet = admissions.wallet(mandate.wallet_id or "")
        if wallet is None:
            raise NotFound("no such wallet")
        return run_intent(mandate, on, org=org, chain_id=wallet.chain_id), [wallet], {}
    pool = admissions.payers.pool(mandate.pool_id)
    intent = run_intent(mandate, on, org=org, chain_id=pool.chain_id)
    payers = admissions.payers.of(mandate.pool_id, asset=mandate.asset, amount=mandate.amount)
    columns = {"pool_id": mandate.pool_id, "pool_seq": admissions.payers.seq, "route": Route.QUEUE}
    return intent, payers, columns


def _apply(work: Work, row: Row, judgement: Judgement) -> Row:
    """Carry out what the policies said."""
    said = judgement.verdict
    detail = {"reasons": list(said.reasons)} if said.reasons else None
    if said.kind == "block":
        reason = " ".join(said.reasons)
        return change(work, row, Event.BLOCKED, detail=detail, reason=reason, resolved_at=work.now)
    if said.kind == "allow":
        return change(work, row, Event.ALLOWED, resolved_at=work.now, ready_at=work.now)
    if said.kind == "wait":
        assert said.wait is not None
        until = work.now + said.wait * MINUTE
        return change(work, row, Event.HELD, detail=detail, waiting_reason=CAP, wait_until=until)
    held = change(work, row, Event.HELD, detail=detail)
    open_approval(work, held, required_groups(judgement.holding), judgement.holding)
    return held


# How it is shown


def run_document(mandate: Recurring, run: Row, payout_state: str | None) -> dict[str, Any]:
    """Return a run as it is answered."""
    return present.only_given(
        **_when(mandate, date.fromisoformat(run.on_date), run.due_at),
        mandateId=mandate.id,
        status=run.status,
        reason=run.reason,
        payoutId=run.transfer_id,
        payoutState=payout_state,
        dateResolved=present.when(run.settled_at),
    )


def _when(mandate: Recurring, on: date, due: Instant) -> dict[str, Any]:
    """Return a date with its instant, as the zone's clocks show it (if this machine knows them) and in UTC."""
    zone = _zone_if_known(mandate)
    return {
        "date": on.isoformat(),
        "local": local_time(due, UTC if zone is None else zone).isoformat(timespec="seconds"),
        "timeZone": mandate.zone,
        "dateDue": present.when(due),
    }


def _zone_if_known(mandate: Recurring) -> ZoneInfo | None:
    try:
        return zone_named(mandate.zone)
    except InvalidInput:
        return None


def next_runs(mandate: Recurring, *, now: Instant, count: int = NEXT_SHOWN) -> list[dict[str, Any]]:
    """Return the runs to come, the soonest first, at most ``count``; none where their instants are not known here."""
    zone = _zone_if_known(mandate)
    if zone is None:
        return []
    on: date | None = local_time(now, zone).date() - timedelta(days=1)
    found: list[dict[str, Any]] = []
    while len(found) < count and on is not None:
        on = mandate.next_date(on)
        if on is not None:
            due = mandate.calendar.instant(on, zone)
            if due > now:
                found.append(_when(mandate, on, due))
            on += timedelta(days=1)
    return found


def runs(
    unit: Unit, mandate_id: str, *, status: str | None, limit: int | None, token: str | None, now: Instant
) -> dict[str, Any]:
    """Return one page of a mandate's runs, newest first, and those to come.

    Raises:
        NotFound: there is no such mandate. InvalidInput: it has no calendar.
    """
    row = mandates.find(unit, mandate_id)
    if row is None:
        raise NotFound("no such mandate")
    if not mandate_id.startswith(f"{ids.SCHEDULE}-"):
        raise NotFound("this mandate fills wallets: it has no calendar")
    mandate = recurring.mandate_of(row)
    found, after = recurring.runs_page(unit, mandate_id, status=status, limit=limit, token=token)
    coming = next_runs(mandate, now=now) if row.status == mandates.ACTIVE else []
    return present.only_given(
        items=[run_document(mandate, each, each.payout_state) for each in found], next=coming, nextPageToken=after
    )
