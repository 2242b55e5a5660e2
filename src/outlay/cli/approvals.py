"""``outlay approvals``: what an approval is about, with its words worked out here and not by the server."""

import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cyclopts import App

from outlay.cli.payouts import TokenFile, Url
from outlay.core.address import checksum
from outlay.core.asset import NATIVE
from outlay.core.errors import InvariantBroken, NotFound
from outlay.core.intent import Intent, read_intent
from outlay.core.message import plain
from outlay.core.money import format_units
from outlay.evidence import record as records
from outlay.evidence.canonical import canonical, digest
from outlay.evidence.words import words_of_change, words_of_payout

KINDS = (
    records.POLICY_CREATED,
    records.POLICY_UPDATED,
    records.POLICY_ARCHIVED,
    records.PERMISSION_UPDATED,
    records.PERMISSION_ARCHIVED,
    records.PERMISSION_ASSIGNED,
    records.PERMISSION_REVOKED,
    records.USER_ACTIVATED,
    records.CREDENTIAL_ACTIVATED,
    records.WALLET_CREATED,
    records.WALLET_TAGS_MODIFIED,
    records.CONFIG_APPLIED,
    records.WALLET_UNFROZEN,
    records.MANDATE_CREATED,
    records.ASSET_UNFROZEN,
    records.NETWORK_UNFROZEN,
    records.STOP_LIFTED,
    records.SIGNER_RESEEDED,
)
"""What a change that waits for people can be."""

approvals = App(name="approvals", help="What people are asked about.")


@approvals.command
def show(approval: str, /, *, url: Url, token_file: TokenFile) -> None:
    """Print what an approval is about, whole, and the words that stand for it.

    The words are worked out from the content that is printed. Where the message that asked you, or whatever you sign
    with, shows other words, it is about something else: do not sign.

    Parameters
    ----------
    approval
        id of the approval.
    """
    from outlay.client import call

    token = token_file.read_text().strip()

    def read(path: str) -> dict[str, Any]:
        return call(url, "GET", path, token=token)

    asked = read(f"/v2/policy-approvals/{quote(approval, safe='')}")
    org = str(read("/v1/records")["orgId"])
    activity = asked["activity"]
    if "transferRequest" in activity:
        paid = read(f"/v1/payouts/{quote(activity['transferRequest']['id'], safe='')}")
        networks = read("/v1/config")["moneySettings"]["networks"]
        if paid["network"] not in networks:
            raise NotFound(f"the settings know no network {paid['network']}")
        facts = _payout(paid, intent_of(paid, org=org, chain_id=networks[paid["network"]]["chainId"]))
    else:
        facts = _change(activity["changeRequest"], org)
    facts += [("status", asked["status"]), ("until", asked.get("expirationDate"))]
    lines = [f"{name:<12} {plain(value)}\n" for name, value in facts if value is not None]
    sys.stdout.write("".join(lines))


def intent_of(paid: Mapping[str, Any], *, org: str, chain_id: int) -> Intent:
    """Return what a payout's request stated, as decisions about it sign it.

    Raises:
        InvalidInput: it is no payout that anybody could have asked for.
    """
    pool = paid.get("poolId")
    return read_intent(
        org=org,
        initiator=paid["initiatorId"],
        wallet=None if pool else paid["walletId"],
        pool=pool,
        network=paid["network"],
        chain_id=chain_id,
        contract=None if paid["asset"] == NATIVE else paid["asset"],
        to=paid["recipient"],
        amount=paid["amount"],
        priority=paid["priority"],
        external_id=paid.get("externalId"),
        memo=paid.get("memo", ""),
    )


def _payout(paid: Mapping[str, Any], intent: Intent) -> list[tuple[str, Any]]:
    units = f"{intent.amount} base units of {intent.asset}"
    if "decimals" in paid:
        units = f"{format_units(int(intent.amount), paid['decimals'])} {paid.get('symbol', '')} ({units})"
    return [
        ("pay", units),
        ("to", checksum(intent.recipient)),
        ("on", f"{intent.network}, chain {intent.chain_id}"),
        ("from", f"pool {intent.pool}" if intent.pool else f"wallet {intent.wallet}"),
        ("asked by", intent.initiator),
        ("externalId", intent.external_id),
        ("memo", intent.memo or None),
        ("priority", intent.priority),
        ("words", words_of_payout(intent)),
    ]


def _change(change: Mapping[str, Any], org: str) -> list[tuple[str, Any]]:
    content = content_of(change, org=org)
    return [
        ("change", content["kind"]),
        ("of", content["subject"]),
        ("asked by", content["requester"]),
        ("loosens", "yes" if content["loosens"] else "no"),
        ("before", canonical(content["before"]).decode()),
        ("after", canonical(content["after"]).decode()),
        ("words", words_of_change(content)),
    ]


def content_of(change: Mapping[str, Any], *, org: str) -> dict[str, Any]:
    """Return what decisions about a change sign.

    The answer of the API names kind and subject as the contract does, which are fewer than there are: of those that
    there are, the one with the stated digest is meant.

    Raises:
        InvariantBroken: what is shown is not what is signed.
    """
    subjects = {change["entityId"], change["body"].get("permissionId", change["entityId"])}
    for kind in KINDS:
        for subject in sorted(subjects):
            content = {
                "v": 1,
                "org": org,
                "change": change["id"],
                "requester": change["requester"]["userId"],
                "kind": kind,
                "subject": subject,
                "before": change.get("before"),
                "after": change["after"],
                "loosens": change["loosens"],
            }
            if digest(content) == change["digest"]:
                return content
    raise InvariantBroken("what the server shows of this change is not what it has signed: do not decide")
