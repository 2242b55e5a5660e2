"""Rows of a signed file become payouts, group by group and in their order, as if each had been asked for alone.

Nobody is there to ask by then. So the signed call is opened again for each group: its key, its holder and what they
may do count as they are now.
"""

import json
from collections.abc import Sequence
from typing import Any

from outlay.actions.act import Act, SignedCall, credential_of, holder_of
from outlay.actions.admit import Answers, Ask, Order, QuoteOf, order_payouts
from outlay.actions.payouts import Networks, ask_of, error_document
from outlay.actions.present_batches import worth
from outlay.actions.signed_message import SignedMessage
from outlay.actions.submissions import submission_of
from outlay.actions.work import Work
from outlay.config import Config
from outlay.core.errors import ActionSignatureInvalid, HeadMoved, InvalidInput, NotPermitted, Refused
from outlay.evidence.assertion import Assertion, Credential
from outlay.evidence.canonical import payload_digest
from outlay.evidence.challenge import Preimage
from outlay.evidence.demand import REQUEST, portable
from outlay.evidence.http_call import is_http, preimage_of, read_call
from outlay.evidence.merkle import Tree
from outlay.evidence.payout_item import read_item
from outlay.evidence.submission import request_of, row_texts
from outlay.store import organizations, submissions
from outlay.store.database import Row, Unit
from outlay.store.identities import Identities


def admit_rows(work: Work, batch_id: str, tree: Tree, *, limit: int, quote_of: QuoteOf) -> int:
    """Admit the next rows of a file, or refuse them; return how many were looked at.

    Args:
        work: a money unit.
        batch_id: of the file.
        tree: over all its rows.
        limit: rows at most.
        quote_of: gives the price of an asset, or None.

    Raises:
        Unavailable: the money settings are not the signed ones; nothing was done.
    """
    row = submissions.get(work.unit, batch_id)
    if row.state != submissions.ADMITTING:
        return 0
    rows = submissions.rows(work.unit, batch_id, first=row.admitted, limit=limit)
    answers = _answers(work, row, rows, tree, quote_of)
    noted: list[tuple[int, str | None, Any]] = []
    values: list[int | None] = [worth(row)]
    for each, answer in zip(rows, answers, strict=True):
        if isinstance(answer, Refused):
            noted.append((each.place, None, error_document(answer)))
        else:
            noted.append((each.place, answer["id"], None))
            values.append(answer["value"])
    submissions.note(work.unit, batch_id, noted)
    admitted = row.admitted + len(rows)
    is_over = admitted >= row.row_count
    submissions.update(
        work.unit,
        batch_id,
        admitted=admitted,
        refused=row.refused + sum(error is not None for _, _, error in noted),
        value=submissions.UNPRICED if None in values else str(sum(value for value in values if value is not None)),
        **({"state": submissions.DONE, "ended_at": work.now} if is_over else {}),
    )
    return len(rows)


def _answers(work: Work, row: Row, rows: Sequence[Row], tree: Tree, quote_of: QuoteOf) -> Answers:
    """Return the payout or the refusal of each row."""
    try:
        act = reopen(work, row)
        return _admit(act, row, rows, tree, quote_of)
    except HeadMoved:
        moved = "policies, tags or settings were changed after this batch was signed: submit the same file again"
        return [HeadMoved(moved) for _ in rows]
    except Refused as refused:
        return [refused for _ in rows]


def _admit(act: Act, row: Row, rows: Sequence[Row], tree: Tree, quote_of: QuoteOf) -> Answers:
    submission = submission_of(row)
    networks: Networks = {}
    proofs = row_texts(
        json.loads(row.document),
        count=row.row_count,
        first=row.admitted,
        texts=[each.item for each in rows],
        paths=[tree.path(each.place) for each in rows],
    )
    answers: dict[int, dict[str, Any] | Refused] = {}
    asks: dict[int, Ask] = {}
    for at, (each, proof) in enumerate(zip(rows, proofs, strict=True)):
        try:
            request, network = request_of(submission, json.loads(each.item), "row")
            if network != row.network:
                raise InvalidInput(f"is {network}; the wallet or pool pays on {row.network}", field="network")
            asks[at] = ask_of(act, read_item(request, "row"), networks, proof=proof)
        except Refused as refused:
            answers[at] = refused
    order = Order(act=act, asks=list(asks.values()), quote_of=quote_of, batch=row.id, show=_kept)
    answers.update(zip(asks, order_payouts(order), strict=True))
    return [answers[at] for at in range(len(rows))]


def _kept(_unit: Unit, row: Any, _config: Config) -> dict[str, Any]:
    return {"id": row.id, "value": row.value}


def reopen(work: Work, row: Row) -> Act:
    """Return the signed call of a file, to be carried out further.

    Raises:
        NotAuthenticated, NotPermitted: its key, its holder or their permission is gone, or the signature is not good.
    """
    org, known = organizations.get(work.unit), Identities(work.unit)
    document = json.loads(row.document)
    caller = holder_of(work.unit, known, row.credential_id, now=work.now)
    key = known.credential(row.credential_id)
    if key is None or not caller.is_vouched or caller.user_id != row.initiator_id:
        raise NotPermitted("the key that signed this batch does not count any more")
    caller.require(REQUEST)
    credential = credential_of(key, origins=work.config.server.origins)
    call = _call(document, row, org=org.id, credential=credential)
    if call.preimage.identity != caller.user_id or call.preimage.org != org.id:
        raise ActionSignatureInvalid("this batch was signed by somebody else")
    call.check_signature(credential, origins=work.config.server.origins)
    return Act(
        unit=work.unit,
        now=work.now,
        entropy=work.entropy,
        config=work.config,
        org=org,
        caller=caller,
        call=call,
        credential=credential,
        credential_record=key.record,
        payload=None,
    )


def _call(document: dict[str, Any], row: Row, *, org: str, credential: Credential) -> SignedCall | SignedMessage:
    """Return the signed call that is stored of a file.

    Raises:
        ActionSignatureInvalid: this key did not sign it.
    """
    if not is_http(document):
        return SignedCall(
            preimage=Preimage.from_document(document["preimage"]),
            assertion=Assertion.from_document(document["assertion"]),
            credential_uuid=credential.uuid,
            token_expires=row.created_at,
        )
    http = read_call(portable(document), "evidence")
    http.message.verify(credential.public_key)
    signed = payload_digest(http.payload)
    preimage = preimage_of(
        http.message,
        digest=signed,
        org=org,
        user_id=credential.user_id,
        credential_uuid=credential.uuid,
        records_head=row.records_head,
    )
    return SignedMessage(
        message=http.message, body=document["body"].encode(), digest=signed, credential=credential, seen=preimage
    )
