"""Base64url without padding, read strictly: one text for one value, so that no byte of a token is free to change."""

import base64
import re

from outlay.core.errors import InvalidInput

_TEXT = re.compile(r"[A-Za-z0-9_-]*")


def to_base64url(data: bytes) -> str:
    """Return ``data`` as base64url text without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def from_base64url(text: str, *, field: str, padded: bool = False) -> bytes:
    """Return the bytes that ``text`` stands for.

    Args:
        text: base64url characters only; unused trailing bits must be zero.
        field: the member named in the error.
        padded: accept the right number of ``=`` at the end as well.

    Raises:
        InvalidInput: another character, a wrong length, or a second spelling of the same bytes.
    """
    bare = text
    if padded and len(text) % 4 == 0:
        bare = text[:-2] if text.endswith("==") else text.removesuffix("=")
    if _TEXT.fullmatch(bare) is None or len(bare) % 4 == 1:
        raise InvalidInput(f"{field} is not base64url text: send it without padding", field=field)
    data = base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    if to_base64url(data) != bare:
        raise InvalidInput(f"{field} is not base64url text: its unused last bits must be zero", field=field)
    return data
