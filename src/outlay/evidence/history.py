"""The walk from the root fingerprint to any signature: root, registration, credential, assertion.

``verify_history`` replays the chain of records; ``Replay`` does so as they come. Every record after the genesis record
must be signed, over exactly the head it follows, by a key that the records before it introduced and somebody vouched
for, and by somebody who was permitted the signed call; that call must be the one that brings the record's kind about,
and the body must follow from it (``changes``). So a database re-signed with new keys fails, and so does a record that
was added, dropped, moved or changed, the newest one included.
"""

from collections.abc import Iterable
from typing import Any

from outlay.core.errors import InvalidInput
from outlay.evidence.bundle import EvidenceBroken, verify_evidence
from outlay.evidence.changes import CHANGES, PROVED, check_route
from outlay.evidence.record import RecordBroken, check_instant, check_next, check_order
from outlay.evidence.requests import MADE, REQUESTS, check_agreed, follow_policy
from outlay.evidence.state import History, KnownCredential
from outlay.evidence.step import Step

__all__ = ["History", "KnownCredential", "Replay", "verify_history"]


def verify_history(documents: Iterable[dict[str, Any]], root: str) -> History:
    """Replay the records and return what they say.

    Args:
        documents: all records in order, as ``read_canonical`` returned them.
        root: hex hash of the genesis record, from outside of the database.

    Raises:
        RecordBroken: as ``verify_chain``, or a body does not fit its kind or its evidence.
        EvidenceBroken: a record's evidence does not verify, is of another call, or was made by a key that could not
            sign or by somebody who was not permitted the call.
    """
    replay = Replay(root)
    for document in documents:
        replay.add(document)
    if replay.history is None:
        raise RecordBroken("there are no records", field="records")
    return replay.history


class Replay:
    """A history that grows record by record."""

    def __init__(self, root: str) -> None:
        """Begin before the genesis record.

        Args:
            root: hex hash of the genesis record, from outside of the database.
        """
        self.root = root
        self.history: History | None = None

    @property
    def newest(self) -> int:
        """Number of the newest record; -1: none yet."""
        return -1 if self.history is None else len(self.history.instants) - 1

    def add(self, document: dict[str, Any]) -> str:
        """Check the next record, note what it says and return its hash.

        Args:
            document: as ``read_canonical`` returned it.

        Raises:
            RecordBroken, EvidenceBroken: as ``verify_history``. The history may have been changed in part by then: it
                is to be thrown away.
        """
        number, history = self.newest + 1, self.history
        head, org = (None, "") if history is None else (history.head, history.org)
        digest = check_next(document, seq=number, head=head, org=org, root=self.root)
        history = history or History(org=document["org"])
        try:
            check_order(document["at"], history.latest)
            _replay(history, document, digest)
        except (RecordBroken, EvidenceBroken) as error:
            raise type(error)(f"record {number}: {error.message}", field=error.field) from error
        except InvalidInput as error:
            raise RecordBroken(f"record {number}: {error.message}", field=error.field) from error
        history.numbers[digest] = number
        history.instants.append(document["at"])
        history.latest = max(history.latest, document["at"])
        history.note_settings(number)
        history.head = digest
        self.history = history
        return digest


def _replay(history: History, document: dict[str, Any], digest: str) -> None:
    kind, number, evidence = document["kind"], document["seq"], document["evidence"]
    named: dict[str, Any] = {
        "history": history,
        "kind": kind,
        "number": number,
        "at": document["at"],
        "digest": digest,
        "subject": document["subject"],
        "body": document["body"],
    }
    proved = PROVED.get(kind) or MADE.get(kind)
    if proved is not None:
        proved(Step(**named, payload={}))
        return
    preimage = verify_evidence(evidence)
    if preimage.records_head != document["prev"]:
        raise EvidenceBroken("signed over another head of the records", field="evidence.preimage.recordsHead")
    check_instant(document["at"], preimage.issued, preimage.expires)
    signer = history.signer(evidence, preimage)
    history.check_policy_set(evidence["policySet"], number - 1)
    payload = evidence["payload"]
    if not isinstance(payload, dict):
        raise EvidenceBroken("the payload is not an object", field="evidence.payload")
    step = Step(**named, payload=payload, method=preimage.method, path=preimage.path, signer=signer, preimage=preimage)
    if kind in REQUESTS:
        REQUESTS[kind](step)
        return
    check_route(step, preimage)
    check_agreed(step)
    CHANGES[kind][1](step)
    follow_policy(step)
