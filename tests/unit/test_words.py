"""The words of a second display: which there are, and that they stand for the content and nothing less."""

import itertools
from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import given

from outlay.core.intent import Intent
from outlay.evidence.canonical import digest
from outlay.evidence.words import COUNT, WORDS, words, words_of_change, words_of_payout

INTENT = Intent(
    org="or-1",
    external_id="invoice-7",
    initiator="us-1",
    wallet="wa-1",
    network="EthereumSepolia",
    chain_id=11155111,
    asset="native",
    recipient="0x" + "a1" * 20,
    amount="12500000000",
    memo="",
    priority="Standard",
)


def is_one_letter_apart(one: str, other: str) -> bool:
    """Tell whether one letter more, less or other makes one of the other."""
    short, long = sorted((one, other), key=len)
    if len(long) - len(short) > 1:
        return False
    at = next((at for at, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    return short[at + (len(short) == len(long)) :] == long[at + 1 :]


def test_each_value_of_a_byte_has_a_word_of_its_own() -> None:
    assert len(WORDS) == len(set(WORDS)) == 256
    assert all(word.isascii() and word.isalpha() and word.islower() and 4 <= len(word) <= 7 for word in WORDS)


def test_no_slip_of_a_letter_makes_another_word() -> None:
    assert is_one_letter_apart("stork", "storm") and is_one_letter_apart("canoe", "canoes")
    assert not is_one_letter_apart("canoe", "candle")
    assert [pair for pair in itertools.combinations(WORDS, 2) if is_one_letter_apart(*pair)] == []
    assert len({word[:4] for word in WORDS}) == len(WORDS)


def test_the_words_of_a_digest_never_change() -> None:
    assert words("00" * 32) == "birch monsoon juniper kettle napkin funnel dune fjord"
    assert words_of_payout(INTENT) == words(digest(INTENT.document()))
    assert words_of_change({"v": 1}) == words(digest({"v": 1}))
    assert len(words_of_payout(INTENT).split()) == COUNT


@given(
    st.sampled_from(["org", "external_id", "initiator", "wallet", "network", "asset", "recipient", "amount", "memo"]),
    st.text("abc123", min_size=1, max_size=8),
)
def test_other_content_has_other_words(member: str, value: str) -> None:
    changed = replace(INTENT, **{member: value})  # type: ignore[arg-type]
    assert changed == INTENT or words_of_payout(changed) != words_of_payout(INTENT)
