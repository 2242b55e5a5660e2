"""The intent: the canonical statement of what one transfer is. Two requests with the same intent are one."""

import re
from dataclasses import dataclass
from typing import Any

from outlay.core.address import parse_address
from outlay.core.asset import NATIVE
from outlay.core.errors import InvalidInput
from outlay.core.money import parse_amount

VERSION = 1
MEMO_MAX = 200
PRIORITIES = ("Slow", "Standard", "Fast")
_EXTERNAL_ID = re.compile(r"[\x21-\x7e]{1,50}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What is to be paid, by whom, to whom. Every member is signed over and never changes."""

    org: str
    external_id: str | None
    initiator: str  #: user id of who asked
    wallet: str | None  #: wallet id; None: the pool names a wallet later
    pool: str | None = None  #: pool id, where no wallet is named
    network: str
    chain_id: int
    asset: str  #: ``native`` or the contract address in lower case
    recipient: str  #: lower case where the chain ignores case
    amount: str  #: base units, decimal digits
    memo: str
    priority: str  #: Slow, Standard or Fast, the default written out

    def document(self) -> dict[str, Any]:
        """Return the intent as the JSON object whose canonical bytes are digested."""
        # Who pays is named once.
        payer = {"wallet": self.wallet} if self.pool is None else {"pool": self.pool}
        return {
            "v": VERSION,
            "org": self.org,
            "externalId": self.external_id,
            "initiator": self.initiator,
            **payer,
            "network": self.network,
            "chainId": self.chain_id,
            "asset": self.asset,
            "recipient": self.recipient,
            "amount": self.amount,
            "memo": self.memo,
            "priority": self.priority,
        }


def read_intent(
    *,
    org: str,
    initiator: str,
    wallet: str | None,
    pool: str | None = None,
    network: str,
    chain_id: int,
    contract: str | None,
    to: str,
    amount: str,
    priority: str | None,
    external_id: str | None,
    memo: str = "",
) -> Intent:
    """Return the intent of a request; the server and the offline verifier read it by these same rules.

    Args:
        org: the organization.
        initiator: user id of who asks.
        wallet: the paying wallet; None: a pool is named.
        pool: the pool one of whose wallets pays, where no wallet is named.
        network: of the wallet or pool.
        chain_id: of the wallet or pool.
        contract: the token; None for the native coin.
        to: recipient address.
        amount: base units as digits.
        priority: Slow, Standard or Fast; None is Standard.
        external_id: the caller's own id of this payout, if there is one.
        memo: what people should read beside it; at most 200 characters.

    Raises:
        InvalidInput: names the member of the request.
    """
    if external_id is not None and _EXTERNAL_ID.fullmatch(external_id) is None:
        raise InvalidInput("is 1 to 50 printable ASCII characters without spaces", field="externalId")
    if priority is not None and priority not in PRIORITIES:
        raise InvalidInput("is Slow, Standard or Fast", field="priority")
    if len(memo) > MEMO_MAX or not memo.isprintable():
        raise InvalidInput(f"is at most {MEMO_MAX} printable characters", field="memo")
    return Intent(
        org=org,
        external_id=external_id,
        initiator=initiator,
        wallet=wallet,
        pool=pool,
        network=network,
        chain_id=chain_id,
        asset=NATIVE if contract is None else parse_address(contract, field="contract"),
        recipient=parse_address(to, field="to"),
        amount=str(parse_amount(amount)),
        memo=memo,
        priority=priority or "Standard",
    )
