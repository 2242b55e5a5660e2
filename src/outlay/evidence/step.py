"""One record on its way into the history, and what every kind of record is checked with."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from outlay.core import ids
from outlay.evidence.bundle import EvidenceBroken
from outlay.evidence.canonical import canonical
from outlay.evidence.challenge import Preimage
from outlay.evidence.record import RecordBroken
from outlay.evidence.state import History, KnownCredential


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One record on its way into the history."""

    history: History  #: as the records before leave it
    kind: str
    number: int
    at: int  #: microseconds UTC, as the server says
    digest: str  #: the record's own hash
    subject: str
    body: dict[str, Any]
    payload: dict[str, Any]  #: what was signed; of a record without action evidence, nothing
    method: str = ""
    path: str = ""
    signer: KnownCredential | None = None
    preimage: Preimage | None = None

    @property
    def by(self) -> KnownCredential:
        """Who signed."""
        assert self.signer is not None
        return self.signer

    def expect(self, body: Mapping[str, Any]) -> None:
        """Refuse any body but ``body``."""
        if canonical(self.body) != canonical(body):
            raise RecordBroken("the record does not say what was signed", field="record.body")

    def expect_payload(self, payload: Mapping[str, Any]) -> None:
        """Refuse any signed payload but ``payload``."""
        if canonical(self.payload) != canonical(payload):
            raise EvidenceBroken("the call signed does not bring this about", field="evidence.payload")

    def signed(self, name: str) -> str:
        """Return a text of the signed payload."""
        value = self.payload.get(name)
        if not isinstance(value, str):
            raise EvidenceBroken("the signed payload lacks a text", field=f"evidence.payload.{name}")
        return value

    def signed_texts(self, name: str) -> list[str]:
        """Return a list of texts of the signed payload."""
        value = self.payload.get(name)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise EvidenceBroken("the signed payload lacks a list of texts", field=f"evidence.payload.{name}")
        return value

    def made(self, name: str) -> Any:
        """Return a member of the body that the server made."""
        if name not in self.body:
            raise RecordBroken(f"lacks {name}", field=f"record.body.{name}")
        return self.body[name]

    def new_subject(self, prefix: str, known: Container[str]) -> str:
        """Return the subject, which must be a fresh identifier."""
        return fresh(self.subject, prefix, known, "record.subject")

    def require(self, operations: Iterable[str]) -> None:
        """Refuse a signer that lacks one of ``operations`` after the record before."""
        for operation in operations:
            if not self.history.key_may(self.by, operation, self.number - 1):
                raise EvidenceBroken(f"the signer was not permitted {operation}", field="evidence.credential")


def fresh(value: object, prefix: str, known: Container[str], field: str) -> str:
    """Return ``value`` if it is an identifier with ``prefix`` that is not ``known`` yet.

    Raises:
        RecordBroken: it is not.
    """
    if not isinstance(value, str) or not ids.is_id(value, prefix):
        raise RecordBroken(f"is not an identifier that begins with {prefix}-", field=field)
    if value in known:
        raise RecordBroken("is taken: an earlier record introduced it", field=field)
    return value
