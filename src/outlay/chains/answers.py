"""What nodes say when they do not take a transaction: one table from wording to ``SendKind``.

Clients word the same refusal differently and change it between releases, so a row is a text looked for in the
lower-cased message. Wording that no row knows is ``UNKNOWN``: the transaction may have been taken.
"""

from typing import NamedTuple

from outlay.chains import SendAnswer, SendKind

TEXT_MAX = 240
"""Characters of a node's message that are kept."""


class Row(NamedTuple):
    """One known wording."""

    text: str  #: lower case; looked for anywhere in the lower-cased message
    kind: SendKind
    client: str  #: the client or provider that says it
    version: str  #: the release that says it, or the commit or day at which the source was read
    source: str  #: owner/repository and path, or #number of an issue; or ``recorded here`` on a running node


_K = SendKind


def _rows(client: str, version: str, source: str, *texts: tuple[str, SendKind]) -> tuple[Row, ...]:
    return tuple(Row(text, kind, client, version, source) for text, kind in texts)


# Order matters where one text contains another: the more specific row stands first.
ROWS: tuple[Row, ...] = (
    *_rows(
        "geth",
        "0dfc43ad",
        "ethereum/go-ethereum core/txpool/errors.go",
        ("already known", _K.KNOWN),
        ("authority nonce too low", _K.REFUSED),
        ("replacement transaction underpriced", _K.UNDERPRICED),
        ("transaction underpriced", _K.UNDERPRICED),
        ("account limit exceeded", _K.REFUSED),
        ("exceeds block gas limit", _K.REFUSED),
        ("future transaction tries to replace pending", _K.REFUSED),
        ("address already reserved", _K.REFUSED),
        ("invalid sender", _K.REFUSED),
        ("oversized data", _K.REFUSED),
    ),
    *_rows(
        "geth",
        "003d175e",
        "ethereum/go-ethereum core/error.go",
        ("nonce too low", _K.NONCE_TOO_LOW),
        ("nonce too high", _K.REFUSED),
        ("nonce has max value", _K.REFUSED),
        ("max fee per gas less than block base fee", _K.UNDERPRICED),
        ("max priority fee per gas higher than max fee per gas", _K.REFUSED),
        ("insufficient funds for transfer", _K.INSUFFICIENT_FUNDS),
        ("insufficient funds for gas * price + value", _K.INSUFFICIENT_FUNDS),
        ("intrinsic gas too low", _K.REFUSED),
        ("gas limit reached", _K.REFUSED),
        ("sender not an eoa", _K.REFUSED),
    ),
    *_rows(
        "geth",
        "00452676",
        "ethereum/go-ethereum core/txpool/legacypool/legacypool.go",
        ("txpool is full", _K.REFUSED),
        ("gapped-nonce tx from delegated accounts", _K.REFUSED),
    ),
    *_rows(
        "op-geth",
        "v1.101304.2",
        "ethereum-optimism/op-geth #209",
        ("exceeds the configured cap", _K.REFUSED),
    ),
    *_rows(
        "reth",
        "00971c29",
        "paradigmxyz/reth crates/rpc/rpc-eth-types/src/error/mod.rs",
        ("priority fee below minimum", _K.UNDERPRICED),
        ("exceeds max transaction gas limit", _K.REFUSED),
        ("gas limit too high", _K.REFUSED),
        ("intrinsic gas too high", _K.REFUSED),
        ("transaction type not supported", _K.REFUSED),
        ("sender is not an eoa", _K.REFUSED),
    ),
    *_rows(
        "erigon",
        "bcbf3d6c",
        "erigontech/erigon erigon-lib/txpool/txpoolcfg/txpoolcfg.go",
        ("existing tx with same hash", _K.KNOWN),
    ),
    *_rows(
        "erigon",
        "05916db2",
        "erigontech/erigon txnprovider/txpool/txpoolcfg/txpoolcfg.go",
        ("existing txn with same hash", _K.KNOWN),
        ("could not replace existing tx", _K.UNDERPRICED),
        ("fee too low", _K.UNDERPRICED),
        ("underpriced", _K.UNDERPRICED),
        ("insufficient funds", _K.INSUFFICIENT_FUNDS),
        ("gas limit is too high", _K.REFUSED),
        ("intrinsicgas", _K.REFUSED),
        ("rlptoolong", _K.REFUSED),
        ("sub-pool is full", _K.REFUSED),
    ),
    *_rows(
        "nethermind",
        "07870f1e",
        "NethermindEth/nethermind src/Nethermind/Nethermind.TxPool/AcceptTxResult.cs",
        ("alreadyknown", _K.KNOWN),
        ("oldnonce", _K.NONCE_TOO_LOW),
        ("ownnoncealreadyused", _K.UNDERPRICED),
        ("replacementnotallowed", _K.UNDERPRICED),
        ("feetoolow", _K.UNDERPRICED),
        ("insufficientfunds", _K.INSUFFICIENT_FUNDS),
        ("noncegap", _K.REFUSED),
        ("gaslimitexceeded", _K.REFUSED),
        ("senderiscontract", _K.REFUSED),
        ("failedtoresolvesender", _K.REFUSED),
    ),
    *_rows(
        "nethermind",
        "cbea1e0d",
        "NethermindEth/nethermind src/Nethermind/Nethermind.TxPool/TxPoolErrorMessages.cs",
        ("nonce too far in future", _K.REFUSED),
        ("delegation nonce gap", _K.REFUSED),
        ("transaction too large", _K.REFUSED),
        ("failed to recover sender", _K.REFUSED),
        ("unsupported transaction type", _K.REFUSED),
    ),
    *_rows(
        "besu",
        "06af6b57",
        "hyperledger/besu ethereum/api/src/main/java/org/hyperledger/besu/ethereum/api/jsonrpc/internal/response/"
        "RpcErrorType.java",
        ("known transaction", _K.KNOWN),
        ("gas price below configured minimum gas price", _K.UNDERPRICED),
        ("gas price below current base fee", _K.UNDERPRICED),
        ("upfront cost exceeds account balance", _K.INSUFFICIENT_FUNDS),
        ("intrinsic gas exceeds gas limit", _K.REFUSED),
        ("transaction fee cap exceeded", _K.REFUSED),
        ("max priority fee per gas exceeds max fee per gas", _K.REFUSED),
        ("transaction nonce is too distant", _K.REFUSED),
        ("an invalid transaction with a lower nonce exists", _K.REFUSED),
        ("sender account not authorized", _K.REFUSED),
        ("wrong chainid", _K.REFUSED),
    ),
    *_rows(
        "openethereum",
        "23aac607",
        "openethereum/openethereum rpc/src/v1/helpers/errors.rs",
        ("transaction with the same hash was already imported", _K.KNOWN),
        ("transaction nonce is too low", _K.NONCE_TOO_LOW),
        ("there is another transaction with same nonce in the queue", _K.UNDERPRICED),
        ("does not satisfy your node's minimal gas price", _K.UNDERPRICED),
        ("does not have enough funds", _K.INSUFFICIENT_FUNDS),
        ("there are too many transactions in the queue", _K.REFUSED),
        ("not enough gas to cover minimal cost", _K.REFUSED),
        ("exceeds current gas limit", _K.REFUSED),
        ("supplied gas is beyond limit", _K.REFUSED),
    ),
    *_rows(
        "anvil",
        "1.7.1",
        "recorded here",
        ("transaction already imported", _K.KNOWN),
        ("invalid chain id for signer", _K.REFUSED),
    ),
    *_rows(
        "anvil",
        "02ad6dec",
        "foundry-rs/foundry crates/anvil/src/eth/error.rs",
        ("already imported", _K.KNOWN),
        ("insufficient gas price to replace existing transaction", _K.UNDERPRICED),
        ("gas limit is greater than the block gas limit", _K.REFUSED),
        ("signed for another chain", _K.REFUSED),
    ),
    *_rows(
        "openethereum",
        "23aac607",
        "openethereum/openethereum rpc/src/v1/helpers/errors.rs",
        ("invalid chain id", _K.REFUSED),
    ),
    # What providers say before any node has seen the call.
    *_rows(
        "Alchemy",
        "2023-07",
        "gitcoinco/grants-stack-indexer #156",
        ("exceeded its compute units per second capacity", _K.RATE_LIMITED),
    ),
    *_rows("Infura", "2021-01", "gochain/web3 #180", ("request rate limited", _K.RATE_LIMITED)),
    *_rows("Infura", "2024-05", "status-im/status-app #14665", ("project id request rate exceeded", _K.RATE_LIMITED)),
    *_rows("Pocket", "2024-05", "status-im/status-app #14665", ("exceeded its throughput limit", _K.RATE_LIMITED)),
    *_rows("Tenderly", "2024-02", "fluencelabs/dev-rewards #20", ("rate limit exceeded", _K.RATE_LIMITED)),
    *_rows("Base sequencer", "2025-01", "base/node #390", ("over rate limit", _K.RATE_LIMITED)),
    *_rows("Optimism", "2022-06", "ethereum-optimism/optimism #2642", ("has been rate limited", _K.RATE_LIMITED)),
    *_rows("Conduit", "2024-02", "conduitxyz/node #36", ("429 too many requests", _K.RATE_LIMITED)),
)
"""Every known wording. Wording without a source is not in it."""


def classify(message: str) -> SendAnswer:
    """Return what a node's error message on a send means; ``UNKNOWN`` where no row matches."""
    lowered = message.lower()
    kind = next((row.kind for row in ROWS if row.text in lowered), SendKind.UNKNOWN)
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
            SendKind.RATE_LIMITED,
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
