"""``outlay approvals``: what people are asked, with its words worked out here and not by the server; and the answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from outlay.cli.output import Yes, facts, table, units, when
from outlay.cli.profile import FROM_PROFILE, Caller, path_of
from outlay.core.address import checksum
from outlay.core.asset import NATIVE
from outlay.core.errors import InvalidInput, InvariantBroken, NotFound, PreconditionFailed
from outlay.core.intent import Intent, read_intent
from outlay.core.message import plain
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

approvals = App(name="approvals")


@approvals.command(name="list")
def list_approvals(
    *,
    status: Literal["Pending", "Approved", "Denied", "Expired"] = "Pending",
    every: Annotated[bool, Parameter(name="--all", negative=())] = False,
    initiator: str | None = None,
    approver: str | None = None,
    limit: int = 50,
    caller: Caller = FROM_PROFILE,
) -> None:
    """List what people are asked: what waits now, unless told otherwise.

    Parameters
    ----------
    status
        only those that stand so.
    every
        whatever their status.
    initiator
        id of who asked for it.
    approver
        id of somebody who is asked.
    limit
        how many at most.
    """
    found = list(
        caller.items(
            "/v2/policy-approvals",
            limit=limit,
            status=None if every else status,
            initiatorId=initiator,
            approverId=approver,
        )
    )
    columns = ("approval", "status", "about", "asked by", "until")
    rows = (
        (each["id"], each["status"], _about(each), each["initiatorId"], when(each.get("expirationDate")))
        for each in found
    )
    caller.tell({"items": found}, lambda: table(columns, rows, nothing="nothing waits"))


def _about(asked: Mapping[str, Any]) -> str:
    """Return on one line what an approval is about, as the server tells it; ``show`` works it out."""
    activity = asked["activity"]
    if "transferRequest" not in activity:
        change = activity["changeRequest"]
        return f"{change['operationKind'].lower()} {change['kind'].lower()} {change['entityId']}"
    paid = activity["transferRequest"]
    body, about = paid["requestBody"], paid["metadata"]["asset"]
    return f"{units(body['amount'], about.get('decimals'), about.get('symbol'))} to {checksum(body['to'])}"


@approvals.command
def show(approval: str, /, *, caller: Caller = FROM_PROFILE) -> None:
    """Print what an approval is about, whole, and the words that stand for it.

    The words are worked out from the content that is printed. Where the message that asked you, or whatever you sign
    with, shows other words, it is about something else: do not sign.

    Parameters
    ----------
    approval
        id of the approval.
    """
    shown = look(caller, approval)
    caller.tell(shown.document, lambda: facts(shown.facts) + shown.next)


@approvals.command
def approve(
    approval: str,
    /,
    *,
    reason: str | None = None,
    words: str | None = None,
    yes: Yes = False,
    caller: Caller = FROM_PROFILE,
) -> None:
    """Show what an approval is about, ask, and sign that it may be.

    Parameters
    ----------
    approval
        id of the approval.
    reason
        what you checked; others read it.
    words
        the words that you were told: nothing is signed where they are others.
    """
    _decide(caller, approval, "Approved", reason, words, yes=yes)


@approvals.command
def deny(
    approval: str, /, *, reason: str, words: str | None = None, yes: Yes = False, caller: Caller = FROM_PROFILE
) -> None:
    """Show what an approval is about, ask, and sign that it may not be; one denial ends it.

    Parameters
    ----------
    approval
        id of the approval.
    reason
        why not; whoever asked reads it.
    words
        the words that you were told: nothing is signed where they are others.
    """
    _decide(caller, approval, "Denied", reason, words, yes=yes)


def _decide(caller: Caller, approval: str, value: str, reason: str | None, words: str | None, *, yes: bool) -> None:
    caller.expect_key()
    shown = look(caller, approval)
    caller.note(facts(shown.facts))
    if shown.document["status"] != "Pending":
        raise PreconditionFailed(f"it is decided: {shown.document['status']}")
    if words is not None and " ".join(words.lower().split()) != shown.document["words"]:
        raise InvalidInput("this approval has other words than those: nothing was signed", field="words")
    caller.confirm({"Approved": "Approve this?", "Denied": "Deny this?"}[value], yes=yes)
    body = {"value": value, **({} if reason is None else {"reason": reason})}
    answer = caller.write("POST", path_of("v2", "policy-approvals", approval, "decisions"), body)
    votes = len(answer.get("decisions", []))
    caller.tell(answer, f"{answer['id']}: {value.lower()} by you; {votes} decided, it is {answer['status']}\n")


@dataclass(frozen=True, slots=True)
class Shown:
    """What an approval is about."""

    document: dict[str, Any]  #: the answer of the server, and the words
    facts: list[tuple[str, Any]]

    @property
    def next(self) -> str:
        """What can be done now."""
        if self.document["status"] != "Pending":
            return ""
        return f"Next: outlay approvals approve {self.document['id']}, or deny\n"


def look(caller: Caller, approval: str) -> Shown:
    """Read an approval and work out its words from what is signed.

    Raises:
        InvariantBroken: what is shown is not what is signed.
    """
    asked = caller.read(path_of("v2", "policy-approvals", approval))
    org = str(caller.read("/v1/records")["orgId"])
    activity = asked["activity"]
    if "transferRequest" in activity:
        paid = caller.read(path_of("v1", "payouts", activity["transferRequest"]["id"]))
        networks = caller.read("/v1/config")["moneySettings"]["networks"]
        if paid["network"] not in networks:
            raise NotFound(f"the settings know no network {paid['network']}")
        told = _payout(paid, intent_of(paid, org=org, chain_id=networks[paid["network"]]["chainId"]))
    else:
        told = _change(activity["changeRequest"], org)
    words = str(told[-1][1])
    told += [("why held", each["reason"]) for each in asked.get("policyEvaluations", []) if each["triggered"]]
    told += [("asks", _group(each)) for each in asked.get("approvalGroups", [])]
    told += [("decided", _decision(each)) for each in asked.get("decisions", [])]
    told += [("status", asked["status"]), ("until", when(asked.get("expirationDate")))]
    return Shown({**asked, "words": words}, [(name, plain(value)) for name, value in told if value is not None])


def _group(group: Mapping[str, Any]) -> str:
    named = group.get("approvers", {}).get("userId")
    listed = "anybody who may vote" if named is None else ", ".join(named["in"]) or "nobody"
    return f"{group.get('quorum', 1)} of {listed}"


def _decision(decision: Mapping[str, Any]) -> str:
    reason = f": {decision['reason']}" if decision.get("reason") else ""
    return f"{decision['value']} by {decision['userId']}{reason}"


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
    return [
        ("pay", units(intent.amount, paid["decimals"], paid.get("symbol")) if "decimals" in paid else None),
        ("which is", f"{intent.amount} base units of {intent.asset}"),
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
