"""What justifies a payout: the signed request, the policies that were asked, the signed approvals that counted.

``check_demand`` is the one judgement of it. The offline proof (``payout``) and the signer share it, so that nothing is
signed that could not be proved afterwards. A signed call is ``{v, preimage, payload, assertion}``, or of a request of a
payout one HTTP message (``http_call``): its key is looked up in the records, and nothing in it is believed that a
signature does not cover.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from outlay.core.approval import Decision, Person, outcome, refusal
from outlay.core.asset import NATIVE, Asset
from outlay.core.errors import ActionSignatureInvalid
from outlay.core.intent import Intent, read_intent
from outlay.core.policy import PER_BATCH, Policy, RequestApproval, required_groups
from outlay.core.policy_document import read_policy
from outlay.core.seams import SECOND
from outlay.evidence.assertion import FIDO2, KEY, Assertion, read_client_data
from outlay.evidence.batch import BATCH_DECISION_PATH, ROW, challenge_of_row, digest_of_row, split
from outlay.evidence.bundle import EvidenceBroken, credential_document, verify_evidence
from outlay.evidence.canonical import canonical, digest, payload_digest
from outlay.evidence.challenge import Preimage, action_challenge
from outlay.evidence.http_call import is_http, preimage_of, read_call
from outlay.evidence.http_signature import Message
from outlay.evidence.judged import Judged, NotAgreed, find_asset, find_symbol, judge_offline
from outlay.evidence.payout_item import BATCH_PATH, SINGLE_PATH, Item, read_item
from outlay.evidence.report import Trail
from outlay.evidence.shape import members
from outlay.evidence.state import History, KnownCredential, KnownWallet
from outlay.evidence.submission import (
    SUBMISSION_PATH,
    WHOLE_DECISION_PATH,
    InFile,
    challenge_of,
    open_row,
    request_of,
    split_request,
)

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
    challenge: str  #: names what was signed; good once
    names_head: bool = True  #: the signature covers which record its signer saw
    batch: str | None = None  #: digest of the batch it is a row of
    in_file: InFile | None = None  #: the place in the file it is a row of

    @property
    def user_id(self) -> str:
        """Who signed."""
        return self.key.credential.user_id


def portable(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored evidence as a proof holds it: what was signed, and nothing that nobody signed."""
    if is_http(evidence):
        return {name: evidence[name] for name in ("v", "kind", "message", "body", "row") if name in evidence}
    assertion = dict(evidence["assertion"]["credentialAssertion"])
    assertion.pop("userHandle", None)
    if assertion.get("algorithm") != _OTHER_ALGORITHM:
        assertion.pop("algorithm", None)
    return {
        "v": evidence["v"],
        "preimage": evidence["preimage"],
        "payload": evidence["payload"],
        "assertion": {"kind": evidence["assertion"]["kind"], "credentialAssertion": assertion},
        **({ROW: evidence[ROW]} if ROW in evidence else {}),
    }


def order(signed: Mapping[str, Any]) -> tuple[int, str]:
    """Return what the decisions of a proof are sorted by: when their challenges were made."""
    return signed["preimage"]["issued"], signed["preimage"]["nonce"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A payout that is justified."""

    request: Signature
    wallet_id: str  #: of who pays
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
    payer: str | None = None,
    trail: Trail,
    unknown_triggers: bool = False,
) -> Checked:
    """Check what justifies a payout against the records, as of the newest.

    Args:
        history: the records.
        payout: the signed request.
        asked: ``{policyId, version}`` by id: the policies whose groups had to agree.
        decisions: the signed approvals that count, in the order of signing.
        payer: id of the wallet that pays, where the request names a pool.
        trail: notes each step.
        unknown_triggers: see ``judge_offline``.

    Raises:
        ProofBroken: the first step that does not hold; caused by ``NotAgreed`` where every signature is good, but by
            the records of now the payout may not go.
    """
    newest = len(history.instants) - 1
    with trail.step("requester", "the request was signed by a key on record, of somebody permitted to request payouts"):
        request = open_request(history, payout, "payout")
        _require(history, request, REQUEST)
    with trail.step("request", "it is about a wallet on record, and says what is to be paid"):
        intent = _read_request(history, request)
        wallet_id, wallet = _read_payer(history, intent, payer, request.seq)
    with trail.step("policies", "no policy that looks at it alone blocks it, and those that ask were asked"):
        asset = find_asset(history.settings_at(newest), intent.network, intent.asset)
        if asset is None:
            raise NotAgreed("the signed settings do not list this asset", field="payout.payload")
        judged = judge_offline(
            history,
            wallet_id,
            intent,
            first=request.seq,
            newest=newest,
            issued=request.preimage.issued,
            unknown_triggers=unknown_triggers,
        )
        policies = read_asked(history, asked, request.seq)
        check_asked(judged, policies)
    with trail.step("decisions", f"approvals: {len(decisions)}, each of this payout and by somebody entitled"):
        groups = required_groups(policies)
        people, votes = read_decisions(
            history,
            decisions,
            request.user_id,
            digest(intent.document()),
            groups,
            batch=request.batch,
            in_file=request.in_file,
        )
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
        wallet_id=wallet_id,
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
    return Signature(
        preimage=preimage, payload=given["payload"], key=known, seq=seq, challenge=action_challenge(preimage)
    )


def open_request(history: History, document: object, field: str) -> Signature:
    """Return a signed request of a payout, of either kind, if a key of the records made it.

    Raises:
        InvalidInput: as ``open_signature``.
    """
    signed_call, row = split_request(document)
    if row is not None:
        return _open_row(open_request(history, signed_call, field), row, field)
    if not is_http(document):
        return open_signature(history, document, field)
    call = read_call(document, field)
    head = head_seen(history, document, field)
    known = None if head not in history.numbers else _key_called(history, call.message, history.numbers[head])
    if known is None:
        raise EvidenceBroken("was signed by a key that the records do not know", field=field)
    credential = known.credential
    preimage = preimage_of(
        call.message,
        digest=payload_digest(call.payload),
        org=history.org,
        user_id=credential.user_id,
        credential_uuid=credential.uuid,
        records_head=head,
    )
    try:
        if credential.kind != KEY:
            raise EvidenceBroken("passkeys sign no HTTP messages", field="credential")
        call.message.verify(credential.public_key)
        history.signer({"credential": credential_document(credential, known.record)}, preimage)
    except ActionSignatureInvalid as error:
        raise EvidenceBroken(error.message, field=f"{field}.message") from error
    except EvidenceBroken as error:
        raise EvidenceBroken(error.message, field=f"{field}: {error.field}") from error
    return Signature(
        preimage=preimage,
        payload=call.payload,
        key=known,
        seq=history.numbers[head],
        challenge=call.challenge,
        names_head=call.message.records_head is not None,
        batch=None if call.row is None else call.message.batch_digest,
    )


def _open_row(signed: Signature, row: object, field: str) -> Signature:
    """Return the payout that one row of a signed file asks for."""
    if (signed.preimage.method, signed.preimage.path) != ("POST", SUBMISSION_PATH):
        raise EvidenceBroken("what was signed is no file of payouts", field=f"{field}.preimage.path")
    submission, index, item = open_row(signed.payload, row, field)
    payload, network = request_of(submission, item, f"{field}.row.item")
    whole = submission.subject(org=signed.preimage.org, initiator=signed.user_id)
    return replace(
        signed,
        payload=payload,
        challenge=challenge_of(signed.challenge, index),
        in_file=InFile(whole=whole, index=index, network=network),
    )


def _key_called(history: History, message: Message, seq: int) -> KnownCredential | None:
    """Return the key that ``keyid`` named when record ``seq`` was the newest: names of deleted keys are free again."""
    name = message.parameters.key_id
    found = [each for each in history.credentials.values() if each.credential.credential_id == name]
    return next((each for each in found if each.usable_at(seq)), found[-1] if found else None)


def head_seen(history: History, call: object, field: str) -> str:
    """Return the hash of the newest record that the signer of a request saw; no signature is checked.

    An HTTP message that does not name it saw the newest record of when it was made.

    Raises:
        InvalidInput: the call is malformed, or from before the first record.
    """
    call, _ = split_request(call)
    if not is_http(call):
        return Preimage.from_document(members(call, field, CALL)["preimage"]).records_head
    message = read_call(call, field).message
    if message.records_head is not None:
        return message.records_head
    issued = message.parameters.created * SECOND
    seen = next((seq for seq in range(len(history.instants) - 1, -1, -1) if history.instants[seq] <= issued), None)
    if seen is None:
        raise EvidenceBroken("was signed before the first record", field=field)
    is_newest = seen == len(history.instants) - 1
    return history.head if is_newest else next(each for each, seq in history.numbers.items() if seq == seen)


def origins_of(assertion: Assertion) -> list[str]:
    """Return the origin a passkey was used from; that it belongs to the relying party is proved by the passkey."""
    origin = read_client_data(assertion.client_data).get("origin") if assertion.kind == FIDO2 else None
    return [origin] if isinstance(origin, str) else []


def _require(history: History, signature: Signature, operation: str) -> None:
    if not history.key_may(signature.key, operation, signature.seq):
        raise EvidenceBroken(f"{signature.user_id} was not permitted {operation} when signing", field="credential")


# The request


def _read_payer(history: History, intent: Intent, payer: str | None, seq: int) -> tuple[str, KnownWallet]:
    """Return the wallet that pays: the one that is named, or one of the named pool, then and ever since.

    Args:
        history: the records.
        intent: what the request says.
        payer: who is to pay for a pool.
        seq: number of the newest record that the request saw.
    """
    if intent.pool is None:
        assert intent.wallet is not None
        return intent.wallet, history.wallets[intent.wallet]
    pool = history.pools.get(intent.pool)
    wallet = None if payer is None else history.wallets.get(payer)
    if pool is None or pool.since > seq or (pool.until is not None and pool.until <= seq):
        raise EvidenceBroken("the records knew no such pool when it was signed", field="payout")
    if payer is None or wallet is None or not pool.holds_since(wallet, seq):
        # Only wallets that were in the pool were looked at when the payout was let in.
        raise NotAgreed("the paying wallet was not of the pool when it was signed, and ever since", field="payout")
    return payer, wallet


def _read_request(history: History, request: Signature) -> Intent:
    if request.in_file is not None or request.preimage.path in (SINGLE_PATH, BATCH_PATH):
        return _read_payout(history, request)
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
    return read_intent(
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


def _read_payout(history: History, request: Signature) -> Intent:
    """Read a request in our own words; of a batch, one row of it."""
    if request.preimage.method != "POST" or (request.preimage.path == BATCH_PATH) != (request.batch is not None):
        raise EvidenceBroken("what was signed is not a request of a payout", field="payout")
    item = read_item(request.payload, "payout.payload")
    place = history.wallets.get(item.wallet_id) if item.wallet_id else history.pools.get(item.pool_id or "")
    if place is None:
        raise EvidenceBroken("the records know no such wallet or pool", field="payout.payload")
    if request.in_file is not None and request.in_file.network != place.network:
        raise EvidenceBroken("the row is for another network than the wallet or pool", field="payout.row.item.network")
    return read_intent(
        org=history.org,
        initiator=request.user_id,
        wallet=item.wallet_id,
        pool=item.pool_id,
        network=place.network,
        chain_id=place.chain_id,
        contract=_contract_of(history, request, item, place.network),
        to=item.recipient,
        amount=item.amount,
        priority=item.priority,
        external_id=item.external_id,
        memo=item.memo,
    )


def _contract_of(history: History, request: Signature, item: Item, network: str) -> str | None:
    """Return the contract of what is paid, None for the coin; a symbol means what it did when it was signed."""
    if item.symbol is None:
        return item.contract
    key = find_symbol(history.settings_at(request.seq), network, item.symbol)
    if key is None:
        raise EvidenceBroken("the signed settings know no such asset, or several", field="payout.payload.asset")
    return None if key == NATIVE else key


# Who was asked


def read_asked(history: History, asked: Sequence[object], first: int) -> list[Policy]:
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


def check_asked(judged: Judged, asked: Sequence[Policy]) -> None:
    """Refuse a payout of which a policy that asks was not asked."""
    for policy_id, name in judged.asking.items():
        if policy_id not in {each.id for each in asked}:
            raise NotAgreed(f"the policy {name!r} asks for approval, and was not asked", field="asked")


# Decisions


def read_decisions(
    history: History,
    documents: Sequence[object],
    initiator_id: str,
    intent_digest: str,
    groups: Sequence[Mapping[str, Any]],
    *,
    batch: str | None = None,
    in_file: InFile | None = None,
) -> tuple[dict[str, Person], list[Signature]]:
    """Return who decided, and the decisions, if all of them counted.

    Args:
        history: the records.
        documents: the decisions.
        initiator_id: who asked for the payout.
        intent_digest: of the payout.
        groups: that were asked.
        batch: digest of the batch it is a row of; decisions may then be about more than this row, if the groups let
            them.
    """
    newest = len(history.instants) - 1
    people: dict[str, Person] = {}
    decisions: list[Signature] = []
    subjects: dict[re.Pattern[str], str] = {}
    for at, document in enumerate(documents):
        field = f"decisions[{at}]"
        call, row = split(document)
        decision = open_signature(history, call, field)
        preimage, user_id = decision.preimage, decision.user_id
        kind = _kind_of(preimage.path, row)
        path = kind.fullmatch(preimage.path)
        is_first = path is None or subjects.setdefault(kind, path.group(1)) == path.group(1)
        if preimage.method != "POST" or path is None or not is_first:
            raise EvidenceBroken("is not a decision about this approval", field=field)
        covered = intent_digest
        if kind is not _DECISION_PATH:
            of = batch if kind is BATCH_DECISION_PATH else in_file
            if of is None or any(group.get("per") != PER_BATCH for group in groups):
                raise EvidenceBroken("decides about a batch where nothing lets it", field=field)
            covered, place = _covered(of, row, intent_digest, f"{field}.row")
            decision = replace(decision, challenge=challenge_of_row(decision.challenge, place))
        if preimage.intent_digest != covered:
            raise EvidenceBroken("decides about another payout", field=field)
        if preimage.groups_digest != digest(list(groups)):
            raise NotAgreed("answers other groups than those of the policies that asked", field=field)
        if decision.payload.get("value") != "Approved":
            raise EvidenceBroken("does not approve", field=field)
        before = decisions[-1].preimage if decisions else None
        if before is not None and (preimage.issued, preimage.nonce) <= (before.issued, before.nonce):
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
            initiator_id=initiator_id,
            decided=people,
        )
        if said is not None:
            raise NotAgreed(f'{user_id} may not decide; the rule says "{said}"', field=field)
        people[user_id] = person
        decisions.append(decision)
    return people, decisions


def _covered(of: str | InFile, row: Any, intent_digest: str, field: str) -> tuple[str, Mapping[str, Any]]:
    """Return what a decision about many payouts signs, if it is about this one, and its place among them."""
    if isinstance(of, InFile):
        return of.whole, {"index": of.index}
    return digest_of_row(row, intent_digest, of, field), row


def _kind_of(path: str, row: object) -> re.Pattern[str]:
    """Return the form that the path of a decision has to have: about one payout, of what waited, or of a whole file."""
    if row is not None:
        return BATCH_DECISION_PATH
    return _DECISION_PATH if WHOLE_DECISION_PATH.fullmatch(path) is None else WHOLE_DECISION_PATH
