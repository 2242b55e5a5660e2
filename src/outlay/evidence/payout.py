"""The proof of one payout: one file, checked offline from the root fingerprint to the bytes of the transaction.

The file is canonical JSON and holds exactly this:

* ``v``: 1
* ``records``: from the first to the newest whose hash a signature in the file covers
* ``payout``: the signed request; ``decisions``: the signed approvals that counted, in the order of signing
* ``asked``: ``[{policyId, version}]`` by id: the policies whose groups had to agree
* ``transaction``: the signed bytes, ``0x`` and lower-case hex

A signed call in it is ``{v, preimage, payload, assertion}``: its key is looked up in the records. Nothing stands in
the file that a signature, or the hash of a record, does not cover, or that does not follow from what is covered. So no
byte of it is free, except that a quorum with a vote to spare proves the same without it, and that with some kinds of
keys (ECDSA) a second signature over the same content can be made from the first.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outlay.codec.evm import address_of, erc20_transfer, tx_hash
from outlay.codec.signed import SignedTransaction, read_signed
from outlay.core.approval import Decision, Person, outcome, refusal
from outlay.core.asset import NATIVE
from outlay.core.intent import Intent, read_intent
from outlay.core.policy import Policy, RequestApproval, required_groups
from outlay.core.policy_document import read_policy
from outlay.evidence.assertion import FIDO2, Assertion, read_client_data
from outlay.evidence.bundle import EvidenceBroken, credential_document, verify_evidence
from outlay.evidence.canonical import canonical, digest, read_canonical
from outlay.evidence.challenge import Preimage
from outlay.evidence.history import History, KnownCredential, verify_history
from outlay.evidence.judged import Judged, find_asset, judge_offline
from outlay.evidence.record import record_hash
from outlay.evidence.report import Approval, Party, ProofBroken, Report, Trail, Unit
from outlay.evidence.shape import is_digest, members
from outlay.evidence.state import KnownWallet

VERSION = 1

REQUEST, VOTE = "Wallets:Transfers:Create", "Policies:Evaluations:Vote"
"""What the requester and those who decide must be permitted."""

_REQUEST_PATH = re.compile(r"/wallets/([^/]+)/transfers")
_DECISION_PATH = re.compile(r"/v2/policy-approvals/([^/]+)/decisions")
_RAW = re.compile(r"0x(?:[0-9a-f]{2})+")
_CALL = {"v": int, "preimage": dict, "payload": dict, "assertion": dict}
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


def verify_payout(data: bytes, root: str) -> Report:
    """Check a proof; every step is named in the report, or in the error.

    Args:
        data: the file.
        root: hex hash of the first record, from somewhere else than the file.

    Raises:
        ProofBroken: the first step that does not hold.
    """
    trail = Trail()
    with trail.step("file", "one proof in its only spelling"):
        given = _read(data)
    with trail.step("root", "the first record is the root you named"):
        _check_root(given["records"], root)
    with trail.step("records", f"{len(given['records'])} records, each signed by who was entitled to it"):
        history = verify_history(given["records"], root)
        _check_window(given, history)
    newest = len(given["records"]) - 1
    with trail.step("requester", "the request was signed by a key on record, of somebody permitted to request payouts"):
        request = open_signature(history, given["payout"], "payout")
        _require(history, request, REQUEST)
    with trail.step("request", "it is about a wallet on record, and says what is to be paid"):
        wallet, intent = _read_request(history, request)
    with trail.step("policies", "no policy that looks at it alone blocks it, and those that ask were asked"):
        asset = find_asset(history.settings_at(newest), intent.network, intent.asset)
        if asset is None:
            raise EvidenceBroken("the signed settings do not list this asset", field="payout.payload")
        judged = judge_offline(history, wallet, intent, first=request.seq, newest=newest)
        asked = _read_asked(history, given["asked"], request.seq)
        _check_asked(judged, asked)
    with trail.step("decisions", f"approvals: {len(given['decisions'])}, each of this payout and by somebody entitled"):
        groups = required_groups(asked)
        people, decisions = _read_decisions(history, given["decisions"], request, digest(intent.document()), groups)
    with trail.step("quorum", "every group that was asked agreed"):
        said = [Decision(each.user_id, "Approved") for each in decisions]
        if groups and outcome(groups, said, people=people, initiator_id=request.user_id) != "Approved":
            raise EvidenceBroken("a group that was asked did not reach its quorum", field="decisions")
    with trail.step("still there", "who asked was not switched off, nor their key, up to the newest record"):
        if not request.key.usable_at(newest):
            raise EvidenceBroken("who asked, or the key they asked with, was switched off since", field="payout")
    with trail.step("transaction", "the wallet's key signed exactly this payment, for this chain"):
        signed, raw = _read_transaction(history, given["transaction"], wallet, intent)
    names = names_of(given["records"])
    return Report(
        steps=tuple(trail.done),
        root=root,
        org=history.org,
        newest=newest,
        newest_at=history.instants[newest],
        head=history.head,
        requester=_party(names, request),
        intent=intent,
        wallet_address=wallet.address,
        unit=Unit(symbol=asset.symbol, decimals=asset.decimals),
        value=judged.value,
        judged=judged.said,
        approvals=tuple(Approval(by=_party(names, each), reason=each.payload.get("reason")) for each in decisions),
        asked=tuple((each.id, each.name, each.version) for each in asked),
        tx_hash=tx_hash(raw),
        nonce=signed.transaction.nonce,
        fee_max=signed.transaction.gas_limit * signed.transaction.max_fee_per_gas,
        unproven=judged.unproven,
    )


# The file and the records


def _read(data: bytes) -> dict[str, Any]:
    document = read_canonical(data, field="file")
    shape = {"v": int, "records": list, "payout": dict, "asked": list, "decisions": list, "transaction": str}
    given = members(document, "file", shape)
    if given["v"] != VERSION:
        raise EvidenceBroken(f"version {given['v']} of proofs is not known here: get a newer verifier", field="file.v")
    for at, each in enumerate(given["records"]):
        if not isinstance(each, dict):
            raise EvidenceBroken("is not a record", field=f"records[{at}]")
    return given


def _check_root(records: Sequence[dict[str, Any]], root: str) -> None:
    if not is_digest(root):
        raise EvidenceBroken(
            "a root fingerprint is 64 lower-case hex digits, as outlay init printed them", field="root"
        )
    if not records or record_hash(records[0]) != root:
        raise EvidenceBroken(
            "the first record is another one: this is the proof of another organization, or one made to look like"
            " yours; check the fingerprint",
            field="root",
        )


def _check_window(given: Mapping[str, Any], history: History) -> None:
    """The newest record must be the newest that a signature covers: no record hangs at the end unsigned."""
    seen = set()
    for at, call in enumerate([given["payout"], *given["decisions"]]):
        field = f"decisions[{at - 1}]" if at else "payout"
        preimage = Preimage.from_document(members(call, field, _CALL)["preimage"])
        if preimage.records_head not in history.numbers:
            raise EvidenceBroken(
                "was signed over records that the file does not hold: they were cut off or belong to another"
                " organization",
                field=field,
            )
        seen.add(preimage.records_head)
    if history.head not in seen:
        raise EvidenceBroken("the newest record is covered by no signature in the file", field="records")


# Signatures


def open_signature(history: History, document: object, field: str) -> Signature:
    """Return a signed call of the proof, if a key of the records made it.

    Raises:
        InvalidInput: it is malformed, was not signed, or by a key that could not sign then.
    """
    given = members(document, field, _CALL)
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
        "origins": _origins(assertion),
        "policySet": "",
    }
    try:
        verify_evidence(whole)
        history.signer(whole, preimage)
    except EvidenceBroken as error:
        raise EvidenceBroken(error.message, field=f"{field}: {error.field}") from error
    seq = history.numbers[preimage.records_head]
    return Signature(preimage=preimage, payload=given["payload"], key=known, seq=seq)


def _origins(assertion: Assertion) -> list[str]:
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
            raise EvidenceBroken(f"names no version of {given['policyId']} that asked anybody", field=field)
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
            raise EvidenceBroken(f"the policy {name!r} asks for approval, and was not asked", field="asked")


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
            raise EvidenceBroken("answers other groups than those of the policies that asked", field=field)
        if decision.payload.get("value") != "Approved":
            raise EvidenceBroken("does not approve", field=field)
        if decisions and (preimage.issued, preimage.nonce) <= (
            decisions[-1].preimage.issued,
            decisions[-1].preimage.nonce,
        ):
            raise EvidenceBroken("is out of order, or given twice", field=field)
        _require(history, decision, VOTE)
        if not decision.key.usable_at(newest):
            raise EvidenceBroken(f"{user_id}, or the key they decided with, was switched off since", field=field)
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
            raise EvidenceBroken(f'{user_id} may not decide; the rule says "{said}"', field=field)
        people[user_id] = person
        decisions.append(decision)
    return people, decisions


# The transaction


def _read_transaction(
    history: History, text: str, wallet: KnownWallet, intent: Intent
) -> tuple[SignedTransaction, bytes]:
    if _RAW.fullmatch(text) is None:
        raise EvidenceBroken("is 0x and lower-case hex", field="transaction")
    raw = bytes.fromhex(text[2:])
    signed = read_signed(raw)
    networks = history.money_settings.get("networks")
    settings = networks.get(wallet.network) if isinstance(networks, dict) else None
    transaction = signed.transaction
    if signed.compressed_key.hex() != wallet.public_key or address_of(signed.public_key) != wallet.address.lower():
        raise EvidenceBroken("it was not signed by the wallet's key, or its bytes were changed", field="transaction")
    if (
        transaction.chain_id != wallet.chain_id
        or not isinstance(settings, dict)
        or settings.get("chainId") != wallet.chain_id
    ):
        raise EvidenceBroken("it is for another chain", field="transaction")
    amount, native = int(intent.amount), intent.asset == NATIVE
    to, value, data = (
        (intent.recipient, amount, b"") if native else (intent.asset, 0, erc20_transfer(intent.recipient, amount))
    )
    if (transaction.to, transaction.value, transaction.data) != (to, value, data):
        raise EvidenceBroken("it pays something else than what was requested", field="transaction")
    return signed, raw


# What people are called


def names_of(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what the records of a verified chain call each person and service account, by user id."""
    names: dict[str, str] = {}
    for record in records:
        body = record["body"]
        if record["kind"] == "genesis":
            names[body["admin"]["userId"]] = body["admin"]["username"]
        elif record["kind"] in ("user.invited", "serviceAccount.created", "user.renamed"):
            name = body.get("username") or body.get("name")
            if isinstance(name, str):
                names[record["subject"]] = name
    return names


def _party(names: Mapping[str, str], signature: Signature) -> Party:
    return Party(
        name=names.get(signature.user_id, signature.user_id),
        user_id=signature.user_id,
        fingerprint=signature.key.fingerprint,
        at=signature.preimage.issued,
        seq=signature.seq,
    )


__all__ = [
    "ProofBroken",
    "Report",
    "Signature",
    "names_of",
    "open_signature",
    "order",
    "portable",
    "verify_payout",
    "versions_asked",
]
