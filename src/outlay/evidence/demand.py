"""What justifies a payout: the signed request, the policies that were asked, the signed approvals that counted.

``check_demand`` is the one judgement of it. The offline proof (``payout``) and the signer share it, so that nothing is
signed that could not be proved afterwards. A signed call is ``{v, preimage, payload, assertion}``: its key is looked
up in the records, and nothing in it is believed that a signature does not cover.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outlay.core.approval import Decision, Person, outcome, refusal
from outlay.core.asset import Asset
from outlay.core.intent import Intent, read_intent
from outlay.core.policy import Policy, RequestApproval, required_groups
from outlay.core.policy_document import read_policy
from outlay.evidence.assertion import FIDO2, Assertion, read_client_data
from outlay.evidence.bundle import EvidenceBroken, credential_document, verify_evidence
from outlay.evidence.canonical import canonical, digest
from outlay.evidence.challenge import Preimage
from outlay.evidence.judged import Judged, NotAgreed, find_asset, judge_offline
from outlay.evidence.report import Trail
from outlay.evidence.shape import members
from outlay.evidence.state import History, KnownCredential, KnownWallet

REQUEST, VOTE = "Wallets:Transfers:Create", "Policies:Evaluations:Vote"
"""What the requester and those who decide must be permitted."""

CALL: Mapping[str, type] = {"v": int, "preimage": dict, "payload": dict, "assertion": dict}
"""The members of a signed call."""

_REQUEST_PATH = re.compile(r"/wallets/([^/]+)/transfers")
_DECISION_PATH = re.compile(r"/v2/policy-approvals/([^/]+)/decisions")
_OTHER_ALGORITHM = "SHA512"  # the only one that no kind of key takes for granted


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signed call that verified."""

    preimage: Preimage
    payload: dict[str, Any]
    key: KnownCredential
    seq: int  #: number of the newest record its signer saw

    @property
    def user_id(self) -> str:
        """Who signed."""
        return self.key.credential.user_id


def portable(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored evidence as a proof holds it: what was signed, and nothing that nobody signed."""
    assertion = dict(evidence["assertion"]["credentialAssertion"])
    assertion.pop("userHandle", None)
    if assertion.get("algorithm") != _OTHER_ALGORITHM:
        assertion.pop("algorithm", None)
    return {
        "v": evidence["v"],
        "preimage": evidence["preimage"],
        "payload": evidence["payload"],
        "assertion": {"kind": evidence["assertion"]["kind"], "credentialAssertion": assertion},
    }


def order(signed: Mapping[str, Any]) -> tuple[int, str]:
    """Return what the decisions of a proof are sorted by: when their challenges were made."""
    return signed["preimage"]["issued"], signed["preimage"]["nonce"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A payout that is justified."""

    request: Signature
    wallet: KnownWallet
    intent: Intent  #: what the signed request says, and nothing else does
    asset: Asset
    judged: Judged
    asked: tuple[Policy, ...]
    decisions: tuple[Signature, ...]


def check_demand(
    history: History,
    *,
    payout: object,
    asked: Sequence[object],
    decisions: Sequence[object],
    trail: Trail,
    unknown_triggers: bool = False,
) -> Checked:
    """Check what justifies a payout against the records, as of the newest.

    Args:
        history: the records.
        payout: the signed request.
        asked: ``{policyId, version}`` by id: the policies whose groups had to agree.
        decisions: the signed approvals that count, in the order of signing.
        trail: notes each step.
        unknown_triggers: see ``judge_offline``.

    Raises:
        ProofBroken: the first step that does not hold; caused by ``NotAgreed`` where every signature is good, but by
            the records of now the payout may not go.
    """
    newest = len(history.instants) - 1
    with trail.step("requester", "the request was signed by a key on record, of somebody permitted to request payouts"):
        request = open_signature(history, payout, "payout")
        _require(history, request, REQUEST)
    with trail.step("request", "it is about a wallet on record, and says what is to be paid"):
        wallet, intent = _read_request(history, request)
    with trail.step("policies", "no policy that looks at it alone blocks it, and those that ask were asked"):
        asset = find_asset(history.settings_at(newest), intent.network, intent.asset)
        if asset is None:
            raise NotAgreed("the signed settings do not list this asset", field="payout.payload")
        judged = judge_offline(
            history,
            wallet,
            intent,
            first=request.seq,
            newest=newest,
            issued=request.preimage.issued,
            unknown_triggers=unknown_triggers,
        )
        policies = _read_asked(history, asked, request.seq)
        _check_asked(judged, policies)
    with trail.step("decisions", f"approvals: {len(decisions)}, each of this payout and by somebody entitled"):
        groups = required_groups(policies)
        people, votes = _read_decisions(history, decisions, request, digest(intent.document()), groups)
    with trail.step("quorum", "every group that was asked agreed"):
        said = [Decision(each.user_id, "Approved") for each in votes]
        if groups and outcome(groups, said, people=people, initiator_id=request.user_id) != "Approved":
            raise NotAgreed("a group that was asked did not reach its quorum", field="decisions")
    with trail.step("still there", "who asked was not switched off, nor their key, up to the newest record"):
        if not request.key.usable_at(newest):
            raise NotAgreed("who asked, or the key they asked with, was switched off since", field="payout")
        if not history.key_may(request.key, REQUEST, newest):
            raise NotAgreed(f"{request.user_id} is no longer permitted {REQUEST}", field="payout")
    return Checked(
        request=request,
        wallet=wallet,
        intent=intent,
        asset=asset,
        judged=judged,
        asked=tuple(policies),
        decisions=tuple(votes),
    )


def is_its_chain(history: History, wallet: KnownWallet) -> bool:
    """Tell whether the newest signed settings still mean by the wallet's network the chain it was created for."""
    networks = history.money_settings.get("networks")
    settings = networks.get(wallet.network) if isinstance(networks, dict) else None
    return isinstance(settings, dict) and settings.get("chainId") == wallet.chain_id


# Signatures


def open_signature(history: History, document: object, field: str) -> Signature:
    """Return a signed call of the proof, if a key of the records made it.

    Raises:
        InvalidInput: it is malformed, was not signed, or by a key that could not sign then.
    """
    given = members(document, field, CALL)
    preimage = Preimage.from_document(given["preimage"])
    assertion = Assertion.from_document(given["assertion"])
    if canonical(portable({**given, "assertion": assertion.document()})) != canonical(given):
        raise EvidenceBroken("holds what is not signed, or another spelling", field=f"{field}.assertion")
    offered = [history.credentials[uuid] for uuid in preimage.credentials if uuid in history.credentials]
    known = next((each for each in offered if each.credential.credential_id == assertion.cred_id), None)
    if known is None:
        raise EvidenceBroken("was signed by a key that the records do not know", field=field)
    whole = {
        **given,
        "credential": credential_document(known.credential, known.record),
        "origins": origins_of(assertion),
        "policySet": "",
    }
    try:
        verify_evidence(whole)
        history.signer(whole, preimage)
    except EvidenceBroken as error:
        raise EvidenceBroken(error.message, field=f"{field}: {error.field}") from error
    seq = history.numbers[preimage.records_head]
    return Signature(preimage=preimage, payload=given["payload"], key=known, seq=seq)


def origins_of(assertion: Assertion) -> list[str]:
    """Return the origin a passkey was used from; that it belongs to the relying party is proved by the passkey."""
    origin = read_client_data(assertion.client_data).get("origin") if assertion.kind == FIDO2 else None
    return [origin] if isinstance(origin, str) else []


def _require(history: History, signature: Signature, operation: str) -> None:
    if not history.key_may(signature.key, operation, signature.seq):
        raise EvidenceBroken(f"{signature.user_id} was not permitted {operation} when signing", field="credential")


# The request


def _read_request(history: History, request: Signature) -> tuple[KnownWallet, Intent]:
    path = _REQUEST_PATH.fullmatch(request.preimage.path)
    if request.preimage.method != "POST" or path is None:
        raise EvidenceBroken("what was signed is not a request of a payout", field="payout.preimage.path")
    wallet = history.wallets.get(path.group(1))
    if wallet is None:
        raise EvidenceBroken("the records know no such wallet", field="payout.preimage.path")
    stated = {
        name: value
        for name, value in request.payload.items()
        if value is not None or name not in ("externalId", "priority")
    }
    is_token = stated.get("kind") == "Erc20"
    texts: dict[str, type] = dict.fromkeys(("kind", "to", "amount", *(["contract"] if is_token else [])), str)
    given = members(stated, "payout.payload", texts, {"externalId": str, "priority": str})
    if not is_token and given["kind"] != "Native":
        raise EvidenceBroken("pays in a way that is not known here", field="payout.payload.kind")
    intent = read_intent(
        org=history.org,
        initiator=request.user_id,
        wallet=path.group(1),
        network=wallet.network,
        chain_id=wallet.chain_id,
        contract=given.get("contract"),
        to=given["to"],
        amount=given["amount"],
        priority=given.get("priority"),
        external_id=given.get("externalId"),
    )
    return wallet, intent


# Who was asked


def _read_asked(history: History, asked: Sequence[object], first: int) -> list[Policy]:
    """Return the policies that were asked, each at the version whose groups had to agree."""
    policies: list[Policy] = []
    for at, each in enumerate(asked):
        field = f"asked[{at}]"
        given = members(each, field, {"policyId": str, "version": int})
        if policies and given["policyId"] <= policies[-1].id:
            raise EvidenceBroken("is out of order or listed twice", field=field)
        found = versions_asked(history, given["policyId"], first)
        policy = next((policy for policy in found if policy.version == given["version"]), None)
        if policy is None:
            raise NotAgreed(f"names no version of {given['policyId']} that asked anybody", field=field)
        policies.append(policy)
    return policies


def versions_asked(history: History, policy_id: str, first: int) -> list[Policy]:
    """Return the versions of a policy that a payout may have been held by, newest first.

    A policy in force asks its groups of now. One that is not in force any more, or asks nobody now, asked those of any
    version that was in force since the payout was requested. Of versions with the same groups only the newest is told.

    Args:
        history: up to the newest record that counts.
        policy_id: the lineage.
        first: number of the record that the request saw.
    """
    known = history.policies.get(policy_id)
    if known is None:
        return []
    found: list[Policy] = []
    followed_by: int | None = None
    for version in reversed(known.versions):
        policy = read_policy(version.document, id=policy_id, version=version.version)
        was_in_force = version.is_active and (followed_by is None or followed_by > first)
        if was_in_force and isinstance(policy.action, RequestApproval):
            if followed_by is None:
                return [policy]
            if all(required_groups([policy]) != required_groups([each]) for each in found):
                found.append(policy)
        followed_by = version.number
    return found


def _check_asked(judged: Judged, asked: Sequence[Policy]) -> None:
    for policy_id, name in judged.asking.items():
        if policy_id not in {each.id for each in asked}:
            raise NotAgreed(f"the policy {name!r} asks for approval, and was not asked", field="asked")


# Decisions


def _read_decisions(
    history: History,
    documents: Sequence[object],
    request: Signature,
    intent_digest: str,
    groups: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Person], list[Signature]]:
    """Return who decided, and the decisions, if all of them counted."""
    newest = len(history.instants) - 1
    people: dict[str, Person] = {}
    decisions: list[Signature] = []
    approval = None
    for at, document in enumerate(documents):
        field = f"decisions[{at}]"
        decision = open_signature(history, document, field)
        preimage, user_id = decision.preimage, decision.user_id
        path = _DECISION_PATH.fullmatch(preimage.path)
        if preimage.method != "POST" or path is None or path.group(1) != (approval or path.group(1)):
            raise EvidenceBroken("is not a decision about this approval", field=field)
        approval = path.group(1)
        if preimage.intent_digest != intent_digest:
            raise EvidenceBroken("decides about another payout", field=field)
        if preimage.groups_digest != digest(list(groups)):
            raise NotAgreed("answers other groups than those of the policies that asked", field=field)
        if decision.payload.get("value") != "Approved":
            raise EvidenceBroken("does not approve", field=field)
        if decisions and (preimage.issued, preimage.nonce) <= (
            decisions[-1].preimage.issued,
            decisions[-1].preimage.nonce,
        ):
            raise EvidenceBroken("is out of order, or given twice", field=field)
        _require(history, decision, VOTE)
        if not decision.key.usable_at(newest):
            raise NotAgreed(f"{user_id}, or the key they decided with, was switched off since", field=field)
        if not history.key_may(decision.key, VOTE, newest):
            raise NotAgreed(f"{user_id} is no longer permitted {VOTE}", field=field)
        person = Person(is_active=True, is_service_account=history.identities[user_id].is_machine, may_vote=True)
        said = refusal(
            groups,
            user_id,
            "Approved",
            people={user_id: person},
            initiator_id=request.user_id,
            decided=people,
        )
        if said is not None:
            raise NotAgreed(f'{user_id} may not decide; the rule says "{said}"', field=field)
        people[user_id] = person
        decisions.append(decision)
    return people, decisions
