"""What answers hold, as ``docs/reference/api.md`` describes it."""

from typing import Any, Literal, NotRequired, TypedDict

State = Literal[
    "requested",
    "held",
    "ready",
    "assigned",
    "signed",
    "broadcast",
    "mined",
    "confirmed",
    "failed",
    "rejected",
    "canceled",
    "expired",
]
ENDED: frozenset[str] = frozenset({"confirmed", "failed", "rejected", "canceled", "expired"})
"""States after which nothing more happens to a payout; only ``confirmed`` is paid."""


class Payout(TypedDict):
    """One payout."""

    id: str
    state: State
    walletId: str
    network: str
    asset: str
    recipient: str
    amount: str  #: base units as digits
    priority: str
    initiatorId: str
    dateRequested: str
    externalId: NotRequired[str]
    reason: NotRequired[str]
    waitingReason: NotRequired[str]
    flag: NotRequired[str]
    poolId: NotRequired[str]
    batchId: NotRequired[str]
    symbol: NotRequired[str]
    decimals: NotRequired[int]
    memo: NotRequired[str]
    valueUsd: NotRequired[str]
    approvalId: NotRequired[str]
    txHash: NotRequired[str]
    fee: NotRequired[str]  #: paid, base units of the network's coin
    dateReady: NotRequired[str]
    dateBroadcasted: NotRequired[str]
    dateConfirmed: NotRequired[str]
    delayedSince: NotRequired[str]


class BatchRow(TypedDict):
    """What became of one item of a batch: a payout, or why it was refused."""

    externalId: str
    payout: NotRequired[Payout]
    error: NotRequired[dict[str, Any]]


class PayoutBatch(TypedDict):
    """A batch."""

    id: str
    digest: str
    initiatorId: str
    dateCreated: str
    count: int
    refused: int
    items: list[BatchRow]
