"""What nodes say when they do not take a transaction: one table from wording to ``SendKind``.

Clients word the same refusal differently and change it between releases, so a row is a fragment looked for
in the lower-cased message. Wording that no row knows is ``UNKNOWN``: the transaction may have been taken.
"""

from typing import NamedTuple

from outlay.chains import SendAnswer, SendKind

TEXT_MAX = 240
"""Characters of a node's message that are kept."""


class Row(NamedTuple):
    """One known wording."""

    fragment: str  #: lower case; looked for anywhere in the message
    kind: SendKind
    client: str  #: the client that says it
    source: str  #: where the wording is defined, or ``seen`` on a running node


_K = SendKind
_GETH_POOL, _GETH_CORE = "core/txpool/errors.go", "core/error.go"
_ANVIL, _PARITY = "crates/anvil/src/eth/error.rs", "rpc/src/v1/helpers/errors.rs"
_NETHERMIND, _BESU = "Nethermind.TxPool/AcceptTxResult.cs", "api/jsonrpc: RpcErrorType"
_ERIGON, _RETH = "txpoolcfg: DiscardReason", "rpc-eth-types/src/error"

# Order matters where one fragment contains another: the more specific row stands first.
ROWS: tuple[Row, ...] = (
    Row("already known", _K.KNOWN, "geth", _GETH_POOL),
    Row("alreadyknown", _K.KNOWN, "nethermind", _NETHERMIND),
    Row("already imported", _K.KNOWN, "anvil", _ANVIL + ", seen"),
    Row("known transaction", _K.KNOWN, "besu", _BESU),
    Row("same hash was already imported", _K.KNOWN, "openethereum", _PARITY),
    Row("existing tx with same hash", _K.KNOWN, "erigon", _ERIGON),
    Row("authority nonce too low", _K.REFUSED, "geth", _GETH_POOL),
    Row("nonce too low", _K.NONCE_TOO_LOW, "geth", _GETH_CORE),
    Row("oldnonce", _K.NONCE_TOO_LOW, "nethermind", _NETHERMIND),
    Row("nonce is too low", _K.NONCE_TOO_LOW, "openethereum", _PARITY),
    Row("transaction already mined", _K.NONCE_TOO_LOW, "reth", _RETH),
    Row("replacement transaction underpriced", _K.UNDERPRICED, "geth", _GETH_POOL),
    Row("could not replace existing tx", _K.UNDERPRICED, "erigon", _ERIGON),
    Row("another transaction with same nonce", _K.UNDERPRICED, "openethereum", _PARITY),
    Row("replacementnotallowed", _K.UNDERPRICED, "nethermind", _NETHERMIND),
    Row("insufficient gas price to replace", _K.UNDERPRICED, "anvil", _ANVIL),
    Row("transaction underpriced", _K.UNDERPRICED, "geth", _GETH_POOL),
    Row("feetoolow", _K.UNDERPRICED, "nethermind", _NETHERMIND),
    Row("max fee per gas less than block base fee", _K.UNDERPRICED, "geth", _GETH_CORE),
    Row("fee cap less than block base fee", _K.UNDERPRICED, "erigon", _ERIGON),
    Row("gas price below", _K.UNDERPRICED, "besu", _BESU),
    Row("transaction gas price is too low", _K.UNDERPRICED, "openethereum", _PARITY),
    Row("insufficient funds", _K.INSUFFICIENT_FUNDS, "geth", _GETH_CORE),
    Row("insufficientfunds", _K.INSUFFICIENT_FUNDS, "nethermind", _NETHERMIND),
    Row("upfront cost exceeds account balance", _K.INSUFFICIENT_FUNDS, "besu", _BESU),
    Row("nonce too high", _K.REFUSED, "geth", _GETH_CORE),
    Row("noncegap", _K.REFUSED, "nethermind", _NETHERMIND),
    Row("noncetoofarinfuture", _K.REFUSED, "nethermind", _NETHERMIND),
    Row("nonce has max value", _K.REFUSED, "geth", _GETH_CORE),
    Row("intrinsic gas", _K.REFUSED, "geth", _GETH_CORE),
    Row("exceeds block gas limit", _K.REFUSED, "geth", _GETH_POOL),
    Row("gas limit is greater than the block gas limit", _K.REFUSED, "anvil", _ANVIL),
    Row("gaslimitexceeded", _K.REFUSED, "nethermind", _NETHERMIND),
    Row("gas limit reached", _K.REFUSED, "geth", _GETH_CORE),
    Row("exceeds the configured cap", _K.REFUSED, "geth", "internal/ethapi: checkTxFee"),
    Row("transaction fee cap exceeded", _K.REFUSED, "besu", _BESU),
    Row("max priority fee per gas higher than max fee per gas", _K.REFUSED, "geth", _GETH_CORE),
    Row("txpool is full", _K.REFUSED, "geth", "core/txpool/legacypool"),
    Row("account limit exceeded", _K.REFUSED, "geth", _GETH_POOL),
    Row("future transaction tries to replace pending", _K.REFUSED, "geth", _GETH_POOL),
    Row("too many transactions in the queue", _K.REFUSED, "openethereum", _PARITY),
    Row("invalid chain id", _K.REFUSED, "anvil", _ANVIL),
    Row("wrong chainid", _K.REFUSED, "besu", _BESU),
    Row("invalid sender", _K.REFUSED, "geth", _GETH_POOL),
    Row("sender not an eoa", _K.REFUSED, "geth", _GETH_CORE),
    Row("transaction type not supported", _K.REFUSED, "geth", "core/types"),
    Row("oversized data", _K.REFUSED, "geth", _GETH_POOL),
)
"""Every known wording."""


def classify(message: str) -> SendAnswer:
    """Return what a node's error message on a send means; ``UNKNOWN`` where no row matches."""
    lowered = message.lower()
    kind = next((row.kind for row in ROWS if row.fragment in lowered), SendKind.UNKNOWN)
    return SendAnswer(kind, shorten(message))


def shorten(text: str) -> str:
    """Return a node's words on one printable line of at most ``TEXT_MAX`` characters."""
    line = "".join(c if c.isprintable() else " " for c in text[: 4 * TEXT_MAX])
    line = " ".join(line.split())
    return line if len(line) <= TEXT_MAX else line[: TEXT_MAX - 3] + "..."


# What several endpoints say about one transaction. A lost answer outranks every refusal: that endpoint may
# hold the transaction, whatever the others think of it.
_RANK = {
    kind: rank
    for rank, kind in enumerate(
        (
            SendKind.ACCEPTED,
            SendKind.KNOWN,
            SendKind.UNKNOWN,
            SendKind.NONCE_TOO_LOW,
            SendKind.UNDERPRICED,
            SendKind.INSUFFICIENT_FUNDS,
            SendKind.REFUSED,
        )
    )
}


def merge(answers: list[SendAnswer]) -> SendAnswer:
    """Return the one answer that stands for those of several endpoints; ``UNKNOWN`` for none at all."""
    if not answers:
        return SendAnswer(SendKind.UNKNOWN, "no endpoint could be asked")
    return min(answers, key=lambda answer: _RANK[answer.kind])
