"""Reading the members of a document: all that are needed, none that are not, each of its type."""

import re
from collections.abc import Mapping
from typing import Any

from outlay.core.errors import InvalidInput

_DIGEST = re.compile(r"[0-9a-f]{64}")


def members(
    document: object, field: str, required: Mapping[str, type], optional: Mapping[str, type] | None = None
) -> dict[str, Any]:
    """Return ``document`` as a dict that has exactly the members named.

    Args:
        document: a parsed JSON value.
        field: its path, put before the member's name in errors.
        required: member name to type; ``int`` does not admit booleans, ``object`` admits any value.
        optional: members that may be absent; never null.

    Raises:
        InvalidInput: not an object, a member missing, unknown or of another type.
    """
    if not isinstance(document, dict):
        raise InvalidInput(f"{field} must be an object", field=field)
    known = {**required, **(optional or {})}
    for name in document:
        if name not in known:
            raise InvalidInput(f"{field} has the unknown member {str(name)[:60]!r}", field=field)
    for name, kind in known.items():
        path = f"{field}.{name}"
        if name not in document:
            if name in required:
                raise InvalidInput(f"{path} is required", field=path)
            continue
        value = document[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            raise InvalidInput(f"{path} must be of type {_NAMES.get(kind, kind.__name__)}", field=path)
    return document


def is_digest(text: object) -> bool:
    """Tell whether ``text`` is a SHA-256 in lower-case hex."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def check_digest(text: object, field: str) -> None:
    """Refuse anything but a SHA-256 in lower-case hex.

    Raises:
        InvalidInput: it is something else.
    """
    if not is_digest(text):
        raise InvalidInput(f"{field} must be 64 lower-case hex digits", field=field)


def check_texts(values: object, field: str) -> None:
    """Refuse anything but a list of strings.

    Raises:
        InvalidInput: it is something else.
    """
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InvalidInput(f"{field} must be a list of strings", field=field)


_NAMES: dict[type, str] = {str: "string", int: "integer", dict: "object", list: "array", bool: "boolean"}
