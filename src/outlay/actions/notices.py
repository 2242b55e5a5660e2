"""What people are told, and who: approvals that wait for them, and what an operator has to look at now."""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outlay.actions.judge import people
from outlay.actions.present_changes import NAMES
from outlay.config import Config
from outlay.core.address import checksum
from outlay.core.approval import Person, refusal
from outlay.core.event import EVENT_KINDS, iso
from outlay.core.message import Message, is_address, plain, title
from outlay.core.money import format_units, format_value
from outlay.core.seams import SECOND, Instant
from outlay.evidence.demand import VOTE
from outlay.evidence.words import words
from outlay.store import approvals, changes, mandates, notify, permissions, pools, transfers, users, wallets
from outlay.store.database import Row, Unit
from outlay.store.notify import APPROVAL, CHAT, MAIL, STORM, Draft

CHANGE = "change.requested"

PAGES: Mapping[str, str] = {
    "audit.broken": "operate/alerts/audit-broken.md",
    "payout.delayed": "operate/alerts/payout-delayed.md",
    "payout.effect_mismatch": "operate/frozen-wallet.md",
    "wallet.frozen": "operate/alerts/wallet-frozen.md",
    "wallet.stuck": "operate/stuck-payout.md",
    "wallet.balance.low": "operate/alerts/wallet-low.md",
    "price.stale": "operate/alerts/price-stale.md",
    "mandate.run.missed": "how-to/recurring-payouts.md",
    "reconciliation.difference": "operate/alerts/reconciliation-difference.md",
    "webhook.disabled": "operate/alerts/webhook-disabled.md",
}
"""Events that an operator has to look at now, with the page of docs that says what to do."""

TOLD = frozenset({APPROVAL, CHANGE, *PAGES})
EVENTS_MAX = 200
"""Events looked at in one step."""
REMINDED_MAX = 200
"""Approvals that wait that are looked at in one step."""
EACH_MAX = 50
"""Approvals that one caller's payouts wait for that are told of one by one; of more of them one message tells."""

_LISTED_MAX = 20
_LATE: Instant = 10 * SECOND
"""How much earlier than it can be seen something may say that it was written."""

_FACTS_MAX = 60
_PAGE_TEXT_MAX = 4000
_BODY_MAX = 2000
_HIDDEN = ("url", "secret", "token", "signature", "password", "credential", "publickey", "privatekey")
"""Members of an event that are not told: who may read the mail may not use the endpoint."""

_LINK = re.compile(r"(https?://[^\s/?#@]+)[^\s]*")


def approvals_at(config: Config) -> str:
    """Return the address of the page on which people decide."""
    return f"{config.server.decided_at}/dashboard/approvals"


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What is to be told, and how far the events were looked at."""

    drafts: Sequence[Draft]
    seq: int  #: up to this event
    is_all: bool  #: there is no newer one yet
    reminded: str | None = None  #: up to this approval those that wait were looked at; None: to the last


@dataclass(frozen=True, slots=True, kw_only=True)
class _Desk:
    """What the messages of one step are written with."""

    unit: Unit
    config: Config
    people: Mapping[str, Person]
    voters: Collection[str]  #: people with the permission to vote
    names: Mapping[str, str]  #: username by user id

    def link(self, approval_id: str) -> str:
        """Return where an approval is decided about."""
        return f"{approvals_at(self.config)}/{approval_id}"

    def name(self, user_id: str) -> str:
        """Return who that is."""
        return f"{plain(self.called(user_id) or 'somebody who is not known')} ({user_id})"

    def called(self, user_id: str) -> str | None:
        """Return what people call somebody, or the mandate under which nobody asked."""
        if user_id in self.names:
            return self.names[user_id]
        found = mandates.find(self.unit, user_id)
        return None if found is None else f"mandate {found.document['name']}"


def news(unit: Unit, config: Config, *, after: int, now: Instant, remind: str | None) -> News:
    """Return what happened after event ``after`` that people have to be told.

    Args:
        unit: only read from.
        config: names the places.
        after: number of the newest event that was looked at.
        now: the current instant.
        remind: also look at ``REMINDED_MAX`` approvals that wait, those beyond this id, and tell of those that nobody
            was told of for so long as ``remind_every_s`` says, or ever; None: do not.
    """
    newest = notify.newest(unit)
    rows = notify.events(unit, after=after, until=newest, kinds=TOLD, limit=EVENTS_MAX)
    is_all = len(rows) < EVENTS_MAX
    seq = newest if is_all else rows[-1].seq
    reminds = remind is not None and is_all
    if not rows and not reminds:
        return News(drafts=(), seq=seq, is_all=is_all, reminded=remind)
    everyone = users.everyone(unit)
    known = people(unit)
    desk = _Desk(
        unit=unit,
        config=config,
        people=known,
        voters=[
            each
            for each, person in known.items()
            if not person.is_service_account and VOTE in permissions.operations_of(unit, each)
        ],
        names={row.id: row.username for row in everyone if row.deleted_at is None},
    )
    asks = reminds or any(row.kind == APPROVAL for row in rows)
    crowds = approvals.crowds(unit, more_than=EACH_MAX) if asks else []
    crowded = {row.initiator_id for row in crowds}
    drafts: list[Draft] = []
    told: set[str] = set()
    for row in rows:
        if row.kind == APPROVAL:
            # An approval asked for twice in these events is told as it stands now, once.
            if row.subject not in told:
                found = approvals.find(unit, row.subject)
                if found is None or found.change_id is not None or found.initiator_id not in crowded:
                    drafts += _ask(desk, found, reminds=False)
            told.add(row.subject)
        elif row.kind == CHANGE:
            drafts += _change_asked(desk, row)
        else:
            drafts += _page(desk, row)
    if not reminds:
        return News(drafts=drafts, seq=seq, is_all=is_all, reminded=remind)
    page = approvals.pending_page(unit, after=remind or "", limit=REMINDED_MAX, without=crowded)
    late = list(_reminders(desk, page, told, now))
    if not remind:
        late += _storms(desk, crowds, now)
    reminded = page[-1].id if len(page) == REMINDED_MAX else None
    return News(drafts=[*drafts, *notify.without_waiting(unit, late)], seq=seq, is_all=is_all, reminded=reminded)


def _reminders(desk: _Desk, page: Sequence[Row], told: set[str], now: Instant) -> Iterator[Draft]:
    last = notify.last_told(desk.unit, APPROVAL, [row.id for row in page])
    every = desk.config.notify.remind_every_s * SECOND
    for row in page:
        before = last.get(row.id)
        if row.id not in told and (before is None or (every and now - before >= every)):
            yield from _ask(desk, row, reminds=before is not None)


def _storms(desk: _Desk, crowds: Sequence[Row], now: Instant) -> Iterator[Draft]:
    """Tell of callers more of whose payouts wait than anybody reads one by one, when more came or it is time again."""
    last = notify.last_told(desk.unit, STORM, [row.initiator_id for row in crowds])
    every = desk.config.notify.remind_every_s * SECOND
    for row in crowds:
        before = last.get(row.initiator_id)
        if before is None or row.newest > before - _LATE or (every and now - before >= every):
            yield from _storm(desk, row)


def _storm(desk: _Desk, crowd: Row) -> Iterator[Draft]:
    """Ask everybody who can decide about some of a caller's payouts."""
    oldest, asked = approvals.crowd(desk.unit, crowd.initiator_id, limit=_LISTED_MAX)
    voters = sorted({each for row in asked for each in _voters(desk, row)})
    lines = []
    for row in oldest:
        paid = transfers.get(desk.unit, row.transfer_id)
        lines += [f"{amount_of(desk.config, paid)} to {checksum(paid.recipient)}", f"  {desk.link(row.id)}"]
    where = approvals_at(desk.config)
    text = "\n".join(
        [
            f"They are too many to be told of one by one. Asked for by {desk.name(crowd.initiator_id)}.",
            "If that was not meant to be, deactivate the caller first.",
            "",
            "The oldest:",
            *lines,
            "",
            f"All of them: {where}",
        ]
    )
    name = plain(desk.called(crowd.initiator_id) or crowd.initiator_id)
    message = Message(title(f"{crowd.number} payouts of {name} wait for approval"), text)
    yield from _deliver(desk, STORM, crowd.initiator_id, message, voters if desk.config.notify.mail_approvers else [])


# Approvals


def _ask(desk: _Desk, row: Row | None, *, reminds: bool) -> Iterator[Draft]:
    """Ask those who can decide about an approval, if it still waits."""
    if row is None or row.status != "Pending":
        return
    voters = _voters(desk, row)
    message = _about_payout(desk, row) if row.change_id is None else _about_change(desk, row)
    if reminds:
        message = Message(title(f"Still waiting: {message.title}"), message.text)
    if not voters:
        text = f"NOBODY CAN DECIDE THIS NOW: fill the groups that are asked.\n\n{message.text}"
        message = Message(title(f"Nobody can decide: {message.title}"), text)
    named = voters if desk.config.notify.mail_approvers else []
    yield from _deliver(desk, APPROVAL, row.id, message, named)


def _deliver(desk: _Desk, kind: str, about: str, message: Message, user_ids: Sequence[str]) -> Iterator[Draft]:
    return addressed(desk.config, desk.names, kind=kind, about=about, message=message, user_ids=user_ids)


def addressed(
    config: Config, names: Mapping[str, str], *, kind: str, about: str, message: Message, user_ids: Sequence[str]
) -> Iterator[Draft]:
    """Address a message to people, or to the operators where none of them has an address; and to the chat."""
    settings = config.notify
    if settings.smtp_host:
        places = [names[each] for each in user_ids if is_address(names.get(each, ""))]
        for place in dict.fromkeys(places or settings.mail_to):
            yield Draft(channel=MAIL, place=place, kind=kind, about=about, message=message)
    if settings.chat_url_file:
        yield Draft(channel=CHAT, place=CHAT, kind=kind, about=about, message=message)


def _voters(desk: _Desk, row: Row) -> list[str]:
    """Return the people who may vote, whose approval would count, and who have not decided yet."""
    decided = {
        each.user_id
        for each in approvals.decisions(desk.unit, row.id)
        if each.groups_digest == row.groups_digest and users.is_in_use(desk.unit, each.credential_id)
    }
    return sorted(
        user_id
        for user_id in desk.voters
        if refusal(row.groups, user_id, "Approved", people=desk.people, initiator_id=row.initiator_id, decided=decided)
        is None
    )


def _about_payout(desk: _Desk, row: Row) -> Message:
    paid = transfers.get(desk.unit, row.transfer_id)
    what = amount_of(desk.config, paid)
    held = [plain(each.reason) for each in transfers.evaluations(desk.unit, paid.id) if each.triggered and each.reason]
    facts = [
        ("Pay", what),
        ("To", checksum(paid.recipient)),
        ("On", plain(paid.network)),
        ("Paid by", payer_of(desk.unit, paid)),
        ("Worth", "unknown" if paid.value is None else f"about {format_value(paid.value)} USD when it was asked for"),
        ("Asked by", desk.name(paid.initiator_id)),
        ("Asked at", iso(paid.requested_at)),
        ("externalId", plain(paid.external_id or "none")),
        ("Batch", paid.batch_id),
        ("Memo", plain(paid.intent.get("memo") or "") or None),
        *(("Held because", each) for each in dict.fromkeys(held)),
        *_asked(desk, row),
        ("Words", words(paid.intent_digest)),
    ]
    return Message(title(f"{what} waits for approval"), _text(desk, row.id, facts))


def amount_of(config: Config, paid: Row) -> str:
    """Return what a transfer pays, as people write it."""
    asset = config.find_asset(paid.network, paid.asset)
    if asset is None:
        return f"{paid.amount} base units of {paid.asset}"
    return f"{format_units(paid.amount, asset.decimals)} {plain(asset.symbol)}"


def payer_of(unit: Unit, paid: Row) -> str:
    """Return which wallet or pool a transfer is paid by, with its name."""
    if paid.pool_id is not None:
        pool = pools.find(unit, paid.pool_id)
        return f"pool {paid.pool_id}" + ("" if pool is None else f" ({plain(pool.name)})")
    wallet = wallets.find(unit, paid.wallet_id)
    name = None if wallet is None else wallet.name
    return f"wallet {paid.wallet_id}" + (f" ({plain(name)})" if name else "")


def _asked(desk: _Desk, row: Row) -> Iterator[tuple[str, str]]:
    for group in row.groups:
        name = plain(group.get("name") or group["policyId"])
        yield "Asks", f"{group['quorum']} of group {name}"
    if row.expires_at is not None:
        yield "Until", f"{iso(row.expires_at)}, then it is rejected"


def _about_change(desk: _Desk, row: Row) -> Message:
    change = changes.get(desk.unit, row.change_id)
    content = json.loads(change.content)
    kind, operation, _ = NAMES[change.record_kind]
    facts = [
        ("Change", f"{operation} {kind}"),
        ("Of", plain(change.subject)),
        ("Asked by", desk.name(change.requester_id)),
        ("Asked at", iso(change.created_at)),
        ("Loosens", "yes: it waits once more after the quorum" if change.loosens else "no"),
        ("Before", short(content["before"])),
        ("After", short(content["after"])),
        *_asked(desk, row),
        ("Words", words(change.digest)),
    ]
    return Message(title(f"A change waits for approval: {operation} {kind}"), _text(desk, row.id, facts))


def short(value: Any) -> str:
    """Return a document on one line, cut where it is long."""
    text = json.dumps(value, ensure_ascii=True, sort_keys=True)
    rest = "" if len(text) <= _BODY_MAX else " ... (cut: see the rest under the link)"
    return plain(text[:_BODY_MAX]) + rest


def _text(desk: _Desk, approval_id: str, facts: Sequence[tuple[str, str | None]]) -> str:
    lines = [f"{name:<13} {value}" for name, value in facts if value is not None]
    show = f"outlay approvals show {approval_id} --url {desk.config.server.public_url.rstrip('/')}"
    return "\n".join(
        [
            *lines,
            "",
            desk.link(approval_id),
            "",
            "Decide only if whatever you sign with shows the same words, and you know the recipient and the amount.",
            f"The words from the content itself: {show}",
        ]
    )


def _change_asked(desk: _Desk, row: Row) -> Iterator[Draft]:
    """Tell every admin of a change that waits; those who can decide about it are asked in another message."""
    change = changes.find(desk.unit, row.data["changeRequest"]["id"])
    if change is None or change.status != changes.PENDING:
        return
    waits = changes.approval_of(desk.unit, change.id)
    asked = _voters(desk, waits)
    admins = [each["userId"] for each in row.data["admins"] if each["userId"] not in asked]
    if not desk.config.notify.mail_approvers or not desk.config.notify.smtp_host:
        return  # the operators and the chat are asked already
    message = _about_change(desk, waits)
    told = Message(title(f"For your information: {message.title}"), message.text)
    for place in dict.fromkeys(desk.names.get(each, "") for each in admins):
        if is_address(place):
            yield Draft(channel=MAIL, place=place, kind=CHANGE, about=change.id, message=told)


# Pages


def _page(desk: _Desk, row: Row) -> Iterator[Draft]:
    """Tell the operators what has to be looked at."""
    facts = list(_facts(row.data))
    shown = "\n".join(facts[:_FACTS_MAX])[:_PAGE_TEXT_MAX]
    text = "\n".join(
        [
            EVENT_KINDS[row.kind],
            "",
            f"about: {plain(row.subject)}",
            f"at: {iso(row.at)}",
            f"event: {row.id}",
            shown,
            "",
            f"What to do: docs/{PAGES[row.kind]}",
        ]
    )
    message = Message(title(f"{row.kind}: {plain(row.subject)}"), text)
    yield from _deliver(desk, row.kind, row.subject, message, [])


def _facts(value: Any, path: str = "") -> Iterator[str]:
    """Yield a line for each member of an event's data, without those that open something."""
    if isinstance(value, Mapping):
        for name, member in value.items():
            if not any(hidden in str(name).lower() for hidden in _HIDDEN):
                yield from _facts(member, f"{path}.{plain(name)}" if path else plain(name))
    elif isinstance(value, list):
        for at, member in enumerate(value):
            yield from _facts(member, f"{path}[{at}]")
    elif value is not None:
        # Of a URL its host is told: what follows may be what the endpoint knows its caller by.
        yield f"{path}: " + plain(_LINK.sub(r"\1/...", str(value)))
