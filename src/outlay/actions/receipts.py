"""Receipts: whoever decided is told what exactly they have signed for, by another way than the page they signed on.

A page that showed one payout and had another signed cannot take the message back: it is written in the unit that keeps
the decision, from what is stored, and names the payout and its words.
"""

import json
from collections.abc import Sequence

from outlay.actions.act import Act
from outlay.actions.notices import addressed, amount_of, approvals_at, payer_of, short
from outlay.actions.present_changes import NAMES
from outlay.core.address import checksum
from outlay.core.message import Message, plain, title
from outlay.evidence.words import words
from outlay.store import changes, notify, transfers
from outlay.store.database import Row

RECEIPT = "approval.decided"
"""Kind of the message."""

Fact = tuple[str, str | None]


def receipt_of(act: Act, approval: Row, *, value: str, reason: str | None) -> None:
    """Have a person told which payout or change they have decided about."""
    if approval.change_id is None:
        paid = transfers.get(act.unit, approval.transfer_id)
        what = f"{amount_of(act.config, paid)} to {checksum(paid.recipient)}"
        facts = [
            ("Pay", amount_of(act.config, paid)),
            ("To", checksum(paid.recipient)),
            ("On", plain(paid.network)),
            ("Paid by", payer_of(act.unit, paid)),
            ("externalId", plain(paid.external_id or "none")),
            ("Memo", plain(paid.intent.get("memo") or "") or None),
            ("Words", words(paid.intent_digest)),
        ]
    else:
        change = changes.get(act.unit, approval.change_id)
        content = json.loads(change.content)
        kind, operation, _ = NAMES[change.record_kind]
        what = f"{operation} {kind} {plain(change.subject)}"
        facts = [
            ("Change", f"{operation} {kind}"),
            ("Of", plain(change.subject)),
            ("Before", short(content["before"])),
            ("After", short(content["after"])),
            ("Words", words(change.digest)),
        ]
    _tell(act, approval.id, what, facts, value=value, reason=reason)


def receipt_of_batch(
    act: Act, batch_id: str, name: str, *, waiting: int, digest: str, value: str, reason: str | None
) -> None:
    """Have a person told which batch they have decided about, as far as its payouts waited for them."""
    facts = [("Batch", batch_id), ("Name", plain(name)), ("Payouts", str(waiting)), ("Words", words(digest))]
    _tell(act, batch_id, f"{waiting} payouts of batch {plain(name)}", facts, value=value, reason=reason)


def _tell(act: Act, about: str, what: str, facts: Sequence[Fact], *, value: str, reason: str | None) -> None:
    if not act.config.notify.is_on:
        return
    done, who = value.lower(), plain(act.caller.username)
    lines = [f"{name:<13} {fact}" for name, fact in [*facts, ("Reason", plain(reason or "") or None)] if fact]
    text = "\n".join(
        [
            f"{who} has {done} this, with key {act.credential.uuid}:",
            "",
            *lines,
            "",
            f"{approvals_at(act.config)}/{about}",
            "",
            "If that is not what you saw when you signed, or you signed nothing: freeze at once (outlay freeze) and"
            " have your key withdrawn. The page you signed on lies, or somebody else has your key.",
        ]
    )
    message = Message(title(f"{who} {done}: {what}"), text)
    named = [act.caller.user_id] if act.config.notify.mail_approvers else []
    names = {act.caller.user_id: act.caller.username}
    drafts = list(addressed(act.config, names, kind=RECEIPT, about=about, message=message, user_ids=named))
    notify.add(act.unit, drafts, now=act.now)
