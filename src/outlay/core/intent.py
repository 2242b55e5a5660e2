"""The intent: the canonical statement of what one transfer is. Two requests with the same intent are one."""

from dataclasses import asdict, dataclass
from typing import Any

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What is to be paid, by whom, to whom. Every member is signed over and never changes."""

    org: str
    external_id: str | None
    initiator: str  #: user id of who asked
    wallet: str  #: wallet id
    network: str
    chain_id: int
    asset: str  #: ``native`` or the contract address in lower case
    recipient: str  #: lower case where the chain ignores case
    amount: str  #: base units, decimal digits
    memo: str
    priority: str  #: Slow, Standard or Fast, the default written out

    def document(self) -> dict[str, Any]:
        """Return the intent as the JSON object whose canonical bytes are digested."""
        fields = asdict(self)
        return {
            "v": VERSION,
            "externalId": fields.pop("external_id"),
            "chainId": fields.pop("chain_id"),
            **fields,
        }
