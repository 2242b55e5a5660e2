"""Addresses of EVM chains: twenty bytes, written in hex; mixed case is a checksum (EIP-55)."""

import re

from outlay.core.errors import InvalidInput
from outlay.core.keccak import keccak

_HEX = re.compile(r"0x[0-9a-fA-F]{40}")
ZERO = "0x" + "0" * 40


def checksum(address: str) -> str:
    """Return ``address`` (0x and 40 hex digits) in the mixed case of EIP-55."""
    digits = address[2:].lower()
    shadow = keccak(digits.encode()).hex()
    return "0x" + "".join(
        c.upper() if int(h, 16) >= 8 else c for c, h in zip(digits, shadow[: len(digits)], strict=True)
    )


def parse_address(text: object, *, field: str) -> str:
    """Return the address in ``text`` in lower case.

    All lower or all upper case carries no checksum and is accepted; mixed case must be right.

    Raises:
        InvalidInput: not 0x and 40 hex digits, or a wrong checksum.

    Source: EIP-55.
    """
    if not isinstance(text, str) or _HEX.fullmatch(text) is None:
        raise InvalidInput("an address is 0x followed by 40 hexadecimal digits", field=field)
    digits = text[2:]
    if digits not in (digits.lower(), digits.upper()) and text != checksum(text):
        raise InvalidInput(
            "the upper and lower case of this address does not match its checksum (EIP-55):"
            " compare it with the source, a character is probably wrong",
            field=field,
        )
    return text.lower()
