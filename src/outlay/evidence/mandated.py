"""What justifies a payment under a mandate: the mandate on record, the policies that were asked, who approved.

Nobody signs a refill, or the run of a recurring payout. What stands in the place of a signed request is
``{v, kind: "Mandate", mandateId, intent}``, and nothing in it is believed: every member of the intent has to follow
from the records.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from outlay.core.approval import Decision, outcome
from outlay.core.asset import NATIVE, Asset
from outlay.core.intent import Intent, read_intent
from outlay.core.mandate import Mandate, activity_of, mandate_named
from outlay.core.policy import Policy, required_groups
from outlay.core.recurring import Recurring
from outlay.evidence.bundle import EvidenceBroken
from outlay.evidence.canonical import canonical, digest
from outlay.evidence.demand import Signature, check_asked, read_asked, read_decisions
from outlay.evidence.judged import Judged, NotAgreed, find_asset, judge_offline
from outlay.evidence.recurring import read_run
from outlay.evidence.report import Trail
from outlay.evidence.shape import members
from outlay.evidence.state import History, KnownWallet

VERSION, KIND = 1, "Mandate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandated:
    """A payment that is justified."""

    mandate: Mandate | Recurring
    since: int  #: number of the mandate's record
    wallet_id: str  #: of who pays
    wallet: KnownWallet
    filled: str | None  #: of a refill: id of the wallet that is filled
    run: date | None  #: of a recurring payout: which
    intent: Intent
    asset: Asset
    judged: Judged
    asked: tuple[Policy, ...]
    decisions: tuple[Signature, ...]


def mandate_call(mandate_id: str, intent: Mapping[str, Any]) -> dict[str, Any]:
    """Return what stands in the place of a signed request."""
    return {"v": VERSION, "kind": KIND, "mandateId": mandate_id, "intent": dict(intent)}


def is_mandated(call: object) -> bool:
    """Tell whether a payout is to be justified by a mandate."""
    return isinstance(call, Mapping) and call.get("kind") == KIND


def check_mandated(
    history: History,
    *,
    payout: object,
    asked: Sequence[object],
    decisions: Sequence[object],
    payer: str | None = None,
    trail: Trail,
) -> Mandated:
    """Check what justifies a payment under a mandate against the records, as of the newest.

    Args:
        history: the records.
        payout: as ``mandate_call`` makes it.
        asked: ``{policyId, version}`` by id: the policies whose groups had to agree.
        decisions: the signed approvals that count, in the order of signing.
        payer: id of the wallet that pays, where the mandate names a pool.
        trail: notes each step.

    Raises:
        ProofBroken: the first step that does not hold; caused by ``NotAgreed`` where the records of now are against it.
    """
    newest = len(history.instants) - 1
    with trail.step("mandate", "a mandate on record is in force"):
        given = members(payout, "payout", {"v": int, "kind": str, "mandateId": str, "intent": dict})
        known = history.mandates.get(given["mandateId"])
        if given["v"] != VERSION or known is None:
            raise EvidenceBroken("names no mandate of the records", field="payout.mandateId")
        if known.until is not None:
            raise NotAgreed("the mandate was archived", field="payout.mandateId")
        mandate = known.mandate
    filled = run = None
    with trail.step("request", "what is paid is within what the mandate says"):
        if isinstance(mandate, Recurring):
            wallet_id, wallet, intent, run = read_run(history, mandate, given["intent"], payer, since=known.since)
        else:
            wallet_id, wallet, intent = _read_refill(history, mandate, given["intent"])
            filled = _recipient(history, mandate, intent, newest)
        asset = find_asset(history.settings_at(newest), intent.network, intent.asset)
        if asset is None:
            raise NotAgreed("the signed settings do not list this asset", field="payout.intent.asset")
    with trail.step("policies", "no policy about such payments blocks it, and those that ask were asked"):
        judged = judge_offline(
            history,
            wallet_id,
            intent,
            first=newest,
            newest=newest,
            issued=history.instants[newest],
            unknown_triggers=True,
            activity=activity_of(mandate.id),
        )
        # What waits keeps asking whom it asked: any version since there is the mandate may have.
        policies = read_asked(history, asked, known.since)
        check_asked(judged, policies)
    with trail.step("decisions", f"approvals: {len(decisions)}, each of this payment and by somebody entitled"):
        groups = required_groups(policies)
        people, votes = read_decisions(history, decisions, mandate.id, digest(intent.document()), groups)
    with trail.step("quorum", "every group that was asked agreed"):
        said = [Decision(each.user_id, "Approved") for each in votes]
        if groups and outcome(groups, said, people=people, initiator_id=mandate.id) != "Approved":
            raise NotAgreed("a group that was asked did not reach its quorum", field="decisions")
    return Mandated(
        mandate=mandate,
        since=known.since,
        wallet_id=wallet_id,
        wallet=wallet,
        filled=filled,
        run=run,
        intent=intent,
        asset=asset,
        judged=judged,
        asked=tuple(policies),
        decisions=tuple(votes),
    )


def _read_refill(history: History, mandate: Mandate, said: Mapping[str, Any]) -> tuple[str, KnownWallet, Intent]:
    """Return the treasury, its id, and the one intent that the mandate allows with this recipient, amount and id."""
    treasury = mandate.treasury or ""
    wallet = history.wallets.get(treasury)
    if wallet is None:
        raise EvidenceBroken("the mandate's treasury is none of the wallets on record", field="payout.mandateId")
    given = {name: said.get(name) for name in ("recipient", "amount", "externalId")}
    if not all(isinstance(each, str) for each in given.values()):
        raise EvidenceBroken("lacks recipient, amount or externalId", field="payout.intent")
    intent = read_intent(
        org=history.org,
        initiator=mandate.id,
        wallet=treasury,
        network=mandate.network,
        chain_id=wallet.chain_id,
        contract=None if mandate.asset == NATIVE else mandate.asset,
        to=str(given["recipient"]),
        amount=str(given["amount"]),
        priority=None,
        external_id=str(given["externalId"]),
    )
    if canonical(intent.document()) != canonical(dict(said)):
        raise EvidenceBroken("is not what the mandate says: treasury, network or asset differ", field="payout.intent")
    if mandate_named(intent.external_id) != mandate.id:
        raise EvidenceBroken("is not numbered as a refill of this mandate", field="payout.intent.externalId")
    if int(intent.amount) > mandate.largest:
        raise EvidenceBroken(f"one refill is at most {mandate.largest} base units", field="payout.intent.amount")
    return treasury, wallet, intent


def _recipient(history: History, mandate: Mandate, intent: Intent, newest: int) -> str:
    """Return the wallet that is filled, which must be one of the mandate's on the very chain of the treasury."""
    pool = None if mandate.targets.pool_id is None else history.pools.get(mandate.targets.pool_id)
    pool_tag = None if pool is None or pool.until is not None else pool.tag
    for wallet_id, wallet in sorted(history.wallets.items()):
        if wallet.address.lower() != intent.recipient or wallet_id == mandate.treasury:
            continue
        if (wallet.network, wallet.chain_id) != (mandate.network, intent.chain_id):
            continue
        if mandate.targets.match(wallet_id, wallet.tags_at(newest), pool_tag=pool_tag):
            return wallet_id
    raise EvidenceBroken("the recipient is none of the wallets that the mandate fills", field="payout.intent.recipient")
