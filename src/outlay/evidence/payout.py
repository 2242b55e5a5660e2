"""The proof of one payout: one file, checked offline from the root fingerprint to the bytes of the transaction.

The file is canonical JSON and holds exactly this:

* ``v``: 1
* ``records``: from the first to the newest whose hash a signature in the file covers
* ``payout``: the signed request, or the mandate in its place (``mandated``)
* ``decisions``: the signed approvals that counted, in the order of signing
* ``asked``: ``[{policyId, version}]`` by id: the policies whose groups had to agree
* ``transaction``: the signed bytes, ``0x`` and lower-case hex

A signed call in it is ``{v, preimage, payload, assertion}``, or as a request one HTTP message (``http_call``): its key
is looked up in the records. Nothing stands in
the file that a signature, or the hash of a record, does not cover, or that does not follow from what is covered. So no
byte of it is free, except that a quorum with a vote to spare proves the same without it, and that with some kinds of
keys (ECDSA) a second signature over the same content can be made from the first.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from outlay.codec.evm import address_of, erc20_transfer, tx_hash
from outlay.codec.signed import SignedTransaction, read_signed
from outlay.core.asset import NATIVE
from outlay.core.errors import InvalidInput
from outlay.core.intent import Intent
from outlay.evidence.batch import split
from outlay.evidence.bundle import EvidenceBroken
from outlay.evidence.canonical import read_canonical
from outlay.evidence.demand import Checked, Signature, check_demand, head_seen, is_its_chain
from outlay.evidence.history import History, verify_history
from outlay.evidence.mandated import Mandated, check_mandated, is_mandated
from outlay.evidence.record import record_hash
from outlay.evidence.report import Approval, Party, Report, Standing, Trail, Unit
from outlay.evidence.shape import is_digest, members
from outlay.evidence.state import KnownWallet

VERSION = 1

_NO_HEAD = "which records the requester knew: the signed message names none, so later ones may be left out of this file"
_NOBODY_ASKED = (
    "when it was asked for and signed: that it was its time, and went once, is what the signer checks",
    "that the newest record here was the newest then: nobody signs what a mandate asks for, so later records, for"
    " example that it was archived, may be left out of this file",
)
_RAW = re.compile(r"0x(?:[0-9a-f]{2})+")


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
    names = names_of(given["records"])
    checked, requester, unproven = _check(history, given, names, trail)
    intent = checked.intent
    with trail.step("transaction", "the wallet's key signed exactly this payment, for this chain"):
        signed, raw = _read_transaction(history, given["transaction"], checked.wallet, intent)
    return Report(
        steps=tuple(trail.done),
        root=root,
        org=history.org,
        newest=newest,
        newest_at=history.instants[newest],
        head=history.head,
        requester=requester,
        intent=intent,
        wallet_id=checked.wallet_id,
        wallet_address=checked.wallet.address,
        unit=Unit(symbol=checked.asset.symbol, decimals=checked.asset.decimals),
        value=checked.judged.value,
        judged=checked.judged.said,
        approvals=tuple(
            Approval(by=_party(names, each), reason=each.payload.get("reason")) for each in checked.decisions
        ),
        asked=tuple((each.id, each.name, each.version) for each in checked.asked),
        tx_hash=tx_hash(raw),
        nonce=signed.transaction.nonce,
        fee_max=signed.transaction.gas_limit * signed.transaction.max_fee_per_gas,
        unproven=(*checked.judged.unproven, *unproven),
    )


def _check(
    history: History, given: Mapping[str, Any], names: Mapping[str, str], trail: Trail
) -> tuple[Checked | Mandated, Party | Standing, tuple[str, ...]]:
    """Check what justifies the payout; return it, who asked, and what that leaves open."""
    payer, asked, decisions = _payer(history, given["transaction"]), given["asked"], given["decisions"]
    if is_mandated(given["payout"]):
        found = check_mandated(
            history, payout=given["payout"], asked=asked, decisions=decisions, payer=payer, trail=trail
        )
        standing = Standing(
            name=found.mandate.name,
            mandate_id=found.mandate.id,
            run=found.run,
            seq=found.since,
            at=history.instants[found.since],
        )
        return found, standing, _NOBODY_ASKED
    checked = check_demand(history, payout=given["payout"], asked=asked, decisions=decisions, payer=payer, trail=trail)
    return checked, _party(names, checked.request), () if checked.request.names_head else (_NO_HEAD,)


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
    by_mandate = is_mandated(given["payout"])
    for at, call in enumerate([given["payout"], *given["decisions"]]):
        if by_mandate and not at:
            continue  # nobody signed it
        field = f"decisions[{at - 1}]" if at else "payout"
        head = head_seen(history, split(call)[0] if at else call, field)
        if head not in history.numbers:
            raise EvidenceBroken(
                "was signed over records that the file does not hold: they were cut off or belong to another"
                " organization",
                field=field,
            )
        seen.add(head)
    if history.head not in seen and not by_mandate:
        raise EvidenceBroken("the newest record is covered by no signature in the file", field="records")


# The transaction


def _payer(history: History, text: str) -> str | None:
    """Return the wallet that signed a transaction; None: no wallet on record did, or it cannot be read."""
    try:
        address = address_of(read_signed(bytes.fromhex(text[2:])).public_key)
    except (InvalidInput, ValueError):
        return None
    return next((key for key, each in history.wallets.items() if each.address.lower() == address), None)


def _read_transaction(
    history: History, text: str, wallet: KnownWallet, intent: Intent
) -> tuple[SignedTransaction, bytes]:
    if _RAW.fullmatch(text) is None:
        raise EvidenceBroken("is 0x and lower-case hex", field="transaction")
    raw = bytes.fromhex(text[2:])
    signed = read_signed(raw)
    transaction = signed.transaction
    if signed.compressed_key.hex() != wallet.public_key or address_of(signed.public_key) != wallet.address.lower():
        raise EvidenceBroken("it was not signed by the wallet's key, or its bytes were changed", field="transaction")
    if transaction.chain_id != wallet.chain_id or not is_its_chain(history, wallet):
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
