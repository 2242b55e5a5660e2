"""The table of wordings: each is classified as recorded, reached, and has a source."""

import re

import pytest

from outlay.chains import SendAnswer, SendKind
from outlay.chains.answers import ROWS, TEXT_MAX, classify, merge

RECORDED = [
    # geth
    ("already known", "known"),
    ("nonce too low: next nonce 5, tx nonce 4", "nonce_too_low"),
    ("nonce too low: address 0xAb5801a7D398351b8bE11C439e05C5B3259aeC9B, tx: 4 state: 5", "nonce_too_low"),
    ("replacement transaction underpriced", "underpriced"),
    ("transaction underpriced: tip needed 1, tip permitted 0", "underpriced"),
    ("max fee per gas less than block base fee: address 0xAb, maxFeePerGas: 1, baseFee: 7", "underpriced"),
    ("insufficient funds for gas * price + value: balance 0, tx cost 21000, overshot 21000", "insufficient_funds"),
    ("nonce too high: address 0xAb, tx: 9 state: 5", "refused"),
    ("intrinsic gas too low: gas 100, minimum needed 21000", "refused"),
    ("exceeds block gas limit", "refused"),
    ("tx fee (2.10 ether) exceeds the configured cap (1.00 ether)", "refused"),
    ("txpool is full", "refused"),
    ("authority nonce too low", "refused"),
    # anvil, as answered by version 1.7.1
    ("transaction already imported", "known"),
    ("nonce too low", "nonce_too_low"),
    ("Insufficient funds for gas * price + value", "insufficient_funds"),
    ("invalid chain id for signer", "refused"),
    # nethermind, older and newer
    ("AlreadyKnown", "known"),
    ("OldNonce, Current nonce: 5, nonce of rejected tx: 4", "nonce_too_low"),
    ("FeeTooLow, MaxFeePerGas too low. MaxFeePerGas: 1, BaseFee: 7", "underpriced"),
    ("FeeTooLowToCompete, FeePerGas needs to be higher than 7", "underpriced"),
    ("ReplacementNotAllowed, existing GasBottleneck: 7", "underpriced"),
    ("InsufficientFunds, Account balance: 0, cumulative cost: 21000", "insufficient_funds"),
    ("NonceGap, Future nonce. Expected nonce: 5", "refused"),
    ("GasLimitExceeded, Gas limit: 1, gas limit of rejected tx: 2", "refused"),
    # besu
    ("Known transaction", "known"),
    ("Nonce too low", "nonce_too_low"),
    ("Replacement transaction underpriced", "underpriced"),
    ("Gas price below configured minimum gas price", "underpriced"),
    ("Upfront cost exceeds account balance", "insufficient_funds"),
    ("Intrinsic gas exceeds gas limit", "refused"),
    ("Transaction gas limit exceeds block gas limit", "refused"),
    # erigon
    ("INTERNAL_ERROR: existing tx with same hash", "known"),
    ("INTERNAL_ERROR: could not replace existing tx", "underpriced"),
    ("existing txn with same hash", "known"),
    ("INTERNAL_ERROR: insufficient funds", "insufficient_funds"),
    ("pending sub-pool is full", "refused"),
    # openethereum
    ("Transaction with the same hash was already imported.", "known"),
    ("Transaction nonce is too low. Try incrementing the nonce.", "nonce_too_low"),
    (
        "Transaction gas price is too low. There is another transaction with same nonce in the queue."
        " Try increasing the gas price or incrementing the nonce.",
        "underpriced",
    ),
    ("There are too many transactions in the queue. Your transaction was dropped due to limit.", "refused"),
    # reth
    ("transaction priority fee below minimum required priority fee 7", "underpriced"),
    ("intrinsic gas too high -- tx.gas_limit > env.block.gas_limit", "refused"),
    # providers
    (
        "Your app has exceeded its compute units per second capacity. If you have retries enabled, you can safely"
        " ignore this message.",
        "rate_limited",
    ),
    ("daily request count exceeded, request rate limited", "rate_limited"),
    ("project ID request rate exceeded", "rate_limited"),
    ('429 Too Many Requests: {"jsonrpc":"2.0","error":{"code":-32016,"message":"over rate limit"}}', "rate_limited"),
    ("rate limit exceeded", "rate_limited"),
    # nobody's: the outcome is unknown
    ("", "unknown"),
    ("transaction rejected", "unknown"),
    ("internal error", "unknown"),
    ("request timed out", "unknown"),
    ("Syncing", "unknown"),
]


@pytest.mark.parametrize(("message", "kind"), RECORDED)
def test_recorded_wordings_are_classified(message: str, kind: str) -> None:
    assert classify(message) == SendAnswer(SendKind(kind), message)


def test_every_row_can_be_reached_and_says_where_it_comes_from() -> None:
    for row in ROWS:
        assert row.text == row.text.lower()
        assert classify(f"x {row.text.upper()} y").kind is row.kind, row
        assert row.client
        assert row.version
        assert row.source == "recorded here" or re.fullmatch(r"[\w.-]+/[\w.-]+ (#\d+|[\w./-]+\.\w+)", row.source), row
    assert len({row.text for row in ROWS}) == len(ROWS)


def test_long_and_unprintable_texts_are_shortened_to_one_line() -> None:
    answer = classify("nonce too low\n\x1b[31m\u2028" + "x" * 10_000)
    assert answer.kind is SendKind.NONCE_TOO_LOW
    assert answer.text.isprintable()
    assert len(answer.text) == TEXT_MAX


def test_no_answers_are_an_unknown_outcome() -> None:
    assert merge([]).kind is SendKind.UNKNOWN
