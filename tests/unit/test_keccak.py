"""Keccak-256 in Python is the one of the library, and neither is SHA3-256."""

import hashlib
import random

import pytest
from tiny_keccak import keccak256

from outlay.core import keccak as module
from outlay.core.keccak import keccak, slow_keccak
from tests import tools

VECTORS = {
    b"": "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470",
    b"abc": "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45",
    b"transfer(address,uint256)": "a9059cbb2ab09eb219583f4a59a5d0623ade346d962bcd4e46b11da047c9049b",
    b"testing": "5f16f4c7f149ac4f9510d9cf8cf384038ad348b3bcdc01915f95de12df9d1b02",
}
"""Published values; the third is the selector of every ERC-20 transfer."""

RATE = 136


@pytest.mark.parametrize("message", VECTORS)
def test_published_values(message: bytes) -> None:
    for function in (keccak, slow_keccak):
        assert function(message).hex() == VECTORS[message]
    assert keccak(message) != hashlib.sha3_256(message).digest()


def test_every_length_up_to_two_blocks_and_more() -> None:
    """The padding is where implementations differ."""
    for length in [*range(2 * RATE + 2), 1000, 10_000]:
        message = random.Random(length).randbytes(length)
        assert slow_keccak(message) == keccak256(message), length


def test_random_messages() -> None:
    seed = random.SystemRandom().randrange(2**32)
    dice = random.Random(seed)
    for _ in range(tools.examples(50)):
        message = dice.randbytes(dice.randrange(600))
        assert slow_keccak(message) == keccak256(message), (seed, message)


def test_without_the_library_python_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "keccak256", None)
    assert keccak(b"abc").hex() == VECTORS[b"abc"]
