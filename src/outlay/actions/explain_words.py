"""The explanation of a payout in plain English: the answer first, then what led to it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from outlay.core.money import format_dollars, format_units
from outlay.core.recurring import run_named

_ENDS = {
    "confirmed": "It is paid.",
    "failed": "It ended without paying.",
    "rejected": "It was refused.",
    "canceled": "It was taken back or canceled; nothing was paid.",
    "expired": "Its time ran out; nothing was paid.",
}
_STANDS = {
    "requested": "It was recorded and is about to be judged.",
    "held": "It is held.",
    "ready": "It may go and waits for its turn.",
    "assigned": "It has its place in the wallet's order and is about to be signed.",
    "signed": "It is signed and about to be sent.",
    "broadcast": "It was sent and is in no block yet.",
    "mined": "It is in a block that is not final yet.",
}
_VERDICTS = {
    "allow": "the policies let it go",
    "hold": "policies asked people",
    "block": "policies refused it",
    "wait": "it had to wait for room under a cap",
    "unknown": "what the policies said is not known",
}
_RESULTS = {
    "triggered": "triggered",
    "passed": "did not trigger",
    "not_matching": "was not about it",
    "not_kept": "was there, and what it said was not kept",
}
_ACTIONS = {"Block": "blocks", "RequestApproval": "asks people", "NoAction": "only reports"}
_MISMATCH = "effect_mismatch"


def words_of(told: Mapping[str, Any]) -> list[str]:
    """Return the lines that say what an explanation holds; a line that begins with two spaces belongs to the one above.

    Args:
        told: the explanation, as ``explain`` makes it. What is not in it is not in the words.
    """
    return [
        *_standing(told["payout"]),
        *_first(told),
        *(line for each in told["policies"] for line in _policy(each)),
        *_unsure(told),
        *_people(told.get("approval")),
        *_chain(told),
        *_past(told["history"]),
    ]


def _standing(paid: Mapping[str, Any]) -> Iterator[str]:
    run = run_named(paid.get("externalId"))
    asker = paid["initiatorId"]
    if run is not None and run[0] == asker:
        asker = f"mandate {run[0]}, its run of {run[1]},"
    yield (
        f"Payout {paid['id']} of {_amount(paid)} to {paid['recipient']} on {paid['network']}, asked for by"
        f" {asker} at {paid['dateRequested']}."
    )
    state = paid["state"]
    stands = _ENDS.get(state) or _STANDS[state]
    if state == "mined" and paid.get("flag") == _MISMATCH:
        stands = "It is final, but with another effect than was asked for: a person has to look and resolve it."
    yield stands
    if "reason" in paid:
        yield f"  {paid['reason']}"
    if "waitingReason" in paid:
        waits = paid["waitingReason"]
        yield "It waits for room under a cap." if waits == "cap" else f"It waits: {waits}."
    if "delayedSince" in paid:
        yield f"It takes longer than it should; that was noticed at {paid['delayedSince']}."


def _amount(paid: Mapping[str, Any]) -> str:
    if "decimals" not in paid:
        return f"{paid['amount']} base units of {paid['asset']}"
    return f"{format_units(int(paid['amount']), paid['decimals'])} {paid.get('symbol', '')}".rstrip()


def _first(told: Mapping[str, Any]) -> Iterator[str]:
    paid, price, said = told["payout"], told.get("price"), told["verdict"]
    if price is not None and "valueUsd" in paid:
        of = paid.get("symbol", "one")
        by = f" (source of the price: {price['source']})" if "source" in price else ""
        yield f"It was worth USD {format_dollars(paid['valueUsd'])}, at USD {price['usd']} for 1 {of}{by}."
    else:
        yield "What it was worth was not known, so every rule about values triggered."
    kind = _VERDICTS[said["kind"]]
    if said.get("byDefault"):
        kind = "no policy was about it, and the default decided" if said["kind"] in ("allow", "block") else kind
    yield f"When it was asked for, {kind}. These are all the policies there were:"
    if not told["policies"]:
        yield "  none"


def _policy(each: Mapping[str, Any]) -> Iterator[str]:
    what = f"{each.get('rule')}, {_ACTIONS.get(str(each.get('action')), each.get('action'))}"
    if "policyId" not in each:
        yield f"- A policy ({what}) {_RESULTS[each['result']]}."
        return
    name = f'"{each["name"]}" ' if "name" in each else ""
    yield f"- {name}{each['policyId']}, version {each.get('version')} ({what}) {_RESULTS[each['result']]}."
    if each["result"] == "not_matching" and "why" in each:
        yield f"  {each['why']}"
    for said in each["evaluations"]:
        moment = "When asked for" if said["moment"] == "admission" else "Before it was bound"
        text = said.get("reason") or _within(said["context"])
        yield f"  {moment}, {said['date']}: {text}"


def _within(seen: Mapping[str, Any]) -> str:
    """Return why a rule did not trigger, out of what it looked at."""
    match seen.get("rule"):
        case "TransactionAmountLimit":
            return f"USD {seen.get('value')} is no more than USD {seen.get('threshold')}."
        case "TransactionAmountVelocity":
            return (
                f"USD {seen.get('value')}, beside USD {seen.get('sum')} of {seen.get('count')} payouts within"
                f" {seen.get('timeframe')} minutes ({seen.get('scope')}), is no more than USD {seen.get('threshold')}."
            )
        case "TransactionCountVelocity":
            return (
                f"It and {seen.get('count')} payouts within {seen.get('timeframe')} minutes ({seen.get('scope')})"
                f" are no more than {seen.get('threshold')}."
            )
        case "TransactionRecipientWhitelist":
            return f"The recipient {seen.get('recipient')} is one of the {seen.get('listed')} on the list."
        case "TransactionAmountLimitNominal" if seen.get("threshold") is None:
            return "This asset is not on the rule's list."
        case "TransactionAmountLimitNominal":
            return f"{seen.get('amount')} base units are no more than {seen.get('threshold')}."
    return "It did not trigger."


def _unsure(told: Mapping[str, Any]) -> Iterator[str]:
    if not told["policiesAreCertain"]:
        yield "Which other policies were in force then cannot be told for certain from the records."
    if told["redacted"]:
        yield "Names, limits, sums and people are left out: you may not read policies, or what they decided."


def _people(asked: Mapping[str, Any] | None) -> Iterator[str]:
    if asked is None:
        yield "Nobody was asked."
        return
    word = {"Pending": "waits for an answer", "Expired": "ran out unanswered"}.get(asked["status"], "")
    yield f"People were asked at {asked['dateCreated']}; the approval {word or 'was ' + asked['status'].lower()}."
    if asked["status"] == "Pending" and "expirationDate" in asked:
        yield f"  It runs out at {asked['expirationDate']}."
    for group in asked.get("groups", ()):
        agreed = group["agreed"]
        listed = group["approvers"].get("userId", {}).get("in")
        whom = "any person" if listed is None else ", ".join(listed) or "nobody yet"
        name = f'"{group["name"]}"' if "name" in group else "A group"
        got = f"{len(agreed)} of {group['quorum']} needed"
        yield f"  {name} of policy {group['policyId']} ({whom}): {got}{_listed(agreed)}."
    for each in asked.get("decisions", ()):
        why = f', saying "{each["reason"]}"' if "reason" in each else ""
        void = "" if each["counts"] else f" This does not count: {each['whyNot']}."
        who = each.get("username", each["userId"])
        yield f"  {who} ({each['userId']}) {each['value'].lower()} at {each['date']}{why}.{void}"


def _listed(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def _chain(told: Mapping[str, Any]) -> Iterator[str]:
    built, mined = told.get("construction"), told.get("transaction")
    if built is None:
        yield "Nothing was signed for it."
        return
    yield f"It has nonce {built['nonce']} of its wallet; {len(built['attempts'])} made for it:"
    for number, each in enumerate(built["attempts"], start=1):
        what = "pays" if each["purpose"] == "payout" else "pays nothing, to free the nonce"
        sent = f"sent {each['dateBroadcasted']}" if "dateBroadcasted" in each else "not sent"
        yield f"  {number}. {what}, {sent}, {each.get('txHash', 'not signed')}"
    if mined is None:
        yield "None of them is in a block."
    else:
        is_final = "finally" if mined["isFinal"] else "not finally yet"
        fee = f"; the fee was {told['payout']['fee']} base units of the coin" if "fee" in told["payout"] else ""
        yield f"Transaction {mined['hash']} is in block {mined['blockNumber']}, {is_final}{fee}."


def _past(steps: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "What happened:"
    for each in steps:
        yield f"  {each['date']}  {each['event'].replace('_', ' ')}: {each['from']} to {each['to']}"
