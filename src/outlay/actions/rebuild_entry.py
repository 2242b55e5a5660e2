"""One record on its way into the tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outlay.core.seams import Entropy, Instant
from outlay.evidence.bundle import read_credential
from outlay.store.database import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One record on its way into the tables; of a change that was agreed on, the record it stands for."""

    unit: Unit
    entropy: Entropy
    kind: str
    subject: str
    body: dict[str, Any]
    at: Instant
    hash: str  #: of the record itself
    payload: dict[str, Any]  #: what was signed
    proof: Mapping[str, Any] | None  #: the action evidence

    @property
    def signer(self) -> str:
        """Who signed."""
        assert self.proof is not None
        return read_credential(self.proof["credential"])[0].user_id

    @property
    def key(self) -> str:
        """With which key: its uuid."""
        assert self.proof is not None
        return read_credential(self.proof["credential"])[0].uuid
