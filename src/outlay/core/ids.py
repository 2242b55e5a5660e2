"""Identifiers in the contract's shape: ``<prefix>-<5>-<5>-<16>`` of lower-case base 36.

26 characters of base 36 hold 134 bits.
"""

import re

from outlay.core.seams import Entropy

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_PAIRS = [first + second for second in _ALPHABET for first in _ALPHABET]
_ID = re.compile(r"[a-z]{2,8}-[a-z0-9]{5}-[a-z0-9]{5}-[a-z0-9]{14,16}")

ORGANIZATION, USER, CREDENTIAL, TOKEN = "or", "us", "cr", "to"
PERMISSION, ASSIGNMENT, WALLET, KEY = "pm", "as", "wa", "key"
TRANSFER, TRANSACTION, ATTEMPT = "xfr", "tx", "att"
POLICY, EVALUATION, APPROVAL, DECISION = "plc", "plce", "ap", "dec"
WEBHOOK, DELIVERY, EVENT = "wh", "whe", "evt"
EVIDENCE, ERROR = "evi", "err"
FREEZE = "frz"
MANDATE, PROPOSAL = "md", "rp"
SCHEDULE = "sc"  # of a mandate of recurring payouts
POOL, BATCH = "pool", "bat"
CHANGE = "cr"  # the contract gives change requests the prefix of credentials


def new_id(prefix: str, entropy: Entropy) -> str:
    """Return a fresh identifier with ``prefix``, from 17 bytes of ``entropy``."""
    number = int.from_bytes(entropy.token(17), "big")
    text = ""
    for _ in range(13):
        number, pair = divmod(number, 1296)
        text += _PAIRS[pair]
    return f"{prefix}-{text[:5]}-{text[5:10]}-{text[10:]}"


def is_id(text: str, prefix: str) -> bool:
    """Tell whether ``text`` has the shape of an identifier with ``prefix``."""
    return len(text) <= 64 and text.startswith(prefix + "-") and _ID.fullmatch(text) is not None
