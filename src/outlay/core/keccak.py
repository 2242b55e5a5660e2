"""Keccak-256 as Ethereum uses it: by ``tiny_keccak`` where it is installed, else in Python.

The offline verifier runs where nothing but ``cryptography`` is installed, and hashes little enough not to mind.
"""

import itertools
from collections.abc import Callable

keccak256: Callable[[bytes], bytes] | None
try:
    from tiny_keccak import keccak256
except ModuleNotFoundError:
    keccak256 = None

_RATE = 136  # bytes taken in between two permutations; the other 64 are the capacity
_MASK = 2**64 - 1


def _round_constants() -> list[int]:
    """Return the 24 constants: bits of a shift register at the places 0, 1, 3, 7, 15, 31 and 63."""
    register, constants = 1, []
    for _ in range(24):
        constant = 0
        for place in (0, 1, 3, 7, 15, 31, 63):
            constant |= (register & 1) << place
            register = register << 1 ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    return constants


def _steps() -> list[tuple[int, int]]:
    """Return, for each move along the one long cycle of lanes, where it leads and how far the lane is turned."""
    x, y, steps = 1, 0, []
    for turn in itertools.accumulate(range(1, 25)):
        x, y = y, (2 * x + 3 * y) % 5
        steps.append((x + 5 * y, turn % 64))
    return steps


_ROUND_CONSTANTS, _STEPS = _round_constants(), _steps()


def _turned(lane: int, by: int) -> int:
    return (lane << by | lane >> (64 - by)) & _MASK


def _permuted(lanes: list[int]) -> list[int]:
    """Return Keccak-f[1600] of 25 lanes; the lane at (x, y) is number x + 5y."""
    for constant in _ROUND_CONSTANTS:
        columns = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
        mixed = [columns[x - 1] ^ _turned(columns[(x + 1) % 5], 1) for x in range(5)]
        lanes = [lane ^ mixed[at % 5] for at, lane in enumerate(lanes)]
        moving = lanes[1]
        for to, turn in _STEPS:
            moving, lanes[to] = lanes[to], _turned(moving, turn)
        rows = [lanes[at : at + 5] for at in range(0, 25, 5)]
        lanes = [row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5]) for row in rows for x in range(5)]
        lanes[0] ^= constant
    return lanes


def slow_keccak(message: bytes) -> bytes:
    """Return the Keccak-256 hash of ``message``, 32 bytes, without any library.

    Source: the Keccak reference, version 3.0: f[1600], rate 1088, padding 10*1 (SHA3-256 pads 0110*1).
    """
    padding = bytearray(_RATE - len(message) % _RATE)
    padding[0] |= 0x01
    padding[-1] |= 0x80
    padded = message + padding
    lanes = [0] * 25
    for start in range(0, len(padded), _RATE):
        block = padded[start : start + _RATE]
        for at in range(_RATE // 8):
            lanes[at] ^= int.from_bytes(block[8 * at : 8 * at + 8], "little")
        lanes = _permuted(lanes)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


def keccak(message: bytes) -> bytes:
    """Return the Keccak-256 hash (not SHA3-256) of ``message``, 32 bytes."""
    return slow_keccak(message) if keccak256 is None else keccak256(message)
